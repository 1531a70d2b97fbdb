//! The routes of the admin listener, after real requests.

use loadtest::mock::Mock;
use serde_json::{Value, json};

use crate::client::{Answer, Client, request};
use crate::harness::{ADMIN_TOKEN, TestGateway, target};

async fn admin(gateway: &TestGateway, method: &str, path: &str, body: &str) -> Answer {
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let request = request(method, path, &headers, body.as_bytes());
    Client::connect(gateway.admin).await.call(&request).await
}

async fn ask(gateway: &TestGateway, fields: &str) -> (u16, Value) {
    let body = format!(
        r#"{{"range":{{"from":"2026-01-01T00:00:00Z","to":"2027-01-30T00:00:00Z"}},{fields}}}"#
    );
    let answer = admin(gateway, "POST", "/api/v1/usage/query", &body).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn requests_can_be_asked_about_once_they_are_written() {
    let mock = Mock::start().await.unwrap();
    let gateway =
        TestGateway::start(&[target(&mock, "sim?status=503"), target(&mock, "sim")]).await;
    for _ in 0..3 {
        assert_eq!(gateway.chat("").await.status, 200);
    }
    let rows = gateway.rows().await;
    let (status, answer) = ask(
        &gateway,
        r#""workspace":"acme","metrics":["requests","failovers","cost_usd","total_tokens"],"dimensions":["model"]"#,
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let nano: u64 = rows.iter().map(|row| row["cost_nanousd"].as_u64().unwrap()).sum();
    let row = &answer["data"][0];
    assert_eq!((&row["model"], &row["requests"]), (&json!("m1"), &json!(3)));
    assert_eq!(row["failovers"], json!(3));
    assert_eq!(row["cost_usd"], json!(nano as f64 / 1e9));
    assert!(row["total_tokens"].as_u64().unwrap() > 0);

    let page = gateway.admin_get("/api/v1/requests?model=m1&limit=2").await.json();
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    let next = page["next_cursor"].as_str().unwrap();
    let rest = gateway.admin_get(&format!("/api/v1/requests?model=m1&limit=2&cursor={next}")).await;
    let rest = rest.json();
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    let id = rest["data"][0]["request_id"].as_str().unwrap();
    let one = gateway.admin_get(&format!("/api/v1/requests/{id}")).await.json();
    assert_eq!(one["request_id"], rest["data"][0]["request_id"]);
    assert_eq!(one["attempts"].as_array().unwrap().len(), 2);
    let none = gateway.admin_get("/api/v1/requests/01890000-0000-7000-8000-000000000000").await;
    assert_eq!(none.status, 404);
    gateway.stop().await;
}

#[tokio::test]
async fn wrong_questions_are_told_which_field_is_wrong() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    for (fields, field) in [
        (r#""metrics":["nonsense"]"#, "metrics[0]"),
        (r#""metrics":["requests"],"granularity":"blink""#, "granularity"),
        (r#""metrics":["requests"],"sql":"SELECT 1""#, "sql"),
    ] {
        let (status, problem) = ask(&gateway, fields).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_query")), "{problem}");
        assert_eq!(problem["field"], json!(field));
    }
    let answer = admin(&gateway, "POST", "/api/v1/usage/query", "{").await;
    assert_eq!((answer.status, answer.json()["field"].clone()), (400, json!("body")));
    assert_eq!(admin(&gateway, "GET", "/api/v1/usage/query", "").await.status, 405);
    gateway.stop().await;
}
