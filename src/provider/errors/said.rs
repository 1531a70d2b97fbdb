//! The words of a provider's error, from wherever it puts them.

use serde_json::Value;

use crate::sse::StreamError;

/// Members that hold a code.
const CODES: [&str; 7] = ["__type", "code", "error_code", "error_type", "reason", "status", "type"];
/// Members that hold a message.
const MESSAGES: [&str; 6] = ["Message", "detail", "error", "message", "msg", "error_msg"];
/// Members with more of the error. Nothing else is looked into: it may repeat the request.
const INNER: [&str; 5] = ["error", "errors", "innererror", "details", "response"];
const METADATA: &str = "metadata";
const DEPTH_MAX: u32 = 6;

/// What an error says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    words: Vec<String>,
    /// In lower case.
    messages: Vec<String>,
    members: Vec<String>,
}

impl Said {
    /// The error in a body. `error_type` is what AWS says of it in the head.
    pub fn in_body(error_type: Option<&str>, body: &[u8]) -> Self {
        let mut said = Self::default();
        if let Some(kind) = error_type {
            said.word(kind);
        }
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => said.look(&value, DEPTH_MAX),
            Err(_) => said.message(&String::from_utf8_lossy(body.get(..1000).unwrap_or(body))),
        }
        said
    }

    /// The error in an event of a stream.
    pub fn in_event(error: &StreamError) -> Self {
        let mut said = Self::default();
        for word in [&error.kind, &error.code].into_iter().flatten() {
            said.word(word);
        }
        if let Some(message) = &error.message {
            said.message(message);
        }
        said
    }

    pub(super) fn has_word(&self, word: &str) -> bool {
        self.words.iter().any(|said| said.eq_ignore_ascii_case(word))
    }

    pub(super) fn starts(&self, start: &str) -> bool {
        self.messages.iter().any(|message| message.starts_with(&start.to_ascii_lowercase()))
    }

    pub(super) fn has(&self, part: &str) -> bool {
        self.messages.iter().any(|message| message.contains(&part.to_ascii_lowercase()))
    }

    pub(super) fn has_member(&self, name: &str) -> bool {
        self.members.iter().any(|member| member == name)
    }

    fn look(&mut self, value: &Value, depth: u32) {
        if depth == 0 {
            return;
        }
        match value {
            Value::Array(list) => list.iter().for_each(|value| self.look(value, depth - 1)),
            Value::Object(map) => {
                for (name, value) in map {
                    self.member(name, value, depth);
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, name: &str, value: &Value, depth: u32) {
        match value {
            Value::String(text) if CODES.contains(&name) => self.word(text),
            Value::Number(number) if CODES.contains(&name) => self.word(&number.to_string()),
            Value::String(text) if MESSAGES.contains(&name) => self.message(text),
            Value::Object(map) if name == METADATA => self.members.extend(map.keys().cloned()),
            Value::Array(_) | Value::Object(_) if INNER.contains(&name) => {
                self.look(value, depth - 1);
            }
            _ => {}
        }
    }

    /// AWS puts a namespace before its types, and an address after them.
    fn word(&mut self, text: &str) {
        let text = text.split(':').next().unwrap_or(text);
        let word = text.rsplit('#').next().unwrap_or(text).trim();
        self.words.push(word.to_owned());
    }

    fn message(&mut self, text: &str) {
        self.messages.push(text.trim_start().to_lowercase());
    }
}
