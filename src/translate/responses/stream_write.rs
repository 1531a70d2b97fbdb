//! Events of the form -> a responses stream.

use serde_json::{Map, Value, json};

use super::answer_write::{
    Head, annotation, call_item, message_item, reasoning_item, refusal_part, response, search_item,
    text_part,
};
use crate::translate::form::{
    Event, Open, Seal, Start, Stop, Thinking, ToolCall, Usage, WireError,
};
use crate::translate::text::{put_string, put_value};
use crate::translate::{Echo, ids};

#[derive(Debug)]
pub(in crate::translate) struct Writer {
    echo: Echo,
    start: Start,
    n_events: u64,
    /// Items that are done.
    output: Vec<Value>,
    open: Option<Open>,
    /// Of the item that is open.
    item_id: String,
    text: String,
    annotations: Vec<Value>,
    seal: Option<Seal>,
    stop: Stop,
    usage: Option<Usage>,
}

impl Writer {
    pub(in crate::translate) fn new(echo: &Echo) -> Self {
        Self {
            echo: echo.clone(),
            start: Start::default(),
            n_events: 0,
            output: Vec::new(),
            open: None,
            item_id: String::new(),
            text: String::new(),
            annotations: Vec::new(),
            seal: None,
            stop: Stop::End,
            usage: None,
        }
    }

    pub(in crate::translate) const fn n_events(&self) -> u64 {
        self.n_events
    }

    pub(in crate::translate) fn push(&mut self, event: Event, out: &mut String) {
        match event {
            Event::Start(start) => {
                self.start = start;
                let begun = self.response(false);
                self.event("response.created", json!({"response": begun}), out);
                self.event("response.in_progress", json!({"response": begun}), out);
            }
            Event::Open(open) => self.open(open, out),
            Event::Delta(text) => self.delta(&text, out),
            Event::Seal(seal) => self.seal = Some(seal),
            Event::Citation(citation) => {
                let Some(found) = annotation(&citation, 0, self.text.chars().count()) else {
                    return;
                };
                let members =
                    json!({"annotation_index": self.annotations.len(), "annotation": found});
                self.annotations.push(found);
                self.part_event("response.output_text.annotation.added", members, out);
            }
            Event::Close => self.close(out),
            Event::Usage(usage) => {
                self.usage = Some(self.usage.take().unwrap_or_default().updated(usage));
            }
            Event::Stop(stop) => self.stop = stop,
            Event::Error(error) => self.error(&error, out),
            Event::Ping => out.push_str(": ping\n\n"),
            Event::End => self.end(out),
        }
    }

    fn response(&self, is_done: bool) -> Value {
        let head = Head {
            id: &self.start.id,
            model: &self.start.model,
            created: self.start.created.unwrap_or(self.echo.created),
        };
        let end = is_done.then_some((&self.stop, self.usage.as_ref()));
        response(&head, &self.echo, self.output.clone(), end)
    }

    fn event(&mut self, name: &str, members: Value, out: &mut String) {
        let mut event = Map::new();
        event.insert("type".to_owned(), name.into());
        event.insert("sequence_number".to_owned(), self.n_events.into());
        self.n_events += 1;
        if let Value::Object(members) = members {
            event.extend(members);
        }
        out.push_str("event: ");
        out.push_str(name);
        out.push_str("\ndata: ");
        put_value(&event, out);
        out.push_str("\n\n");
    }

    /// The index of the item that is open.
    fn index(&self) -> usize {
        self.output.len()
    }

    fn item_event(&mut self, name: &str, item: &Value, out: &mut String) {
        let members = json!({"output_index": self.index(), "item": item});
        self.event(name, members, out);
    }

    /// An event about the only part of the item that is open.
    fn part_event(&mut self, name: &str, more: Value, out: &mut String) {
        let part =
            if name.starts_with("response.reasoning") { "summary_index" } else { "content_index" };
        let mut members = Map::new();
        members.insert("item_id".to_owned(), self.item_id.as_str().into());
        members.insert("output_index".to_owned(), self.index().into());
        if !name.starts_with("response.function_call") {
            members.insert(part.to_owned(), 0.into());
        }
        if let Value::Object(more) = more {
            members.extend(more);
        }
        self.event(name, Value::Object(members), out);
    }

