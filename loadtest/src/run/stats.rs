//! What was counted and timed, gathered by threads and taken over by the report.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::check::Seen;
use super::failure::{Class, Failure};

/// Durations, from 64 ns to an hour, to three digits. Takes memory from the first on.
#[derive(Debug, Clone, Default)]
pub(super) struct Times(Option<Box<Histogram<u64>>>);

/// What one kind of request came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) latency: Times,
    pub(super) first_event: Times,
    pub(super) gap: Times,
    pub(super) gap_added: Times,
    pub(super) successes: u64,
    pub(super) failures: BTreeMap<Failure, u64>,
    pub(super) streams: u64,
    pub(super) bytes: u64,
    /// Content events that the mock's script has a pause before.
    pub(super) paced: u64,
    /// Those of them that came together with the one before.
    pub(super) together: u64,
    /// From when the first request was due to when the last answer was whole.
    pub(super) span: Option<(Instant, Instant)>,
}

/// What a thread has gathered since the reporter last looked.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// One for each kind of the mix.
    pub(super) counted: Vec<Counts>,
    pub(super) uncounted: Counts,
    /// How late the generator itself sent requests that could go at once.
    pub(super) lag: Times,
}

/// A window that its thread fills and the reporter empties.
#[derive(Debug)]
pub(super) struct Shared(Mutex<Window>);

/// The outcome of one request.
pub(super) struct Outcome<'a> {
    pub(super) kind: usize,
    pub(super) is_counted: bool,
    pub(super) due: Instant,
    pub(super) ended: Instant,
    pub(super) result: Result<(), Failure>,
    pub(super) seen: &'a Seen,
    /// Between content events, by the script.
    pub(super) pause: Option<Duration>,
}

// === impl Times ===

impl Times {
    pub(super) fn record(&mut self, duration: Duration) {
        let histogram = self.0.get_or_insert_with(|| {
            let new = Histogram::new_with_bounds(64, 3_600_000_000_000, 3);
            Box::new(new.expect("the bounds are in order"))
        });
        histogram.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn add(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (None, Some(from)) => self.0 = Some(from.clone()),
            (Some(into), Some(from)) => {
                into.add(&**from).expect("all histograms have the same bounds");
            }
        }
    }

    pub(super) fn histogram(&self) -> Option<&Histogram<u64>> {
        self.0.as_deref()
    }

    /// How many were longer.
    pub(super) fn over(&self, bound: Duration) -> u64 {
        let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        self.0.as_ref().map_or(0, |histogram| {
            histogram.len() - histogram.count_between(0, histogram.highest_equivalent(bound))
        })
    }
}

// === impl Counts ===

impl Counts {
    fn record(&mut self, outcome: Outcome<'_>) {
        let Outcome { due, ended, result, seen, pause, .. } = outcome;
        let since = self.span.map_or(due, |(since, _)| since.min(due));
        self.span = Some((since, self.span.map_or(ended, |(_, until)| until.max(ended))));
        self.bytes += seen.bytes;
        if let Some(first) = seen.first {
            self.streams += 1;
            self.first_event.record(first.saturating_duration_since(due));
        }
        for gap in &seen.gaps {
            self.gap.record(*gap);
            if let Some(pause) = pause {
                self.gap_added.record(gap.saturating_sub(pause));
                self.paced += 1;
                self.together += u64::from(gap.is_zero());
            }
        }
        match result {
            Ok(()) => {
                self.successes += 1;
                self.latency.record(ended.saturating_duration_since(due));
            }
            Err(failure) => *self.failures.entry(failure).or_default() += 1,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.first_event.add(&other.first_event);
        self.gap.add(&other.gap);
        self.gap_added.add(&other.gap_added);
        self.successes += other.successes;
        for (failure, n) in &other.failures {
            *self.failures.entry(failure.clone()).or_default() += n;
        }
        self.streams += other.streams;
        self.bytes += other.bytes;
        self.paced += other.paced;
        self.together += other.together;
        self.span = match (self.span, other.span) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }

    pub(super) fn failures_n(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(super) fn failures_of(&self, class: Class) -> u64 {
        let of_class = self.failures.iter().filter(|(failure, _)| failure.class() == class);
        of_class.map(|(_, n)| n).sum()
    }

    pub(super) fn requests(&self) -> u64 {
        self.successes + self.failures_n()
    }
}

// === impl Window ===

impl Window {
    pub(super) fn new(kinds_n: usize) -> Self {
        Self { counted: vec![Counts::default(); kinds_n], ..Self::default() }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (into, from) in self.counted.iter_mut().zip(&other.counted) {
            into.add(from);
        }
        self.uncounted.add(&other.uncounted);
        self.lag.add(&other.lag);
    }

    /// All kinds in one.
    pub(super) fn counted_sum(&self) -> Counts {
        let mut sum = Counts::default();
        for counts in &self.counted {
            sum.add(counts);
        }
        sum
    }
}

impl Shared {
    pub(super) fn new(kinds_n: usize) -> Self {
        Self(Mutex::new(Window::new(kinds_n)))
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, outcome: Outcome<'_>) {
        let mut window = self.lock();
        if outcome.is_counted {
            if let Some(counts) = window.counted.get_mut(outcome.kind) {
                counts.record(outcome);
            }
        } else {
            window.uncounted.record(outcome);
        }
    }

    pub(super) fn lag(&self, lag: Duration) {
        self.lock().lag.record(lag);
    }

    /// Takes what there is, and leaves an empty window.
    pub(super) fn take(&self) -> Window {
        let mut window = self.lock();
        let empty = Window::new(window.counted.len());
        std::mem::replace(&mut *window, empty)
    }
}
