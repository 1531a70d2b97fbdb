//! From one dialect to another: requests, answers, streams, errors.
//!
//! Each dialect reads into and writes from one [`form`], so that each has one file for each
//! direction, whatever the others are. A request is read once ([`Asked`]) and written for each target
//! that is tried; what was written says how the answer comes back ([`Translation`]).
//!
//! Nothing is dropped in silence: what the other side cannot express is harmless and listed in
//! `docs/dialects.md`, or refused by the name that the client gave it.

mod base64;
mod calls;
mod chat;
mod cohere;
mod converse;
mod embeddings;
mod errors;
mod fields;
pub mod form;
mod frames;
mod gemini;
mod ids;
mod json_tool;
mod messages;
mod names;
mod ollama;
mod openai;
pub mod quirks;
mod responses;
mod sequence;
mod stream;
mod text;

use serde_json::{Map, Value};

pub use self::embeddings::Embedder;
use self::embeddings::Embeddings;
use self::form::{Answer, Stop, Usage, WireError};
pub use self::quirks::Quirks;
pub use self::stream::{Progress, StreamEnd, StreamTranslator};
use crate::dialect::{Dialect, Dialects, Envelope};
use crate::route::failure::Reason;

#[cfg(test)]
mod tests;

/// Why a request cannot be asked in another dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The other dialect cannot express it.
    #[error("`{field}` cannot be passed on: {reason}")]
    Unsupported { field: String, reason: String },
    /// It is not as the client's own dialect has it.
    #[error("`{field}` {reason}")]
    Invalid { field: String, reason: String },
}

impl Refused {
    fn unsupported(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported { field: field.into(), reason: reason.into() }
    }

    fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }
}

/// Whom a request is written for.
#[derive(Debug, Clone, Copy)]
pub struct Upstream<'a> {
    pub dialect: Dialect,
    /// The provider's own name of the model.
    pub model: &'a str,
    pub quirks: &'a Quirks,
    pub host: Host,
}

/// Where a model runs, which makes small differences in a dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Host {
    /// With the provider whose dialect it is.
    #[default]
    Own,
    /// With Amazon, whose streams are frames.
    Bedrock,
    /// With Google, beside its own models.
    Vertex,
}

/// How the events of a stream are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Server-sent events.
    Events,
    /// The event stream of AWS.
    Aws,
}

/// What an answer must know of its request.
#[derive(Debug, Clone, Default)]
struct Echo {
    /// Seconds since 1970, for dialects that say when an answer was made.
    created: u64,
    wants_usage: bool,
    /// Of Ollama: the request was a prompt, without turns.
    is_prompt: bool,
    request_id: String,
    /// Fields of a responses request that its answer repeats.
    fields: Map<String, Value>,
}

/// A request that has been read.
#[derive(Debug)]
pub struct Asked {
    request: form::Request,
    echo: Echo,
}

/// A request for one target.
#[derive(Debug)]
pub struct Written {
    pub body: Vec<u8>,
    pub answer: Translation,
}

/// How the answer of one attempt comes back.
#[derive(Debug, Clone)]
pub struct Translation {
    client: Dialect,
    upstream: Dialect,
    framing: Framing,
    /// There instead of everything that follows, where vectors are asked for.
    embeddings: Option<Embeddings>,
    echo: Echo,
    json_tool: Option<String>,
}

/// An answer that was not streamed.
#[derive(Debug)]
pub enum Whole {
    Answer {
        body: Vec<u8>,
        usage: Option<Usage>,
        text_bytes: u64,
    },
    /// The provider says in its answer that it failed.
    Failed {
        error: Box<WireError>,
        status: u16,
        body: Vec<u8>,
    },
}

const CHAT: Dialect = Dialect::Chat;
const RESPONSES: Dialect = Dialect::Responses;
const COHERE: Dialect = Dialect::Cohere;
const MESSAGES: Dialect = Dialect::Messages;
const GEMINI: Dialect = Dialect::Gemini;
const CONVERSE: Dialect = Dialect::Converse;

