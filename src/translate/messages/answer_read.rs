//! A message -> the form.

use serde::Deserialize;
use serde_json::Value;

use super::words::{self, WireUsage};
use crate::dialect::Dialect;
use crate::translate::form::{Answer, Part, Seal, Thinking, ToolCall};

#[derive(Deserialize)]
struct Message {
    id: Option<String>,
    model: Option<String>,
    content: Vec<Block>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    usage: Option<WireUsage>,
}

/// A block of any type.
#[derive(Deserialize)]
pub(super) struct Block {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) text: Option<String>,
    pub(super) citations: Option<Vec<Value>>,
    pub(super) thinking: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) data: Option<String>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) input: Option<Value>,
}

/// `None` for what is no message.
pub(in crate::translate) fn read(body: &[u8]) -> Option<Answer> {
    let message: Message = serde_json::from_slice(body).ok()?;
    let pieces = message.content.into_iter().filter_map(part).map(Into::into).collect();
    let reason = message.stop_reason.as_deref().unwrap_or("end_turn");
    Some(Answer {
        id: message.id.unwrap_or_default(),
        model: message.model.unwrap_or_default(),
        created: None,
        pieces,
        stop: words::stop(reason, message.stop_sequence),
        usage: message.usage.map(|usage| usage.to_form()),
    })
}

/// Blocks that a client of another dialect cannot have asked for are left away.
fn part(block: Block) -> Option<Part> {
    let seal = |text: Option<String>| {
        let text = text.filter(|text| !text.is_empty())?;
        Some(Seal { origin: Dialect::Messages, value: text })
    };
    Some(match block.kind.as_str() {
        "text" => Part::Text {
            text: block.text.unwrap_or_default(),
            citations: block
                .citations
                .unwrap_or_default()
                .iter()
                .map(words::read_citation)
                .collect(),
        },
        "thinking" => Part::Thinking(Thinking {
            text: block.thinking.unwrap_or_default(),
            seal: seal(block.signature),
            ..Thinking::default()
        }),
        "redacted_thinking" => Part::Thinking(Thinking {
            seal: seal(block.data),
            is_redacted: true,
            ..Thinking::default()
        }),
        "tool_use" => Part::ToolCall(ToolCall {
            id: block.id.unwrap_or_default(),
            name: block.name.unwrap_or_default(),
            arguments: block.input.map_or_else(|| "{}".to_owned(), |input| input.to_string()),
            is_custom: false,
            seal: None,
        }),
        "server_tool_use" => {
            Part::Search { id: block.id.unwrap_or_default(), query: query(block.input.as_ref()) }
        }
        _ => return None,
    })
}

pub(super) fn query(input: Option<&Value>) -> String {
    let query = input.and_then(|input| input.get("query")?.as_str());
    query.unwrap_or_default().to_owned()
}
