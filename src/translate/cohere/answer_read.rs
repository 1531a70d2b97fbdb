//! An answer of Cohere's chat -> the form.

use serde::Deserialize;
use serde_json::Value;

use super::words::{WireUsage, citation, stop};
use crate::translate::form::{Answer, Part, Thinking, ToolCall};

#[derive(Deserialize)]
struct Chat {
    id: Option<String>,
    finish_reason: Option<String>,
    message: Message,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Vec<Block>>,
    /// What the model means to do with its tools.
    tool_plan: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
    citations: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct Block {
    text: Option<String>,
    thinking: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct WireCall {
    pub(super) id: Option<String>,
    pub(super) function: Option<WireFunction>,
}

#[derive(Deserialize)]
pub(super) struct WireFunction {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
}

/// `None` for what is no answer.
pub(in crate::translate) fn read(body: &[u8]) -> Option<Answer> {
    let chat: Chat = serde_json::from_slice(body).ok()?;
    let message = chat.message;
    let mut parts = Vec::new();
    if let Some(text) = message.tool_plan.filter(|text| !text.is_empty()) {
        parts.push(Part::Thinking(Thinking { text, ..Thinking::default() }));
    }
    let mut citations = message.citations.iter().flatten().map(citation).collect();
    for block in message.content.into_iter().flatten() {
        if let Some(text) = block.thinking {
            parts.push(Part::Thinking(Thinking { text, ..Thinking::default() }));
        }
        if let Some(text) = block.text {
            parts.push(Part::Text { text, citations: std::mem::take(&mut citations) });
        }
    }
    for call in message.tool_calls.into_iter().flatten() {
        let function = call.function?;
        parts.push(Part::ToolCall(ToolCall {
            id: call.id.unwrap_or_default(),
            name: function.name.unwrap_or_default(),
            arguments: function.arguments.unwrap_or_else(|| "{}".to_owned()),
            is_custom: false,
            seal: None,
        }));
    }
    Some(Answer {
        id: chat.id.unwrap_or_default(),
        model: String::new(),
        created: None,
        pieces: parts.into_iter().map(Into::into).collect(),
        stop: stop(chat.finish_reason.as_deref().unwrap_or("COMPLETE"), None),
        usage: chat.usage.map(WireUsage::into_form),
    })
}
