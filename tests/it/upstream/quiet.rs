//! Streams that are slow or silent: the timeouts of each phase, and heartbeats.

use std::time::{Duration, Instant};

use loadtest::mock::{End as MockEnd, Mock};
use tokio::sync::mpsc;

use super::{
    Provider, STREAMS, chunk, data, head_until_close, normalized, reference, split_error,
    target_health, two_mocks, without_breaker,
};
use crate::client::{End, request, within};
use crate::harness::{Builder, TestGateway, behaviour, chat_body, document, target};

const STREAMED: &str = r#""stream":true,"stream_options":{"include_usage":true}"#;

#[tokio::test]
async fn hang_in_mid_stream_ends_at_the_idle_timeout() {
    for (path, body) in STREAMS {
        let mock = Mock::start().await.unwrap();
        let gateway = without_breaker(
            &[target(&mock, "sim?stall_at_event=3")],
            "timeouts = { idle_ms = 300 }",
        )
        .await;

        let asked = Instant::now();
        let answer = gateway.post(path, body).await;
        let took = asked.elapsed();

        assert_eq!((answer.status, answer.end), (200, End::Cut), "{path}");
        let text = answer.text();
        let event = split_error(&text).1;
        assert!(event.contains("stopped answering"), "{path}: {event}");
        assert!(path == "/v1/messages" || event.contains("upstream_timeout"), "{path}: {event}");
        assert!((300..800).contains(&took.as_millis()), "{path}: {took:?}");
        assert_eq!(mock.wait_for(1).await[0].end, MockEnd::ClientClosed, "{path}");
        let row = gateway.row().await;
        assert_eq!(
            (&row["outcome"], &row["error_class"]),
            (&"timeout".into(), &"idle_timeout".into())
        );
        assert_eq!(row["usage_source"], "estimated");
        gateway.stop().await;
    }
}

/// 50 at once, and nothing of them is left.
#[tokio::test]
async fn many_hanging_streams_all_end_and_leave_no_connection() {
    let mock = Mock::start().await.unwrap();
    let targets = [target(&mock, "sim?stall_at_event=1")];
    let gateway = without_breaker(&targets, "timeouts = { idle_ms = 500 }").await;

    let asked = Instant::now();
    let chats = (0..50).map(|_| gateway.chat(STREAMED));
    let answers = futures_util::future::join_all(chats).await;
    let took = asked.elapsed();

    assert!(answers.iter().all(|answer| answer.end == End::Cut));
    assert!((500..2_000).contains(&took.as_millis()), "{took:?}");
    let ended = mock.wait_for(50).await;
    assert!(ended.iter().all(|entry| entry.end == MockEnd::ClientClosed));
    gateway.idle().await;
    assert_eq!(gateway.metric("sluice_in_flight"), 0.0);
    gateway.stop().await;
}

#[tokio::test]
async fn comments_keep_no_stream_alive() {
    let provider = Provider::start(|mut exchange| async move {
        exchange.request().await;
        let beginning = head_until_close("text/event-stream") + &chunk("a");
        let mut is_there = exchange.write(beginning.as_bytes()).await;
        while is_there {
            tokio::time::sleep(Duration::from_millis(30)).await;
            is_there = exchange.write(b": ping\n\n").await;
        }
    })
    .await;
    let url = provider.base_url();
    let text = document(&[(&url, "sim", "")], "timeouts = { idle_ms = 400 }");
    let gateway = Builder::new(&text).start().await;

    let asked = Instant::now();
    let answer = gateway.chat(STREAMED).await;
    let took = asked.elapsed();

    assert_eq!((answer.status, answer.end), (200, End::Cut));
    assert!(answer.text().contains(": ping"), "comments pass");
    assert!((400..900).contains(&took.as_millis()), "{took:?}");
    assert_eq!(gateway.row().await["error_class"], "idle_timeout");
    gateway.stop().await;
}

/// A stream may take as long as it wants while each event comes in time.
#[tokio::test]
async fn slow_stream_is_longer_than_its_idle_timeout() {
    let mock = Mock::start().await.unwrap();
    let targets = [target(&mock, "sim?events=10&event_ms=100")];
    let fields = "timeouts = { idle_ms = 500, first_token_ms = 500, headers_ms = 500 }";
    let gateway = without_breaker(&targets, fields).await;

    let asked = Instant::now();
    let answer = gateway.chat(STREAMED).await;

    assert_eq!((answer.status, answer.end), (200, End::Whole), "{}", answer.text());
    assert!(Duration::from_millis(900) <= asked.elapsed());
    assert_eq!(gateway.row().await["outcome"], "success");
    gateway.stop().await;
}

