//! Whole documents by the admin API: applied, exported, imported; and what outlives a restart.

use loadtest::mock::Mock;
use serde_json::{Value, json};

use crate::harness::{Builder, TestGateway, deployment, target};

fn document(url: &str, key: &str) -> Value {
    json!({ "workspaces": [{ "slug": "acme", "environments": [{
        "slug": "production",
        "connections": [{ "name": "c", "provider": "simulated", "base_url": url,
            "credential": "sk-provider-credential-0" }],
        "models": [{ "alias": "m", "connection": "c", "upstream_model": "sim" }],
        "deployments": [{ "name": "chat", "targets": [{ "model": "m" }] }],
        "keys": [{ "name": "app", "secret": key }, { "name": "made" }],
    }] }] })
}

async fn apply(gateway: &TestGateway, document: &Value) -> Value {
    let answer = gateway.admin("POST", "/apply", Some(document)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn changes(plan: &Value) -> Vec<String> {
    let changes = plan["changes"].as_array().unwrap();
    let line = |it: &Value| {
        format!(
            "{} {} {}",
            it["action"].as_str().unwrap(),
            it["kind"].as_str().unwrap(),
            it["path"].as_str().unwrap()
        )
    };
    changes.iter().map(line).collect()
}

#[tokio::test]
async fn document_becomes_the_state_and_a_second_time_changes_nothing() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new("").start().await;
    let document = document(&mock.base_url(), &gateway.key);

    let dry = gateway.admin("POST", "/apply?dry_run=true", Some(&document)).await.json();
    assert_eq!(dry["changes"].as_array().unwrap().len(), 7, "{dry}");
    assert_eq!(gateway.admin("GET", "/workspaces/acme", None).await.status, 404);

    let plan = apply(&gateway, &document).await;
    assert_eq!(changes(&plan), changes(&dry));
    assert_eq!(plan["secrets"][0]["key"], json!("acme/production/made"));
    assert_eq!(gateway.chat("").await.status, 200);
    assert_eq!(changes(&apply(&gateway, &document).await), [] as [&str; 0]);
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_document_leaves_out_is_removed_in_the_workspaces_it_names() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new("").start().await;
    let mut wanted = document(&mock.base_url(), &gateway.key);
    apply(&gateway, &wanted).await;
    for slug in ["beta", "acme/environments"] {
        let (path, body) = match slug.split_once('/') {
            None => ("/workspaces".to_owned(), json!({ "slug": slug })),
            Some(_) => ("/workspaces/acme/environments".to_owned(), json!({ "slug": "staging" })),
        };
        assert_eq!(gateway.admin("POST", &path, Some(&body)).await.status, 201);
    }
    wanted["workspaces"][0]["environments"][0]["keys"] =
        json!([{ "name": "app", "secret": gateway.key, "description": "changed" }]);

    let plan = apply(&gateway, &wanted).await;

    assert_eq!(
        changes(&plan),
        [
            "update key acme/production/app",
            "delete key acme/production/made",
            "delete environment acme/staging",
        ]
    );
    assert_eq!(plan["changes"][0]["fields"], json!(["description"]));
    assert_eq!(gateway.admin("GET", "/workspaces/beta", None).await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn document_with_a_problem_changes_nothing() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new("").start().await;
    let good = document(&mock.base_url(), &gateway.key);
    apply(&gateway, &good).await;
    let before = gateway.admin("GET", "/export", None).await.json();
    let mut bad = good;
    bad["workspaces"][0]["environments"][0]["keys"] = json!([]);
    bad["workspaces"][0]["environments"][0]["deployments"][0]["targets"][0]["model"] =
        json!("none");

    let answer = gateway.admin("POST", "/apply", Some(&bad)).await;

    assert_eq!(answer.status, 422, "{}", answer.text());
    let field = answer.json()["errors"][0]["field"].as_str().unwrap().to_owned();
    assert_eq!(field, "workspaces[0].environments[0].deployments[0].targets[0].model");
    assert_eq!(gateway.admin("GET", "/export", None).await.json(), before);
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn export_goes_into_another_gateway_without_its_secrets() {
    let mock = Mock::start().await.unwrap();
    let from = Builder::new("").start().await;
    apply(&from, &document(&mock.base_url(), &from.key)).await;
    let exported = from.admin("GET", "/workspaces/acme/export", None).await;
    assert!(!exported.text().contains("sk-provider-credential"), "{}", exported.text());
    assert!(exported.text().contains("${SLUICE_ACME_PRODUCTION_C}"), "{}", exported.text());

    let to = Builder::new("").start().await;
    let answer = to.admin("POST", "/workspaces/import", Some(&exported.json())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let path = "/workspaces/acme/environments/production/connections/c";
    let connection = to.admin("GET", path, None).await.json();
    assert_eq!(connection["enabled"], json!(false), "{connection}");
    let credential = json!({ "credential": "sk-provider-credential-9", "enabled": true });
    assert_eq!(to.admin("PATCH", path, Some(&credential)).await.status, 200);
    let again = to.admin("POST", "/workspaces/import", Some(&exported.json())).await;
    assert_eq!(again.status, 409, "{}", again.text());
    from.stop().await;
    to.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_of_the_boot_document_keeps_what_came_by_the_api() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway = Builder::new(&text).start().await;
    let keys = "/workspaces/acme/environments/production/keys";
    let made = gateway.admin("POST", keys, Some(&json!({ "name": "by-hand" }))).await;
    assert_eq!(made.status, 201);
    let renamed = text.replace("name = \"app\"", "name = \"app2\"");

    gateway.reload(&renamed).unwrap();

    let list = gateway.admin("GET", keys, None).await.json();
    let mut names: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["app2", "by-hand"]);
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}
