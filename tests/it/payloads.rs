//! Bodies of requests and answers: kept where a workspace asks for it, and seen by whom it lets.

use std::time::Duration;

use loadtest::mock::Mock;
use serde_json::{Value, json};
use sluice::config::server::UsageUrl;
use sluice::secret::Secret;

use crate::admin_roles::user;
use crate::clickhouse_server::ClickHouse;
use crate::client::within;
use crate::harness::{ADMIN_TOKEN, Builder, TestGateway, deployment, target};

const SECRET: &str = "sk-CANARY0123456789abcdef";

/// A document whose workspace logs its bodies thus.
fn document(mock: &Mock, logging: &str) -> String {
    let slug = "slug = \"acme\"";
    let settings = format!("{slug}\nsettings = {{ payload_logging = \"{logging}\" }}");
    let text = deployment(&[target(mock, "sim")], "");
    assert!(text.contains(slug));
    text.replacen(slug, &settings, 1)
}

fn body(is_stream: bool) -> Value {
    let image = format!("data:image/png;base64,{}", "QUJD".repeat(300));
    json!({ "model": "chat", "stream": is_stream, "messages": [{ "role": "user", "content": [
        { "type": "text", "text": format!("my key is {SECRET}, what is this?") },
        { "type": "image_url", "image_url": { "url": image } },
    ] }] })
}

async fn ask(gateway: &TestGateway, is_stream: bool) -> String {
    let answer = gateway.post("/v1/chat/completions", &body(is_stream).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    gateway.idle().await;
    within(gateway.app().usage().flush()).await;
    answer.header("x-request-id").unwrap().to_owned()
}

async fn payload(gateway: &TestGateway, token: &str, id: &str) -> Value {
    let shown = gateway.admin_as(token, ("GET", &format!("/requests/{id}"), None), &[]).await;
    assert_eq!(shown.status, 200, "{}", shown.text());
    shown.json()["payload"].clone()
}

/// What must hold of bodies that are kept, in either store.
async fn bodies_are_kept(gateway: &TestGateway, mock: &Mock) {
    for is_stream in [false, true] {
        let id = ask(gateway, is_stream).await;
        let payload = payload(gateway, ADMIN_TOKEN, &id).await;
        let request = &payload["request"];
        assert_eq!(request["type"], "application/json");
        assert_eq!(request["bytes"], body(is_stream).to_string().len());
        let kept: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
        let parts = &kept["messages"][0]["content"];
        assert_eq!(parts[0]["text"], "my key is sk-[REDACTED], what is this?");
        let image = &parts[1]["image_url"]["url"];
        assert_eq!((&image["mime"], &image["bytes"]), (&json!("image/png"), &json!(900)));
        assert_eq!(image["sha256"].as_str().unwrap().len(), 64);
        let response = &payload["response"];
        let text = response["body"].as_str().unwrap();
        let kind = if is_stream { "text/event-stream" } else { "application/json" };
        assert!(response["type"].as_str().unwrap().starts_with(kind), "{response}");
        assert_eq!(text.starts_with("data: "), is_stream, "{text}");
        assert!(text.contains("chatcmpl"), "{text}");
        assert!(response["bytes"].as_u64().unwrap() >= text.len() as u64 - 3, "{response}");
    }

    gateway.reload(&document(mock, "metadata")).unwrap();
    let id = ask(gateway, false).await;
    let described = payload(gateway, ADMIN_TOKEN, &id).await;
    assert_eq!(described["request"]["body"], Value::Null);
    assert_eq!(described["request"]["bytes"], body(false).to_string().len());
    assert_eq!(described["response"]["body"], Value::Null);
    assert!(described["response"]["bytes"].as_u64().unwrap() > 0);

    gateway.reload(&document(mock, "off")).unwrap();
    let id = ask(gateway, false).await;
    assert_eq!(payload(gateway, ADMIN_TOKEN, &id).await, Value::Null);
    assert_eq!(gateway.metric("sluice_payloads_total{result=\"kept\"}"), 3.0);
    assert_eq!(gateway.metric("sluice_payloads_total{result=\"dropped\"}"), 0.0);
}

#[tokio::test]
async fn bodies_are_kept_in_the_embedded_store() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&document(&mock, "full")).start().await;
    bodies_are_kept(&gateway, &mock).await;
    gateway.stop().await;
}

#[tokio::test]
async fn bodies_are_kept_in_clickhouse() {
    let server = ClickHouse::start().await;
    let mock = Mock::start().await.unwrap();
    let url = Secret::new(server.database("bodies").await);
    let gateway = Builder::new(&document(&mock, "full"))
        .with(|config| {
            config.usage.url = UsageUrl::ClickHouse(url);
            config.usage.batch_age_max = Duration::from_millis(20);
        })
        .start()
        .await;
    bodies_are_kept(&gateway, &mock).await;
    assert_eq!(server.value("SELECT count() FROM bodies.payloads").await, 3);
    let totals = gateway.app().usage().totals().rows();
    assert_eq!((totals[0], totals[2], totals[3]), (totals[1], 0, 0), "{totals:?}");
    within(Box::pin(gateway.end())).await;
}

#[tokio::test]
async fn body_is_cut_at_its_cap_and_no_secret_with_it() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&document(&mock, "full"))
        .with(|config| config.usage.payload_bytes_max = 1_024)
        .start()
        .await;
    let text = format!("{} {SECRET}", "x ".repeat(480));
    let body = json!({ "model": "chat", "messages": [{ "role": "user", "content": text }] });
    let answer = gateway.post("/v1/chat/completions", &body.to_string()).await;
    gateway.idle().await;
    within(gateway.app().usage().flush()).await;
    let id = answer.header("x-request-id").unwrap();
    let payload = payload(&gateway, ADMIN_TOKEN, id).await;
    let kept = payload["request"]["body"].as_str().unwrap();
    assert!(kept.len() <= 1_024 + 3 && kept.ends_with('…'), "{}", kept.len());
    assert!(!kept.contains("CANARY"), "{kept}");
    gateway.stop().await;
}

/// A member of the workspace reads bodies, a viewer the row without them, anybody else nothing.
#[tokio::test]
async fn bodies_are_seen_by_members_of_their_workspace() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&document(&mock, "full")).start().await;
    let id = ask(&gateway, false).await;
    let path = format!("/requests/{id}");
    for (name, platform, role, status, sees) in [
        ("owner", "member", Some("owner"), 200, true),
        ("member", "member", Some("member"), 200, true),
        ("viewer", "member", Some("viewer"), 200, false),
        ("outsider", "member", None, 404, false),
        // They see the usage of all, and the bodies of none.
        ("platform-admin", "admin", None, 200, false),
        ("superadmin", "superadmin", None, 200, true),
    ] {
        let (user_id, token) = user(&gateway, name, platform).await;
        if let Some(role) = role {
            let member = format!("/workspaces/acme/members/{user_id}");
            let put = gateway.admin("PUT", &member, Some(&json!({ "role": role }))).await;
            assert_eq!(put.status, 200, "{}", put.text());
        }
        let shown = gateway.admin_as(&token, ("GET", &path, None), &[]).await;
        assert_eq!(shown.status, status, "{name}");
        let text = shown.text();
        assert_eq!(text.contains("what is this?"), sees, "{name}: {text}");
        let page = gateway.admin_as(&token, ("GET", "/requests", None), &[]).await;
        assert!(!page.text().contains("what is this?"), "{name}: lists have no bodies");
    }
    gateway.stop().await;
}
