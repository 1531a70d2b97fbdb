//! A stream of Cohere's chat -> events of the form.

use serde::Deserialize;
use serde_json::Value;

use super::answer_read::WireCall;
use super::words::{WireUsage, citation, stop};
use crate::sse::event_type;
use crate::translate::form::{Event, Open, Start, Stop};

#[derive(Debug, Default)]
pub(in crate::translate) struct Reader {
    open: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call,
}

#[derive(Deserialize)]
struct Told {
    id: Option<String>,
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Delta {
    message: Option<Message>,
    finish_reason: Option<String>,
    error: Option<String>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Content>,
    tool_plan: Option<String>,
    tool_calls: Option<Calls>,
    citations: Option<Value>,
}

/// A block; at the very beginning of a message, an empty list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Block(Block),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Block {
    text: Option<String>,
    thinking: Option<String>,
}

/// A call; at the very beginning of a message, an empty list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Calls {
    Call(WireCall),
    Other(serde::de::IgnoredAny),
}

impl Reader {
    /// False for an event that cannot be read.
    pub(in crate::translate) fn push(
        &mut self,
        name: &[u8],
        data: &[u8],
        out: &mut Vec<Event>,
    ) -> bool {
        let kind = event_type(name, data).to_vec();
        if kind == b"debug" {
            return true;
        }
        let Ok(told) = serde_json::from_slice::<Told>(data) else { return false };
        let delta = told.delta;
        match kind.as_slice() {
            b"message-start" => {
                let id = told.id.unwrap_or_default();
                out.push(Event::Start(Start { id, ..Start::default() }));
            }
            b"message-end" => {
                self.close(out);
                let Some(delta) = delta else { return false };
                out.extend(delta.usage.map(|usage| Event::Usage(usage.into_form())));
                let reason = delta.finish_reason.as_deref().unwrap_or("COMPLETE");
                match stop(reason, delta.error.as_deref()) {
                    Stop::Failed(error) => out.push(Event::Error(error)),
                    stop => out.extend([Event::Stop(stop), Event::End]),
                }
            }
            b"content-end" | b"tool-call-end" => self.close(out),
            b"content-start" | b"content-delta" | b"tool-plan-delta" | b"tool-call-start"
            | b"tool-call-delta" | b"citation-start" => {
                let Some(message) = delta.and_then(|delta| delta.message) else { return false };
                self.message(&kind, message, out);
            }
            // What may come in the future is passed over.
            _ => {}
        }
        true
    }

    fn message(&mut self, kind: &[u8], message: Message, out: &mut Vec<Event>) {
        if let Some(Content::Block(block)) = message.content {
            self.said(Kind::Thinking, block.thinking, out);
            self.said(Kind::Text, block.text, out);
        }
        self.said(Kind::Thinking, message.tool_plan, out);
        if let Some(Calls::Call(call)) = message.tool_calls {
            let function = call.function;
            let (name, arguments) =
                function.map_or((None, None), |function| (function.name, function.arguments));
            if kind == b"tool-call-start" {
                self.close(out);
                self.open = Some(Kind::Call);
                let (id, name) = (call.id.unwrap_or_default(), name.unwrap_or_default());
                out.push(Event::Open(Open::ToolCall { id, name, is_custom: false }));
            }
            if let Some(text) = arguments
                && self.open == Some(Kind::Call)
                && !text.is_empty()
            {
                out.push(Event::Delta(text));
            }
        }
        if let Some(told) = message.citations
            && self.open == Some(Kind::Text)
        {
            out.push(Event::Citation(Box::new(citation(&told))));
        }
    }

    fn said(&mut self, kind: Kind, text: Option<String>, out: &mut Vec<Event>) {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        if self.open != Some(kind) {
            self.close(out);
            self.open = Some(kind);
            out.push(Event::Open(match kind {
                Kind::Thinking => Open::Thinking { id: None, is_redacted: false },
                Kind::Text | Kind::Call => Open::Text,
            }));
        }
        out.push(Event::Delta(text));
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        if self.open.take().is_some() {
            out.push(Event::Close);
        }
    }
}
