//! What a run came to, for people and for scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::failure::Class;
use super::series::Point;
use super::server::Usage;
use super::stats::{Counts, Times, Window};
use crate::scenario::Scenario;

mod html;
mod limits;
mod text;

pub use limits::Verdict;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of the load test.
    pub loadtest: &'static str,
    pub url: String,
    /// Seconds since 1970.
    pub started_at: u64,
    /// Of the counted phases: from when the first request was due to the end of the last.
    pub elapsed_s: f64,
    #[serde(flatten)]
    pub total: Summary,
    pub kinds: Vec<Kind>,
    pub uncounted_requests: u64,
    pub uncounted_failures: BTreeMap<String, u64>,
    pub generator: Generator,
    pub server: Option<Server>,
    pub limits: Vec<Verdict>,
    pub outcome: Outcome,
    pub series: Vec<Point>,
    pub scenario: Scenario,
}

/// One kind of the mix.
#[derive(Debug, Clone, Serialize)]
pub struct Kind {
    pub name: String,
    #[serde(flatten)]
    pub summary: Summary,
}

#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Right answers and failures.
    pub requests: u64,
    /// Failures of every class.
    pub errors: u64,
    pub truncated: u64,
    pub wrong: u64,
    pub failures: BTreeMap<String, u64>,
    /// Right answers a second.
    pub requests_per_s: f64,
    /// Streams that had a content event.
    pub streams: u64,
    /// Of the answers' bodies.
    pub bytes: u64,
    /// From when a request was due to the last byte of its answer.
    pub latency_us: Option<Percentiles>,
    /// From when a request was due to the first content event.
    pub first_event_us: Option<Percentiles>,
    /// Between content events.
    pub gap_us: Option<Percentiles>,
    /// The same, less the pause of the mock's script.
    pub gap_added_us: Option<Percentiles>,
    /// Share of the content events that came together with the one before, against the script.
    pub coalesced_rate: Option<f64>,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    pub n: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    #[serde(rename = "p99.99")]
    pub p99_99: f64,
    pub max: f64,
}

/// How the generator itself did.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Generator {
    pub cpu_us_per_request: f64,
    /// How late requests went out that had a client at hand.
    pub lag_us: Option<Percentiles>,
    /// Clients there were.
    pub clients: usize,
    /// Most requests that waited for a client.
    pub waiting_most: usize,
}

/// What the server's processes used, over the counted phases.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Server {
    pub before: Usage,
    pub after: Usage,
    pub rss_kib_max: u64,
    /// Slope of a line through all looks, when there are enough.
    pub rss_mib_per_hour: Option<f64>,
    pub cpu_us_per_request: f64,
}

/// How a run ended; its number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed = 0,
    /// A limit on times, errors, throughput or memory is broken.
    LimitBroken = 3,
    /// Answers were truncated, changed, reordered or held together.
    WrongAnswers = 4,
    /// The generator was too late: the figures are its own.
    GeneratorLate = 5,
    Interrupted = 6,
}

/// What a report is made from.
pub(super) struct Gathered {
    pub(super) scenario: Scenario,
    pub(super) url: String,
    pub(super) started_at: u64,
    pub(super) window: Window,
    pub(super) generator: Generator,
    pub(super) server: Option<Server>,
    pub(super) series: Vec<Point>,
    pub(super) is_interrupted: bool,
}

impl Gathered {
    pub(super) fn report(self) -> Report {
        let Self { scenario, url, started_at, window, server, series, .. } = self;
        let sum = window.counted_sum();
        let elapsed = elapsed(&sum);
        let generator = Generator { lag_us: Percentiles::of(&window.lag), ..self.generator };
        let limits = limits::verdicts(&scenario.limits, &sum, &window.lag, server.as_ref());
        let names = scenario.mix.iter().map(|mix| mix.name.clone());
        let kinds = names
            .zip(&window.counted)
            .map(|(name, counts)| Kind { name, summary: Summary::of(counts, elapsed) });
        Report {
            loadtest: env!("CARGO_PKG_VERSION"),
            url,
            started_at,
            elapsed_s: elapsed.as_secs_f64(),
            total: Summary::of(&sum, elapsed),
            kinds: kinds.collect(),
            uncounted_requests: window.uncounted.requests(),
            uncounted_failures: named(&window.uncounted),
            generator,
            server,
            outcome: limits::outcome(&limits, self.is_interrupted),
            limits,
            series,
            scenario,
        }
    }
}

pub(super) fn elapsed(counts: &Counts) -> Duration {
    counts.span.map_or(Duration::ZERO, |(since, until)| until.saturating_duration_since(since))
}

fn named(counts: &Counts) -> BTreeMap<String, u64> {
    counts.failures.iter().map(|(failure, n)| (failure.to_string(), *n)).collect()
}

impl Summary {
    fn of(counts: &Counts, elapsed: Duration) -> Self {
        Self {
            requests: counts.requests(),
            errors: counts.failures_n(),
            truncated: counts.failures_of(Class::Truncated),
            wrong: counts.failures_of(Class::Wrong),
            failures: named(counts),
            requests_per_s: per_second(counts.successes, elapsed),
            streams: counts.streams,
            bytes: counts.bytes,
            latency_us: Percentiles::of(&counts.latency),
            first_event_us: Percentiles::of(&counts.first_event),
            gap_us: Percentiles::of(&counts.gap),
            gap_added_us: Percentiles::of(&counts.gap_added),
            coalesced_rate: (counts.paced > 0).then(|| share(counts.together, counts.paced)),
        }
    }
}

impl Percentiles {
    pub(super) fn of(times: &Times) -> Option<Self> {
        let histogram = times.histogram().filter(|histogram| !histogram.is_empty())?;
        let at = |quantile| at(histogram, quantile);
        Some(Self {
            n: histogram.len(),
            mean: to_us(histogram.mean()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: at(1.0),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "durations of a run fit")]
fn at(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    to_us(histogram.value_at_quantile(quantile) as f64)
}

fn to_us(nanoseconds: f64) -> f64 {
    (nanoseconds / 100.0).round() / 10.0
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests fit")]
pub(super) fn per_second(n: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { (n as f64 / elapsed.as_secs_f64() * 10.0).round() / 10.0 }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests fit")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
