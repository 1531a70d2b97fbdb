//! A counter for each value of a dimension, as many as there is room for.
//!
//! A counter makes room when nothing of it counts any more and no request holds it. While there is
//! no such counter, all further values share one: a flood of made-up values gets the use of one.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::counter::Counter;
use crate::clock::Millis;
use crate::control::live::lock;
use crate::limit::{Now, Period};

const SHARDS: usize = 16;
/// A full shard is not swept again before this time.
const SWEEP_MIN_MS: u64 = 100;

#[derive(Debug)]
pub struct Table {
    period: Period,
    shards: [Mutex<Shard>; SHARDS],
    shard_values_max: usize,
    hasher: RandomState,
    rest: Arc<Counter>,
    stats: Arc<TableStats>,
}

/// What all tables count together.
#[derive(Debug, Default)]
pub struct TableStats {
    /// Requests that shared a counter because there was no room for one of their own.
    pub full: AtomicU64,
}

/// A value and its counter.
pub type Value = (Option<Box<str>>, Arc<Counter>);

#[derive(Debug, Default)]
struct Shard {
    counters: HashMap<Box<str>, Arc<Counter>>,
    swept_at: Option<Millis>,
}

impl Table {
    pub fn new(period: Period, values_max: usize, stats: Arc<TableStats>) -> Self {
        Self {
            period,
            shards: Default::default(),
            shard_values_max: values_max.div_ceil(SHARDS),
            hasher: RandomState::new(),
            rest: Arc::new(Counter::new(period)),
            stats,
        }
    }

    /// The counter of `value`.
    pub fn counter(&self, value: &str, now: Now) -> Arc<Counter> {
        let Some(shard) = self.shard(value) else { return Arc::clone(&self.rest) };
        let mut shard = lock(shard);
        if let Some(counter) = shard.counters.get(value) {
            return Arc::clone(counter);
        }
        if self.shard_values_max <= shard.counters.len() {
            shard.sweep(now);
        }
        if self.shard_values_max <= shard.counters.len() {
            self.stats.full.fetch_add(1, Ordering::Relaxed);
            return Arc::clone(&self.rest);
        }
        let counter = Arc::new(Counter::new(self.period));
        shard.counters.insert(value.into(), Arc::clone(&counter));
        counter
    }

    /// Puts back a counter from a file; one too many is left away.
    pub(super) fn restore(&self, value: &str, counter: Counter) {
        let Some(shard) = self.shard(value) else { return };
        let mut shard = lock(shard);
        if shard.counters.len() < self.shard_values_max {
            shard.counters.insert(value.into(), Arc::new(counter));
        }
    }

    /// Every value with its counter; the last one, without a value, is that of all further values.
    pub fn all(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let counters = shard.counters.iter();
            all.extend(counters.map(|(value, counter)| (Some(value.clone()), Arc::clone(counter))));
        }
        all.push((None, Arc::clone(&self.rest)));
        all
    }

    fn shard(&self, value: &str) -> Option<&Mutex<Shard>> {
        let hash = self.hasher.hash_one(value);
        self.shards.get(usize::try_from(hash % SHARDS as u64).unwrap_or(0))
    }
}

impl Shard {
    /// Drops what is idle. Not at every request of a flood.
    fn sweep(&mut self, now: Now) {
        let is_due = |at: Millis| SWEEP_MIN_MS <= now.steady.0.saturating_sub(at.0);
        if self.swept_at.is_none_or(is_due) {
            self.swept_at = Some(now.steady);
            self.counters
                .retain(|_, counter| 1 < Arc::strong_count(counter) || !counter.at(now).is_idle());
        }
    }
}
