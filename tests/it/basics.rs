//! One request of each kind, there and back.

use loadtest::mock::Mock;

use crate::client::{End, request};
use crate::harness::{Builder, TestGateway, chat_body, deployment, target};

#[tokio::test]
async fn chat_is_answered_and_recorded() {
    let (gateway, mock) = TestGateway::with_mock().await;

    let answer = gateway.chat("").await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["object"], "chat.completion");
    assert_eq!(answer.header("x-sluice-deployment"), Some("chat"));
    assert_eq!(answer.header("x-sluice-attempts"), Some("1"));
    let entry = &mock.wait_for(1).await[0];
    assert_eq!(entry.header("authorization"), Some("Bearer sk-provider-credential-0"));
    let row = gateway.row().await;
    assert_eq!(row["outcome"], "success");
    assert_eq!(row["request_id"], answer.header("x-request-id").unwrap());
    assert_eq!(row["input_uncached"], 20);
    assert_eq!(row["cost_nanousd"], 20 * 1000 + 8 * 2000);
    gateway.stop().await;
}

#[tokio::test]
async fn stream_is_passed_on_event_by_event() {
    let (gateway, mock) = TestGateway::with_mock().await;

    let answer = gateway.chat(r#""stream":true"#).await;

    assert_eq!((answer.status, answer.end), (200, End::Whole));
    let events = answer.events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    assert!(!answer.text().contains("\"choices\":[]"), "the extra usage chunk is for us alone");
    assert!(String::from_utf8_lossy(&mock.wait_for(1).await[0].body).contains("include_usage"));
    let row = gateway.row().await;
    assert_eq!(row["usage_source"], "reported");
    assert_eq!(row["output"], 8);
    gateway.stop().await;
}

#[tokio::test]
async fn failing_target_is_passed_over() {
    let busy = Mock::start().await.unwrap();
    let healthy = Mock::start().await.unwrap();
    let targets = [target(&busy, "sim?status=503"), target(&healthy, "sim")];
    let gateway = TestGateway::start(&targets).await;

    let answer = gateway.chat("").await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-sluice-attempts"), Some("2"));
    let row = gateway.row().await;
    assert_eq!(row["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(row["attempts"][0]["error_class"], "server_error");
    gateway.stop().await;
}

#[tokio::test]
async fn unknown_key_is_refused_and_counted() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let key = sluice::key::generate();
    let authorization = format!("Bearer {}", key.expose());
    let body = chat_body("");
    let headers = [("authorization", authorization.as_str())];
    let request = request("POST", "/v1/chat/completions", &headers, body.as_bytes());

    let answer = gateway.client().await.call(&request).await;

    assert_eq!((answer.status, answer.code()), (401, "invalid_api_key".to_owned()));
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn deployment_takes_its_fields() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "heartbeat_s = 0");
    let gateway = Builder::new(&text).start().await;
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}
