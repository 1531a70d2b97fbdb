//! What whole answers and streams of Cohere share.

use serde::Deserialize;
use serde_json::Value;

use crate::translate::form::{Citation, Stop, Usage, WireError};

#[derive(Debug, Deserialize)]
pub(super) struct WireUsage {
    tokens: Option<Tokens>,
    billed_units: Option<Tokens>,
    cached_tokens: Option<f64>,
}

/// Numbers are written as `20.0` at times.
#[derive(Debug, Deserialize)]
struct Tokens {
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
}

impl WireUsage {
    /// What the model read, Cohere's own instructions too; or what is billed, where that is all.
    pub(super) fn into_form(self) -> Usage {
        let tokens = self.tokens.or(self.billed_units);
        let (input, output) =
            tokens.map_or((None, None), |told| (told.input_tokens, told.output_tokens));
        Usage {
            input: input.and_then(whole),
            output: output.and_then(whole),
            cache_read: self.cached_tokens.and_then(whole),
            ..Usage::default()
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a count before"
)]
fn whole(number: f64) -> Option<u64> {
    (0.0..1e15).contains(&number).then_some(number as u64)
}

pub(super) fn stop(reason: &str, error: Option<&str>) -> Stop {
    let failed = |status, message: &str| {
        let message = error.unwrap_or(message).to_owned();
        let code = Some(reason.to_ascii_lowercase());
        Stop::Failed(Box::new(WireError {
            status: Some(status),
            code,
            message,
            ..WireError::default()
        }))
    };
    match reason {
        "MAX_TOKENS" => Stop::MaxTokens,
        "STOP_SEQUENCE" => Stop::Sequence(None),
        "TOOL_CALL" => Stop::ToolUse,
        "ERROR_TOXIC" => Stop::Filter,
        "ERROR_LIMIT" => Stop::Window,
        "ERROR" => failed(502, "the provider failed"),
        "TIMEOUT" => failed(504, "the provider took too long"),
        _ => Stop::End,
    }
}

/// A statement rests on documents, or on results of tools.
pub(super) fn citation(citation: &Value) -> Citation {
    let text = |at: &str| citation.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| citation.get(name).and_then(Value::as_u64);
    Citation {
        url: text("/sources/0/document/url"),
        title: text("/sources/0/document/title"),
        cited_text: text("/text"),
        start: number("start"),
        end: number("end"),
        own: None,
    }
}
