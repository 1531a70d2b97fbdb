//! Answers as bytes: rejections in the caller's dialect, and the heads of providers' answers.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora_error::BError;
use pingora_timeout::tokio_timeout as timeout;
use serde_json::json;
use uuid::Uuid;

use crate::control::snapshot::{Deployment, Target};
use crate::dialect::{Envelope, google_status};
use crate::head::fields::Fields;
use crate::limit::{Standing, Tightest};
use crate::proxy::client::{Client, Head, Length};
use crate::proxy::forward::LastAnswer;
use crate::proxy::headers::{self, REQUEST_ID, X_REQUEST_ID};
use crate::rejection::Rejection;

/// What is read, and thrown away, of a body that nobody will read: closing with unread bytes would
/// reset the connection, and the answer could be lost.
pub const DISCARD_BYTES_MAX: usize = 64 * 1024;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);

const X_UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");
const X_DEPLOYMENT: HeaderName = HeaderName::from_static("x-sluice-deployment");
const X_MODEL: HeaderName = HeaderName::from_static("x-sluice-model");
const X_PROVIDER: HeaderName = HeaderName::from_static("x-sluice-provider");
const X_ATTEMPTS: HeaderName = HeaderName::from_static("x-sluice-attempts");
const X_CACHE: HeaderName = HeaderName::from_static("x-sluice-cache");
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The request that a rejection answers.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub envelope: Envelope,
    pub request_id: Uuid,
    pub standing: Standing,
}

/// What a header is called in either envelope: limit, remaining, reset.
struct LimitNames {
    openai: [HeaderName; 3],
    anthropic: [HeaderName; 3],
}