/// 40 events, each sent once the one before has been seen.
#[tokio::test]
async fn each_event_is_forwarded_within_50_ms() {
    let (asks, events) = mpsc::channel::<usize>(1);
    let events = std::sync::Mutex::new(Some(events));
    let provider = Provider::start(move |mut exchange| {
        let events = events.lock().unwrap().take();
        async move {
            let Some(mut events) = events else { return };
            exchange.request().await;
            exchange.write(head_until_close("text/event-stream").as_bytes()).await;
            while let Some(n) = events.recv().await {
                exchange.write(chunk(&format!("event-{n}.")).as_bytes()).await;
            }
            exchange.write(b"data: [DONE]\n\n").await;
        }
    })
    .await;
    let url = provider.base_url();
    let gateway = Builder::new(&document(&[(&url, "sim", "")], "")).start().await;
    let mut client = gateway.client().await;
    let asked = gateway.request("/v1/chat/completions", &chat_body(STREAMED));
    client.write(&asked).await;

    for n in 0..40 {
        let began = Instant::now();
        asks.send(n).await.unwrap();
        if n == 0 {
            assert_eq!(client.head().await.0, 200);
        }
        client.read_until(&format!("event-{n}.")).await;
        let took = began.elapsed();
        // The first one also waits for the connection.
        assert!(n == 0 || took < Duration::from_millis(50), "event {n}: {took:?}");
    }

    drop(asks);
    client.read_until("[DONE]").await;
    gateway.idle().await;
    gateway.stop().await;
}

