//! Faults, the script, the journal.

use std::io::Read as _;
use std::time::Duration;

use loadtest::mock::{Behaviour, End, Mock, fnv1a};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::client::{Answer, Client};

const CHAT: &str = "/v1/chat/completions";
const SOON: Duration = Duration::from_secs(5);

fn streamed(keys: &str) -> Value {
    json!({ "model": format!("sim?{keys}"), "stream": true })
}

async fn ask(body: Value) -> (Answer, End) {
    let mock = Mock::start().await.unwrap();
    let answer = Client::connect(&mock).await.post(CHAT, body).await;
    let entries = timeout(SOON, mock.wait_for(1)).await.unwrap();
    assert_eq!(mock.in_flight(), 0);
    (answer, entries[0].end)
}

#[tokio::test]
async fn body_is_cut_and_reset_at_the_byte() {
    for (keys, is_reset) in [("cut_at=301", false), ("reset_at=301", true)] {
        let (answer, end) = ask(streamed(keys)).await;
        assert_eq!((answer.body.len(), answer.is_whole), (301, false), "{keys}");
        assert_eq!((answer.is_reset, end), (is_reset, End::Cut), "{keys}");
    }
    let (answer, _) = ask(json!({ "model": "sim?cut_at=10" })).await;
    assert_eq!((answer.body.len(), answer.is_whole), (10, false));
}

#[tokio::test]
async fn stream_ends_at_the_event() {
    for (keys, is_whole) in [("cut_at_event=3", false), ("clean_end_at_event=3", true)] {
        let (answer, _) = ask(streamed(keys)).await;
        assert_eq!((answer.events().len(), answer.is_whole), (1 + 3, is_whole), "{keys}");
        assert!(!answer.text().contains("[DONE]"), "{keys}");
    }
    let (answer, _) = ask(streamed("clean_end_at_event=8")).await;
    assert_eq!((answer.events().len(), answer.is_whole), (1 + 8, true));
    let (answer, _) = ask(streamed("no_terminal")).await;
    assert_eq!((answer.events().len(), answer.is_whole), (1 + 8 + 1, true));
    assert!(!answer.text().contains("[DONE]"));
    let (answer, _) = ask(streamed("reset_at_event=0")).await;
    assert_eq!((answer.events().len(), answer.is_reset), (1, true));
    let (answer, end) = ask(streamed("error_at_event=2")).await;
    assert!(answer.events()[3].1["error"].is_object());
    assert_eq!((answer.is_whole, end), (true, End::Complete));
}

#[tokio::test]
async fn nothing_comes_before_the_head_is_cut() {
    for (keys, is_reset) in [("reset_before_headers", true), ("close_before_headers", false)] {
        let (answer, end) = ask(streamed(keys)).await;
        assert_eq!((answer.head.as_str(), answer.is_reset, end), ("", is_reset, End::Cut));
    }
}

#[tokio::test]
async fn stalled_exchange_ends_when_the_client_leaves() {
    for keys in ["stall_at_event=1", "stall_before_headers", "headers_ms=60000", "event_ms=60000"] {
        let mock = Mock::start().await.unwrap();
        let mut client = Client::connect(&mock).await;
        client.send("POST", CHAT, &streamed(keys).to_string()).await;
        let entries = timeout(SOON, mock.wait_for_started(1)).await.unwrap();
        assert_eq!((entries[0].end, mock.in_flight()), (End::Running, 1), "{keys}");
        drop(client);
        let entries = timeout(SOON, mock.wait_for(1)).await.unwrap();
        assert_eq!((entries[0].end, mock.in_flight()), (End::ClientClosed, 0), "{keys}");
    }
}

