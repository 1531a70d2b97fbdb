//! Words of Google's dialect that its writers share.

use serde_json::{Map, Value, json};

use crate::translate::fields::put;
use crate::translate::form::{Citation, Stop, ToolCall, Usage};

pub(super) fn finish_reason(stop: &Stop, has_refused: bool) -> &'static str {
    match stop {
        Stop::End if has_refused => "SAFETY",
        Stop::End | Stop::Sequence(_) | Stop::ToolUse => "STOP",
        // An unfinished turn is not a finished one.
        Stop::MaxTokens | Stop::Window | Stop::Pause | Stop::Cancelled => "MAX_TOKENS",
        Stop::Refusal | Stop::Filter => "SAFETY",
        Stop::Failed(_) => "OTHER",
    }
}

/// Thoughts are counted beside what was said.
pub(super) fn usage(usage: &Usage) -> Value {
    let mut map = Map::new();
    let thoughts = usage.reasoning.unwrap_or(0);
    map.insert("promptTokenCount".to_owned(), usage.input.unwrap_or(0).into());
    put(&mut map, "cachedContentTokenCount", usage.cache_read.filter(|tokens| 0 < *tokens));
    let said = usage.output.unwrap_or(0).saturating_sub(thoughts);
    map.insert("candidatesTokenCount".to_owned(), said.into());
    put(&mut map, "thoughtsTokenCount", usage.reasoning.filter(|tokens| 0 < *tokens));
    map.insert("totalTokenCount".to_owned(), usage.total().unwrap_or(0).into());
    Value::Object(map)
}

pub(super) fn call(call: &ToolCall, seal: Option<String>) -> Value {
    let args = serde_json::from_str::<Value>(&call.arguments).ok().filter(Value::is_object);
    let args = args.unwrap_or_else(|| match call.arguments.as_str() {
        "" => json!({}),
        text => json!({"input": text}),
    });
    let mut part = Map::new();
    let told = json!({"id": call.id, "name": call.name, "args": args});
    part.insert("functionCall".to_owned(), told);
    put(&mut part, "thoughtSignature", seal);
    Value::Object(part)
}

/// What was searched for, and what statements rest on; `None` for neither.
pub(super) fn grounding(queries: &[String], citations: &[Citation]) -> Option<Value> {
    let cited: Vec<&Citation> = citations.iter().filter(|it| it.url.is_some()).collect();
    if queries.is_empty() && cited.is_empty() {
        return None;
    }
    let chunk =
        |citation: &&Citation| json!({"web": {"uri": citation.url, "title": citation.title}});
    let support = |(index, citation): (usize, &&Citation)| {
        let text = citation.cited_text.as_deref().unwrap_or_default();
        json!({"segment": {"text": text}, "groundingChunkIndices": [index]})
    };
    Some(json!({
        "webSearchQueries": queries,
        "groundingChunks": cited.iter().map(chunk).collect::<Vec<_>>(),
        "groundingSupports": cited.iter().enumerate().map(support).collect::<Vec<_>>(),
    }))
}
