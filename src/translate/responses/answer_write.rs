//! The form -> a response.

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::translate::form::{Answer, Citation, Part, Stop, Thinking, ToolCall, Usage, WireError};
use crate::translate::{Echo, ids};

pub(in crate::translate) fn write(answer: &Answer, echo: &Echo) -> Value {
    let items: Vec<Value> = answer
        .pieces
        .iter()
        .enumerate()
        .filter_map(|(index, piece)| item(&piece.part, &answer.id, index))
        .collect();
    let head = Head {
        id: &answer.id,
        model: &answer.model,
        created: answer.created.unwrap_or(echo.created),
    };
    response(&head, echo, items, Some((&answer.stop, answer.usage.as_ref())))
}

/// What a response says of itself from its beginning.
pub(super) struct Head<'a> {
    pub(super) id: &'a str,
    pub(super) model: &'a str,
    pub(super) created: u64,
}

/// The object; without an end it is in progress.
pub(super) fn response(
    head: &Head<'_>,
    echo: &Echo,
    output: Vec<Value>,
    end: Option<(&Stop, Option<&Usage>)>,
) -> Value {
    let (status, details, error) = match end.map(|(stop, _)| stop) {
        None => ("in_progress", Value::Null, Value::Null),
        Some(Stop::End | Stop::Sequence(_) | Stop::ToolUse) => {
            ("completed", Value::Null, Value::Null)
        }
        Some(Stop::MaxTokens | Stop::Window | Stop::Pause) => {
            ("incomplete", json!({"reason": "max_output_tokens"}), Value::Null)
        }
        Some(Stop::Refusal | Stop::Filter) => {
            ("incomplete", json!({"reason": "content_filter"}), Value::Null)
        }
        Some(Stop::Cancelled) => ("cancelled", Value::Null, Value::Null),
        Some(Stop::Failed(error)) => ("failed", Value::Null, failed(error)),
    };
    let usage = end.and_then(|(_, usage)| usage).map_or(Value::Null, usage_of);
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("id", ids::response(head.id).into());
    put("object", "response".into());
    put("created_at", head.created.into());
    put("status", status.into());
    put("background", false.into());
    put("error", error);
    put("incomplete_details", details);
    put("model", head.model.into());
    put("output", output.into());
    put("previous_response_id", Value::Null);
    put("store", false.into());
    put("usage", usage);
    for (name, default) in [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("temperature", json!(1.0)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", json!(1.0)),
        ("truncation", json!("disabled")),
        ("user", Value::Null),
    ] {
        put(name, echo.fields.get(name).cloned().unwrap_or(default));
    }
    Value::Object(body)
}

fn failed(error: &WireError) -> Value {
    let code = error.code.as_deref().unwrap_or("server_error");
    json!({"code": code, "message": error.message})
}

pub(super) fn usage_of(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input.unwrap_or(0),
        "input_tokens_details": {"cached_tokens": usage.cache_read.unwrap_or(0)},
        "output_tokens": usage.output.unwrap_or(0),
        "output_tokens_details": {"reasoning_tokens": usage.reasoning.unwrap_or(0)},
        "total_tokens": usage.total().unwrap_or(0),
    })
}

/// The item of a part; a client of this dialect sees no others.
fn item(part: &Part, response: &str, index: usize) -> Option<Value> {
    Some(match part {
        Part::Text { text, citations } => {
            let end = text.chars().count();
            let annotations: Vec<Value> =
                citations.iter().filter_map(|one| annotation(one, 0, end)).collect();
            message_item(response, index, "completed", &[text_part(text, &annotations)])
        }
        Part::Refusal(text) => message_item(response, index, "completed", &[refusal_part(text)]),
        Part::ToolCall(call) => call_item(call, response, index, "completed"),
        Part::Thinking(thinking) => reasoning_item(thinking, response, index),
        Part::Search { id, query } => search_item(id, query, "completed"),
        Part::Media(_) | Part::ToolResult(_) | Part::Only(_) => return None,
    })
}

pub(super) fn message_item(response: &str, index: usize, status: &str, content: &[Value]) -> Value {
    json!({
        "id": ids::item("msg", response, index),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    })
}

pub(super) fn text_part(text: &str, annotations: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": annotations, "logprobs": []})
}

pub(super) fn refusal_part(text: &str) -> Value {
    json!({"type": "refusal", "refusal": text})
}

pub(super) fn call_item(call: &ToolCall, response: &str, index: usize, status: &str) -> Value {
    json!({
        "id": ids::item("fc", response, index),
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    })
}

pub(super) fn reasoning_item(thinking: &Thinking, response: &str, index: usize) -> Value {
    let summary = match thinking.text.as_str() {
        "" => json!([]),
        text => json!([{"type": "summary_text", "text": text}]),
    };
    let mut item = Map::new();
    item.insert("id".to_owned(), ids::item("rs", response, index).into());
    item.insert("type".to_owned(), "reasoning".into());
    item.insert("summary".to_owned(), summary);
    if let Some(sealed) = thinking.sealed_text(Dialect::Responses) {
        item.insert("encrypted_content".to_owned(), sealed.into());
    }
    Value::Object(item)
}

pub(super) fn search_item(id: &str, query: &str, status: &str) -> Value {
    json!({
        "id": id,
        "type": "web_search_call",
        "status": status,
        "action": {"type": "search", "query": query},
    })
}

pub(super) fn annotation(citation: &Citation, start: usize, end: usize) -> Option<Value> {
    let url = citation.url.as_ref()?;
    Some(json!({
        "type": "url_citation",
        "start_index": citation.start.unwrap_or(start as u64),
        "end_index": citation.end.unwrap_or(end as u64),
        "url": url,
        "title": citation.title.as_deref().unwrap_or_default(),
    }))
}
