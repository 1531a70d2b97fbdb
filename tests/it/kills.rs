//! SIGKILL at any moment: what a client saw, what a provider was asked and what the store holds must
//! fit together over any number of kills. `SLUICE_KILLS=200` makes it long.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use loadtest::mock::Mock;
use parking_lot::Mutex;
use serde_json::Value;
use sluice::usage::store::Reader;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::binary::{Process, configure, sluice};
use crate::clickhouse_server::ClickHouse;
use crate::client::{Answer, Client, End, request, within};
use crate::harness::document;

/// Requests at once.
const WORKERS: usize = 12;

/// What the scripted provider says a request has used.
const SCRIPT: &str = "sim?events=6&event_ms=1&first_ms=1&input_tokens=11&output_tokens=7";

/// What became of a request, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The whole answer, to its last byte.
    Whole,
    /// A part of it, or nothing.
    Broken,
}

/// All that clients have seen, by the end user of each request.
#[derive(Default)]
struct Log {
    seen: Mutex<HashMap<String, Seen>>,
    n_whole: AtomicUsize,
    next: AtomicU64,
    more: Notify,
}

/// A row of the store, as far as it matters here.
#[derive(Debug)]
struct Row {
    end_user: String,
    outcome: String,
    input: u64,
    output: u64,
}

fn n_kills() -> usize {
    std::env::var("SLUICE_KILLS").ok().map_or(10, |text| text.parse().unwrap())
}

/// Calls until the gateway is gone.
async fn work(address: SocketAddr, key: String, log: Arc<Log>) {
    loop {
        let number = log.next.fetch_add(1, Ordering::Relaxed);
        let user = format!("u{number}");
        let stream = if number.is_multiple_of(2) {
            r#","stream":true,"stream_options":{"include_usage":true}"#
        } else {
            ""
        };
        let body = format!(
            r#"{{"model":"chat","user":"{user}","messages":[{{"role":"user","content":"hello"}}]{stream}}}"#
        );
        let Ok(stream) = TcpStream::connect(address).await else { return };
        log.seen.lock().insert(user.clone(), Seen::Broken);
        let authorization = format!("Bearer {key}");
        let headers = [("authorization", authorization.as_str())];
        let asked = request("POST", "/v1/chat/completions", &headers, body.as_bytes());
        let mut client = Client::over(stream);
        if client.try_write(&asked).await.is_err() {
            continue;
        }
        let Some(Answer { status, end, .. }) = client.next_answer().await else { continue };
        if end == End::Whole {
            assert_eq!(status, 200, "{user}");
            log.seen.lock().insert(user, Seen::Whole);
            log.n_whole.fetch_add(1, Ordering::Relaxed);
            log.more.notify_one();
        }
    }
}

/// Serves, kills after so many answers, and waits until every client knows.
async fn one_life(dir: &std::path::Path, key: &str, log: &Arc<Log>, n_answers: usize) {
    let mut process = Process::serve(dir, key);
    let address = process.address("data plane:").await;
    let mut workers = JoinSet::new();
    let goal = log.n_whole.load(Ordering::Relaxed) + n_answers;
    for _ in 0..WORKERS {
        workers.spawn(work(address, key.to_owned(), Arc::clone(log)));
    }
    within(async {
        while log.n_whole.load(Ordering::Relaxed) < goal {
            log.more.notified().await;
        }
    })
    .await;
    process.signal("KILL");
    process.exit().await;
    while let Some(ended) = within(workers.join_next()).await {
        ended.unwrap();
    }
}

