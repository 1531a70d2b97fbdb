//! What a target is sent that does not speak the client's dialect.
//!
//! Only the attempt decides: the next target of the same request may speak it.

use std::borrow::Cow;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use http::header;

use crate::control::snapshot::{Deployment, Target};
use crate::dialect::{Dialect, Dialects, Endpoint};
use crate::json::Spliced;
use crate::percent::encoded;
use crate::proxy::attempt::json_type;
use crate::proxy::call::Call;
use crate::proxy::forward::LastAnswer;
use crate::proxy::headers;
use crate::rejection::{BadRequest, Rejection};
use crate::route::failure::Reason;
use crate::translate::{
    Asked, Embedder, Host, Refused, Translation, Upstream, embeddings, has_carried_seal,
    upstream_dialects,
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
    matches!(
        endpoint,
        Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::GenerateContent
            | Endpoint::StreamGenerateContent
            | Endpoint::OllamaChat
            | Endpoint::OllamaGenerate
    )
}

/// Whether `target` can be asked what came to `endpoint`, in whichever dialect.
pub fn takes(target: &Target, endpoint: Endpoint) -> bool {
    let (client, connection) = (endpoint.dialect(), &target.connection);
    let is_convertible = is_convertible(endpoint);
    connection.dialects.contains(client)
        || is_convertible && upstream_dialects(client, speaks(target)).next().is_some()
        || endpoint == Endpoint::Embeddings && embedder(target).is_some()
}

/// The dialects in which a target can be asked.
fn speaks(target: &Target) -> Dialects {
    let connection = &target.connection;
    connection.provider.dialects_of(connection.dialects, &target.upstream_model)
}

fn embedder(target: &Target) -> Option<Embedder> {
    let connection = &target.connection;
    connection.provider.embedder(connection.dialects, &target.upstream_model)
}

impl Conversion {
    /// The provider's error as the client's dialect has it.
    pub fn translate_error(&self, answer: &mut LastAnswer, reason: Option<Reason>) {
        // What was compressed against our word cannot be read.
        let is_plain = !answer.headers.remove(header::CONTENT_ENCODING);
        let body = if is_plain { answer.body.as_ref() } else { b"" };
        let meant = match reason {
            // These have a status of their own in every dialect.
            Some(reason @ (Reason::RateLimit | Reason::ContextLength | Reason::ContentFilter)) => {
                reason.status()
            }
            _ => answer.status,
        };
        answer.body = self.answer.error(meant, reason, body).into();
        answer.status = meant;
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
        if let (Endpoint::Embeddings, Some(embedder)) = (call.endpoint, embedder(target)) {
            let model = &*target.upstream_model;
            let written = embeddings(embedder, model, &call.body).map_err(rejection)?;
            return Ok(Some(Box::new(Conversion {
                body: Spliced::same(&Bytes::from(written.body)),
                path: embeddings_path(embedder, model),
                forwarded: forwarded_to(Dialect::Embeddings, forwarded),
                answer: written.answer,
            })));
        }
        let asked = self.0.get_or_init(|| {
            let id = request_id.as_simple().to_string();
            let asked = Asked::read(client, &call.body, (now_s, &id));
            match call.endpoint {
                Endpoint::StreamGenerateContent => asked.map(Asked::streamed),
                _ => asked,
            }
        });
        let asked = asked.as_ref().map_err(|refused| rejection(refused.clone()))?;
        let mut first = None;
        for dialect in upstream_dialects(client, speaks(target)) {
            let upstream = Upstream {
                dialect,
                model: &target.upstream_model,
                quirks: connection.provider.quirks(),
                host: connection.provider.host(),
            };
            match asked.written(&upstream) {
                Ok(written) => {
                    return Ok(Some(Box::new(Conversion {
                        body: Spliced::same(&Bytes::from(written.body)),
                        path: path(&upstream, asked.is_stream()),
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

fn path(upstream: &Upstream<'_>, is_stream: bool) -> Cow<'static, str> {
    let model = upstream.model;
    match (upstream.dialect, upstream.host) {
        (Dialect::Converse, _) => {
            let method = if is_stream { "converse-stream" } else { "converse" };
            format!("model/{}/{method}", encoded(model, "")).into()
        }
        (Dialect::Messages, Host::Bedrock) => {
            let method = if is_stream { "invoke-with-response-stream" } else { "invoke" };
            format!("model/{}/{method}", encoded(model, "")).into()
        }
        (Dialect::Cohere, _) => "chat".into(),
        (Dialect::Responses, _) => "responses".into(),
        (Dialect::Messages, _) => "messages".into(),
        (Dialect::Gemini, _) => {
            let method =
                if is_stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            format!("models/{}:{method}", encoded(model, "@:")).into()
        }
        _ => "chat/completions".into(),
    }
}

fn embeddings_path(embedder: Embedder, model: &str) -> Cow<'static, str> {
    match embedder {
        Embedder::Gemini => format!("models/{}:batchEmbedContents", encoded(model, "@:")).into(),
        Embedder::Cohere => "embed".into(),
        Embedder::Titan | Embedder::BedrockCohere => {
            format!("model/{}/invoke", encoded(model, "")).into()
        }
    }
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
