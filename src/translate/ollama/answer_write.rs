//! The form -> an answer of `/api/chat` or `/api/generate`.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::translate::Echo;
use crate::translate::fields::put;
use crate::translate::form::{Answer, Part, Stop, ToolCall, Usage};

pub(in crate::translate) fn write(answer: &Answer, echo: &Echo) -> Value {
    let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for piece in &answer.pieces {
        match &piece.part {
            Part::Text { text: more, .. } | Part::Refusal(more) => text.push_str(more),
            Part::Thinking(thought) => thinking.push_str(&thought.text),
            Part::ToolCall(called) => calls.push(call(called)),
            Part::Search { .. } | Part::Media(_) | Part::ToolResult(_) | Part::Only(_) => {}
        }
    }
    let mut line = head(&answer.model, echo);
    said(&text, &thinking, calls, echo, &mut line);
    end(&answer.stop, &answer.usage.unwrap_or_default(), &mut line);
    Value::Object(line)
}

pub(super) fn head(model: &str, echo: &Echo) -> Map<String, Value> {
    let seconds = i64::try_from(echo.created).unwrap_or(0);
    let at = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let at = at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
    Map::from_iter([("model".to_owned(), model.into()), ("created_at".to_owned(), at.into())])
}

/// What was said: in a message, or, of `/api/generate`, beside the rest.
pub(super) fn said(
    text: &str,
    thinking: &str,
    calls: Vec<Value>,
    echo: &Echo,
    line: &mut Map<String, Value>,
) {
    let thinking = Some(thinking).filter(|text| !text.is_empty());
    if echo.is_prompt {
        line.insert("response".to_owned(), text.into());
        put(line, "thinking", thinking);
    } else {
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        message.insert("content".to_owned(), text.into());
        put(&mut message, "thinking", thinking);
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), calls.into());
        }
        line.insert("message".to_owned(), message.into());
    }
}

pub(super) fn call(call: &ToolCall) -> Value {
    let arguments = serde_json::from_str::<Value>(&call.arguments).ok().filter(Value::is_object);
    let arguments = arguments.unwrap_or_else(|| match call.arguments.as_str() {
        "" => json!({}),
        text => json!({"input": text}),
    });
    json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}})
}

/// How it ended. Of durations only the provider knows.
pub(super) fn end(stop: &Stop, usage: &Usage, line: &mut Map<String, Value>) {
    let reason = match stop {
        Stop::MaxTokens | Stop::Window | Stop::Pause | Stop::Cancelled => "length",
        Stop::Refusal | Stop::Filter => "content_filter",
        Stop::End | Stop::Sequence(_) | Stop::ToolUse | Stop::Failed(_) => "stop",
    };
    line.insert("done".to_owned(), true.into());
    line.insert("done_reason".to_owned(), reason.into());
    for name in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
        line.insert(name.to_owned(), 0.into());
    }
    line.insert("prompt_eval_count".to_owned(), usage.input.unwrap_or(0).into());
    line.insert("eval_count".to_owned(), usage.output.unwrap_or(0).into());
}
