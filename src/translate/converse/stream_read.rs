//! A stream of `ConverseStream` -> events of the form.

use serde::Deserialize;
use serde_json::Value;

use super::answer_read::{citation, sealed_by_it};
use super::words::{WireUsage, stop};
use crate::translate::form::{Event, Open, Start};
use crate::translate::sequence::Sequencer;

#[derive(Debug, Default)]
pub(in crate::translate) struct Reader {
    parts: Sequencer,
    has_stopped: bool,
    has_ended: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockBegun {
    content_block_index: u64,
    start: Option<BlockStart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart {
    tool_use: Option<ToolUse>,
}

#[derive(Deserialize)]
struct ToolUse {
    #[serde(rename = "toolUseId")]
    id: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta {
    content_block_index: u64,
    delta: Delta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    text: Option<String>,
    tool_use: Option<Input>,
    reasoning_content: Option<Reasoning>,
    citation: Option<Value>,
}

#[derive(Deserialize)]
struct Input {
    input: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoning {
    text: Option<String>,
    signature: Option<String>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockEnd {
    content_block_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stopped {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    usage: Option<WireUsage>,
}

impl Reader {
    /// False for an event that cannot be read.
    pub(in crate::translate) fn push(
        &mut self,
        name: &[u8],
        data: &[u8],
        out: &mut Vec<Event>,
    ) -> bool {
        match name {
            b"contentBlockDelta" => self.delta(data, out),
            b"contentBlockStart" => self.begin(data, out),
            b"contentBlockStop" => {
                let Ok(end) = serde_json::from_slice::<BlockEnd>(data) else { return false };
                self.parts.close(end.content_block_index, out);
                true
            }
            b"messageStart" => {
                out.push(Event::Start(Start::default()));
                true
            }
            b"messageStop" => {
                let Ok(stopped) = serde_json::from_slice::<Stopped>(data) else { return false };
                self.parts.finish(out);
                let reason = stopped.stop_reason.as_deref().unwrap_or("end_turn");
                self.has_stopped = true;
                out.push(Event::Stop(stop(reason)));
                true
            }
            b"metadata" => {
                let Ok(told) = serde_json::from_slice::<Metadata>(data) else { return false };
                out.extend(told.usage.map(|usage| Event::Usage(usage.into_form())));
                self.finish(out);
                true
            }
            // What may come in the future is passed over.
            _ => true,
        }
    }

    /// The usage comes last, if it comes.
    pub(in crate::translate) fn finish(&mut self, out: &mut Vec<Event>) {
        if self.has_stopped && !self.has_ended {
            self.has_ended = true;
            out.push(Event::End);
        }
    }

    fn begin(&mut self, data: &[u8], out: &mut Vec<Event>) -> bool {
        let Ok(BlockBegun { content_block_index: index, start }) = serde_json::from_slice(data)
        else {
            return false;
        };
        // Of others the first delta tells what they are.
        if let Some(ToolUse { id, name }) = start.and_then(|start| start.tool_use) {
            self.parts.open(index, Open::ToolCall { id, name, is_custom: false }, out);
        }
        true
    }

    fn delta(&mut self, data: &[u8], out: &mut Vec<Event>) -> bool {
        let Ok(BlockDelta { content_block_index: index, delta }) = serde_json::from_slice(data)
        else {
            return false;
        };
        let reasoning = delta.reasoning_content;
        if !self.parts.is_open(index) {
            let open = match &reasoning {
                Some(reasoning) => {
                    let is_redacted = reasoning.redacted_content.is_some();
                    Open::Thinking { id: None, is_redacted }
                }
                // Of a call whose name never came nothing can be told.
                None if delta.tool_use.is_some() => return true,
                None => Open::Text,
            };
            self.parts.open(index, open, out);
        }
        let (thought, sealed) = reasoning.map_or((None, None), |reasoning| {
            (reasoning.text, reasoning.signature.or(reasoning.redacted_content))
        });
        let text = delta.text.or(delta.tool_use.and_then(|call| call.input)).or(thought);
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.parts.push(index, Event::Delta(text), out);
        }
        if let Some(value) = sealed.filter(|value| !value.is_empty()) {
            self.parts.push(index, Event::Seal(sealed_by_it(value)), out);
        }
        if let Some(told) = delta.citation {
            self.parts.push(index, Event::Citation(Box::new(citation(&told))), out);
        }
        true
    }
}
