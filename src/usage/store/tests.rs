//! The spool and its writer before a scripted store, and whole rows in a real one.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Instant;

use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::config::server::{ServerConfig, SyncPolicy};
use crate::dialect::{Dialect, Endpoint};
use crate::id::{ConnectionId, DeploymentId, ModelId, TargetId, VirtualKeyId};
use crate::usage::record::{
    AttemptRow, Outcome, RefusedRow, RowCaller, RowTarget, Timings, Tokens as TokenCounts,
    UsageRow, UsageSource,
};
use crate::usage::row::tests::{STARTED_AT_US, bare, encoded, stamp};
use crate::usage::row::{RefusedView, RowView};
use crate::usage::spool::Rows;

/// No test waits for longer.
const DEADLINE: Duration = Duration::from_secs(20);

const LONG: Duration = Duration::from_hours(1);

#[tokio::test]
async fn full_batch_is_inserted_at_once() {
    let test = Test::start(&[], limits());
    test.record(0..3);
    assert_eq!(test.next_batch(), [0, 1, 2]);
    assert_eq!(test.close().await, "accepted 3 inserted 3 dropped 0 lost 0");
}

#[tokio::test]
async fn lone_row_is_inserted_when_it_is_old() {
    let batch_age_max = Duration::from_millis(30);
    let test = Test::start(&[], sized(3, batch_age_max));
    for number in 0..2 {
        let recorded_at = Instant::now();
        test.record(number..number + 1);
        assert_eq!(test.next_batch(), [number]);
        assert!(recorded_at.elapsed() >= batch_age_max);
    }
}

#[tokio::test]
async fn failed_insert_is_tried_again() {
    let test = Test::start(&["unavailable", "unavailable"], limits());
    test.record(0..3);
    for _ in 0..3 {
        assert_eq!(test.next_batch(), [0, 1, 2]);
    }
    assert_eq!(test.close().await, "accepted 3 inserted 3 dropped 0 lost 0");
}

#[tokio::test]
async fn store_that_is_away_for_long_gets_its_rows_in_order() {
    let test = Test::start(&["unavailable"; 40], limits());
    test.record(0..9);
    test.sink.flush().await;
    assert_eq!(test.account(), "accepted 9 inserted 9 dropped 0 lost 0");
    let mut seen: Vec<u64> = test.batches.try_iter().flatten().collect();
    seen.dedup();
    assert_eq!(seen[seen.len() - 6..], [3, 4, 5, 6, 7, 8]);
    assert_eq!(test.sink.totals().retries.load(RELAXED), 40);
}

#[tokio::test]
async fn poisoned_row_is_lost_alone() {
    for how in ["poison refused", "poison panics"] {
        let test = Test::start(&[how], sized(8, LONG));
        test.record(0..POISON);
        test.record(POISON..9);
        assert_eq!(test.close().await, "accepted 9 inserted 8 dropped 0 lost 1", "{how}");
    }
}

#[tokio::test]
async fn dead_store_cannot_hold_up_the_close_and_the_next_process_sends() {
    let backoff = Backoff { first: LONG, max: LONG };
    let test = Test::start(&["unavailable"; 100], Limits { backoff, ..limits() });
    test.record(0..8);
    let began = Instant::now();
    test.sink.close(Duration::from_millis(50)).await;
    assert!(began.elapsed() < CLOSE_TOLERANCE, "{:?}", began.elapsed());
    assert_eq!(test.account(), "accepted 8 inserted 0 dropped 0 lost 0");
    assert_eq!(test.sink.queue_depth(), 8);
    let tokens = Arc::clone(&test.tokens);
    let before: Vec<String> = tokens.lock().unwrap().drain(..).collect();
    let Test { sink, folder, .. } = test;
    drop(sink); // As long as it lives, the spool is its.

    let next = Test::start_in(folder, &[], limits());
    next.sink.flush().await;
    assert_eq!(next.account(), "accepted 8 inserted 8 dropped 0 lost 0");
    let seen: Vec<u64> = next.batches.try_iter().flatten().collect();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(next.tokens.lock().unwrap()[0], before[0], "the same batch, the same token");
    assert_eq!(next.close().await, "accepted 8 inserted 8 dropped 0 lost 0");
    assert_eq!(next.left_in_the_spool(), Vec::<String>::new());
}

