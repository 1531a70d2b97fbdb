//! Hands the requests of an open loop to clients: to one that rests, else to a further one, else
//! to the next that is through.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// Requests that may wait for a client.
const WAITING_MAX: usize = 1_000_000;

/// A request that is to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) phase: usize,
    pub(super) due: Instant,
}

#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    clients_max: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Job>,
    /// The last to rest is the first to work: few connections are used while few are needed.
    resting: Vec<Arc<Slot>>,
    clients_n: usize,
    waiting_most: usize,
    is_closed: bool,
}

/// Where a client finds its next job.
#[derive(Debug, Default)]
pub(super) struct Slot {
    job: Mutex<Option<Job>>,
    filled: Notify,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// A client has it.
    Taken,
    /// A further client must be started with it.
    NeedsClient,
    /// It waits for a client.
    Waits,
    /// Too many wait.
    Refused,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(clients_max: usize) -> Self {
        Self { state: Mutex::default(), clients_max }
    }

    pub(super) fn give(&self, job: Job) -> Given {
        let mut state = lock(&self.state);
        if let Some(slot) = state.resting.pop() {
            *lock(&slot.job) = Some(job);
            slot.filled.notify_one();
            return Given::Taken;
        }
        if state.clients_n < self.clients_max {
            state.clients_n += 1;
            return Given::NeedsClient;
        }
        if state.waiting.len() >= WAITING_MAX {
            return Given::Refused;
        }
        state.waiting.push_back(job);
        state.waiting_most = state.waiting_most.max(state.waiting.len());
        Given::Waits
    }

    /// The next job of a client that is through; `None` when there will be none.
    pub(super) async fn next(&self, slot: &Arc<Slot>) -> Option<Job> {
        {
            let mut state = lock(&self.state);
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state.resting.push(Arc::clone(slot));
        }
        slot.filled.notified().await;
        lock(&slot.job).take()
    }

    /// No more jobs will be given; clients that rest are sent home.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        for slot in state.resting.drain(..) {
            slot.filled.notify_one();
        }
    }

    /// Clients there have been, and the most jobs that waited.
    pub(super) fn most(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.clients_n, state.waiting_most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(phase: usize) -> Job {
        Job { phase, due: Instant::now() }
    }

    #[tokio::test]
    async fn jobs_go_to_who_rests_then_to_a_new_client_then_wait() {
        let pool = Arc::new(Pool::new(2));
        assert_eq!(pool.give(job(0)), Given::NeedsClient);
        assert_eq!(pool.give(job(1)), Given::NeedsClient);
        assert_eq!(pool.give(job(2)), Given::Waits);
        let slot = Arc::new(Slot::default());
        assert_eq!(pool.next(&slot).await.map(|job| job.phase), Some(2));
        let resting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move {
                (pool.next(&slot).await.map(|job| job.phase), pool.next(&slot).await.is_none())
            }
        });
        while lock(&pool.state).resting.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.give(job(3)), Given::Taken);
        pool.close();
        assert_eq!(resting.await.unwrap(), (Some(3), true));
        assert_eq!(pool.most(), (2, 1));
    }
}
