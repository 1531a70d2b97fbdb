//! The form -> an answer of `generateContent`.

use serde_json::{Map, Value, json};

use super::{sealed, words};
use crate::translate::Echo;
use crate::translate::fields::put;
use crate::translate::form::{Answer, Part};

pub(in crate::translate) fn write(answer: &Answer, _echo: &Echo) -> Value {
    let mut parts = Vec::with_capacity(answer.pieces.len());
    let (mut queries, mut cited) = (Vec::new(), Vec::new());
    let mut has_refused = false;
    // The seal of a call stands before it in the form, and in it here.
    let mut of_call: Option<(String, String)> = None;
    for piece in &answer.pieces {
        match &piece.part {
            Part::Text { text, citations } => {
                cited.extend(citations.iter().cloned());
                if !text.is_empty() {
                    parts.push(json!({"text": text}));
                }
            }
            Part::Refusal(text) => {
                has_refused = true;
                parts.push(json!({"text": text}));
            }
            Part::ToolCall(call) => {
                let seal = of_call.take().filter(|(id, _)| *id == call.id).map(|(_, seal)| seal);
                parts.push(words::call(call, seal));
            }
            Part::Thinking(thinking) => {
                let seal = sealed::written(thinking);
                match (&thinking.id, seal) {
                    (Some(id), Some(seal)) if thinking.text.is_empty() => {
                        of_call = Some((id.clone(), seal));
                    }
                    (_, seal) => parts.push(thought(&thinking.text, seal)),
                }
            }
            Part::Search { query, .. } => queries.push(query.clone()),
            Part::Media(_) | Part::ToolResult(_) | Part::Only(_) => {}
        }
    }
    let mut choice = Map::new();
    choice.insert("content".to_owned(), json!({"role": "model", "parts": parts}));
    let reason = words::finish_reason(&answer.stop, has_refused);
    choice.insert("finishReason".to_owned(), reason.into());
    choice.insert("index".to_owned(), 0.into());
    put(&mut choice, "groundingMetadata", words::grounding(&queries, &cited));
    json!({
        "candidates": [choice],
        "usageMetadata": words::usage(&answer.usage.unwrap_or_default()),
        "modelVersion": answer.model,
        "responseId": answer.id,
    })
}

pub(super) fn thought(text: &str, seal: Option<String>) -> Value {
    let mut part = Map::new();
    part.insert("text".to_owned(), text.into());
    part.insert("thought".to_owned(), true.into());
    put(&mut part, "thoughtSignature", seal);
    Value::Object(part)
}
