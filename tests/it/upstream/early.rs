//! Errors inside a 200 stream, before any content: nothing of such an attempt reaches the client.

use loadtest::mock::Mock;

use super::{STREAMS, normalized, reference, two_mocks, without_breaker};
use crate::client::End;
use crate::harness::{TestGateway, behaviour, target};

/// The forms in which a dialect tells of an error at the beginning.
fn forms(path: &str) -> &'static [&'static str] {
    if path == "/v1/responses" {
        &["early_error", "early_error=bare", "early_error=failed"]
    } else {
        &["early_error", "early_error=bare"]
    }
}

#[tokio::test]
async fn early_error_fails_over_and_leaves_no_trace() {
    for (path, body) in STREAMS {
        for form in forms(path) {
            for status in [429, 500, 503, 529] {
                let (failing, healthy) = two_mocks().await;
                let targets = [target(&failing, "sim"), target(&healthy, "sim")];
                let gateway = without_breaker(&targets, "").await;
                let whole = reference(&gateway, path, body).await;
                let script = format!("{form}&status={status}");
                failing.set_default(behaviour(&script));

                let answer = gateway.post(path, body).await;

                let why = format!("{path} {script}");
                assert_eq!((answer.status, answer.end), (200, End::Whole), "{why}");
                assert_eq!(answer.header("x-sluice-attempts"), Some("2"), "{why}");
                assert_eq!(normalized(&answer), whole, "{why}");
                let row = &gateway.rows().await[1];
                assert_eq!(row["attempts"][0]["error_class"], "early_error", "{why}");
                gateway.stop().await;
            }
        }
    }
}

#[tokio::test]
async fn early_error_of_the_caller_is_passed_on() {
    for (path, body) in STREAMS {
        for form in forms(path) {
            let (strict, healthy) = two_mocks().await;
            let script = format!("sim?{form}&status=400&error_message=too long");
            let targets = [target(&strict, &script), target(&healthy, "sim")];
            let gateway = TestGateway::start(&targets).await;

            for _ in 0..6 {
                let answer = gateway.post(path, body).await;
                assert_eq!(answer.status, 200, "{path} {form}");
                assert!(answer.text().contains("too long"), "{path} {form}: {}", answer.text());
                assert_eq!(answer.header("x-sluice-attempts"), Some("1"));
            }

            assert_eq!((strict.journal().len(), healthy.journal().len()), (6, 0), "{path} {form}");
            gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn early_error_about_our_credential_is_no_business_of_the_client() {
    for (path, body) in STREAMS {
        let mock = Mock::start().await.unwrap();
        let script = "sim?early_error&status=401&error_message=sk-provider-credential-0";
        let gateway = without_breaker(&[target(&mock, script)], "").await;

        let answer = gateway.post(path, body).await;

        assert_eq!(answer.status, 502, "{path}: {}", answer.text());
        assert!(!answer.text().contains("sk-provider"), "{path}: {}", answer.text());
        gateway.stop().await;
    }
}

#[tokio::test]
async fn early_errors_of_all_targets_are_a_502() {
    for (path, body) in STREAMS {
        let (first, second) = two_mocks().await;
        let script = "sim?early_error&status=503";
        let gateway = without_breaker(&[target(&first, script), target(&second, script)], "").await;

        let answer = gateway.post(path, body).await;

        assert_eq!(answer.status, 502, "{path}: {}", answer.text());
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!((first.journal().len(), second.journal().len()), (1, 1));
        let row = gateway.row().await;
        assert_eq!(
            (&row["outcome"], &row["error_class"]),
            (&"upstream_error".into(), &"early_error".into())
        );
        gateway.stop().await;
    }
}

#[tokio::test]
async fn failover_can_leave_early_errors_out() {
    let (failing, healthy) = two_mocks().await;
    let targets = [target(&failing, "sim?early_error&status=503"), target(&healthy, "sim")];
    let gateway = without_breaker(&targets, "failover = { on = [\"503\"] }").await;

    let answer = gateway.post(STREAMS[0].0, STREAMS[0].1).await;

    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("\"error\""), "{}", answer.text());
    assert!(healthy.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn early_errors_open_the_breaker() {
    let (failing, healthy) = two_mocks().await;
    let targets = [target(&failing, "sim?early_error&status=503"), target(&healthy, "sim")];
    let gateway = TestGateway::start(&targets).await;

    for _ in 0..8 {
        assert_eq!(gateway.post(STREAMS[0].0, STREAMS[0].1).await.status, 200);
    }

    assert_eq!(failing.journal().len(), 5);
    gateway.stop().await;
}
