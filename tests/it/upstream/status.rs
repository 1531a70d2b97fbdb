//! Providers that answer with an error: whose fault it is decides where the request goes next.

use std::time::{Duration, Instant};

use loadtest::mock::Mock;

use super::{STREAMS, target_health, two_mocks, until_answered_by, without_breaker};
use crate::client::Answer;
use crate::harness::{TestGateway, behaviour, target};

const BUSY: [u16; 7] = [408, 429, 500, 502, 503, 504, 529];
const CALLERS: [u16; 5] = [400, 404, 409, 413, 422];
const AUTH: [u16; 3] = [401, 402, 403];

#[tokio::test]
async fn trouble_of_the_provider_fails_over() {
    for status in BUSY {
        for (path, body) in STREAMS {
            let (busy, healthy) = two_mocks().await;
            let script = format!("sim?status={status}");
            let targets = [target(&busy, &script), target(&healthy, "sim")];
            let gateway = without_breaker(&targets, "").await;

            let answer = gateway.post(path, body).await;

            assert_eq!(
                (answer.status, answer.header("x-sluice-attempts")),
                (200, Some("2")),
                "{status}"
            );
            let row = gateway.row().await;
            assert_eq!(row["outcome"], "success");
            assert_eq!(row["attempts"][0]["status"], status);
            assert_eq!(row["attempts"][0]["maybe_billed"], false);
            gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn last_providers_own_answer_is_shown_when_all_fail() {
    for status in BUSY {
        let (first, second) = two_mocks().await;
        let last = format!("sim?status={status}&body=%7B%22mine%22: {status}%7D");
        let targets = [target(&first, "sim?status=500"), target(&second, &last)];
        let gateway = without_breaker(&targets, "").await;

        let answer = gateway.chat("").await;

        assert_eq!(answer.status, status);
        assert_eq!(answer.text(), format!("{{\"mine\": {status}}}"));
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!(answer.header("x-sluice-attempts"), Some("2"));
        let row = gateway.row().await;
        assert_eq!((&row["outcome"], &row["status"]), (&"upstream_error".into(), &status.into()));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn overloaded_error_of_anthropic_stays_one() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim?status=529")], "").await;

    let answer = gateway.post(STREAMS[1].0, STREAMS[1].1).await;

    assert_eq!(answer.status, 529);
    assert_eq!(answer.json()["error"]["type"], "overloaded_error");
    gateway.stop().await;
}

#[tokio::test]
async fn mistake_of_the_caller_is_passed_on_untouched() {
    for status in CALLERS {
        for (path, body) in STREAMS {
            let (strict, healthy) = two_mocks().await;
            let script = format!("sim?status={status}&body=%7B %22your%22:%22fault%22%7D");
            let targets = [target(&strict, &script), target(&healthy, "sim")];
            let gateway = TestGateway::start(&targets).await;

            // More often than a breaker would stand.
            for _ in 0..6 {
                let answer = gateway.post(path, body).await;
                assert_eq!(
                    (answer.status, answer.text().as_str()),
                    (status, r#"{ "your":"fault"}"#)
                );
                assert_eq!(answer.header("x-should-retry"), None);
                assert_eq!(answer.header("x-sluice-attempts"), Some("1"));
            }

            assert_eq!((strict.journal().len(), healthy.journal().len()), (6, 0));
            assert_eq!(target_health(&gateway, 0).await["state"], "closed");
            assert!(gateway.rows().await.iter().all(|row| row["outcome"] == "client_error"));
            gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn refused_credential_benches_the_connection_and_moves_on() {
    for status in AUTH {
        let (refusing, healthy) = two_mocks().await;
        let script = format!("sim?status={status}");
        let targets = [target(&refusing, &script), target(&healthy, "sim")];
        let gateway = without_breaker(&targets, "").await;

        for expected in ["2", "1", "1"] {
            let answer = gateway.chat("").await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("x-sluice-attempts"), Some(expected), "{status}");
        }

        assert_eq!(refusing.journal().len(), 1, "{status}: a benched connection was used");
        let health = target_health(&gateway, 0).await;
        let benched_for = health["benched_for_ms"].as_u64().unwrap();
        assert!((55_000..=60_000).contains(&benched_for), "{health}");
        assert_eq!(health["state"], "closed", "the breaker has nothing to do with it");
        assert_eq!(gateway.metric("sluice_connection_benched_total"), 1.0);
        gateway.stop().await;
    }
}

/// The caller's own key is good: a 401 would make it doubt.
#[tokio::test]
async fn refused_credential_alone_is_a_502_of_ours() {
    for status in AUTH {
        for (path, body) in STREAMS {
            let mock = Mock::start().await.unwrap();
            let script = format!("sim?status={status}&error_message=sk-provider-credential-0");
            let gateway = without_breaker(&[target(&mock, &script)], "").await;

            let answer = gateway.post(path, body).await;

            assert_eq!(answer.status, 502, "{status} {path}");
            assert!(!answer.text().contains("sk-provider"), "{}", answer.text());
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            if path != "/v1/messages" {
                assert_eq!(answer.code(), "upstream_auth_failed");
            }
            let row = gateway.row().await;
            let class = if status == 402 { "upstream_billing" } else { "upstream_auth" };
            assert_eq!(row["error_class"], class);

            let answer = gateway.post(path, body).await;
            assert_eq!(mock.journal().len(), 1, "a benched connection was used");
            assert!([502, 503].contains(&answer.status), "{}", answer.text());
            gateway.stop().await;
        }
    }
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").unwrap().parse().unwrap()
}

#[tokio::test]
async fn soonest_retry_after_is_told_when_all_are_limited() {
    let (first, second) = two_mocks().await;
    let targets = [
        target(&first, "sim?status=429&retry_after=3"),
        target(&second, "sim?status=429&retry_after=7"),
    ];
    let gateway = TestGateway::start(&targets).await;

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, retry_after(&answer)), (429, 3));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "retry-after").count(), 1);

    // Both are left alone from now on, and the answer still says how long.
    for _ in 0..5 {
        let answer = gateway.chat("").await;
        assert!([429, 503].contains(&answer.status), "{}", answer.text());
        assert!((1..=3).contains(&retry_after(&answer)), "{:?}", answer.headers);
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    assert_eq!((first.journal().len(), second.journal().len()), (1, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn limited_target_is_not_used_early_and_is_used_again() {
    let (limited, healthy) = two_mocks().await;
    let gateway = TestGateway::start(&[target(&limited, "sim"), target(&healthy, "sim")]).await;
    limited.script(vec![behaviour("status=429&retry_after_ms=600")]);

    let asked = Instant::now();
    assert_eq!(gateway.chat("").await.header("x-sluice-attempts"), Some("2"));
    assert_eq!(target_health(&gateway, 0).await["state"], "open");
    until_answered_by(&gateway, "m0").await;
    let took = asked.elapsed();

    assert!((600..1_500).contains(&took.as_millis()), "{took:?}");
    gateway.stop().await;
}

/// A limit is no failure: five of them in a row leave the target as it was.
#[tokio::test]
async fn limits_do_not_open_the_breaker_for_longer() {
    let (limited, healthy) = two_mocks().await;
    let gateway = TestGateway::start(&[target(&limited, "sim"), target(&healthy, "sim")]).await;

    for _ in 0..6 {
        limited.script(vec![behaviour("status=429&retry_after_ms=20")]);
        let asked = Instant::now();
        until_answered_by(&gateway, "m0").await;
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn other_statuses_fail_over_where_the_deployment_says_so() {
    let (strict, healthy) = two_mocks().await;
    let targets = [target(&strict, "sim?status=409"), target(&healthy, "sim")];
    let gateway = without_breaker(&targets, "failover = { on = [\"409\"] }").await;
    assert_eq!(gateway.chat("").await.header("x-sluice-attempts"), Some("2"));
    gateway.stop().await;

    let targets = [target(&strict, "sim?status=503"), target(&healthy, "sim")];
    let gateway = without_breaker(&targets, "failover = { on = [\"409\"] }").await;
    let answer = gateway.chat("").await;
    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (503, Some("1")));
    gateway.stop().await;
}
