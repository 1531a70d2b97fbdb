//! Errors of one dialect as another says them.

use serde_json::{Value, json};

use super::form::WireError;
use crate::dialect::google_status;
use crate::route::failure::Reason;
use crate::sse::status_of;

/// What a provider says when a request is too long for its model, whatever code it gives.
const TOO_LONG: [&str; 8] = [
    "prompt is too long",
    "context length",
    "context window",
    "maximum context",
    "input is too long",
    "input length",
    "maximum number of tokens",
    "too many input tokens",
];

/// What it says when a filter has refused the request.
const FILTERED: [&str; 3] = ["content management policy", "content filter", "content policy"];

/// What went wrong, in the words of both.
struct Words {
    openai: (&'static str, Option<&'static str>),
    anthropic: &'static str,
}

const fn words(status: u16) -> Words {
    const INVALID: &str = "invalid_request_error";
    let (openai, anthropic) = match status {
        401 => ((INVALID, Some("invalid_api_key")), "authentication_error"),
        402 => (("insufficient_quota", Some("insufficient_quota")), "billing_error"),
        403 => ((INVALID, Some("permission_denied")), "permission_error"),
        404 => ((INVALID, Some("not_found")), "not_found_error"),
        408 | 504 => (("server_error", Some("timeout")), "timeout_error"),
        413 => ((INVALID, Some("request_too_large")), "request_too_large"),
        429 => (("rate_limit_error", Some("rate_limit_exceeded")), "rate_limit_error"),
        503 | 529 => (("server_error", Some("overloaded")), "overloaded_error"),
        400..=499 => ((INVALID, None), INVALID),
        _ => (("server_error", None), "api_error"),
    };
    Words { openai, anthropic }
}

impl WireError {
    /// The status that goes with it.
    pub fn http_status(&self) -> u16 {
        let told = |word: &Option<String>| word.as_deref().and_then(status_of);
        self.status.or_else(|| told(&self.code)).or_else(|| told(&self.kind)).unwrap_or(500)
    }

    fn code(&self) -> Option<&str> {
        match self.reason {
            Some(Reason::ContextLength) => return Some("context_length_exceeded"),
            Some(Reason::ContentFilter) => return Some("content_filter"),
            _ => {}
        }
        let message = self.message.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
        if self.http_status() == 400 && has(&TOO_LONG) {
            return Some("context_length_exceeded");
        }
        if self.http_status() == 400 && has(&FILTERED) {
            return Some("content_filter");
        }
        // Some repeat the status there.
        self.code.as_deref().filter(|code| code.parse::<u16>().is_err())
    }
}

/// The error body of `OpenAI`'s dialects.
pub(super) fn openai(error: &WireError) -> Value {
    let (kind, code) = words(error.http_status()).openai;
    json!({"error": {
        "message": error.message,
        "type": kind,
        "param": error.param,
        "code": error.code().or(code),
    }})
}

/// The error body of Anthropic's.
pub(super) fn anthropic(error: &WireError, request_id: &str) -> Value {
    json!({
        "type": "error",
        "error": {"type": words(error.http_status()).anthropic, "message": error.message},
        "request_id": request_id,
    })
}

/// The error body of Google's.
pub(super) fn google(error: &WireError) -> Value {
    let status = error.http_status();
    json!({"error": {"code": status, "message": error.message, "status": google_status(status)}})
}

/// The error of Ollama's, which is a text.
pub(super) fn ollama(error: &WireError) -> Value {
    json!({"error": error.message})
}