/// The dialects that can be translated into, for a client of the first: the ones that say most
/// alike come first.
const PREFERENCES: [(Dialect, [Dialect; 6]); 5] = [
    (Dialect::Chat, [CHAT, MESSAGES, GEMINI, CONVERSE, RESPONSES, COHERE]),
    (Dialect::Responses, [RESPONSES, MESSAGES, GEMINI, CONVERSE, CHAT, COHERE]),
    (Dialect::Messages, [MESSAGES, CONVERSE, RESPONSES, GEMINI, CHAT, COHERE]),
    (Dialect::Gemini, [GEMINI, RESPONSES, MESSAGES, CONVERSE, CHAT, COHERE]),
    (Dialect::Ollama, [CHAT, MESSAGES, GEMINI, CONVERSE, RESPONSES, COHERE]),
];

/// The dialects of a target in which a request of `client` can be asked, best first.
pub fn upstream_dialects(client: Dialect, speaks: Dialects) -> impl Iterator<Item = Dialect> {
    let preference = PREFERENCES.iter().find(|(dialect, _)| *dialect == client);
    let dialects = preference.map(|(_, dialects)| dialects.as_slice()).unwrap_or_default();
    dialects.iter().copied().filter(move |dialect| speaks.contains(*dialect))
}

/// What comes before an id that another dialect's client sends back to us sealed.
pub fn has_carried_seal(body: &[u8]) -> bool {
    let marks = [form::SEAL_MARK, gemini::sealed::MARK];
    marks.iter().any(|mark| memchr::memmem::find(body, mark.as_bytes()).is_some())
}

const ECHOED: [&str; 12] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
];

impl Asked {
    /// Reads a request of `client`. `created` is the time now, in seconds since 1970.
    pub fn read(
        client: Dialect,
        body: &[u8],
        (created, request_id): (u64, &str),
    ) -> Result<Self, Refused> {
        let body: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|_| Refused::invalid("body", "is no JSON object"))?;
        let mut echo = Echo {
            created,
            request_id: request_id.to_owned(),
            wants_usage: false,
            is_prompt: client == Dialect::Ollama && !body.contains_key("messages"),
            fields: Map::new(),
        };
        let request = match client {
            Dialect::Responses => {
                let kept = body.iter().filter(|(name, _)| ECHOED.contains(&name.as_str()));
                echo.fields = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
                responses::request_read::read(body)?
            }
            Dialect::Messages => messages::request_read::read(body)?,
            Dialect::Gemini => gemini::request_read::read(body)?,
            Dialect::Ollama => ollama::request_read::read(body)?,
            _ => chat::request_read::read(body)?,
        };
        echo.wants_usage = request.wants_usage;
        Ok(Self { request, echo })
    }

    /// Of a stream that the path asks for, and not the body.
    #[must_use]
    pub fn streamed(mut self) -> Self {
        self.request.is_stream = true;
        self
    }

    pub fn is_stream(&self) -> bool {
        self.request.is_stream
    }

    /// The request for one target, or what in it that target's dialect cannot express.
    pub fn written(&self, upstream: &Upstream<'_>) -> Result<Written, Refused> {
        let (body, json_tool) = match upstream.dialect {
            Dialect::Responses => (responses::request_write::write(&self.request, upstream)?, None),
            Dialect::Messages => messages::request_write::write(&self.request, upstream)?,
            Dialect::Gemini => (gemini::request_write::write(&self.request, upstream)?, None),
            Dialect::Converse => converse::request_write::write(&self.request, upstream)?,
            Dialect::Cohere => (cohere::request_write::write(&self.request, upstream)?, None),
            _ => (chat::request_write::write(&self.request, upstream)?, None),
        };
        let body = match upstream.dialect {
            Dialect::Messages => upstream.host.claude(body),
            _ => body,
        };
        let answer = Translation {
            client: self.request.source,
            upstream: upstream.dialect,
            framing: if upstream.host == Host::Bedrock { Framing::Aws } else { Framing::Events },
            embeddings: None,
            echo: self.echo.clone(),
            json_tool,
        };
        Ok(Written { body: body.to_string().into_bytes(), answer })
    }
}

/// A request for embeddings, as `embedder` is asked for `model`.
pub fn embeddings(embedder: Embedder, model: &str, body: &[u8]) -> Result<Written, Refused> {
    let (body, embeddings) = embeddings::write(embedder, model, body)?;
    let answer = Translation {
        client: Dialect::Embeddings,
        upstream: Dialect::Embeddings,
        framing: Framing::Events,
        embeddings: Some(embeddings),
        echo: Echo::default(),
        json_tool: None,
    };
    Ok(Written { body: body.to_string().into_bytes(), answer })
}

