//! The routes of the admin listener, after real requests.

use loadtest::mock::Mock;
use serde_json::{Value, json};
use sluice::clock::Clock;

use super::rows::DAY_US;
use super::stores::show;
use crate::client::{Answer, Client, request, within};
use crate::harness::{ADMIN_TOKEN, TestGateway, target};

async fn admin(gateway: &TestGateway, method: &str, path: &str, body: &str) -> Answer {
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let request = request(method, path, &headers, body.as_bytes());
    Client::connect(gateway.admin).await.call(&request).await
}

async fn ask(gateway: &TestGateway, fields: &str) -> (u16, Value) {
    let now_us = Clock::default().unix_micros();
    let [from, to] = [now_us - 3 * DAY_US, now_us + DAY_US].map(show);
    let body = format!(r#"{{"range":{{"from":"{from}","to":"{to}"}},{fields}}}"#);
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

#[tokio::test]
async fn examples_of_the_documentation_work() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    gateway.chat("").await;
    gateway.rows().await;
    let text = std::fs::read_to_string("docs/usage-api.md").unwrap();
    let examples: Vec<&str> =
        text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 4, "{examples:?}");
    for example in examples {
        let mut command = std::process::Command::new("sh");
        let script = example.replace("curl -s", "curl -s --fail-with-body --max-time 60");
        command.args(["-c", &script]);
        command.env("SLUICE_ADMIN", format!("http://{}", gateway.admin));
        command.env("SLUICE_ADMIN_TOKEN", ADMIN_TOKEN);
        let run = tokio::task::spawn_blocking(move || command.output());
        let output = within(run).await.unwrap().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{example}\n{answer}");
        let is_answer = answer.starts_with("{\"") || answer.starts_with("request_id,started_at");
        assert!(is_answer, "{example}\n{answer}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn export_holds_every_row_once() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    for n in 0..5 {
        let user = format!(r#""user":"=cmd|{n}""#);
        assert_eq!(gateway.chat(&user).await.status, 200);
    }
    let rows = gateway.rows().await;
    let csv = gateway.admin_get("/api/v1/requests/export?format=csv&model=m0").await;
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let csv = csv.text();
    assert_eq!(csv.lines().count(), 1 + rows.len(), "{csv}");
    assert!(csv.contains(",\"'=cmd|3\","), "{csv}");
    let ndjson = gateway.admin_get("/api/v1/requests/export?end_user=%3Dcmd%7C3").await;
    let lines: Vec<Value> =
        ndjson.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["end_user"]), (1, &json!("=cmd|3")));
    let wrong = gateway.admin_get("/api/v1/requests/export?format=xls").await;
    assert_eq!((wrong.status, wrong.json()["field"].clone()), (400, json!("format")));
    gateway.stop().await;
}

#[tokio::test]
async fn live_view_shows_requests_as_they_finish() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    let nobody = gateway.admin_get("/api/v1/workspaces/nobody/usage/live").await;
    assert_eq!(nobody.status, 404);
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let head = [("authorization", authorization.as_str())];
    let mut live = Client::connect(gateway.admin).await;
    live.write(&request("GET", "/api/v1/workspaces/acme/usage/live", &head, b"")).await;
    let (status, headers) = live.head().await;
    assert_eq!(status, 200);
    assert!(headers.iter().any(|(_, value)| value == "text/event-stream"), "{headers:?}");
    let answer = gateway.chat("").await;
    let seen = live.read_until("\n\n").await;
    let id = answer.header("x-request-id").unwrap();
    assert!(seen.contains("event: request"), "{seen}");
    assert!(seen.contains(&format!("\"request_id\":\"{id}\"")), "{seen}");
    // What it shows is the row that the store has.
    let stored = gateway.rows().await;
    let path = format!("/api/v1/requests/{}", stored[0]["request_id"].as_str().unwrap());
    let mut stored = gateway.admin_get(&path).await.json();
    // Bodies are shown with one request alone.
    assert_eq!(stored.as_object_mut().unwrap().remove("payload"), Some(Value::Null));
    let data = seen.split("data: ").nth(1).unwrap().lines().next().unwrap();
    let mut shown: Value = serde_json::from_str(data).unwrap();
    shown["retention_days"] = stored["retention_days"].clone();
    assert_eq!(shown, stored);
    drop(live);
    gateway.stop().await;
}
