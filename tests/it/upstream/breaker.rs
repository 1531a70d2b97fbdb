//! Breakers, as the providers and the operator see them.

use std::time::{Duration, Instant};

use super::{target_health, two_mocks, until_answered_by};
use crate::harness::{Builder, TestGateway, behaviour, deployment, target};

#[tokio::test]
async fn breaker_opens_after_five_failures_and_shows_it() {
    let (failing, healthy) = two_mocks().await;
    let gateway = TestGateway::start(&[target(&failing, "sim"), target(&healthy, "sim")]).await;
    failing.set_default(behaviour("status=500"));
    assert_eq!(target_health(&gateway, 0).await["state"], "closed");

    for n in 1..=10 {
        let answer = gateway.chat("").await;
        let expected = if n <= 5 { "2" } else { "1" };
        assert_eq!(
            (answer.status, answer.header("x-sluice-attempts")),
            (200, Some(expected)),
            "{n}"
        );
    }

    assert_eq!((failing.journal().len(), healthy.journal().len()), (5, 10));
    let health = target_health(&gateway, 0).await;
    assert_eq!(health["state"], "open", "{health}");
    assert_eq!(health["last_error"], "server_error");
    let ejected_for = health["ejected_for_ms"].as_u64().unwrap();
    assert!((3_000..=5_500).contains(&ejected_for), "{health}");
    assert_eq!(gateway.metric("sluice_breaker_state{target=\"m0\"}"), 2.0);
    assert_eq!(gateway.metric("sluice_breaker_state{target=\"m1\"}"), 0.0);
    assert_eq!(gateway.metric("sluice_failovers_total"), 5.0);
    let page = gateway.admin_get("/metrics").await.text();
    assert!(page.contains("sluice_breaker_state{"), "{page}");
    gateway.stop().await;
}

#[tokio::test]
async fn one_probe_decides_after_the_cooldown() {
    let (failing, healthy) = two_mocks().await;
    let fields = "breaker = { consecutive_failures = 5, cooldown_s = 0.4 }";
    let targets = [target(&failing, "sim"), target(&healthy, "sim")];
    let gateway = Builder::new(&deployment(&targets, fields)).start().await;
    failing.set_default(behaviour("status=500"));
    for _ in 0..5 {
        gateway.chat("").await;
    }
    let opened = Instant::now();

    // A probe that fails opens it for twice as long.
    while failing.journal().len() < 6 {
        assert_eq!(gateway.chat("").await.status, 200);
        assert!(opened.elapsed() < Duration::from_secs(3), "no probe");
    }
    let probed = opened.elapsed();
    assert!((330..1_000).contains(&probed.as_millis()), "{probed:?}");
    failing.set_default(behaviour(""));
    let again = Instant::now();
    until_answered_by(&gateway, "m0").await;
    let took = again.elapsed();

    assert!((650..1_800).contains(&took.as_millis()), "{took:?}");
    assert_eq!(failing.journal().len(), 7, "one probe at a time");
    assert_eq!(target_health(&gateway, 0).await["state"], "closed");
    assert_eq!(gateway.metric("sluice_breaker_state{target=\"m0\"}"), 0.0);
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_target_left_the_answer_says_when_to_come_back() {
    let (failing, _) = two_mocks().await;
    let gateway = TestGateway::start(&[target(&failing, "sim?status=500")]).await;
    for _ in 0..5 {
        assert_eq!(gateway.chat("").await.status, 500);
    }

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, answer.code().as_str()), (503, "no_healthy_target"));
    let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((4..=6).contains(&retry_after), "{retry_after}");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(failing.journal().len(), 5);
    gateway.stop().await;
}

/// Streams that break in the middle are the target's failures as well.
#[tokio::test]
async fn broken_streams_open_the_breaker() {
    let (breaking, healthy) = two_mocks().await;
    let targets = [target(&breaking, "sim?cut_at_event=2"), target(&healthy, "sim")];
    let gateway = TestGateway::start(&targets).await;

    for _ in 0..5 {
        gateway.chat(r#""stream":true"#).await;
    }
    let answer = gateway.chat(r#""stream":true"#).await;

    assert_eq!(answer.header("x-sluice-model"), Some("m1"));
    assert_eq!(breaking.journal().len(), 5);
    gateway.stop().await;
}
