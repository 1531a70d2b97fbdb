//! The form -> a message.

use serde_json::{Value, json};

use super::words;
use crate::dialect::Dialect;
use crate::translate::form::{Answer, Part, Seal, Stop, Thinking};
use crate::translate::{Echo, ids};

pub(in crate::translate) fn write(answer: &Answer, _echo: &Echo) -> Value {
    let mut content = Vec::with_capacity(answer.pieces.len());
    let mut has_refused = false;
    for piece in &answer.pieces {
        match &piece.part {
            Part::Text { text, .. } if text.is_empty() => {}
            Part::Text { text, citations } => {
                let mut block = json!({"type": "text", "text": text});
                let citations: Vec<Value> = citations.iter().filter_map(words::citation).collect();
                if let (false, Some(map)) = (citations.is_empty(), block.as_object_mut()) {
                    map.insert("citations".to_owned(), citations.into());
                }
                content.push(block);
            }
            Part::Refusal(text) => {
                has_refused = true;
                content.push(json!({"type": "text", "text": text}));
            }
            Part::ToolCall(call) => content.push(json!({
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": input(&call.arguments),
            })),
            Part::Thinking(thinking) => content.push(thinking_block(thinking)),
            // Without what was found, a search would be refused when it is sent back.
            Part::Search { .. } | Part::Media(_) | Part::ToolResult(_) | Part::Only(_) => {}
        }
    }
    let (reason, sequence) = match &answer.stop {
        Stop::End if has_refused => ("refusal", None),
        stop => words::stop_reason(stop),
    };
    json!({
        "id": ids::message(&answer.id),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": words::usage(&answer.usage.unwrap_or_default()),
    })
}

/// The arguments as an object, which is what they always are here.
fn input(arguments: &str) -> Value {
    match serde_json::from_str::<Value>(arguments) {
        Ok(value) if value.is_object() => value,
        _ if arguments.is_empty() => json!({}),
        _ => json!({"input": arguments}),
    }
}

fn thinking_block(thinking: &Thinking) -> Value {
    match &thinking.seal {
        Some(seal) if seal.origin == Dialect::Messages && thinking.is_redacted => {
            json!({"type": "redacted_thinking", "data": seal.value})
        }
        _ => {
            let signature = signature(thinking);
            json!({"type": "thinking", "thinking": thinking.text, "signature": signature})
        }
    }
}

/// A thought without a seal gets one that says so: sent back, it is known for what it is.
pub(super) fn signature(thinking: &Thinking) -> String {
    let unsealed = || Seal { origin: Dialect::Chat, value: String::new() }.carried(None);
    thinking.sealed_text(Dialect::Messages).unwrap_or_else(unsealed)
}