#[tokio::test]
async fn first_token_has_a_timeout_of_its_own() {
    for fault in ["first_ms=5000", "stall_at_event=0"] {
        let (quiet, healthy) = two_mocks().await;
        let script = format!("sim?{fault}");
        let targets = [target(&quiet, &script), target(&healthy, "sim")];
        let gateway = without_breaker(&targets, "timeouts = { first_token_ms = 300 }").await;

        let asked = Instant::now();
        let answer = gateway.chat(STREAMED).await;
        let took = asked.elapsed();

        assert_eq!(
            (answer.status, answer.header("x-sluice-attempts")),
            (200, Some("2")),
            "{fault}"
        );
        assert!((300..800).contains(&took.as_millis()), "{fault}: {took:?}");
        let row = gateway.row().await;
        assert_eq!(row["attempts"][0]["error_class"], "first_token_timeout", "{fault}");
        assert_eq!(row["attempts"][0]["maybe_billed"], true);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn first_token_of_a_plain_answer_has_its_timeout_too() {
    let mock = Mock::start().await.unwrap();
    let targets = [target(&mock, "sim?first_ms=5000")];
    let gateway = without_breaker(&targets, "timeouts = { first_token_ms = 300 }").await;

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    assert_eq!(gateway.row().await["error_class"], "first_token_timeout");
    gateway.stop().await;
}

#[tokio::test]
async fn total_deadline_ends_a_stream_that_never_stops() {
    let mock = Mock::start().await.unwrap();
    let targets = [target(&mock, "sim?events=1000&event_ms=20")];
    let gateway = without_breaker(&targets, "timeouts = { total_ms = 500 }").await;

    let asked = Instant::now();
    let answer = gateway.chat(STREAMED).await;
    let took = asked.elapsed();

    assert_eq!((answer.status, answer.end), (200, End::Cut));
    assert_eq!(data(split_error(&answer.text()).1)["error"]["code"], "upstream_timeout");
    assert!((500..1_000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(mock.wait_for(1).await[0].end, MockEnd::ClientClosed);
    let row = gateway.row().await;
    assert_eq!(
        (&row["outcome"], &row["error_class"]),
        (&"timeout".into(), &"total_timeout".into())
    );
    gateway.stop().await;
}

/// All attempts together have one deadline.
#[tokio::test]
async fn total_deadline_spans_the_attempts() {
    let (first, second) = two_mocks().await;
    let targets =
        [target(&first, "sim?stall_before_headers"), target(&second, "sim?stall_before_headers")];
    let fields = "timeouts = { headers_ms = 400, total_ms = 600 }";
    let gateway = without_breaker(&targets, fields).await;

    let asked = Instant::now();
    let answer = gateway.chat("").await;
    let took = asked.elapsed();

    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    assert!((600..1_000).contains(&took.as_millis()), "{took:?}");
    let row = gateway.row().await;
    assert_eq!(row["attempts"][0]["error_class"], "headers_timeout");
    assert_eq!(row["attempts"][1]["error_class"], "total_timeout");
    gateway.stop().await;
}

/// More often than a breaker would stand, and the target is not blamed for the caller's haste.
#[tokio::test]
async fn caller_may_shorten_the_deadline() {
    let mock = Mock::start().await.unwrap();
    let gateway = TestGateway::start(&[target(&mock, "sim")]).await;
    mock.set_default(behaviour("headers_ms=3000"));
    let authorization = gateway.authorization();
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("x-sluice-timeout-ms", "150"),
    ];
    let body = chat_body("");
    let hasty = request("POST", "/v1/chat/completions", &headers, body.as_bytes());

    for _ in 0..6 {
        gateway.expect_rows(1);
        let asked = Instant::now();
        let answer = gateway.client().await.call(&hasty).await;
        let took = asked.elapsed();
        assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
        assert!((150..600).contains(&took.as_millis()), "{took:?}");
    }

    assert_eq!(target_health(&gateway, 0).await["state"], "closed");
    assert!(gateway.rows().await.iter().all(|row| row["outcome"] == "timeout"));
    gateway.stop().await;
}

#[tokio::test]
async fn caller_cannot_lengthen_the_deadline() {
    let mock = Mock::start().await.unwrap();
    let targets = [target(&mock, "sim?stall_before_headers")];
    let gateway = without_breaker(&targets, "timeouts = { total_ms = 300 }").await;
    let authorization = gateway.authorization();
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("x-sluice-timeout-ms", "60000"),
    ];
    let patient = request("POST", "/v1/chat/completions", &headers, chat_body("").as_bytes());
    gateway.expect_rows(1);

    let asked = Instant::now();
    let answer = gateway.client().await.call(&patient).await;

    assert_eq!(answer.status, 504);
    assert!(asked.elapsed() < Duration::from_millis(800), "{:?}", asked.elapsed());
    gateway.stop().await;
}

#[tokio::test]
async fn silent_stream_gets_heartbeats_between_its_events() {
    for (path, body) in STREAMS {
        let mock = Mock::start().await.unwrap();
        let gateway = without_breaker(&[target(&mock, "sim")], "heartbeat_s = 0.1").await;
        let whole = reference(&gateway, path, body).await;
        mock.set_default(behaviour("event_ms=120"));

        let answer = gateway.post(path, body).await;

        assert_eq!((answer.status, answer.end), (200, End::Whole), "{path}");
        let text = normalized(&answer);
        let beats = text.matches(": keep-alive\n\n").count();
        assert!(3 <= beats, "{path}: {beats} heartbeats");
        assert_eq!(text.replace(": keep-alive\n\n", ""), whole, "{path}");
        gateway.stop().await;
    }
}

/// The second half of the event comes when a heartbeat has been due for long.
#[tokio::test]
async fn heartbeat_never_splits_an_event() {
    for padding in [10, 300_000] {
        let (asks, go) = mpsc::channel::<()>(1);
        let event = chunk(&"x".repeat(padding));
        let sent = event.clone();
        let go = std::sync::Mutex::new(Some(go));
        let provider = Provider::start(move |mut exchange| {
            let go = go.lock().unwrap().take();
            let event = sent.clone();
            async move {
                let Some(mut go) = go else { return };
                exchange.request().await;
                let beginning = head_until_close("text/event-stream") + &chunk("first");
                exchange.write(beginning.as_bytes()).await;
                let (half, rest) = event.split_at(event.len() - 20);
                exchange.write(half.as_bytes()).await;
                go.recv().await;
                exchange.write(rest.as_bytes()).await;
                exchange.write(b"data: [DONE]\n\n").await;
            }
        })
        .await;
        let url = provider.base_url();
        let text = document(&[(&url, "sim", "")], "heartbeat_s = 0.1");
        let gateway = Builder::new(&text).start().await;
        let mut client = gateway.client().await;
        let asked = gateway.request("/v1/chat/completions", &chat_body(STREAMED));
        client.write(&asked).await;
        assert_eq!(client.head().await.0, 200);

        // A small event is held back whole, and beats come; of a large one the first half is out.
        let mut seen = if padding == 10 {
            client.read_until(": keep-alive\n\n").await
        } else {
            let seen = client.read_until(&"x".repeat(200_000)).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            seen
        };
        asks.send(()).await.unwrap();
        seen += &client.read_until("[DONE]").await;

        let expected = chunk("first") + &event + "data: [DONE]";
        assert_eq!(seen.replace(": keep-alive\n\n", "").trim_end(), expected, "{padding}");
        within(gateway.idle()).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn heartbeats_do_not_hide_a_hang() {
    let mock = Mock::start().await.unwrap();
    let targets = [target(&mock, "sim?stall_at_event=2")];
    let fields = "heartbeat_s = 0.1\ntimeouts = { idle_ms = 450 }";
    let gateway = without_breaker(&targets, fields).await;

    let asked = Instant::now();
    let answer = gateway.chat(STREAMED).await;
    let took = asked.elapsed();

    assert_eq!(answer.end, End::Cut);
    assert!(2 <= answer.text().matches(": keep-alive").count());
    assert!((450..950).contains(&took.as_millis()), "{took:?}");
    gateway.stop().await;
}
