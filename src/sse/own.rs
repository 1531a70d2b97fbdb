//! Events that the gateway itself puts into a stream.

use serde_json::json;

use crate::dialect::{Dialect, Envelope, google_status};

/// What a client is told when its stream breaks.
#[derive(Debug, Clone, Copy)]
pub struct OwnError<'a> {
    /// The `type` of the dialect's error body.
    pub kind: &'a str,
    pub code: &'a str,
    pub message: &'a str,
    pub request_id: &'a str,
    /// The number of the event in a Responses stream.
    pub sequence_number: u64,
}

/// The error event of `dialect`, with its blank line.
pub fn error_event(dialect: Dialect, error: &OwnError<'_>) -> Vec<u8> {
    let OwnError { kind, code, message, request_id, sequence_number } = *error;
    if dialect == Dialect::Ollama {
        return format!("{}\n", ascii(&json!({"error": message}).to_string())).into_bytes();
    }
    let (head, body) = match (dialect, dialect.envelope()) {
        (_, Envelope::Anthropic) => (
            "event: error\n",
            json!({
                "type": "error",
                "error": { "type": kind, "message": message },
                "request_id": request_id,
            }),
        ),
        (Dialect::Responses, Envelope::OpenAi) => (
            "event: error\n",
            json!({
                "type": "error",
                "code": code,
                "message": message,
                "param": null,
                "sequence_number": sequence_number,
            }),
        ),
        (_, Envelope::Google) => {
            let status = if code == "upstream_timeout" { 504 } else { 500 };
            let word = google_status(status);
            ("", json!({"error": {"code": status, "message": message, "status": word}}))
        }
        (_, Envelope::OpenAi | Envelope::Ollama) => (
            "",
            json!({
                "error": { "message": message, "type": kind, "param": null, "code": code },
            }),
        ),
    };
    format!("{head}data: {}\n\n", ascii(&body.to_string())).into_bytes()
}

/// `json` with everything beyond ASCII escaped. Some clients end a line at U+0085 or U+2028 too,
/// and a line that ends inside of an event is another event.
fn ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    let mut units = [0; 2];
    for char in json.chars() {
        if char.is_ascii() {
            escaped.push(char);
        } else {
            for unit in char.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}
