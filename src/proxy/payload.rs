//! The bodies of a request, for a workspace that logs them.

use bytes::Bytes;
use http::{HeaderName, header};

use crate::config::resources::PayloadLogging;
use crate::head::fields::Fields;
use crate::proxy::admit::Known;
use crate::proxy::attempt::Answer;
use crate::proxy::record::Recorder;
use crate::telemetry::redact::redact_keys;
use crate::usage::inflate::Encoding;
use crate::usage::payload::{Body, Exchange};

/// Begins with the body of the request; `None` where nothing is logged.
pub(super) fn begin(
    known: &Known,
    recorder: &Recorder,
    (headers, body): (&Fields, &Bytes),
) -> Option<Box<Exchange>> {
    let settings = &known.environment.settings;
    let has_bodies = match settings.payload_logging {
        PayloadLogging::Off => return None,
        PayloadLogging::Metadata => false,
        PayloadLogging::Full => true,
    };
    let row = recorder.row()?;
    let content_type = text(headers, &header::CONTENT_TYPE).unwrap_or("application/json");
    // A request that is encoded is refused before.
    let mut request = Body::new(content_type, Some(Encoding::Identity));
    request.pass_whole(body, has_bodies);
    Some(Box::new(Exchange {
        request_id: row.request_id,
        started_at_us: row.started_at_us,
        workspace: row.caller.workspace,
        retention_days: settings.retention_days,
        has_bodies,
        redact: redact_keys,
        request,
        response: Body::default(),
    }))
}

/// An answer begins: what its body is, as the client gets it.
pub(super) fn answered(exchange: &mut Exchange, answer: &Answer) {
    let translated = answer.body.translated_type();
    let is_plain = translated.is_some() || answer.body.is_decoded();
    let content_type = translated.or_else(|| text(&answer.headers, &header::CONTENT_TYPE));
    exchange.response = Body::new(
        content_type.unwrap_or_default(),
        if is_plain { Some(Encoding::Identity) } else { encoding(&answer.headers) },
    );
}

/// A provider's own error, passed on.
pub(super) fn refused(exchange: &mut Exchange, headers: &Fields, body: &Bytes) {
    let content_type = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    exchange.response = Body::new(content_type, encoding(headers));
    exchange.answered(body);
}

fn encoding(headers: &Fields) -> Option<Encoding> {
    match text(headers, &header::CONTENT_ENCODING) {
        None => Some(Encoding::Identity),
        Some(name) => Encoding::from_header(name),
    }
}

fn text<'a>(headers: &'a Fields, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(|text| text.get(..128).unwrap_or(text))
}
