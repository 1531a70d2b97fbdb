//! The thread that gathers rows into batches and has them inserted.
//!
//! It sleeps until a batch is full or old enough. A batch that the store cannot take is tried again
//! for a while; one that the store refuses is halved until the rows at fault are alone. Neither
//! keeps later rows back for longer than that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use uuid::Uuid;

use super::sink::{Progress, Shared};
use super::{Entry, Insert, InsertError, Limits};
use crate::clock::Clock;
use crate::usage::record::UsageRow;

/// Refusals are kept back so long, so that a flood makes few rows a minute.
const REFUSED_AGE_MAX: Duration = Duration::from_mins(1);

const PRUNE_INTERVAL: Duration = Duration::from_hours(1);

/// Between two chunks, so that batches come in between.
const PRUNE_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Writer<I> {
    insert: I,
    limits: Limits,
    clock: Clock,
    queue: Receiver<Box<UsageRow>>,
    shared: Arc<Shared>,
    batch: Vec<Entry>,
    due: Due,
    flushes_done: u64,
}

/// When there is something to do; `None` while there is nothing.
#[derive(Debug, Default)]
struct Due {
    rows: Option<Instant>,
    refused: Option<Instant>,
    prune: Option<Instant>,
}

/// What of a batch the store did not take.
#[derive(Debug, Default)]
struct Loss {
    n_rows: u64,
    /// Refusals, not rows of them.
    n_refused: u64,
    first: Option<(InsertError, Option<Uuid>)>,
}

impl<I: Insert> Writer<I> {
    pub(super) fn new(
        insert: I,
        limits: Limits,
        clock: Clock,
        queue: Receiver<Box<UsageRow>>,
        shared: Arc<Shared>,
    ) -> Self {
        let due = Due { prune: limits.retention.map(|_| Instant::now()), ..Due::default() };
        Self { insert, limits, clock, queue, shared, batch: Vec::new(), due, flushes_done: 0 }
    }

