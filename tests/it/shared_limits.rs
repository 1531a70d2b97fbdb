//! Limits counted over all nodes, and what becomes of them when the shared store does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loadtest::mock::Mock;
use sluice::clock::Clock;
use sluice::limit::{Amounts, Metric, Period, Wait};
use sluice::secret::Secret;
use sluice::shared::{Answer, Asked, Hold, Shared, SharedSettings};
use sluice::telemetry::metrics::Metrics;

use crate::client::{Client, within};
use crate::harness::{Builder, TestGateway, behaviour, chat_body, deployment, target};
use crate::redis_server::RedisServer;

/// A node whose key has `limits`, once it has found the store.
async fn node(mock: &Mock, redis: &RedisServer, limits: &str) -> TestGateway {
    let text = format!("{}limits = [{limits}]\n", deployment(&[target(mock, "sim")], ""));
    let url = redis.url();
    let builder = Builder::new(&text).with(|config| {
        config.shared.redis = Some(Secret::new(url));
        // A busy machine may be slow, and the store is not down for it.
        config.shared.timeout = Duration::from_secs(1);
    });
    let gateway = builder.start().await;
    until(|| gateway.metric("sluice_shared_up") == 1.0).await;
    gateway
}

async fn until(is_so: impl Fn() -> bool) {
    within(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// How many of `n` chats pass at both nodes together.
async fn storm(nodes: [&Arc<TestGateway>; 2], n: u64) -> u64 {
    let passed = Arc::new(AtomicU64::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..16 {
        let node = Arc::clone(nodes[sender % 2]);
        let passed = Arc::clone(&passed);
        senders.spawn(async move {
            for n in 0..n / 16 {
                let stream = if n % 2 == 0 { r#","stream":true"# } else { "" };
                let body = chat_body(&format!(r#""max_tokens":10{stream}"#));
                let request = node.request("/v1/chat/completions", &body);
                let answer = Client::connect(node.address).await.call(&request).await;
                assert!([200, 429].contains(&answer.status), "{}", answer.text());
                passed.fetch_add(u64::from(answer.status == 200), Ordering::Relaxed);
            }
        });
    }
    senders.join_all().await;
    passed.load(Ordering::Relaxed)
}

async fn stop(nodes: [Arc<TestGateway>; 2]) {
    for node in nodes {
        Arc::into_inner(node).unwrap().stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_let_exactly_as_many_pass_as_fit() {
    let redis = RedisServer::start().await;
    let mock = Mock::start().await.unwrap();
    mock.set_journal(false);
    mock.set_default(behaviour("input_tokens=5&output_tokens=10"));
    // The same key on both nodes is the same owner: its id follows from its name.
    let limits = r#"{ metric = "requests", period = "lifetime", amount = 101, mode = "shared" }, { metric = "output_tokens", period = "month", amount = 705, mode = "shared" }, { metric = "concurrent", amount = 50, mode = "shared" }"#;
    let one = Arc::new(node(&mock, &redis, limits).await);
    let two = Arc::new(node(&mock, &redis, limits).await);
    assert_eq!(storm([&one, &two], 320).await, 70, "of 705 output tokens, 10 each");
    let granted = r#"sluice_shared_reservations_total{result="granted"}"#;
    assert_eq!(one.metric(granted) + two.metric(granted), 70.0);
    let answer = one.chat(r#""max_tokens":10"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limit_exceeded"));
    assert!(answer.text().contains("key `app`: 705 output tokens per month"), "{}", answer.text());
    stop([one, two]).await;
    // All is settled: what was used is there, and no slot is held.
    let keys = redis.command("KEYS sluice:{*").await.unwrap();
    let key_of = |metric: &str| keys.lines().find(|line| line.contains(metric)).map(str::to_owned);
    let tokens = redis.command(&format!("HGET {} c", key_of(":output_tokens:").unwrap())).await;
    assert_eq!(tokens.unwrap(), "$3\r\n700\r\n");
    let requests = redis.command(&format!("HGET {} c", key_of(":requests:").unwrap())).await;
    assert_eq!(requests.unwrap(), "$2\r\n70\r\n");
    assert_eq!(key_of(":concurrent:"), None, "an empty set is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_fails_no_request_and_each_node_keeps_to_its_share() {
    let mut redis = RedisServer::start().await;
    let mock = Mock::start().await.unwrap();
    mock.set_journal(false);
    let limits = r#"{ metric = "requests", period = "lifetime", amount = 60, mode = "shared" }"#;
    let one = Arc::new(node(&mock, &redis, limits).await);
    let two = Arc::new(node(&mock, &redis, limits).await);
    // Both know that they are two.
    until(|| one.app().shared().unwrap().nodes() == 2).await;
    assert_eq!(storm([&one, &two], 32).await, 32);
    redis.kill();
    until(|| one.metric("sluice_shared_up") + two.metric("sluice_shared_up") == 0.0).await;
    // 30 for each node; each has let in 16.
    assert_eq!(storm([&one, &two], 96).await, 28);
    redis.restart().await;
    until(|| one.metric("sluice_shared_up") + two.metric("sluice_shared_up") == 2.0).await;
    // It has come back empty: a full limit for both together.
    assert_eq!(storm([&one, &two], 96).await, 60);
    stop([one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_store_fails_no_request_and_holds_up_few() {
    let redis = RedisServer::start().await;
    let mock = Mock::start().await.unwrap();
    mock.set_journal(false);
    let text = format!(
        "{}limits = [{{ metric = \"requests\", period = \"lifetime\", amount = 1000000, mode = \"shared\" }}]\n",
        deployment(&[target(&mock, "sim")], "")
    );
    let url = redis.url();
    let builder = Builder::new(&text).with(|config| config.shared.redis = Some(Secret::new(url)));
    let gateway = Arc::new(builder.start().await);
    until(|| gateway.metric("sluice_shared_up") == 1.0).await;
    redis.freeze();
    assert_eq!(storm([&gateway, &gateway], 320).await, 320);
    assert_eq!(gateway.metric("sluice_shared_up"), 0.0);
    let unavailable = r#"sluice_shared_reservations_total{result="unavailable"}"#;
    let waited = gateway.metric(unavailable);
    assert!((3.0..=40.0).contains(&waited), "{waited} of 320 waited for it");
    redis.thaw();
    until(|| gateway.metric("sluice_shared_up") == 1.0).await;
    // A late grant that nobody waited for has been given back.
    assert_eq!(storm([&gateway, &gateway], 32).await, 32);
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_of_the_wrong_kind_and_a_flush_fail_no_request() {
    let redis = RedisServer::start().await;
    let mock = Mock::start().await.unwrap();
    let limits = r#"{ metric = "requests", period = "day", amount = 50, mode = "shared" }"#;
    let gateway = node(&mock, &redis, limits).await;
    assert_eq!(gateway.chat("").await.status, 200);
    let keys = redis.command("KEYS sluice:{*").await.unwrap();
    let key = keys.lines().find(|line| line.starts_with("sluice:")).unwrap().to_owned();
    redis.command("FLUSHALL").await.unwrap();
    redis.command("SCRIPT FLUSH").await.unwrap();
    assert_eq!(gateway.chat("").await.status, 200);
    redis.command(&format!("DEL {key}")).await.unwrap();
    redis.command(&format!("SET {key} text")).await.unwrap();
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_that_denies_without_the_store_says_so() {
    let mut redis = RedisServer::start().await;
    let mock = Mock::start().await.unwrap();
    let limits = r#"{ metric = "requests", period = "day", amount = 50, mode = "shared", on_error = "deny" }"#;
    let gateway = node(&mock, &redis, limits).await;
    assert_eq!(gateway.chat("").await.status, 200);
    redis.kill();
    until(|| gateway.metric("sluice_shared_up") == 0.0).await;
    let refused = gateway.chat("").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    gateway.stop().await;
}

/// A node of its own at the store, without a gateway.
async fn bare(redis: &RedisServer) -> (Arc<Shared>, tokio::task::JoinHandle<()>) {
    let settings = SharedSettings {
        url: Secret::new(redis.url()),
        timeout: Duration::from_secs(5),
        lease: Duration::from_secs(1),
    };
    let made = Shared::new(&settings, Clock::default(), Arc::new(Metrics::default()));
    let (shared, keeper) = made.unwrap_or_else(|error| panic!("{error}"));
    let keeper = tokio::spawn(keeper.run());
    until(|| shared.is_up()).await;
    (shared, keeper)
}

fn asked(metric: Metric, period: Period, amount: u64) -> Vec<Asked> {
    let key = format!("sluice:{{test}}:{}:{}", metric.name(), period.name());
    vec![Asked { key, metric, period, amount, ask: 1 }]
}

async fn grant(shared: &Arc<Shared>, asked: Vec<Asked>) -> Result<Hold, Option<Wait>> {
    match shared.reserve(asked).await {
        Answer::Granted(hold) => Ok(hold),
        Answer::Refused(_, wait) => Err(Some(wait)),
        Answer::Unavailable => Err(None),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_of_a_node_that_is_gone_come_back_and_those_of_a_living_one_stay() {
    let redis = RedisServer::start().await;
    let (gone, keeper) = bare(&redis).await;
    let (alive, _keeper) = bare(&redis).await;
    let slots = || asked(Metric::Concurrent, Period::Lifetime, 2);
    let _of_gone = grant(&gone, slots()).await.unwrap();
    let of_alive = grant(&alive, slots()).await.unwrap();
    assert_eq!(grant(&alive, slots()).await.unwrap_err(), Some(Wait::For(Duration::from_secs(1))));
    keeper.abort();
    let began = Instant::now();
    let second = within(async {
        loop {
            if let Ok(hold) = grant(&alive, slots()).await {
                break hold;
            }
        }
    })
    .await;
    assert!(Duration::from_millis(200) < began.elapsed(), "the lease was renewed before");
    // Two leases further the living node still has both.
    while began.elapsed() < Duration::from_secs(3) {
        assert!(grant(&alive, slots()).await.is_err());
    }
    of_alive.settle(&Amounts::default());
    drop(second);
    alive.flush().await;
    assert!(grant(&alive, slots()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn saturated_store_lets_pass_the_amount_and_a_burst_at_most() {
    let redis = RedisServer::start().await;
    let (one, _keeper) = bare(&redis).await;
    let (two, _keeper2) = bare(&redis).await;
    let passed = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for shared in [one, two] {
        let passed = Arc::clone(&passed);
        senders.spawn(async move {
            while began.elapsed() < Duration::from_secs(4) {
                let asked = asked(Metric::Requests, Period::Second, 50);
                match grant(&shared, asked).await {
                    Ok(hold) => {
                        passed.fetch_add(1, Ordering::Relaxed);
                        hold.settle(&Amounts { requests: 1, ..Amounts::default() });
                    }
                    Err(wait) => {
                        let Some(Wait::For(wait)) = wait else { panic!("{wait:?}") };
                        assert!(wait <= Duration::from_secs(2));
                    }
                }
            }
        });
    }
    senders.join_all().await;
    let bound = 50 + began.elapsed().as_millis() / 20;
    let passed = passed.load(Ordering::Relaxed);
    assert!(150 <= passed && u128::from(passed) <= bound, "{passed} of at most {bound}");
}
