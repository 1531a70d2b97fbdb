//! The body of a request, read whole, and what it asks for.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header;
use pingora_error::{BError, ErrorType};
use pingora_timeout::tokio_timeout as timeout;

use crate::dialect::{Dialect, Endpoint};
use crate::head::fields::Fields;
use crate::id::ConnectionId;
use crate::json::{
    Additions, GOOGLE, MultipartScan, OLLAMA, Place, Scan, ScanError, Splice, Spliced, Taken, scan,
    scan_multipart, splice_form_model,
};
use crate::percent::{decoded, encoded};
use crate::proxy::client::Client;
use crate::proxy::options::Options;
use crate::proxy::serve::Stop;
use crate::rejection::{BadRequest, Rejection};

/// A body may come slowly for this long; after it, it must keep up [`RATE_MIN`].
const SLOW_START: Duration = Duration::from_secs(10);
/// Bytes per second.
const RATE_MIN: u64 = 1024;

/// Bounds of reading a body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    pub bytes_max: usize,
    pub stall_timeout: Duration,
}

/// What a request asks for.
#[derive(Debug)]
pub struct Call {
    pub endpoint: Endpoint,
    pub model: Box<str>,
    pub is_stream: bool,
    pub body: Bytes,
    pub max_tokens: Option<u64>,
    /// Whom the client acts for: its header, else the `sluice` field, else the dialect's own field.
    pub end_user: Option<Box<str>>,
    pub previous_response_id: Option<Box<str>>,
    /// The connection that keeps the previous response, once that has been looked up.
    pub made_by: Option<ConnectionId>,
    pub options: Options,
    form: Form,
}

/// How the body is written.
#[derive(Debug)]
enum Form {
    Json(Box<Scan>),
    Multipart(MultipartScan),
}

/// What leaves for one target.
#[derive(Debug)]
pub struct Outgoing {
    pub body: Spliced,
    /// The answer will have a usage chunk that the client did not ask for.
    pub has_usage_chunk: bool,
}

impl Call {
    /// Understands a body, or says what is wrong with it.
    ///
    /// The model is in the path of some endpoints, and in the body of all others.
    pub fn parse(
        (endpoint, model): (Endpoint, Option<&str>),
        (headers, query): (&Fields, Option<&str>),
        body: Bytes,
    ) -> Result<Self, Rejection> {
        if endpoint == Endpoint::StreamGenerateContent && !says_events(query) {
            return Err(Rejection::invalid_request(
                "streams are server-sent events; ask for them with `?alt=sse`",
                Some("alt"),
            ));
        }
        if headers.contains(header::CONTENT_ENCODING) {
            return Err(Rejection::invalid_request(
                "compressed request bodies are not accepted; send it without `content-encoding`",
                Some("content-encoding"),
            ));
        }
        let content_type =
            headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
        match content_type {
            Some(content_type) if is_multipart(content_type) && takes_forms(endpoint) => {
                Self::parse_form(endpoint, headers, content_type, body)
            }
            // Its own server takes whatever is sent.
            Some(content_type)
                if !is_json(content_type) && endpoint.dialect() != Dialect::Ollama =>
            {
                Err(Rejection::invalid_request(
                    "the body must be JSON; send it with `content-type: application/json`",
                    Some("content-type"),
                ))
            }
            _ => Self::parse_json((endpoint, model), headers, body),
        }
    }

    fn parse_json(
        (endpoint, model): (Endpoint, Option<&str>),
        headers: &Fields,
        body: Bytes,
    ) -> Result<Self, Rejection> {
        let mut found = scan(&body).map_err(|error| bad_body(&error))?;
        let model = match model {
            Some(model) => decoded(model).map_err(|_| missing_model())?.into(),
            None => found.model.as_ref().ok_or_else(missing_model)?.name.clone(),
        };
        let options = Options::read(headers, found.sluice.as_deref())?;
        Ok(Self {
            endpoint,
            model,
            is_stream: match endpoint {
                Endpoint::StreamGenerateContent => true,
                // There a stream is what comes unless it is refused.
                Endpoint::OllamaChat | Endpoint::OllamaGenerate => !found.is_stream_refused,
                endpoint => found.is_stream && streams(endpoint),
            },
            body,
            max_tokens: found.max_tokens,
            end_user: options.end_user.clone().or_else(|| found.end_user.take()),
            previous_response_id: found.previous_response_id.take(),
            made_by: None,
            options,
            form: Form::Json(Box::new(found)),
        })
    }

