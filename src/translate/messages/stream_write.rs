//! Events of the form -> a messages stream.

use serde_json::{Value, json};

use super::answer_write::signature;
use super::words;
use crate::dialect::Dialect;
use crate::translate::form::{Event, Open, Seal, Start, Stop, Thinking, Usage, WireError};
use crate::translate::text::{put_string, put_value};
use crate::translate::{Echo, errors, ids};

#[derive(Debug)]
pub(in crate::translate) struct Writer {
    index: u64,
    open: Option<Open>,
    /// The start of a block whose type is not certain before more is known of it.
    seal: Option<Seal>,
    is_started: bool,
    has_refused: bool,
    stop: Stop,
    usage: Usage,
    request_id: String,
}

impl Writer {
    pub(in crate::translate) fn new(echo: &Echo) -> Self {
        Self {
            index: 0,
            open: None,
            seal: None,
            is_started: false,
            has_refused: false,
            stop: Stop::End,
            usage: Usage::default(),
            request_id: echo.request_id.clone(),
        }
    }

    pub(in crate::translate) fn push(&mut self, event: Event, out: &mut String) {
        match event {
            Event::Start(start) => self.start(&start, out),
            Event::Open(open) => self.open(open, out),
            Event::Delta(text) => self.delta(&text, out),
            Event::Seal(seal) => self.seal = Some(seal),
            Event::Citation(citation) => {
                if let (Some(Open::Text), Some(citation)) = (&self.open, words::citation(&citation))
                {
                    let delta = json!({"type": "citations_delta", "citation": citation});
                    self.block_delta(&delta, out);
                }
            }
            Event::Close => self.close(out),
            Event::Usage(usage) => self.usage = self.usage.updated(usage),
            Event::Stop(stop) => self.stop = stop,
            Event::Error(error) => self.error(&error, out),
            Event::Ping => event_of("ping", &json!({"type": "ping"}), out),
            Event::End => self.end(out),
        }
    }

    fn start(&mut self, start: &Start, out: &mut String) {
        let message = json!({
            "id": ids::message(&start.id),
            "type": "message",
            "role": "assistant",
            "model": start.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": words::usage(&self.usage),
        });
        event_of("message_start", &json!({"type": "message_start", "message": message}), out);
    }

    fn open(&mut self, open: Open, out: &mut String) {
        self.seal = None;
        self.is_started = false;
        match &open {
            Open::Text | Open::Refusal => {
                self.has_refused |= open == Open::Refusal;
                self.block_start(&json!({"type": "text", "text": ""}), out);
            }
            Open::Thinking { is_redacted: false, .. } => {
                let block = json!({"type": "thinking", "thinking": "", "signature": ""});
                self.block_start(&block, out);
            }
            Open::ToolCall { id, name, .. } => {
                let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.block_start(&block, out);
            }
            // All of a secret thought is in its seal.
            Open::Thinking { is_redacted: true, .. } | Open::Search { .. } => {}
        }
        self.open = Some(open);
    }

    fn block_start(&mut self, block: &Value, out: &mut String) {
        self.is_started = true;
        let event = json!({
            "type": "content_block_start", "index": self.index, "content_block": block,
        });
        event_of("content_block_start", &event, out);
    }

    fn block_delta(&self, delta: &Value, out: &mut String) {
        let event = json!({"type": "content_block_delta", "index": self.index, "delta": delta});
        event_of("content_block_delta", &event, out);
    }

    fn delta(&self, text: &str, out: &mut String) {
        let (kind, field) = match &self.open {
            Some(Open::Text | Open::Refusal) => ("text_delta", "text"),
            Some(Open::Thinking { is_redacted: false, .. }) => ("thinking_delta", "thinking"),
            Some(Open::ToolCall { .. }) => ("input_json_delta", "partial_json"),
            // None of these takes text: a secret thought is all in its seal, a search in its query.
            Some(Open::Thinking { is_redacted: true, .. } | Open::Search { .. }) | None => return,
        };
        out.push_str(
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        out.push_str(&self.index.to_string());
        out.push_str(",\"delta\":{\"type\":\"");
        out.push_str(kind);
        out.push_str("\",\"");
        out.push_str(field);
        out.push_str("\":");
        put_string(text, out);
        out.push_str("}}\n\n");
    }

    fn close(&mut self, out: &mut String) {
        if let Some(Open::Thinking { id, is_redacted }) = self.open.take() {
            let thinking =
                Thinking { id, seal: self.seal.take(), is_redacted, ..Thinking::default() };
            let is_own =
                thinking.seal.as_ref().is_some_and(|seal| seal.origin == Dialect::Messages);
            if self.is_started {
                let signature = signature(&thinking);
                let delta = json!({"type": "signature_delta", "signature": signature});
                self.block_delta(&delta, out);
            } else if is_own && let Some(data) = thinking.sealed_text(Dialect::Messages) {
                self.block_start(&json!({"type": "redacted_thinking", "data": data}), out);
            }
        }
        if self.is_started {
            self.is_started = false;
            let event = json!({"type": "content_block_stop", "index": self.index});
            event_of("content_block_stop", &event, out);
            self.index += 1;
        }
    }

    fn end(&self, out: &mut String) {
        if let Stop::Failed(error) = &self.stop {
            return self.error(error, out);
        }
        let (reason, sequence) = match &self.stop {
            Stop::End if self.has_refused => ("refusal", None),
            stop => words::stop_reason(stop),
        };
        let event = json!({
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": words::usage(&self.usage),
        });
        event_of("message_delta", &event, out);
        event_of("message_stop", &json!({"type": "message_stop"}), out);
    }

    fn error(&self, error: &WireError, out: &mut String) {
        event_of("error", &errors::anthropic(error, &self.request_id), out);
    }
}

fn event_of(name: &str, event: &Value, out: &mut String) {
    out.push_str("event: ");
    out.push_str(name);
    out.push_str("\ndata: ");
    put_value(event, out);
    out.push_str("\n\n");
}
