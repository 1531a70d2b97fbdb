//! Errors of providers, judged by what their bodies say and not by their status alone.

use serde_json::{Value, json};
use std::io::Write as _;

use crate::client::{Answer, request};
use crate::harness::TestGateway;
use crate::providers::gateway;
use crate::wire::{Exchange, Wire};

const CREDENTIAL: &str = "credential = \"sk-provider\"";

/// An answer of a provider.
struct Said<'a> {
    status: u16,
    headers: &'a str,
    body: Vec<u8>,
}

fn said(status: u16, body: &Value) -> Said<'static> {
    Said { status, headers: "", body: body.to_string().into_bytes() }
}

/// What a client at `path` gets when its provider says `said`.
async fn answer(gateway: &TestGateway, wire: &mut Wire, path: &str, said: &Said<'_>) -> Answer {
    gateway.expect_rows(1);
    let authorization = gateway.authorization();
    let question = json!({
        "model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}],
    });
    let headers = [("authorization", authorization.as_str()), ("accept-encoding", "gzip")];
    let request = request("POST", path, &headers, question.to_string().as_bytes());
    let client = gateway.client().await;
    let (status, headers, length) = (said.status, said.headers, said.body.len());
    let head = format!(
        "HTTP/1.1 {status} No\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n"
    );
    let respond = async |mut exchange: Exchange| {
        exchange.send(head).await;
        exchange.send(&said.body).await;
    };
    wire.exchange(client, &request, respond).await.2
}

fn openai(kind: &str, code: &str, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

fn anthropic(kind: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

fn gemini(code: u16, status: &str, message: &str, reason: &str) -> Value {
    let details = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]);
    json!({"error": {"code": code, "message": message, "status": status, "details": details}})
}

/// A wrong key and an empty account are ours to mend, whatever status a provider gives them.
#[tokio::test]
async fn what_is_about_the_account_benches_the_connection() {
    let bad_key = gemini(400, "INVALID_ARGUMENT", "API key not valid.", "API_KEY_INVALID");
    let no_money = openai("insufficient_quota", "insufficient_quota", "You exceeded your quota");
    let no_credit = anthropic("invalid_request_error", "Your credit balance is too low to go on");
    for (provider, path, said, class) in [
        ("gemini", "/v1/chat/completions", said(400, &bad_key), "upstream_auth"),
        ("openai", "/v1/chat/completions", said(429, &no_money), "upstream_billing"),
        ("openai", "/v1/messages", said(429, &no_money), "upstream_billing"),
        ("anthropic", "/v1/messages", said(400, &no_credit), "upstream_billing"),
    ] {
        let mut wire = Wire::start().await;
        let gateway = gateway(&wire, "/v1", provider, CREDENTIAL).await;
        let answer = answer(&gateway, &mut wire, path, &said).await;
        assert_eq!(answer.status, 502, "{provider} {path}: {}", answer.text());
        assert!(answer.text().contains("credential or account"), "{}", answer.text());
        let row = gateway.row().await;
        assert_eq!(row["error_class"], class, "{provider} {path}");
        assert_eq!(gateway.metric("sluice_connection_benched_total"), 1.0, "{provider} {path}");
        // The next request does not go there.
        let again = gateway.post(path, &json!({"model": "m", "messages": []}).to_string()).await;
        assert!([502, 503].contains(&again.status), "{}", again.text());
        gateway.stop().await;
    }
}

/// With the caller's own key it is the caller's account.
#[tokio::test]
async fn empty_account_of_the_caller_is_told_to_the_caller() {
    let body = openai("insufficient_quota", "insufficient_quota", "You exceeded your quota");
    let said = said(429, &body);
    let mut wire = Wire::start().await;
    let gateway = gateway(&wire, "/v1", "openai", "auth = \"passthrough\"").await;
    let answer = answer(&gateway, &mut wire, "/v1/chat/completions", &said).await;
    assert_eq!((answer.status, answer.body.as_slice()), (429, said.body.as_slice()));
    assert_eq!(gateway.metric("sluice_connection_benched_total"), 0.0);
    assert_eq!(gateway.row().await["error_class"], "client_error");
    gateway.stop().await;
}

/// In its own dialect a caller's fault passes byte for byte, compressed or not.
#[tokio::test]
async fn callers_fault_passes_as_it_came_and_is_named_in_the_row() {
    let too_long = openai("invalid_request_error", "context_length_exceeded", "too long");
    let plain = said(400, &too_long);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&plain.body).unwrap();
    let gzip = Said {
        status: 400,
        headers: "content-encoding: gzip\r\n",
        body: encoder.finish().unwrap(),
    };
    let large =
        json!({"error": {"message": "x".repeat(200_000), "code": "context_length_exceeded"}});
    for (said, class) in [
        (plain, "context_length"),
        (gzip, "context_length"),
        // Of which only the beginning was read.
        (said(400, &large), "client_error"),
    ] {
        let mut wire = Wire::start().await;
        let gateway = gateway(&wire, "/v1", "openai", CREDENTIAL).await;
        let answer = answer(&gateway, &mut wire, "/v1/chat/completions", &said).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.body, said.body);
        assert_eq!(gateway.row().await["error_class"], class);
        gateway.stop().await;
    }
}

/// Each in the words of the client's dialect.
#[tokio::test]
async fn error_of_another_dialect_has_the_type_of_the_clients() {
    let (chat, messages) = ("/v1/chat/completions", "/v1/messages");
    let long = anthropic("invalid_request_error", "prompt is too long: 9 tokens > 8");
    let filtered = json!({"error": {"code": "BadRequest", "message": "no",
        "innererror": {"code": "ResponsibleAIPolicyViolation"}}});
    let limited = gemini(429, "RESOURCE_EXHAUSTED", "slow down", "");
    let busy = anthropic("overloaded_error", "Overloaded");
    for (provider, path, said, status, kind, code) in [
        (
            "anthropic",
            chat,
            said(400, &long),
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        ("anthropic", chat, said(529, &busy), 529, "server_error", "overloaded"),
        ("gemini", chat, said(429, &limited), 429, "rate_limit_error", "rate_limit_exceeded"),
        ("gemini", messages, said(429, &limited), 429, "rate_limit_error", ""),
        ("azure_openai", messages, said(400, &filtered), 400, "invalid_request_error", ""),
    ] {
        let mut wire = Wire::start().await;
        let gateway = gateway(&wire, "/v1", provider, CREDENTIAL).await;
        let answer = answer(&gateway, &mut wire, path, &said).await;
        let body = answer.json();
        assert_eq!(answer.status, status, "{provider}: {body}");
        assert_eq!(body["error"]["type"], kind, "{provider}: {body}");
        if path == chat {
            assert_eq!(body["error"]["code"], code, "{provider}: {body}");
        } else {
            assert_eq!(body["type"], "error", "{provider}: {body}");
        }
        gateway.stop().await;
    }
}