#[tokio::test]
async fn poisoned_row_is_set_aside() {
    let test = Test::start(&["poison refused"], limits());
    test.record(POISON..POISON + 3);
    assert_eq!(test.close().await, "accepted 3 inserted 2 dropped 0 lost 1");
    let left = test.left_in_the_spool();
    let [name] = &*left else { panic!("{left:?}") };
    assert!(name.starts_with("dead/"), "{name}");
}

#[tokio::test]
async fn oldest_rows_go_when_the_spool_is_too_large() {
    let mut limits = Limits { spool_bytes_max: 64 << 10, ..limits() };
    limits.spool.segment_bytes = 16 << 10;
    let test = Test::start(&["wait"], limits);
    test.record(0..2_000);
    test.open_gate();
    test.sink.flush().await;
    let [accepted, inserted, unmetered, lost] = test.sink.totals().rows();
    assert_eq!((accepted, unmetered), (2_000, 0));
    assert_eq!(accepted, inserted + lost);
    assert!(1_000 < lost && 2 < inserted, "{inserted} {lost}");
    let seen: Vec<u64> = test.batches.try_iter().flatten().collect();
    assert_eq!(seen.last(), Some(&1_999), "the newest stay");
}

#[tokio::test]
async fn rows_of_two_days_are_two_batches() {
    let test = Test::start(&[], limits());
    test.record(0..1);
    test.sink.record(&UsageRow { started_at_us: 0, ..bare(1) });
    test.record(2..3);
    assert_eq!((test.next_batch(), test.next_batch()), (vec![0, 2], vec![1]));
    let tokens = test.tokens.lock().unwrap().clone();
    assert_ne!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn store_that_hangs_cannot_hold_up_the_close() {
    let test = Test::start(&["wait"], limits());
    test.record(0..3);
    assert_eq!(test.next_batch(), [0, 1, 2]);
    tokio::time::timeout(DEADLINE, test.sink.close(Duration::ZERO)).await.unwrap();
    test.open_gate();
    assert_eq!(test.close().await, "accepted 3 inserted 3 dropped 0 lost 0");
}

#[tokio::test]
async fn row_after_the_close_is_dropped() {
    let test = Test::start(&[], limits());
    test.record(0..1);
    test.sink.close(DEADLINE).await;
    test.record(1..3);
    test.sink.flush().await;
    assert_eq!(test.close().await, "accepted 1 inserted 1 dropped 2 lost 0");
}

#[tokio::test]
async fn writer_ends_with_its_last_sink() {
    let Test { sink, batches, folder: _folder, .. } = Test::start(&[], limits());
    sink.clone().record(&bare(0));
    drop(sink);
    assert_eq!(batches.recv_timeout(DEADLINE).unwrap(), [0]);
    assert!(matches!(batches.recv_timeout(DEADLINE), Err(RecvTimeoutError::Disconnected)));
}

#[tokio::test]
async fn flush_waits_for_everything_before_it() {
    let test = Test::start(&[], sized(7, LONG));
    for number in 0..50 {
        test.record(number..number + 1);
        if number % 10 == 9 {
            test.sink.flush().await;
            let n = number + 1;
            assert_eq!(test.account(), format!("accepted {n} inserted {n} dropped 0 lost 0"));
        }
    }
}

#[tokio::test]
async fn every_row_has_one_outcome_under_contention() {
    for limits in [sized(7, Duration::ZERO), sized(1_000, LONG)] {
        let script = ["unavailable", "poison refused", "unavailable", "unavailable"];
        let test = Test::start(&script, limits);
        let began = Arc::new(Barrier::new(5));
        let recorders: Vec<_> = (0..4)
            .map(|_| {
                let (sink, began) = (test.sink.clone(), Arc::clone(&began));
                std::thread::spawn(move || {
                    began.wait();
                    for number in 0..5_000 {
                        sink.record(&bare(number));
                    }
                })
            })
            .collect();
        began.wait();
        test.sink.flush().await;
        test.sink.close(DEADLINE).await; // While the recorders run.
        for recorder in recorders {
            recorder.join().unwrap();
        }
        let [accepted, inserted, dropped, lost] = test.sink.totals().rows();
        assert_eq!(accepted + dropped, 20_000);
        assert_eq!(accepted, inserted + lost);
        assert_eq!(test.sink.queue_depth(), 0);
        let seen: usize = test.batches.try_iter().map(|batch| batch.len()).sum();
        assert!(seen as u64 >= inserted, "{seen} {inserted}");
    }
}

#[tokio::test]
async fn refusals_are_inserted_as_counts() {
    let test = Test::start(&[], limits());
    let source_ip = Some(IpAddr::from([10, 0, 0, 1]));
    for _ in 0..1_000 {
        test.sink.refused(source_ip, 7);
    }
    test.sink.flush().await;
    let counted = test.refused.recv_timeout(DEADLINE).unwrap();
    assert_eq!(counted, [(7, source_ip, 1_000)]);
    test.sink.refused(source_ip, 8);
    test.sink.close(DEADLINE).await;
    test.sink.refused(source_ip, 9);
    let totals = test.sink.totals();
    let [refused, lost] = [&totals.refused, &totals.refused_lost].map(|n| n.load(RELAXED));
    assert_eq!((refused, lost), (1_002, 1));
    assert_eq!(test.close().await, "accepted 0 inserted 0 dropped 0 lost 0");
}

#[tokio::test]
async fn what_is_older_than_the_retention_is_pruned() {
    let limits = Limits { retention: Some(Duration::from_hours(24)), ..limits() };
    let test = Test::start(&[], limits);
    // The script says that more is left, once.
    for _ in 0..2 {
        assert_eq!(test.prunes.recv_timeout(DEADLINE), Ok(STARTED_AT_US - 86_400_000_000));
    }
}

#[tokio::test]
async fn row_is_found_again_column_by_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/usage.db");
    let limits = in_folder(limits(), folder.path());
    let sink = start_with(open_sqlite(&path).unwrap(), limits, Clock::default()).unwrap();
    let full = full_row();
    let request_id = full.request_id;
    sink.record(&full);
    sink.record(&bare(2));
    sink.close(DEADLINE).await;

    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.count().unwrap(), 2);
    assert_eq!(reader.by_request_id(request_id).unwrap(), Some(full_columns()));
    let bare = reader.by_request_id(Uuid::from_u128(2)).unwrap().unwrap();
    let nulls: Vec<_> = bare.as_object().unwrap().iter().filter(|(_, v)| v.is_null()).collect();
    let mut names: Vec<_> = nulls.into_iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names.join(" "), BARE_NULLS);
    assert_eq!((&bare["priced"], &bare["metadata"]), (&json!(false), &json!({})));
    assert_eq!(reader.by_request_id(Uuid::from_u128(3)).unwrap(), None);
    let newest: Vec<_> = reader.rows(1).unwrap();
    assert_eq!(newest[0]["request_id"], full_columns()["request_id"]);
}