#[tokio::test]
async fn stream_bends_as_asked() {
    let (answer, _) = ask(streamed("crlf&bom&comment_every=4")).await;
    let text = answer.text();
    assert!(text.starts_with("\u{feff}data: {"));
    assert_eq!(text.matches(": ping\r\n\r\n").count(), 2);
    assert!(text.ends_with("data: [DONE]\r\n\r\n"));
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());

    let (answer, _) = ask(streamed("malformed_event=0")).await;
    let second = answer.text().split("\n\n").nth(1).unwrap().to_owned();
    serde_json::from_str::<Value>(&second["data: ".len()..]).unwrap_err();

    let (answer, _) = ask(streamed("huge_event=100000&events=1")).await;
    let content = answer.events()[1].1["choices"][0]["delta"]["content"].clone();
    assert_eq!(content.as_str().unwrap().len(), 100_000);
}

#[tokio::test]
async fn framing_is_as_asked() {
    let plain = |keys: &str| ask(json!({ "model": format!("sim?{keys}") }));
    for keys in ["close_delimited", "http10", "chunked", "trailers", "close", "headers_ms=5"] {
        let (answer, end) = plain(keys).await;
        assert_eq!(answer.json()["object"], "chat.completion", "{keys}");
        assert_eq!(end, End::Complete, "{keys}");
    }
    let (answer, _) = plain("trailers").await;
    assert!(answer.raw.ends_with(b"0\r\nx-simulated-trailer: end\r\n\r\n"));
    let (answer, _) = plain("content_length_long").await;
    assert!(!answer.is_whole);
    let (answer, _) = plain("content_length_short").await;
    assert_eq!(answer.header("content-length").unwrap(), (answer.body.len() - 10).to_string());
    let (answer, _) = plain("no_content").await;
    assert_eq!((answer.status(), answer.body.len()), (204, 0));
    let (answer, _) = plain("redirect=http://127.0.0.1:1/x").await;
    assert_eq!((answer.status(), answer.header("location")), (302, Some("http://127.0.0.1:1/x")));
    let (answer, _) = plain("informational&close").await;
    assert!(answer.head.starts_with("HTTP/1.1 103 "));
    let (answer, _) = plain("drip_headers_ms=1").await;
    assert_eq!(answer.json()["object"], "chat.completion");
    let (answer, _) = plain("malformed_event=0").await;
    serde_json::from_slice::<Value>(&answer.body).unwrap_err();
}

#[tokio::test]
async fn gzip_is_gzip() {
    for body in [json!({ "model": "sim?gzip" }), streamed("gzip_stream")] {
        let (answer, _) = ask(body).await;
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap();
        assert!(text.contains("chatcmpl-"), "{text}");
    }
}

#[tokio::test]
async fn list_then_default_then_model() {
    let mock = Mock::start().await.unwrap();
    let status = |status| Behaviour { status: Some(status), ..Behaviour::default() };
    mock.set_default(status(500));
    mock.script(vec![status(503), status(429)]);
    let mut client = Client::connect(&mock).await;
    let mut seen = Vec::new();
    for model in ["a", "a?status=401", "a", "a", "a"] {
        seen.push(client.post(CHAT, json!({ "model": model })).await.status());
    }
    assert_eq!(seen, [503, 401, 429, 500, 500]);
}

#[tokio::test]
async fn error_rate_is_exact() {
    let mock = Mock::start().await.unwrap();
    let mut client = Client::connect(&mock).await;
    let mut errors = 0;
    for _ in 0..100 {
        let answer = client.post(CHAT, json!({ "model": "sim?error_rate=0.1&status=502" })).await;
        errors += usize::from(answer.status() == 502);
    }
    assert_eq!(errors, 10);
}

