//! The admin API over resources: what it takes, refuses and shows, and that requests see it at once.

use loadtest::mock::Mock;
use serde_json::{Value, json};

use crate::client::{Answer, Client, request};
use crate::harness::{Builder, TestGateway, chat_body};

const PRODUCTION: &str = "/workspaces/acme/environments/production";
const CREDENTIAL: &str = "sk-provider-credential-0";

/// A gateway without a document, whose workspace `acme` came by the API, and a provider.
async fn managed() -> (TestGateway, Mock) {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new("").start().await;
    created(&gateway, "/workspaces", &json!({ "slug": "acme", "name": "Acme" })).await;
    (gateway, mock)
}

async fn created(gateway: &TestGateway, path: &str, body: &Value) -> Value {
    let answer = gateway.admin("POST", path, Some(body)).await;
    assert_eq!(answer.status, 201, "{path} {body}: {}", answer.text());
    answer.json()
}

async fn code(gateway: &TestGateway, method: &str, path: &str, body: Value) -> (u16, String) {
    let body = if body.is_null() { None } else { Some(&body) };
    let answer = gateway.admin(method, path, body).await;
    (answer.status, code_of(&answer))
}

fn code_of(answer: &Answer) -> String {
    if answer.body.is_empty() {
        return String::new();
    }
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// Everything a key needs to call the mock, and the key.
async fn chat_key(gateway: &TestGateway, mock: &Mock) -> Value {
    let at = |list: &str| format!("{PRODUCTION}/{list}");
    let connection = json!({ "name": "c", "provider": "simulated", "base_url": mock.base_url(),
        "credential": CREDENTIAL });
    created(gateway, &at("connections"), &connection).await;
    created(
        gateway,
        &at("models"),
        &json!({ "alias": "m", "connection": "c", "upstream_model": "sim" }),
    )
    .await;
    let deployment = json!({ "name": "chat", "targets": [{ "model": "m" }] });
    created(gateway, &at("deployments"), &deployment).await;
    created(gateway, &at("keys"), &json!({ "name": "app" })).await
}

async fn chat(gateway: &TestGateway, secret: &str) -> u16 {
    let authorization = format!("Bearer {secret}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let request = request("POST", "/v1/chat/completions", &headers, chat_body("").as_bytes());
    let answer = Client::connect(gateway.address).await.call(&request).await;
    if answer.status == 200 {
        gateway.expect_rows(1);
    }
    answer.status
}

#[tokio::test]
async fn what_is_made_by_the_api_serves_the_next_request() {
    let (gateway, mock) = managed().await;
    let key = chat_key(&gateway, &mock).await;
    let secret = key["secret"].as_str().unwrap();

    assert_eq!(chat(&gateway, secret).await, 200);
    let row = gateway.row().await;
    assert_eq!((&row["workspace"], &row["key"]), (&json!("acme"), &json!("app")));
    assert_eq!(row["key_id"], key["id"]);
    gateway.stop().await;
}

#[tokio::test]
async fn secret_is_answered_once_and_never_again() {
    let (gateway, mock) = managed().await;
    let key = chat_key(&gateway, &mock).await;
    let secret = key["secret"].as_str().unwrap();
    let key_path = format!("{PRODUCTION}/keys/{}", key["id"].as_str().unwrap());
    for path in [key_path.as_str(), &format!("{PRODUCTION}/keys"), "/export", "/audit-events"] {
        let answer = gateway.admin("GET", path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(!answer.text().contains(secret), "{path}");
        assert!(!answer.text().contains(CREDENTIAL), "{path}");
    }
    let shown = gateway.admin("GET", &key_path, None).await.json();
    assert_eq!(shown["hint"], json!(sluice::key::hint(secret)));
    let connection =
        gateway.admin("GET", &format!("{PRODUCTION}/connections/c"), None).await.json();
    assert_eq!(connection["credential_hint"], json!("…al-0"));
    for file in ["state.db", "state.db-wal"] {
        let bytes = std::fs::read(gateway.dir.path().join(file)).unwrap_or_default();
        for text in [secret, CREDENTIAL] {
            assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{file}");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn key_stops_at_once_however_it_is_ended() {
    let (gateway, mock) = managed().await;
    let key = chat_key(&gateway, &mock).await;
    let mut secret = key["secret"].as_str().unwrap().to_owned();
    let path = format!("{PRODUCTION}/keys/app");

    for (body, status) in [
        (json!({ "enabled": false }), 401),
        (json!({ "enabled": true }), 200),
        (json!({ "expires_at": "2020-01-01T00:00:00Z" }), 401),
        (json!({ "expires_at": null }), 200),
        (json!({ "scopes": { "deployments": "none" } }), 404),
        (json!({ "scopes": { "deployments": ["chat"] } }), 200),
    ] {
        let answer = gateway.admin("PATCH", &path, Some(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        if status != 200 {
            gateway.expect_rows(1); // The key is known, whatever it may do.
        }
        assert_eq!(chat(&gateway, &secret).await, status, "{body}");
    }

    let rotate = format!("{path}/rotate");
    let rotated = gateway.admin("POST", &rotate, Some(&json!({ "grace_s": 60 }))).await.json();
    assert_eq!(rotated["secrets"].as_array().unwrap().len(), 2, "{rotated}");
    assert_eq!(chat(&gateway, &secret).await, 200, "in its grace");
    rotated["secret"].as_str().unwrap().clone_into(&mut secret);
    assert_eq!(chat(&gateway, &secret).await, 200);

    let rotated = gateway.admin("POST", &rotate, None).await.json();
    assert_eq!(rotated["secrets"].as_array().unwrap().len(), 1, "{rotated}");
    assert_eq!(chat(&gateway, &secret).await, 401, "without a grace");
    rotated["secret"].as_str().unwrap().clone_into(&mut secret);
    assert_eq!(chat(&gateway, &secret).await, 200);

    for (method, path, status) in [
        ("POST", "/workspaces/acme/archive", 401),
        ("POST", "/workspaces/acme/recover", 200),
        ("POST", &format!("{path}/revoke"), 401),
    ] {
        let answer = gateway.admin(method, path, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        gateway.expect_rows(u64::from(path.ends_with("archive")));
        assert_eq!(chat(&gateway, &secret).await, status, "{path}");
    }
    assert_eq!(
        code(&gateway, "PATCH", &path, json!({ "enabled": true })).await,
        (409, "key_revoked".to_owned())
    );
    gateway.stop().await;
}

#[tokio::test]
async fn lists_come_in_parts_and_cursors_stay_in_their_environment() {
    let (gateway, _mock) = managed().await;
    created(&gateway, "/workspaces", &json!({ "slug": "beta" })).await;
    for n in 0..5 {
        created(&gateway, &format!("{PRODUCTION}/keys"), &json!({ "name": format!("k{n}") })).await;
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("{PRODUCTION}/keys?limit=2{cursor}");
        let page = gateway.admin("GET", &path, None).await.json();
        let data = page["data"].as_array().unwrap();
        names.extend(data.iter().map(|key| key["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(names, ["k0", "k1", "k2", "k3", "k4"]);
    let first = gateway.admin("GET", &format!("{PRODUCTION}/keys?limit=1"), None).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let foreign = format!("/workspaces/beta/environments/production/keys?cursor={cursor}");
    assert_eq!(gateway.admin("GET", &foreign, None).await.json()["data"], json!([]));
    for query in ["limit=0", "limit=1001", "cursor=x", "nonsense=1", "limit=1&limit=2"] {
        let path = format!("{PRODUCTION}/keys?{query}");
        assert_eq!(code(&gateway, "GET", &path, Value::Null).await.1, "invalid_query", "{query}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn lost_updates_are_refused_and_repeated_posts_are_answered_again() {
    let (gateway, _mock) = managed().await;
    let keys = format!("{PRODUCTION}/keys");
    let body = json!({ "name": "app" });
    let again = [("idempotency-key", "one")];
    let first =
        gateway.admin_as(crate::harness::ADMIN_TOKEN, ("POST", &keys, Some(&body)), &again).await;
    let second =
        gateway.admin_as(crate::harness::ADMIN_TOKEN, ("POST", &keys, Some(&body)), &again).await;
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.json(), second.json(), "the secret is the same");
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    let other = json!({ "name": "other" });
    let reused =
        gateway.admin_as(crate::harness::ADMIN_TOKEN, ("POST", &keys, Some(&other)), &again).await;
    assert_eq!((reused.status, code_of(&reused)), (422, "idempotency_key_reused".to_owned()));
    let list = gateway.admin("GET", &keys, None).await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);

    let path = format!("{keys}/app");
    let tag = gateway.admin("GET", &path, None).await.header("etag").unwrap().to_owned();
    let change = json!({ "description": "x" });
    let with_tag = |tag: String| {
        let (gateway, path, change) = (&gateway, &path, &change);
        async move {
            let headers = [("if-match", tag.as_str())];
            let call = ("PATCH", path.as_str(), Some(change));
            gateway.admin_as(crate::harness::ADMIN_TOKEN, call, &headers).await
        }
    };
    let changed = with_tag(tag.clone()).await;
    assert_eq!(changed.status, 200);
    let stale = with_tag(tag.clone()).await;
    assert_eq!((stale.status, code_of(&stale)), (412, "precondition_failed".to_owned()));
    assert_eq!(with_tag(changed.header("etag").unwrap().to_owned()).await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_a_stable_code() {
    let (gateway, mock) = managed().await;
    chat_key(&gateway, &mock).await;
    let p = PRODUCTION;
    for (method, path, body, status, expected) in [
        ("POST", "/workspaces".to_owned(), json!({ "slug": "acme" }), 409, "name_taken"),
        ("POST", "/workspaces".to_owned(), json!({ "slug": "active" }), 422, "invalid_body"),
        ("POST", "/workspaces".to_owned(), json!({ "slug": "Acme" }), 422, "invalid_body"),
        ("POST", "/workspaces".to_owned(), json!({ "slug": "b", "x": 1 }), 422, "invalid_body"),
        ("PATCH", "/workspaces/acme".to_owned(), json!({ "slug": "b" }), 422, "invalid_body"),
        (
            "PATCH",
            "/workspaces/acme".to_owned(),
            json!({ "status": "archived" }),
            422,
            "invalid_body",
        ),
        ("DELETE", "/workspaces/acme".to_owned(), Value::Null, 409, "not_archived"),
        ("POST", "/workspaces/acme/recover".to_owned(), Value::Null, 409, "not_archived"),
        ("POST", "/workspaces/default/archive".to_owned(), Value::Null, 409, "workspace_built_in"),
        ("GET", "/workspaces/none".to_owned(), Value::Null, 404, "not_found"),
        ("POST", format!("{p}/keys"), json!({ "name": "app" }), 409, "name_taken"),
        ("POST", format!("{p}/keys"), json!({ "name": "b", "id": "x" }), 422, "invalid_body"),
        (
            "POST",
            format!("{p}/keys"),
            json!({ "name": "b", "scopes": { "models": ["none"] } }),
            422,
            "invalid_body",
        ),
        (
            "POST",
            format!("{p}/models"),
            json!({ "alias": "n", "connection": "none" }),
            422,
            "invalid_body",
        ),
        (
            "POST",
            format!("{p}/deployments"),
            json!({ "name": "d", "targets": [] }),
            422,
            "invalid_body",
        ),
        ("DELETE", format!("{p}/connections/c"), Value::Null, 409, "in_use"),
        ("DELETE", format!("{p}/models/m"), Value::Null, 409, "in_use"),
        ("PATCH", format!("{p}/models/m"), json!({ "alias": "n" }), 409, "in_use"),
        (
            "PATCH",
            format!("{p}/connections/c"),
            json!({ "base_url": "http://127.0.0.1:1/v1" }),
            422,
            "invalid_body",
        ),
        ("PATCH", format!("{p}/keys/app"), json!({ "secret": "vk_" }), 422, "invalid_body"),
        ("POST", format!("{p}/model-grants"), json!({ "model": "m" }), 422, "invalid_body"),
        ("POST", "/workspaces".to_owned(), json!([1]), 400, "bad_body"),
        ("PATCH", "/workspaces".to_owned(), json!({}), 405, "method_not_allowed"),
        ("GET", "/nothing".to_owned(), Value::Null, 404, "not_found"),
    ] {
        let found = code(&gateway, method, &path, body.clone()).await;
        assert_eq!(found, (status, expected.to_owned()), "{method} {path} {body}");
    }
    let answer = gateway
        .admin("POST", &format!("{p}/models"), Some(&json!({ "alias": "n", "connection": "none" })))
        .await;
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.json()["errors"][0]["field"], json!("connection"));
    gateway.stop().await;
}

#[tokio::test]
async fn credential_goes_only_where_it_was_meant_for() {
    let (gateway, mock) = managed().await;
    let key = chat_key(&gateway, &mock).await;
    let secret = key["secret"].as_str().unwrap();
    let path = format!("{PRODUCTION}/connections/c");
    let other = Mock::start().await.unwrap();

    let described = json!({ "description": "kept" });
    assert_eq!(gateway.admin("PATCH", &path, Some(&described)).await.status, 200);
    assert_eq!(chat(&gateway, secret).await, 200);
    let moved = json!({ "base_url": other.base_url() });
    assert_eq!(code(&gateway, "PATCH", &path, moved).await, (422, "invalid_body".to_owned()));
    assert!(other.journal().is_empty());
    let moved = json!({ "base_url": other.base_url(), "credential": "sk-another-credential" });
    assert_eq!(gateway.admin("PATCH", &path, Some(&moved)).await.status, 200);
    assert_eq!(chat(&gateway, secret).await, 200);
    assert_eq!(other.journal().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn archived_workspace_can_be_deleted_with_everything_in_it() {
    let (gateway, mock) = managed().await;
    let key = chat_key(&gateway, &mock).await;
    let secret = key["secret"].as_str().unwrap();
    assert_eq!(gateway.admin("POST", "/workspaces/acme/archive", None).await.status, 200);
    assert_eq!(
        code(&gateway, "POST", &format!("{PRODUCTION}/keys"), json!({ "name": "b" })).await,
        (409, "workspace_archived".to_owned())
    );
    let archived = gateway.admin("GET", "/workspaces?status=archived", None).await.json();
    assert_eq!(archived["data"][0]["slug"], json!("acme"));
    assert_eq!(gateway.admin("DELETE", "/workspaces/acme", None).await.status, 204);
    assert_eq!(chat(&gateway, secret).await, 401);
    assert_eq!(code(&gateway, "GET", PRODUCTION, Value::Null).await.0, 404);
    created(&gateway, "/workspaces", &json!({ "slug": "acme" })).await;
    let keys = gateway.admin("GET", &format!("{PRODUCTION}/keys"), None).await.json();
    assert_eq!(keys["data"], json!([]));
    gateway.stop().await;
}

#[tokio::test]
async fn every_change_leaves_an_event_and_the_chain_holds() {
    let (gateway, mock) = managed().await;
    chat_key(&gateway, &mock).await;
    let path = format!("{PRODUCTION}/keys/app");
    gateway.admin("PATCH", &path, Some(&json!({ "description": "x" }))).await;
    gateway.admin("POST", &format!("{path}/revoke"), None).await;
    let events = gateway.admin("GET", "/audit-events?workspace=acme", None).await.json();
    let events = events["data"].as_array().unwrap();
    let actions: Vec<String> = events
        .iter()
        .rev()
        .map(|event| {
            let kind = event["resource"]["kind"].as_str().unwrap();
            format!("{} {kind}", event["action"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        actions,
        [
            "create workspace",
            "create environment",
            "create connection",
            "create model",
            "create deployment",
            "create key",
            "update key",
            "revoke key",
        ]
    );
    assert_eq!(events[0]["source_ip"], json!("127.0.0.1"));
    let verdict = gateway.admin("GET", "/audit-events/verify", None).await.json();
    assert_eq!(verdict["intact"], json!(true), "{verdict}");
    gateway.stop().await;
}
