//! A messages stream -> events of the form.

use serde::Deserialize;
use serde_json::Value;

use super::answer_read::{Block, query};
use super::words::{self, WireUsage};
use crate::dialect::Dialect;
use crate::sse::event_type;
use crate::translate::form::{Event, Open, Seal, Start};
use crate::translate::openai::error;
use crate::translate::sequence::Sequencer;

#[derive(Debug, Default)]
pub(in crate::translate) struct Reader {
    parts: Sequencer,
    usage: WireUsage,
    /// A search is told once its query is complete.
    search: Option<Search>,
}

#[derive(Debug)]
struct Search {
    index: u64,
    id: String,
    input: String,
}

#[derive(Deserialize)]
struct Begun {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    id: Option<String>,
    model: Option<String>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct BlockBegun {
    index: u64,
    content_block: Block,
}

#[derive(Deserialize)]
struct BlockDelta {
    index: u64,
    delta: Delta,
}

#[derive(Deserialize)]
struct Delta {
    text: Option<String>,
    partial_json: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    citation: Option<Value>,
}

#[derive(Deserialize)]
struct BlockEnd {
    index: u64,
}

#[derive(Deserialize)]
struct Ended {
    delta: Option<Stopped>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Stopped {
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

impl Reader {
    /// False for an event that cannot be read.
    pub(in crate::translate) fn push(
        &mut self,
        name: &[u8],
        data: &[u8],
        out: &mut Vec<Event>,
    ) -> bool {
        match event_type(name, data) {
            b"content_block_delta" => self.delta(data, out),
            b"content_block_start" => self.begin(data, out),
            b"content_block_stop" => {
                let Ok(end) = serde_json::from_slice::<BlockEnd>(data) else { return false };
                self.search_ends(end.index, out);
                self.parts.close(end.index, out);
                true
            }
            b"message_start" => {
                let Ok(begun) = serde_json::from_slice::<Begun>(data) else { return false };
                let Message { id, model, usage } = begun.message;
                let (id, model) = (id.unwrap_or_default(), model.unwrap_or_default());
                out.push(Event::Start(Start { id, model, created: None }));
                self.used(usage, out);
                true
            }
            b"message_delta" => {
                let Ok(ended) = serde_json::from_slice::<Ended>(data) else { return false };
                self.used(ended.usage, out);
                if let Some(Stopped { stop_reason: Some(reason), stop_sequence }) = ended.delta {
                    self.parts.finish(out);
                    out.push(Event::Stop(words::stop(&reason, stop_sequence)));
                }
                true
            }
            b"message_stop" => {
                self.parts.finish(out);
                out.push(Event::End);
                true
            }
            b"ping" => {
                out.push(Event::Ping);
                true
            }
            b"error" => {
                let value = serde_json::from_slice(data).unwrap_or_default();
                out.push(Event::Error(Box::new(error(&value))));
                true
            }
            // What may come in the future is passed over, as the dialect asks its readers to.
            _ => true,
        }
    }

    fn used(&mut self, usage: Option<WireUsage>, out: &mut Vec<Event>) {
        if let Some(usage) = usage {
            self.usage.update(usage);
            out.push(Event::Usage(self.usage.to_form()));
        }
    }

    fn begin(&mut self, data: &[u8], out: &mut Vec<Event>) -> bool {
        let Ok(BlockBegun { index, content_block: block }) = serde_json::from_slice(data) else {
            return false;
        };
        let seal = |value: String| Event::Seal(Seal { origin: Dialect::Messages, value });
        let (open, text, sealed) = match block.kind.as_str() {
            "text" => (Open::Text, block.text, None),
            "thinking" => (
                Open::Thinking { id: None, is_redacted: false },
                block.thinking,
                block.signature.filter(|signature| !signature.is_empty()),
            ),
            "redacted_thinking" => {
                (Open::Thinking { id: None, is_redacted: true }, None, block.data)
            }
            "tool_use" => {
                let id = block.id.unwrap_or_default();
                let name = block.name.unwrap_or_default();
                // Usually empty here; the arguments follow.
                let input = block
                    .input
                    .filter(|input| input.as_object().is_some_and(|members| !members.is_empty()));
                let input = input.map(|input| input.to_string());
                (Open::ToolCall { id, name, is_custom: false }, input, None)
            }
            "server_tool_use" => {
                let told = query(block.input.as_ref());
                let input = if told.is_empty() {
                    String::new()
                } else {
                    block.input.map(|input| input.to_string()).unwrap_or_default()
                };
                let id = block.id.unwrap_or_default();
                self.search = Some(Search { index, id, input });
                return true;
            }
            _ => return true,
        };
        self.parts.open(index, open, out);
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.parts.push(index, Event::Delta(text), out);
        }
        if let Some(value) = sealed {
            self.parts.push(index, seal(value), out);
        }
        true
    }

    fn delta(&mut self, data: &[u8], out: &mut Vec<Event>) -> bool {
        let Ok(BlockDelta { index, delta }) = serde_json::from_slice(data) else { return false };
        if let Some(search) = self.search.as_mut().filter(|search| search.index == index) {
            search.input.push_str(&delta.partial_json.unwrap_or_default());
            return true;
        }
        let text = delta.text.or(delta.partial_json).or(delta.thinking);
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.parts.push(index, Event::Delta(text), out);
        }
        if let Some(value) = delta.signature.filter(|signature| !signature.is_empty()) {
            let seal = Seal { origin: Dialect::Messages, value };
            self.parts.push(index, Event::Seal(seal), out);
        }
        if let Some(citation) = delta.citation {
            let citation = Box::new(words::read_citation(&citation));
            self.parts.push(index, Event::Citation(citation), out);
        }
        true
    }

    fn search_ends(&mut self, index: u64, out: &mut Vec<Event>) {
        let Some(search) = self.search.take_if(|search| search.index == index) else { return };
        let input = serde_json::from_str::<Value>(&search.input).ok();
        let query = query(input.as_ref());
        self.parts.open(index, Open::Search { id: search.id, query }, out);
    }
}