/// The loop, with the store of `usage`; says what clients saw and what the provider was asked.
async fn kill_loop(dir: &std::path::Path, usage: &str) -> (HashMap<String, Seen>, HashSet<String>) {
    let mock = Mock::start().await.unwrap();
    configure(dir, &document(&[(&mock.base_url(), SCRIPT, "")], ""), usage);
    let key = sluice::key::generate().expose().to_owned();
    let log = Arc::new(Log::default());
    let mut asked = HashSet::new();
    for kill in 0..n_kills() {
        // From the middle of the first answers to that of many.
        one_life(dir, &key, &log, (kill * 7_919) % 97).await;
        within(async {
            while mock.in_flight() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        asked.extend(mock.journal().iter().filter_map(user_of));
        mock.clear_journal();
    }
    let seen = log.seen.lock().clone();
    (seen, asked)
}

fn user_of(entry: &loadtest::mock::Entry) -> Option<String> {
    let body: Value = serde_json::from_slice(&entry.body).ok()?;
    body["user"].as_str().map(str::to_owned)
}

/// 0 lost, 0 doubled, 0 invented, and the tokens of what was answered.
fn settle(seen: &HashMap<String, Seen>, asked: &HashSet<String>, rows: &[Row]) {
    let mut by_user: HashMap<&str, &Row> = HashMap::new();
    for row in rows {
        assert!(by_user.insert(&row.end_user, row).is_none(), "twice: {row:?}");
        assert!(seen.contains_key(&row.end_user), "nobody asked: {row:?}");
    }
    let (mut n_whole, mut tokens) = (0, (0, 0));
    for (user, what) in seen {
        let row = by_user.get(&**user);
        match (what, row) {
            (Seen::Whole, Some(row)) => {
                assert_eq!(row.outcome, "success", "{row:?}");
                n_whole += 1;
                tokens = (tokens.0 + row.input, tokens.1 + row.output);
            }
            (Seen::Whole, None) => panic!("lost: {user}"),
            (Seen::Broken, None) => {
                assert!(!asked.contains(user), "the provider was asked: {user}");
            }
            (Seen::Broken, Some(_)) => {}
        }
    }
    assert_eq!(tokens, (n_whole * 11, n_whole * 7));
    let crashed = rows.iter().filter(|row| row.outcome == "gateway_crashed").count();
    println!(
        "{} kills, {} requests, {n_whole} answered, {crashed} in flight",
        n_kills(),
        seen.len()
    );
    assert!(crashed > 0, "no kill met a request in flight");
}

/// What the commands say once everything is sent.
fn drain(dir: &std::path::Path) {
    let run = |arguments: &[&str]| {
        let output = sluice(dir, arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?} {text} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    let before = run(&["spool", "inspect", "--config", "sluice.toml"]);
    assert!(before.contains("a process that has ended"), "{before}");
    // Many kills leave many small slices.
    let within = ["--within", "900"];
    let drained = run(&["spool", "drain", "--config", "sluice.toml", within[0], within[1]]);
    assert!(drained.contains(", 0 left"), "{drained}");
    let after = run(&["spool", "inspect", "--config", "sluice.toml"]);
    assert!(after.contains("nothing in the spool"), "{after}");
}

#[tokio::test]
async fn lose_no_row_on_the_way_to_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, asked) = kill_loop(dir.path(), "usage.batch_interval_ms = 20").await;
    drain(dir.path());
    let reader = Reader::open(&dir.path().join("usage.db")).unwrap();
    let rows: Vec<Row> = reader
        .rows(10_000_000)
        .unwrap()
        .into_iter()
        .map(|row| Row {
            end_user: row["end_user"].as_str().unwrap().to_owned(),
            outcome: row["outcome"].as_str().unwrap().to_owned(),
            input: row["input_uncached"].as_u64().unwrap_or(0),
            output: row["output"].as_u64().unwrap_or(0),
        })
        .collect();
    settle(&seen, &asked, &rows);
}

#[tokio::test]
async fn lose_no_row_on_the_way_to_clickhouse() {
    let dir = tempfile::tempdir().unwrap();
    let server = ClickHouse::start().await;
    let usage = format!("usage.url = \"{}\"\nusage.batch_interval_ms = 20", server.url("kills"));
    let (seen, asked) = kill_loop(dir.path(), &usage).await;
    drain(dir.path());
    let rows = server
        .rows("SELECT end_user, outcome, input_uncached, output FROM kills.usage")
        .await
        .into_iter()
        .map(|row| Row {
            end_user: row["end_user"].as_str().unwrap().to_owned(),
            outcome: row["outcome"].as_str().unwrap().to_owned(),
            input: row["input_uncached"].as_u64().unwrap_or(0),
            output: row["output"].as_u64().unwrap_or(0),
        });
    settle(&seen, &asked, &rows.collect::<Vec<_>>());
    let sums = server
        .rows(
            "SELECT (SELECT count() FROM kills.usage) AS rows, \
             (SELECT uniqExact(request_id) FROM kills.usage) AS requests, \
             (SELECT sum(requests) FROM kills.usage_minute) AS minutes, \
             (SELECT sum(requests) FROM kills.usage_day) AS days, \
             (SELECT sum(requests) FROM kills.usage_key_day) AS keys",
        )
        .await;
    let rows = &sums[0]["rows"];
    assert!(
        ["requests", "minutes", "days", "keys"].iter().all(|name| &sums[0][*name] == rows),
        "{sums:?}"
    );
}
