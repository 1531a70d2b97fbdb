//! A chat completion -> the form.

use serde::Deserialize;
use serde_json::Value;

use super::words;
use crate::dialect::Dialect;
use crate::translate::fields::Fields;
use crate::translate::form::{Answer, Part, Piece, Seal, Stop, ToolCall};
use crate::translate::openai::{WireUsage, citation};

#[derive(Deserialize)]
struct Completion {
    id: Option<String>,
    model: Option<String>,
    created: Option<u64>,
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Choice {
    message: serde_json::Map<String, Value>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    id: Option<String>,
    function: Function,
    extra_content: Option<Value>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: Option<Value>,
}

/// `None` for what is no completion.
pub(in crate::translate) fn read(body: &[u8]) -> Option<Answer> {
    let completion: Completion = serde_json::from_slice(body).ok()?;
    let choice = completion.choices.into_iter().next()?;
    let mut fields = Fields::new(choice.message, "");
    let mut pieces = words::sealed_thinking(&mut fields).ok()?;
    let citations = fields.list("annotations").ok()?.unwrap_or_default();
    let mut citations: Vec<_> = citations.iter().map(citation).collect();
    for text in texts(fields.take("content")) {
        let citations = std::mem::take(&mut citations);
        pieces.push(Part::Text { text, citations }.into());
    }
    if let Some(refusal) = fields.text("refusal").ok()? {
        pieces.push(Part::Refusal(refusal).into());
    }
    let calls = fields.list("tool_calls").ok()?.unwrap_or_default();
    let has_calls = !calls.is_empty();
    for (index, call) in calls.into_iter().enumerate() {
        pieces.push(tool_call(call, index)?);
    }
    let reason = choice.finish_reason.as_deref().unwrap_or("stop");
    let stop = match words::stop(reason) {
        // Some say `stop` all the same.
        Stop::End if has_calls => Stop::ToolUse,
        stop => stop,
    };
    Some(Answer {
        id: completion.id.unwrap_or_default(),
        model: completion.model.unwrap_or_default(),
        created: completion.created,
        pieces,
        stop,
        usage: completion.usage.map(WireUsage::into_form),
    })
}

fn tool_call(call: Value, index: usize) -> Option<Piece> {
    let call: Call = serde_json::from_value(call).ok()?;
    let signature = |extra: &Value| {
        let text = extra.pointer("/google/thought_signature")?.as_str()?;
        Some(Seal::read(text, Dialect::Chat).0)
    };
    let arguments = match call.function.arguments {
        Some(Value::String(text)) => text,
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let call = ToolCall {
        id: call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{index}")),
        name: call.function.name,
        arguments,
        is_custom: false,
        seal: call.extra_content.as_ref().and_then(signature),
    };
    Some(Part::ToolCall(call).into())
}

/// The texts of a content: a string, or a list of parts.
pub(super) fn texts(content: Option<Value>) -> Vec<String> {
    let texts: Vec<String> = match content {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| Some(part.get("text")?.as_str()?.to_owned())).collect()
        }
        _ => Vec::new(),
    };
    texts.into_iter().filter(|text| !text.is_empty()).collect()
}
