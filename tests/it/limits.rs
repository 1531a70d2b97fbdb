//! Limits and budgets: what passes, what does not, and that nothing of a request stays behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loadtest::mock::Mock;
use serde_json::Value;
use sluice::clock::Clock;
use sluice::key;

use crate::client::{Answer, Client, End, request, within};
use crate::harness::{Builder, TargetSpec, TestGateway, behaviour, chat_body, deployment, target};

/// 2026-11-17 12:00:00 UTC, a Tuesday.
const NOON_US: i64 = 1_794_916_800_000_000;

/// A document whose key has `limits`.
fn with_key_limits(targets: &[TargetSpec<'_>], limits: &str) -> String {
    format!("{}limits = [{limits}]\n", deployment(targets, ""))
}

async fn start(mock: &Mock, limits: &str) -> TestGateway {
    Builder::new(&with_key_limits(&[target(mock, "sim")], limits)).start().await
}

/// The counters of the harness's key, a value for each of its limits.
async fn usage(gateway: &TestGateway) -> Vec<Value> {
    usage_of(gateway, "keys/app").await
}

async fn usage_of(gateway: &TestGateway, owner: &str) -> Vec<Value> {
    let path = format!("/api/v1/workspaces/acme/environments/production/{owner}/usage");
    let answer = gateway.admin_get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["limits"].as_array().unwrap().clone()
}

fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn refusal_names_the_limit_and_says_when_to_come_back() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock, r#"{ metric = "requests", period = "minute", amount = 2 }"#).await;
    for left in ["1", "0"] {
        let answer = gateway.chat("").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("2"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left));
        assert!(answer.header("x-ratelimit-reset-requests").unwrap().ends_with('s'));
    }
    let refused = gateway.chat("").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"));
    assert!(message(&refused).starts_with("key `app`: 2 requests per minute; try again in "));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=90).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let refused = gateway.post("/v1/messages", &chat_body(r#""max_tokens":5"#)).await;
    assert_eq!((refused.status, refused.json()["type"].as_str()), (429, Some("error")));
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!(refused.header("anthropic-ratelimit-requests-limit"), Some("2"));
    assert!(refused.header("anthropic-ratelimit-requests-reset").unwrap().ends_with('Z'));
    let row = gateway.rows().await.pop().unwrap();
    assert_eq!((&row["outcome"], &row["status"]), (&"rate_limited".into(), &429.into()));
    assert_eq!(mock.journal().len(), 2, "a refused request reaches no provider");
    let refusals = r#"sluice_limit_refusals_total{level="key",metric="requests"}"#;
    assert_eq!(gateway.metric(refusals), 2.0);
    gateway.stop().await;
}

#[tokio::test]
async fn sliding_minute_lets_pass_again_after_the_time_it_said() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock, r#"{ metric = "requests", period = "second", amount = 3 }"#).await;
    let mut client = gateway.client().await;
    let mut refused = 0;
    // As fast as it goes, until some have been refused; then after the time that was said.
    while refused < 5 {
        let answer = client.call(&gateway.request("/v1/chat/completions", &chat_body(""))).await;
        if answer.status == 429 {
            // The rest of this second, and a third of the next.
            let wait = answer.header("retry-after").unwrap();
            assert!(["1", "2"].contains(&wait), "{wait}");
            refused += 1;
        }
    }
    let passes = async { while gateway.chat("").await.status != 200 {} };
    within(passes).await;
    gateway.stop().await;
}

