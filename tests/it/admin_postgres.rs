//! The state in PostgreSQL, with two gateways on it.

use std::path::Path;

use loadtest::mock::Mock;
use serde_json::{Value, json};
use sluice::clock::Clock;
use sluice::config::server::StateUrl;
use sluice::control::store::Store;
use sluice::secret::Secret;
use tokio::time::Instant;

use crate::client::{Client, DEADLINE, request};
use crate::harness::{Builder, TestGateway, chat_body, deployment, target};
use crate::postgres_server::Postgres;

/// A gateway on the server; all share one master key.
async fn gateway(postgres: &Postgres, key_file: &Path, resources: &str) -> TestGateway {
    let (url, key_file) = (postgres.url(), key_file.to_owned());
    Builder::new(resources)
        .with(|config| {
            config.state.url = url;
            config.secrets.master_key_file = key_file;
        })
        .start()
        .await
}

async fn chat(gateway: &TestGateway, secret: &str) -> u16 {
    let headers = [("x-api-key", secret), ("content-type", "application/json")];
    let request = request("POST", "/v1/chat/completions", &headers, chat_body("").as_bytes());
    let status = Client::connect(gateway.address).await.call(&request).await.status;
    if status == 200 {
        gateway.expect_rows(1);
    }
    status
}

/// Waits until the other node has heard.
async fn until(gateway: &TestGateway, secret: &str, wanted: u16) {
    let began = Instant::now();
    while chat(gateway, secret).await != wanted {
        assert!(began.elapsed() < DEADLINE, "the change does not come");
        tokio::task::yield_now().await;
    }
}

