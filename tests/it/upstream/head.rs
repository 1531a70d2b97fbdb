//! Trouble before the head of an answer, and heads that are strange.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loadtest::mock::{End, Mock};

use super::{Provider, two_mocks, without_breaker};
use crate::client::End as BodyEnd;
use crate::harness::{Builder, TestGateway, behaviour, document, target};

#[tokio::test]
async fn hang_before_the_head_ends_at_the_headers_timeout() {
    let mock = Mock::start().await.unwrap();
    let targets = [target(&mock, "sim?stall_before_headers")];
    let gateway = without_breaker(&targets, "timeouts = { headers_ms = 300 }").await;

    let asked = Instant::now();
    let answer = gateway.chat("").await;
    let took = asked.elapsed();

    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert!((300..800).contains(&took.as_millis()), "{took:?}");
    assert_eq!(mock.wait_for(1).await[0].end, End::ClientClosed);
    let row = gateway.row().await;
    assert_eq!(
        (&row["outcome"], &row["error_class"]),
        (&"timeout".into(), &"headers_timeout".into())
    );
    assert_eq!(row["attempts"][0]["maybe_billed"], true);
    gateway.stop().await;
}

#[tokio::test]
async fn hang_before_the_head_fails_over() {
    let (hanging, healthy) = two_mocks().await;
    let targets = [target(&hanging, "sim?stall_before_headers"), target(&healthy, "sim")];
    let gateway = without_breaker(&targets, "timeouts = { headers_ms = 200 }").await;

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("2")));
    let row = gateway.row().await;
    assert_eq!(row["attempts"][0]["error_class"], "headers_timeout");
    assert_eq!(row["attempts"][0]["maybe_billed"], true);
    assert_eq!(row["attempts"][1]["maybe_billed"], false);
    gateway.stop().await;
}

/// Each byte comes in time, and the head does not.
#[tokio::test]
async fn dripping_head_ends_at_the_headers_timeout() {
    let mock = Mock::start().await.unwrap();
    let targets = [target(&mock, "sim?drip_headers_ms=50")];
    let gateway = without_breaker(&targets, "timeouts = { headers_ms = 500 }").await;

    let asked = Instant::now();
    let answer = gateway.chat("").await;
    let took = asked.elapsed();

    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    assert!((500..1_000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(mock.wait_for(1).await[0].end, End::ClientClosed);
    gateway.stop().await;
}

/// What is sent, and gets no answer, may have been paid for: never twice to the same provider.
async fn ends_before_the_head(script: &str) {
    let (broken, healthy) = two_mocks().await;
    let alone = without_breaker(&[target(&broken, script)], "").await;
    let answer = alone.chat("").await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"), "{script}");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let row = alone.row().await;
    assert_eq!((&row["outcome"], &row["error_class"]), (&"upstream_error".into(), &"reset".into()));
    assert_eq!(row["attempts"][0]["maybe_billed"], true);
    assert_eq!(broken.journal().len(), 1, "{script}");
    alone.stop().await;

    let targets = [target(&broken, script), target(&healthy, "sim")];
    let both = without_breaker(&targets, "").await;
    let answer = both.chat("").await;
    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("2")), "{script}");
    assert_eq!((broken.journal().len(), healthy.journal().len()), (2, 1), "{script}");
    assert_eq!(both.row().await["attempts"][0]["maybe_billed"], true);
    both.stop().await;

    let careful = without_breaker(&targets, "failover = { on = [\"503\"] }").await;
    assert_eq!(careful.chat("").await.status, 502, "{script}");
    assert_eq!((broken.journal().len(), healthy.journal().len()), (3, 1), "{script}");
    careful.stop().await;
}

#[tokio::test]
async fn reset_before_the_head_fails_over_and_may_be_billed() {
    ends_before_the_head("sim?reset_before_headers").await;
}

#[tokio::test]
async fn close_before_the_head_fails_over_and_may_be_billed() {
    ends_before_the_head("sim?close_before_headers").await;
}

/// The connection was good a moment ago, which does not make it stale.
#[tokio::test]
async fn reset_before_the_head_on_a_pooled_connection_is_not_sent_again() {
    for fault in ["headers_ms=500&reset_before_headers", "headers_ms=500&close_before_headers"] {
        let mock = Mock::start().await.unwrap();
        let gateway = without_breaker(&[target(&mock, "sim")], "").await;
        mock.script(vec![behaviour("events=2"), behaviour(fault)]);

        assert_eq!(gateway.chat("").await.status, 200);
        let answer = gateway.chat("").await;

        let journal = mock.wait_for(2).await;
        assert_eq!(journal[0].connection, journal[1].connection, "the pool was used");
        assert_eq!(journal.len(), 2, "{fault}: executed twice");
        assert_eq!(answer.status, 502, "{fault}");
        gateway.stop().await;
    }
}

