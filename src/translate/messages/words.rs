//! Words of the messages dialect that both directions share.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::translate::form::{Citation, Stop, Usage};

/// Ids are letters, digits, `_` and `-` here; others have dots and colons in theirs.
pub(in crate::translate) fn tool_id(id: &str) -> String {
    id.chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' })
        .collect()
}

/// Usage as it is reported; what a later event leaves out stays.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    output_tokens: Option<u64>,
    server_tool_use: Option<ServerToolUse>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct ServerToolUse {
    web_search_requests: Option<u64>,
}

impl WireUsage {
    pub(super) fn update(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_read_input_tokens =
            later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation.take());
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.server_tool_use = later.server_tool_use.or(self.server_tool_use.take());
    }

    pub(super) fn to_form(&self) -> Usage {
        let cached = self
            .cache_read_input_tokens
            .unwrap_or(0)
            .saturating_add(self.cache_creation_input_tokens.unwrap_or(0));
        Usage {
            input: self.input_tokens.map(|input| input.saturating_add(cached)),
            cache_read: self.cache_read_input_tokens,
            cache_write: self.cache_creation_input_tokens,
            cache_write_1h: self
                .cache_creation
                .as_ref()
                .and_then(|creation| creation.ephemeral_1h_input_tokens),
            output: self.output_tokens,
            searches: self.server_tool_use.as_ref().and_then(|used| used.web_search_requests),
            ..Usage::default()
        }
    }
}

pub(super) fn usage(usage: &Usage) -> Value {
    let mut map = Map::new();
    map.insert("input_tokens".to_owned(), usage.input_uncached().unwrap_or(0).into());
    map.insert("cache_creation_input_tokens".to_owned(), usage.cache_write.unwrap_or(0).into());
    map.insert("cache_read_input_tokens".to_owned(), usage.cache_read.unwrap_or(0).into());
    if let Some(long) = usage.cache_write_1h {
        let short = usage.cache_write.unwrap_or(0).saturating_sub(long);
        map.insert(
            "cache_creation".to_owned(),
            json!({"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}),
        );
    }
    map.insert("output_tokens".to_owned(), usage.output.unwrap_or(0).into());
    if let Some(searches) = usage.searches.filter(|searches| 0 < *searches) {
        map.insert("server_tool_use".to_owned(), json!({"web_search_requests": searches}));
    }
    Value::Object(map)
}

pub(super) fn stop(reason: &str, sequence: Option<String>) -> Stop {
    match reason {
        "max_tokens" => Stop::MaxTokens,
        "model_context_window_exceeded" => Stop::Window,
        "stop_sequence" => Stop::Sequence(sequence),
        "tool_use" => Stop::ToolUse,
        "refusal" => Stop::Refusal,
        "pause_turn" => Stop::Pause,
        _ => Stop::End,
    }
}

/// The reason, and the sequence that was met.
pub(super) fn stop_reason(stop: &Stop) -> (&'static str, Option<&str>) {
    match stop {
        Stop::End | Stop::Failed(_) => ("end_turn", None),
        Stop::Sequence(sequence) => ("stop_sequence", sequence.as_deref()),
        Stop::MaxTokens | Stop::Cancelled => ("max_tokens", None),
        Stop::Window => ("model_context_window_exceeded", None),
        Stop::ToolUse => ("tool_use", None),
        Stop::Refusal | Stop::Filter => ("refusal", None),
        Stop::Pause => ("pause_turn", None),
    }
}

pub(super) fn read_citation(value: &Value) -> Citation {
    let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    Citation {
        url: text("url"),
        title: text("title").or_else(|| text("document_title")),
        cited_text: text("cited_text"),
        start: None,
        end: None,
        own: None,
    }
}

pub(super) fn citation(citation: &Citation) -> Option<Value> {
    let url = citation.url.as_ref()?;
    Some(json!({
        "type": "web_search_result_location",
        "url": url,
        "title": citation.title,
        "cited_text": citation.cited_text.as_deref().unwrap_or_default(),
        "encrypted_index": "",
    }))
}
