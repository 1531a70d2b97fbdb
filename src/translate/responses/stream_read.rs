//! A responses stream -> events of the form.

use serde::Deserialize;
use serde_json::Value;

use super::answer_read::{Item, Response};
use crate::dialect::Dialect;
use crate::sse::event_type;
use crate::translate::form::{Event, Open, Seal, Start};
use crate::translate::openai::{citation, error};
use crate::translate::sequence::Sequencer;

#[derive(Debug, Default)]
pub(in crate::translate) struct Reader {
    parts: Sequencer,
    has_calls: bool,
    /// The call whose arguments have not begun.
    silent_call: Option<u64>,
}

#[derive(Deserialize)]
struct Whole {
    response: Response,
}

#[derive(Deserialize)]
struct OfItem {
    output_index: u64,
    item: Item,
}

#[derive(Deserialize)]
struct OfPart {
    output_index: u64,
    content_index: Option<u64>,
    summary_index: Option<u64>,
    part: Option<Part>,
    delta: Option<String>,
    annotation: Option<Value>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Parts of one item.
const PARTS_MAX: u64 = 1 << 16;

/// The key of an item, or of one of its parts.
fn key(output_index: u64, content_index: Option<u64>) -> u64 {
    let part = content_index.map_or(0, |index| index.saturating_add(1).min(PARTS_MAX - 1));
    output_index.saturating_mul(PARTS_MAX).saturating_add(part)
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
            b"response.output_text.delta"
            | b"response.refusal.delta"
            | b"response.content_part.added"
            | b"response.content_part.done"
            | b"response.output_text.annotation.added"
            | b"response.function_call_arguments.delta"
            | b"response.reasoning_summary_part.added"
            | b"response.reasoning_summary_text.delta"
            | b"response.reasoning_text.delta" => {
                let Ok(part) = serde_json::from_slice(data) else { return false };
                self.part(event_type(name, data), part, out);
                true
            }
            b"response.output_item.added" | b"response.output_item.done" => {
                let Ok(of_item) = serde_json::from_slice::<OfItem>(data) else { return false };
                if event_type(name, data).ends_with(b".done") {
                    self.item_ends(of_item, out);
                } else {
                    self.item_begins(of_item, out);
                }
                true
            }
            b"response.created" => self.whole(data, out, |_, response, out| {
                out.push(Event::Start(Start {
                    created: response.created(),
                    id: response.id.clone().unwrap_or_default(),
                    model: response.model.clone().unwrap_or_default(),
                }));
            }),
            b"response.completed" | b"response.incomplete" => {
                self.whole(data, out, |reader, response, out| {
                    reader.parts.finish(out);
                    out.extend(response.usage().map(Event::Usage));
                    out.push(Event::Stop(response.stop(reader.has_calls)));
                    out.push(Event::End);
                })
            }
            b"response.failed" | b"error" => {
                let value: Value = serde_json::from_slice(data).unwrap_or_default();
                let told = error(value.get("response").unwrap_or(&value));
                out.push(Event::Error(Box::new(told)));
                true
            }
            b"keepalive" => {
                out.push(Event::Ping);
                true
            }
            // What may come in the future is passed over, as the dialect asks its readers to.
            _ => true,
        }
    }

    fn whole(
        &mut self,
        data: &[u8],
        out: &mut Vec<Event>,
        read: impl FnOnce(&mut Self, &mut Response, &mut Vec<Event>),
    ) -> bool {
        match serde_json::from_slice::<Whole>(data) {
            Ok(mut whole) => {
                read(self, &mut whole.response, out);
                true
            }
            Err(_) => false,
        }
    }

    fn item_begins(&mut self, OfItem { output_index, item }: OfItem, out: &mut Vec<Event>) {
        if item.kind == "function_call" {
            let id = item.call_id.or(item.id).unwrap_or_default();
            let name = item.name.unwrap_or_default();
            let key = key(output_index, None);
            self.has_calls = true;
            self.parts.open(key, Open::ToolCall { id, name, is_custom: false }, out);
            self.silent_call = Some(key);
            if let Some(arguments) = item.arguments.filter(|arguments| !arguments.is_empty()) {
                self.silent_call = None;
                self.parts.push(key, Event::Delta(arguments), out);
            }
        }
    }

    fn item_ends(&mut self, OfItem { output_index, item }: OfItem, out: &mut Vec<Event>) {
        let key = key(output_index, None);
        match item.kind.as_str() {
            "function_call" => {
                let arguments = item.arguments.filter(|arguments| !arguments.is_empty());
                if let (Some(_), Some(arguments)) =
                    (self.silent_call.take_if(|silent| *silent == key), arguments)
                {
                    self.parts.push(key, Event::Delta(arguments), out);
                }
            }
            "reasoning" => {
                if let Some(sealed) = item.encrypted_content.filter(|sealed| !sealed.is_empty()) {
                    self.think(key, item.id, out);
                    let (seal, _) = Seal::read(&sealed, Dialect::Responses);
                    self.parts.push(key, Event::Seal(seal), out);
                }
            }
            "web_search_call" => {
                let query = item.query();
                let id = item.id.unwrap_or_default();
                self.parts.open(key, Open::Search { id, query }, out);
            }
            _ => return,
        }
        self.parts.close(key, out);
    }

    /// Opens a thought unless it is open.
    fn think(&mut self, key: u64, id: Option<String>, out: &mut Vec<Event>) {
        if !self.parts.is_open(key) {
            self.parts.open(key, Open::Thinking { id, is_redacted: false }, out);
        }
    }

    fn part(&mut self, kind: &[u8], part: OfPart, out: &mut Vec<Event>) {
        let item_key = key(part.output_index, None);
        let part_key = key(part.output_index, Some(part.content_index.unwrap_or(0)));
        let is_refusal = part.part.as_ref().is_some_and(|p| p.kind.as_deref() == Some("refusal"));
        match kind {
            b"response.content_part.added" => {
                let kind = part.part.and_then(|part| part.kind);
                match kind.as_deref() {
                    Some("reasoning_text") => self.think(item_key, None, out),
                    _ if is_refusal => self.parts.open(part_key, Open::Refusal, out),
                    _ => self.parts.open(part_key, Open::Text, out),
                }
            }
            b"response.content_part.done" => self.parts.close(part_key, out),
            b"response.output_text.annotation.added" => {
                let citation = Box::new(citation(&part.annotation.unwrap_or_default()));
                self.parts.push(part_key, Event::Citation(citation), out);
            }
            b"response.reasoning_summary_part.added" => {
                self.think(item_key, None, out);
                if part.summary_index.is_some_and(|index| 0 < index) {
                    self.parts.push(item_key, Event::Delta("\n\n".to_owned()), out);
                }
            }
            b"response.reasoning_summary_text.delta" | b"response.reasoning_text.delta" => {
                self.think(item_key, None, out);
                self.delta(item_key, part.delta, out);
            }
            b"response.function_call_arguments.delta" => {
                self.silent_call.take_if(|silent| *silent == item_key);
                self.delta(item_key, part.delta, out);
            }
            _ => {
                // Some begin a text without saying so.
                if !self.parts.is_open(part_key) {
                    let is_refusal = kind == b"response.refusal.delta";
                    let open = if is_refusal { Open::Refusal } else { Open::Text };
                    self.parts.open(part_key, open, out);
                }
                self.delta(part_key, part.delta, out);
            }
        }
    }

    fn delta(&mut self, key: u64, delta: Option<String>, out: &mut Vec<Event>) {
        if let Some(delta) = delta.filter(|delta| !delta.is_empty()) {
            self.parts.push(key, Event::Delta(delta), out);
        }
    }
}
