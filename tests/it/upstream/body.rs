//! Bodies that are wrong in themselves: events, JSON, lengths and usage.

use loadtest::mock::Mock;

use super::{
    Provider, STREAMS, chunk, head_until_close, normalized, reference, resident_bytes, two_mocks,
    without_breaker,
};
use crate::client::End;
use crate::harness::{Builder, TestGateway, behaviour, chat_body, document, target};

const STREAMED: &str = r#""stream":true,"stream_options":{"include_usage":true}"#;
const MIB: usize = 1024 * 1024;

/// A gateway before a provider that answers each request with `answer`, and closes.
async fn answering(answer: String) -> (TestGateway, Provider) {
    let provider = Provider::start(move |mut exchange| {
        let answer = answer.clone();
        async move {
            exchange.request().await;
            exchange.write(answer.as_bytes()).await;
        }
    })
    .await;
    let url = provider.base_url();
    (Builder::new(&document(&[(&url, "sim", "")], super::NO_BREAKER)).start().await, provider)
}

/// Each is passed on byte for byte; whether it says so in the row is the second member.
#[tokio::test]
async fn malformed_events_pass_and_mark_the_row() {
    let cases = [
        ("data: {\"choices\":[{\"delta\":{\"content\":\"x\n\n", true),
        ("data: not json\n\n", true),
        ("data: [1,2]\n\n", true),
        ("a field without colon\n\n", false),
        (": a comment\n\n", false),
        ("id: 7\nretry: 10\n\n", false),
        ("data:{\"choices\":[]}\r\n\r\n", false),
        ("\n\n\n", false),
        ("data: \u{1f600}\n\n", true),
    ];
    for (event, is_degraded) in cases {
        let body = chunk("before") + event + &chunk("after") + "data: [DONE]\n\n";
        let (gateway, _provider) = answering(head_until_close("text/event-stream") + &body).await;

        let answer = gateway.chat(STREAMED).await;

        assert_eq!((answer.status, answer.end), (200, End::Whole), "{event:?}");
        assert_eq!(answer.text(), body, "{event:?}");
        let row = gateway.row().await;
        assert_eq!(
            (&row["outcome"], &row["degraded"]),
            (&"success".into(), &is_degraded.into()),
            "{event:?}"
        );
        gateway.stop().await;
    }
}

#[tokio::test]
async fn half_an_event_of_the_script_marks_the_row() {
    for (path, body) in STREAMS {
        let mock = Mock::start().await.unwrap();
        let gateway = without_breaker(&[target(&mock, "sim?malformed_event=3")], "").await;

        let answer = gateway.post(path, body).await;

        assert_eq!((answer.status, answer.end), (200, End::Whole), "{path}: {}", answer.text());
        assert_eq!(gateway.row().await["degraded"], true, "{path}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn line_ends_and_byte_order_mark_pass() {
    for (path, body) in STREAMS {
        let mock = Mock::start().await.unwrap();
        let gateway = without_breaker(&[target(&mock, "sim")], "").await;
        let whole = reference(&gateway, path, body).await;
        for (script, expected) in [
            ("crlf", whole.replace('\n', "\r\n")),
            ("bom", format!("\u{feff}{whole}")),
            ("crlf&bom", format!("\u{feff}{}", whole.replace('\n', "\r\n"))),
        ] {
            mock.set_default(behaviour(script));
            let answer = gateway.post(path, body).await;
            assert_eq!((answer.status, answer.end), (200, End::Whole), "{path} {script}");
            assert_eq!(normalized(&answer), expected, "{path} {script}");
        }
        let rows = gateway.rows().await;
        assert!(rows.iter().all(|row| row["usage_source"] == "reported"), "{path}: {rows:#?}");
        gateway.stop().await;
    }
}

/// Most clients take the last event without its blank line.
#[tokio::test]
async fn last_event_without_a_blank_line_passes() {
    let body = chunk("text") + "data: [DONE]";
    let (gateway, _provider) = answering(head_until_close("text/event-stream") + &body).await;

    let answer = gateway.chat(STREAMED).await;

    assert_eq!((answer.status, answer.end, answer.text()), (200, End::Whole, body));
    gateway.stop().await;
}

/// 200 cuts, over four ways to frame a body; half a JSON is no answer.
#[tokio::test]
async fn truncated_json_is_never_a_200() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim")], "").await;
    assert_eq!(gateway.chat("").await.status, 200);
    let sent = mock.wait_for(1).await[0].sent_bytes;

    for n in 0..200 {
        let at = rand::random_range(1..sent);
        let framing = ["", "chunked&", "close_delimited&", "http10&"][n % 4];
        let how = if n % 8 < 4 { "cut_at" } else { "reset_at" };
        let script = format!("{framing}{how}={at}");
        mock.script(vec![behaviour(&script)]);
        let answer = gateway.chat("").await;
        assert_eq!((answer.status, answer.end), (502, End::Whole), "{script}: {}", answer.text());
        assert_eq!(answer.code(), "upstream_error", "{script}");
    }

    let rows = gateway.rows().await;
    assert!(rows.iter().skip(1).all(|row| row["outcome"] == "upstream_error"));
    gateway.stop().await;
}

/// As long as its head says, and only half of it is there.
#[tokio::test]
async fn json_that_is_no_json_is_a_502() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim?malformed_event=0")], "").await;

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"));
    assert_eq!(gateway.row().await["error_class"], "bad_body");
    gateway.stop().await;
}