    fn open(&mut self, open: Open, out: &mut String) {
        self.text.clear();
        self.annotations.clear();
        self.seal = None;
        let id = self.start.id.clone();
        let index = self.index();
        let (prefix, item) = match &open {
            Open::Text | Open::Refusal => ("msg", message_item(&id, index, "in_progress", &[])),
            Open::Thinking { .. } => ("rs", reasoning_item(&Thinking::default(), &id, index)),
            Open::ToolCall { id: call, name, .. } => {
                let call = tool_call(call, name, String::new());
                ("fc", call_item(&call, &id, index, "in_progress"))
            }
            Open::Search { id: search, query } => ("ws", search_item(search, query, "in_progress")),
        };
        self.item_id = ids::item(prefix, &id, index);
        self.item_event("response.output_item.added", &item, out);
        match &open {
            Open::Text => {
                let part = json!({"part": text_part("", &[])});
                self.part_event("response.content_part.added", part, out);
            }
            Open::Refusal => {
                let part = json!({"part": refusal_part("")});
                self.part_event("response.content_part.added", part, out);
            }
            Open::Thinking { .. } | Open::ToolCall { .. } | Open::Search { .. } => {}
        }
        self.open = Some(open);
    }

    fn delta(&mut self, text: &str, out: &mut String) {
        let name = match &self.open {
            Some(Open::Text) => "response.output_text.delta",
            Some(Open::Refusal) => "response.refusal.delta",
            Some(Open::Thinking { .. }) => {
                if self.text.is_empty() {
                    let part = json!({"part": {"type": "summary_text", "text": ""}});
                    self.part_event("response.reasoning_summary_part.added", part, out);
                }
                "response.reasoning_summary_text.delta"
            }
            Some(Open::ToolCall { .. }) => "response.function_call_arguments.delta",
            Some(Open::Search { .. }) | None => return,
        };
        self.text.push_str(text);
        out.push_str("event: ");
        out.push_str(name);
        out.push_str("\ndata: {\"type\":\"");
        out.push_str(name);
        out.push_str("\",\"sequence_number\":");
        out.push_str(&self.n_events.to_string());
        self.n_events += 1;
        out.push_str(",\"item_id\":\"");
        out.push_str(&self.item_id);
        out.push_str("\",\"output_index\":");
        out.push_str(&self.index().to_string());
        out.push_str(match name {
            "response.reasoning_summary_text.delta" => ",\"summary_index\":0,\"delta\":",
            "response.function_call_arguments.delta" => ",\"delta\":",
            _ => ",\"content_index\":0,\"delta\":",
        });
        put_string(text, out);
        out.push_str(if name == "response.output_text.delta" { ",\"logprobs\":[]}" } else { "}" });
        out.push_str("\n\n");
    }

    fn close(&mut self, out: &mut String) {
        let Some(open) = self.open.take() else { return };
        let id = self.start.id.clone();
        let index = self.index();
        let text = std::mem::take(&mut self.text);
        let item = match open {
            Open::Text => {
                let annotations = std::mem::take(&mut self.annotations);
                let done = json!({"text": text, "logprobs": []});
                self.part_event("response.output_text.done", done, out);
                let part = text_part(&text, &annotations);
                self.part_event("response.content_part.done", json!({"part": part}), out);
                message_item(&id, index, "completed", &[part])
            }
            Open::Refusal => {
                self.part_event("response.refusal.done", json!({"refusal": text}), out);
                let part = refusal_part(&text);
                self.part_event("response.content_part.done", json!({"part": part}), out);
                message_item(&id, index, "completed", &[part])
            }
            Open::Thinking { id: thought, is_redacted } => {
                if !text.is_empty() {
                    let done = json!({"text": text});
                    self.part_event("response.reasoning_summary_text.done", done, out);
                    let part = json!({"part": {"type": "summary_text", "text": text}});
                    self.part_event("response.reasoning_summary_part.done", part, out);
                }
                let seal = self.seal.take();
                reasoning_item(&Thinking { id: thought, text, seal, is_redacted }, &id, index)
            }
            Open::ToolCall { id: call, name, .. } => {
                let done = json!({"name": name, "arguments": text});
                self.part_event("response.function_call_arguments.done", done, out);
                call_item(&tool_call(&call, &name, text), &id, index, "completed")
            }
            Open::Search { id: search, query } => search_item(&search, &query, "completed"),
        };
        self.item_event("response.output_item.done", &item, out);
        self.output.push(item);
    }

    fn end(&mut self, out: &mut String) {
        let response = self.response(true);
        let name = match response.get("status").and_then(Value::as_str) {
            Some("failed") => "response.failed",
            Some("incomplete" | "cancelled") => "response.incomplete",
            _ => "response.completed",
        };
        self.event(name, json!({"response": response}), out);
    }

    fn error(&mut self, error: &WireError, out: &mut String) {
        let code = error.code.as_deref().or(error.kind.as_deref()).unwrap_or("server_error");
        let members = json!({"code": code, "message": error.message, "param": error.param});
        self.event("error", members, out);
    }
}

fn tool_call(id: &str, name: &str, arguments: String) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments, is_custom: false, seal: None }
}
