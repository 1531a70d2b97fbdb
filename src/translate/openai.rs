//! What `OpenAI`'s two dialects share in their answers.

use serde::Deserialize;
use serde_json::Value;

use super::form::{Citation, Usage, WireError};

/// Usage as chat and responses report it, and those who copied them.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct WireUsage {
    #[serde(alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(alias = "output_tokens")]
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    #[serde(alias = "input_tokens_details")]
    prompt_tokens_details: Option<InputDetails>,
    #[serde(alias = "output_tokens_details")]
    completion_tokens_details: Option<OutputDetails>,
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of the wire")]
struct InputDetails {
    cached_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
}

impl WireUsage {
    pub(super) fn into_form(self) -> Usage {
        let input = self.prompt_tokens_details.unwrap_or_default();
        let details = self.completion_tokens_details.unwrap_or_default();
        let mut output = self.completion_tokens;
        // Some count reasoning beside the output; then only the sum of all three is the total.
        if let (Some(read), Some(written), Some(reasoning), Some(total)) =
            (self.prompt_tokens, output, details.reasoning_tokens, self.total_tokens)
            && 0 < reasoning
            && total == read.saturating_add(written).saturating_add(reasoning)
        {
            output = Some(written.saturating_add(reasoning));
        }
        Usage {
            input: self.prompt_tokens,
            cache_read: input.cached_tokens.or(self.prompt_cache_hit_tokens),
            cache_write: input.cache_write_tokens,
            cache_write_1h: None,
            audio_in: input.audio_tokens,
            output,
            reasoning: details.reasoning_tokens,
            audio_out: details.audio_tokens,
            searches: None,
        }
    }
}

/// An error object, bare or in its envelope.
pub(super) fn error(value: &Value) -> WireError {
    let inner = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
    let text = |name: &str| match inner.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let message = match inner {
        Value::String(text) => Some(text.clone()),
        _ => text("message"),
    };
    let status = ["status", "status_code", "code"]
        .into_iter()
        .find_map(|name| inner.get(name)?.as_u64())
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (400..600).contains(status));
    WireError {
        status,
        reason: None,
        kind: text("type").filter(|kind| kind != "error"),
        code: text("code"),
        message: message.unwrap_or_else(|| "the provider reported an error".to_owned()),
        param: text("param"),
    }
}

/// An annotation of a text: `{type, url_citation: {…}}` in chat, flat in responses.
pub(super) fn citation(annotation: &Value) -> Citation {
    let inner = annotation.get("url_citation").unwrap_or(annotation);
    let text = |name: &str| Some(inner.get(name)?.as_str()?.to_owned());
    let number = |name: &str| inner.get(name)?.as_u64();
    Citation {
        url: text("url"),
        title: text("title").or_else(|| text("filename")),
        cited_text: None,
        start: number("start_index"),
        end: number("end_index"),
        own: None,
    }
}
