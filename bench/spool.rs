//! What a row costs on its way: into the spool, and from there into a store.
//!
//! ```text
//! spool append [ROWS]            rows a second into the spool, one thread
//! spool store URL [ROWS]         rows a second from the spool into the store of URL
//! ```
//!
//! A ClickHouse database must have its tables before: `sluice migrate`.
#![expect(clippy::print_stdout, reason = "this is what a person reads")]

use std::time::Instant;

use sluice::clock::Clock;
use sluice::config::server::ServerConfig;
use sluice::usage::store::{self, UsageSink};

use self::sample_row::row;

mod sample_row;

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