#[test]
fn documentation_names_every_column() {
    let text = include_str!("../../../docs/usage-rows.md");
    for name in full_columns().as_object().unwrap().keys() {
        assert!(text.contains(&format!("`{name}`")), "docs/usage-rows.md lacks {name}");
    }
}

#[test]
fn address_that_names_no_database_is_an_error() {
    let url = crate::secret::Secret::new("http://127.0.0.1:8123/a/b".to_owned());
    let config = UsageConfig { url: UsageUrl::ClickHouse(url), ..ServerConfig::default().usage };
    assert!(matches!(start(&config, Clock::default()), Err(StoreError::Address(_))));
}

// === the scripted store ===

const RELAXED: std::sync::atomic::Ordering = std::sync::atomic::Ordering::Relaxed;

const POISON: u64 = 5;

/// A machine with two busy cores may take long to wake a thread.
const CLOSE_TOLERANCE: Duration = Duration::from_secs(2);

struct Test {
    sink: UsageSink,
    /// The numbers of the rows of each batch, with every try.
    batches: Receiver<Vec<u64>>,
    refused: Receiver<Vec<Count>>,
    prunes: Receiver<i64>,
    gate: Sender<()>,
    tokens: Tokens,
    folder: tempfile::TempDir,
}

/// Minute, address, count.
type Count = (i64, Option<IpAddr>, u64);

