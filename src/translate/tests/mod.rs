//! What translation gives, in files that are read by people, and what holds for any input.

mod bedrock;
mod golden;
mod matrix;
mod properties;

use serde_json::Value;

use super::{Asked, Host, Quirks, Translation, Upstream};
use crate::dialect::Dialect;

const FRONTS: [Dialect; 5] =
    [Dialect::Chat, Dialect::Responses, Dialect::Messages, Dialect::Gemini, Dialect::Ollama];
const UPSTREAMS: [Dialect; 6] = [
    Dialect::Chat,
    Dialect::Responses,
    Dialect::Messages,
    Dialect::Gemini,
    Dialect::Converse,
    Dialect::Cohere,
];

/// The request of `client` as `upstream` gets it, or the refusal in words.
fn written(
    client: Dialect,
    body: &Value,
    (upstream, model): (Dialect, &str),
) -> Result<Value, String> {
    let mut body = body.clone();
    body["model"] = "m".into();
    let asked = Asked::read(client, body.to_string().as_bytes(), (1_700_000_000, "req"))
        .map_err(|refused| refused.to_string())?;
    let upstream = Upstream { dialect: upstream, model, quirks: &Quirks::OPENAI, host: Host::Own };
    let written = asked.written(&upstream).map_err(|refused| refused.to_string())?;
    Ok(serde_json::from_slice(&written.body).unwrap())
}

/// How the answer to a plain request comes back.
fn translation(client: Dialect, upstream: Dialect) -> Translation {
    let body = match client {
        Dialect::Responses => r#"{"model":"m","input":"hello"}"#,
        Dialect::Messages => {
            r#"{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"hello"}]}"#
        }
        Dialect::Gemini => r#"{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}"#,
        _ => {
            r#"{"model":"m","messages":[{"role":"user","content":"hello"}],
                "stream_options":{"include_usage":true}}"#
        }
    };
    // Ollama has no such field.
    let body = match client {
        Dialect::Ollama => r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#,
        _ => body,
    };
    let asked = Asked::read(client, body.as_bytes(), (1_700_000_000, "req")).unwrap();
    let upstream =
        Upstream { dialect: upstream, model: "m", quirks: &Quirks::COMPATIBLE, host: Host::Own };
    let mut answer = asked.written(&upstream).map(|written| written.answer);
    if let Ok(answer) = &mut answer {
        answer.echo.wants_usage = true;
    }
    answer.unwrap()
}