    fn parse_form(
        endpoint: Endpoint,
        headers: &Fields,
        content_type: &str,
        body: Bytes,
    ) -> Result<Self, Rejection> {
        let mut found = scan_multipart(content_type, &body).map_err(|error| bad_body(&error))?;
        let model = found.model.as_ref().ok_or_else(missing_model)?.name.clone();
        let options = Options::read(headers, None)?;
        Ok(Self {
            endpoint,
            model,
            is_stream: found.is_stream,
            body,
            max_tokens: None,
            end_user: options.end_user.clone().or_else(|| found.end_user.take()),
            previous_response_id: None,
            made_by: None,
            options,
            form: Form::Multipart(found),
        })
    }

    /// The body, if it is JSON.
    pub fn json(&self) -> Option<&[u8]> {
        matches!(self.form, Form::Json(_)).then_some(&*self.body)
    }

    /// Adds to the body what the configuration says. Whatever reads the call from here on reads it as
    /// if the client had written it so, but for whom it acts for.
    pub fn add(&mut self, additions: &Additions) -> Result<(), Rejection> {
        let Form::Json(_) = self.form else { return Ok(()) };
        let added = match self.endpoint.dialect() {
            Dialect::Gemini => additions.apply_nested(&self.body, &GOOGLE),
            Dialect::Ollama => additions.apply_nested(&self.body, &OLLAMA),
            _ => additions.apply(&self.body, taken(self.endpoint)),
        };
        let body = added.map_err(|error| bad_body(&error))?;
        let found = scan(&body).map_err(|error| bad_body(&error))?;
        self.max_tokens = found.max_tokens;
        self.form = Form::Json(Box::new(found));
        self.body = body;
        Ok(())
    }

    /// What follows the base URL of a target that is asked in the client's own dialect.
    pub fn upstream_path(&self, upstream_model: &str) -> Cow<'static, str> {
        let model = || encoded(upstream_model, "@:");
        match self.endpoint {
            Endpoint::GenerateContent => format!("models/{}:generateContent", model()).into(),
            Endpoint::StreamGenerateContent => {
                format!("models/{}:streamGenerateContent?alt=sse", model()).into()
            }
            endpoint => endpoint.name().into(),
        }
    }

    /// The body for a target that calls the model `upstream_model`: the very same bytes, but for
    /// what the configuration asks for.
    pub fn outgoing(&self, upstream_model: &str) -> Outgoing {
        match &self.form {
            Form::Json(found) => {
                let mut splice = Splice::new(found);
                if self.endpoint.dialect() != Dialect::Gemini {
                    splice.replace_model(upstream_model);
                }
                splice.cut_sluice();
                let has_usage_chunk = self.is_stream
                    && matches!(self.endpoint.dialect(), Dialect::Chat | Dialect::Completions)
                    && splice.insert_include_usage();
                Outgoing { body: splice.apply(&self.body), has_usage_chunk }
            }
            Form::Multipart(found) => Outgoing {
                body: splice_form_model(&self.body, found, upstream_model),
                has_usage_chunk: false,
            },
        }
    }
}

/// Whether an endpoint answers with events when asked to.
const fn streams(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::Completions
            | Endpoint::ImageGenerations
            | Endpoint::ImageEdits
            | Endpoint::Speech
            | Endpoint::Transcriptions
    )
}

