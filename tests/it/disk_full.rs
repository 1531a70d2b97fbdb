//! The disk under the spool runs full: on a small tmpfs, which takes root to mount.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loadtest::mock::Mock;
use rusqlite::Connection;
use sluice::config::server::OnFull;
use tempfile::TempDir;

use crate::client::within;
use crate::harness::{Builder, TestGateway, deployment, target};

const SEGMENT_BYTES: u64 = 128 * 1024;
const SMALL: &str = "size=768k";
const LARGE: &str = "size=16m";
/// More requests than the small disk has room for.
const REQUESTS_MAX: u64 = 5_000;

/// A tmpfs, until it is dropped.
struct Disk(TempDir);

fn run(program: &str, arguments: &[&str], path: &Path) {
    let status = Command::new(program).args(arguments).arg(path).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}; this test needs root");
}

impl Disk {
    fn small() -> Self {
        let dir = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "-o", SMALL, "sluice-test"], dir.path());
        Self(dir)
    }

    fn enlarge(&self) {
        run("mount", &["-o", &format!("remount,{LARGE}")], self.0.path());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is still open in it goes with its process.
        run("umount", &["--lazy"], self.0.path());
    }
}

/// A store that takes nothing until the lock is dropped.
fn lock(gateway: &TestGateway) -> Connection {
    let store = Connection::open(gateway.dir.path().join("usage.db")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    store
}

struct Answers {
    served: u64,
    refused: u64,
}

/// Asks until `n` requests were sent after the disk was full.
async fn ask_until_full(gateway: &TestGateway, n: u64) -> Answers {
    let mut answers = Answers { served: 0, refused: 0 };
    let mut n_after = 0;
    while n_after < n {
        let answer = gateway.chat("").await;
        match answer.status {
            200 => answers.served += 1,
            503 => {
                assert_eq!(answer.code(), "usage_store_full");
                answers.refused += 1;
            }
            other => panic!("{other}: {}", answer.text()),
        }
        n_after += u64::from(gateway.app().usage().is_full());
        assert!(answers.served < REQUESTS_MAX, "the disk did not run full");
    }
    answers
}

/// Fields of the key.
const NO_LIMITS: &str = "";
const BUDGET: &str = "limits = [{ metric = \"cost_usd\", period = \"day\", amount = \"1000\" }]\n";

async fn disk_runs_full(on_full: OnFull, key: &str) {
    let disk = Disk::small();
    let mock = Mock::start().await.unwrap();
    let resources = deployment(&[target(&mock, "sim")], "") + key;
    let gateway = Builder::new(&resources)
        .with(|config| {
            config.usage.spool_dir = disk.0.path().join("spool");
            config.usage.segment_bytes = SEGMENT_BYTES;
            config.usage.on_full = on_full;
        })
        .start()
        .await;
    let locked = lock(&gateway);
    let mut all = ask_until_full(&gateway, 400).await;
    assert_eq!(gateway.metric("sluice_usage_spool_full"), 1.0);
    let unmetered = gateway.metric("sluice_usage_rows_total{result=\"unmetered\"}");
    let is_refused = match on_full {
        OnFull::ShedAll => true,
        OnFull::Shed => key == BUDGET,
        OnFull::ContinueUnmetered => false,
    };
    if is_refused {
        assert!(all.refused >= 399, "{}", all.refused);
    } else {
        assert!(all.refused == 0 && unmetered > 0.0, "{} {unmetered}", all.refused);
    }

    // Room comes back, and with it the rows.
    disk.enlarge();
    let room = async {
        while gateway.app().usage().is_full() {
            tokio::task::yield_now().await;
        }
    };
    within(room).await;
    for _ in 0..20 {
        assert_eq!(gateway.chat("").await.status, 200);
        all.served += 1;
    }
    drop(locked);
    let flushed = tokio::time::timeout(Duration::from_secs(100), gateway.app().usage().flush());
    flushed.await.expect("the rows arrive");
    let stored = gateway.rows().await.len() as u64;
    let [accepted, inserted, unmetered, lost] = gateway.app().usage().totals().rows();
    // Every request is a row, or counted as one that has none.
    assert_eq!((accepted, inserted, lost), (stored, stored, 0));
    assert_eq!(accepted + unmetered, all.served);
    let shed = gateway.app().usage().totals().shed.load(Ordering::Relaxed);
    assert_eq!(shed, all.refused);
    within(Box::pin(gateway.end())).await;
}

#[tokio::test]
async fn full_disk_refuses_and_loses_nothing() {
    disk_runs_full(OnFull::ShedAll, NO_LIMITS).await;
}

#[tokio::test]
async fn full_disk_lets_requests_pass_and_counts_them() {
    disk_runs_full(OnFull::ContinueUnmetered, BUDGET).await;
}

/// The default: money is not spent where nobody counts it.
#[tokio::test]
async fn full_disk_refuses_keys_with_a_budget() {
    disk_runs_full(OnFull::Shed, BUDGET).await;
}

#[tokio::test]
async fn full_disk_lets_keys_without_a_budget_pass() {
    disk_runs_full(OnFull::Shed, NO_LIMITS).await;
}
