//! Virtual keys: where they are, what makes them good, and what they may do.

use loadtest::mock::Mock;
use sluice::clock::Clock;
use sluice::key;

use crate::client::{Answer, request, within};
use crate::harness::{Builder, TestGateway, chat_body, deployment, target};

/// 2030-01-01T00:00:00Z.
const Y2030_US: i64 = 1_893_456_000_000_000;

async fn with_headers(gateway: &TestGateway, headers: &[(&str, &str)], body: &str) -> Answer {
    let request = request("POST", "/v1/chat/completions", headers, body.as_bytes());
    gateway.client().await.call(&request).await
}

async fn chat_as(gateway: &TestGateway, key: &str, model: &str) -> Answer {
    gateway.expect_rows(1);
    let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
    with_headers(gateway, &[("x-api-key", key)], &body).await
}

/// Another key of the environment, with `fields` in its table.
fn with_key(text: &str, fields: &str) -> String {
    format!(
        "{text}[[workspaces.environments.keys]]\nname = \"other\"\nsecret = \"${{OTHER}}\"\n{fields}\n"
    )
}

struct Rig {
    gateway: TestGateway,
    mock: Mock,
    key: String,
}

async fn rig(fields: &str) -> Rig {
    let mock = Mock::start().await.unwrap();
    let text = with_key(&deployment(&[target(&mock, "sim"), target(&mock, "sim")], ""), fields);
    let key = key::generate().expose().to_owned();
    let gateway = Builder::new(&text).env("OTHER", &key).start().await;
    Rig { gateway, mock, key }
}

#[tokio::test]
async fn key_is_taken_from_each_of_its_places() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let key = gateway.key.clone();
    let bearer = format!("Bearer {key}");
    let lower = format!("bearer {key}");
    for (n, (name, value)) in [
        ("authorization", bearer.as_str()),
        ("Authorization", lower.as_str()),
        ("x-api-key", key.as_str()),
        ("api-key", key.as_str()),
        ("x-goog-api-key", key.as_str()),
    ]
    .into_iter()
    .enumerate()
    {
        gateway.expect_rows(1);
        let answer = with_headers(&gateway, &[(name, value)], &chat_body("")).await;
        assert_eq!(answer.status, 200, "{name}");
        let entry = within(mock.wait_for(n + 1)).await.pop().unwrap();
        let is_leaked = entry.headers.iter().any(|(_, value)| value.contains(&key));
        assert!(!is_leaked, "the key reached the provider");
    }
    let rows = serde_json::to_string(&gateway.rows().await).unwrap();
    assert!(!rows.contains(&key) && rows.contains("\"key\":\"app\""));
    gateway.stop().await;
}