#[tokio::test]
async fn budget_is_settled_to_what_was_used_and_resets_with_its_day() {
    let mock = Mock::start().await.unwrap();
    let clock = Clock::fixed(NOON_US);
    let limits = r#"{ metric = "cost_usd", period = "day", amount = "0.0001" },
        { metric = "tokens", period = "lifetime", amount = 1000000 }"#
        .replace('\n', " ");
    let document = with_key_limits(&[target(&mock, "sim")], &limits);
    let gateway = Builder::new(&document).clock(&clock).start().await;
    // 20 in at 1 $ and 10 out at 2 $ per million: 40,000 nano-dollars of 100,000.
    mock.set_default(behaviour("input_tokens=20&output_tokens=10"));
    for used in ["0.00004", "0.00008"] {
        assert_eq!(gateway.chat(r#""max_tokens":1"#).await.status, 200);
        let counters = usage(&gateway).await;
        assert_eq!(counters[1]["used"], used);
        assert_eq!(
            (&counters[0]["reserved"], &counters[1]["reserved"]),
            (&0.into(), &"0.00".into())
        );
    }
    assert_eq!(usage(&gateway).await[0]["used"], 60);
    let refused = gateway.chat(r#""max_tokens":20"#).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "budget_exceeded"));
    assert!(message(&refused).starts_with("key `app`: $0.0001 per day; try again in 43200 s"));
    assert_eq!(refused.header("retry-after"), Some("43200"));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(gateway.rows().await.pop().unwrap()["outcome"], "budget_exceeded");
    clock.set(NOON_US + 12 * 3_600_000_000);
    assert_eq!(gateway.chat(r#""max_tokens":20"#).await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn request_that_alone_is_too_much_is_told_so() {
    let mock = Mock::start().await.unwrap();
    let limits = r#"{ metric = "output_tokens", period = "hour", amount = 100 }"#;
    let gateway = start(&mock, limits).await;
    let refused = gateway.chat(r#""max_tokens":101"#).await;
    let expected = "key `app`: 100 output tokens per hour; this request alone may use 101 output \
                    tokens; send less, or set a lower `max_tokens`";
    assert_eq!(message(&refused), expected);
    assert_eq!(gateway.chat(r#""max_tokens":100"#).await.status, 200);
    gateway.stop().await;
}

/// As many at once as there are tasks, of which exactly `amount` may pass.
async fn storm(gateway: &Arc<TestGateway>, n: u64, body: fn(u64) -> String) -> (u64, u64) {
    let (passed, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..16 {
        let gateway = Arc::clone(gateway);
        let (passed, refused) = (Arc::clone(&passed), Arc::clone(&refused));
        senders.spawn(async move {
            for n in (sender..n).step_by(16) {
                let request = gateway.request("/v1/chat/completions", &body(n));
                let answer = Client::connect(gateway.address).await.call(&request).await;
                let counter = if answer.status == 429 { &refused } else { &passed };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    senders.join_all().await;
    (passed.load(Ordering::Relaxed), refused.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_exactly_as_many_pass_as_fit_streams_and_failures_mixed_in() {
    let mock = Mock::start().await.unwrap();
    mock.set_journal(false);
    let limits = r#"{ metric = "requests", period = "day", amount = 123 }"#;
    // Every fifth request that reaches the provider fails there.
    let document = with_key_limits(&[target(&mock, "sim?error_rate=0.2&status=400")], limits);
    let gateway = Arc::new(Builder::new(&document).start().await);
    let body = |n: u64| chat_body(if n.is_multiple_of(2) { r#""stream":true"# } else { "" });
    assert_eq!(storm(&gateway, 400, body).await, (123, 277));
    let counters = usage(&gateway).await;
    assert_eq!((&counters[0]["used"], &counters[0]["reserved"]), (&123.into(), &0.into()));
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn budget_for_so_many_requests_lets_so_many_pass() {
    let mock = Mock::start().await.unwrap();
    mock.set_journal(false);
    // What is reserved for the output is what is used of it: 10 tokens a request, of 505.
    mock.set_default(behaviour("input_tokens=5&output_tokens=10"));
    let limits = r#"{ metric = "output_tokens", period = "lifetime", amount = 505 }"#;
    let gateway = Arc::new(start(&mock, limits).await);
    let body = |n: u64| {
        let stream = if n.is_multiple_of(2) { r#","stream":true"# } else { "" };
        chat_body(&format!(r#""max_tokens":10{stream}"#))
    };
    assert_eq!(storm(&gateway, 160, body).await, (50, 110));
    assert_eq!(usage(&gateway).await[0]["used"], 500);
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn slot_is_held_until_the_stream_ends() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock, r#"{ metric = "concurrent", amount = 1 }"#).await;
    mock.set_default(behaviour("stall_at_event=1"));
    let mut client = gateway.client().await;
    let body = chat_body(r#""stream":true"#);
    client.write(&gateway.request("/v1/chat/completions", &body)).await;
    assert_eq!(client.head().await.0, 200);
    client.read_until("\"content\"").await;
    let refused = gateway.chat("").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "concurrency_exceeded"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(message(&refused).starts_with("key `app`: 1 requests at once; "));
    drop(client);
    mock.set_default(behaviour(""));
    gateway.idle().await;
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}

/// Sends a request that ends in the `n`th way.
async fn ended(gateway: &TestGateway, n: u64) {
    let stream = chat_body(r#""stream":true,"max_tokens":40"#);
    match n % 4 {
        // Gone before the head of the answer.
        0 => {
            let mut client = gateway.client().await;
            let slow = stream.replace(r#""model":"chat""#, r#""model":"slow""#);
            client.write(&gateway.request("/v1/chat/completions", &slow)).await;
        }
        // Gone in the middle of a stream.
        1 => {
            let mut client = gateway.client().await;
            let stalls = stream.replace(r#""model":"chat""#, r#""model":"stalls""#);
            client.write(&gateway.request("/v1/chat/completions", &stalls)).await;
            client.head().await;
            client.read_until("\"content\"").await;
            client.reset();
        }
        // The provider fails; the provider is too slow.
        2 => {
            let fails = stream.replace(r#""model":"chat""#, r#""model":"fails""#);
            let answer = gateway.post("/v1/chat/completions", &fails).await;
            assert_eq!(answer.status, 500);
        }
        _ => {
            let late = stream.replace(r#""model":"chat""#, r#""model":"late""#);
            let answer = gateway.post("/v1/chat/completions", &late).await;
            assert_eq!(answer.status, 504, "{}", answer.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_cancelled_fail_or_time_out_leave_no_slot_and_no_reservation() {
    let mock = Mock::start().await.unwrap();
    mock.set_journal(false);
    let limits = r#"limits = [{ metric = "concurrent", amount = 64 },
        { metric = "tokens", period = "lifetime", amount = 100000000 },
        { metric = "cost_usd", period = "lifetime", amount = "1000" }]"#
        .replace('\n', " ");
    let mut document = String::new();
    let fields = format!("{limits}\nfailover = {{ max_attempts = 1 }}\n");
    document += &deployment(&[target(&mock, "sim")], &fields);
    for (name, script, timeouts) in [
        ("slow", "sim?stall_before_headers", ""),
        ("stalls", "sim?stall_at_event=2", ""),
        ("fails", "sim?status=500", ""),
        ("late", "sim?stall_before_headers", "timeouts = { headers_ms = 20 }\n"),
    ] {
        document += &format!(
            "[[workspaces.environments.models]]\nalias = \"model-{name}\"\nconnection = \"c0\"\n\
             upstream_model = \"{script}\"\nprice = {{ input = \"1\", output = \"2\" }}\n{limits}\n\
             [[workspaces.environments.deployments]]\nname = \"{name}\"\n\
             targets = [{{ model = \"model-{name}\" }}]\n{fields}{timeouts}\
             breaker = {{ consecutive_failures = 1000, error_rate = 1.0 }}\n"
        );
    }
    mock.set_default(behaviour(""));
    let gateway = Arc::new(Builder::new(&document).start().await);
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..16 {
        let gateway = Arc::clone(&gateway);
        senders.spawn(async move {
            for n in 0..25 {
                ended(&gateway, sender + n).await;
            }
        });
    }
    senders.join_all().await;
    // A client that left at once may still be on its way in.
    let mut rows = gateway.rows().await;
    while rows.len() < 400 {
        rows = gateway.rows().await;
    }
    for owner in ["slow", "stalls", "fails", "late"] {
        let tokens: u64 = rows
            .iter()
            .filter(|row| row["deployment"] == owner)
            .flat_map(|row| ["input_uncached", "output"].map(|name| row[name].as_u64()))
            .flatten()
            .sum();
        for path in [format!("deployments/{owner}"), format!("models/model-{owner}")] {
            let counters = usage_of(&gateway, &path).await;
            assert_eq!(counters[0]["used"], 0, "{path}: slots");
            assert_eq!(counters[1]["reserved"], 0, "{path}");
            assert_eq!(counters[1]["used"], tokens, "{path}: what the rows say");
            assert_eq!(counters[2]["reserved"], "0.00", "{path}");
        }
    }
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn target_at_its_limit_is_skipped_and_the_last_one_is_named() {
    let mock = Mock::start().await.unwrap();
    let one = r#"limits = [{ metric = "requests", period = "hour", amount = 1 }]"#;
    let text = deployment(&[target(&mock, "sim"), target(&mock, "sim")], "");
    // The first model and the second connection have a limit of their own.
    let text = text.replacen("price =", &format!("{one}\nprice ="), 1);
    let text = text.replacen("name = \"c1\"", &format!("name = \"c1\"\n{one}"), 1);
    let gateway = Builder::new(&text).start().await;
    let models: Vec<_> = [gateway.chat("").await, gateway.chat("").await]
        .iter()
        .map(|answer| (answer.status, answer.header("x-sluice-model").unwrap().to_owned()))
        .collect();
    assert_eq!(models, [(200, "m0".to_owned()), (200, "m1".to_owned())]);
    let refused = gateway.chat("").await;
    assert_eq!(refused.status, 429);
    assert!(message(&refused).starts_with("model `m0`: 1 requests per hour; "), "{refused:?}");
    assert_eq!(gateway.rows().await.pop().unwrap()["outcome"], "rate_limited");
    assert_eq!(usage_of(&gateway, "connections/c1").await[0]["used"], 1);
    gateway.stop().await;
}

#[tokio::test]
async fn limits_of_all_levels_hold_and_a_refused_request_takes_nothing_of_the_others() {
    let mock = Mock::start().await.unwrap();
    let limit =
        |n: u32| format!(r#"limits = [{{ metric = "requests", period = "day", amount = {n} }}]"#);
    let text = deployment(&[target(&mock, "sim")], &limit(4)) + &limit(5) + "\n";
    let text = text.replacen("slug = \"acme\"", &format!("slug = \"acme\"\n{}", limit(2)), 1);
    let text =
        text.replacen("slug = \"production\"", &format!("slug = \"production\"\n{}", limit(3)), 1);
    let gateway = Builder::new(&text).start().await;
    assert_eq!(gateway.chat("").await.status, 200);
    assert_eq!(gateway.chat("").await.status, 200);
    let refused = gateway.chat("").await;
    assert!(message(&refused).starts_with("workspace `acme`: 2 requests per day; "));
    assert_eq!(usage(&gateway).await[0]["used"], 2);
    assert_eq!(usage_of(&gateway, "deployments/chat").await[0]["used"], 2);
    gateway.stop().await;
}

#[tokio::test]
async fn each_end_user_has_its_own_counter() {
    let mock = Mock::start().await.unwrap();
    let limits = r#"{ metric = "requests", period = "day", amount = 1, dimension = "end_user" },
        { metric = "requests", period = "day", amount = 3, dimension = "metadata.team" }"#
        .replace('\n', " ");
    let gateway = start(&mock, &limits).await;
    let chat = async |user: &str| {
        let field = format!(r#""sluice":{{"end_user":"{user}","metadata":{{"team":"a"}}}}"#);
        gateway.chat(&field).await
    };
    assert_eq!(chat("ann").await.status, 200);
    assert_eq!(chat("bob").await.status, 200);
    let refused = chat("ann").await;
    assert!(message(&refused).starts_with("key `app`: 1 requests per day for each end_user; "));
    assert_eq!(chat("cid").await.status, 200);
    let refused = chat("dan").await;
    assert!(message(&refused).contains("3 requests per day for each metadata.team"));
    let counters = usage(&gateway).await;
    assert_eq!(counters[0]["values"].as_array().unwrap().len(), 3, "{counters:#?}");
    gateway.stop().await;
}

#[tokio::test]
async fn changed_limit_holds_at_once_and_forgets_nothing() {
    let mock = Mock::start().await.unwrap();
    let document = |amount: u64| {
        let limit = format!(r#"{{ metric = "requests", period = "day", amount = {amount} }}"#);
        with_key_limits(&[target(&mock, "sim")], &limit)
    };
    let gateway = Builder::new(&document(2)).start().await;
    assert_eq!(gateway.chat("").await.status, 200);
    assert_eq!(gateway.chat("").await.status, 200);
    assert_eq!(gateway.chat("").await.status, 429);
    gateway.reload(&document(3)).unwrap();
    assert_eq!(gateway.chat("").await.status, 200);
    assert_eq!(gateway.chat("").await.status, 429);
    gateway.reload(&document(1)).unwrap();
    assert_eq!(gateway.chat("").await.status, 429);
    gateway.reload(&deployment(&[target(&mock, "sim")], "")).unwrap();
    let free = gateway.chat("").await;
    assert_eq!((free.status, free.header("x-ratelimit-limit-requests")), (200, None));
    gateway.reload(&document(4)).unwrap();
    assert_eq!(usage(&gateway).await[0]["used"], 3);
    gateway.stop().await;
}

#[tokio::test]
async fn failed_attempt_counts_for_the_target_it_reached_alone() {
    let mock = Mock::start().await.unwrap();
    let limit = r#"limits = [{ metric = "requests", period = "day", amount = 9 }, { metric = "tokens", period = "day", amount = 1000000 }]"#;
    let text = deployment(&[target(&mock, "sim"), target(&mock, "sim")], "");
    let text = text.replace("price =", &format!("{limit}\nprice ="));
    let gateway = Builder::new(&text).start().await;
    mock.script(vec![behaviour("status=503"), behaviour("input_tokens=7&output_tokens=3")]);
    let answer = gateway.chat("").await;
    assert_eq!((answer.status, answer.end), (200, End::Whole));
    let used = async |model: &str| {
        let counters = usage_of(&gateway, &format!("models/{model}")).await;
        (counters[0]["used"].clone(), counters[1]["used"].clone())
    };
    assert_eq!(used("m0").await, (1.into(), 0.into()));
    assert_eq!(used("m1").await, (1.into(), 10.into()));
    gateway.stop().await;
}

#[tokio::test]
async fn counters_of_nobody_are_not_found() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    for owner in ["keys/nobody", "deployments/none", "secrets/app"] {
        let path = format!("/api/v1/workspaces/acme/environments/production/{owner}/usage");
        assert_eq!(gateway.admin_get(&path).await.status, 404, "{owner}");
    }
    assert_eq!(usage(&gateway).await, Vec::<Value>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_used_survives_a_kill() {
    use crate::binary::{Process, configure};

    let mock = Mock::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let limits = r#"{ metric = "requests", period = "lifetime", amount = 3 }"#;
    let document = with_key_limits(&[target(&mock, "sim")], limits);
    configure(folder.path(), &document, "limits.file = \"limits\"");
    let key = key::generate().expose().to_owned();
    let authorization = format!("Bearer {key}");
    let chat = request(
        "POST",
        "/v1/chat/completions",
        &[("authorization", &authorization)],
        chat_body("").as_bytes(),
    );
    let mut process = Process::serve(folder.path(), &key);
    let address = process.address("data plane:").await;
    for _ in 0..2 {
        assert_eq!(Client::connect(address).await.call(&chat).await.status, 200);
    }
    // Written within its interval; then the process is killed in the middle of its work.
    let file = folder.path().join("limits");
    within(async {
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\t2\n")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(process);
    let mut process = Process::serve(folder.path(), &key);
    let address = process.address("data plane:").await;
    assert_eq!(Client::connect(address).await.call(&chat).await.status, 200);
    assert_eq!(Client::connect(address).await.call(&chat).await.status, 429);
}
