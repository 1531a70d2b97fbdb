//! The form -> a chat completion.

use serde_json::{Map, Value, json};

use super::words;
use crate::translate::form::{Answer, Citation, Part};
use crate::translate::{Echo, ids};

pub(in crate::translate) fn write(answer: &Answer, echo: &Echo) -> Value {
    let mut message = Map::from_iter([("role".to_owned(), "assistant".into())]);
    let mut text = String::new();
    let mut refusal = None::<String>;
    let mut annotations = Vec::new();
    let mut calls = Vec::new();
    let mut thoughts = String::new();
    let mut details = Vec::new();
    for piece in &answer.pieces {
        match &piece.part {
            Part::Text { text: more, citations } => {
                let start = text.chars().count();
                text.push_str(more);
                let end = text.chars().count();
                annotations.extend(citations.iter().filter_map(|one| annotation(one, start, end)));
            }
            Part::Refusal(more) => refusal.get_or_insert_default().push_str(more),
            Part::ToolCall(call) => {
                let mut value = json!({
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                });
                if let (Some(seal), Some(map)) = (&call.seal, value.as_object_mut()) {
                    map.insert("extra_content".to_owned(), words::extra_content(seal));
                }
                calls.push(value);
            }
            Part::Thinking(thinking) => {
                thoughts.push_str(&thinking.text);
                if thinking.seal.is_some() {
                    details.push(words::detail(thinking, details.len()));
                }
            }
            Part::Search { .. } | Part::Media(_) | Part::ToolResult(_) | Part::Only(_) => {}
        }
    }
    let is_silent = text.is_empty() && (!calls.is_empty() || refusal.is_some());
    message.insert("content".to_owned(), if is_silent { Value::Null } else { text.into() });
    if !thoughts.is_empty() {
        message.insert("reasoning_content".to_owned(), thoughts.into());
    }
    if !details.is_empty() {
        message.insert("reasoning_details".to_owned(), details.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    message.insert("refusal".to_owned(), refusal.map_or(Value::Null, Value::from));
    message.insert("annotations".to_owned(), annotations.into());
    let mut body = json!({
        "id": ids::completion(&answer.id),
        "object": "chat.completion",
        "created": answer.created.unwrap_or(echo.created),
        "model": answer.model,
        "choices": [{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": words::finish_reason(&answer.stop),
        }],
    });
    if let (Some(usage), Some(map)) = (&answer.usage, body.as_object_mut()) {
        map.insert("usage".to_owned(), words::usage(usage));
    }
    body
}

/// A citation of what has a URL; chat knows no other. `start` and `end` are those of its text.
pub(super) fn annotation(citation: &Citation, start: usize, end: usize) -> Option<Value> {
    let url = citation.url.as_ref()?;
    let start = citation.start.unwrap_or(start as u64);
    let end = citation.end.unwrap_or(end as u64);
    let title = citation.title.as_deref().unwrap_or_default();
    Some(json!({
        "type": "url_citation",
        "url_citation": {"start_index": start, "end_index": end, "url": url, "title": title},
    }))
}
