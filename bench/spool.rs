//! What a row costs on its way: into the spool, and from there into a store.
//!
//! ```text
//! spool append [ROWS]            rows a second into the spool, one thread
//! spool store URL [ROWS]         rows a second from the spool into the store of URL
//! ```
#![expect(clippy::print_stdout, reason = "this is what a person reads")]

use std::sync::Arc;
use std::time::Instant;

use sluice::clock::Clock;
use sluice::config::server::ServerConfig;
use sluice::dialect::{Dialect, Endpoint};
use sluice::id::{
    ConnectionId, DeploymentId, EnvironmentId, ModelId, TargetId, VirtualKeyId, WorkspaceId,
};
use sluice::usage::record::{
    AttemptRow, Outcome, RowCaller, RowTarget, Timings, Tokens, UsageRow, UsageSource,
};
use sluice::usage::store::{self, UsageSink};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let rows = |text: Option<&&str>| text.and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let folder = tempfile::tempdir().expect("a folder");
    match words.as_slice() {
        ["append", rest @ ..] => append(folder.path(), rows(rest.first())),
        ["store", url, rest @ ..] => into_store(folder.path(), url, rows(rest.first())),
        _ => println!("spool append [ROWS] | spool store URL [ROWS]"),
    }
}

fn start(folder: &std::path::Path, url: &str) -> UsageSink {
    let text = format!(
        "usage.url = \"{url}\"\nusage.spool_dir = \"{}\"\nusage.batch_interval_ms = 1000\n",
        folder.join("spool").display()
    );
    let config = ServerConfig::parse("bench.toml", &text, std::iter::empty()).expect("a URL");
    store::start(&config.usage, Clock::default()).expect("a store")
}

/// A row as of a chat with one attempt.
fn row() -> UsageRow {
    let name = |n| uuid::Uuid::from_u128(n);
    let target = Arc::new(RowTarget {
        target: TargetId(name(1)),
        model: ModelId(name(2)),
        model_alias: "sonnet".into(),
        upstream_model: "claude-sonnet-4-5".into(),
        connection: ConnectionId(name(3)),
        connection_name: "anthropic-main".into(),
        provider: "anthropic",
    });
    UsageRow {
        request_id: sluice::id::new_request_id(),
        client_request_id: None,
        upstream_request_id: Some("req_011CSHoEeqs5C35K2UUqR7Fy".into()),
        correlation_id: None,
        started_at_us: Clock::default().unix_micros(),
        caller: Arc::new(RowCaller {
            workspace: WorkspaceId(name(4)),
            workspace_slug: "acme".into(),
            environment: EnvironmentId(name(5)),
            environment_slug: "production".into(),
            key: Some(VirtualKeyId(name(6))),
            key_name: Some("application".into()),
        }),
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::Chat,
        requested_model: "chat".into(),
        deployment: Some((DeploymentId(name(7)), "chat".into())),
        target: Some(Arc::clone(&target)),
        is_stream: false,
        status: 200,
        outcome: Outcome::Success,
        error_class: None,
        is_degraded: false,
        cache: None,
        usage_source: UsageSource::Reported,
        tokens: Tokens { input_uncached: Some(812), output: Some(97), ..Tokens::default() },
        cost_nanousd: Some(3_891_000),
        saved_nanousd: 0,
        price_version: Some("2026-10-01".into()),
        timings: Timings { total_us: 812_331, overhead_us: 61, ..Timings::default() },
        request_bytes: 1_024,
        response_bytes: 2_048,
        source_ip: Some(std::net::IpAddr::from([10, 1, 2, 3])),
        end_user: Some("user-1931".into()),
        metadata: vec![("feature".into(), "search".into())],
        retention_days: None,
        attempts: vec![AttemptRow {
            target,
            status: Some(200),
            error_class: None,
            is_maybe_billed: false,
            started_us: 61,
            headers_us: Some(811_000),
            first_token_us: Some(811_002),
            total_us: 812_000,
        }],
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures to read")]
fn report(what: &str, rows: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let rate = rows as f64 / seconds;
    println!("{what}: {rows} rows in {seconds:.3} s, {rate:.0} rows/s, {:.2} us/row", 1e6 / rate);
}

/// Nobody listens at the store: the rows stay.
fn append(folder: &std::path::Path, rows: u64) {
    let sink = start(folder, "http://127.0.0.1:1/usage");
    let mut row = row();
    let began = Instant::now();
    for _ in 0..rows {
        row.request_id = sluice::id::new_request_id();
        sink.record(&row);
    }
    report("record", rows, began);
    let began = Instant::now();
    for _ in 0..rows {
        row.request_id = sluice::id::new_request_id();
        sink.begin(&row);
    }
    report("begin", rows, began);
    runtime().block_on(sink.close(std::time::Duration::ZERO));
}

fn into_store(folder: &std::path::Path, url: &str, rows: u64) {
    let sink = start(folder, url);
    let mut row = row();
    let began = Instant::now();
    for _ in 0..rows {
        row.request_id = sluice::id::new_request_id();
        sink.record(&row);
    }
    runtime().block_on(sink.flush());
    report("record and insert", rows, began);
    runtime().block_on(sink.close(std::time::Duration::from_mins(1)));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
