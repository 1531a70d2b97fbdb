//! Large requests: what leaves is what came, to each target that is tried.

use loadtest::mock::{Mock, fnv1a};

use super::{NO_BREAKER, large_body, two_mocks, without_breaker};
use crate::client::{Answer, request};
use crate::harness::{Builder, TestGateway, behaviour, deployment, target};

const FIVE_MB: usize = 5 * 1024 * 1024;

/// The same request in chunks of sizes from 1 byte to 64 KiB.
async fn post_chunked(gateway: &TestGateway, body: &str) -> Answer {
    gateway.expect_rows(1);
    let authorization = gateway.authorization();
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("transfer-encoding", "chunked"),
    ];
    let mut bytes = request("GET", "/v1/chat/completions", &headers, b"");
    bytes.splice(..3, *b"POST");
    let mut rest = body.as_bytes();
    let mut size = 1;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = after;
        size = size * 7 % 65_521 + 1;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    gateway.client().await.call(&bytes).await
}

/// Three targets, of which the last answers; all have received the very bytes of the client.
async fn arrives_everywhere(faults: [&str; 2], is_chunked: bool) {
    let mocks =
        [Mock::start().await.unwrap(), Mock::start().await.unwrap(), Mock::start().await.unwrap()];
    for (mock, fault) in mocks.iter().zip(faults) {
        mock.set_default(behaviour(fault));
    }
    // The model's name is the same upstream: nothing needs to be changed.
    let targets: Vec<_> = mocks.iter().map(|mock| target(mock, "chat")).collect();
    let gateway = without_breaker(&targets, "").await;
    let body = large_body(FIVE_MB);

    let answer = if is_chunked {
        post_chunked(&gateway, &body).await
    } else {
        gateway.post("/v1/chat/completions", &body).await
    };

    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("3")));
    for mock in &mocks {
        let journal = mock.wait_for(1).await;
        assert_eq!(journal.len(), 1);
        assert_eq!(journal[0].body_bytes, body.len() as u64);
        assert_eq!(journal[0].body_fnv, fnv1a(body.as_bytes()));
        assert!(!journal[0].is_chunked, "the length is known by then");
    }
    assert_eq!(gateway.row().await["request_bytes"], body.len());
    gateway.stop().await;
}

#[tokio::test]
async fn five_megabytes_reach_the_third_target_unchanged() {
    arrives_everywhere(["status=503", "status=500"], false).await;
}

#[tokio::test]
async fn five_megabytes_in_chunks_reach_the_third_target_unchanged() {
    arrives_everywhere(["status=503", "status=429"], true).await;
}

#[tokio::test]
async fn five_megabytes_survive_resets() {
    arrives_everywhere(["reset_before_headers", "close_before_headers"], false).await;
}

/// The provider answers, and closes, while the gateway still sends.
#[tokio::test]
async fn refusal_in_the_middle_of_an_upload_is_passed_on() {
    for _ in 0..10 {
        let (strict, healthy) = two_mocks().await;
        let targets = [target(&strict, "chat"), target(&healthy, "chat")];
        let gateway = TestGateway::start(&targets).await;
        strict.set_default(behaviour("early_response_close"));

        let answer = gateway.post("/v1/chat/completions", &large_body(FIVE_MB)).await;

        assert_eq!(answer.status, 413, "{}", answer.text());
        assert!(answer.json()["error"].is_object());
        assert_eq!(answer.header("x-sluice-attempts"), Some("1"));
        assert_eq!((strict.journal().len(), healthy.journal().len()), (1, 0));
        let row = gateway.row().await;
        assert_eq!((&row["outcome"], &row["status"]), (&"client_error".into(), &413.into()));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn trouble_in_the_middle_of_an_upload_fails_over() {
    let (busy, healthy) = two_mocks().await;
    let targets = [target(&busy, "chat"), target(&healthy, "chat")];
    let gateway = Builder::new(&deployment(&targets, NO_BREAKER)).start().await;
    busy.set_default(behaviour("early_response_close&status=503"));
    let body = large_body(FIVE_MB);

    let answer = gateway.post("/v1/chat/completions", &body).await;

    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("2")));
    assert_eq!(gateway.row().await["attempts"][0]["status"], 503);
    assert_eq!(healthy.wait_for(1).await[0].body_fnv, fnv1a(body.as_bytes()));
    gateway.stop().await;
}

/// A provider that takes its time to read gets all of it.
#[tokio::test]
async fn slow_reader_among_the_providers_gets_everything() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "chat")], "").await;
    mock.set_default(behaviour("slow_read=1"));
    let body = large_body(1024 * 1024);

    let answer = gateway.post("/v1/chat/completions", &body).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(mock.wait_for(1).await[0].body_fnv, fnv1a(body.as_bytes()));
    gateway.stop().await;
}