#[tokio::test]
async fn journal_has_the_checksum_of_large_and_chunked_bodies() {
    let mock = Mock::start().await.unwrap();
    let body = json!({ "model": "sim", "input": "x".repeat(5_000_000) }).to_string();
    let mut client = Client::connect(&mock).await;
    client.send("POST", "/v1/embeddings?a=b", &body).await;
    assert_eq!(client.answer().await.status(), 200);

    let head =
        "POST /v1/embeddings HTTP/1.1\r\nX-Name: Value\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.stream.write_all(head.as_bytes()).await.unwrap();
    for part in body.as_bytes().chunks(70_001) {
        let framed = [format!("{:X};ext=1\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        client.stream.write_all(&framed).await.unwrap();
    }
    client.stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.status(), 200);

    let entries = timeout(SOON, mock.wait_for(2)).await.unwrap();
    for (entry, is_chunked) in entries.iter().zip([false, true]) {
        assert_eq!(entry.body_fnv, fnv1a(body.as_bytes()));
        assert_eq!((entry.body_bytes, entry.body.len()), (body.len() as u64, 65_536));
        assert_eq!((entry.is_chunked, entry.end), (is_chunked, End::Complete));
        assert_eq!((entry.model.as_str(), entry.connection), ("sim", 1));
    }
    assert_eq!(entries[0].path, "/v1/embeddings?a=b");
    assert_eq!(entries[1].header("x-name"), Some("Value"));
    assert_eq!(mock.open_connections(), 1);
}

#[tokio::test]
async fn answer_can_come_before_the_body_is_read() {
    let mock = Mock::start().await.unwrap();
    mock.script(vec!["early_response_close".parse().unwrap()]);
    let mut client = Client::connect(&mock).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 5000000\r\n\r\n{";
    client.stream.write_all(head.as_bytes()).await.unwrap();
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.header("connection")), (413, Some("close")));
    assert_eq!(timeout(SOON, mock.wait_for(1)).await.unwrap()[0].end, End::Cut);
}

#[tokio::test]
async fn continue_is_sent_and_slow_reading_ends() {
    let mock = Mock::start().await.unwrap();
    let body = json!({ "model": "sim?slow_read=1", "input": "x".repeat(20_000) }).to_string();
    let mut client = Client::connect(&mock).await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nExpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    client.stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.stream.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn raw_bytes_go_out_as_they_are() {
    let mock = Mock::start().await.unwrap();
    mock.set_default(Behaviour { raw: Some(b"NOT HTTP\xff".to_vec()), ..Behaviour::default() });
    let mut client = Client::connect(&mock).await;
    client.send("POST", CHAT, r#"{"model":"sim"}"#).await;
    let mut bytes = Vec::new();
    client.stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"NOT HTTP\xff");
}

#[tokio::test]
async fn script_and_journal_are_reached_over_http() {
    let mock = Mock::start().await.unwrap();
    let mut client = Client::connect(&mock).await;
    let set = client.post("/_mock/script", json!([{ "status": 503, "body": "{\"a\":1}" }])).await;
    assert_eq!(set.status(), 200);
    let answer = client.post(CHAT, json!({ "model": "sim" })).await;
    assert_eq!((answer.status(), answer.json()), (503, json!({ "a": 1 })));
    assert_eq!(client.post("/_mock/default", json!({ "statuss": 1 })).await.status(), 400);
    timeout(SOON, mock.wait_for(1)).await.unwrap();
    client.send("GET", "/_mock/journal", "").await;
    let journal = client.answer().await.json();
    assert_eq!(journal[0]["model"], "sim");
    assert_eq!(journal[0]["end"], "complete");
    client.send("DELETE", "/_mock/journal", "").await;
    assert_eq!(client.answer().await.status(), 200);
    assert!(mock.journal().is_empty());
}

#[tokio::test]
async fn dropped_mock_closes_everything() {
    let mock = Mock::start().await.unwrap();
    let address = mock.addr();
    let mut client = Client::connect(&mock).await;
    client.send("POST", CHAT, &streamed("stall_before_headers").to_string()).await;
    timeout(SOON, mock.wait_for_started(1)).await.unwrap();
    drop(mock);
    let ended = timeout(SOON, client.stream.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
    tokio::net::TcpStream::connect(address).await.unwrap_err();
}
