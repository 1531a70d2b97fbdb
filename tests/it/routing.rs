//! Which target a request goes to.

use std::collections::HashMap;

use loadtest::mock::Mock;

use crate::client::{Client, request, within};
use crate::harness::{Builder, TargetSpec, TestGateway, behaviour, chat_body, deployment};

fn weighted<'a>(mock: &'a Mock, fields: &'a str) -> TargetSpec<'a> {
    TargetSpec { mock, upstream_model: "sim", fields }
}

/// The model that answered each of `n` chats, sent one after the other on `client`.
async fn models(gateway: &TestGateway, client: &mut Client, n: usize) -> Vec<String> {
    let mut models = Vec::with_capacity(n);
    for _ in 0..n {
        let answer = client.call(&gateway.request("/v1/chat/completions", &chat_body(""))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        if answer.header("connection") == Some("close") {
            *client = gateway.client().await;
        }
        models.push(answer.header("x-sluice-model").unwrap().to_owned());
    }
    models
}

async fn few(gateway: &TestGateway, n: usize) -> Vec<String> {
    let mut client = gateway.client().await;
    models(gateway, &mut client, n).await
}

fn counts(models: &[String]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for model in models {
        *counts.entry(model.as_str()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_over_ten_thousand_requests_are_exact() {
    let mock = Mock::start().await.unwrap();
    mock.set_journal(false);
    let targets = [
        weighted(&mock, "weight = 5"),
        weighted(&mock, "weight = 1"),
        weighted(&mock, "weight = 1"),
    ];
    let gateway = std::sync::Arc::new(Builder::new(&deployment(&targets, "")).start().await);
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..8 {
        let gateway = std::sync::Arc::clone(&gateway);
        // 10,003 in all: a whole number of rounds.
        let n = if sender < 3 { 1251 } else { 1250 };
        senders.spawn(async move { few(&gateway, n).await });
    }
    let all = senders.join_all().await.concat();
    let counts = counts(&all);
    assert_eq!((counts["m0"], counts["m1"], counts["m2"]), (7145, 1429, 1429));
    std::sync::Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn every_window_of_one_round_has_the_exact_shares() {
    let mock = Mock::start().await.unwrap();
    let targets = [
        weighted(&mock, "weight = 5"),
        weighted(&mock, "weight = 1"),
        weighted(&mock, "weight = 1"),
    ];
    let gateway = Builder::new(&deployment(&targets, "")).start().await;
    let all = few(&gateway, 70).await;
    for window in all.windows(7) {
        let counts = counts(window);
        assert_eq!((counts["m0"], counts["m1"], counts["m2"]), (5, 1, 1), "{window:?}");
    }
    // Smooth: never all of one target's share in one go.
    assert!(all.windows(4).any(|four| counts(four).len() > 1));
    gateway.stop().await;
}

#[tokio::test]
async fn lowest_tier_is_used_until_none_of_it_is_left() {
    let bad = Mock::start().await.unwrap();
    let good = Mock::start().await.unwrap();
    let targets = [
        weighted(&bad, "weight = 1, tier = 2"),
        weighted(&good, "weight = 1, tier = 5"),
        weighted(&bad, "weight = 1, tier = 2"),
    ];
    let gateway = Builder::new(&deployment(&targets, "")).start().await;
    assert_eq!(counts(&few(&gateway, 10).await), HashMap::from([("m0", 5), ("m2", 5)]));
    bad.set_default(behaviour("status=500"));
    // Failed over while the breakers close, and without an attempt once they are open.
    assert_eq!(counts(&few(&gateway, 12).await), HashMap::from([("m1", 12)]));
    bad.clear_journal();
    assert_eq!(counts(&few(&gateway, 5).await), HashMap::from([("m1", 5)]));
    assert!(bad.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn drained_and_disabled_targets_get_nothing() {
    let mock = Mock::start().await.unwrap();
    let idle = Mock::start().await.unwrap();
    let targets = [
        weighted(&idle, "weight = 0"),
        weighted(&mock, "weight = 2"),
        weighted(&idle, "weight = 1, enabled = false"),
    ];
    let gateway = Builder::new(&deployment(&targets, "")).start().await;
    assert_eq!(counts(&few(&gateway, 9).await), HashMap::from([("m1", 9)]));
    mock.set_default(behaviour("status=500"));
    assert_eq!(gateway.chat("").await.status, 500);
    assert!(idle.journal().is_empty(), "not even a failure brings a drained target back");
    gateway.stop().await;
}

#[tokio::test]
async fn disabled_model_leaves_every_pool() {
    let mock = Mock::start().await.unwrap();
    let targets = [weighted(&mock, "weight = 1"), weighted(&mock, "weight = 1")];
    let text = deployment(&targets, "");
    let gateway = Builder::new(&text).start().await;
    assert_eq!(counts(&few(&gateway, 4).await).len(), 2);
    gateway.reload(&text.replace("alias = \"m0\"", "alias = \"m0\"\nenabled = false")).unwrap();
    assert_eq!(counts(&few(&gateway, 4).await), HashMap::from([("m1", 4)]));
    let answer = gateway.post("/v1/chat/completions", r#"{"model":"m0","messages":[]}"#).await;
    assert_eq!(answer.code(), "model_not_found");
    gateway.stop().await;
}

#[tokio::test]
async fn cheapest_goes_first_and_the_next_cheapest_after_it() {
    let cheap = Mock::start().await.unwrap();
    let dear = Mock::start().await.unwrap();
    let targets = [
        weighted(&dear, "weight = 9"),
        weighted(&cheap, "weight = 1"),
        weighted(&dear, "weight = 9"),
    ];
    let text = deployment(&targets, "strategy = \"cheapest\"")
        .replacen("input = \"1\"", "input = \"3\"", 1)
        .replacen(
            "output = \"2\" }\n[[workspaces.environments.connections]]\nname = \"c2\"",
            "output = \"0.5\" }\n[[workspaces.environments.connections]]\nname = \"c2\"",
            1,
        );
    let gateway = Builder::new(&text).start().await;
    assert_eq!(counts(&few(&gateway, 8).await), HashMap::from([("m1", 8)]));
    cheap.set_default(behaviour("status=500"));
    assert_eq!(few(&gateway, 1).await, ["m2"], "3 + 2 dollars are more than 1 + 2");
    gateway.stop().await;
}

#[tokio::test]
async fn least_latency_finds_the_fast_target() {
    let slow = Mock::start().await.unwrap();
    slow.set_default(behaviour("headers_ms=60"));
    let fast = Mock::start().await.unwrap();
    let targets = [weighted(&slow, "weight = 1"), weighted(&fast, "weight = 1")];
    let gateway = Builder::new(&deployment(&targets, "strategy = \"least_latency\"")).start().await;
    few(&gateway, 12).await; // Both are measured by then: an unmeasured one is drawn by chance.
    let counts_of = |models: &[String]| counts(models).get("m1").copied().unwrap_or(0);
    let later = few(&gateway, 20).await;
    assert!(counts_of(&later) >= 18, "{later:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn least_busy_goes_round_the_busy_target() {
    let one = Mock::start().await.unwrap();
    let two = Mock::start().await.unwrap();
    let targets = [weighted(&one, "weight = 1"), weighted(&two, "weight = 1")];
    let gateway = Builder::new(&deployment(&targets, "strategy = \"least_busy\"")).start().await;
    // Three requests that never end keep `m0` busy.
    let authorization = gateway.authorization();
    let headers = [("authorization", authorization.as_str()), ("x-sluice-target", "m0")];
    one.set_default(behaviour("stall_before_headers"));
    let mut held = Vec::new();
    for _ in 0..3 {
        gateway.expect_rows(1);
        let mut client = gateway.client().await;
        client
            .write(&request("POST", "/v1/chat/completions", &headers, chat_body("").as_bytes()))
            .await;
        held.push(client);
    }
    within(one.wait_for_started(3)).await;
    assert_eq!(counts(&few(&gateway, 10).await), HashMap::from([("m1", 10)]));
    drop(held);
    within(one.wait_for(3)).await;
    gateway.idle().await;
    one.set_default(behaviour(""));
    let both = few(&gateway, 40).await;
    assert_eq!(counts(&both).len(), 2, "equally idle ones share");
    gateway.stop().await;
}

#[tokio::test]
async fn hash_keeps_each_user_and_moves_only_those_of_a_target_that_left() {
    let mock = Mock::start().await.unwrap();
    let targets = [
        weighted(&mock, "weight = 1"),
        weighted(&mock, "weight = 1"),
        weighted(&mock, "weight = 1"),
    ];
    let text = deployment(&targets, "strategy = \"hash\"\nhash_on = \"end_user\"");
    let gateway = Builder::new(&text).start().await;
    let of_users = async || {
        let mut all = Vec::new();
        for user in 0..30 {
            let answer = gateway.chat(&format!(r#""user":"user-{user}""#)).await;
            all.push(answer.header("x-sluice-model").unwrap().to_owned());
        }
        all
    };
    let first = of_users().await;
    assert_eq!(counts(&first).len(), 3, "{first:?}");
    assert_eq!(of_users().await, first);
    gateway
        .reload(&text.replace("{ model = \"m1\", weight = 1 }", "{ model = \"m1\", weight = 0 }"))
        .unwrap();
    let without = of_users().await;
    for (before, after) in first.iter().zip(&without) {
        assert!(after != "m1" && (before == "m1" || before == after), "{before} {after}");
    }
    gateway.reload(&text).unwrap();
    assert_eq!(of_users().await, first, "and back");
    gateway.stop().await;
}

#[tokio::test]
async fn hash_on_metadata_and_session() {
    let mock = Mock::start().await.unwrap();
    let targets = [weighted(&mock, "weight = 1"), weighted(&mock, "weight = 1")];
    for (on, field) in [
        ("metadata.tenant", r#""sluice":{"metadata":{"tenant":"#),
        ("session", r#""sluice":{"correlation_id":"#),
    ] {
        let text = deployment(&targets, &format!("strategy = \"hash\"\nhash_on = \"{on}\""));
        let gateway = Builder::new(&text).start().await;
        let mut used = Vec::new();
        for tenant in 0..12 {
            let closing = if on == "session" { "}" } else { "}}" };
            let body = format!("{field}\"t{tenant}\"{closing}");
            let first = gateway.chat(&body).await.header("x-sluice-model").unwrap().to_owned();
            for _ in 0..3 {
                assert_eq!(gateway.chat(&body).await.header("x-sluice-model"), Some(&*first));
            }
            used.push(first);
        }
        assert_eq!(counts(&used).len(), 2, "{on}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn health_checks_take_a_target_out_and_back() {
    let ill = Mock::start().await.unwrap();
    let well = Mock::start().await.unwrap();
    let targets = [weighted(&ill, "weight = 1, tier = 0"), weighted(&well, "weight = 1, tier = 1")];
    // The breaker shall not be what takes it out.
    let breaker = "breaker = { consecutive_failures = 1000, error_rate = 1.0 }";
    let check = "health_check = { path = \"/v1/models\", interval_s = 0.1, timeout_ms = 90, \
                 unhealthy_after = 2, healthy_after = 2 }";
    let text = deployment(&targets, breaker).replacen(
        "name = \"c0\"\n",
        &format!("name = \"c0\"\n{check}\n"),
        1,
    );
    let gateway = Builder::new(&text).start().await;
    // What answers without a second attempt is what selection chose.
    let until_chosen = async |wanted: &str| {
        within(async {
            loop {
                let n_seen = ill.journal().len();
                let answer = gateway.chat("").await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                if answer.header("x-sluice-attempts") == Some("1")
                    && answer.header("x-sluice-model") == Some(wanted)
                {
                    return;
                }
                ill.wait_for(n_seen + 2).await; // Our own attempt, and a check.
            }
        })
        .await;
    };
    until_chosen("m0").await;
    ill.set_default(behaviour("status=503"));
    until_chosen("m1").await;
    for _ in 0..5 {
        let answer = gateway.chat("").await;
        assert_eq!(answer.header("x-sluice-attempts"), Some("1"), "it is not even tried");
        assert_eq!(answer.header("x-sluice-model"), Some("m1"));
    }
    ill.set_default(behaviour(""));
    within(async {
        while gateway.chat("").await.header("x-sluice-model") != Some("m0") {
            let n_seen = ill.journal().len();
            ill.wait_for(n_seen + 1).await;
        }
    })
    .await;
    gateway.stop().await;
}