static LIMIT_REQUESTS: LimitNames = LimitNames {
    openai: [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    anthropic: [
        HeaderName::from_static("anthropic-ratelimit-requests-limit"),
        HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    ],
};
static LIMIT_TOKENS: LimitNames = LimitNames {
    openai: [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
    anthropic: [
        HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
        HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    ],
};

/// Says no in the caller's dialect. `discard_max` bounds what is still read of the body.
pub async fn reject(
    client: &mut Client<'_>,
    rejection: &Rejection,
    request: &Asked,
    discard_max: usize,
) -> Result<u16, BError> {
    let Asked { envelope, request_id, standing } = *request;
    let id = request_id.as_hyphenated().to_string();
    let body = Bytes::from(rejection.body(envelope, &id));
    let status = rejection.wire().status;
    let mut head = client.begin(status)?;
    head.put(&header::CONTENT_TYPE, &JSON);
    request_id_headers(&mut head, envelope, request_id);
    retry_headers(&mut head, rejection.retry_after(), rejection.should_retry());
    limit_headers(&mut head, envelope, &rejection.standing().unwrap_or(standing));
    write_whole(client, head, body).await?;
    if !client.is_body_done() {
        discard(client, discard_max).await;
    }
    Ok(status)
}

/// A whole answer of the gateway's own.
pub async fn json(
    client: &mut Client<'_>,
    status: u16,
    body: &serde_json::Value,
    request: Option<(Envelope, Uuid)>,
) -> Result<(), BError> {
    let body = Bytes::from(body.to_string());
    let mut head = client.begin(status)?;
    head.put(&header::CONTENT_TYPE, &JSON);
    if let Some((envelope, id)) = request {
        request_id_headers(&mut head, envelope, id);
    }
    write_whole(client, head, body).await
}

async fn write_whole(client: &mut Client<'_>, head: Head, body: Bytes) -> Result<(), BError> {
    client.write_head(head, Length::Known(body.len())).await?;
    client.write(body).await?;
    client.finish().await
}

/// An answer to something that never became a request: head and body as they go over the wire.
pub fn bare(status: u16, code: &str, message: &str, envelope: Envelope) -> Vec<u8> {
    let kind = "invalid_request_error";
    let body = match envelope {
        Envelope::OpenAi => json!({"error": {
            "message": message, "type": kind, "param": null, "code": code,
        }}),
        Envelope::Anthropic => json!({
            "type": "error", "error": {"type": kind, "message": message}, "request_id": null,
        }),
        Envelope::Google => json!({"error": {
            "code": status, "message": message, "status": google_status(status),
        }}),
        Envelope::Ollama => json!({"error": message}),
    }
    .to_string();
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error");
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: \
         {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn discard(client: &mut Client<'_>, bytes_max: usize) {
    let read = async {
        let mut left = bytes_max;
        while let Ok(Some(bytes)) = client.read().await {
            match left.checked_sub(bytes.len()) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    // Whether the client was done in time makes no difference to anybody.
    drop(timeout(DISCARD_TIME_MAX, read).await);
}

/// Where an answer came from, for the headers that say so.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub envelope: Envelope,
    pub request_id: Uuid,
    pub deployment: &'a Deployment,
    pub target: &'a Target,
    pub attempts: u64,
    /// What the response cache did.
    pub cache: &'static str,
    pub standing: Standing,
}

/// Where an answer is from that the response cache had.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    pub envelope: Envelope,
    pub request_id: Uuid,
    pub deployment: &'a Deployment,
    /// Who gave it, as far as it is still there.
    pub target: Option<&'a Target>,
    pub age_s: u64,
    pub content_type: &'a str,
    pub standing: Standing,
}

/// What the client gets in another form than the provider sent it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changed {
    /// Without the provider's encoding.
    pub is_decoded: bool,
    /// Of a body in another dialect.
    pub content_type: Option<&'static str>,
}

/// The head of a provider's answer as the client gets it.
pub fn answer_head(head: &mut Head, upstream: &Fields, origin: &Origin<'_>, changed: Changed) {
    let connection = upstream.get(header::CONNECTION);
    for (name, value) in upstream {
        let is_ours = match *name {
            header::CONTENT_ENCODING => changed.is_decoded,
            header::CONTENT_TYPE => changed.content_type.is_some(),
            _ => is_told(name, origin.envelope, &origin.standing),
        };
        let is_passed = headers::is_passed_back(name) && !headers::is_nominated(connection, name);
        if is_passed && !is_ours {
            head.put(name, value);
        }
    }
    if let Some(content_type) = changed.content_type {
        head.put_text(&header::CONTENT_TYPE, content_type);
    }
    request_id_headers(head, origin.envelope, origin.request_id);
    if let Some(upstream_id) = upstream_id(upstream) {
        head.put(&X_UPSTREAM_REQUEST_ID, upstream_id);
    }
    head.put_text(&X_DEPLOYMENT, &origin.deployment.name);
    head.put_text(&X_MODEL, &origin.target.row.model_alias);
    head.put_text(&X_PROVIDER, origin.target.row.provider);
    head.put_number(&X_ATTEMPTS, origin.attempts);
    head.put_text(&X_CACHE, origin.cache);
    limit_headers(head, origin.envelope, &origin.standing);
}

/// The head of an answer that the response cache had.
pub fn kept_head(head: &mut Head, kept: &Kept<'_>) {
    head.put_text(&header::CONTENT_TYPE, kept.content_type);
    request_id_headers(head, kept.envelope, kept.request_id);
    head.put_text(&X_DEPLOYMENT, &kept.deployment.name);
    if let Some(target) = kept.target {
        head.put_text(&X_MODEL, &target.row.model_alias);
        head.put_text(&X_PROVIDER, target.row.provider);
    }
    head.put_number(&X_ATTEMPTS, 0);
    head.put_text(&X_CACHE, "hit");
    head.put_number(&header::AGE, kept.age_s);
    limit_headers(head, kept.envelope, &kept.standing);
}

/// The id that a provider gave the request.
pub fn upstream_id(upstream: &Fields) -> Option<&HeaderValue> {
    upstream.get(&X_REQUEST_ID).or_else(|| upstream.get(&REQUEST_ID))
}

fn request_id_headers(head: &mut Head, envelope: Envelope, id: Uuid) {
    let mut text = Uuid::encode_buffer();
    let id = &*id.as_hyphenated().encode_lower(&mut text);
    head.put_text(&X_REQUEST_ID, id);
    if envelope == Envelope::Anthropic {
        head.put_text(&REQUEST_ID, id);
    }
}

/// When to come back, in whole seconds rounded up, and whether to.
fn retry_headers(head: &mut Head, retry_after: Option<Duration>, should_retry: Option<bool>) {
    if let Some(wait) = retry_after {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        head.put_text(&header::RETRY_AFTER, &seconds.to_string());
    }
    if let Some(should_retry) = should_retry {
        head.put_text(&X_SHOULD_RETRY, if should_retry { "true" } else { "false" });
    }
}

/// As OpenAI writes it: `6m0s`, `1s`, `20ms`.
fn short_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), u64::from(duration.subsec_millis()));
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = String::with_capacity(16);
    // Every answer has some of these: formatting them with all that `format!` can do costs more.
    let mut put = |number: u64, unit: &str| {
        text.push_str(itoa::Buffer::new().format(number));
        text.push_str(unit);
    };
    match (hours, minutes) {
        (0, 0) if millis == 0 => put(rest, "s"),
        (0, 0) if rest == 0 => put(millis, "ms"),
        (0, 0) => {
            put(rest, ".");
            put(millis / 100, "");
            put(millis / 10 % 10, "");
            put(millis % 10, "s");
        }
        _ => {
            if hours > 0 {
                put(hours, "h");
            }
            put(minutes, "m");
            put(rest, "s");
        }
    }
    text
}