/// What of the configuration's additions goes into a request at `endpoint`. To count tokens takes no
/// parameters, but the instructions are among what is counted.
const fn taken(endpoint: Endpoint) -> Taken {
    let params = !matches!(endpoint, Endpoint::CountTokens);
    let instructions = match endpoint {
        Endpoint::ChatCompletions => Some(Place::Messages),
        Endpoint::Responses => Some(Place::Instructions),
        Endpoint::Messages | Endpoint::CountTokens => Some(Place::System),
        _ => None,
    };
    Taken { params, instructions }
}

const fn takes_forms(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::ImageEdits
            | Endpoint::ImageVariations
            | Endpoint::Transcriptions
            | Endpoint::Translations
    )
}

/// Whether a query asks for server-sent events.
fn says_events(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"))
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_multipart(content_type: &str) -> bool {
    essence(content_type).eq_ignore_ascii_case("multipart/form-data")
}

fn is_json(content_type: &str) -> bool {
    if content_type == "application/json" {
        return true; // As nearly all write it.
    }
    let essence = essence(content_type).to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn missing_model() -> Rejection {
    Rejection::BadRequest {
        code: BadRequest::MissingModel,
        message: "the request names no `model`; send the name of a deployment or model".to_owned(),
        param: Some("model".to_owned()),
    }
}

fn bad_body(error: &ScanError) -> Rejection {
    let code = match error.field() {
        None => BadRequest::InvalidJson,
        Some(_) => BadRequest::InvalidRequest,
    };
    Rejection::BadRequest {
        code,
        message: error.to_string(),
        param: error.field().map(str::to_owned),
    }
}

/// Reads the whole body, because clients may put `model` after a long `messages`.
pub async fn read_body(
    client: &mut Client<'_>,
    limits: BodyLimits,
    began: Instant,
) -> Result<Bytes, Stop> {
    let too_large = || Stop::Rejected(Rejection::TooLarge { bytes_max: limits.bytes_max });
    let declared = client
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| limits.bytes_max < length) {
        return Err(too_large());
    }
    if expects_continue(client) {
        client.send_continue().await.map_err(Stop::Gone)?;
    }
    let Some(first) = read_part(client, limits.stall_timeout).await? else {
        return Ok(Bytes::new());
    };
    if limits.bytes_max < first.len() {
        return Err(too_large());
    }
    if Some(first.len()) == declared {
        return Ok(first); // The whole of a small body, without another copy.
    }
    // Not all that is declared at once: who declares much and sends little shall cost little.
    let capacity = declared.unwrap_or(0).clamp(first.len() * 2, 256 * 1024);
    let mut body = BytesMut::with_capacity(capacity.min(limits.bytes_max));
    body.extend_from_slice(&first);
    while let Some(part) = read_part(client, limits.stall_timeout).await? {
        if limits.bytes_max < body.len() + part.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&part);
        let elapsed = began.elapsed();
        if SLOW_START < elapsed && (body.len() as u64) < RATE_MIN * elapsed.as_secs() {
            return Err(Stop::Rejected(Rejection::RequestTimeout));
        }
    }
    Ok(body.freeze())
}

fn expects_continue(client: &Client<'_>) -> bool {
    client
        .headers()
        .get(header::EXPECT)
        .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

async fn read_part(client: &mut Client<'_>, stall: Duration) -> Result<Option<Bytes>, Stop> {
    match timeout(stall, client.read()).await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(error)) => Err(broken_body(error)),
        Err(_stalled) => Err(Stop::Rejected(Rejection::RequestTimeout)),
    }
}

/// A body that cannot be read: the client left, was too slow, or frames it wrongly.
fn broken_body(error: BError) -> Stop {
    let io_kind = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match error.etype() {
        ErrorType::ReadTimedout => Stop::Rejected(Rejection::RequestTimeout),
        _ if io_kind == Some(std::io::ErrorKind::InvalidData) => bad_framing(),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::H2Error => {
            Stop::Gone(error)
        }
        _ => bad_framing(),
    }
}

fn bad_framing() -> Stop {
    Stop::Rejected(Rejection::invalid_request("the chunks of the body are framed wrongly", None))
}
