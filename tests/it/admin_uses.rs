//! Who sees which usage, what was used when, and who owns what no user made.

use loadtest::mock::Mock;
use serde_json::{Value, json};
use sluice::clock::{Clock, rfc3339};

use crate::admin_roles::{PASSWORD, user};
use crate::client::{Client, request};
use crate::harness::{Builder, TestGateway, chat_body};

/// Calls the data plane with a key.
async fn chat(gateway: &TestGateway, secret: &str) {
    let authorization = format!("Bearer {secret}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let request = request("POST", "/v1/chat/completions", &headers, chat_body("").as_bytes());
    let answer = Client::connect(gateway.address).await.call(&request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    gateway.expect_rows(1);
}

async fn made(gateway: &TestGateway, path: &str, body: Value) -> Value {
    let answer = gateway.admin("POST", path, Some(&body)).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.text());
    answer.json()
}

/// A workspace with these environments, and a key in each.
async fn workspace(gateway: &TestGateway, mock: &Mock, slug: &str, names: &[&str]) -> Vec<Value> {
    let environments: Vec<Value> = names.iter().map(|name| json!({ "slug": name })).collect();
    made(gateway, "/workspaces", json!({ "slug": slug, "environments": environments })).await;
    let mut keys = Vec::new();
    for name in names {
        let at = format!("/workspaces/{slug}/environments/{name}");
        let connection = json!({ "name": "c", "provider": "simulated",
            "base_url": mock.base_url(), "credential": "sk-provider-credential-0" });
        made(gateway, &format!("{at}/connections"), connection).await;
        let model = json!({ "alias": "m", "connection": "c", "upstream_model": "sim" });
        made(gateway, &format!("{at}/models"), model).await;
        let deployment = json!({ "name": "chat", "targets": [{ "model": "m" }] });
        made(gateway, &format!("{at}/deployments"), deployment).await;
        keys.push(made(gateway, &format!("{at}/keys"), json!({ "name": "app" })).await);
    }
    keys
}

#[tokio::test]
async fn who_is_narrowed_to_environments_sees_their_usage_and_no_other() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new("").start().await;
    let acme = workspace(&gateway, &mock, "acme", &["production", "staging"]).await;
    let beta = workspace(&gateway, &mock, "beta", &["production"]).await;
    for key in acme.iter().chain(&beta) {
        chat(&gateway, key["secret"].as_str().unwrap()).await;
    }
    let ids: Vec<String> = gateway
        .rows()
        .await
        .iter()
        .filter(|row| row["workspace"] == "acme" && row["environment"] == "staging")
        .map(|row| row["request_id"].as_str().unwrap().to_owned())
        .collect();
    let now_us = Clock::default().unix_micros();
    let [from, to] = [now_us - 86_400_000_000, now_us + 86_400_000_000].map(rfc3339);
    let question = json!({ "range": { "from": from, "to": to }, "metrics": ["requests"],
        "dimensions": ["environment"] });

    let (id, token) = user(&gateway, "narrow", "member").await;
    let member = format!("/workspaces/acme/members/{id}");
    for (role, environments, seen) in [
        ("viewer", json!(["staging"]), vec!["staging"]),
        ("member", json!(["production"]), vec!["production"]),
        ("member", json!(["production", "staging"]), vec!["production", "staging"]),
        ("viewer", json!([]), vec![]),
        ("viewer", Value::Null, vec!["production", "staging"]),
    ] {
        let body = json!({ "role": role, "environments": environments });
        let put = gateway.admin("PUT", &member, Some(&body)).await;
        assert_eq!(put.status, 200, "{}", put.text());
        let get = |path: &'static str| gateway.admin_as(&token, ("GET", path, None), &[]);
        let page = get("/requests").await.json();
        let mut found: Vec<&str> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                assert_eq!(row["workspace"], json!("acme"));
                row["environment"].as_str().unwrap()
            })
            .collect();
        found.sort_unstable();
        assert_eq!(found, seen, "{body}");
        // Asking for another environment, exporting, or naming a row finds no more.
        let other = get("/requests?workspace=beta").await.json();
        assert_eq!(other["data"], json!([]));
        let export = get("/requests/export").await.text();
        assert_eq!(export.lines().count(), seen.len(), "{export}");
        let one = format!("/requests/{}", ids[0]);
        let one = gateway.admin_as(&token, ("GET", &one, None), &[]).await;
        assert_eq!(one.status, if seen.contains(&"staging") { 200 } else { 404 });
        let usage =
            gateway.admin_as(&token, ("POST", "/usage/query", Some(&question)), &[]).await.json();
        let mut counted: Vec<&str> = usage["data"]
            .as_array()
            .unwrap_or_else(|| panic!("{usage}"))
            .iter()
            .filter_map(|row| row["environment"].as_str())
            .collect();
        counted.sort_unstable();
        assert_eq!(counted, seen, "{usage}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn when_tokens_and_keys_were_used_is_kept_to_the_minute() {
    let mock = Mock::start().await.unwrap();
    let clock = Clock::fixed(Clock::default().unix_micros());
    let gateway = Builder::new("").clock(&clock).start().await;
    let keys = workspace(&gateway, &mock, "acme", &["production"]).await;
    let key = format!(
        "/workspaces/acme/environments/production/keys/{}",
        keys[0]["id"].as_str().unwrap()
    );
    let (_, token) = user(&gateway, "somebody", "member").await;
    let token_of =
        async || gateway.admin_as(&token, ("GET", "/admin-tokens", None), &[]).await.json();
    let used = token_of().await["data"][0]["last_used_at"].clone();
    let minute = used.as_str().unwrap().to_owned();
    assert!(minute.ends_with(":00Z") || minute.ends_with(":00.000000Z"), "{minute}");
    assert_eq!(gateway.admin("GET", &key, None).await.json()["last_used_at"], Value::Null);

    chat(&gateway, keys[0]["secret"].as_str().unwrap()).await;
    let follower = gateway.app().follower();
    tokio::task::spawn_blocking(move || follower.keep_uses()).await.unwrap().unwrap();
    let shown = gateway.admin("GET", &key, None).await.json();
    assert!(shown["last_used_at"].as_str().unwrap() >= minute.as_str(), "{shown}");
    // It is no change of the key or the token.
    let version = gateway.admin("GET", &key, None).await.header("etag").unwrap().to_owned();
    assert_eq!(version, "\"1\"");

    clock.set(clock.unix_micros() + 120 * 1_000_000);
    assert!(token_of().await["data"][0]["last_used_at"].as_str().unwrap() > minute.as_str());
    gateway.stop().await;
}

#[tokio::test]
async fn workspace_that_no_user_made_is_owned_by_the_first_superadmin() {
    let gateway = Builder::new("[[workspaces]]\nslug = \"boot\"\n").start().await;
    made(&gateway, "/workspaces", json!({ "slug": "by-token" })).await;
    let document = json!({ "workspaces": [{ "slug": "applied" }] });
    let applied = gateway.admin("POST", "/apply", Some(&document)).await;
    assert_eq!(applied.status, 200, "{}", applied.text());
    for slug in ["default", "boot", "by-token", "applied"] {
        let members =
            gateway.admin("GET", &format!("/workspaces/{slug}/members"), None).await.json();
        let [owner] = &members["data"].as_array().unwrap()[..] else { panic!("{slug}: {members}") };
        assert_eq!(
            (&owner["email"], &owner["role"]),
            (&json!("admin@localhost"), &json!("owner")),
            "{slug}"
        );
    }
    let body = json!({ "email": "b@example.org", "password": PASSWORD });
    made(&gateway, "/users", body).await;
    gateway.stop().await;
}
