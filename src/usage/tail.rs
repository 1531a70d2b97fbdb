//! Rows as their requests finish, for whoever watches.
//!
//! Nothing waits for a watcher: one that is too slow loses the oldest rows, and is told how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::usage::record::UsageRow;

/// Rows that wait for the slowest watcher.
const ROWS_MAX: usize = 1_024;
const WATCHERS_MAX: usize = 32;

/// Where rows pass. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tail(Arc<Passing>);

#[derive(Debug)]
struct Passing {
    rows: broadcast::Sender<Arc<UsageRow>>,
    n_watchers: AtomicUsize,
}

/// One who watches.
#[derive(Debug)]
pub struct Watcher {
    rows: broadcast::Receiver<Arc<UsageRow>>,
    passing: Arc<Passing>,
}

/// What a watcher sees.
#[derive(Debug)]
pub enum Seen {
    Row(Arc<UsageRow>),
    /// So many rows have passed unseen.
    Lagged(u64),
}

impl Default for Tail {
    fn default() -> Self {
        let (rows, _) = broadcast::channel(ROWS_MAX);
        Self(Arc::new(Passing { rows, n_watchers: AtomicUsize::new(0) }))
    }
}

impl Tail {
    /// Shows `row` to those who watch. Costs one load when nobody does.
    pub fn show(&self, row: &UsageRow) {
        if self.0.n_watchers.load(Ordering::Relaxed) > 0 {
            // Whoever watched may have gone in between.
            drop(self.0.rows.send(Arc::new(row.clone())));
        }
    }

    /// `None` when enough are watching.
    pub fn watch(&self) -> Option<Watcher> {
        let passing = Arc::clone(&self.0);
        if passing.n_watchers.fetch_add(1, Ordering::Relaxed) >= WATCHERS_MAX {
            passing.n_watchers.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Watcher { rows: passing.rows.subscribe(), passing })
    }
}

impl Watcher {
    /// `None` when no more can come.
    pub async fn next(&mut self) -> Option<Seen> {
        match self.rows.recv().await {
            Ok(row) => Some(Seen::Row(row)),
            Err(RecvError::Lagged(n_rows)) => Some(Seen::Lagged(n_rows)),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.passing.n_watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::row::tests::bare;

    #[tokio::test]
    async fn slow_watcher_is_told_what_it_missed() {
        let tail = Tail::default();
        tail.show(&bare(0)); // Nobody sees it.
        let mut watcher = tail.watch().unwrap();
        for number in 0..ROWS_MAX as u64 + 3 {
            tail.show(&bare(number));
        }
        assert!(matches!(watcher.next().await, Some(Seen::Lagged(3))));
        let Some(Seen::Row(row)) = watcher.next().await else { panic!("no row") };
        assert_eq!(row.request_id, bare(3).request_id);
    }

    #[tokio::test]
    async fn watchers_are_few_and_their_places_come_back() {
        let tail = Tail::default();
        let watchers: Vec<_> = (0..WATCHERS_MAX).map(|_| tail.watch().unwrap()).collect();
        assert!(tail.watch().is_none());
        drop(watchers);
        assert!(tail.watch().is_some());
    }
}
