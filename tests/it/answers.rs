//! Response bytes: the client gets what the provider sent, when it sent it.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::client::{Answer, Client, End};
use crate::documents::{object, unknown_members};
use crate::harness::{Builder, TestGateway, chat_body, document};
use crate::wire::{Exchange, Wire};

/// Gateway and provider, with a connection of a client that is used again.
struct Rig {
    gateway: TestGateway,
    wire: RefCell<Option<Wire>>,
    client: RefCell<Option<Client>>,
}

async fn gateway() -> (TestGateway, Wire) {
    let wire = Wire::start().await;
    let text = document(&[(&wire.base_url(), "sim", "")], "heartbeat_s = 0");
    (Builder::new(&text).start().await, wire)
}

async fn rig() -> Rig {
    let (gateway, wire) = gateway().await;
    let client = gateway.client().await;
    Rig { gateway, wire: RefCell::new(Some(wire)), client: RefCell::new(Some(client)) }
}

/// Cuts `bytes` at these places.
fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

impl Rig {
    /// The answer to `body` when the provider sends its own in these parts.
    async fn answer(
        &self,
        path: &str,
        body: &str,
        content_type: &str,
        parts: &[Vec<u8>],
    ) -> Answer {
        let mut client = self.client.borrow_mut().take().unwrap();
        let mut wire = self.wire.borrow_mut().take().unwrap();
        client.write(&self.gateway.request(path, body)).await;
        let mut exchange = wire.next().await;
        exchange.chunked(content_type).await;
        for part in parts {
            exchange.chunk(part).await;
            tokio::task::yield_now().await;
        }
        exchange.chunk("").await;
        let answer = client.answer().await;
        wire.keep(exchange);
        *self.wire.borrow_mut() = Some(wire);
        *self.client.borrow_mut() = Some(client);
        answer
    }