/// Closes after each answer without a word, so that the gateway finds each pooled connection stale:
/// 100 requests.
#[tokio::test]
async fn stale_pooled_connection_costs_nothing() {
    let executed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executed);
    let provider = Provider::start(move |mut exchange| {
        let executed = Arc::clone(&counted);
        async move {
            if exchange.request().await.is_none() {
                return;
            }
            executed.fetch_add(1, Ordering::Relaxed);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2";
            exchange.write(format!("{head}\r\n\r\n{{}}").as_bytes()).await;
        }
    })
    .await;
    let url = provider.base_url();
    let gateway = Builder::new(&document(&[(&url, "sim", "")], "")).start().await;

    for n in 1..=100 {
        let answer = gateway.chat("").await;
        assert_eq!(answer.status, 200, "request {n}: {}", answer.text());
        assert_eq!(answer.header("x-sluice-attempts"), Some("1"));
    }

    assert_eq!(executed.load(Ordering::Relaxed), 100);
    gateway.stop().await;
}

#[tokio::test]
async fn connection_that_the_provider_closes_is_not_pooled() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim?close")], "").await;

    for _ in 0..5 {
        let answer = gateway.chat("").await;
        assert_eq!((answer.status, answer.end), (200, BodyEnd::Whole));
        assert_ne!(
            answer.header("connection"),
            Some("close"),
            "that is between us and the provider"
        );
    }

    let journal = mock.wait_for(5).await;
    let connections: Vec<_> = journal.iter().map(|entry| entry.connection).collect();
    assert_eq!(connections, [1, 2, 3, 4, 5]);
    gateway.stop().await;
}

#[tokio::test]
async fn pooled_connection_is_used_again() {
    let (gateway, mock) = TestGateway::with_mock().await;
    for body in ["", r#""stream":true"#, "", r#""stream":true"#] {
        assert_eq!(gateway.chat(body).await.status, 200);
    }
    assert!(mock.wait_for(4).await.iter().all(|entry| entry.connection == 1));
    gateway.stop().await;
}

#[tokio::test]
async fn head_that_is_not_http_fails_over() {
    for raw in ["garbage%0d%0a%0d%0a", "HTTP/1.1 abc%0d%0a%0d%0a", "%00%01%02%0d%0a%0d%0a"] {
        let (broken, healthy) = two_mocks().await;
        let script = format!("sim?raw={raw}");
        let targets = [target(&broken, &script), target(&healthy, "sim")];
        let gateway = without_breaker(&targets, "").await;

        let answer = gateway.chat("").await;

        assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("2")), "{raw}");
        assert_eq!(broken.journal().len(), 1);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn informational_answer_is_skipped() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim?informational")], "").await;
    for body in ["", r#""stream":true"#] {
        let answer = gateway.chat(body).await;
        assert_eq!((answer.status, answer.end), (200, BodyEnd::Whole));
        assert_eq!(answer.header("link"), None);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn trailers_are_dropped_and_the_connection_stays_clean() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim?trailers")], "").await;
    for body in ["", r#""stream":true"#, ""] {
        let answer = gateway.chat(body).await;
        assert_eq!((answer.status, answer.end), (200, BodyEnd::Whole));
        assert!(!answer.text().contains("x-simulated-trailer"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn answer_without_content_passes() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim?no_content")], "").await;

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(gateway.row().await["status"], 204);
    gateway.stop().await;
}

#[tokio::test]
async fn redirect_is_never_followed() {
    let (redirecting, elsewhere) = two_mocks().await;
    let script = format!("sim?redirect={}/chat/completions", elsewhere.base_url());
    let gateway = without_breaker(&[target(&redirecting, &script)], "").await;

    for body in ["", r#""stream":true"#] {
        let answer = gateway.chat(body).await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"));
        assert_eq!(answer.header("location"), None);
    }

    assert!(elsewhere.journal().is_empty());
    assert_eq!(elsewhere.open_connections(), 0);
    assert_eq!(gateway.rows().await[0]["error_class"], "redirect");
    gateway.stop().await;
}

#[tokio::test]
async fn upgrade_that_nobody_asked_for_is_a_502() {
    let provider = Provider::start(|mut exchange| async move {
        exchange.request().await;
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n";
        exchange.write(head.as_bytes()).await;
        exchange.left().await;
    })
    .await;
    let url = provider.base_url();
    let gateway = Builder::new(&document(&[(&url, "sim", "")], "")).start().await;

    let asked = Instant::now();
    let answer = gateway.chat("").await;

    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    gateway.stop().await;
}
