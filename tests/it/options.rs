//! What a caller asks of the gateway itself.

use std::time::{Duration, Instant};

use loadtest::mock::Mock;
use serde_json::json;

use crate::client::{Answer, request};
use crate::harness::{TestGateway, chat_body, target};

async fn chat_with(gateway: &TestGateway, headers: &[(&str, &str)], fields: &str) -> Answer {
    let authorization = gateway.authorization();
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend_from_slice(headers);
    gateway.expect_rows(1);
    let body = chat_body(fields);
    gateway
        .client()
        .await
        .call(&request("POST", "/v1/chat/completions", &all, body.as_bytes()))
        .await
}

#[tokio::test]
async fn header_wins_over_the_field_and_the_field_over_the_body() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    let field = r#""user":"from-user","sluice":{"correlation_id":"cf","end_user":"ef","metadata":{"a":"f","b":"f"}}"#;
    let headers = [
        ("x-sluice-correlation-id", "ch"),
        ("x-sluice-end-user", "eh"),
        ("x-sluice-metadata-a", "h"),
    ];
    assert_eq!(chat_with(&gateway, &headers, field).await.status, 200);
    let row = gateway.rows().await.pop().unwrap();
    assert_eq!((&row["correlation_id"], &row["end_user"]), (&json!("ch"), &json!("eh")));
    assert_eq!(row["metadata"], json!({"a": "h", "b": "f"}));
    assert_eq!(chat_with(&gateway, &[], field).await.status, 200);
    let row = gateway.rows().await.pop().unwrap();
    assert_eq!((&row["correlation_id"], &row["end_user"]), (&json!("cf"), &json!("ef")));
    assert_eq!(chat_with(&gateway, &[], r#""user":"from-user""#).await.status, 200);
    assert_eq!(gateway.rows().await.pop().unwrap()["end_user"], "from-user");
    gateway.stop().await;
}

#[tokio::test]
async fn caller_may_shorten_the_time_and_not_lengthen_it() {
    let mock = Mock::start().await.unwrap();
    let gateway = TestGateway::start(&[target(&mock, "sim?stall_before_headers")]).await;
    for (headers, fields) in [
        (&[("x-sluice-timeout-ms", "150")][..], ""),
        (&[], r#""sluice":{"timeout_ms":150}"#),
        (&[("x-sluice-timeout-ms", "150")], r#""sluice":{"timeout_ms":60000}"#),
    ] {
        let began = Instant::now();
        let answer = chat_with(&gateway, headers, fields).await;
        let elapsed = began.elapsed();
        assert_eq!((answer.status, answer.code()), (504, "upstream_timeout".to_owned()));
        assert!(
            (Duration::from_millis(150)..Duration::from_secs(3)).contains(&elapsed),
            "{elapsed:?}"
        );
        let row = gateway.rows().await.pop().unwrap();
        assert_eq!(
            (&row["outcome"], &row["error_class"]),
            (&json!("timeout"), &json!("total_timeout"))
        );
    }
    gateway.stop().await;

    let text = crate::harness::deployment(
        &[target(&mock, "sim?stall_before_headers")],
        "timeouts = { total_ms = 200 }",
    );
    let gateway = crate::harness::Builder::new(&text).start().await;
    let answer = chat_with(&gateway, &[("x-sluice-timeout-ms", "600000")], "").await;
    assert_eq!((answer.status, answer.code()), (504, "upstream_timeout".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn bad_options_are_refused_by_name() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let long = "x".repeat(513);
    for (headers, fields, param) in [
        (&[("x-sluice-timeout-ms", "soon")][..], "", "x-sluice-timeout-ms"),
        (&[("x-sluice-timeout-ms", "0")], "", "x-sluice-timeout-ms"),
        (&[("x-sluice-timeout-ms", "-5")], "", "x-sluice-timeout-ms"),
        (&[("x-sluice-correlation-id", &long)], "", "x-sluice-correlation-id"),
        (&[("x-sluice-metadata-a", &long)], "", "x-sluice-metadata-a"),
        (&[], r#""sluice":7"#, "sluice"),
        (&[], r#""sluice":{"colour":"red"}"#, "sluice"),
        (&[], r#""sluice":{"timeout_ms":0}"#, "sluice.timeout_ms"),
        (&[], r#""sluice":{"timeout_ms":"9"}"#, "sluice.timeout_ms"),
        (&[], r#""sluice":{"metadata":{"a":1}}"#, "sluice.metadata"),
        (&[], r#""sluice":{},"sluice":{}"#, "sluice"),
    ] {
        let answer = chat_with(&gateway, headers, fields).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, "invalid_request".to_owned()),
            "{param} {fields}"
        );
        let error = &answer.json()["error"];
        assert_eq!(error["param"], param, "{fields}");
        let named = param.split('.').next_back().unwrap();
        assert!(error["message"].as_str().unwrap().contains(named), "{error}");
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn options_never_reach_the_provider() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let headers =
        [("x-sluice-cache", "no-store"), ("x-sluice-metadata-a", "b"), ("x-sluice-unknown", "1")];
    let answer = chat_with(&gateway, &headers, r#""sluice":{"end_user":"u"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let entry = &mock.wait_for(1).await[0];
    assert!(
        entry.headers.iter().all(|(name, _)| !name.starts_with("x-sluice")),
        "{:?}",
        entry.headers
    );
    assert!(!String::from_utf8_lossy(&entry.body).contains("sluice"));
    gateway.stop().await;
}
