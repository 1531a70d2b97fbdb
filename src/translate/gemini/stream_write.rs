//! Events of the form -> a stream of `streamGenerateContent?alt=sse`.

use serde_json::{Map, Value, json};

use super::answer_write::thought;
use super::{sealed, words};
use crate::translate::errors;
use crate::translate::fields::put;
use crate::translate::form::{
    Citation, Event, Open, Seal, Start, Stop, Thinking, ToolCall, Usage, WireError,
};
use crate::translate::text::{put_string, put_value};

#[derive(Debug, Default)]
pub(in crate::translate) struct Writer {
    start: Start,
    open: Option<Open>,
    /// The arguments of the open call: here they come in one piece.
    arguments: String,
    seal: Option<Seal>,
    has_text: bool,
    has_refused: bool,
    /// The seal of the call that comes next.
    of_call: Option<(String, String)>,
    queries: Vec<String>,
    citations: Vec<Citation>,
    stop: Option<Stop>,
    usage: Usage,
}

impl Writer {
    pub(in crate::translate) fn push(&mut self, event: Event, out: &mut String) {
        match event {
            Event::Start(start) => self.start = start,
            Event::Open(open) => self.open(open),
            Event::Delta(text) => self.delta(&text, out),
            Event::Seal(seal) => self.seal = Some(seal),
            Event::Citation(citation) => self.citations.push(*citation),
            Event::Close => self.close(out),
            Event::Usage(usage) => self.usage = self.usage.updated(usage),
            Event::Stop(stop) => self.stop = Some(stop),
            Event::Error(error) => Self::error(&error, out),
            // There is nothing like it here, and Google's SDKs take comments for broken answers.
            Event::Ping => {}
            Event::End => self.end(out),
        }
    }

    fn open(&mut self, open: Open) {
        self.arguments.clear();
        self.seal = None;
        self.has_text = false;
        match &open {
            Open::Refusal => self.has_refused = true,
            Open::Search { query, .. } => self.queries.push(query.clone()),
            Open::Text | Open::Thinking { .. } | Open::ToolCall { .. } => {}
        }
        self.open = Some(open);
    }

    fn delta(&mut self, text: &str, out: &mut String) {
        let more = match &self.open {
            Some(Open::Text | Open::Refusal) => "",
            Some(Open::Thinking { is_redacted: false, .. }) => ",\"thought\":true",
            Some(Open::ToolCall { .. }) => {
                self.arguments.push_str(text);
                return;
            }
            Some(Open::Thinking { is_redacted: true, .. } | Open::Search { .. }) | None => return,
        };
        self.has_text = true;
        out.push_str(
            "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":",
        );
        put_string(text, out);
        out.push_str(more);
        out.push_str("}]},\"index\":0}],\"modelVersion\":");
        put_string(&self.start.model, out);
        out.push_str(",\"responseId\":");
        put_string(&self.start.id, out);
        out.push_str("}\n\n");
    }

    fn close(&mut self, out: &mut String) {
        match self.open.take() {
            Some(Open::ToolCall { id, name, is_custom }) => {
                let seal = self.of_call.take().filter(|(of, _)| *of == id).map(|(_, seal)| seal);
                let arguments = std::mem::take(&mut self.arguments);
                let call = ToolCall { id, name, arguments, is_custom, seal: None };
                self.part(&words::call(&call, seal), out);
            }
            Some(Open::Thinking { id, is_redacted }) => {
                let seal = self.seal.take();
                let thinking = Thinking { id, seal, is_redacted, ..Thinking::default() };
                let Some(seal) = sealed::written(&thinking) else { return };
                match thinking.id {
                    Some(id) if !self.has_text => self.of_call = Some((id, seal)),
                    _ => self.part(&thought("", Some(seal)), out),
                }
            }
            Some(Open::Text | Open::Refusal | Open::Search { .. }) | None => {}
        }
    }

    fn part(&self, part: &Value, out: &mut String) {
        let content = json!({"role": "model", "parts": [part]});
        self.chunk(&json!({"content": content, "index": 0}), Map::new(), out);
    }

    fn chunk(&self, choice: &Value, mut more: Map<String, Value>, out: &mut String) {
        let mut chunk = Map::new();
        chunk.insert("candidates".to_owned(), json!([choice]));
        chunk.append(&mut more);
        chunk.insert("modelVersion".to_owned(), self.start.model.as_str().into());
        chunk.insert("responseId".to_owned(), self.start.id.as_str().into());
        event(&Value::Object(chunk), out);
    }

    fn end(&self, out: &mut String) {
        let stop = self.stop.clone().unwrap_or_default();
        if let Stop::Failed(error) = &stop {
            return Self::error(error, out);
        }
        let mut choice = Map::new();
        choice.insert("content".to_owned(), json!({"role": "model", "parts": [{"text": ""}]}));
        let reason = words::finish_reason(&stop, self.has_refused);
        choice.insert("finishReason".to_owned(), reason.into());
        choice.insert("index".to_owned(), 0.into());
        put(&mut choice, "groundingMetadata", words::grounding(&self.queries, &self.citations));
        let usage = Map::from_iter([("usageMetadata".to_owned(), words::usage(&self.usage))]);
        self.chunk(&choice.into(), usage, out);
    }

    fn error(error: &WireError, out: &mut String) {
        event(&errors::google(error), out);
    }
}

fn event(value: &Value, out: &mut String) {
    out.push_str("data: ");
    put_value(value, out);
    out.push_str("\n\n");
}