type Tokens = Arc<Mutex<Vec<String>>>;

/// Does as its script says, then succeeds; tells of each batch before.
struct Scripted {
    script: VecDeque<&'static str>,
    is_poison_deadly: Option<&'static str>,
    batches: Sender<Vec<u64>>,
    refused: Sender<Vec<Count>>,
    prunes: Sender<i64>,
    n_prunes: u32,
    gate: Receiver<()>,
    tokens: Tokens,
}

fn limits() -> Limits {
    sized(3, LONG)
}

/// Slices end with so many rows, or when they are so old.
fn sized(rows_max: usize, age_max: Duration) -> Limits {
    let slices = SliceLimits { rows_max, bytes_max: 1 << 20, age_max };
    Limits {
        spool: Settings {
            folder: std::path::PathBuf::new(),
            segment_bytes: 1 << 20,
            sync: SyncPolicy::Interval,
            usual: slices,
            outage: slices,
        },
        spool_bytes_max: 1 << 30,
        stamp: stamp(),
        payload_bytes_max: 65_536,
        backoff: Backoff { first: Duration::from_millis(1), max: Duration::from_millis(1) },
        retention: None,
    }
}

fn in_folder(mut limits: Limits, folder: &Path) -> Limits {
    limits.spool.folder = folder.join("spool");
    limits
}

impl Test {
    fn start(script: &[&'static str], limits: Limits) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), script, limits)
    }

    fn start_in(folder: tempfile::TempDir, script: &[&'static str], limits: Limits) -> Self {
        let (to_batches, batches) = channel();
        let (to_refused, refused) = channel();
        let (to_prunes, prunes) = channel();
        let (gate, at_gate) = channel();
        let tokens = Tokens::default();
        let store = Scripted {
            script: script.iter().copied().collect(),
            is_poison_deadly: None,
            batches: to_batches,
            refused: to_refused,
            prunes: to_prunes,
            n_prunes: 0,
            gate: at_gate,
            tokens: Arc::clone(&tokens),
        };
        let limits = in_folder(limits, folder.path());
        let sink = start_with(store, limits, Clock::fixed(STARTED_AT_US)).unwrap();
        Self { sink, batches, refused, prunes, gate, tokens, folder }
    }

    fn record(&self, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| self.sink.record(&bare(number)));
    }

    fn next_batch(&self) -> Vec<u64> {
        self.batches.recv_timeout(DEADLINE).unwrap()
    }

    /// Lets one "wait" of the script return.
    fn open_gate(&self) {
        self.gate.send(()).unwrap();
    }

    async fn close(&self) -> String {
        tokio::time::timeout(DEADLINE, self.sink.close(DEADLINE)).await.unwrap();
        let [accepted, inserted, _dropped, lost] = self.sink.totals().rows();
        assert_eq!(accepted, inserted + lost, "every accepted row has one outcome");
        self.account()
    }

    fn account(&self) -> String {
        let [accepted, inserted, dropped, lost] = self.sink.totals().rows();
        format!("accepted {accepted} inserted {inserted} dropped {dropped} lost {lost}")
    }

    /// The files that are still there, relative to the spool.
    fn left_in_the_spool(&self) -> Vec<String> {
        let root = self.folder.path().join("spool");
        let folders = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
        let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
        files
            .map(|file| file.unwrap().path().strip_prefix(&root).unwrap().display().to_string())
            .collect()
    }
}

impl Insert for Scripted {
    fn insert(&mut self, batch: &Batch<'_>) -> Result<(), InsertError> {
        self.tokens.lock().unwrap().push(batch.token.to_string());
        if batch.table == Table::RefusedKeys {
            let views = batch.rows().map(|row| RefusedView::decode(row).unwrap());
            let counts = views.map(|view| (view.unix_minute, view.source_ip, view.count));
            self.refused.send(counts.collect()).ok(); // A test that has seen enough does not listen.
            return Ok(());
        }
        let numbers = numbers(batch);
        self.batches.send(numbers.clone()).ok(); // As above.
        match self.script.pop_front() {
            Some("wait") => self.gate.recv().unwrap(),
            Some("unavailable") => return Err(InsertError::Unavailable("disk full".to_owned())),
            Some(poison) => self.is_poison_deadly = Some(poison),
            None => {}
        }
        if !numbers.contains(&POISON) {
            return Ok(());
        }
        match self.is_poison_deadly {
            Some("poison panics") => panic!("scripted"),
            Some(_) => Err(InsertError::Refused("out of range".to_owned())),
            None => Ok(()),
        }
    }

