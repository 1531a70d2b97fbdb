//! The request path's end of the queue.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::refused::{Counted, Refused};
use super::writer::Writer;
use super::{Insert, Limits};
use crate::clock::Clock;
use crate::usage::record::UsageRow;

/// Set in [`Shared::queue`] when no more rows are taken.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// How long rows are still tried to be inserted when the last sink goes without a close.
const ABANDONED_MAX: Duration = Duration::from_secs(5);

/// How much longer than the deadline a close waits for an insert that is under way.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A handle on the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct UsageSink(Arc<Sender>);

#[derive(Debug)]
struct Sender {
    rows: SyncSender<Box<UsageRow>>,
    queue_rows_max: usize,
    batch_rows_max: usize,
    shared: Arc<Shared>,
    writer: Thread,
    progress: watch::Receiver<Progress>,
}

/// What becomes of rows. `accepted = inserted + lost` once the sink is closed.
#[derive(Debug, Default)]
pub struct UsageTotals {
    pub accepted: AtomicU64,
    pub inserted: AtomicU64,
    /// Rows that came when the queue was full or closed.
    pub dropped: AtomicU64,
    /// Accepted, but the store would not have them.
    pub lost: AtomicU64,
    /// Requests with unknown keys.
    pub refused: AtomicU64,
    /// Those of them that no row of the store counts.
    pub refused_lost: AtomicU64,
}

/// What both ends see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) totals: UsageTotals,
    pub(super) refused: Refused,
    /// Rows in the queue and those about to enter it, and [`CLOSED`].
    queue: AtomicUsize,
    /// How often a flush was asked for.
    flushes_asked: AtomicU64,
    give_up_at: OnceLock<Instant>,
}

/// How far the writer is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// How many of the flushes that were asked for are done.
    pub(super) flushes_done: u64,
    pub(super) is_finished: bool,
}

/// Makes the queue and starts the thread behind it.
pub(super) fn start(
    insert: impl Insert,
    mut limits: Limits,
    clock: Clock,
) -> Result<UsageSink, io::Error> {
    // A batch that the queue cannot hold would never be full.
    limits.batch_rows_max = limits.batch_rows_max.min(limits.queue_rows_max).max(1);
    let (queue_rows_max, batch_rows_max) = (limits.queue_rows_max, limits.batch_rows_max);
    let (rows, received) = sync_channel(queue_rows_max);
    let (report, progress) = watch::channel(Progress::default());
    let shared = Arc::new(Shared::default());
    let writer = Writer::new(insert, limits, clock, received, Arc::clone(&shared));
    let thread = std::thread::Builder::new()
        .name("usage-writer".to_owned())
        .spawn(move || writer.run(&report))?;
    let writer = thread.thread().clone();
    Ok(UsageSink(Arc::new(Sender {
        rows,
        queue_rows_max,
        batch_rows_max,
        shared,
        writer,
        progress,
    })))
}

// === impl UsageSink ===

impl UsageSink {
    /// Queues `row`, or counts it as dropped. Never waits.
    pub fn record(&self, row: Box<UsageRow>) {
        let sender = &*self.0;
        let totals = &sender.shared.totals;
        // The place in the queue comes first: from then on the writer waits for the row, and with
        // the place the channel has room for it.
        let n_before = sender.shared.queue.fetch_add(1, Ordering::SeqCst);
        if n_before & CLOSED != 0 || n_before >= sender.queue_rows_max {
            sender.shared.queue.fetch_sub(1, Ordering::SeqCst);
            totals.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        totals.accepted.fetch_add(1, Ordering::Relaxed);
        if sender.rows.try_send(row).is_err() {
            // Only a writer that panicked leaves the queue while places are taken.
            totals.lost.fetch_add(1, Ordering::Relaxed);
            sender.shared.leave(1);
            return;
        }
        // The first row starts the batch's age, the last fills it; the writer sleeps through the
        // others, because waking it costs more than all the rest here.
        if n_before == 0 || n_before + 1 == sender.batch_rows_max {
            sender.writer.unpark();
        }
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

    pub fn totals(&self) -> &UsageTotals {
        &self.0.shared.totals
    }

    /// Rows that wait for the writer.
    pub fn queue_depth(&self) -> usize {
        self.0.shared.queue_depth()
    }

    /// Returns when every row recorded before, and every refusal, is inserted or lost.
    pub async fn flush(&self) {
        let asked = self.0.shared.flushes_asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.writer.unpark();
        self.wait_for(|progress| progress.flushes_done >= asked || progress.is_finished).await;
    }

    /// Takes no more rows, and returns when those accepted are inserted, or lost because `within`
    /// has passed. Further calls wait for the same end.
    pub async fn close(&self, within: Duration) {
        let shared = &self.0.shared;
        shared.close(Instant::now() + within);
        self.0.writer.unpark();
        let finished = self.wait_for(|progress| progress.is_finished);
        if tokio::time::timeout(within + CLOSE_GRACE, finished).await.is_err() {
            tracing::error!(
                rows = shared.queue_depth(),
                "usage store hangs, its rows are given up"
            );
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
    /// Accepted, inserted, dropped, lost: each read by itself.
    pub fn rows(&self) -> [u64; 4] {
        [&self.accepted, &self.inserted, &self.dropped, &self.lost]
            .map(|counter| counter.load(Ordering::Relaxed))
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn queue_depth(&self) -> usize {
        self.queue.load(Ordering::SeqCst) & !CLOSED
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Gives back the places of rows that left the queue.
    pub(super) fn leave(&self, n_rows: usize) {
        self.queue.fetch_sub(n_rows, Ordering::SeqCst);
    }

    pub(super) fn flushes_asked(&self) -> u64 {
        self.flushes_asked.load(Ordering::SeqCst)
    }

    /// When the writer stops trying, once that is known.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        self.give_up_at.get().copied()
    }

    /// The first to close sets the deadline.
    fn close(&self, give_up_at: Instant) {
        self.give_up_at.get_or_init(|| give_up_at);
        self.queue.fetch_or(CLOSED, Ordering::SeqCst);
    }
}
