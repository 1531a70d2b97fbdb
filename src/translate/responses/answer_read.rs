//! A response -> the form.

use serde::Deserialize;
use serde_json::Value;

use crate::dialect::Dialect;
use crate::translate::form::{Answer, Part, Piece, Stop, Thinking, ToolCall, Usage};
use crate::translate::openai::{WireUsage, citation, error};

#[derive(Deserialize)]
pub(super) struct Response {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) created_at: Option<Value>,
    status: Option<String>,
    error: Option<Value>,
    incomplete_details: Option<Incomplete>,
    output: Option<Vec<Item>>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

/// An item of any type.
#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) id: Option<String>,
    content: Option<Vec<Content>>,
    pub(super) summary: Option<Vec<Content>>,
    pub(super) encrypted_content: Option<String>,
    pub(super) call_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
    action: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct Content {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
    refusal: Option<String>,
    annotations: Option<Vec<Value>>,
}

/// `None` for what is no response, or one that is not done.
pub(in crate::translate) fn read(body: &[u8]) -> Option<Answer> {
    let response: Response = serde_json::from_slice(body).ok()?;
    response.output.as_ref()?;
    Some(response.into_answer())
}

impl Response {
    pub(super) fn stop(&self, has_calls: bool) -> Stop {
        let reason = self.incomplete_details.as_ref().and_then(|details| details.reason.as_deref());
        match (self.status.as_deref(), reason) {
            (Some("failed"), _) => {
                let told = self.error.as_ref().map(error).unwrap_or_default();
                Stop::Failed(Box::new(told))
            }
            (Some("cancelled"), _) => Stop::Cancelled,
            (Some("incomplete"), Some("content_filter")) => Stop::Filter,
            (Some("incomplete"), _) => Stop::MaxTokens,
            _ if has_calls => Stop::ToolUse,
            _ => Stop::End,
        }
    }

    pub(super) fn created(&self) -> Option<u64> {
        let created = self.created_at.as_ref()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
        created.as_u64().or_else(|| Some(created.as_f64()? as u64))
    }

    pub(super) fn usage(&mut self) -> Option<Usage> {
        self.usage.take().map(WireUsage::into_form)
    }

    fn into_answer(mut self) -> Answer {
        let mut pieces = Vec::new();
        for item in self.output.take().into_iter().flatten() {
            item.read(&mut pieces);
        }
        let has_calls = pieces.iter().any(|piece| matches!(piece.part, Part::ToolCall(_)));
        Answer {
            created: self.created(),
            stop: self.stop(has_calls),
            usage: self.usage(),
            id: self.id.unwrap_or_default(),
            model: self.model.unwrap_or_default(),
            pieces,
        }
    }
}

impl Item {
    /// Items that a client of another dialect cannot have asked for are left away.
    fn read(self, pieces: &mut Vec<Piece>) {
        let part = match self.kind.as_str() {
            "message" => {
                for content in self.content.into_iter().flatten() {
                    pieces.extend(content.read().map(Piece::from));
                }
                return;
            }
            "function_call" => Part::ToolCall(ToolCall {
                id: self.call_id.or(self.id).unwrap_or_default(),
                name: self.name.unwrap_or_default(),
                arguments: self.arguments.unwrap_or_default(),
                is_custom: false,
                seal: None,
            }),
            "reasoning" => {
                let parts = self.summary.into_iter().flatten();
                let parts = parts.chain(self.content.into_iter().flatten());
                let texts: Vec<String> = parts.filter_map(|part| part.text).collect();
                let text = texts.join("\n\n");
                if text.is_empty() && self.encrypted_content.is_none() {
                    return;
                }
                let sealed = self.encrypted_content;
                let mut thinking = Thinking::sealed(text, sealed, Dialect::Responses);
                thinking.id = self.id;
                Part::Thinking(thinking)
            }
            "web_search_call" => {
                Part::Search { query: self.query(), id: self.id.unwrap_or_default() }
            }
            _ => return,
        };
        pieces.push(part.into());
    }

    pub(super) fn query(&self) -> String {
        let query = self.action.as_ref().and_then(|action| action.get("query")?.as_str());
        query.unwrap_or_default().to_owned()
    }
}

impl Content {
    fn read(self) -> Option<Part> {
        if self.kind.as_deref() == Some("refusal") {
            return self.refusal.map(Part::Refusal);
        }
        let citations = self.annotations.unwrap_or_default().iter().map(citation).collect();
        Some(Part::Text { text: self.text?, citations })
    }
}
