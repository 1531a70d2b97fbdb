//! The thread that reads the spool and has a store insert what it finds.
//!
//! It sleeps until a slice ends or is old enough. While the store does not answer it tries the oldest
//! slice again and again, and drops the oldest segments once the spool is larger than it may be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::backlog::{Next, pass_over};
use super::batch::{Batch, Table};
use super::dead::Dead;
use super::send::{Between, send};
use super::sink::{Progress, Shared};
use super::{Insert, InsertError, Limits};
use crate::clock::Clock;
use crate::usage::row;
use crate::usage::spool::{Appended, Begun, Draft, Kind, Pace, Slice, Spool, Syncing};

/// Refusals are kept back so long, so that a flood makes few rows a minute.
const REFUSED_AGE_MAX: Duration = Duration::from_secs(10);

const PRUNE_INTERVAL: Duration = Duration::from_hours(1);

/// Between two chunks, so that batches come in between.
const PRUNE_PAUSE: Duration = Duration::from_millis(20);

/// How often it is looked whether another process has ended.
const ADOPT_INTERVAL: Duration = Duration::from_secs(10);

/// A flush that has nothing to send looks again after this.
const FLUSH_PAUSE: Duration = Duration::from_millis(5);

/// While the store does not answer, this is said so often.
const COMPLAINT_INTERVAL: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Writer<I> {
    pub(super) insert: I,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) syncing: Syncing,
    due: Due,
    uncut_since: Option<Instant>,
    begun: Begun,
    bytes: Vec<u8>,
    draft: Draft,
    flushes_done: u64,
    complained_at: Option<Instant>,
}

/// When there is something to do; `None` while there is nothing.
#[derive(Debug, Default)]
struct Due {
    cut: Option<Instant>,
    refused: Option<Instant>,
    prune: Option<Instant>,
    adopt: Option<Instant>,
}

/// The time between two tries.
struct Pauses<'a> {
    limits: &'a Limits,
    shared: &'a Shared,
    slice: &'a Next,
    begun: &'a mut Begun,
    complained_at: &'a mut Option<Instant>,
}

impl<I: Insert> Writer<I> {
    pub(super) fn new(
        insert: I,
        limits: Limits,
        clock: Clock,
        (shared, syncing): (Arc<Shared>, Syncing),
    ) -> Self {
        let now = Instant::now();
        let prune = limits.retention.map(|_| now);
        Self {
            insert,
            limits,
            clock,
            shared,
            syncing,
            due: Due { prune, adopt: Some(now), ..Due::default() },
            uncut_since: None,
            begun: Begun::new(),
            bytes: Vec::new(),
            draft: Draft::default(),
            flushes_done: 0,
            complained_at: None,
        }
    }

    fn spool(&self) -> &Spool {
        &self.shared.spool
    }

    /// Runs until the sink is closed and the spool is empty, or the time to empty it is over.
    pub(super) fn run(mut self, report: &watch::Sender<Progress>) {
        loop {
            self.wait();
            // Read first: what is asked for while this turn runs is for the next one.
            let is_closed = self.shared.is_closed();
            let flushes_asked = self.shared.flushes_asked();
            if is_closed {
                self.finish();
                break;
            }
            if flushes_asked > self.flushes_done {
                if self.flush() {
                    self.flushes_done = flushes_asked;
                    report.send_modify(|progress| progress.flushes_done = flushes_asked);
                }
            } else {
                self.work();
            }
        }
        drop(self.syncing);
        drop(self.insert); // The file is closed when the end is announced.
        report.send_modify(|progress| progress.is_finished = true);
    }