/// Waits until `/readyz` says so of the store. The node stays ready.
async fn says(gateway: &TestGateway, wanted: &str) {
    let began = Instant::now();
    loop {
        let ready = gateway.admin_get("/readyz").await;
        assert_eq!(ready.status, 200, "{}", ready.text());
        if ready.json()["checks"]["state"] == json!(wanted) {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{}", ready.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_follow_each_other_and_outlive_their_store() {
    let mut postgres = Postgres::start();
    let mock = Mock::start().await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("master.key");
    let one = gateway(&postgres, &key_file, "").await;
    let two = gateway(&postgres, &key_file, "").await;
    let at = "/workspaces/acme/environments/production";
    let made = async |path: &str, body: Value| {
        let answer = one.admin("POST", path, Some(&body)).await;
        assert_eq!(answer.status, 201, "{path}: {}", answer.text());
        answer.json()
    };
    made("/workspaces", json!({ "slug": "acme" })).await;
    let connection = json!({ "name": "c", "provider": "simulated", "base_url": mock.base_url(),
        "credential": "sk-provider-credential-0" });
    made(&format!("{at}/connections"), connection).await;
    let model = json!({ "alias": "m", "connection": "c", "upstream_model": "sim" });
    made(&format!("{at}/models"), model).await;
    made(&format!("{at}/deployments"), json!({ "name": "chat", "targets": [{ "model": "m" }] }))
        .await;
    let key = made(&format!("{at}/keys"), json!({ "name": "app" })).await;
    let secret = key["secret"].as_str().unwrap().to_owned();

    assert_eq!(chat(&one, &secret).await, 200);
    until(&two, &secret, 200).await;
    let verdict = two.admin("GET", "/audit-events/verify", None).await.json();
    assert_eq!(verdict["intact"], json!(true), "{verdict}");

    postgres.stop();
    assert_eq!((chat(&one, &secret).await, chat(&two, &secret).await), (200, 200));
    let refused = one.admin("POST", &format!("{at}/keys"), Some(&json!({ "name": "b" }))).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    says(&two, "unavailable").await;
    assert_eq!(two.metric("sluice_state_store_up"), 0.0);
    postgres.serve();
    says(&two, "ok").await;
    assert_eq!(two.metric("sluice_state_store_up"), 1.0);

    let began = Instant::now();
    let revoke = format!("{at}/keys/app/revoke");
    while one.admin("POST", &revoke, None).await.status != 200 {
        assert!(began.elapsed() < DEADLINE);
    }
    assert_eq!(chat(&one, &secret).await, 401);
    until(&two, &secret, 401).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boot_document_and_documents_of_the_api_are_the_same_there() {
    let postgres = Postgres::start();
    let mock = Mock::start().await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("master.key");
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway = gateway(&postgres, &key_file, &text).await;
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.reload(&text).unwrap();
    gateway.reload(&text.replace("name = \"app\"", "name = \"app2\"")).unwrap();
    assert_eq!(gateway.chat("").await.status, 200);
    let exported = gateway.admin("GET", "/workspaces/acme/export", None).await;
    assert_eq!(exported.status, 200);
    assert!(exported.text().contains("app2") && !exported.text().contains("sk-provider"));
    gateway.reload("").unwrap();
    assert_eq!(gateway.admin("GET", "/workspaces/acme", None).await.status, 404);
    gateway.stop().await;
}

/// Waits until there is a copy that is newer than the last change of a key.
async fn copied(gateway: &TestGateway, file: &Path) -> Vec<u8> {
    let before = std::fs::read(file).unwrap_or_default();
    let at = "/workspaces/acme/environments/production/keys/app";
    let answer = gateway.admin("PATCH", at, Some(&json!({ "description": "copied" }))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let began = Instant::now();
    loop {
        let copy = std::fs::read(file).unwrap_or_default();
        if !copy.is_empty() && copy != before {
            return copy;
        }
        assert!(began.elapsed() < DEADLINE, "there is no copy");
        tokio::task::yield_now().await;
    }
}

/// A start on `postgres` that is not running, from `file`.
async fn restarted(
    postgres: &Postgres,
    (keys, file): (&Path, &Path),
    clock: &Clock,
) -> Result<TestGateway, String> {
    let (url, key_file, file) = (postgres.url(), keys.join("master.key"), file.to_owned());
    Builder::new("")
        .clock(clock)
        .with(|config| {
            config.state.url = url;
            config.state.copy_file = file;
            config.secrets.master_key_file = key_file;
        })
        .try_start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_starts_without_the_store_serves_the_last_known_state() {
    let mut postgres = Postgres::start();
    let mock = Mock::start().await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("state.copy");
    let at = (keys.path(), file.as_path());
    let first = restarted(&postgres, at, &Clock::default()).await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    first.reload(&text).unwrap();
    let secret = first.key.clone();
    assert_eq!(chat(&first, &secret).await, 200);
    let copy = copied(&first, &file).await;
    for text in ["acme", "sk-provider", &secret] {
        assert!(!copy.windows(text.len()).any(|part| part == text.as_bytes()), "{text}");
    }
    first.stop().await;
    postgres.stop();

    let later = Clock::default().unix_micros() + 25 * 3_600 * 1_000_000;
    let refused = restarted(&postgres, at, &Clock::fixed(later)).await.err().unwrap();
    assert!(refused.contains("too long ago"), "{refused}");
    let node = restarted(&postgres, at, &Clock::default()).await.unwrap();
    assert_eq!(chat(&node, &secret).await, 200);
    assert_eq!(chat(&node, sluice::key::generate().expose()).await, 401);
    says(&node, "unavailable").await;
    let revoke = "/workspaces/acme/environments/production/keys/app/revoke";
    assert_eq!(node.admin("POST", revoke, None).await.status, 503);

    postgres.serve();
    says(&node, "ok").await;
    assert_eq!(node.admin("POST", revoke, None).await.status, 200);
    assert_eq!(chat(&node, &secret).await, 401);
    node.stop().await;
}

/// Whether the store lets somebody in who asks like this.
async fn opens(url: String) -> Result<(), String> {
    let url = StateUrl::Postgres(Secret::new(url));
    let open = move || Store::open(&url, Clock::default()).map(drop);
    let opened = tokio::task::spawn_blocking(open).await.unwrap();
    opened.map_err(|error| error.to_string())
}

#[tokio::test]
async fn connection_is_encrypted_as_the_address_says() {
    let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/upstream/certs");
    let ca = certs.join("ca.pem").display().to_string();
    let of_ip = |verified| vec![("127.0.0.1", verified)];
    for (certificate, hosts) in [
        ("good", of_ip(true)),
        ("wrong_name", vec![("127.0.0.1", false), ("provider.test", true)]),
        ("wrong_ca", of_ip(false)),
    ] {
        let start = move || Postgres::start_tls(certificate);
        let (server, address) = tokio::task::spawn_blocking(start).await.unwrap();
        for (host, verified) in hosts {
            let (port, ip) = (address.port(), address.ip());
            let base = format!("postgres://sluice@{host}:{port}/postgres?hostaddr={ip}");
            for (mode, is_let_in) in [
                (String::new(), true),
                ("&sslmode=require".to_owned(), true),
                (format!("&sslmode=verify-full&sslrootcert={ca}"), verified),
                // Without `sslrootcert` the authorities of the system count, who know none of these.
                ("&sslmode=verify-full".to_owned(), false),
                // The server takes nobody without TLS.
                ("&sslmode=disable".to_owned(), false),
            ] {
                let opened = opens(format!("{base}{mode}")).await;
                assert_eq!(opened.is_ok(), is_let_in, "{certificate} {host} {mode}: {opened:?}");
            }
        }
        tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
    }
}
