//! Reloads: atomic, at once, and unnoticed by what is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use loadtest::mock::Mock;
use sluice::key;

use crate::client::{End, request, within};
use crate::harness::{Builder, TargetSpec, TestGateway, behaviour, chat_body, deployment, target};

fn weighted<'a>(mock: &'a Mock, fields: &'a str) -> TargetSpec<'a> {
    TargetSpec { mock, upstream_model: "sim", fields }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_reloads_under_load_fail_no_request_and_drop_no_connection() {
    let mock = Mock::start().await.unwrap();
    mock.set_journal(false);
    let one = deployment(&[weighted(&mock, "weight = 2"), weighted(&mock, "weight = 1")], "");
    let two = deployment(
        &[weighted(&mock, "weight = 1"), weighted(&mock, "weight = 3")],
        "heartbeat_s = 7",
    );
    let gateway = Arc::new(Builder::new(&one).start().await);
    let is_over = Arc::new(AtomicBool::new(false));
    let n_answers = Arc::new(AtomicU64::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let (gateway, is_over) = (Arc::clone(&gateway), Arc::clone(&is_over));
        let n_answers = Arc::clone(&n_answers);
        senders.spawn(async move {
            let body = chat_body(if sender % 2 == 0 { "" } else { r#""stream":true"# });
            let mut client = gateway.client().await;
            let mut on_connection = 0;
            while !is_over.load(Ordering::Relaxed) {
                let answer = client.call(&gateway.request("/v1/chat/completions", &body)).await;
                assert_eq!((answer.status, answer.end), (200, End::Whole), "{}", answer.text());
                n_answers.fetch_add(1, Ordering::Relaxed);
                on_connection += 1;
                if answer.header("connection") == Some("close") {
                    assert!(on_connection >= 1_000, "closed after {on_connection} requests");
                    client = gateway.client().await;
                    on_connection = 0;
                }
            }
        });
    }
    let reloading = Arc::clone(&gateway);
    tokio::task::spawn_blocking(move || {
        for n in 0..500 {
            reloading.reload(&two).unwrap_or_else(|error| panic!("{n}: {error}"));
            reloading.reload(&one).unwrap_or_else(|error| panic!("{n}: {error}"));
        }
    })
    .await
    .unwrap();
    is_over.store(true, Ordering::Relaxed);
    senders.join_all().await;
    assert!(n_answers.load(Ordering::Relaxed) > 100, "there was load");
    assert_eq!(gateway.metric("sluice_reloads_total{result=\"applied\"}"), 1000.0);
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn bad_document_changes_nothing() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway = Builder::new(&text).start().await;
    for bad in [
        text.replace("model = \"m0\"", "model = \"m9\""),
        text.replace("name = \"chat\"", "name = \"chat\"\nstrategi = 1"),
        text.replace("${KEY}", "${UNSET}"),
        "[[workspaces".to_owned(),
        format!("{text}[[workspaces]]\nslug = \"acme\"\n"),
    ] {
        assert!(gateway.reload(&bad).is_err(), "{bad}");
        assert_eq!(gateway.chat("").await.status, 200);
    }
    assert_eq!(gateway.metric("sluice_reloads_total{result=\"refused\"}"), 5.0);
    std::fs::remove_file(gateway.dir.path().join("resources.toml")).unwrap();
    assert!(gateway.app().reload(None).is_err());
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn open_breaker_stays_open() {
    let mock = Mock::start().await.unwrap();
    mock.set_default(behaviour("status=500"));
    let text = deployment(&[target(&mock, "sim")], "breaker = { cooldown_s = 300 }");
    let gateway = Builder::new(&text).start().await;
    for _ in 0..5 {
        assert_eq!(gateway.chat("").await.status, 500);
    }
    gateway.reload(&text).unwrap();
    gateway.reload(&format!("{text}[[workspaces]]\nslug = \"more\"\n")).unwrap();
    mock.set_default(behaviour(""));
    assert_eq!(gateway.chat("").await.code(), "no_healthy_target");
    assert_eq!(mock.journal().len(), 5);
    gateway.stop().await;
}

#[tokio::test]
async fn benched_connection_stays_benched() {
    let mock = Mock::start().await.unwrap();
    mock.set_default(behaviour("status=401"));
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway = Builder::new(&text).start().await;
    assert_eq!(gateway.chat("").await.code(), "upstream_auth_failed");
    gateway.reload(&text).unwrap();
    assert_eq!(gateway.chat("").await.code(), "upstream_auth_failed");
    assert_eq!(mock.journal().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn what_health_checks_found_stays_found() {
    let ill = Mock::start().await.unwrap();
    let well = Mock::start().await.unwrap();
    ill.set_default(behaviour("status=503"));
    let check = "health_check = { path = \"/v1/models\", interval_s = 0.1, timeout_ms = 90, \
                 unhealthy_after = 2 }";
    let breaker = "breaker = { consecutive_failures = 1000, error_rate = 1.0 }";
    let text = deployment(&[target(&ill, "sim"), target(&well, "sim")], breaker).replacen(
        "name = \"c0\"\n",
        &format!("name = \"c0\"\n{check}\n"),
        1,
    );
    let gateway = Builder::new(&text).start().await;
    within(async {
        while gateway.chat("").await.header("x-sluice-attempts") != Some("1") {
            let n_seen = ill.journal().len();
            ill.wait_for(n_seen + 1).await;
        }
    })
    .await;
    for _ in 0..5 {
        gateway.reload(&text).unwrap();
        let answer = gateway.chat("").await;
        assert_eq!(answer.header("x-sluice-attempts"), Some("1"), "what is down is tried again");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn rotation_goes_on_where_it_was() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(
        &[
            weighted(&mock, "weight = 3"),
            weighted(&mock, "weight = 2"),
            weighted(&mock, "weight = 2"),
        ],
        "",
    );
    let still = Builder::new(&text).start().await;
    let reloaded = Builder::new(&text).start().await;
    for n in 0..21 {
        let expected = still.chat("").await;
        let answer = reloaded.chat("").await;
        assert_eq!(answer.header("x-sluice-model"), expected.header("x-sluice-model"), "{n}");
        reloaded.reload(&text).unwrap();
    }
    still.stop().await;
    reloaded.stop().await;
}

#[tokio::test]
async fn keys_come_and_go_with_the_next_request() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    let key = key::generate();
    let more =
        format!("{text}[[workspaces.environments.keys]]\nname = \"new\"\nsecret = \"${{NEW}}\"\n");
    let gateway = Builder::new(&text).env("NEW", key.expose()).start().await;
    let mut client = gateway.client().await;
    let headers = [("x-api-key", key.expose())];
    // Without a body: one that nobody has read ends its connection.
    let call = request("GET", "/v1/models", &headers, b"");
    for _ in 0..3 {
        assert_eq!(client.call(&call).await.status, 401);
        gateway.reload(&more).unwrap();
        gateway.expect_rows(1);
        assert_eq!(client.call(&call).await.status, 200, "the same connection is let in");
        gateway.reload(&text).unwrap();
    }
    assert_eq!(client.call(&call).await.status, 401);
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn request_ends_on_the_resources_that_it_began_with() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim?events=3&event_ms=50")], "");
    let gateway = Builder::new(&text).start().await;
    let mut client = gateway.client().await;
    client.write(&gateway.request("/v1/chat/completions", &chat_body(r#""stream":true"#))).await;
    client.head().await;
    // The key, the deployment and the connection are gone.
    gateway.reload("[[workspaces]]\nslug = \"empty\"\n").unwrap();
    client.read_until("[DONE]").await;
    assert_eq!(client.chunk().await, Some(Vec::new()));
    let row = gateway.row().await;
    assert_eq!((&row["outcome"], &row["deployment"]), (&"success".into(), &"chat".into()));
    let answer = request_with(&gateway).await;
    assert_eq!(answer, 401);
    gateway.stop().await;
}

/// A chat with the harness's key when that key is not known.
async fn request_with(gateway: &TestGateway) -> u16 {
    let headers = [("x-api-key", gateway.key.as_str())];
    let request = request("POST", "/v1/chat/completions", &headers, chat_body("").as_bytes());
    gateway.client().await.call(&request).await.status
}
