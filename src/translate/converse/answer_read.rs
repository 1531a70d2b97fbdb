//! An answer of `Converse` -> the form.

use serde::Deserialize;
use serde_json::Value;

use super::words::{WireUsage, stop};
use crate::dialect::Dialect;
use crate::translate::form::{Answer, Citation, Part, Seal, Thinking, ToolCall};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Converse {
    output: Output,
    stop_reason: Option<String>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Output {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Vec<Block>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    text: Option<String>,
    tool_use: Option<ToolUse>,
    reasoning_content: Option<Reasoning>,
    citations_content: Option<Cited>,
}

#[derive(Deserialize)]
struct ToolUse {
    #[serde(rename = "toolUseId")]
    id: String,
    name: String,
    input: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoning {
    reasoning_text: Option<ReasoningText>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningText {
    text: Option<String>,
    signature: Option<String>,
}

/// A text with what it rests on.
#[derive(Deserialize)]
struct Cited {
    content: Option<Vec<CitedText>>,
    citations: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct CitedText {
    text: Option<String>,
}

/// `None` for what is no answer.
pub(in crate::translate) fn read(body: &[u8]) -> Option<Answer> {
    let answer: Converse = serde_json::from_slice(body).ok()?;
    let parts = answer.output.message.content.into_iter().filter_map(part);
    Some(Answer {
        id: String::new(),
        model: String::new(),
        created: None,
        pieces: parts.map(Into::into).collect(),
        stop: stop(answer.stop_reason.as_deref().unwrap_or("end_turn")),
        usage: answer.usage.map(WireUsage::into_form),
    })
}

/// Blocks that a client of another dialect cannot have asked for are left away.
fn part(block: Block) -> Option<Part> {
    if let Some(text) = block.text {
        return Some(Part::text(text));
    }
    if let Some(call) = block.tool_use {
        return Some(Part::ToolCall(ToolCall {
            id: call.id,
            name: call.name,
            arguments: call.input.map_or_else(|| "{}".to_owned(), |input| input.to_string()),
            is_custom: false,
            seal: None,
        }));
    }
    if let Some(reasoning) = block.reasoning_content {
        let is_redacted = reasoning.redacted_content.is_some();
        let (text, sealed) = match reasoning.reasoning_text {
            Some(told) => (told.text.unwrap_or_default(), told.signature),
            None => (String::new(), reasoning.redacted_content),
        };
        let seal = sealed.map(sealed_by_it);
        return Some(Part::Thinking(Thinking { id: None, text, seal, is_redacted }));
    }
    block.citations_content.map(|cited| {
        let texts = cited.content.into_iter().flatten().filter_map(|part| part.text);
        let citations = cited.citations.iter().flatten().map(citation).collect();
        Part::Text { text: texts.collect(), citations }
    })
}

pub(super) fn sealed_by_it(value: String) -> Seal {
    Seal { origin: Dialect::Converse, value }
}

pub(super) fn citation(citation: &Value) -> Citation {
    let text = |at: &str| citation.pointer(at).and_then(Value::as_str).map(str::to_owned);
    Citation {
        url: text("/location/web/url"),
        title: text("/title"),
        cited_text: text("/sourceContent/0/text"),
        ..Citation::default()
    }
}
