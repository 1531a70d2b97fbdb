//! Every route of the data plane.

use loadtest::mock::Mock;
use serde_json::Value;

use crate::client::{Answer, request, within};
use crate::harness::{Builder, TestGateway, chat_body, deployment, document, target};

/// Path below `/v1/`, dialect, and a body.
const JSON_ROUTES: [(&str, &str, &str); 10] = [
    ("chat/completions", "chat", r#"{"model":"chat","messages":[]}"#),
    ("responses", "responses", r#"{"model":"chat","input":"hi"}"#),
    ("messages", "messages", r#"{"model":"chat","max_tokens":5,"messages":[]}"#),
    ("messages/count_tokens", "messages", r#"{"model":"chat","messages":[]}"#),
    ("embeddings", "embeddings", r#"{"model":"chat","input":["a","b"]}"#),
    ("completions", "completions", r#"{"model":"chat","prompt":"a"}"#),
    ("moderations", "moderations", r#"{"model":"chat","input":"a"}"#),
    ("rerank", "rerank", r#"{"model":"chat","query":"a","documents":["a","b"]}"#),
    ("images/generations", "images", r#"{"model":"chat","prompt":"a","n":2}"#),
    ("audio/speech", "audio", r#"{"model":"chat","input":"a","voice":"alloy"}"#),
];

const FORM_ROUTES: [(&str, &str); 4] = [
    ("images/edits", "images"),
    ("images/variations", "images"),
    ("audio/transcriptions", "audio"),
    ("audio/translations", "audio"),
];

const FORM: &str = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nchat\r\n--b\r\n\
                    content-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n\0\r\n--b--\r\n";

/// Sends what makes no row.
async fn call(gateway: &TestGateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let authorization = gateway.authorization();
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend_from_slice(headers);
    gateway.client().await.call(&request(method, path, &all, b"")).await
}

#[tokio::test]
async fn every_json_route_is_answered_and_recorded_by_name() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let direct = Mock::start().await.unwrap();
    for (n, (path, dialect, body)) in JSON_ROUTES.into_iter().enumerate() {
        let answer = gateway.post(&format!("/v1/{path}"), body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let entry = within(mock.wait_for(n + 1)).await.pop().unwrap();
        assert_eq!((entry.method.as_str(), entry.path), ("POST", format!("/v1/{path}")));
        // The same provider, asked by itself.
        let plain = body.replace("\"chat\"", "\"sim\"");
        let headers = [("content-type", "application/json")];
        let mut client = crate::client::Client::connect(direct.addr()).await;
        let expected =
            client.call(&request("POST", &format!("/v1/{path}"), &headers, plain.as_bytes())).await;
        // Each mock's requests have ids of their own.
        let theirs = expected.header("x-request-id").or(expected.header("request-id")).unwrap();
        let ours = answer.header("x-upstream-request-id").unwrap();
        let number = |id: &str| id.rsplit(['_', '-']).next().unwrap().to_owned();
        assert_eq!(
            answer.text().replace(&number(ours), &number(theirs)),
            expected.text(),
            "{path}"
        );
        assert_eq!(answer.header("content-type"), expected.header("content-type"), "{path}");
        let row = gateway.rows().await.pop().unwrap();
        assert_eq!((&row["endpoint"], &row["dialect"]), (&path.into(), &dialect.into()));
        assert_eq!((&row["outcome"], &row["stream"]), (&"success".into(), &false.into()));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn every_form_route_is_answered_and_recorded_by_name() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let authorization = gateway.authorization();
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "multipart/form-data; boundary=\"b\""),
    ];
    for (n, (path, dialect)) in FORM_ROUTES.into_iter().enumerate() {
        gateway.expect_rows(1);
        let request = request("POST", &format!("/v1/{path}"), &headers, FORM.as_bytes());
        let answer = gateway.client().await.call(&request).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let entry = within(mock.wait_for(n + 1)).await.pop().unwrap();
        assert_eq!((entry.path, entry.model.as_str()), (format!("/v1/{path}"), "sim"));
        let row = gateway.rows().await.pop().unwrap();
        assert_eq!((&row["endpoint"], &row["dialect"]), (&path.into(), &dialect.into()));
        assert_eq!(row["requested_model"], "chat");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn form_is_no_body_for_a_json_route() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let authorization = gateway.authorization();
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "multipart/form-data; boundary=b"),
    ];
    gateway.expect_rows(1);
    let request = request("POST", "/v1/chat/completions", &headers, FORM.as_bytes());
    let answer = gateway.client().await.call(&request).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_request".to_owned()));
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn streams_come_in_each_dialect() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    for (path, body, last) in [
        ("chat/completions", r#"{"model":"chat","messages":[],"stream":true}"#, "[DONE]"),
        ("completions", r#"{"model":"chat","prompt":"a","stream":true}"#, "[DONE]"),
        ("responses", r#"{"model":"chat","input":"a","stream":true}"#, "response.completed"),
        (
            "messages",
            r#"{"model":"chat","max_tokens":5,"messages":[],"stream":true}"#,
            "message_stop",
        ),
    ] {
        let answer = gateway.post(&format!("/v1/{path}"), body).await;
        assert_eq!(
            answer.header("content-type").unwrap().split(';').next(),
            Some("text/event-stream")
        );
        let events = answer.events();
        assert!(events.last().unwrap().contains(last), "{path}: {events:?}");
        assert!(!answer.text().contains("\"choices\":[]"), "{path}");
        let row = gateway.rows().await.pop().unwrap();
        assert_eq!(
            (&row["stream"], &row["usage_source"]),
            (&true.into(), &"reported".into()),
            "{path}"
        );
        assert_eq!((&row["input_uncached"], &row["output"]), (&20.into(), &8.into()), "{path}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn scoped_paths_take_slugs_and_ids() {
    let (gateway, mock) = TestGateway::with_mock().await;
    gateway.chat("").await;
    let row = gateway.row().await;
    let id = |name: &str| row[name].as_str().unwrap().to_owned();
    let (workspace, environment) = (id("workspace_id"), id("environment_id"));
    let places = ["acme/production".to_owned(), format!("{workspace}/{environment}")];
    for place in places {
        for (below, body, upstream) in [
            ("chat/completions", JSON_ROUTES[0].2, "/v1/chat/completions"),
            ("responses", JSON_ROUTES[1].2, "/v1/responses"),
            ("anthropic/messages", JSON_ROUTES[2].2, "/v1/messages"),
            ("anthropic/v1/messages", JSON_ROUTES[2].2, "/v1/messages"),
        ] {
            let answer = gateway.post(&format!("/v1/completion/{place}/{below}"), body).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            gateway.idle().await;
            assert_eq!(mock.journal().pop().unwrap().path, upstream);
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn scoped_path_of_another_place_gets_one_answer() {
    let mock = Mock::start().await.unwrap();
    let other =
        "[[workspaces]]\nslug = \"other\"\n[[workspaces.environments]]\nslug = \"production\"\n";
    let text = format!("{}{other}", deployment(&[target(&mock, "sim")], ""));
    let gateway = Builder::new(&text).start().await;
    let mut answers = Vec::new();
    for place in ["other/production", "acme/staging", "nowhere/production", "acme/%2e%2e"] {
        let path = format!("/v1/completion/{place}/chat/completions");
        let answer = gateway.post(&path, &chat_body("")).await;
        assert_eq!((answer.status, answer.code()), (403, "environment_mismatch".to_owned()));
        answers.push(answer.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "it tells which of them exist");
    let path = "/v1/completion/other/production/anthropic/v1/messages";
    let answer = gateway.post(path, JSON_ROUTES[2].2).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (403, &"permission_error".into()));
    assert_eq!(answer.json()["request_id"], answer.header("request-id").unwrap());
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn unknown_routes_are_not_found_in_the_callers_shape() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let version = [("anthropic-version", "2023-06-01")];
    for (method, path, headers, is_anthropic) in [
        ("GET", "/v1/chat/completions", &[][..], false),
        ("DELETE", "/v1/models", &[], false),
        ("GET", "/v1/files", &[], false),
        ("GET", "/", &[], false),
        ("GET", "/", &version, true),
        ("GET", "/v1/messages", &[], true),
        ("GET", "/v1/messages/batches", &[], true),
        ("GET", "/v1/chat/completions/", &[], false),
        ("GET", "/v1/responses/resp_1/unknown", &[], false),
    ] {
        let answer = call(&gateway, method, path, headers).await;
        assert_eq!(answer.status, 404, "{method} {path}");
        let body = answer.json();
        let kind = if is_anthropic { &body["error"]["type"] } else { &body["error"]["code"] };
        let expected = if is_anthropic { "not_found_error" } else { "not_found" };
        assert_eq!(kind, expected, "{method} {path}: {body}");
        assert_eq!(body["type"] == "error", is_anthropic, "{method} {path}");
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn health_is_told_without_a_key() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    for (path, status) in [("/healthz", "ok"), ("/readyz", "ready")] {
        let answer = gateway.client().await.call(&request("GET", path, &[], b"")).await;
        assert_eq!((answer.status, &answer.json()["status"]), (200, &Value::from(status)));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn beta_query_of_messages_goes_on_and_no_other() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let body = JSON_ROUTES[2].2;
    for (query, upstream) in [
        ("?beta=true", "/v1/messages?beta=true"),
        ("?beta=true&key=secret", "/v1/messages?beta=true"),
        ("?key=secret", "/v1/messages"),
    ] {
        assert_eq!(gateway.post(&format!("/v1/messages{query}"), body).await.status, 200);
        assert_eq!(mock.journal().pop().unwrap().path, upstream);
    }
    gateway.stop().await;
}

/// A document whose connections are of these providers, for targets in this order.
fn of_providers(mock: &Mock, providers: &[&str]) -> String {
    let url = mock.base_url();
    let targets: Vec<_> = providers.iter().map(|_| (url.as_str(), "sim", "")).collect();
    let mut text = document(&targets, "");
    for provider in providers {
        text = text.replacen("provider = \"simulated\"", &format!("provider = \"{provider}\""), 1);
    }
    text
}

#[tokio::test]
async fn target_that_does_not_speak_the_dialect_is_skipped() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&of_providers(&mock, &["anthropic", "openai"])).start().await;
    for (path, body, connection, credential) in [
        ("messages", JSON_ROUTES[2].2, "c0", ("x-api-key", "sk-provider-credential-0")),
        (
            "messages/count_tokens",
            JSON_ROUTES[3].2,
            "c0",
            ("x-api-key", "sk-provider-credential-0"),
        ),
        (
            "embeddings",
            JSON_ROUTES[4].2,
            "c1",
            ("authorization", "Bearer sk-provider-credential-1"),
        ),
    ] {
        let answer = gateway.post(&format!("/v1/{path}"), body).await;
        assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("1")), "{path}");
        let row = gateway.rows().await.pop().unwrap();
        assert_eq!(row["connection"], connection, "{path}");
        let entry = mock.journal().pop().unwrap();
        assert_eq!(entry.header(credential.0), Some(credential.1), "{path}");
        let version = entry.header("anthropic-version");
        assert_eq!(version.is_some(), connection == "c0", "{path}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn dialect_that_no_target_speaks_is_refused_with_the_reason() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&of_providers(&mock, &["anthropic", "anthropic"])).start().await;
    let answer = gateway.post("/v1/embeddings", JSON_ROUTES[4].2).await;
    assert_eq!((answer.status, answer.code()), (400, "unsupported_parameter".to_owned()));
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("`embeddings`"), "{message}");

    let body = r#"{"model":"m0","input":"x"}"#;
    let answer = gateway.post("/v1/embeddings", body).await;
    assert_eq!((answer.status, answer.code()), (400, "unsupported_parameter".to_owned()));
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("`m0`") && message.contains("`embeddings`"), "{message}");
    assert!(mock.journal().is_empty());
    let rows = gateway.rows().await;
    assert!(rows.iter().all(|row| row["error_class"] == "unsupported_parameter"));
    gateway.stop().await;
}
