//! The mock's own HTTP calls, under `/_mock/`, for clients that cannot call the library.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::behaviour::Behaviour;
use super::journal::{End, Entry};
use super::shared::Shared;

/// An [`Entry`] as JSON: the body as text.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    connection: u64,
    method: &'a str,
    path: &'a str,
    headers: &'a [(String, String)],
    body: String,
    body_bytes: u64,
    /// Sixteen hexadecimal digits: JSON's numbers lose the low bits.
    body_fnv: String,
    is_chunked: bool,
    model: &'a str,
    sent_bytes: u64,
    end: End,
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self {
            seq: entry.seq,
            connection: entry.connection,
            method: &entry.method,
            path: &entry.path,
            headers: &entry.headers,
            body: String::from_utf8_lossy(&entry.body).into_owned(),
            body_bytes: entry.body_bytes,
            body_fnv: format!("{:016x}", entry.body_fnv),
            is_chunked: entry.is_chunked,
            model: &entry.model,
            sent_bytes: entry.sent_bytes,
            end: entry.end,
        }
    }
}

/// Status and JSON body of the answer.
pub(super) fn answer(shared: &Shared, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    match (method, path) {
        ("GET", "/_mock/journal") => {
            let entries = shared.journal.entries();
            let lines: Vec<_> = entries.iter().map(Line::of).collect();
            let text = serde_json::to_string(&lines).expect("lines of plain fields are JSON");
            (200, text)
        }
        ("DELETE", "/_mock/journal") => {
            shared.journal.entries().clear();
            done()
        }
        ("POST", "/_mock/default") => {
            apply(body, |behaviour: Behaviour| shared.set_default(behaviour))
        }
        ("POST", "/_mock/script") => apply(body, |list: Vec<Behaviour>| shared.set_list(list)),
        ("POST", "/_mock/faults") => match serde_json::from_slice(body) {
            Ok(members) => match shared.faults.set(members) {
                Ok(()) => done(),
                Err(error) => (400, message(&error.to_string())),
            },
            Err(error) => (400, message(&error.to_string())),
        },
        _ => (404, message("there is no such call")),
    }
}

fn apply<T: DeserializeOwned>(body: &[u8], set: impl FnOnce(T)) -> (u16, String) {
    match serde_json::from_slice(body) {
        Ok(value) => {
            set(value);
            done()
        }
        Err(error) => (400, message(&error.to_string())),
    }
}

fn done() -> (u16, String) {
    (200, "{}".to_owned())
}

fn message(text: &str) -> String {
    serde_json::json!({ "error": text }).to_string()
}
