//! A chat stream -> events of the form.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Deserialize;
use serde_json::Value;

use super::answer_read::texts;
use super::words;
use crate::dialect::Dialect;
use crate::translate::form::{Event, Open, Seal, Start};
use crate::translate::openai::{WireUsage, citation, error};
use crate::translate::sequence::{JsonEnd, Sequencer};

const TEXT: u64 = 0;
const REFUSAL: u64 = 1;
const THINKING: u64 = 2;
const CALLS: u64 = 16;

#[derive(Debug, Default)]
pub(in crate::translate) struct Reader {
    has_started: bool,
    has_stopped: bool,
    n_calls: usize,
    parts: Sequencer,
    /// How far the arguments of each call are.
    arguments: HashMap<u64, JsonEnd>,
}

#[derive(Deserialize)]
struct Chunk {
    id: Option<String>,
    model: Option<String>,
    created: Option<u64>,
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
    error: Option<Value>,
    object: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<Value>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    reasoning_details: Option<Vec<Value>>,
    tool_calls: Option<Vec<Call>>,
    annotations: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct Call {
    index: Option<u64>,
    id: Option<String>,
    function: Option<Function>,
    extra_content: Option<Value>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

impl Reader {
    /// False for an event that cannot be read.
    pub(in crate::translate) fn push(
        &mut self,
        name: &[u8],
        data: &[u8],
        out: &mut Vec<Event>,
    ) -> bool {
        if data.trim_ascii() == b"[DONE]" {
            self.parts.finish(out);
            out.push(Event::End);
            return true;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk>(data) else { return false };
        let is_error = name == b"error" || chunk.object.is_some_and(|object| object == "error");
        if is_error || chunk.error.is_some() {
            let value = serde_json::from_slice(data).unwrap_or_default();
            out.push(Event::Error(Box::new(error(&value))));
            return true;
        }
        if !self.has_started {
            self.has_started = true;
            out.push(Event::Start(Start {
                id: chunk.id.unwrap_or_default(),
                model: chunk.model.unwrap_or_default(),
                created: chunk.created,
            }));
        }
        if let Some(choice) = chunk.choices.and_then(|choices| choices.into_iter().next()) {
            if let Some(delta) = choice.delta {
                self.delta(delta, out);
            }
            if let Some(reason) = choice.finish_reason {
                self.finish(&reason, out);
            }
        }
        if let Some(usage) = chunk.usage {
            out.push(Event::Usage(usage.into_form()));
        }
        true
    }

    fn finish(&mut self, reason: &str, out: &mut Vec<Event>) {
        self.parts.finish(out);
        if !self.has_stopped {
            self.has_stopped = true;
            let stop = match words::stop(reason) {
                crate::translate::form::Stop::End if 0 < self.n_calls => {
                    crate::translate::form::Stop::ToolUse
                }
                stop => stop,
            };
            out.push(Event::Stop(stop));
        }
    }

    fn delta(&mut self, delta: Delta, out: &mut Vec<Event>) {
        if let Some(text) = delta.reasoning_content.or(delta.reasoning) {
            self.text(THINKING, text, out);
        }
        for detail in delta.reasoning_details.into_iter().flatten() {
            self.seal_of(&detail, out);
        }
        match delta.content {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => self.text(TEXT, text, out),
            parts => {
                for text in texts(parts) {
                    self.text(TEXT, text, out);
                }
            }
        }
        for annotation in delta.annotations.into_iter().flatten() {
            self.begin(TEXT, Open::Text, out);
            self.parts.push(TEXT, Event::Citation(Box::new(citation(&annotation))), out);
        }
        if let Some(text) = delta.refusal {
            self.text(REFUSAL, text, out);
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(call, out);
        }
    }

    fn text(&mut self, key: u64, text: String, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        let open = match key {
            TEXT => Open::Text,
            REFUSAL => Open::Refusal,
            _ => Open::Thinking { id: None, is_redacted: false },
        };
        self.begin(key, open, out);
        self.parts.push(key, Event::Delta(text), out);
    }

    /// A seal belongs to the thought that has just been told.
    fn seal_of(&mut self, detail: &Value, out: &mut Vec<Event>) {
        let text = |name: &str| detail.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
        let Some(seal) = text("signature").or_else(|| text("data")) else { return };
        let (seal, id) = Seal::read(seal, Dialect::Chat);
        self.begin(THINKING, Open::Thinking { id, is_redacted: false }, out);
        self.parts.push(THINKING, Event::Seal(seal), out);
    }

    /// Opens the part `key` unless it is, and ends what is over with that.
    fn begin(&mut self, key: u64, open: Open, out: &mut Vec<Event>) {
        if self.parts.is_open(key) {
            return;
        }
        if let Some(current) = self.parts.current()
            && (current < CALLS || self.is_complete(current))
        {
            self.parts.close(current, out);
        }
        self.parts.open(key, open, out);
    }

    fn is_complete(&self, key: u64) -> bool {
        self.arguments.get(&key).is_some_and(|end| end.is_complete())
    }

    fn call(&mut self, call: Call, out: &mut Vec<Event>) {
        let Call { index, id, function, extra_content } = call;
        let (name, arguments) =
            function.map_or((None, None), |function| (function.name, function.arguments));
        // Some leave the index away, and then every call with a name is another one.
        let is_named = name.as_ref().is_some_and(|name| !name.is_empty());
        let last = (self.n_calls as u64).saturating_sub(u64::from(!is_named));
        let key = CALLS.saturating_add(index.unwrap_or(last));
        if let Entry::Vacant(entry) = self.arguments.entry(key) {
            entry.insert(JsonEnd::default());
            let id = id.filter(|id| !id.is_empty());
            let id = id.unwrap_or_else(|| format!("call_{}", self.n_calls));
            self.n_calls += 1;
            let name = name.unwrap_or_default();
            self.begin(key, Open::ToolCall { id, name, is_custom: false }, out);
        }
        let signature =
            |extra: &Value| Some(extra.pointer("/google/thought_signature")?.as_str()?.to_owned());
        if let Some(text) = extra_content.as_ref().and_then(signature) {
            self.parts.push(key, Event::Seal(Seal::read(&text, Dialect::Chat).0), out);
        }
        let Some(arguments) = arguments.filter(|arguments| !arguments.is_empty()) else { return };
        if let Some(end) = self.arguments.get_mut(&key) {
            end.push(&arguments);
        }
        self.parts.push(key, Event::Delta(arguments), out);
        if self.parts.has_waiting() && self.parts.current() == Some(key) && self.is_complete(key) {
            self.parts.close(key, out);
        }
    }
}