    fn prune(&mut self, before_us: i64, _: i64) -> Result<bool, InsertError> {
        self.n_prunes += 1;
        self.prunes.send(before_us).ok(); // As above.
        Ok(self.n_prunes == 1)
    }
}

fn numbers(batch: &Batch<'_>) -> Vec<u64> {
    let number = |row| {
        let request_id = RowView::decode(row).unwrap().request_id;
        u64::try_from(request_id.as_u128()).unwrap()
    };
    batch.rows().map(number).collect()
}

// === rows ===

/// Rows as a store is given them.
pub(super) fn rows_of<'a>(rows: impl IntoIterator<Item = &'a UsageRow>) -> Rows {
    let mut of = Rows::default();
    for row in rows {
        of.bytes.extend_from_slice(&encoded(row));
        of.ends.push(of.bytes.len());
    }
    of
}

pub(super) fn refused_rows(rows: &[RefusedRow]) -> Rows {
    let mut of = Rows::default();
    for row in rows {
        crate::usage::row::encode_refused(row, &stamp(), &mut of.bytes);
        of.ends.push(of.bytes.len());
    }
    of
}

pub(super) fn refusal(unix_minute: i64, source_ip: &str, count: u64) -> RefusedRow {
    RefusedRow { unix_minute, source_ip: source_ip.parse().ok(), count }
}

const BARE_NULLS: &str = "audio_in audio_out cache client_request_id connection connection_id \
    correlation_id cost_nanousd deployment deployment_id end_user error_class first_token_us \
    headers_us input_cache_read input_cache_write_1h input_cache_write_5m \
    input_uncached key key_id model model_id output output_tokens_per_second price_version \
    provider reasoning retention_days source_ip target_id upstream_model upstream_request_id";

/// A row in which every column has a value of its own.
fn full_row() -> UsageRow {
    let target = Arc::new(RowTarget {
        target: TargetId(Uuid::from_u128(0xb1)),
        model: ModelId(Uuid::from_u128(0xb2)),
        model_alias: "sonnet".into(),
        upstream_model: "claude-sonnet-4-5".into(),
        connection: ConnectionId(Uuid::from_u128(0xb3)),
        connection_name: "anthropic-main".into(),
        provider: "anthropic",
    });
    let attempt = AttemptRow {
        target: Arc::clone(&target),
        status: Some(529),
        error_class: Some("overloaded"),
        is_maybe_billed: true,
        started_us: 31,
        headers_us: None,
        first_token_us: Some(33),
        total_us: 34,
    };
    UsageRow {
        request_id: Uuid::from_u128(0xff),
        client_request_id: Some("client-1".into()),
        upstream_request_id: Some("req_1".into()),
        correlation_id: Some("trace-1".into()),
        started_at_us: STARTED_AT_US + 1,
        caller: Arc::new(RowCaller {
            key: Some(VirtualKeyId(Uuid::from_u128(0xa3))),
            key_name: Some("backend".into()),
            ..(*bare(0).caller).clone()
        }),
        endpoint: Endpoint::Messages,
        dialect: Dialect::Messages,
        requested_model: "chat".into(),
        deployment: Some((DeploymentId(Uuid::from_u128(0xa4)), "chat-pool".into())),
        target: Some(target),
        is_stream: true,
        status: 200,
        outcome: Outcome::StreamBroken,
        error_class: Some("reset"),
        is_degraded: true,
        cache: None,
        usage_source: UsageSource::Estimated,
        tokens: TokenCounts {
            input_uncached: Some(11),
            input_cache_read: Some(12),
            input_cache_write_5m: Some(13),
            input_cache_write_1h: Some(0),
            output: Some(15),
            reasoning: Some(5),
            audio_in: Some(17),
            audio_out: Some(u64::MAX),
        },
        cost_nanousd: Some(19),
        saved_nanousd: 0,
        price_version: Some("catalogue-1".into()),
        timings: Timings {
            total_us: 1_000_022,
            overhead_us: 23,
            queue_us: 24,
            headers_us: Some(25),
            first_token_us: Some(22),
        },
        request_bytes: 27,
        response_bytes: 28,
        source_ip: Some("2001:db8::1".parse().unwrap()),
        end_user: Some("user \"7\"".into()),
        metadata: vec![("a".into(), "1".into()), ("b\"".into(), "\u{e9}\n".into())],
        attempts: vec![attempt.clone(), AttemptRow { status: None, ..attempt }],
        retention_days: None,
    }
}

