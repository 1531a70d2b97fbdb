//! What an event of a provider's stream means for failover: nothing yet, content, an error, the end.
//!
//! Until the first content an attempt can still be given up, so what comes before is held back.
//! Content is whatever a client could show or act on, or that proves that the model is at work:
//! deltas of text, tool calls, reasoning and refusals, finish reasons, the beginning of a tool call
//! or of reasoning, and everything that this file does not know. Not content: comments and pings,
//! events that only announce the answer (`response.created`, `message_start`), chunks with a role
//! and no text, the beginning of an empty text.

use memchr::memchr;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::splitter::Event;
use super::text::event_text_bytes;
use crate::dialect::Dialect;
use crate::json::top_level_strings;

/// What one event means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    Preamble,
    Content,
    Error(Box<StreamError>),
    /// The stream has ended as it should.
    Terminal,
}

/// An error that a provider reports inside of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamError {
    /// The status that the provider would have answered with, where that can be told.
    pub status: Option<u16>,
    /// The `type` of the error.
    pub kind: Option<Box<str>>,
    pub code: Option<Box<str>>,
    pub message: Option<Box<str>>,
}

/// Says what `event` means. Cheap for the text deltas that most events are.
pub fn classify(dialect: Dialect, event: &Event<'_>) -> Class {
    let (name, data) = match *event {
        Event::Message { name, data } => (name, data),
        Event::Silent => return Class::Preamble,
        Event::Oversized => return Class::Content,
    };
    match dialect {
        Dialect::Chat | Dialect::Completions => chunk(dialect, name, data),
        Dialect::Responses | Dialect::Messages => typed(name, data),
        Dialect::Gemini => google(data),
        Dialect::Embeddings
        | Dialect::Moderations
        | Dialect::Converse
        | Dialect::Cohere
        | Dialect::Ollama
        | Dialect::Rerank
        | Dialect::Images
        | Dialect::Audio => media(name, data),
    }
}

/// Whether `event` is the last one of a stream that ended as the dialect has it. Cheap for all
/// events. `response.failed` ends a stream properly too: the client has been told.
pub fn is_stream_end(dialect: Dialect, event: &Event<'_>) -> bool {
    let Event::Message { name, data } = *event else {
        return false;
    };
    match dialect {
        Dialect::Chat | Dialect::Completions => is_done(data),
        Dialect::Responses => matches!(
            event_type(name, data),
            b"response.completed" | b"response.incomplete" | b"response.failed"
        ),
        Dialect::Messages => event_type(name, data) == b"message_stop",
        Dialect::Gemini => says_why_it_stopped(data),
        Dialect::Embeddings
        | Dialect::Moderations
        | Dialect::Converse
        | Dialect::Cohere
        | Dialect::Ollama
        | Dialect::Rerank
        | Dialect::Images
        | Dialect::Audio => is_done(data) || is_media_end(event_type(name, data)),
    }
}

fn is_done(data: &[u8]) -> bool {
    data.trim_ascii() == b"[DONE]"
}

/// `image_generation.completed`, `transcript.text.done`, `speech.audio.done` and their like.
fn is_media_end(event_type: &[u8]) -> bool {
    event_type.ends_with(b".completed") || event_type.ends_with(b".done")
}

/// The name of an event; of one without a name, the `type` of its data. Empty if there is neither.
pub(crate) fn event_type<'a>(name: &'a [u8], data: &'a [u8]) -> &'a [u8] {
    if !name.is_empty() {
        return name;
    }
    if let Some(rest) = data.strip_prefix(b"{\"type\":\"") {
        let end = memchr(b'"', rest).unwrap_or(rest.len());
        return rest.get(..end).unwrap_or_default();
    }
    let mut found: &[u8] = &[];
    top_level_strings(std::str::from_utf8(data).unwrap_or_default(), |key, value| {
        if key == "type" {
            found = value.as_bytes();
        }
    });
    found
}

// === chat and completions ===

#[derive(Deserialize)]
struct Chunk {
    object: Option<Value>,
    error: Option<Value>,
    choices: Option<Vec<Choice>>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Map<String, Value>>,
    text: Option<Value>,
    finish_reason: Option<Value>,
}

fn chunk(dialect: Dialect, name: &[u8], data: &[u8]) -> Class {
    if is_done(data) {
        return Class::Terminal;
    }
    let may_be_error = name == b"error" || data.starts_with(b"{\"error\"");
    if !may_be_error && event_text_bytes(dialect, data) > 0 {
        return Class::Content;
    }
    if name == b"error" {
        return Class::Error(Box::new(StreamError::read(data)));
    }
    let Ok(chunk) = serde_json::from_slice::<Chunk>(data) else {
        return Class::Content; // Not ours to judge.
    };
    let is_error_object = chunk.object.is_some_and(|object| object == "error");
    if is_error_object || chunk.error.is_some() {
        return Class::Error(Box::new(StreamError::read(data)));
    }
    match chunk.choices {
        Some(choices) if choices.iter().all(Choice::is_empty) => Class::Preamble,
        _ => Class::Content,
    }
}