    /// Sleeps until something is due.
    fn wait(&mut self) {
        loop {
            let shared = &self.shared;
            let is_asked = shared.is_closed() || shared.flushes_asked() > self.flushes_done;
            if is_asked || shared.backlog.next(&self.begun).is_some() {
                return;
            }
            let now = Instant::now();
            if self.uncut_since.is_none() && shared.spool.has_uncut() {
                self.uncut_since = Some(now);
            }
            // How old a slice may get changes with the store.
            let age_max = shared.spool.slice_limits().age_max;
            self.due.cut = self.uncut_since.map(|since| since + age_max);
            if self.due.refused.is_none() && !shared.refused.is_empty() {
                self.due.refused = Some(now + REFUSED_AGE_MAX);
            }
            match self.due.first() {
                None => thread::park(),
                Some(at) if at <= now => return,
                Some(at) => thread::park_timeout(at - now),
            }
        }
    }

    /// Does what is due, and sends a slice.
    fn work(&mut self) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.due.adopt) {
            self.adopt();
        }
        if is_due(self.due.refused) {
            self.due.refused = None;
            let refused = self.shared.refused.take();
            self.spool_refused(refused);
        }
        if is_due(self.due.cut) {
            self.cut();
        }
        self.send_next();
        if is_due(self.due.prune) {
            self.prune();
        }
    }

    /// Sends everything that was recorded before the flush was asked for; `false` when the time is
    /// over.
    fn flush(&mut self) -> bool {
        self.adopt();
        let refused = self.shared.refused.take();
        self.spool_refused(refused);
        self.due.refused = None;
        let end = self.cut();
        while !self.shared.backlog.is_past(end) {
            if self.shared.is_closed() {
                return false;
            }
            if !self.send_next() {
                // A full segment is sealed by the thread that syncs.
                self.sync();
                thread::park_timeout(FLUSH_PAUSE);
            }
        }
        true
    }

    /// Sends what is left.
    fn finish(&mut self) {
        self.adopt();
        let refused = self.shared.refused.close();
        self.spool_refused(refused);
        self.sync();
        if let Err(error) = self.spool().close() {
            tracing::error!(%error, "the spool could not be closed");
        }
        while !self.is_time_over() && self.send_next() {}
        let left = self.shared.queue_rows();
        if left > 0 {
            tracing::warn!(
                rows = left,
                "usage rows stay in the spool; the next process sends them"
            );
        }
        self.shared.backlog.end(&self.begun);
    }

    fn is_time_over(&self) -> bool {
        self.shared.give_up_at().is_some_and(|at| at <= Instant::now())
    }

    fn cut(&mut self) -> Appended {
        (self.uncut_since, self.due.cut) = (None, None);
        self.spool().cut().unwrap_or_else(|error| {
            tracing::error!(%error, "the spool cannot be written");
            Appended::default()
        })
    }

    fn sync(&self) {
        if let Err(error) = self.spool().sync_all() {
            tracing::error!(%error, "usage rows cannot be synced to the disk");
        }
    }

    fn adopt(&mut self) {
        self.due.adopt = Some(Instant::now() + ADOPT_INTERVAL);
        let totals = &self.shared.totals;
        let adopted = self.shared.backlog.adopt(|boot, found| {
            totals.recovered.fetch_add(found.rows, Ordering::Relaxed);
            totals.crashed.fetch_add(found.crashed, Ordering::Relaxed);
            totals.damaged.fetch_add(found.damage.gaps, Ordering::Relaxed);
            totals.damaged_rows.fetch_add(found.damage.rows, Ordering::Relaxed);
            totals.segments_missing.fetch_add(found.missing + found.unreadable, Ordering::Relaxed);
            tracing::info!(
                boot = %boot.id, segments = found.segments, rows = found.rows,
                in_flight = found.crashed, gaps = found.damage.gaps, lost = found.damage.rows,
                missing = found.missing, unreadable = found.unreadable,
                "usage rows of a process that has ended"
            );
        });
        if let Err(error) = adopted {
            tracing::error!(%error, "what other processes have left in the spool cannot be read");
        }
    }

    fn spool_refused(&mut self, refused: Vec<super::refused::RefusedRow>) {
        let mut draft = std::mem::take(&mut self.draft);
        for row in refused {
            draft.fill(|to| row::encode_refused(&row, &self.limits.stamp, to));
            if self.spool().append(Kind::Refused, &mut draft).is_err() {
                self.shared.totals.refused_lost.fetch_add(row.count, Ordering::Relaxed);
            }
        }
        self.draft = draft;
    }

    /// Sends the oldest slice; `false` when there is none, or no time.
    fn send_next(&mut self) -> bool {
        drop_oldest(&self.shared, &self.limits, &mut self.begun, None);
        let Some(next) = self.shared.backlog.next(&self.begun) else { return false };
        if !next.is_known() {
            self.set_aside(&next);
            return true;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        let is_own = self.shared.backlog.is_own(&next.boot);
        let mut others = Begun::new();
        let begun = if is_own { &mut self.begun } else { &mut others };
        let read = next.read(&mut bytes, begun);
        self.bytes = bytes;
        let is_sent = match read {
            Ok(slice) => self.send_slice(&next, &slice),
            Err(error) => {
                tracing::error!(segment = %next.segment.path.display(), %error,
                    "a part of the spool cannot be read");
                self.shared.totals.damaged.fetch_add(1, Ordering::Relaxed);
                next.done();
                true
            }
        };
        self.bytes.shrink_to(1 << 20);
        is_sent
    }

    /// The batches of a slice, one after the other.
    fn send_slice(&mut self, next: &Next, slice: &Slice) -> bool {
        if self.shared.backlog.is_own(&next.boot) {
            let end = Appended { segment: next.segment.title.number, end: next.bounds.to };
            // A slice that is sent has to be found again as it is.
            if let Err(error) = self.spool().sync_up_to(end) {
                tracing::error!(%error, "usage rows cannot be synced to the disk");
            }
        }
        let token = next.token();
        let mut dead = Dead::default();
        for (day, rows) in &slice.days {
            self.shared.set_oldest(rows.bytes.first_chunk().map(|at| i64::from_le_bytes(*at)));
            let token = format!("{token}-{day}");
            if !self.deliver(next, &Batch::new(Table::Usage, &token, rows), &mut dead) {
                return false;
            }
        }
        for (day, rows) in &slice.payloads {
            let token = format!("{token}-payloads-{day}");
            if !self.deliver(next, &Batch::new(Table::Payloads, &token, rows), &mut dead) {
                return false;
            }
        }
        let of_keys = format!("{token}-refused");
        let batch = Batch::new(Table::RefusedKeys, &of_keys, &slice.refused);
        if !batch.is_empty() && !self.deliver(next, &batch, &mut dead) {
            return false;
        }
        self.shared.set_oldest(None);
        self.bury(next, &token, &dead);
        let totals = &self.shared.totals;
        let n_rows = slice.n_rows() as u64;
        totals.inserted.fetch_add(n_rows - dead.n_rows(), Ordering::Relaxed);
        totals.dead.fetch_add(dead.n_rows(), Ordering::Relaxed);
        totals.damaged_rows.fetch_add(slice.damage.rows, Ordering::Relaxed);
        next.done();
        true
    }

    fn deliver(&mut self, next: &Next, batch: &Batch<'_>, dead: &mut Dead) -> bool {
        let mut pauses = Pauses {
            limits: &self.limits,
            shared: &self.shared,
            slice: next,
            begun: &mut self.begun,
            complained_at: &mut self.complained_at,
        };
        send(&mut self.insert, batch, &mut pauses, dead)
    }

    fn bury(&self, next: &Next, token: &str, dead: &Dead) {
        if dead.is_empty() {
            return;
        }
        match dead.bury(self.spool().root(), token, next.segment.title) {
            Ok(()) => tracing::error!(
                rows = dead.n_rows(),
                token,
                "usage rows that the store refuses are set aside; see `sluice spool retry-dead`"
            ),
            Err(error) => tracing::error!(rows = dead.n_rows(), token, %error,
                "usage rows that the store refuses are lost"),
        }
    }

    fn set_aside(&self, next: &Next) {
        let n_rows = pass_over(&next.segment, &mut Begun::new());
        self.shared.totals.dead.fetch_add(n_rows, Ordering::Relaxed);
        tracing::error!(segment = %next.segment.path.display(), rows = n_rows,
            "a segment has columns that this release does not know; it is set aside");
        if let Err(error) = self.shared.backlog.set_aside(&next.boot, &next.segment) {
            tracing::error!(%error, "the segment could not be set aside, and is removed");
            self.shared.backlog.remove(&next.boot, &next.segment, &self.begun);
        }
    }

    fn prune(&mut self) {
        let Some(retention) = self.limits.retention else { return };
        let retention_us = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let now_us = self.clock.unix_micros();
        let pause = match self.insert.prune(now_us.saturating_sub(retention_us), now_us) {
            Ok(true) => PRUNE_PAUSE,
            Ok(false) => PRUNE_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "old usage rows not deleted, will be retried");
                PRUNE_INTERVAL
            }
        };
        self.due.prune = Some(Instant::now() + pause);
    }
}