    fn for_all<S: Strategy>(
        &self,
        cases: u32,
        strategy: &S,
        check: &impl AsyncFn(&Self, S::Value) -> Result<(), TestCaseError>,
    ) {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let run = |case| block_in_place(|| Handle::current().block_on(check(self, case)));
        TestRunner::new(config).run(strategy, run).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

/// The text of one event of a chat stream, and whether it is the usage chunk.
fn event(eol: &'static str) -> impl Strategy<Value = (String, bool)> {
    let choices = prop_oneof![
        5 => Just(r#""choices":[{"index":0,"delta":{"content":"h"}}]"#),
        1 => Just(r#""choices" : [ {"index":0,"delta":{},"finish_reason":"stop"} ]"#),
        1 => Just(r#""choices":[],"usage":null"#),
        1 => Just(r#""choices":[],"prompt_filter_results":[]"#),
        2 => Just(r#""choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}"#),
    ];
    (choices, unknown_members(), any::<bool>(), 0..4_u8).prop_map(
        move |(choices, mut members, is_last, extra)| {
            let is_usage = choices.contains("prompt_tokens");
            let at = if is_last { members.len() } else { 0 };
            members.insert(at, choices.to_owned());
            // An event is one line here: only white space of JSON can break it.
            let data = object(&members).replace(['\r', '\n'], " ");
            let before = match extra {
                0 => format!("id: 7{eol}"),
                1 => format!("event: x{eol}"),
                _ => String::new(),
            };
            (format!("{before}data: {data}{eol}{eol}"), is_usage)
        },
    )
}

fn stream() -> impl Strategy<Value = Vec<(String, bool)>> {
    prop_oneof![Just("\n"), Just("\r\n")].prop_flat_map(|eol| {
        let comment = Just((format!(": a comment{eol}{eol}"), false));
        let events = prop_oneof![8 => event(eol), 1 => comment];
        prop::collection::vec(events, 1..8).prop_map(move |mut events| {
            events.push((format!("data: [DONE]{eol}{eol}"), false));
            events
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_stream_that_asked_for_usage_passes_byte_for_byte() {
    let rig = rig().await;
    let body = chat_body(r#""stream":true,"stream_options":{"include_usage":true}"#);
    rig.for_all(60, &(stream(), cuts()), &async |rig, (events, cuts)| {
        let sent: String = events.iter().map(|(text, _)| text.as_str()).collect();
        let parts = cut(sent.as_bytes(), &cuts);
        let answer = rig.answer("/v1/chat/completions", &body, "text/event-stream", &parts).await;
        prop_assert_eq!(answer.text(), sent);
        prop_assert_eq!(answer.end, End::Whole);
        Ok(())
    });
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_stream_loses_the_extra_usage_chunk_and_nothing_else() {
    let rig = rig().await;
    let body = chat_body(r#""stream":true"#);
    rig.for_all(80, &(stream(), cuts()), &async |rig, (events, cuts)| {
        let sent: String = events.iter().map(|(text, _)| text.as_str()).collect();
        let wanted: String = events
            .iter()
            .filter(|(_, is_usage)| !is_usage)
            .map(|(text, _)| text.as_str())
            .collect();
        let parts = cut(sent.as_bytes(), &cuts);
        let answer = rig.answer("/v1/chat/completions", &body, "text/event-stream", &parts).await;
        prop_assert_eq!(answer.text(), wanted);
        Ok(())
    });
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_answers_pass_byte_for_byte() {
    let rig = rig().await;
    let answers = (unknown_members(), cuts(), any::<bool>());
    rig.for_all(80, &answers, &async |rig, (members, cuts, is_json)| {
        let sent = object(&members);
        let parts = cut(sent.as_bytes(), &cuts);
        let (path, kind) = if is_json {
            ("/v1/chat/completions", "application/json; charset=utf-8")
        } else {
            ("/v1/audio/speech", "audio/mpeg")
        };
        let answer = rig.answer(path, &chat_body(""), kind, &parts).await;
        prop_assert_eq!((answer.status, answer.text()), (200, sent));
        prop_assert_eq!(answer.header("content-type"), Some(kind));
        Ok(())
    });
    rig.gateway.stop().await;
}

#[tokio::test]
async fn what_the_gateway_does_not_know_survives() {
    let rig = rig().await;
    let messages = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":3}}}\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"Ep0B+/==\"}}\n\n",
        "event: future_event\ndata: {\"type\":\"future_event\",\"citations\":[{\"cited_text\":\"\\u00e9\"}],\"n\":1e400}\n\n",
        ": comment\n\nretry: 5\ndata:{\"type\":\"content_block_delta\",\ndata:\"index\":1}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":4}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    let request = r#"{"model":"chat","max_tokens":5,"messages":[],"stream":true}"#;
    let parts: Vec<Vec<u8>> = messages.as_bytes().chunks(7).map(<[u8]>::to_vec).collect();
    let answer = rig.answer("/v1/messages", request, "text/event-stream", &parts).await;
    assert_eq!(answer.text(), messages);

    let responses = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\",\"logprobs\":[]}\n\n",
        "event: response.new.thing\ndata: {\"type\":\"response.new.thing\"}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
    );
    let request = r#"{"model":"chat","input":"x","stream":true}"#;
    let parts: Vec<Vec<u8>> = responses.as_bytes().chunks(11).map(<[u8]>::to_vec).collect();
    let answer = rig.answer("/v1/responses", request, "text/event-stream", &parts).await;
    assert_eq!(answer.text(), responses);
    let rows = rig.gateway.rows().await;
    assert_eq!((&rows[0]["input_uncached"], &rows[0]["output"]), (&3.into(), &4.into()));
    assert_eq!((&rows[1]["input_uncached"], &rows[1]["output"]), (&1.into(), &2.into()));
    rig.gateway.stop().await;
}

async fn begun_stream() -> (TestGateway, Client, Exchange) {
    let (gateway, mut wire) = gateway().await;
    let mut client = gateway.client().await;
    let body = chat_body(r#""stream":true"#);
    client.write(&gateway.request("/v1/chat/completions", &body)).await;
    let mut exchange = wire.next().await;
    exchange.chunked("text/event-stream").await;
    (gateway, client, exchange)
}

fn content(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

#[tokio::test]
async fn each_event_leaves_before_the_next_one_comes() {
    let (gateway, mut client, mut exchange) = begun_stream().await;
    for n in 0..20 {
        exchange.chunk(content(&format!("event-{n}"))).await;
        if n == 0 {
            assert_eq!(client.head().await.0, 200);
        }
        // The next one is sent only after this one has been seen.
        assert_eq!(client.read_until(&format!("event-{n}")).await, content(&format!("event-{n}")));
    }
    exchange.chunk("data: [DONE]\n\n").await;
    exchange.chunk("").await;
    assert_eq!(client.read_until("[DONE]").await, "data: [DONE]\n\n");
    assert_eq!(client.chunk().await, Some(Vec::new()));
    gateway.stop().await;
}

#[tokio::test]
async fn half_an_event_waits_for_its_end() {
    let (gateway, mut client, mut exchange) = begun_stream().await;
    exchange.chunk(content("one")).await;
    client.head().await;
    client.read_until("one").await;
    let (two, three) = (content("two"), content("three"));
    exchange.chunk(&two[..20]).await;
    exchange.chunk(format!("{}{}", &two[20..], &three[..9])).await;
    // What is whole leaves, and the half of the third does not.
    assert_eq!(client.read_until("two").await, two);
    exchange.chunk(format!("{}data: [DONE]\n\n", &three[9..])).await;
    exchange.chunk("").await;
    assert_eq!(client.read_until("[DONE]").await, format!("{three}data: [DONE]\n\n"));
    gateway.stop().await;
}

#[tokio::test]
async fn large_answers_leave_before_they_are_complete() {
    let (gateway, mut wire) = gateway().await;
    for (path, kind) in [("/v1/audio/speech", "audio/mpeg"), ("/v1/embeddings", "application/json")]
    {
        let mut client = gateway.client().await;
        client.write(&gateway.request(path, &chat_body(""))).await;
        let mut exchange = wire.next().await;
        exchange.chunked(kind).await;
        // Of JSON more than what is held back.
        let first = format!("{{\"a\":\"{}first", "x".repeat(300 * 1024));
        exchange.chunk(&first).await;
        assert_eq!(client.head().await.0, 200);
        client.read_until("first").await;
        exchange.chunk("\"}").await;
        exchange.chunk("").await;
        client.read_until("\"}").await;
        assert_eq!(client.chunk().await, Some(Vec::new()));
        wire.keep(exchange);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn response_headers_pass_by_list() {
    let (gateway, mut wire) = gateway().await;
    let mut client = gateway.client().await;
    client.write(&gateway.request("/v1/chat/completions", &chat_body(""))).await;
    let mut exchange = wire.next().await;
    exchange
        .send(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
             server: provider/9\r\nset-cookie: a=b\r\nx-request-id: up-1\r\nx-powered-by: php\r\n\
             connection: keep-alive, x-nominated\r\nx-nominated: 1\r\nvia: 1.1 cdn\r\n\
             cf-ray: 1\r\nopenai-processing-ms: 12\r\nopenai-version: 2020-10-01\r\n\
             x-ratelimit-remaining-requests: 99\r\nanthropic-organization-id: org\r\n\
             x-custom: one\r\nx-custom: two\r\nx-sluice-model: forged\r\n\r\n{}",
        )
        .await;
    let answer = client.answer().await;
    let mut names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.retain(|name| *name != "date" && *name != "connection");
    assert_eq!(
        names,
        [
            "anthropic-organization-id",
            "content-length",
            "content-type",
            "openai-processing-ms",
            "openai-version",
            "x-custom",
            "x-custom",
            "x-ratelimit-remaining-requests",
            "x-request-id",
            "x-sluice-attempts",
            "x-sluice-cache",
            "x-sluice-deployment",
            "x-sluice-model",
            "x-sluice-provider",
            "x-upstream-request-id",
        ]
    );
    assert_eq!(answer.header("x-upstream-request-id"), Some("up-1"));
    assert_eq!(answer.header("x-sluice-model"), Some("m0"));
    assert_eq!(answer.header("x-sluice-provider"), Some("simulated"));
    assert_eq!(answer.header("x-sluice-cache"), Some("bypass"));
    let row = gateway.row().await;
    assert_eq!(row["upstream_request_id"], "up-1");
    assert_eq!(Some(row["request_id"].as_str().unwrap()), answer.header("x-request-id"));
    gateway.stop().await;
}

#[tokio::test]
async fn callers_own_errors_pass_byte_for_byte() {
    let (gateway, mut wire) = gateway().await;
    let mut client = gateway.client().await;
    for status in [400, 404, 413, 422] {
        client.write(&gateway.request("/v1/chat/completions", &chat_body(""))).await;
        let mut exchange = wire.next().await;
        let body =
            format!("{{ \"error\" : {{\"message\":\"no\",\"status\":{status},\"x\":[ ]}}}}\n");
        let length = body.len();
        exchange
            .send(format!(
                "HTTP/1.1 {status} No\r\ncontent-type: application/problem+json\r\n\
                 content-length: {length}\r\n\r\n{body}"
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (status, body));
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        wire.keep(exchange);
    }
    let rows = gateway.rows().await;
    assert!(rows.iter().all(|row| row["outcome"] == "client_error"), "{rows:#?}");
    gateway.stop().await;
}