#[tokio::test]
async fn wrong_length_spoils_neither_answer_nor_the_next() {
    for (script, body) in [("content_length_short", ""), ("content_length_long", "")] {
        let mock = Mock::start().await.unwrap();
        let gateway = without_breaker(&[target(&mock, "sim")], "").await;
        for _ in 0..20 {
            mock.script(vec![behaviour(script)]);
            assert_eq!(gateway.chat(body).await.status, 502, "{script}");
            let next = gateway.chat(body).await;
            assert_eq!((next.status, next.end), (200, End::Whole), "{script}");
            assert_eq!(next.json()["object"], "chat.completion");
        }
        gateway.stop().await;
    }
}

/// What follows a complete answer belongs to nobody.
#[tokio::test]
async fn bytes_after_an_answer_are_never_taken_for_the_next() {
    let whole =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n{\"a\":11}";
    let evil = whole.replace("11", "22");
    let answer = format!("{whole}{evil}");
    let provider = Provider::start(move |mut exchange| {
        let answer = answer.clone();
        async move {
            while exchange.request().await.is_some() && exchange.write(answer.as_bytes()).await {}
        }
    })
    .await;
    let url = provider.base_url();
    let gateway = Builder::new(&document(&[(&url, "sim", "")], "")).start().await;

    for _ in 0..20 {
        assert_eq!(gateway.chat("").await.text(), "{\"a\":11}");
    }
    gateway.stop().await;
}

/// 64 MiB in one event without a line end, and memory does not grow with it.
#[tokio::test]
async fn huge_event_passes_without_being_held() {
    let provider = Provider::start(|mut exchange| async move {
        exchange.request().await;
        exchange.write(head_until_close("text/event-stream").as_bytes()).await;
        exchange.write(b"data: {\"choices\":[{\"delta\":{\"content\":\"").await;
        let block = vec![b'a'; MIB];
        for _ in 0..64 {
            if !exchange.write(&block).await {
                return;
            }
        }
        exchange.write(b"\"}}]}\n\ndata: [DONE]\n\n").await;
    })
    .await;
    let url = provider.base_url();
    let gateway = Builder::new(&document(&[(&url, "sim", "")], "")).start().await;
    let mut client = gateway.client().await;
    let asked = gateway.request("/v1/chat/completions", &chat_body(STREAMED));
    client.write(&asked).await;
    assert_eq!(client.head().await.0, 200);

    let before = resident_bytes();
    let (mut most, mut received, mut last) = (before, 0, Vec::new());
    while let Some(chunk) = client.chunk().await.filter(|chunk| !chunk.is_empty()) {
        received += chunk.len();
        if received % (4 * MIB) < chunk.len() {
            most = most.max(resident_bytes());
        }
        last = chunk;
    }

    assert!(64 * MIB < received, "{received} bytes");
    assert!(String::from_utf8_lossy(&last).ends_with("data: [DONE]\n\n"));
    let growth = most - before;
    assert!(growth < 16 * MIB as u64, "{growth} bytes more");
    gateway.idle().await;
    gateway.stop().await;
}

#[tokio::test]
async fn missing_usage_is_estimated() {
    for script in ["no_usage", "null_usage"] {
        let mock = Mock::start().await.unwrap();
        let targets = [target(&mock, "sim")];
        let gateway = without_breaker(&targets, "").await;
        mock.set_default(behaviour(&format!("{script}&bytes=4000")));
        for (path, body) in STREAMS {
            assert_eq!(gateway.post(path, body).await.status, 200);
            let plain = body.replace(r#","stream":true"#, "");
            let plain = plain.replace(r#","stream_options":{"include_usage":true}"#, "");
            assert_eq!(gateway.post(path, &plain).await.status, 200, "{plain}");
        }

        for row in gateway.rows().await {
            assert_eq!(
                (&row["outcome"], &row["usage_source"]),
                (&"success".into(), &"estimated".into()),
                "{row:#}"
            );
            let output = row["output"].as_u64().unwrap();
            assert!((500..2_000).contains(&output), "4,000 bytes are not {output} tokens: {row:#}");
            assert!(0 < row["input_uncached"].as_u64().unwrap());
            for unknown in ["input_cache_read", "audio_in", "audio_out", "reasoning"] {
                assert!(row[unknown].is_null(), "{unknown} is made up: {row:#}");
            }
        }
        gateway.stop().await;
    }
}

/// The client sees the nonsense as it came; the row does not take it.
#[tokio::test]
async fn absurd_usage_is_flagged_and_never_counted() {
    for weird in ["negative", "huge", "float", "string"] {
        let (mock, _) = two_mocks().await;
        let script = format!("sim?usage_weird={weird}");
        let gateway = without_breaker(&[target(&mock, &script)], "").await;
        for (path, body) in STREAMS {
            assert_eq!(gateway.post(path, body).await.status, 200);
            let plain = body.replace(r#","stream":true"#, "");
            let plain = plain.replace(r#","stream_options":{"include_usage":true}"#, "");
            let answer = gateway.post(path, &plain).await;
            assert!(answer.json()["usage"].is_object(), "{}", answer.text());
        }

        for row in gateway.rows().await {
            assert_eq!(row["degraded"], true, "{weird}: {row:#}");
            assert_eq!(row["usage_source"], "estimated", "{weird}: {row:#}");
            assert!(row["output"].as_u64().unwrap() < 10_000, "{weird}: {row:#}");
            assert!(row["cost_nanousd"].as_u64().unwrap() < 1_000_000_000, "{weird}: {row:#}");
        }
        gateway.stop().await;
    }
}