/// Drops the oldest segments while the spool is larger than it may be; says whether `sending` is
/// among them.
fn drop_oldest(
    shared: &Shared,
    limits: &Limits,
    begun: &mut Begun,
    sending: Option<&Next>,
) -> bool {
    let mut is_sending_dropped = false;
    if shared.backlog.bytes() > limits.spool_bytes_max
        && let Err(error) = shared.spool.sync_all()
    {
        tracing::error!(%error, "usage rows cannot be synced to the disk");
    }
    while shared.backlog.bytes() > limits.spool_bytes_max {
        let Some((boot, segment)) = shared.backlog.oldest_full() else { break };
        let mut others = Begun::new();
        let is_own = shared.backlog.is_own(&boot);
        let n_rows = pass_over(&segment, if is_own { &mut *begun } else { &mut others });
        is_sending_dropped |= sending.is_some_and(|next| Arc::ptr_eq(&next.segment, &segment));
        shared.totals.dropped_oldest.fetch_add(n_rows, Ordering::Relaxed);
        tracing::error!(
            rows = n_rows, segment = %segment.path.display(), bytes_max = limits.spool_bytes_max,
            "usage rows dropped: the spool is full and the store does not take them"
        );
        shared.backlog.remove(&boot, &segment, begun);
    }
    is_sending_dropped
}

