//! Events of the form -> the lines of a stream of `/api/chat` or `/api/generate`.

use serde_json::{Map, Value};

use super::answer_write::{call, end, head, said};
use crate::translate::form::{Event, Open, Stop, ToolCall, Usage, WireError};
use crate::translate::text::put_value;
use crate::translate::{Echo, errors};

#[derive(Debug)]
pub(in crate::translate) struct Writer {
    echo: Echo,
    model: String,
    open: Option<Open>,
    /// The arguments of the open call: here they come in one piece.
    arguments: String,
    stop: Stop,
    usage: Usage,
}

impl Writer {
    pub(in crate::translate) fn new(echo: &Echo) -> Self {
        Self {
            echo: echo.clone(),
            model: String::new(),
            open: None,
            arguments: String::new(),
            stop: Stop::End,
            usage: Usage::default(),
        }
    }

    pub(in crate::translate) fn push(&mut self, event: Event, out: &mut String) {
        match event {
            Event::Start(start) => self.model = start.model,
            Event::Open(open) => {
                self.arguments.clear();
                self.open = Some(open);
            }
            Event::Delta(text) => match &self.open {
                Some(Open::Text | Open::Refusal) => self.line(&text, "", Vec::new(), out),
                Some(Open::Thinking { is_redacted: false, .. }) => {
                    self.line("", &text, Vec::new(), out);
                }
                Some(Open::ToolCall { .. }) => self.arguments.push_str(&text),
                Some(Open::Thinking { is_redacted: true, .. } | Open::Search { .. }) | None => {}
            },
            Event::Close => {
                if let Some(Open::ToolCall { id, name, is_custom }) = self.open.take() {
                    let arguments = std::mem::take(&mut self.arguments);
                    let made = ToolCall { id, name, arguments, is_custom, seal: None };
                    self.line("", "", vec![call(&made)], out);
                }
            }
            Event::Usage(usage) => self.usage = self.usage.updated(usage),
            Event::Stop(stop) => self.stop = stop,
            Event::Error(error) => Self::error(&error, out),
            Event::Seal(_) | Event::Citation(_) | Event::Ping => {}
            Event::End => self.end(out),
        }
    }

    fn line(&self, text: &str, thinking: &str, calls: Vec<Value>, out: &mut String) {
        let mut line = head(&self.model, &self.echo);
        said(text, thinking, calls, &self.echo, &mut line);
        line.insert("done".to_owned(), false.into());
        put_line(&line, out);
    }

    fn end(&self, out: &mut String) {
        if let Stop::Failed(error) = &self.stop {
            return Self::error(error, out);
        }
        let mut line = head(&self.model, &self.echo);
        said("", "", Vec::new(), &self.echo, &mut line);
        end(&self.stop, &self.usage, &mut line);
        put_line(&line, out);
    }

    fn error(error: &WireError, out: &mut String) {
        put_value(&errors::ollama(error), out);
        out.push('\n');
    }
}

fn put_line(line: &Map<String, Value>, out: &mut String) {
    put_value(line, out);
    out.push('\n');
}
