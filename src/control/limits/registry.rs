//! Every counter there is, by owner and limit. A snapshot finds the counters of its limits here, so
//! a changed document loses nothing of what was used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::counter::Counter;
use super::owner::{Counted, Family, Limits, Meter, Owner};
use super::table::{Table, TableStats};
use crate::control::live::lock;
use crate::limit::{Limit, LimitKey, Metric, Mode, Now, Window, family};

/// A limit of an owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    pub owner: Uuid,
    pub limit: LimitKey,
}

#[derive(Debug)]
pub struct Registry {
    counters: Mutex<HashMap<CounterKey, Arc<Counter>>>,
    tables: Mutex<HashMap<CounterKey, Arc<Table>>>,
    families: Mutex<HashMap<Box<str>, Arc<Family>>>,
    values_max: usize,
    stats: Arc<TableStats>,
    has_shared: AtomicBool,
}

/// One counter as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub key: CounterKey,
    /// The value of the dimension.
    pub value: Option<Box<str>>,
    pub index: u64,
    pub used: u64,
}

impl Registry {
    /// With room for `values_max` values of each limit that has a dimension.
    pub fn new(values_max: usize) -> Self {
        Self {
            counters: Mutex::default(),
            tables: Mutex::default(),
            families: Mutex::default(),
            values_max,
            stats: Arc::default(),
            has_shared: AtomicBool::new(false),
        }
    }

    /// Whether there has been a limit that is to be counted over all nodes.
    pub fn has_shared(&self) -> bool {
        self.has_shared.load(Ordering::Relaxed)
    }

    pub fn stats(&self) -> &TableStats {
        &self.stats
    }

    /// The limits of an owner with their counters.
    pub fn limits(&self, owner: Owner, name: &Arc<str>, limits: &[Limit]) -> Option<Arc<Limits>> {
        let counted = |limit: &Limit| {
            let key = CounterKey { owner: owner.id, limit: limit.key() };
            Counted { limit: limit.clone(), meter: self.meter(key) }
        };
        if limits.iter().any(|limit| limit.mode == Mode::Shared) {
            self.has_shared.store(true, Ordering::Relaxed);
        }
        Limits::new(owner, Arc::clone(name), limits.iter().map(counted).collect())
    }

    fn meter(&self, key: CounterKey) -> Meter {
        match key.limit.dimension.clone() {
            None => Meter::One(self.counter(key)),
            Some(dimension) => Meter::Each(dimension, self.table(key)),
        }
    }

    fn counter(&self, key: CounterKey) -> Arc<Counter> {
        let period = key.limit.period;
        let mut counters = lock(&self.counters);
        Arc::clone(counters.entry(key).or_insert_with(|| Arc::new(Counter::new(period))))
    }

    fn table(&self, key: CounterKey) -> Arc<Table> {
        let period = key.limit.period;
        let new = || Arc::new(Table::new(period, self.values_max, Arc::clone(&self.stats)));
        Arc::clone(lock(&self.tables).entry(key).or_insert_with(new))
    }

    /// What is known of the models like `upstream_model`.
    pub fn family(&self, upstream_model: &str) -> Arc<Family> {
        let mut families = lock(&self.families);
        Arc::clone(families.entry(family(upstream_model).into()).or_default())
    }

    /// Forgets counters that no limit refers to and whose use no longer counts.
    pub fn sweep(&self, now: Now) {
        let counts = |counter: &Counter| !counter.at(now).is_idle();
        lock(&self.counters).retain(|_, counter| 1 < Arc::strong_count(counter) || counts(counter));
        lock(&self.tables).retain(|_, table| {
            1 < Arc::strong_count(table) || table.all().iter().any(|(_, counter)| counts(counter))
        });
    }

    /// What was used of every limit that must outlive the process, sorted.
    pub fn lasting(&self) -> Vec<Seen> {
        let mut all = Vec::new();
        let mut see = |key: &CounterKey, value: Option<Box<str>>, counter: &Counter| {
            let (index, used) = counter.settled();
            if 0 < used {
                all.push(Seen { key: key.clone(), value, index, used });
            }
        };
        for (key, counter) in &*lock(&self.counters) {
            if key.limit.is_lasting() {
                see(key, None, counter);
            }
        }
        let tables: Vec<_> = {
            let tables = lock(&self.tables);
            let lasting = tables.iter().filter(|(key, _)| key.limit.is_lasting());
            lasting.map(|(key, table)| (key.clone(), Arc::clone(table))).collect()
        };
        for (key, table) in &tables {
            for (value, counter) in table.all() {
                see(key, value, &counter);
            }
        }
        all.sort_by(|one, other| (&one.key, &one.value).cmp(&(&other.key, &other.value)));
        all
    }

    /// Puts back what a process before this one used. Before any request.
    pub fn restore(&self, seen: Vec<Seen>, now: Now) {
        for Seen { key, value, index, used } in seen {
            let period = key.limit.period;
            let window = Window::restored(period, index, used, now);
            let is_known = key.limit.is_lasting() && key.limit.metric != Metric::Concurrent;
            if !is_known || window.is_idle() {
                continue;
            }
            let counter = Counter::restored(period, window);
            match (&key.limit.dimension, value) {
                (None, _) => {
                    lock(&self.counters).insert(key, Arc::new(counter));
                }
                (Some(_), Some(value)) => self.table(key).restore(&value, counter),
                // What many values shared is not known of any of them.
                (Some(_), None) => {}
            }
        }
    }
}
