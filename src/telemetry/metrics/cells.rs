//! What is counted into: atomics behind an enum's index. Nothing here hashes, locks or allocates.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Metrics;

/// A label with a closed set of values, known before the first request.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    fn all() -> impl Iterator<Item = Self>;
    fn name(self) -> &'static str;
    fn index(self) -> usize;
}

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    pub fn dec(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// One more on a gauge for as long as this lives, whatever path drops it.
pub struct Held {
    metrics: Arc<Metrics>,
    gauge: fn(&Metrics) -> &Gauge,
}

impl Held {
    /// `Held::new(&metrics, |metrics| &metrics.in_flight)`
    pub fn new(metrics: &Arc<Metrics>, gauge: fn(&Metrics) -> &Gauge) -> Self {
        gauge(metrics).inc();
        Self { metrics: Arc::clone(metrics), gauge }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics).dec();
    }
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Counters<L> {
    cells: Box<[Counter]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Counters<L> {
    pub(super) fn new() -> Self {
        Self { cells: L::all().map(|_| Counter::default()).collect(), label: PhantomData }
    }

    pub fn inc(&self, label: L) {
        self.add(label, 1);
    }

    pub fn add(&self, label: L, n: u64) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.add(n);
        }
    }

    pub fn get(&self, label: L) -> u64 {
        self.cells.get(label.index()).map_or(0, Counter::get)
    }
}

/// One counter for each pair of values of two labels.
#[derive(Debug)]
pub struct Grid<A, B> {
    cells: Box<[Counter]>,
    n_columns: usize,
    labels: PhantomData<fn(A, B)>,
}

impl<A: Label, B: Label> Grid<A, B> {
    pub(super) fn new() -> Self {
        let n_columns = B::all().count();
        let cells = (0..A::all().count() * n_columns).map(|_| Counter::default()).collect();
        Self { cells, n_columns, labels: PhantomData }
    }

    pub fn inc(&self, row: A, column: B) {
        if let Some(cell) = self.cell(row, column) {
            cell.inc();
        }
    }

    pub fn get(&self, row: A, column: B) -> u64 {
        self.cell(row, column).map_or(0, Counter::get)
    }

    fn cell(&self, row: A, column: B) -> Option<&Counter> {
        self.cells.get(row.index() * self.n_columns + column.index())
    }
}

/// Durations in fixed buckets. An observation is two additions.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds in microseconds, inclusive, rising.
    bounds_us: &'static [u64],
    /// One for each bound, and one for what is above the last.
    buckets: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds_us: &'static [u64]) -> Self {
        let buckets = (0..=bounds_us.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds_us, buckets, sum_us: AtomicU64::new(0) }
    }

    pub fn observe(&self, duration: Duration) {
        self.observe_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn observe_us(&self, us: u64) {
        let index = self.bounds_us.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// Each bound in microseconds with the count of all observations up to it, then the count of all.
    pub(super) fn cumulative(&self) -> (Vec<(u64, u64)>, u64) {
        let mut total = 0;
        let mut buckets = self.buckets.iter();
        let up_to_bounds = self.bounds_us.iter().zip(buckets.by_ref()).map(|(bound, bucket)| {
            total += bucket.load(Relaxed);
            (*bound, total)
        });
        let up_to_bounds = up_to_bounds.collect();
        let above: u64 = self.buckets.last().map_or(0, |bucket| bucket.load(Relaxed));
        (up_to_bounds, total + above)
    }

    pub(super) fn sum_us(&self) -> u64 {
        self.sum_us.load(Relaxed)
    }
}

/// One histogram for each value of a label.
#[derive(Debug)]
pub struct Histograms<L> {
    cells: Box<[Histogram]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Histograms<L> {
    pub(super) fn new(bounds_us: &'static [u64]) -> Self {
        let cells = L::all().map(|_| Histogram::new(bounds_us)).collect();
        Self { cells, label: PhantomData }
    }

    pub fn observe(&self, label: L, duration: Duration) {
        if let Some(cell) = self.get(label) {
            cell.observe(duration);
        }
    }

    pub fn observe_us(&self, label: L, us: u64) {
        if let Some(cell) = self.get(label) {
            cell.observe_us(us);
        }
    }

    pub(super) fn get(&self, label: L) -> Option<&Histogram> {
        self.cells.get(label.index())
    }
}
