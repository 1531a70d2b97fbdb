//! Amazon Bedrock: how it is asked, and what becomes of its frames.

use serde_json::{Value, json};

use crate::client::{Answer, End, request};
use crate::harness::{Builder, TestGateway};
use crate::wire::{Exchange, Wire};

const KEYS: &str = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOVA: &str = "amazon.nova-pro-v1:0";
const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const EVENTS: &str = "application/vnd.amazon.eventstream";

/// A gateway whose models `m` and, on a second connection, `n` are with Amazon; `both` tries one after
/// the other.
async fn gateway(first: &Wire, second: &Wire, model: &str, credential: &str) -> TestGateway {
    let mut text = String::from(
        "[[workspaces]]\nslug = \"acme\"\n[[workspaces.environments]]\nslug = \"production\"\n",
    );
    for (name, wire) in [("m", first), ("n", second)] {
        let address = wire.base_url();
        let address = address.strip_suffix("/v1").unwrap();
        text += &format!(
            "[[workspaces.environments.connections]]\nname = \"{name}\"\nprovider = \"bedrock\"\n\
             base_url = \"{address}\"\ncredential = \"{credential}\"\n\
             settings = {{ region = \"us-east-1\" }}\n\
             [[workspaces.environments.models]]\nalias = \"{name}\"\nconnection = \"{name}\"\n\
             upstream_model = \"{model}\"\n"
        );
    }
    text += "[[workspaces.environments.deployments]]\nname = \"both\"\n\
             targets = [{ model = \"m\" }, { model = \"n\", tier = 1 }]\n\
             [[workspaces.environments.keys]]\nname = \"app\"\nsecret = \"${KEY}\"\n\
             scopes = { endpoints = \"all\", models = \"all\", deployments = \"all\" }\n";
    Builder::new(&text).start().await
}

fn question(gateway: &TestGateway, path: &str, model: &str, is_stream: bool) -> Vec<u8> {
    gateway.expect_rows(1);
    let authorization = gateway.authorization();
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let body = json!({
        "model": model, "max_tokens": 50, "stream": is_stream,
        "messages": [{"role": "user", "content": "hello"}],
    });
    request("POST", path, &headers, body.to_string().as_bytes())
}

/// Asks, has the provider answered by `respond`, and returns its head and body with the answer.
async fn asked(
    gateway: &TestGateway,
    wire: &mut Wire,
    (path, model, is_stream): (&str, &str, bool),
    respond: impl AsyncFnOnce(Exchange),
) -> (String, Value, Answer) {
    let request = question(gateway, path, model, is_stream);
    let client = gateway.client().await;
    let (head, body, answer) = wire.exchange(client, &request, respond).await;
    (head, serde_json::from_slice(&body).unwrap(), answer)
}

async fn respond_json(mut exchange: Exchange, status: u16, headers: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} No\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    exchange.send(head + body).await;
}

fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap());
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let total = u32::try_from(16 + head.len() + payload.len()).unwrap();
    let mut frame = total.to_be_bytes().to_vec();
    frame.extend_from_slice(&u32::try_from(head.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame
}

fn event(kind: &str, payload: &Value) -> Vec<u8> {
    frame(&[(":event-type", kind), (":message-type", "event")], payload.to_string().as_bytes())
}

fn exception(kind: &str) -> Vec<u8> {
    let headers = [(":exception-type", kind), (":message-type", "exception")];
    frame(&headers, br#"{"message":"no more"}"#)
}

fn start() -> Vec<u8> {
    event("messageStart", &json!({"role": "assistant"}))
}

fn delta(text: &str) -> Vec<u8> {
    event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": text}}))
}

fn end() -> Vec<u8> {
    let usage = json!({"inputTokens": 7, "outputTokens": 3, "totalTokens": 10});
    [
        event("contentBlockStop", &json!({"contentBlockIndex": 0})),
        event("messageStop", &json!({"stopReason": "end_turn"})),
        event("metadata", &json!({"usage": usage, "metrics": {"latencyMs": 1}})),
    ]
    .concat()
}

/// Sends the frames in chunks of seven bytes.
async fn respond_frames(mut exchange: Exchange, bytes: Vec<u8>) {
    exchange.chunked(EVENTS).await;
    for part in bytes.chunks(7) {
        exchange.chunk(part).await;
    }
    exchange.chunk(b"").await;
}

fn line<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn requests_are_signed_and_answers_translated() {
    let (mut wire, other) = (Wire::start().await, Wire::start().await);
    let gateway = gateway(&wire, &other, NOVA, KEYS).await;
    let answer = json!({
        "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
        "stopReason": "end_turn", "usage": {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10},
    });
    let chat = ("/v1/chat/completions", "m", false);
    let (head, body, got) = asked(&gateway, &mut wire, chat, async |exchange| {
        respond_json(exchange, 200, "", &answer.to_string()).await;
    })
    .await;
    assert!(head.starts_with("POST /model/amazon.nova-pro-v1%3A0/converse HTTP/1.1\r\n"), "{head}");
    let authorization = line(&head, "authorization").unwrap();
    let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/";
    assert!(authorization.starts_with(start), "{head}");
    assert!(authorization.contains("/us-east-1/bedrock/aws4_request, "), "{head}");
    assert!(line(&head, "x-amz-date").is_some(), "{head}");
    assert!(!head.contains("wJalr"), "{head}");
    let expected = json!({
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "inferenceConfig": {"maxTokens": 50},
    });
    assert_eq!(body, expected);
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(got.json()["choices"][0]["message"]["content"], "hi");
    assert_eq!(got.json()["usage"]["total_tokens"], 10);
    gateway.stop().await;
}

#[tokio::test]
async fn api_key_is_shown_as_it_is() {
    let (mut wire, other) = (Wire::start().await, Wire::start().await);
    let gateway = gateway(&wire, &other, CLAUDE, "ABSKexample").await;
    let answer = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude",
        "content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn",
        "usage":{"input_tokens":7,"output_tokens":3}}"#;
    // Anthropic's models are asked in Anthropic's own words, whoever asks.
    for path in ["/v1/messages", "/v1/chat/completions"] {
        let (head, body, got) = asked(&gateway, &mut wire, (path, "m", false), async |exchange| {
            respond_json(exchange, 200, "", answer).await;
        })
        .await;
        let model = "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0";
        assert!(head.starts_with(&format!("POST /model/{model}/invoke HTTP/1.1\r\n")), "{head}");
        assert_eq!(line(&head, "authorization"), Some("Bearer ABSKexample"), "{head}");
        assert_eq!(line(&head, "x-amz-date"), None, "{head}");
        assert_eq!(body["anthropic_version"], "bedrock-2023-05-31");
        assert_eq!(body.get("model"), None);
        assert_eq!(got.status, 200, "{}", got.text());
        assert!(got.text().contains("\"hi\""), "{}", got.text());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn frames_become_events_of_the_client() {
    let (mut wire, other) = (Wire::start().await, Wire::start().await);
    let gateway = gateway(&wire, &other, NOVA, KEYS).await;
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let (head, _, got) = asked(&gateway, &mut wire, (path, "m", true), async |exchange| {
            let frames = [start(), delta("Hel"), delta("lo"), end()].concat();
            respond_frames(exchange, frames).await;
        })
        .await;
        assert!(head.contains("/converse-stream HTTP/1.1"), "{head}");
        assert_eq!((got.status, got.end), (200, End::Whole), "{}", got.text());
        assert!(got.header("content-type").unwrap().starts_with("text/event-stream"));
        let (text, last) =
            (got.text(), if path.ends_with("messages") { "message_stop" } else { "[DONE]" });
        assert!(
            text.contains("\"Hel\"") && text.contains("\"lo\"") && text.contains(last),
            "{text}"
        );
    }
    let rows = gateway.rows().await;
    assert_eq!(rows[0]["output"], 3, "{:#}", rows[0]);
    gateway.stop().await;
}

#[tokio::test]
async fn claude_streams_its_own_events_in_frames() {
    let (mut wire, other) = (Wire::start().await, Wire::start().await);
    let gateway = gateway(&wire, &other, CLAUDE, KEYS).await;
    let chunk = |event: &Value| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.encode(event.to_string());
        self::event("chunk", &json!({"bytes": bytes}))
    };
    let usage = json!({"input_tokens": 7, "output_tokens": 1});
    let frames = [
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": usage}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
        json!({"type": "message_stop"}),
    ];
    let frames = frames.iter().map(chunk).collect::<Vec<_>>().concat();
    let chat = ("/v1/chat/completions", "m", true);
    let (head, body, got) = asked(&gateway, &mut wire, chat, async |exchange| {
        respond_frames(exchange, frames).await;
    })
    .await;
    assert!(head.contains("/invoke-with-response-stream HTTP/1.1"), "{head}");
    assert_eq!(body.get("stream"), None, "the path says it");
    assert_eq!((got.status, got.end), (200, End::Whole), "{}", got.text());
    assert!(got.text().contains("\"hi\"") && got.text().contains("[DONE]"), "{}", got.text());
    gateway.stop().await;
}

/// What is damaged, cut off or broken off by the provider ends with an error event and a cut.
#[tokio::test]
async fn broken_streams_never_end_cleanly() {
    let mut damaged = delta("lo");
    *damaged.last_mut().unwrap() ^= 1;
    damaged.extend_from_slice(&end());
    let frames: [(&str, Vec<u8>); 4] = [
        ("wrong CRC", damaged),
        ("cut in a frame", end()[..40].to_vec()),
        ("cut between frames", Vec::new()),
        ("exception", exception("throttlingException")),
    ];
    for (what, bytes) in frames {
        // Anew each time: a target that goes on failing is left alone.
        let (mut wire, other) = (Wire::start().await, Wire::start().await);
        let gateway = gateway(&wire, &other, NOVA, KEYS).await;
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let mut client = gateway.client().await;
            client.write(&question(&gateway, path, "both", true)).await;
            let mut exchange = wire.next().await;
            exchange.chunked(EVENTS).await;
            exchange.chunk([start(), delta("Hel")].concat()).await;
            let (status, _) = client.head().await;
            assert_eq!(status, 200, "{what}");
            client.read_until("\"Hel\"").await;
            if !bytes.is_empty() {
                exchange.chunk(bytes.clone()).await;
            }
            exchange.chunk(b"").await;
            let text = String::from_utf8(client.rest().await).unwrap();
            assert!(text.contains("\"error\""), "{what}: {text}");
            assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{what}: {text}");
            assert!(!text.ends_with("\r\n0\r\n\r\n"), "{what} ends cleanly: {text}");
        }
        gateway.stop().await;
    }
}