// === impl Pauses ===

impl Between for Pauses<'_> {
    fn pause(&mut self, n_failed: u32, error: &InsertError) -> bool {
        self.shared.totals.retries.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if self.complained_at.is_none_or(|at| at + COMPLAINT_INTERVAL <= now) {
            *self.complained_at = Some(now);
            tracing::warn!(n_failed, %error, "usage insert failed, will be retried");
        }
        let until = now + self.limits.backoff.wait(n_failed, rand::random_range(0.5..=1.0));
        loop {
            if drop_oldest(self.shared, self.limits, self.begun, Some(self.slice)) {
                return false;
            }
            let give_up_at = self.shared.give_up_at();
            if give_up_at.is_some_and(|at| at <= Instant::now()) {
                return false;
            }
            let until = give_up_at.map_or(until, |at| at.min(until));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return give_up_at.is_none_or(|at| Instant::now() < at);
            }
            thread::park_timeout(left);
        }
    }

    fn tried(&mut self, result: &Result<(), InsertError>) {
        let totals = &self.shared.totals;
        let (count, pace) = match result {
            Ok(()) => (&totals.inserts, Pace::Usual),
            Err(InsertError::Refused(_)) => (&totals.inserts_refused, Pace::Usual),
            Err(InsertError::Unavailable(_)) => (&totals.inserts_failed, Pace::Outage),
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.shared.spool.set_pace(pace);
        if result.is_ok() && self.complained_at.take().is_some() {
            tracing::info!("usage rows are inserted again");
        }
    }
}

// === impl Due ===

impl Due {
    fn first(&self) -> Option<Instant> {
        [self.cut, self.refused, self.prune, self.adopt].into_iter().flatten().min()
    }
}
