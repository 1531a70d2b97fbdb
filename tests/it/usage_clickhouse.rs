//! Rows on their way to a real ClickHouse server, which breaks in every way that a server can.
//! `SLUICE_FAULTS=50` lets each fault strike so often; once is the default. `SLUICE_HANG_S=30` has the
//! server hang for so long.

use std::time::Duration;

use loadtest::mock::Mock;
use serde_json::{Value, json};
use sluice::config::server::UsageUrl;
use sluice::secret::Secret;
use sluice::usage::row::COLUMNS;

use crate::clickhouse_server::ClickHouse;
use crate::client::within;
use crate::harness::{Builder, TestGateway, deployment, target};

/// A gateway whose rows go to `url`.
async fn gateway(url: &str, mock: &Mock) -> TestGateway {
    let url = Secret::new(url.to_owned());
    let resources = deployment(&[target(mock, "sim?input_tokens=3")], "");
    Builder::new(&resources)
        .with(|config| {
            config.usage.url = UsageUrl::ClickHouse(url);
            config.usage.batch_age_max = Duration::from_millis(20);
        })
        .start()
        .await
}

async fn flush(gateway: &TestGateway) {
    let flushed = tokio::time::timeout(Duration::from_secs(100), gateway.app().usage().flush());
    flushed.await.expect("the rows arrive");
}

/// Rows, distinct requests, and requests in two roll-ups.
async fn counts(server: &ClickHouse, database: &str) -> Vec<u64> {
    let mut counts = Vec::new();
    for question in [
        "count() FROM {d}.usage",
        "uniqExact(request_id) FROM {d}.usage",
        "sum(requests) FROM {d}.usage_minute",
        "sum(requests) FROM {d}.usage_day",
    ] {
        let query = format!("SELECT {}", question.replace("{d}", database));
        counts.push(server.value(&query).await.as_u64().unwrap());
    }
    counts
}

/// Every roll-up adds up to what the rows say.
async fn roll_ups_are_the_rows(server: &ClickHouse, database: &str) {
    let times = ", sum(total_us), sum(overhead_us)";
    let sums = |requests: &str, times: &str| {
        format!(
            "[{requests}, sum(ifNull(input_uncached, 0)), sum(ifNull(output, 0)), \
             sum(ifNull(cost_nanousd, 0)){times}] AS sums"
        )
    };
    for (table, times) in [
        ("usage_minute", times),
        ("usage_hour", times),
        ("usage_workspace_hour", times),
        ("usage_day", times),
        ("usage_workspace_day", ""),
        ("usage_key_day", ""),
    ] {
        let rows = format!("SELECT {} FROM {database}.usage", sums("count()", times));
        let rolled = format!("SELECT {} FROM {database}.{table}", sums("sum(requests)", times));
        let rows = server.value(&rows).await;
        assert_eq!(server.value(&rolled).await, rows, "{table} of {database}");
    }
}

fn n_strikes() -> u64 {
    std::env::var("SLUICE_FAULTS").ok().map_or(1, |text| text.parse().unwrap())
}

/// Longer than the writer waits for an answer.
fn hang_s() -> u64 {
    std::env::var("SLUICE_HANG_S").ok().map_or(11, |text| text.parse().unwrap())
}

async fn stop(gateway: TestGateway) {
    let totals = gateway.app().usage().totals().rows();
    assert_eq!((totals[0], totals[2], totals[3]), (totals[1], 0, 0), "{totals:?}");
    within(Box::pin(gateway.end())).await;
}

#[tokio::test]
async fn columns_are_those_of_the_table() {
    let server = ClickHouse::start().await;
    let mock = Mock::start().await.unwrap();
    let gateway = gateway(&server.database("columns").await, &mock).await;
    gateway.chat("").await;
    flush(&gateway).await;
    let found: Vec<(String, String)> = server
        .rows("SELECT name, type FROM system.columns WHERE database = 'columns' AND table = 'usage' ORDER BY position")
        .await
        .iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), row["type"].as_str().unwrap().to_owned()))
        .filter(|(name, _)| name != "inserted_at")
        .collect();
    let known: Vec<(String, String)> =
        COLUMNS.iter().map(|column| (column.name.to_owned(), column.kind.to_owned())).collect();
    assert_eq!(found, known);
    let row = &server.rows("SELECT * FROM columns.usage").await[0];
    let expected = json!({
        "workspace": "acme", "environment": "production", "key": "app", "deployment": "chat",
        "requested_model": "chat", "model": "m0", "status": 200, "outcome": "success",
        "usage_source": "reported", "input_uncached": 3, "priced": true, "retention_days": 90,
        "source_ip": "::ffff:127.0.0.1", "attempts.status": [200], "attempts.maybe_billed": [false],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&row[name], value, "{name}");
    }
    stop(gateway).await;
}

