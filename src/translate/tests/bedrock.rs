//! What is Amazon's alone: frames around the events, and Anthropic's bodies without some fields.

use std::fs;

use serde_json::{Value, json};

use super::golden::inputs;
use super::{FRONTS, translation};
use crate::dialect::Dialect;
use crate::translate::frames::write::{event, exception};
use crate::translate::{
    Asked, Framing, Host, Quirks, StreamEnd, StreamTranslator, Translation, Upstream,
};

fn framed(client: Dialect, upstream: Dialect) -> Translation {
    Translation { framing: Framing::Aws, ..translation(client, upstream) }
}

fn pushed(mut events: StreamTranslator, bytes: &[u8]) -> (String, StreamEnd) {
    let mut out = String::new();
    events.push(bytes, &mut out);
    events.finish(&mut out);
    (out, events.progress().end.clone())
}

/// The events of a golden stream, each with its name.
fn events(text: &str) -> Vec<(String, String)> {
    let event = |event: &str| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        (field("event: ").unwrap_or_default().to_owned(), field("data: ").unwrap().to_owned())
    };
    text.split("\n\n").filter(|text| !text.is_empty()).map(event).collect()
}

/// Of `converse` the frames have the events; of `invoke` they carry Anthropic's in base64.
#[test]
fn frames_say_what_their_events_say() {
    let mut n_streams = 0;
    for path in inputs("streams", "sse") {
        let text = fs::read_to_string(&path).unwrap();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let dialect = Dialect::from_name(stem.rsplit_once('.').unwrap().1).unwrap();
        let frames: Vec<u8> = match dialect {
            Dialect::Converse => {
                events(&text).iter().flat_map(|(name, data)| event(name, data)).collect()
            }
            Dialect::Messages => {
                let chunk = |data: &str| {
                    use base64::Engine as _;
                    let bytes = base64::engine::general_purpose::STANDARD.encode(data);
                    event("chunk", &json!({"bytes": bytes, "p": "abcd"}).to_string())
                };
                events(&text).iter().flat_map(|(_, data)| chunk(data)).collect()
            }
            _ => continue,
        };
        for client in FRONTS {
            let plain = pushed(translation(client, dialect).events(), text.as_bytes());
            let got = pushed(framed(client, dialect).events(), &frames);
            assert_eq!(got, plain, "{stem} to {}", client.name());
            n_streams += 1;
        }
    }
    assert!(30 < n_streams, "{n_streams}");
}

fn begun() -> Vec<u8> {
    let text = r#"{"contentBlockIndex":0,"delta":{"text":"Hel"}}"#;
    [event("messageStart", r#"{"role":"assistant"}"#), event("contentBlockDelta", text)].concat()
}

fn stopped() -> Vec<u8> {
    event("messageStop", r#"{"stopReason":"end_turn"}"#)
}

/// A stream that was damaged or cut never looks as if it had ended.
#[test]
fn damaged_and_cut_streams_have_no_proper_end() {
    let whole = [begun(), stopped()].concat();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let cut = &whole[..whole.len() - 1];
    for client in FRONTS {
        let end = |bytes: &[u8]| pushed(framed(client, Dialect::Converse).events(), bytes).1;
        assert_eq!(end(&whole), StreamEnd::Proper, "without usage");
        assert_eq!(end(&damaged), StreamEnd::Broken);
        assert_eq!(end(cut), StreamEnd::Broken);
        assert_eq!(end(&begun()), StreamEnd::Open, "cut between two frames");
        let more = [begun(), b"no frame at all".to_vec()].concat();
        assert_eq!(end(&more), StreamEnd::Broken);
    }
}

#[test]
fn exceptions_are_errors_of_the_clients_dialect() {
    for (kind, status, words) in [
        ("throttlingException", 429, ["rate_limit_error", "rate_limit_error"]),
        ("serviceUnavailableException", 503, ["server_error", "overloaded_error"]),
        ("modelStreamErrorException", 500, ["server_error", "api_error"]),
        ("validationException", 400, ["invalid_request_error", "invalid_request_error"]),
    ] {
        let bytes = [begun(), exception(kind, r#"{"message":"no more"}"#), stopped()].concat();
        for (client, word) in [(Dialect::Chat, words[0]), (Dialect::Messages, words[1])] {
            let (out, end) = pushed(framed(client, Dialect::Converse).events(), &bytes);
            let StreamEnd::Error(error) = end else { panic!("{out}") };
            assert_eq!((error.status, error.message.as_str()), (Some(status), "no more"));
            let last = out.trim_end().rsplit("data: ").next().unwrap();
            let last: Value = serde_json::from_str(last).unwrap();
            assert_eq!(last["error"]["type"], word, "{out}");
        }
    }
}

#[test]
fn claude_elsewhere_is_asked_without_its_name() {
    let body = br#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let asked = Asked::read(Dialect::Messages, body, (0, "")).unwrap();
    let written = |host| {
        let upstream = Upstream {
            dialect: Dialect::Messages,
            model: "anthropic.claude-sonnet-4-5-20250929-v1:0",
            quirks: &Quirks::OPENAI,
            host,
        };
        let written = asked.written(&upstream).unwrap();
        let body: Value = serde_json::from_slice(&written.body).unwrap();
        (body, written.answer.stream_type())
    };
    let messages = json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]);
    let (bedrock, kind) = written(Host::Bedrock);
    let expected = json!({
        "messages": messages, "max_tokens": 9, "anthropic_version": "bedrock-2023-05-31",
    });
    assert_eq!((bedrock, kind), (expected, "application/vnd.amazon.eventstream"));
    let (vertex, kind) = written(Host::Vertex);
    let expected = json!({
        "messages": messages, "max_tokens": 9, "stream": true,
        "anthropic_version": "vertex-2023-10-16",
    });
    assert_eq!((vertex, kind), (expected, "text/event-stream"));
}