fn full_columns() -> serde_json::Value {
    let mut columns = json!({
        "request_id": "00000000-0000-0000-0000-0000000000ff",
        "started_at": STARTED_AT_US + 1,
        "workspace_id": "00000000-0000-0000-0000-0000000000a1",
        "workspace": "acme",
        "environment_id": "00000000-0000-0000-0000-0000000000a2",
        "environment": "production",
        "key_id": "00000000-0000-0000-0000-0000000000a3",
        "key": "backend",
        "deployment_id": "00000000-0000-0000-0000-0000000000a4",
        "deployment": "chat-pool",
        "requested_model": "chat",
        "model_id": "00000000-0000-0000-0000-0000000000b2",
        "model": "sonnet",
        "upstream_model": "claude-sonnet-4-5",
        "provider": "anthropic",
        "connection_id": "00000000-0000-0000-0000-0000000000b3",
        "connection": "anthropic-main",
        "target_id": "00000000-0000-0000-0000-0000000000b1",
        "dialect": "messages",
        "endpoint": "messages",
        "stream": true,
        "status": 200,
        "outcome": "stream_broken",
        "error_class": "reset",
        "degraded": true,
    });
    let mut others = full_measures();
    columns.as_object_mut().unwrap().append(others.as_object_mut().unwrap());
    columns
}

fn full_measures() -> serde_json::Value {
    let attempt = json!({
        "target_id": "00000000-0000-0000-0000-0000000000b1",
        "connection_id": "00000000-0000-0000-0000-0000000000b3",
        "connection": "anthropic-main",
        "model": "sonnet",
        "provider": "anthropic",
        "status": 529,
        "error_class": "overloaded",
        "maybe_billed": true,
        "started_us": 31,
        "headers_us": null,
        "first_token_us": 33,
        "total_us": 34,
    });
    let mut second = attempt.clone();
    second["status"] = json!(null);
    json!({
        "usage_source": "estimated",
        "input_uncached": 11,
        "input_cache_read": 12,
        "input_cache_write_5m": 13,
        "input_cache_write_1h": 0,
        "output": 15,
        "reasoning": 5,
        "audio_in": 17,
        "audio_out": i64::MAX,
        "cost_nanousd": 19,
        "saved_nanousd": 0,
        "priced": true,
        "price_version": "catalogue-1",
        "total_us": 1_000_022,
        "overhead_us": 23,
        "queue_us": 24,
        "headers_us": 25,
        "first_token_us": 22,
        "output_tokens_per_second": 20.0,
        "request_bytes": 27,
        "response_bytes": 28,
        "source_ip": "2001:db8::1",
        "end_user": "user \"7\"",
        "metadata": { "a": "1", "b\"": "\u{e9}\n" },
        "correlation_id": "trace-1",
        "client_request_id": "client-1",
        "upstream_request_id": "req_1",
        "cache": null,
        "retention_days": null,
        "node": "node-1",
        "gateway_version": env!("CARGO_PKG_VERSION"),
        "attempts": [attempt, second],
    })
}
