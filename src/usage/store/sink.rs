//! The request path's end of the spool.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::backlog::Backlog;
use super::refused::{Counted, Refused};
use super::writer::Writer;
use super::{Insert, Limits, StoreError};
use crate::clock::Clock;
use crate::usage::payload::{Exchange, Keeper, Kept};
use crate::usage::record::UsageRow;
use crate::usage::row::{Stamp, encode};
use crate::usage::spool::{Draft, Kind, NotAppended, Spool};
use crate::usage::tail::{Tail, Watcher};

/// How long rows are still tried to be inserted when the last sink goes without a close.
const ABANDONED_MAX: Duration = Duration::from_secs(5);

/// How much longer than the deadline a close waits for an insert that is under way.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

thread_local! {
    /// Rows are encoded here, so that none takes memory of its own.
    static DRAFT: RefCell<Draft> = RefCell::default();
}

/// A handle on the spool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct UsageSink(Arc<Sender>);

#[derive(Debug)]
struct Sender {
    shared: Arc<Shared>,
    stamp: Stamp,
    payloads: Keeper,
    tail: Tail,
    writer: Thread,
    progress: watch::Receiver<Progress>,
}

/// What becomes of rows: `accepted + recovered = inserted + lost + what is still in the spool`.
#[derive(Debug, Default)]
pub struct UsageTotals {
    /// Handed to the operating system.
    pub accepted: AtomicU64,
    /// Left in the spool by processes that have ended, the rows of their requests in flight among
    /// them.
    pub recovered: AtomicU64,
    pub crashed: AtomicU64,
    pub inserted: AtomicU64,
    /// Could not be spooled: there was no room, or the spool is closed.
    pub unmetered: AtomicU64,
    /// Requests that were refused for want of room.
    pub shed: AtomicU64,
    /// Refused by the store, and set aside.
    pub dead: AtomicU64,
    /// Gone with the oldest segments of a spool that was too large.
    pub dropped_oldest: AtomicU64,
    /// Stretches of the spool that are no records.
    pub damaged: AtomicU64,
    /// Rows in them, as far as that is known.
    pub damaged_rows: AtomicU64,
    /// Segments that are not there, or that cannot be read.
    pub segments_missing: AtomicU64,
    /// Batches, by what the store said.
    pub inserts: AtomicU64,
    pub inserts_failed: AtomicU64,
    pub inserts_refused: AtomicU64,
    pub retries: AtomicU64,
    /// Requests with unknown keys.
    pub refused: AtomicU64,
    /// Those of them that no row of the store counts.
    pub refused_lost: AtomicU64,
}

/// What both ends see.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) spool: Arc<Spool>,
    pub(super) backlog: Backlog,
    pub(super) totals: UsageTotals,
    pub(super) refused: Refused,
    is_closed: AtomicBool,
    /// How often a flush was asked for.
    flushes_asked: AtomicU64,
    give_up_at: OnceLock<Instant>,
    /// When the oldest request began whose row is being sent; 0 when none is.
    oldest_us: AtomicI64,
}

/// How far the writer is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// How many of the flushes that were asked for are done.
    pub(super) flushes_done: u64,
    pub(super) is_finished: bool,
}

/// Opens the spool and starts the threads behind it.
pub(super) fn start(
    insert: impl Insert,
    limits: Limits,
    clock: Clock,
) -> Result<UsageSink, StoreError> {
    let folder = limits.spool.folder.clone();
    let fail = |source| StoreError::Spool { path: folder.as_path().into(), source };
    let (stamp, payload_bytes_max) = (limits.stamp.clone(), limits.payload_bytes_max);
    let spool = Arc::new(Spool::open(limits.spool.clone()).map_err(fail)?);
    let syncing = spool.start_syncing().map_err(StoreError::Thread)?;
    let (report, progress) = watch::channel(Progress::default());
    let shared = Arc::new(Shared {
        backlog: Backlog::new(Arc::clone(&spool)),
        spool,
        totals: UsageTotals::default(),
        refused: Refused::default(),
        is_closed: AtomicBool::new(false),
        flushes_asked: AtomicU64::new(0),
        give_up_at: OnceLock::new(),
        oldest_us: AtomicI64::new(0),
    });
    let payloads = Keeper::new(Arc::clone(&shared.spool), stamp.clone(), payload_bytes_max);
    let writer = Writer::new(insert, limits, clock, (Arc::clone(&shared), syncing));
    let thread = std::thread::Builder::new()
        .name("usage-writer".to_owned())
        .spawn(move || writer.run(&report))
        .map_err(StoreError::Thread)?;
    let writer = thread.thread().clone();
    shared.spool.set_sender(writer.clone());
    writer.unpark(); // What came before it was known is not forgotten.
    let tail = Tail::default();
    Ok(UsageSink(Arc::new(Sender { shared, stamp, payloads, tail, writer, progress })))
}

// === impl UsageSink ===