/// Before any content another target is asked.
#[tokio::test]
async fn exception_before_content_fails_over() {
    let (mut first, mut second) = (Wire::start().await, Wire::start().await);
    let gateway = gateway(&first, &second, NOVA, KEYS).await;
    let request = question(&gateway, "/v1/chat/completions", "both", true);
    let mut client = gateway.client().await;
    client.write(&request).await;
    respond_frames(
        first.next().await,
        [start(), exception("serviceUnavailableException")].concat(),
    )
    .await;
    respond_frames(second.next().await, [start(), delta("hi"), end()].concat()).await;
    let got = client.answer().await;
    assert_eq!((got.status, got.end), (200, End::Whole), "{}", got.text());
    assert_eq!(got.header("x-sluice-attempts"), Some("2"));
    gateway.stop().await;
}

/// Vectors of models that are Amazon's, for a client of `OpenAI`'s dialect.
#[tokio::test]
async fn embeddings_are_asked_as_each_model_wants() {
    for (model, sent, told, tokens) in [
        (
            "amazon.titan-embed-text-v2:0",
            json!({"inputText": "hello"}),
            json!({"embedding": [0.5, 1.0], "inputTextTokenCount": 3}),
            Some(3),
        ),
        (
            "cohere.embed-english-v3",
            json!({
                "texts": ["hello"], "input_type": "search_document", "embedding_types": ["float"],
            }),
            json!({"embeddings": {"float": [[0.5, 1.0]]}, "response_type": "embeddings_by_type"}),
            None,
        ),
    ] {
        let (mut wire, other) = (Wire::start().await, Wire::start().await);
        let gateway = gateway(&wire, &other, model, KEYS).await;
        let request = gateway.request("/v1/embeddings", r#"{"model":"m","input":"hello"}"#);
        let mut client = gateway.client().await;
        client.write(&request).await;
        let exchange = wire.next().await;
        let path = format!("POST /model/{}/invoke HTTP/1.1\r\n", model.replace(':', "%3A"));
        assert!(exchange.head.starts_with(&path), "{}", exchange.head);
        assert!(line(&exchange.head, "x-amz-date").is_some(), "{}", exchange.head);
        assert_eq!(serde_json::from_slice::<Value>(&exchange.body).unwrap(), sent);
        respond_json(exchange, 200, "", &told.to_string()).await;
        let got = client.answer().await;
        assert_eq!(got.status, 200, "{}", got.text());
        assert_eq!(got.json()["data"][0]["embedding"], json!([0.5, 1.0]), "{}", got.text());
        let row = gateway.row().await;
        assert_eq!(row["usage_source"] == "reported", tokens.is_some(), "{row:#}");
        gateway.stop().await;
    }
}

/// The type of an error is in its head.
#[tokio::test]
async fn errors_are_told_by_their_types() {
    let long = "Input is too long for requested model.";
    for (kind, message, status, code) in [
        ("ValidationException", long, 400, "context_length_exceeded"),
        ("ServiceQuotaExceededException:http://internal/", "slow", 429, "rate_limit_exceeded"),
        ("ExpiredTokenException", "The security token is expired", 502, "upstream_auth_failed"),
    ] {
        let (mut wire, other) = (Wire::start().await, Wire::start().await);
        let gateway = gateway(&wire, &other, NOVA, KEYS).await;
        let chat = ("/v1/chat/completions", "m", false);
        let (_, _, got) = asked(&gateway, &mut wire, chat, async |exchange| {
            let header = format!("x-amzn-errortype: {kind}\r\n");
            let body = json!({"message": message}).to_string();
            respond_json(exchange, 400, &header, &body).await;
        })
        .await;
        assert_eq!((got.status, got.code().as_str()), (status, code), "{kind}: {}", got.text());
        gateway.stop().await;
    }
}
