//! What a row says: outcome, tokens, cost, times, attempts.

use std::time::Duration;

use loadtest::mock::Mock;
use serde_json::{Value, json};
use sluice::clock::Clock;
use sluice::usage::store::Reader;

use crate::client::{End, request, within};
use crate::harness::{
    Builder, TestGateway, behaviour, chat_body, closed, deployment, document, target,
};

const TOKENS: [&str; 8] = [
    "input_uncached",
    "input_cache_read",
    "input_cache_write_5m",
    "input_cache_write_1h",
    "output",
    "reasoning",
    "audio_in",
    "audio_out",
];

/// The token columns of a row, in the order of [`TOKENS`].
fn tokens(row: &Value) -> Value {
    TOKENS.iter().map(|name| row[name].clone()).collect()
}

/// The request of each dialect, for `model`.
fn asks(model: &str, is_stream: bool) -> [(&'static str, String); 3] {
    let stream = if is_stream { r#","stream":true"# } else { "" };
    [
        ("/v1/chat/completions", format!(r#"{{"model":"{model}","messages":[]{stream}}}"#)),
        ("/v1/responses", format!(r#"{{"model":"{model}","input":"x"{stream}}}"#)),
        ("/v1/messages", format!(r#"{{"model":"{model}","max_tokens":5,"messages":[]{stream}}}"#)),
    ]
}

/// What must hold for every row.
fn check(row: &Value) {
    let number = |name: &str| row[name].as_u64();
    let total = number("total_us").unwrap();
    assert!(number("overhead_us").unwrap() <= total, "{row:#}");
    let headers = number("headers_us").unwrap_or(0);
    let first = number("first_token_us").unwrap_or(headers);
    assert!(headers <= first && first <= total, "{row:#}");
    for attempt in row["attempts"].as_array().unwrap() {
        let started = attempt["started_us"].as_u64().unwrap();
        let of_attempt = attempt["total_us"].as_u64().unwrap();
        assert!(started + of_attempt <= total + 1, "{row:#}");
        assert!(attempt["headers_us"].as_u64().unwrap_or(0) <= of_attempt, "{row:#}");
    }
    assert!(1_700_000_000_000_000 < row["started_at"].as_i64().unwrap());
    assert_eq!(row["source_ip"], "127.0.0.1");
}

#[tokio::test]
async fn tokens_and_cost_of_each_dialect_streamed_and_not() {
    let mock = Mock::start().await.unwrap();
    let script = "sim?input_tokens=100&cache_read=40&reasoning=7&output_tokens=30&cache_write=5&cache_write_1h=3";
    let text = deployment(&[target(&mock, script)], "").replace(
        "input = \"1\", output = \"2\"",
        "input = \"1\", output = \"2\", cache_read = \"0.1\", cache_write = \"1.25\", cache_write_1h = \"2.5\", reasoning = \"3\"",
    );
    let gateway = Builder::new(&text).start().await;
    for is_stream in [false, true] {
        for (path, body) in asks("chat", is_stream) {
            let answer = gateway.post(path, &body).await;
            assert_eq!((answer.status, answer.end), (200, End::Whole));
            let row = gateway.rows().await.pop().unwrap();
            check(&row);
            let (expected, cost) = match path {
                "/v1/messages" => (
                    json!([100, 40, 5, 3, 30, null, null, null]),
                    100_000 + 40 * 100 + 5 * 1_250 + 3 * 2_500 + 30 * 2_000,
                ),
                "/v1/responses" => (
                    json!([100, 40, null, null, 23, 7, null, null]),
                    100_000 + 40 * 100 + 23 * 2_000 + 7 * 3_000,
                ),
                _ => (
                    json!([100, 40, null, null, 23, 7, 0, 0]),
                    100_000 + 40 * 100 + 23 * 2_000 + 7 * 3_000,
                ),
            };
            assert_eq!(tokens(&row), expected, "{path} {is_stream}");
            assert_eq!(row["cost_nanousd"], cost, "{path} {is_stream}");
            assert_eq!((&row["usage_source"], &row["priced"]), (&json!("reported"), &json!(true)));
            assert_eq!(
                (&row["price_version"], &row["stream"]),
                (&json!("user"), &json!(is_stream))
            );
            assert_eq!(row["response_bytes"], answer.body.len());
            assert_eq!(row["request_bytes"], body.len());
        }
    }
    let answer = gateway.post("/v1/embeddings", r#"{"model":"chat","input":"x"}"#).await;
    assert_eq!(answer.status, 200);
    let row = gateway.rows().await.pop().unwrap();
    assert_eq!(row["output"], Value::Null);
    assert_eq!(row["cost_nanousd"], 140_000);
    gateway.stop().await;
}

#[tokio::test]
async fn missing_usage_is_estimated_and_marked() {
    let mock = Mock::start().await.unwrap();
    let gateway = TestGateway::start(&[target(&mock, "sim?no_usage&bytes=400")]).await;
    for is_stream in [false, true] {
        for (path, body) in asks("chat", is_stream) {
            assert_eq!(gateway.post(path, &body).await.status, 200);
            let row = gateway.rows().await.pop().unwrap();
            assert_eq!(row["usage_source"], "estimated", "{path} {is_stream}");
            assert!(
                0 < row["output"].as_u64().unwrap() && 0 < row["cost_nanousd"].as_u64().unwrap()
            );
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn row_stays_as_long_as_its_workspace_says() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    let with =
        |settings: &str| text.replace("slug = \"acme\"", &format!("slug = \"acme\"\n{settings}"));
    let own = with("settings = { retention_days = 7 }");
    assert_ne!(own, text);
    let gateway = Builder::new(&own).start().await;
    for (document, days) in [
        (own.as_str(), json!(7)),
        (with("settings = { retention_days = 400 }").as_str(), json!(400)),
        // What the process keeps rows for anyway is not in the row.
        (text.as_str(), Value::Null),
    ] {
        gateway.reload(document).unwrap();
        gateway.chat("").await;
        let row = gateway.rows().await.pop().unwrap();
        assert_eq!(row["retention_days"], days);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn model_without_a_price_has_no_cost() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "")
        .replace("price = { input = \"1\", output = \"2\" }", "");
    let gateway = Builder::new(&text).start().await;
    gateway.chat("").await;
    let row = gateway.row().await;
    assert_eq!(
        (&row["cost_nanousd"], &row["priced"], &row["price_version"]),
        (&Value::Null, &json!(false), &Value::Null)
    );
    assert_eq!(row["input_uncached"], 20);
    gateway.stop().await;
}

#[tokio::test]
async fn catalogue_prices_what_has_no_price_of_its_own() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "gpt-4o")], "")
        .replace("price = { input = \"1\", output = \"2\" }", "")
        .replace("provider = \"simulated\"", "provider = \"openai\"");
    let gateway = Builder::new(&text).start().await;
    mock.set_default(behaviour("input_tokens=1000&output_tokens=100"));
    gateway.chat("").await;
    let row = gateway.row().await;
    assert_eq!(row["cost_nanousd"], 1000 * 2_500 + 100 * 10_000);
    assert_eq!(row["priced"], true);
    assert_ne!(row["price_version"], "user");
    assert!(row["price_version"].is_string());
    gateway.stop().await;
}

#[tokio::test]
async fn reported_zero_is_zero_and_absurd_numbers_are_nothing() {
    let mock = Mock::start().await.unwrap();
    let gateway = TestGateway::start(&[target(&mock, "sim")]).await;
    mock.set_default(behaviour("input_tokens=0&output_tokens=0"));
    gateway.chat("").await;
    let row = gateway.rows().await.pop().unwrap();
    assert_eq!(tokens(&row), json!([0, 0, null, null, 0, 0, 0, 0]));
    assert_eq!((&row["cost_nanousd"], &row["degraded"]), (&json!(0), &json!(false)));
    for weird in ["negative", "huge", "float", "string"] {
        mock.set_default(behaviour(&format!("usage_weird={weird}")));
        assert_eq!(gateway.chat("").await.status, 200);
        let row = gateway.rows().await.pop().unwrap();
        assert_eq!(row["degraded"], true, "{weird}");
        assert_ne!(row["usage_source"], "reported", "{weird}");
    }
    gateway.stop().await;
}

/// Counts a request of each outcome and compares rows with metrics.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one list of outcomes, and one account of them")]
async fn every_outcome_has_its_row_and_its_count() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(
        &[target(&mock, "sim")],
        "timeouts = { headers_ms = 200, idle_ms = 300 }\nfailover = { max_attempts = 1 }\nbreaker = { consecutive_failures = 1000, error_rate = 1.0 }",
    );
    let disabled = sluice::key::generate();
    let text = format!(
        "{text}[[workspaces.environments.keys]]\nname = \"off\"\nsecret = \"${{OFF}}\"\nenabled = false\n"
    );
    let gateway = Builder::new(&text).env("OFF", disabled.expose()).start().await;
    let stream = r#""stream":true"#;
    for (script, fields, outcome, status, class) in [
        ("", "", "success", 200, None),
        ("", stream, "success", 200, None),
        ("status=422", "", "client_error", 422, Some("client_error")),
        ("status=500", "", "upstream_error", 500, Some("server_error")),
        ("stall_before_headers", "", "timeout", 504, Some("headers_timeout")),
        ("stall_at_event=2", stream, "timeout", 200, Some("idle_timeout")),
        ("cut_at_event=2", stream, "stream_broken", 200, Some("stream_broken")),
        ("error_at_event=2", stream, "upstream_error", 200, Some("stream_error")),
    ] {
        mock.set_default(behaviour(script));
        let answer = gateway.chat(fields).await;
        assert_eq!(answer.status, status, "{script}: {}", answer.text());
        let row = gateway.rows().await.pop().unwrap();
        check(&row);
        assert_eq!(
            (&row["outcome"], &row["status"]),
            (&json!(outcome), &json!(status)),
            "{script}"
        );
        assert_eq!(row["error_class"], json!(class), "{script}");
        assert_eq!(row["attempts"].as_array().unwrap().len(), 1, "{script}");
    }
    mock.set_default(behaviour("stall_at_event=2"));
    let mut client = gateway.client().await;
    client.write(&gateway.request("/v1/chat/completions", &chat_body(stream))).await;
    client.head().await;
    client.read_until("data: ").await;
    drop(client);
    gateway.idle().await;
    // Without a `retry-after` it is the breaker that waits: the last one.
    mock.set_default(behaviour("status=429"));
    assert_eq!(gateway.chat("").await.status, 429);
    assert_eq!(gateway.rows().await.pop().unwrap()["error_class"], "rate_limited");
    gateway.expect_rows(1);
    let headers = [("x-api-key", disabled.expose())];
    let off = request("POST", "/v1/chat/completions", &headers, b"{}");
    assert_eq!(gateway.client().await.call(&off).await.status, 401);

    let rows = gateway.rows().await;
    let closed = rows.iter().find(|row| row["outcome"] == "client_closed").unwrap();
    assert_eq!((&closed["status"], &closed["usage_source"]), (&json!(499), &json!("estimated")));
    assert_eq!(rows.last().unwrap()["outcome"], "unauthorized");
    for outcome in [
        "success",
        "client_error",
        "upstream_error",
        "timeout",
        "stream_broken",
        "client_closed",
        "unauthorized",
    ] {
        let n = rows.iter().filter(|row| row["outcome"] == outcome).count();
        let metric = gateway.metric(&format!("sluice_requests_total{{outcome=\"{outcome}\"}}"));
        assert!(0 < n, "{outcome}");
        assert_eq!(metric.to_string(), n.to_string(), "{outcome}");
    }
    let total: u64 = rows.iter().filter_map(|row| row["output"].as_u64()).sum();
    let counted = gateway.metric("sluice_tokens_total{kind=\"output\"}");
    assert_eq!(counted.to_string(), total.to_string());
    let attempts: usize = rows.iter().map(|row| row["attempts"].as_array().unwrap().len()).sum();
    let counted = gateway.metric("sluice_attempts_total");
    assert_eq!(counted.to_string(), attempts.to_string());
    gateway.stop().await;
}

#[tokio::test]
async fn attempts_are_nested_in_order() {
    let busy = Mock::start().await.unwrap();
    let good = Mock::start().await.unwrap();
    let nowhere = format!("http://{}/v1", closed());
    let (one, two) = (busy.base_url(), good.base_url());
    let text = document(
        &[(&nowhere, "sim", ""), (&one, "sim?status=503", ""), (&two, "sim", "")],
        "failover = { max_attempts = 5 }",
    );
    let gateway = Builder::new(&text).start().await;
    let answer = gateway.chat("").await;
    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("3")));
    let row = gateway.row().await;
    check(&row);
    let attempts = row["attempts"].as_array().unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            json!([
                attempt["model"],
                attempt["connection"],
                attempt["status"],
                attempt["error_class"],
                attempt["maybe_billed"]
            ])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["m0", "c0", null, "connect", false]),
            json!(["m1", "c1", 503, "server_error", false]),
            json!(["m2", "c2", 200, null, false]),
        ]
    );
    let started: Vec<_> =
        attempts.iter().map(|attempt| attempt["started_us"].as_u64().unwrap()).collect();
    assert!(started.is_sorted(), "{started:?}");
    assert_eq!((&row["model"], &row["target_id"]), (&json!("m2"), &attempts[2]["target_id"]));
    assert!(attempts[0]["headers_us"].is_null() && attempts[2]["headers_us"].is_u64());
    gateway.stop().await;
}

#[tokio::test]
async fn times_tell_the_provider_from_the_gateway() {
    let mock = Mock::start().await.unwrap();
    let gateway =
        TestGateway::start(&[target(&mock, "sim?headers_ms=120&first_ms=80&events=4&event_ms=40")])
            .await;
    gateway.chat(r#""stream":true"#).await;
    let row = gateway.row().await;
    check(&row);
    let number = |name: &str| row[name].as_u64().unwrap();
    assert!((120_000..190_000).contains(&number("headers_us")), "{row:#}");
    assert!(200_000 <= number("first_token_us"), "{row:#}");
    assert!(320_000 <= number("total_us"), "{row:#}");
    assert!(number("overhead_us") < 60_000, "{row:#}");
    let rate = row["output_tokens_per_second"].as_f64().unwrap();
    assert!((10.0..60.0).contains(&rate), "{rate}");
    gateway.stop().await;
}

#[tokio::test]
async fn row_says_who_asked() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "").replace(
        "name = \"app\"",
        "name = \"app\"\nmetadata_defaults = { team = \"search\", stage = \"one\" }",
    );
    let gateway = Builder::new(&text).start().await;
    let authorization = gateway.authorization();
    let headers = [
        ("authorization", authorization.as_str()),
        ("x-request-id", "client-7"),
        ("x-sluice-correlation-id", "corr-1"),
        ("x-sluice-metadata-stage", "two"),
        ("x-sluice-metadata-app", "web"),
    ];
    gateway.expect_rows(1);
    let body = chat_body(r#""user":"ann""#);
    let request = request("POST", "/v1/chat/completions", &headers, body.as_bytes());
    let answer = gateway.client().await.call(&request).await;
    let row = gateway.row().await;
    assert_eq!(row["metadata"], json!({"app": "web", "stage": "two", "team": "search"}));
    assert_eq!((&row["end_user"], &row["correlation_id"]), (&json!("ann"), &json!("corr-1")));
    assert_eq!(row["client_request_id"], "client-7");
    assert_eq!(row["upstream_request_id"], answer.header("x-upstream-request-id").unwrap());
    assert_eq!(
        (&row["workspace"], &row["environment"], &row["key"]),
        (&json!("acme"), &json!("production"), &json!("app"))
    );
    assert_eq!(
        (&row["deployment"], &row["model"], &row["upstream_model"]),
        (&json!("chat"), &json!("m0"), &json!("sim"))
    );
    assert_eq!((&row["provider"], &row["connection"]), (&json!("simulated"), &json!("c0")));
    gateway.stop().await;
}

#[tokio::test]
async fn rejected_requests_leave_a_row_that_says_why() {
    let (gateway, mock) = TestGateway::with_mock().await;
    for (body, status, class) in [
        ("", 400, "invalid_json"),
        ("[]", 400, "invalid_json"),
        ("{}", 400, "missing_model"),
        (r#"{"model":7}"#, 400, "invalid_request"),
        (r#"{"model":"nothing"}"#, 404, "model_not_found"),
    ] {
        let answer = gateway.post("/v1/chat/completions", body).await;
        assert_eq!(answer.status, status, "{body}");
        let row = gateway.rows().await.pop().unwrap();
        check(&row);
        assert_eq!(
            (&row["outcome"], &row["error_class"]),
            (&json!("client_error"), &json!(class)),
            "{body}"
        );
        assert_eq!((&row["usage_source"], &row["cost_nanousd"]), (&json!("none"), &Value::Null));
        assert_eq!((&row["attempts"], &row["target_id"]), (&json!([]), &Value::Null));
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn refused_keys_are_counted_by_minute_and_address() {
    let mock = Mock::start().await.unwrap();
    let clock = Clock::fixed(1_800_000_000_000_000);
    let gateway =
        Builder::new(&deployment(&[target(&mock, "sim")], "")).clock(&clock).start().await;
    let key = sluice::key::generate();
    let headers = [("x-api-key", key.expose())];
    let call = request("GET", "/v1/models", &headers, b"");
    let mut client = gateway.client().await;
    for n in 0..30 {
        if n == 20 {
            clock.set(1_800_000_060_000_000);
        }
        assert_eq!(client.call(&call).await.status, 401);
    }
    assert!(gateway.rows().await.is_empty());
    let reader = Reader::open(&gateway.dir.path().join("usage.db")).unwrap();
    let refused = reader.refused(10).unwrap();
    let told: Vec<_> =
        refused.iter().map(|row| (row.unix_minute, row.source_ip, row.count)).collect();
    let local = Some("127.0.0.1".parse().unwrap());
    assert_eq!(told, [(30_000_001, local, 10), (30_000_000, local, 20)]);
    gateway.stop().await;
}

#[tokio::test]
async fn rows_arrive_by_themselves() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    gateway.chat("").await;
    let path = gateway.dir.path().join("usage.db");
    // A batch is written when its first row is 100 ms old.
    let arrived = tokio::time::timeout(Duration::from_secs(3), async {
        while Reader::open(&path).unwrap().count().unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    within(arrived).await.expect("the row came without being asked for");
    gateway.stop().await;
}

#[tokio::test]
async fn stream_is_priced_for_what_was_seen_when_it_breaks() {
    let mock = Mock::start().await.unwrap();
    let gateway =
        TestGateway::start(&[target(&mock, "sim?events=8&cut_at_event=6&input_tokens=50")]).await;
    let [.., (path, body)] = asks("chat", true);
    let answer = gateway.post(path, &body).await;
    assert_eq!(answer.end, End::Cut);
    let row = gateway.row().await;
    // What Anthropic says at the start is reported; the rest of the row is not silently zero.
    assert_eq!((&row["outcome"], &row["input_uncached"]), (&json!("stream_broken"), &json!(50)));
    assert!(0 < row["output"].as_u64().unwrap(), "{row:#}");
    assert!(0 < row["cost_nanousd"].as_u64().unwrap());
    assert_eq!(row["usage_source"], "estimated");
    gateway.stop().await;
}

#[tokio::test]
async fn store_can_be_read_with_the_sqlite_of_the_machine() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    let answer = gateway.chat("").await;
    gateway.rows().await; // Written by now.
    let script = "import json, sqlite3, sys\n\
        store = sqlite3.connect(sys.argv[1])\n\
        row = store.execute('SELECT request_id, workspace, attempts FROM requests').fetchone()\n\
        print(row[0], row[1], len(json.loads(row[2])))";
    let store = gateway.dir.path().join("usage.db");
    let output = std::process::Command::new("python3").args(["-c", script]).arg(store).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{id} acme 1\n"), "{errors}");
    gateway.stop().await;
}
