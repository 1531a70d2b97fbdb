//! A kept answer in the form that a request asks for: one answer or a stream of events.
//!
//! What was kept in the wanted form goes out byte for byte. Otherwise the events are put together to
//! the answer that they spell, or the answer is spelled in few events. What cannot be done so is no
//! hit: `None`.

mod chat;
mod messages;
mod responses;

use bytes::Bytes;
use serde_json::Value;

use crate::dialect::Dialect;
use crate::usage::record::Tokens;

/// How an answer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    /// `has_usage`: one of the events says what was used.
    Events {
        has_usage: bool,
    },
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub is_stream: bool,
    pub has_usage: bool,
}

/// The answer `body` as `wanted`.
pub fn replay(
    dialect: Dialect,
    (form, body): (Form, &Bytes),
    tokens: &Tokens,
    wanted: Wanted,
) -> Option<Bytes> {
    let says_usage = matches!(dialect, Dialect::Chat | Dialect::Completions);
    match (form, wanted.is_stream) {
        (Form::Json, false) => Some(body.clone()),
        (Form::Events { has_usage }, true) if !says_usage || has_usage == wanted.has_usage => {
            Some(body.clone())
        }
        (Form::Json, true) => spelled(dialect, serde_json::from_slice(body).ok()?, wanted),
        (Form::Events { .. }, is_stream) => {
            let answer = put_together(dialect, body, tokens)?;
            if is_stream {
                return spelled(dialect, answer, wanted);
            }
            Some(Bytes::from(answer.to_string()))
        }
    }
}

/// The answer that events spell.
fn put_together(dialect: Dialect, events: &[u8], tokens: &Tokens) -> Option<Value> {
    let events = data(events)?;
    match dialect {
        Dialect::Chat | Dialect::Completions => chat::put_together(dialect, events, tokens),
        Dialect::Messages => messages::put_together(events),
        Dialect::Responses => responses::put_together(events),
        _ => None,
    }
}

/// The events of an answer.
fn spelled(dialect: Dialect, answer: Value, wanted: Wanted) -> Option<Bytes> {
    let text = match dialect {
        Dialect::Chat | Dialect::Completions => chat::spelled(dialect, answer, wanted.has_usage),
        Dialect::Messages => messages::spelled(answer),
        Dialect::Responses => responses::spelled(&answer),
        _ => None,
    }?;
    Some(Bytes::from(text))
}

/// The data of all events, as JSON; the mark at the end of a stream is none.
fn data(events: &[u8]) -> Option<Vec<Value>> {
    let text = std::str::from_utf8(events).ok()?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let data = lines.map(str::trim).filter(|data| !data.is_empty() && *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).ok()).collect()
}

/// Whether a stream says what it used, in an event of its own.
pub fn has_usage(events: &[u8]) -> bool {
    memchr::memmem::rfind(events, b"\"usage\":{").is_some()
        || memchr::memmem::rfind(events, b"\"usage\": {").is_some()
}

/// One event with a name.
fn event(name: &str, data: &Value, into: &mut String) {
    into.push_str("event: ");
    into.push_str(name);
    into.push_str("\ndata: ");
    into.push_str(&data.to_string());
    into.push_str("\n\n");
}

/// Puts `more` at the end of the text `object[field]`.
fn add_text(object: &mut Value, field: &str, more: &str) -> Option<()> {
    let slot = object.as_object_mut()?.entry(field).or_insert(Value::Null);
    match slot {
        Value::String(text) => text.push_str(more),
        slot => *slot = Value::from(more),
    }
    Some(())
}

#[cfg(test)]
mod tests;