/// As Anthropic writes it: the moment, to the second, rounded up.
fn moment_after(now_unix_ms: u64, duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(0);
    let seconds = i64::try_from(now_unix_ms.saturating_add(millis).div_ceil(1_000)).unwrap_or(0);
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    let format = &time::format_description::well_known::Rfc3339;
    moment.and_then(|moment| moment.format(format).ok()).unwrap_or_default()
}

/// Each of the tightest limits, and what its headers are called.
fn told(standing: &Standing) -> impl Iterator<Item = (Tightest, &'static LimitNames)> {
    let kinds = [(standing.requests, &LIMIT_REQUESTS), (standing.tokens, &LIMIT_TOKENS)];
    kinds.into_iter().filter_map(|(tightest, names)| Some((tightest?, names)))
}

/// Whether the gateway says `name` itself, in place of what the provider says of its own limits: the
/// client has to do with ours.
fn is_told(name: &HeaderName, envelope: Envelope, standing: &Standing) -> bool {
    told(standing).any(|(_, names)| {
        names.openai.contains(name)
            || envelope == Envelope::Anthropic && names.anthropic.contains(name)
    })
}

/// The tightest limits of the request.
fn limit_headers(head: &mut Head, envelope: Envelope, standing: &Standing) {
    for (Tightest { limit, remaining, resets_in }, names) in told(standing) {
        let [of_limit, of_remaining, of_reset] = &names.openai;
        head.put_number(of_limit, limit);
        head.put_number(of_remaining, remaining);
        head.put_text(of_reset, &short_duration(resets_in));
        if envelope == Envelope::Anthropic {
            let [of_limit, of_remaining, of_reset] = &names.anthropic;
            head.put_number(of_limit, limit);
            head.put_number(of_remaining, remaining);
            head.put_text(of_reset, &moment_after(standing.unix_ms, resets_in));
        }
    }
}

/// The last provider's own answer, after all attempts have failed.
pub async fn last_answer(
    client: &mut Client<'_>,
    answer: LastAnswer,
    origin: &Origin<'_>,
    retry_after: Option<Duration>,
) -> Result<(), BError> {
    let mut head = client.begin(answer.status)?;
    answer_head(&mut head, &answer.headers, origin, Changed::default());
    retry_headers(&mut head, retry_after, Some(false));
    write_whole(client, head, answer.body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_durations_are_written_as_openai_writes_them() {
        for (millis, text) in [
            (0, "0s"),
            (1_000, "1s"),
            (20, "20ms"),
            (1_007, "1.007s"),
            (59_980, "59.980s"),
            (360_000, "6m0s"),
            (7_325_400, "2h2m5s"),
        ] {
            assert_eq!(short_duration(Duration::from_millis(millis)), text);
        }
    }
}