impl Host {
    /// A request to an Anthropic model: elsewhere than with Anthropic its name is in the path.
    fn claude(self, mut body: Value) -> Value {
        let version = match self {
            Self::Own => return body,
            Self::Bedrock => "bedrock-2023-05-31",
            Self::Vertex => "vertex-2023-10-16",
        };
        if let Some(map) = body.as_object_mut() {
            map.shift_remove("model");
            if self == Self::Bedrock {
                map.shift_remove("stream");
            }
            map.insert("anthropic_version".to_owned(), version.into());
        }
        body
    }
}

impl Translation {
    pub const fn client(&self) -> Dialect {
        self.client
    }

    pub const fn upstream(&self) -> Dialect {
        self.upstream
    }

    /// Translates a whole answer; `None` for what is none.
    pub fn whole(&self, body: &[u8]) -> Option<Whole> {
        if let Some(embeddings) = &self.embeddings {
            return embeddings.whole(body);
        }
        let mut answer = match self.upstream {
            Dialect::Responses => responses::answer_read::read(body),
            Dialect::Messages => messages::answer_read::read(body),
            Dialect::Gemini => gemini::answer_read::read(body),
            Dialect::Converse => converse::answer_read::read(body),
            Dialect::Cohere => cohere::answer_read::read(body),
            _ => chat::answer_read::read(body),
        }?;
        if let Some(name) = &self.json_tool {
            json_tool::unwrap(&mut answer, name);
        }
        if answer.id.is_empty() {
            answer.id.clone_from(&self.echo.request_id);
        }
        if let Stop::Failed(error) = answer.stop {
            let body = self.error_body(&error);
            let status = error.http_status();
            return Some(Whole::Failed { error, status, body });
        }
        let body = match self.client {
            Dialect::Responses => responses::answer_write::write(&answer, &self.echo),
            Dialect::Messages => messages::answer_write::write(&answer, &self.echo),
            Dialect::Gemini => gemini::answer_write::write(&answer, &self.echo),
            Dialect::Ollama => ollama::answer_write::write(&answer, &self.echo),
            _ => chat::answer_write::write(&answer, &self.echo),
        };
        let body = body.to_string().into_bytes();
        Some(Whole::Answer { body, usage: answer.usage, text_bytes: text_bytes(&answer) })
    }

    /// The type of a stream of the provider's, as the beginning of a `content-type`.
    pub const fn stream_type(&self) -> &'static str {
        match self.framing {
            Framing::Events => "text/event-stream",
            Framing::Aws => "application/vnd.amazon.eventstream",
        }
    }

    /// A translator for one stream.
    pub fn events(&self) -> StreamTranslator {
        StreamTranslator::new(self)
    }

    /// The provider's error body as the client's dialect has errors: of this status, and about what
    /// the provider's rules say.
    pub fn error(&self, status: u16, reason: Option<Reason>, body: &[u8]) -> Vec<u8> {
        let value: Value = serde_json::from_slice(body).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(body);
            Value::from(text.chars().take(1000).collect::<String>())
        });
        // Some put their one error into a list.
        let value = match value {
            Value::Array(list) => list.into_iter().next().unwrap_or_default(),
            value => value,
        };
        let mut error = openai::error(&value);
        error.status = Some(status);
        error.reason = reason;
        self.error_body(&error)
    }

    fn error_body(&self, error: &WireError) -> Vec<u8> {
        let body = match self.client.envelope() {
            Envelope::OpenAi => errors::openai(error),
            Envelope::Anthropic => errors::anthropic(error, &self.echo.request_id),
            Envelope::Google => errors::google(error),
            Envelope::Ollama => errors::ollama(error),
        };
        body.to_string().into_bytes()
    }
}

/// Bytes of what the model wrote, to estimate from where nothing is reported.
fn text_bytes(answer: &Answer) -> u64 {
    let bytes = answer.pieces.iter().map(|piece| match &piece.part {
        form::Part::Text { text, .. } | form::Part::Refusal(text) => text.len(),
        form::Part::ToolCall(call) => call.arguments.len(),
        form::Part::Thinking(thinking) => thinking.text.len(),
        form::Part::Media(_)
        | form::Part::ToolResult(_)
        | form::Part::Search { .. }
        | form::Part::Only(_) => 0,
    });
    bytes.sum::<usize>() as u64
}
