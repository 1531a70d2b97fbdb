//! Numbers of a run, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::{Failure, Seen};
use super::workload::PACE;

/// What one thread counted.
pub(super) struct Counts {
    latency: Histogram<u64>,
    first_event: Histogram<u64>,
    gap: Histogram<u64>,
    gap_added: Histogram<u64>,
    failures: BTreeMap<Failure, u64>,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self {
            latency: histogram(),
            first_event: histogram(),
            gap: histogram(),
            gap_added: histogram(),
            failures: BTreeMap::new(),
        }
    }

    pub(super) fn success(&mut self, latency: Duration, first: Option<Duration>, seen: &Seen) {
        record(&mut self.latency, latency);
        if let Some(first) = first {
            record(&mut self.first_event, first);
        }
        for gap in &seen.gaps {
            record(&mut self.gap, *gap);
            record(&mut self.gap_added, gap.saturating_sub(PACE));
        }
    }

    pub(super) fn failure(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (into, from) in [
            (&mut self.latency, &other.latency),
            (&mut self.first_event, &other.first_event),
            (&mut self.gap, &other.gap),
            (&mut self.gap_added, &other.gap_added),
        ] {
            into.add(from).expect("all histograms have the same bounds");
        }
        for (failure, n) in &other.failures {
            *self.failures.entry(failure.clone()).or_default() += n;
        }
    }

    pub(super) fn report(&self, head: Heading, elapsed: Duration) -> Report {
        let successes = self.latency.len();
        let errors: u64 = self.failures.values().sum();
        let failures = self.failures.iter().map(|(failure, n)| (failure.to_string(), *n));
        Report {
            heading: head,
            requests: successes + errors,
            errors,
            failures: failures.collect(),
            elapsed_s: elapsed.as_secs_f64(),
            requests_per_s: per_second(successes, elapsed),
            latency_us: Percentiles::of(&self.latency),
            first_event_us: Percentiles::of(&self.first_event),
            gap_us: Percentiles::of(&self.gap),
            gap_added_us: Percentiles::of(&self.gap_added),
        }
    }
}

/// From 1 ns to an hour, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("the bounds are in order")
}

fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests fit")]
fn per_second(n: u64, elapsed: Duration) -> f64 {
    (n as f64 / elapsed.as_secs_f64() * 10.0).round() / 10.0
}

/// What was run.
#[derive(Debug, Clone, Serialize)]
pub struct Heading {
    pub workload: &'static str,
    pub url: String,
    pub model: String,
    pub concurrency: usize,
    /// Requests a second, of an open loop.
    pub rate: Option<f64>,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Percentiles {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    #[expect(clippy::cast_precision_loss, reason = "durations of a run fit")]
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let us = |nanoseconds: f64| (nanoseconds / 100.0).round() / 10.0;
        let at = |quantile| us(histogram.value_at_quantile(quantile) as f64);
        (!histogram.is_empty()).then(|| Self {
            mean: us(histogram.mean()),
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            max: us(histogram.max() as f64),
        })
    }
}

/// The result of a run. Only right answers are in the percentiles.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub heading: Heading,
    pub requests: u64,
    pub errors: u64,
    /// Errors by kind.
    pub failures: BTreeMap<String, u64>,
    pub elapsed_s: f64,
    /// Right answers a second.
    pub requests_per_s: f64,
    /// From the start of the request to the last byte of the answer.
    pub latency_us: Option<Percentiles>,
    /// From the start of the request to the first content event.
    pub first_event_us: Option<Percentiles>,
    /// Between content events.
    pub gap_us: Option<Percentiles>,
    /// The same, less the 20 ms of a paced stream.
    pub gap_added_us: Option<Percentiles>,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Heading { workload, url, concurrency, .. } = &self.heading;
        writeln!(
            out,
            "{workload} at {url}, concurrency {concurrency}: {} requests in {:.2} s, {} errors, \
             {:.0} requests/s",
            self.requests, self.elapsed_s, self.errors, self.requests_per_s
        )?;
        writeln!(out, "{:14} {:>10} {:>10} {:>10} {:>10}", "us", "p50", "p90", "p99", "max")?;
        let rows = [
            ("latency", &self.latency_us),
            ("first event", &self.first_event_us),
            ("gap", &self.gap_us),
            ("gap added", &self.gap_added_us),
        ];
        for (name, percentiles) in rows {
            if let Some(Percentiles { p50, p90, p99, max, .. }) = percentiles {
                writeln!(out, "{name:14} {p50:>10.1} {p90:>10.1} {p99:>10.1} {max:>10.1}")?;
            }
        }
        for (failure, n) in &self.failures {
            writeln!(out, "{n} × {failure}")?;
        }
        Ok(())
    }
}