impl Choice {
    /// Whether nothing but a role is said.
    fn is_empty(&self) -> bool {
        let has_delta = self.delta.as_ref().is_some_and(|delta| {
            delta.iter().any(|(key, value)| key != "role" && !is_blank(value))
        });
        let is_blank_or_none = |value: &Option<Value>| value.as_ref().is_none_or(is_blank);
        !has_delta && is_blank_or_none(&self.text) && is_blank_or_none(&self.finish_reason)
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

// === responses and messages ===

#[derive(Deserialize)]
struct Begun {
    /// Of `response.output_item.added`.
    item: Option<Part>,
    /// Of `response.content_part.added`.
    part: Option<Part>,
    /// Of `content_block_start`.
    content_block: Option<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<Value>,
    content: Option<Value>,
}

fn typed(name: &[u8], data: &[u8]) -> Class {
    match event_type(name, data) {
        b"ping"
        | b"keepalive"
        | b"message_start"
        | b"response.created"
        | b"response.queued"
        | b"response.in_progress" => Class::Preamble,
        b"error" | b"response.failed" => Class::Error(Box::new(StreamError::read(data))),
        b"response.completed" | b"response.incomplete" | b"message_stop" => Class::Terminal,
        b"content_block_start" | b"response.output_item.added" | b"response.content_part.added"
            if is_empty_text(data) =>
        {
            Class::Preamble
        }
        // A provider that puts an error of the other kind into the stream, without a name.
        b"" if data.trim_ascii_start().starts_with(b"{\"error\"") => {
            Class::Error(Box::new(StreamError::read(data)))
        }
        _ => Class::Content,
    }
}

/// Whether what begins is a text, and nothing of it is there yet.
fn is_empty_text(data: &[u8]) -> bool {
    let Ok(begun) = serde_json::from_slice::<Begun>(data) else {
        return false;
    };
    begun.item.or(begun.part).or(begun.content_block).is_some_and(|part| {
        matches!(part.kind.as_deref(), Some("message" | "output_text" | "text"))
            && part.text.is_none_or(|text| is_blank(&text))
            && part.content.is_none_or(|content| is_blank(&content))
    })
}

// === gemini ===

/// Google has no last event; the last one says why the model stopped, or that it was not let begin.
fn says_why_it_stopped(data: &[u8]) -> bool {
    [&b"\"finishReason\""[..], b"\"blockReason\""].iter().any(|key| memmem(data, key))
}

fn google(data: &[u8]) -> Class {
    if data.trim_ascii_start().starts_with(b"{\"error\"") {
        return Class::Error(Box::new(StreamError::read(data)));
    }
    let is_content = memmem(data, b"\"parts\"") || says_why_it_stopped(data);
    if is_content { Class::Content } else { Class::Preamble }
}

fn memmem(data: &[u8], key: &[u8]) -> bool {
    memchr::memmem::find(data, key).is_some()
}

// === images and audio ===

fn media(name: &[u8], data: &[u8]) -> Class {
    if is_done(data) {
        return Class::Terminal;
    }
    match event_type(name, data) {
        b"ping" | b"keepalive" => Class::Preamble,
        b"error" => Class::Error(Box::new(StreamError::read(data))),
        kind if is_media_end(kind) => Class::Terminal,
        _ if data.trim_ascii_start().starts_with(b"{\"error\"") => {
            Class::Error(Box::new(StreamError::read(data)))
        }
        _ => Class::Content,
    }
}

// === impl StreamError ===

impl StreamError {
    /// Reads the error in `data`, in whichever of the known shapes it is.
    pub fn read(data: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Value>(data) else {
            let message = String::from_utf8_lossy(data).into();
            return Self { message: Some(message), ..Self::default() };
        };
        let inner = [body.pointer("/response/error"), body.get("error")]
            .into_iter()
            .flatten()
            .find(|error| !error.is_null())
            .unwrap_or(&body);
        if let Value::String(message) = inner {
            let kind = text(&body, "error_type");
            let status = kind.as_deref().and_then(status_of);
            return Self { status, kind, code: None, message: Some(message.as_str().into()) };
        }
        let kind = text(inner, "type").filter(|kind| !matches!(&**kind, "error" | ""));
        let code = text(inner, "code");
        let status = ["status", "status_code", "code"]
            .into_iter()
            .find_map(|field| http_status(inner.get(field)?))
            .or_else(|| code.as_deref().and_then(status_of))
            .or_else(|| kind.as_deref().and_then(status_of));
        Self { status, kind, code, message: text(inner, "message") }
    }
}

/// A member as text; a number is text too, since some send `"code": 429`.
fn text(object: &Value, field: &str) -> Option<Box<str>> {
    match object.get(field)? {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

fn http_status(value: &Value) -> Option<u16> {
    let status = match value {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    u16::try_from(status).ok().filter(|status| (400..600).contains(status))
}

/// The status that goes with an error's type or code at `OpenAI` and Anthropic.
pub(crate) fn status_of(word: &str) -> Option<u16> {
    Some(match word {
        "invalid_request_error"
        | "invalid_prompt"
        | "context_length_exceeded"
        | "content_filter"
        | "content_policy_violation"
        | "BadRequestError" => 400,
        "authentication_error" | "invalid_api_key" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" | "model_not_found" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota" => 429,
        "api_error" | "server_error" | "internal_server_error" => 500,
        "overloaded" | "overloaded_error" => 529,
        "timeout_error" => 504,
        _ => return None,
    })
}