/// Each fault strikes while rows come in; every row is there once, and the roll-ups agree.
#[tokio::test]
async fn no_fault_loses_or_doubles_a_row() {
    no_fault_loses([
        json!({ "kind": "refuse", "ms": 700 }),
        json!({ "kind": "http_error", "status": 500, "code": 252, "times": 3 }),
        json!({ "kind": "reset", "bytes": 100, "times": 2 }),
        json!({ "kind": "lost_ack", "times": 3 }),
    ])
    .await;
}

#[tokio::test]
async fn no_fault_loses_or_doubles_a_row_when_the_server_is_killed() {
    no_fault_loses([json!({ "kind": "kill", "bytes": 100 }), json!({ "kind": "kill_after" })])
        .await;
}

/// All that the writer has tried again meanwhile arrives at once when the hang is over.
#[tokio::test]
async fn no_fault_loses_or_doubles_a_row_that_arrives_late() {
    no_fault_loses([json!({ "kind": "hang", "ms": 1_000 * hang_s() })]).await;
}

async fn no_fault_loses(faults: impl IntoIterator<Item = Value>) {
    let server = ClickHouse::start().await;
    let mock = Mock::start().await.unwrap();
    for fault in faults {
        let kind = fault["kind"].as_str().unwrap().to_owned();
        let gateway = gateway(&server.database(&kind).await, &mock).await;
        gateway.chat("").await;
        flush(&gateway).await;
        for strike in 1..=n_strikes() {
            let struck_before = server.fired(&kind).await;
            server.faults(Value::Array(vec![fault.clone()])).await;
            for n in 1..=30_u64 {
                assert_eq!(gateway.chat("").await.status, 200, "{kind}: clients notice nothing");
                if n % 10 == 0 {
                    flush(&gateway).await;
                }
            }
            flush(&gateway).await;
            assert!(server.fired(&kind).await > struck_before, "{kind} did not strike");
            server.faults(json!([])).await;
            server.settle().await;
            assert_eq!(counts(&server, &kind).await, [1 + 30 * strike; 4], "{kind}");
        }
        roll_ups_are_the_rows(&server, &kind).await;
        let (strikes, rows) = (server.fired(&kind).await, 1 + 30 * n_strikes());
        println!("{kind}: struck {strikes} times, {rows} rows, 0 lost, 0 doubled");
        stop(gateway).await;
    }
}

/// A table that lacks a column is the server's fault, not the rows': they wait until it is back.
#[tokio::test]
async fn rows_wait_while_the_table_lacks_a_column() {
    let server = ClickHouse::start().await;
    let mock = Mock::start().await.unwrap();
    let gateway = gateway(&server.database("drift").await, &mock).await;
    gateway.chat("").await;
    flush(&gateway).await;
    server.execute("ALTER TABLE drift.usage DROP COLUMN client_request_id").await;
    for _ in 0..20 {
        assert_eq!(gateway.chat("").await.status, 200);
    }
    let failed = async {
        while gateway.metric("sluice_usage_inserts_total{result=\"failed\"}") < 2.0 {
            tokio::task::yield_now().await;
        }
    };
    within(failed).await;
    assert_eq!(gateway.metric("sluice_usage_rows_total{result=\"dead\"}"), 0.0);
    assert!(gateway.metric("sluice_usage_oldest_row_age_seconds") > 0.0);
    assert_eq!(counts(&server, "drift").await, [1; 4]);

    server
        .execute("ALTER TABLE drift.usage ADD COLUMN client_request_id String AFTER correlation_id")
        .await;
    flush(&gateway).await;
    assert_eq!(counts(&server, "drift").await, [21; 4]);
    stop(gateway).await;
}

#[tokio::test]
async fn refused_row_is_set_aside_alone_and_can_be_sent_later() {
    let server = ClickHouse::start().await;
    let mock = Mock::start().await.unwrap();
    let gateway = gateway(&server.database("poison").await, &mock).await;
    gateway.chat("").await;
    flush(&gateway).await;
    server
        .execute("ALTER TABLE poison.usage ADD CONSTRAINT no_poison CHECK end_user != 'poison'")
        .await;
    for n in 0..20 {
        let user = if n == 7 { "poison" } else { "somebody" };
        gateway.chat(&format!(r#""user":"{user}""#)).await;
    }
    flush(&gateway).await;
    let totals = gateway.app().usage().totals().rows();
    assert_eq!((totals[1], totals[3]), (20, 1), "{totals:?}");
    assert_eq!(counts(&server, "poison").await, [20; 4]);

    server.execute("ALTER TABLE poison.usage DROP CONSTRAINT no_poison").await;
    let dir = gateway.dir.path().to_owned();
    let mut config = sluice::config::server::ServerConfig::default().usage;
    config.url = UsageUrl::ClickHouse(Secret::new(server.url("poison")));
    config.spool_dir = dir.join("spool");
    let retry = move || sluice::usage::store::tools::retry_dead(&config).unwrap();
    let retried = tokio::task::spawn_blocking(retry).await.unwrap();
    assert_eq!((retried.inserted, retried.refused, retried.left.len()), (1, 0, 0));
    assert_eq!(counts(&server, "poison").await, [21; 4]);
    within(Box::pin(gateway.end())).await;
}