    /// Runs until the sink is closed and the queue is empty.
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
                self.flush();
                self.flushes_done = flushes_asked;
                report.send_modify(|progress| progress.flushes_done = flushes_asked);
            } else {
                self.work();
            }
        }
        drop(self.insert); // The file is closed when the end is announced.
        report.send_modify(|progress| progress.is_finished = true);
    }

    /// Sleeps until something is due.
    fn wait(&mut self) {
        loop {
            let shared = &self.shared;
            let is_asked = shared.is_closed() || shared.flushes_asked() > self.flushes_done;
            if is_asked || shared.queue_depth() >= self.limits.batch_rows_max {
                return;
            }
            let now = Instant::now();
            if self.due.rows.is_none() && shared.queue_depth() > 0 {
                self.due.rows = Some(now + self.limits.batch_age_max);
            }
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

    /// Does what is due.
    fn work(&mut self) {
        let now = Instant::now();
        let is_full = self.shared.queue_depth() >= self.limits.batch_rows_max;
        if is_full || self.due.rows.is_some_and(|at| at <= now) {
            self.write_rows();
        }
        if self.due.refused.is_some_and(|at| at <= now) {
            self.due.refused = None;
            let refused = self.shared.refused.take();
            self.write_refused(refused);
        }
        if self.due.prune.is_some_and(|at| at <= now) {
            self.prune();
        }
    }

    /// Writes everything that was recorded before the flush was asked for.
    fn flush(&mut self) {
        let mut n_left = self.shared.queue_depth();
        while n_left > 0 {
            let n_rows = self.write_rows();
            if n_rows == 0 {
                break; // Places taken by rows that are still on their way.
            }
            n_left = n_left.saturating_sub(n_rows);
        }
        self.due.refused = None;
        let refused = self.shared.refused.take();
        self.write_refused(refused);
    }

    /// Writes what is left. The queue takes no more rows; those with a place in it arrive at once.
    fn finish(&mut self) {
        while self.shared.queue_depth() > 0 {
            if self.write_rows() == 0 {
                thread::yield_now();
            }
        }
        let refused = self.shared.refused.close();
        self.write_refused(refused);
    }

    /// Writes one batch from the queue; says how many rows it had.
    fn write_rows(&mut self) -> usize {
        let mut batch = std::mem::take(&mut self.batch);
        let room = self.limits.batch_rows_max;
        batch.extend(self.queue.try_iter().take(room).map(Entry::Request));
        let n_rows = batch.len();
        self.shared.leave(n_rows);
        // What came too late for this batch has its age from here.
        let next_due = Instant::now() + self.limits.batch_age_max;
        self.write(&batch);
        self.due.rows = (self.shared.queue_depth() > 0).then_some(next_due);
        batch.clear();
        self.batch = batch;
        n_rows
    }

    fn write_refused(&mut self, refused: Vec<super::RefusedRow>) {
        let entries: Vec<_> = refused.into_iter().map(Entry::Refused).collect();
        for batch in entries.chunks(self.limits.batch_rows_max) {
            self.write(batch);
        }
    }

    /// Has `batch` inserted, and counts what became of it.
    fn write(&mut self, batch: &[Entry]) {
        if batch.is_empty() {
            return;
        }
        let mut loss = Loss::default();
        self.insert_or_halve(batch, &mut loss);
        let n_rows = batch.iter().filter(|entry| matches!(entry, Entry::Request(_))).count() as u64;
        let totals = &self.shared.totals;
        totals.inserted.fetch_add(n_rows - loss.n_rows, Ordering::Relaxed);
        totals.lost.fetch_add(loss.n_rows, Ordering::Relaxed);
        totals.refused_lost.fetch_add(loss.n_refused, Ordering::Relaxed);
        if let Some((error, request_id)) = loss.first {
            tracing::error!(
                rows = loss.n_rows,
                refused = loss.n_refused,
                request_id = request_id.map(tracing::field::display),
                %error,
                "usage rows lost"
            );
        }
    }

    fn insert_or_halve(&mut self, batch: &[Entry], loss: &mut Loss) {
        match self.insert_or_retry(batch) {
            Ok(()) => {}
            Err(InsertError::Refused(_)) if batch.len() > 1 => {
                let (one, other) = batch.split_at(batch.len() / 2);
                self.insert_or_halve(one, loss);
                self.insert_or_halve(other, loss);
            }
            Err(error) => loss.add(batch, error),
        }
    }

    /// Tries until the store answers for good, the delays are used up or the time is over.
    fn insert_or_retry(&mut self, batch: &[Entry]) -> Result<(), InsertError> {
        let mut n_retries = 0;
        let mut last = InsertError::Unavailable("there was no time left".to_owned());
        while !self.is_time_over() {
            match self.try_insert(batch) {
                Err(error @ InsertError::Unavailable(_)) => last = error,
                answer => return answer,
            }
            let Some(delay) = self.limits.retry_delays.get(n_retries).copied() else { break };
            n_retries += 1;
            tracing::warn!(entries = batch.len(), error = %last, "usage insert failed, will be retried");
            self.pause(delay);
        }
        Err(last)
    }

    /// A panic over a row is that row's fault: the thread has to go on.
    fn try_insert(&mut self, batch: &[Entry]) -> Result<(), InsertError> {
        catch_unwind(AssertUnwindSafe(|| self.insert.insert(batch)))
            .unwrap_or_else(|_panic| Err(InsertError::Refused("the insert panicked".to_owned())))
    }

    fn is_time_over(&self) -> bool {
        self.shared.give_up_at().is_some_and(|at| at <= Instant::now())
    }

    /// Waits for `delay`, but not beyond the end of a close.
    fn pause(&self, delay: Duration) {
        let until = Instant::now() + delay;
        loop {
            let until = self.shared.give_up_at().map_or(until, |at| at.min(until));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    fn prune(&mut self) {
        let Some(retention) = self.limits.retention else { return };
        let retention_us = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let before_us = self.clock.unix_micros().saturating_sub(retention_us);
        let pause = match self.insert.prune(before_us) {
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

// === impl Due ===

impl Due {
    fn first(&self) -> Option<Instant> {
        [self.rows, self.refused, self.prune].into_iter().flatten().min()
    }
}

// === impl Loss ===

impl Loss {
    fn add(&mut self, batch: &[Entry], error: InsertError) {
        let mut request_id = None;
        for entry in batch {
            match entry {
                Entry::Request(row) => {
                    self.n_rows += 1;
                    request_id.get_or_insert(row.request_id);
                }
                Entry::Refused(row) => self.n_refused += row.count,
            }
        }
        self.first.get_or_insert((error, request_id));
    }
}
