//! Events of the form -> a chat stream.

use serde_json::{Value, json};

use super::answer_write::annotation;
use super::words;
use crate::translate::form::{Event, Open, Start, Stop, Thinking, Usage, WireError};
use crate::translate::text::{put_string, put_value};
use crate::translate::{Echo, errors, ids};

#[derive(Debug)]
pub(in crate::translate) struct Writer {
    /// What every chunk begins with, up to its delta.
    head: String,
    /// What every chunk ends with, but the last.
    tail: &'static str,
    created: u64,
    wants_usage: bool,
    open: Option<Open>,
    thinking: Thinking,
    n_details: usize,
    /// The index of the call under way is one less.
    n_calls: usize,
    text_chars: usize,
    usage: Usage,
}

impl Writer {
    pub(in crate::translate) fn new(echo: &Echo) -> Self {
        Self {
            head: String::new(),
            tail: if echo.wants_usage {
                ",\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n"
            } else {
                ",\"logprobs\":null,\"finish_reason\":null}]}\n\n"
            },
            created: echo.created,
            wants_usage: echo.wants_usage,
            open: None,
            thinking: Thinking::default(),
            n_details: 0,
            n_calls: 0,
            text_chars: 0,
            usage: Usage::default(),
        }
    }

    pub(in crate::translate) fn push(&mut self, event: Event, out: &mut String) {
        match event {
            Event::Start(start) => self.start(&start, out),
            Event::Open(open) => self.open(open, out),
            Event::Delta(text) => self.delta(&text, out),
            Event::Seal(seal) => match &self.open {
                Some(Open::ToolCall { .. }) => {
                    let index = self.n_calls.saturating_sub(1);
                    let extra = words::extra_content(&seal);
                    let call = json!({"index": index, "extra_content": extra});
                    self.value(&json!({"tool_calls": [call]}), out);
                }
                _ => self.thinking.seal = Some(seal),
            },
            Event::Citation(citation) => {
                if let Some(annotation) = annotation(&citation, 0, self.text_chars) {
                    self.value(&json!({"annotations": [annotation]}), out);
                }
            }
            Event::Close => self.close(out),
            Event::Usage(usage) => self.usage = self.usage.updated(usage),
            Event::Stop(stop) => self.stop(&stop, out),
            Event::Error(error) => Self::error(&error, out),
            Event::Ping => out.push_str(": ping\n\n"),
            Event::End => self.end(out),
        }
    }

    fn start(&mut self, start: &Start, out: &mut String) {
        self.head.push_str("data: {\"id\":");
        put_string(&ids::completion(&start.id), &mut self.head);
        let created = start.created.unwrap_or(self.created);
        self.head.push_str(",\"object\":\"chat.completion.chunk\",\"created\":");
        self.head.push_str(&created.to_string());
        self.head.push_str(",\"model\":");
        put_string(&start.model, &mut self.head);
        self.chunk_open(out);
        out.push_str("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}");
        out.push_str(self.tail);
    }

    fn chunk_open(&self, out: &mut String) {
        out.push_str(&self.head);
        out.push_str(",\"choices\":[{\"index\":0,\"delta\":");
    }

    /// One chunk with one text in its delta.
    fn text(&self, name: &str, text: &str, out: &mut String) {
        self.chunk_open(out);
        out.push_str("{\"");
        out.push_str(name);
        out.push_str("\":");
        put_string(text, out);
        out.push('}');
        out.push_str(self.tail);
    }

    fn value(&self, delta: &Value, out: &mut String) {
        self.chunk_open(out);
        put_value(delta, out);
        out.push_str(self.tail);
    }

    fn open(&mut self, open: Open, out: &mut String) {
        match &open {
            Open::ToolCall { id, name, .. } => {
                let function = json!({"name": name, "arguments": ""});
                let call = json!({
                    "index": self.n_calls, "id": id, "type": "function", "function": function,
                });
                self.n_calls += 1;
                self.value(&json!({"tool_calls": [call]}), out);
            }
            Open::Thinking { id, is_redacted } => {
                self.thinking =
                    Thinking { id: id.clone(), is_redacted: *is_redacted, ..Thinking::default() };
            }
            Open::Text | Open::Refusal | Open::Search { .. } => {}
        }
        self.open = Some(open);
    }

    fn delta(&mut self, text: &str, out: &mut String) {
        match &self.open {
            Some(Open::Text) => {
                self.text_chars += text.chars().count();
                self.text("content", text, out);
            }
            Some(Open::Refusal) => self.text("refusal", text, out),
            Some(Open::Thinking { .. }) => {
                self.thinking.text.push_str(text);
                self.text("reasoning_content", text, out);
            }
            Some(Open::ToolCall { .. }) => {
                self.chunk_open(out);
                out.push_str("{\"tool_calls\":[{\"index\":");
                out.push_str(&self.n_calls.saturating_sub(1).to_string());
                out.push_str(",\"function\":{\"arguments\":");
                put_string(text, out);
                out.push_str("}}]}");
                out.push_str(self.tail);
            }
            Some(Open::Search { .. }) | None => {}
        }
    }

    /// Of a sealed thought, all that a client must send back.
    fn close(&mut self, out: &mut String) {
        if let Some(Open::Thinking { .. }) = self.open.take()
            && self.thinking.seal.is_some()
        {
            let detail = words::detail(&self.thinking, self.n_details);
            self.n_details += 1;
            self.value(&json!({"reasoning_details": [detail]}), out);
        }
    }

    fn stop(&self, stop: &Stop, out: &mut String) {
        if let Stop::Failed(error) = stop {
            return Self::error(error, out);
        }
        self.chunk_open(out);
        out.push_str("{},\"logprobs\":null,\"finish_reason\":\"");
        out.push_str(words::finish_reason(stop));
        out.push_str(if self.wants_usage { "\"}],\"usage\":null}\n\n" } else { "\"}]}\n\n" });
    }

    fn end(&self, out: &mut String) {
        if self.wants_usage {
            out.push_str(&self.head);
            out.push_str(",\"choices\":[],\"usage\":");
            put_value(&words::usage(&self.usage), out);
            out.push_str("}\n\n");
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn error(error: &WireError, out: &mut String) {
        out.push_str("data: ");
        put_value(&errors::openai(error), out);
        out.push_str("\n\n");
    }
}
