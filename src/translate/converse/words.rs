//! What whole answers and streams of `Converse` share.

use serde::Deserialize;

use crate::translate::form::{Stop, Usage, WireError};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    cache_details: Option<Vec<CacheDetail>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheDetail {
    ttl: Option<String>,
    input_tokens: Option<u64>,
}

impl WireUsage {
    /// Cached tokens are counted beside the input here.
    pub(super) fn into_form(self) -> Usage {
        let cached = [self.cache_read_input_tokens, self.cache_write_input_tokens];
        let cached = cached.into_iter().flatten().fold(0, u64::saturating_add);
        let long = self.cache_details.iter().flatten();
        let long = long.filter(|detail| detail.ttl.as_deref() == Some("1h"));
        Usage {
            input: self.input_tokens.map(|input| input.saturating_add(cached)),
            cache_read: self.cache_read_input_tokens,
            cache_write: self.cache_write_input_tokens,
            cache_write_1h: long
                .filter_map(|detail| detail.input_tokens)
                .reduce(u64::saturating_add),
            output: self.output_tokens,
            ..Usage::default()
        }
    }
}

pub(super) fn stop(reason: &str) -> Stop {
    match reason {
        "tool_use" => Stop::ToolUse,
        "max_tokens" => Stop::MaxTokens,
        "model_context_window_exceeded" => Stop::Window,
        "stop_sequence" => Stop::Sequence(None),
        "guardrail_intervened" | "content_filtered" => Stop::Filter,
        "malformed_model_output" | "malformed_tool_use" => Stop::Failed(Box::new(WireError {
            status: Some(502),
            code: Some(reason.to_owned()),
            message: "the model's answer cannot be read".to_owned(),
            ..WireError::default()
        })),
        _ => Stop::End,
    }
}