impl UsageSink {
    /// Hands `row` to the operating system, or counts that it could not. Waits for the disk only
    /// when `usage.fsync` says so.
    pub fn record(&self, row: &UsageRow) {
        self.0.tail.show(row);
        let shared = &self.0.shared;
        let totals = &shared.totals;
        let appended = self.with_draft(row, |draft| shared.spool.append(Kind::Row, draft));
        match appended {
            Ok(end) => {
                totals.accepted.fetch_add(1, Ordering::Relaxed);
                shared.spool.wait_synced(end);
            }
            Err(error) => {
                if totals.unmetered.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::error!(%error, "a usage row could not be spooled");
                }
            }
        }
    }

    /// Spools the row that the request leaves if the process ends before it does.
    pub fn begin(&self, row: &UsageRow) {
        let spooled = self.with_draft(row, |draft| self.0.shared.spool.append(Kind::Intent, draft));
        if let Err(error) = spooled {
            tracing::debug!(%error, "a request in flight could not be noted");
        }
    }

    /// Keeps the bodies of a request, or counts that it could not. Never waits.
    pub fn keep_payload(&self, exchange: Box<Exchange>) {
        self.0.payloads.keep(exchange);
    }

    pub fn payload_totals(&self) -> &Kept {
        self.0.payloads.totals()
    }

    /// Whether there may soon be no room for rows.
    pub fn is_full(&self) -> bool {
        self.0.shared.spool.is_full()
    }

    /// Counts a request that is refused for want of room.
    pub fn shed(&self) {
        self.0.shared.totals.shed.fetch_add(1, Ordering::Relaxed);
    }

    fn with_draft<T>(
        &self,
        row: &UsageRow,
        append: impl FnOnce(&mut Draft) -> Result<T, NotAppended>,
    ) -> Result<T, NotAppended> {
        let encoded = |draft: &mut Draft| {
            draft.fill(|to| encode(row, &self.0.stamp, to));
            append(draft)
        };
        DRAFT.with(|draft| match draft.try_borrow_mut() {
            Ok(mut draft) => encoded(&mut draft),
            Err(_in_use) => encoded(&mut Draft::default()),
        })
    }

    /// Counts a request whose key nobody knows.
    pub fn refused(&self, source_ip: Option<IpAddr>, unix_minute: i64) {
        let shared = &self.0.shared;
        shared.totals.refused.fetch_add(1, Ordering::Relaxed);
        match shared.refused.count(source_ip, unix_minute) {
            Counted::First => self.0.writer.unpark(),
            Counted::Further => {}
            Counted::Closed => {
                shared.totals.refused_lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Rows as they are recorded from here on; `None` when enough are watching.
    pub fn watch(&self) -> Option<Watcher> {
        self.0.tail.watch()
    }

    /// What rows say of this process.
    pub fn stamp(&self) -> &Stamp {
        &self.0.stamp
    }

    pub fn totals(&self) -> &UsageTotals {
        &self.0.shared.totals
    }

    /// Rows in the spool that are not in the store.
    pub fn queue_depth(&self) -> usize {
        usize::try_from(self.0.shared.queue_rows()).unwrap_or(usize::MAX)
    }

    /// What the spool takes of the disk.
    pub fn spool_bytes(&self) -> u64 {
        self.0.shared.backlog.bytes()
    }

    /// When the oldest request began whose row the store does not take, in microseconds since 1970.
    pub fn oldest_us(&self) -> Option<i64> {
        Some(self.0.shared.oldest_us.load(Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// Returns when every row recorded before, and every refusal, is inserted or lost.
    pub async fn flush(&self) {
        self.0.payloads.settle().await;
        let asked = self.0.shared.flushes_asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.writer.unpark();
        self.wait_for(|progress| progress.flushes_done >= asked || progress.is_finished).await;
    }

    /// Takes no more rows, and returns when those accepted are inserted, or `within` has passed:
    /// what is left stays in the spool. Further calls wait for the same end.
    pub async fn close(&self, within: Duration) {
        // An error means that the time is over, which the writer finds out by itself.
        drop(tokio::time::timeout(within, self.0.payloads.settle()).await);
        let shared = &self.0.shared;
        shared.close(Instant::now() + within);
        self.0.writer.unpark();
        let finished = self.wait_for(|progress| progress.is_finished);
        if tokio::time::timeout(within + CLOSE_GRACE, finished).await.is_err() {
            tracing::error!(rows = shared.queue_rows(), "the usage store hangs");
        }
    }

    async fn wait_for(&self, is_reached: impl FnMut(&Progress) -> bool) {
        let mut progress = self.0.progress.clone();
        // An error means that the writer is gone, and with it everything there was to wait for.
        drop(progress.wait_for(is_reached).await);
    }
}

// === impl Sender ===

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.close(Instant::now() + ABANDONED_MAX);
        self.writer.unpark();
    }
}

// === impl UsageTotals ===

impl UsageTotals {
    /// What the spool has taken, what is inserted, what could not be spooled, what is lost: each
    /// read by itself.
    pub fn rows(&self) -> [u64; 4] {
        let [accepted, recovered, inserted, unmetered, dead, dropped] = [
            &self.accepted,
            &self.recovered,
            &self.inserted,
            &self.unmetered,
            &self.dead,
            &self.dropped_oldest,
        ]
        .map(|counter| counter.load(Ordering::Relaxed));
        [accepted + recovered, inserted, unmetered, dead + dropped]
    }
}

// === impl Shared ===

impl Shared {
    /// Rows in the spool that are not in the store.
    pub(super) fn queue_rows(&self) -> u64 {
        let [taken, inserted, _, lost] = self.totals.rows();
        taken.saturating_sub(inserted + lost)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    pub(super) fn flushes_asked(&self) -> u64 {
        self.flushes_asked.load(Ordering::SeqCst)
    }

    /// When the writer stops trying, once that is known.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        self.give_up_at.get().copied()
    }

    pub(super) fn set_oldest(&self, at_us: Option<i64>) {
        self.oldest_us.store(at_us.unwrap_or(0), Ordering::Relaxed);
    }

    /// The first to close sets the deadline.
    fn close(&self, give_up_at: Instant) {
        self.give_up_at.get_or_init(|| give_up_at);
        self.is_closed.store(true, Ordering::SeqCst);
    }
}
