//! What a target is sent that does not speak the client's dialect.
//!
//! Only the attempt decides: the next target of the same request may speak it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use http::header;

use crate::control::snapshot::{Deployment, Target};
use crate::dialect::{Dialect, Endpoint};
use crate::json::Spliced;
use crate::proxy::attempt::json_type;
use crate::proxy::call::Call;
use crate::proxy::forward::LastAnswer;
use crate::proxy::headers;
use crate::rejection::{BadRequest, Rejection};
use crate::translate::{
    Asked, Refused, Translation, Upstream, has_carried_seal, upstream_dialects,
};

/// A request as one target is asked.
#[derive(Debug)]
pub struct Conversion {
    pub body: Spliced,
    /// What follows the connection's base URL.
    pub path: Cow<'static, str>,
    /// The client's headers that mean something to this provider.
    pub forwarded: Bytes,
    pub answer: Translation,
}

/// A request that is read for its first target of another dialect, and kept for the next.
#[derive(Debug, Default)]
pub struct Reading(OnceLock<Result<Asked, Refused>>);

/// Whether requests at `endpoint` can be asked in other dialects.
pub const fn is_convertible(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Messages)
}

/// Whether `target` can be asked what came to `endpoint`, in whichever dialect.
pub fn takes(target: &Target, endpoint: Endpoint) -> bool {
    let (client, speaks) = (endpoint.dialect(), target.connection.dialects);
    speaks.contains(client)
        || is_convertible(endpoint) && upstream_dialects(client, speaks).next().is_some()
}

impl Conversion {
    /// The provider's error as the client's dialect has it.
    pub fn translate_error(&self, answer: &mut LastAnswer) {
        // What was compressed against our word cannot be read.
        let is_plain = !answer.headers.remove(header::CONTENT_ENCODING);
        let body = if is_plain { answer.body.as_ref() } else { b"" };
        answer.body = self.answer.error(answer.status, body).into();
        answer.headers.remove(header::CONTENT_TYPE);
        let (name, json) = json_type();
        answer.headers.append(name, json);
    }
}

impl Reading {
    /// The request for `target`; `None` when it is the client's own, byte for byte.
    pub fn convert(
        &self,
        call: &Call,
        (deployment, target): (&Deployment, &Target),
        forwarded: &Bytes,
        (now_s, request_id): (u64, uuid::Uuid),
    ) -> Result<Option<Box<Conversion>>, Rejection> {
        let client = call.endpoint.dialect();
        let connection = &target.connection;
        if connection.dialects.contains(client) && !is_sealed_elsewhere(call, deployment) {
            return Ok(None);
        }
        let asked = self.0.get_or_init(|| {
            let id = request_id.as_simple().to_string();
            Asked::read(client, &call.body, (now_s, &id))
        });
        let asked = asked.as_ref().map_err(|refused| rejection(refused.clone()))?;
        let mut first = None;
        for dialect in upstream_dialects(client, connection.dialects) {
            let upstream = Upstream {
                dialect,
                model: &target.upstream_model,
                quirks: connection.provider.quirks(),
            };
            match asked.written(&upstream) {
                Ok(written) => {
                    return Ok(Some(Box::new(Conversion {
                        body: Spliced::same(&Bytes::from(written.body)),
                        path: path(dialect, &target.upstream_model, asked.is_stream()),
                        forwarded: forwarded_to(dialect, forwarded),
                        answer: written.answer,
                    })));
                }
                Err(refused) => {
                    first.get_or_insert(refused);
                }
            }
        }
        Err(first.map_or(Rejection::Internal, rejection))
    }
}

/// Whether a target of another dialect made thoughts that come back with this request. Only where
/// there are such targets is it looked for.
fn is_sealed_elsewhere(call: &Call, deployment: &Deployment) -> bool {
    let client = call.endpoint.dialect();
    is_convertible(call.endpoint)
        && deployment.targets.iter().any(|target| !target.connection.dialects.contains(client))
        && has_carried_seal(&call.body)
}

fn path(dialect: Dialect, model: &str, is_stream: bool) -> Cow<'static, str> {
    match dialect {
        Dialect::Responses => "responses".into(),
        Dialect::Messages => "messages".into(),
        Dialect::Gemini => {
            let method =
                if is_stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            format!("models/{}:{method}", in_path(model)).into()
        }
        _ => "chat/completions".into(),
    }
}

/// A name as one segment of a path.
pub fn in_path(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b':' => {
                segment.push(char::from(byte));
            }
            // Writing into a text cannot fail.
            _ => drop(write!(segment, "%{byte:02X}")),
        }
    }
    segment
}

/// The lines of a head without those that only the client's own dialect means.
fn forwarded_to(dialect: Dialect, forwarded: &Bytes) -> Bytes {
    const DROPPED: [&[u8]; 6] = [
        b"accept:",
        b"accept-encoding:",
        b"anthropic-",
        b"content-type:",
        b"idempotency-key:",
        b"openai-",
    ];
    let mut lines = BytesMut::with_capacity(forwarded.len() + 64);
    for line in forwarded.split_inclusive(|byte| *byte == b'\n') {
        let is_dropped = DROPPED.iter().any(|start| {
            line.get(..start.len()).is_some_and(|begun| begun.eq_ignore_ascii_case(start))
        });
        if !is_dropped {
            lines.extend_from_slice(line);
        }
    }
    headers::line("content-type", b"application/json", &mut lines);
    headers::line("accept-encoding", b"identity", &mut lines);
    if dialect == Dialect::Messages {
        headers::line("anthropic-version", b"2023-06-01", &mut lines);
    }
    lines.freeze()
}

fn rejection(refused: Refused) -> Rejection {
    let message = refused.to_string();
    let (code, field) = match refused {
        Refused::Unsupported { field, .. } => (BadRequest::UnsupportedParameter, field),
        Refused::Invalid { field, .. } => (BadRequest::InvalidRequest, field),
    };
    Rejection::BadRequest { code, message, param: Some(field) }
}
