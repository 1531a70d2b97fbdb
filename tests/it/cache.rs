//! Answers that are kept: hits, forms, ages, purges, and one call for many same requests.

use loadtest::mock::Mock;
use serde_json::{Value, json};
use sluice::clock::Clock;
use sluice::config::server::{CacheStore, ServerConfig};
use sluice::secret::Secret;

use crate::client::{Answer, request, within};
use crate::harness::{Builder, TestGateway, deployment, target};
use crate::redis_server::RedisServer;

const PRODUCTION: &str = "/workspaces/acme/environments/production";
const ON: &str = "cache = { enabled = true, ttl_s = 60 }";

async fn start(mock: &Mock, fields: &str) -> TestGateway {
    Builder::new(&deployment(&[target(mock, "sim")], fields)).start().await
}

fn body(text: &str, more: &Value) -> String {
    let mut body = json!({
        "model": "chat", "messages": [{"role": "user", "content": text}], "max_tokens": 8,
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

async fn post(gateway: &TestGateway, text: &str, more: Value) -> Answer {
    let answer = gateway.post("/v1/chat/completions", &body(text, &more)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn used(answer: &Answer) -> &str {
    answer.header("x-sluice-cache").unwrap()
}

/// A client's own header beside those of the harness.
async fn post_with(gateway: &TestGateway, text: &str, name: &str, value: &str) -> Answer {
    let authorization = gateway.authorization();
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        (name, value),
    ];
    gateway.expect_rows(1);
    let text = body(text, &json!({}));
    let request = request("POST", "/v1/chat/completions", &headers, text.as_bytes());
    gateway.client().await.call(&request).await
}

#[tokio::test]
async fn same_request_is_answered_from_the_cache() {
    let mock = Mock::start().await.unwrap();
    let clock = Clock::fixed(1_790_000_000_000_000);
    let text = deployment(&[target(&mock, "sim")], ON);
    let gateway = Builder::new(&text).clock(&clock).start().await;
    let first = post(&gateway, "hi", json!({})).await;
    assert_eq!(used(&first), "miss");
    clock.set(1_790_000_000_000_000 + 59_000_000);
    let second = post(&gateway, "hi", json!({"user": "ada", "metadata": {"a": "b"}})).await;
    assert_eq!((used(&second), second.header("age")), ("hit", Some("59")));
    assert_eq!(second.header("x-sluice-model"), Some("m0"));
    assert_eq!(second.header("x-sluice-attempts"), Some("0"));
    assert_eq!(second.body, first.body);
    assert_eq!(used(&post(&gateway, "ho", json!({})).await), "miss");
    clock.set(1_790_000_000_000_000 + 60_000_000);
    assert_eq!(used(&post(&gateway, "hi", json!({})).await), "miss");
    assert_eq!(mock.journal().len(), 3);

    let rows = gateway.rows().await;
    let hit = rows.iter().find(|row| row["outcome"] == "cache_hit").unwrap();
    let miss = rows.iter().find(|row| row["cache"] == "miss").unwrap();
    assert_eq!((&hit["status"], &hit["cache"]), (&json!(200), &json!("hit")));
    assert_eq!(hit["attempts"], json!([]));
    assert_eq!(hit["target"], miss["target"]);
    let cost = |row: &Value, name: &str| row[name].as_u64().unwrap();
    assert_eq!(cost(hit, "cost_nanousd"), 0);
    assert!(0 < cost(miss, "cost_nanousd"));
    assert_eq!(cost(hit, "saved_nanousd"), cost(miss, "cost_nanousd"));
    assert_eq!(gateway.metric("sluice_cache_requests_total{result=\"hit\"}"), 1.0);
    assert_eq!(gateway.metric("sluice_cache_requests_total{result=\"miss\"}"), 3.0);
    assert_eq!(gateway.metric("sluice_cache_entries"), 2.0);
    gateway.stop().await;
}

#[tokio::test]
async fn streams_and_answers_stand_in_for_each_other() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock, ON).await;
    let content = |answer: &Answer| -> String {
        let events = answer.text();
        let data = events.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter_map(|data| serde_json::from_str::<Value>(data).ok())
            .filter_map(|data| data["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect()
    };
    // A stream is kept, and comes back as it was.
    let stream = json!({"stream": true});
    let first = post(&gateway, "a", stream.clone()).await;
    let second = post(&gateway, "a", stream.clone()).await;
    assert_eq!((used(&first), used(&second)), ("miss", "hit"));
    assert_eq!(second.body, first.body);
    assert!(second.header("content-type").unwrap().starts_with("text/event-stream"));
    let whole = post(&gateway, "a", json!({})).await;
    assert_eq!(used(&whole), "hit");
    assert_eq!(whole.json()["choices"][0]["message"]["content"], content(&first).as_str());
    assert!(0 < whole.json()["usage"]["prompt_tokens"].as_u64().unwrap());
    let told = json!({"stream": true, "stream_options": {"include_usage": true}});
    let told = post(&gateway, "a", told).await;
    assert_eq!(used(&told), "hit");
    assert_eq!(content(&told), content(&first));
    assert!(told.text().contains("\"usage\":{"));

    // The other way round.
    let whole = post(&gateway, "b", json!({})).await;
    let told = post(&gateway, "b", stream).await;
    assert_eq!((used(&whole), used(&told)), ("miss", "hit"));
    assert_eq!(whole.json()["choices"][0]["message"]["content"], content(&told).as_str());
    assert!(told.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(mock.journal().len(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn messages_and_responses_are_kept_too() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock, ON).await;
    for (path, body) in [
        (
            "/v1/messages",
            json!({"model": "chat", "max_tokens": 8, "messages": [{"role": "user", "content": "a"}]}),
        ),
        ("/v1/responses", json!({"model": "chat", "input": "a"})),
        ("/v1/embeddings", json!({"model": "chat", "input": "a"})),
    ] {
        let first = gateway.post(path, &body.to_string()).await;
        let second = gateway.post(path, &body.to_string()).await;
        assert_eq!((used(&first), used(&second)), ("miss", "hit"), "{path}");
        assert_eq!(first.body, second.body);
        if path == "/v1/embeddings" {
            continue;
        }
        let mut stream = body.clone();
        stream["stream"] = json!(true);
        let told = gateway.post(path, &stream.to_string()).await;
        assert_eq!(used(&told), "hit", "{path}");
        assert!(told.text().starts_with("event: "), "{}", told.text());
    }
    // What follows from an answer before it is not kept.
    let follows = json!({"model": "chat", "input": "a", "previous_response_id": "resp_1"});
    let answer = gateway.post("/v1/responses", &follows.to_string()).await;
    assert_eq!(used(&answer), "bypass");
    gateway.stop().await;
}

#[tokio::test]
async fn a_thousand_same_requests_make_one_call() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim?headers_ms=300")], ON);
    let gateway = std::sync::Arc::new(Builder::new(&text).start().await);
    let mut senders = tokio::task::JoinSet::new();
    for n in 0..1_000 {
        let gateway = std::sync::Arc::clone(&gateway);
        let more = if n % 2 == 0 { json!({}) } else { json!({"stream": true}) };
        senders.spawn(async move { used(&post(&gateway, "same", more).await).to_owned() });
    }
    let all = senders.join_all().await;
    assert_eq!(mock.journal().len(), 1);
    assert_eq!(all.iter().filter(|used| *used == "miss").count(), 1);
    assert_eq!(all.iter().filter(|used| *used == "hit").count(), 999);
    std::sync::Arc::into_inner(gateway).unwrap().stop().await;
}

/// Those who wait for one that fails ask for themselves; when it leaves, another takes its place.
#[tokio::test]
async fn failure_of_the_first_is_not_that_of_all() {
    let mock = Mock::start().await.unwrap();
    let fields = format!("{ON}\nfailover = {{ max_attempts = 1 }}");
    let text = deployment(&[target(&mock, "sim?headers_ms=300")], &fields);
    let gateway = std::sync::Arc::new(Builder::new(&text).start().await);
    let leaver = {
        let mut client = gateway.client().await;
        let request = gateway.request("/v1/chat/completions", &body("left", &json!({})));
        client.write(&request).await;
        client
    };
    mock.wait_for_started(1).await;
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let gateway = std::sync::Arc::clone(&gateway);
        senders.spawn(async move { used(&post(&gateway, "left", json!({})).await).to_owned() });
    }
    drop(leaver);
    let all = senders.join_all().await;
    assert_eq!(all.iter().filter(|used| *used == "miss").count(), 1, "{all:?}");
    std::sync::Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn what_must_not_be_kept_is_not() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock, "cache = { enabled = true, only_deterministic = true }").await;
    assert_eq!(used(&post(&gateway, "a", json!({})).await), "bypass");
    assert_eq!(used(&post(&gateway, "a", json!({"temperature": 0})).await), "miss");
    assert_eq!(used(&post(&gateway, "a", json!({"temperature": 0})).await), "hit");
    gateway.stop().await;

    let gateway = start(&mock, "cache = { enabled = true, max_entry_bytes = 20 }").await;
    assert_eq!(used(&post(&gateway, "a", json!({})).await), "miss");
    assert_eq!(used(&post(&gateway, "a", json!({})).await), "miss");
    gateway.stop().await;

    // Off unless it is switched on; a deployment wins over its workspace.
    let gateway = start(&mock, "").await;
    assert_eq!(used(&post(&gateway, "a", json!({})).await), "bypass");
    assert_eq!(gateway.row().await["cache"], Value::Null);
    gateway.stop().await;
    for (fields, second) in [("", "hit"), ("cache = { enabled = false }", "bypass")] {
        let text = deployment(&[target(&mock, "sim")], fields).replacen(
            "slug = \"acme\"\n",
            "slug = \"acme\"\nsettings.cache = { enabled = true }\n",
            1,
        );
        let gateway = Builder::new(&text).start().await;
        post(&gateway, "a", json!({})).await;
        assert_eq!(used(&post(&gateway, "a", json!({})).await), second);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn errors_are_not_kept() {
    let mock = Mock::start().await.unwrap();
    let fields = format!("{ON}\nfailover = {{ max_attempts = 1 }}");
    let text = deployment(&[target(&mock, "sim?status=400")], &fields);
    let gateway = Builder::new(&text).start().await;
    for _ in 0..2 {
        let answer = gateway.post("/v1/chat/completions", &body("a", &json!({}))).await;
        assert_eq!((answer.status, used(&answer)), (400, "miss"));
    }
    assert_eq!(mock.journal().len(), 2);
    assert_eq!(gateway.metric("sluice_cache_entries"), 0.0);
    gateway.stop().await;
}

#[tokio::test]
async fn client_says_what_it_wants() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock, ON).await;
    assert_eq!(used(&post_with(&gateway, "a", "x-sluice-cache", "no-store").await), "bypass");
    assert_eq!(used(&post(&gateway, "a", json!({})).await), "miss");
    assert_eq!(used(&post_with(&gateway, "a", "x-sluice-cache", "no-cache").await), "miss");
    assert_eq!(used(&post(&gateway, "a", json!({})).await), "hit");
    // What decides over the answer counts.
    assert_eq!(used(&post_with(&gateway, "a", "openai-beta", "x=1").await), "miss");
    assert_eq!(used(&post_with(&gateway, "a", "x-request-id", "1").await), "hit");
    assert_eq!(mock.journal().len(), 4);
    gateway.stop().await;
}

#[tokio::test]
async fn change_of_the_configuration_and_purge_end_what_is_kept() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock, ON).await;
    post(&gateway, "a", json!({})).await;
    assert_eq!(used(&post(&gateway, "a", json!({})).await), "hit");
    // Another model behind the deployment.
    gateway.reload(&deployment(&[target(&mock, "other")], ON)).unwrap();
    assert_eq!(used(&post(&gateway, "a", json!({})).await), "miss");
    for path in ["cache/purge", "deployments/chat/cache/purge"] {
        assert_eq!(used(&post(&gateway, "a", json!({})).await), "hit");
        let path = format!("{PRODUCTION}/{path}");
        let answer = gateway.admin("POST", &path, Some(&json!({}))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(1 <= answer.json()["purged"].as_u64().unwrap());
        assert_eq!(used(&post(&gateway, "a", json!({})).await), "miss");
    }
    gateway.stop().await;
}

/// Two nodes on one Redis: an answer of one is a hit on the other; without it nothing is lost.
#[tokio::test]
async fn nodes_share_their_answers() {
    let mock = Mock::start().await.unwrap();
    let mut redis = RedisServer::start().await;
    let text = deployment(&[target(&mock, "sim")], ON);
    let url = redis.url();
    let node = |config: &mut ServerConfig| {
        config.shared.redis = Some(Secret::new(url.clone()));
        config.cache.store = CacheStore::Redis;
        // A machine that is busy with other tests may be slow.
        config.cache.timeout = std::time::Duration::from_secs(5);
    };
    let one = Builder::new(&text).with(node).start().await;
    let other = Builder::new(&text).with(node).start().await;
    let up = |gateway: &TestGateway| gateway.metric("sluice_cache_store_up") == 1.0;
    for gateway in [&one, &other] {
        within(until(|| up(gateway))).await;
    }
    let first = post(&one, "a", json!({"stream": true})).await;
    assert_eq!(used(&first), "miss");
    within(kept(&redis)).await;
    let second = post(&other, "a", json!({"stream": true})).await;
    assert_eq!((used(&second), &second.body), ("hit", &first.body));
    assert_eq!(used(&post(&other, "a", json!({})).await), "hit");
    let rows = other.rows().await;
    let row = rows.iter().find(|row| row["outcome"] == "cache_hit").unwrap();
    assert!(0 < row["saved_nanousd"].as_u64().unwrap());
    let n_calls = mock.journal().len();

    // A purge on one node counts on both.
    let path = format!("{PRODUCTION}/deployments/chat/cache/purge");
    let answer = one.admin("POST", &path, Some(&json!({}))).await;
    assert_eq!((answer.status, &answer.json()["purged"]), (200, &Value::Null));
    assert_eq!(used(&post(&other, "a", json!({})).await), "miss");
    assert_eq!(mock.journal().len(), n_calls + 1);

    redis.kill();
    within(until(|| !up(&one))).await;
    assert_eq!(used(&post(&one, "a", json!({})).await), "miss");
    assert_eq!(one.admin("POST", &path, Some(&json!({}))).await.status, 503);
    for gateway in [one, other] {
        gateway.stop().await;
    }
}

/// Until there is an answer: it is kept a moment after it was given.
async fn kept(redis: &RedisServer) {
    let has_none = |reply: String| reply.starts_with("*0");
    while redis.command("KEYS sluice:cache:*:e:*").await.is_none_or(has_none) {}
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

/// A hit counts as a request, and as nothing else.
#[tokio::test]
async fn hits_count_as_requests_alone() {
    let mock = Mock::start().await.unwrap();
    let limits = "limits = [{ metric = \"requests\", period = \"hour\", amount = 3 }, \
                  { metric = \"cost_usd\", period = \"month\", amount = \"1\" }]";
    let gateway = start(&mock, &format!("{ON}\n{limits}")).await;
    let path = format!("{PRODUCTION}/deployments/chat/usage");
    let mut cost = None;
    for expected in ["miss", "hit", "hit"] {
        assert_eq!(used(&post(&gateway, "a", json!({})).await), expected);
        gateway.idle().await;
        let usage = gateway.admin("GET", &path, None).await.json();
        let limits = usage["limits"].as_array().unwrap();
        let of_cost = limits.iter().find(|limit| limit["metric"] == "cost_usd").unwrap();
        let now = of_cost["used"].to_string();
        assert_eq!(cost.get_or_insert(now.clone()), &now);
    }
    let answer = gateway.post("/v1/chat/completions", &body("a", &json!({}))).await;
    assert_eq!(answer.status, 429);
    gateway.stop().await;
}

/// Two environments ask the same; each has the answer of its own provider.
#[tokio::test]
async fn environments_share_nothing() {
    let (mock, other) = (Mock::start().await.unwrap(), Mock::start().await.unwrap());
    let text = deployment(&[target(&mock, "sim")], ON);
    let second = deployment(&[target(&other, "sim")], ON)
        .replace("slug = \"acme\"", "slug = \"beta\"")
        .replace("${KEY}", "${OTHER}");
    let key = sluice::key::generate().expose().to_owned();
    let gateway = Builder::new(&format!("{text}\n{second}")).env("OTHER", &key).start().await;
    post(&gateway, "a", json!({})).await;
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    gateway.expect_rows(1);
    let text = body("a", &json!({}));
    let request = request("POST", "/v1/chat/completions", &headers, text.as_bytes());
    let answer = gateway.client().await.call(&request).await;
    assert_eq!(used(&answer), "miss");
    assert_eq!((mock.journal().len(), other.journal().len()), (1, 1));
    gateway.stop().await;
}
