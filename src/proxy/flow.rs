//! How many requests are in flight, and when they must be gone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::Notify;

use crate::telemetry::metrics::{Held, Metrics};

/// What the process knows about the requests in it.
#[derive(Debug, Default)]
pub struct Flow {
    in_flight: AtomicUsize,
    is_draining: AtomicBool,
    emptied: Notify,
    cut_at: OnceLock<Instant>,
    n_cut: AtomicUsize,
}

/// One request in flight, until it is dropped.
pub struct Entered {
    flow: Arc<Flow>,
    gauge: Option<Held>,
}

impl Flow {
    /// Counts a request until what is returned is dropped.
    pub fn enter(self: &Arc<Self>, metrics: &Arc<Metrics>) -> Entered {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let gauge = Held::new(metrics, |metrics| &metrics.in_flight);
        Entered { flow: Arc::clone(self), gauge: Some(gauge) }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Resolves once nothing is in flight.
    pub async fn idle(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.in_flight() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Requests that run until `cut_at` end there.
    pub fn start_draining(&self, cut_at: Instant) {
        self.cut_at.get_or_init(|| cut_at);
        self.is_draining.store(true, Ordering::Release);
    }

    /// When the process cuts what still runs.
    pub fn cut_at(&self) -> Option<Instant> {
        self.cut_at.get().copied()
    }

    /// Whether the time of draining is over, so that nothing new can be answered.
    pub fn is_over(&self) -> bool {
        self.is_draining() && self.cut_at().is_some_and(|cut_at| cut_at <= Instant::now())
    }

    /// Counts an answer that ends for this reason.
    pub fn count_cut(&self) {
        self.n_cut.fetch_add(1, Ordering::Relaxed);
    }

    pub fn n_cut(&self) -> usize {
        self.n_cut.load(Ordering::Relaxed)
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.gauge = None; // Before somebody is told that nothing is left.
        if self.flow.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.flow.emptied.notify_waiters();
        }
    }
}