#[tokio::test]
async fn key_in_the_url_is_no_key() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let path = format!("/v1/chat/completions?key={0}&api_key={0}", gateway.key);
    let request = request("POST", &path, &[], chat_body("").as_bytes());
    let answer = gateway.client().await.call(&request).await;
    assert_eq!((answer.status, answer.code()), (401, "invalid_api_key".to_owned()));
    assert!(!answer.text().contains(&gateway.key));
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn bad_keys_get_one_answer_in_each_dialect() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let good = gateway.key.clone();
    let unknown = key::generate();
    let last = if good.ends_with('a') { "b" } else { "a" };
    let typo = format!("{}{last}", &good[..good.len() - 1]);
    let mut bodies = Vec::new();
    for key in
        [unknown.expose(), &typo, &good[..20], &good[..good.len() - 1], "vk_", "sk-other", "vk_ü"]
    {
        let answer = with_headers(&gateway, &[("x-api-key", key)], &chat_body("")).await;
        assert_eq!((answer.status, answer.code()), (401, "invalid_api_key".to_owned()), "{key}");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
        assert!(!answer.text().contains(key), "{}", answer.text());
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "the answers tell why");
    let request = request("POST", "/v1/messages", &[("x-api-key", &typo)], b"{}");
    let answer = gateway.client().await.call(&request).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["type"]),
        (401, &"authentication_error".into())
    );
    assert_eq!(answer.json()["type"], "error");
    let missing = with_headers(&gateway, &[], "{}").await;
    assert_eq!((missing.status, missing.code()), (401, "invalid_api_key".to_owned()));
    for (reason, count) in [("unknown", 1.0), ("malformed", 7.0), ("missing", 1.0)] {
        let metric = format!("sluice_refused_keys_total{{reason=\"{reason}\"}}");
        assert_eq!(gateway.metric(&metric), count, "{reason}");
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn key_expires_at_its_time() {
    let mock = Mock::start().await.unwrap();
    let text =
        with_key(&deployment(&[target(&mock, "sim")], ""), "expires_at = \"2030-01-01T00:00:00Z\"");
    let key = key::generate();
    let clock = Clock::fixed(Y2030_US - 1);
    let gateway = Builder::new(&text).env("OTHER", key.expose()).clock(&clock).start().await;
    assert_eq!(chat_as(&gateway, key.expose(), "chat").await.status, 200);
    clock.set(Y2030_US);
    let answer = chat_as(&gateway, key.expose(), "chat").await;
    assert_eq!((answer.status, answer.code()), (401, "invalid_api_key".to_owned()));
    let rows = gateway.rows().await;
    let refused = rows.iter().find(|row| row["status"] == 401).unwrap();
    assert_eq!((&refused["outcome"], &refused["key"]), (&"unauthorized".into(), &"other".into()));
    assert_eq!(refused["started_at"], Y2030_US);
    assert_eq!(gateway.metric("sluice_refused_keys_total{reason=\"expired\"}"), 1.0);
    gateway.stop().await;
}

#[tokio::test]
async fn disabled_key_is_refused() {
    let Rig { gateway, mock, key } = rig("enabled = false").await;
    let answer = chat_as(&gateway, &key, "chat").await;
    assert_eq!((answer.status, answer.code()), (401, "invalid_api_key".to_owned()));
    assert_eq!(gateway.metric("sluice_refused_keys_total{reason=\"disabled\"}"), 1.0);
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn key_of_an_archived_workspace_is_refused() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway = Builder::new(&text).start().await;
    assert_eq!(gateway.chat("").await.status, 200);
    let archived = text.replace("slug = \"acme\"", "slug = \"acme\"\nstatus = \"archived\"");
    gateway.reload(&archived).unwrap();
    let answer = gateway.chat("").await;
    assert_eq!((answer.status, answer.code()), (401, "invalid_api_key".to_owned()));
    assert_eq!(gateway.metric("sluice_refused_keys_total{reason=\"archived\"}"), 1.0);
    gateway.reload(&text).unwrap();
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn endpoint_outside_the_scope_is_forbidden() {
    let Rig { gateway, mock, key } = rig("scopes = { endpoints = [\"messages\"] }").await;
    let answer = chat_as(&gateway, &key, "chat").await;
    assert_eq!((answer.status, answer.code()), (403, "endpoint_not_allowed".to_owned()));
    let post = async |path: &str, body: &str| {
        gateway.expect_rows(1);
        let request = request("POST", path, &[("x-api-key", &key)], body.as_bytes());
        gateway.client().await.call(&request).await
    };
    let answer = post("/v1/messages/count_tokens", r#"{"model":"chat","messages":[]}"#).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (403, &"permission_error".into()));
    assert!(mock.journal().is_empty());
    let answer = post("/v1/messages", r#"{"model":"chat","max_tokens":5,"messages":[]}"#).await;
    assert_eq!(answer.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn models_and_deployments_outside_the_scope_look_like_missing_ones() {
    let Rig { gateway, mock, key } =
        rig("scopes = { models = [\"m1\"], deployments = \"none\", ad_hoc = false }").await;
    for hidden in ["chat", "m0", "c0/sim"] {
        let there = chat_as(&gateway, &key, hidden).await;
        assert_eq!((there.status, there.code()), (404, "model_not_found".to_owned()), "{hidden}");
        let missing = "q".repeat(hidden.len());
        let gone = chat_as(&gateway, &key, &missing).await;
        assert_eq!(gone.status, 404);
        assert_eq!(gone.text().replace(&missing, hidden), there.text(), "{hidden}");
    }
    assert!(mock.journal().is_empty());
    assert_eq!(chat_as(&gateway, &key, "m1").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn any_model_of_a_connection_is_called_ad_hoc() {
    let Rig { gateway, mock, key } =
        rig("scopes = { models = \"none\", deployments = \"none\", ad_hoc = true }").await;
    let answer = chat_as(&gateway, &key, "c1/vendor/some-model").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-sluice-model"), Some("c1/vendor/some-model"));
    let entry = within(mock.wait_for(1)).await.remove(0);
    assert_eq!(entry.model, "vendor/some-model");
    assert_eq!(entry.header("authorization"), Some("Bearer sk-provider-credential-1"));
    let row = gateway.row().await;
    assert_eq!(
        (&row["connection"], &row["upstream_model"]),
        (&"c1".into(), &"vendor/some-model".into())
    );
    assert_eq!(row["requested_model"], "c1/vendor/some-model");
    assert!(row["deployment"].is_null() && row["cost_nanousd"].is_null());
    assert_eq!((&row["priced"], &row["output"]), (&false.into(), &8.into()));
    let long = format!("c0/{}", "x".repeat(200));
    for model in ["c9/sim", "c0/", "/sim", "c0/a b", "chat", "m0", &long] {
        assert_eq!(chat_as(&gateway, &key, model).await.code(), "model_not_found", "{model}");
    }
    assert_eq!(within(mock.wait_for(1)).await.len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn ad_hoc_calls_share_one_breaker_over_reloads() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway = Builder::new(&text).start().await;
    let body = r#"{"model":"c0/sim?status=500","messages":[]}"#;
    for n in 0..5 {
        assert_eq!(gateway.post("/v1/chat/completions", body).await.status, 500, "{n}");
    }
    gateway.reload(&text).unwrap();
    let answer = gateway.post("/v1/chat/completions", body).await;
    assert_eq!((answer.status, answer.code()), (503, "no_healthy_target".to_owned()));
    assert_eq!(mock.journal().len(), 5);
    gateway.stop().await;
}

#[tokio::test]
async fn target_is_pinned_by_those_who_may() {
    let Rig { gateway, mock, key } = rig("scopes = { pin = false }").await;
    for name in ["m1", "m0", "m1"] {
        let authorization = gateway.authorization();
        let headers = [("authorization", authorization.as_str()), ("x-sluice-target", name)];
        gateway.expect_rows(1);
        let answer = with_headers(&gateway, &headers, &chat_body("")).await;
        assert_eq!((answer.status, answer.header("x-sluice-model")), (200, Some(name)));
        let field = format!(r#""sluice":{{"target":"{name}"}}"#);
        assert_eq!(gateway.chat(&field).await.header("x-sluice-model"), Some(name));
    }
    let n_sent = mock.journal().len();
    let answer = gateway.chat(r#""sluice":{"target":"m9"}"#).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_request".to_owned()));
    gateway.expect_rows(1);
    let headers = [("x-api-key", key.as_str()), ("x-sluice-target", "m1")];
    let answer = with_headers(&gateway, &headers, &chat_body("")).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_request".to_owned()));
    assert_eq!(answer.json()["error"]["param"], "x-sluice-target");
    assert_eq!(mock.journal().len(), n_sent);
    gateway.stop().await;
}

#[tokio::test]
async fn equal_names_in_two_workspaces_stay_apart() {
    let ours = Mock::start().await.unwrap();
    let theirs = Mock::start().await.unwrap();
    let other = deployment(&[target(&theirs, "sim")], "")
        .replace("slug = \"acme\"", "slug = \"other\"")
        .replace("${KEY}", "${OTHER}")
        .replace("sk-provider-credential-0", "sk-of-the-others");
    let text = format!("{}{other}", deployment(&[target(&ours, "sim?status=500")], ""));
    let key = key::generate();
    let gateway = Builder::new(&text).env("OTHER", key.expose()).start().await;
    // One opens a breaker, the other has the same names and does not notice.
    for _ in 0..6 {
        gateway.chat("").await;
    }
    assert_eq!(gateway.chat("").await.code(), "no_healthy_target");
    for model in ["chat", "m0", "c0/sim"] {
        assert_eq!(chat_as(&gateway, key.expose(), model).await.status, 200, "{model}");
    }
    assert_eq!((ours.journal().len(), theirs.journal().len()), (5, 3));
    for entry in theirs.journal() {
        assert_eq!(entry.header("authorization"), Some("Bearer sk-of-the-others"));
    }
    let rows = gateway.rows().await;
    let of = |slug: &str| rows.iter().filter(|row| row["workspace"] == slug).count();
    assert_eq!((of("acme"), of("other")), (7, 3));
    gateway.stop().await;
}
