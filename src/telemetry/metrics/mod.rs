//! What is counted, and the page that Prometheus scrapes.
//!
//! The request path only adds to atomics that it finds by an enum's index. What others count is asked
//! for at each scrape, through [`Sources`].
//!
//! ```text
//! names    every metric: name, kind, labels, meaning
//! labels   the closed set of values of each label
//! cells    counters, gauges, histograms
//! process  figures of /proc/self
//! page     the exposition format
//! ```

mod cells;
mod labels;
pub mod names;
mod page;
mod process;

use std::fmt;
use std::sync::{Arc, OnceLock};

pub use cells::{Counter, Counters, Gauge, Grid, Held, Histogram, Histograms, Label};
pub use labels::{
    AttemptResult, CacheResult, LookupResult, Malformed, ProviderLabel, RefusedConnection,
    RefusedKey, ReloadResult, RuleAction, RuleError, SharedResult, TokenKind,
};

use crate::dialect::Dialect;
use crate::limit::{Level, Metric};
use crate::usage::record::{Outcome, Tokens, UsageRow};
use page::Page;
use process::Process;

/// From 5 ms to 10 min.
static DURATION_BOUNDS_US: [u64; 16] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
];
/// From 20 µs to 100 ms.
static OVERHEAD_BOUNDS_US: [u64; 15] =
    [20, 30, 40, 60, 80, 100, 150, 200, 300, 500, 1_000, 2_500, 5_000, 20_000, 100_000];
/// From 10 ms to 2 min.
static FIRST_TOKEN_BOUNDS_US: [u64; 13] = [
    10_000,
    25_000,
    50_000,
    100_000,
    200_000,
    400_000,
    800_000,
    1_500_000,
    3_000_000,
    6_000_000,
    15_000_000,
    60_000_000,
    120_000_000,
];

/// Everything the process counts itself.
#[derive(Debug)]
pub struct Metrics {
    pub requests: Grid<Dialect, Outcome>,
    pub request_duration: Histograms<Dialect>,
    pub overhead: Histogram,
    pub time_to_first_token: Histogram,
    pub in_flight: Gauge,
    pub connections: Gauge,
    pub connections_refused: Counters<RefusedConnection>,
    pub malformed_requests: Counters<Malformed>,
    pub refused_keys: Counters<RefusedKey>,
    pub client_closed: Counter,
    pub panics: Counter,
    pub attempts: Grid<ProviderLabel, AttemptResult>,
    pub failovers: Counter,
    pub retries: Counter,
    pub retry_budget_exhausted: Counter,
    pub connection_benched: Counters<ProviderLabel>,
    pub limit_refusals: Grid<Level, Metric>,
    pub cache_requests: Counters<CacheResult>,
    pub cache_store_up: Gauge,
    pub rules_taken: Counters<RuleAction>,
    pub rule_errors: Counters<RuleError>,
    pub shared_reservations: Counters<SharedResult>,
    pub shared_up: Gauge,
    pub shared_settlements_lost: Counter,
    pub tokens: Counters<TokenKind>,
    pub reloads: Counters<ReloadResult>,
    pub dns_lookups: Counters<LookupResult>,
    sources: OnceLock<Sources>,
}

/// Where a scrape asks for what other parts of the process know. What is `None` is not on the page.
#[derive(Default)]
pub struct Sources {
    pub breakers: Option<Source<Vec<BreakerSample>>>,
    pub usage: Option<Source<UsageTotals>>,
    pub log_lines_dropped: Option<Source<u64>>,
    pub is_ready: Option<Source<bool>>,
    pub is_state_read: Option<Source<bool>>,
    pub limit_values_shared: Option<Source<u64>>,
    /// Entries and bytes of the response cache.
    pub cache: Option<Source<[u64; 2]>>,
}

pub type Source<T> = Box<dyn Fn() -> T + Send + Sync>;

impl fmt::Debug for Sources {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Sources")
    }
}

/// One target's breaker at the moment of a scrape.
#[derive(Debug, Clone)]
pub struct BreakerSample {
    pub workspace: Arc<str>,
    pub environment: Arc<str>,
    pub deployment: Arc<str>,
    pub target: Arc<str>,
    pub state: BreakerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

/// The account of the usage rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UsageTotals {
    /// By what became of them, as `sluice_usage_rows_total` has it.
    pub rows: Vec<(&'static str, u64)>,
    /// By what the store answered, as `sluice_usage_inserts_total` has it.
    pub inserts: Vec<(&'static str, u64)>,
    pub insert_retries: u64,
    pub queue_rows: u64,
    pub spool_bytes: u64,
    /// Of the oldest row that is being sent.
    pub oldest_age_seconds: f64,
    pub is_spool_full: bool,
    pub damaged: u64,
    pub damaged_rows: u64,
    pub segments_missing: u64,
    pub crashed: u64,
    /// Bodies of requests by what became of them, as `sluice_payloads_total` has it.
    pub payloads: Vec<(&'static str, u64)>,
    pub shed: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Grid::new(),
            request_duration: Histograms::new(&DURATION_BOUNDS_US),
            overhead: Histogram::new(&OVERHEAD_BOUNDS_US),
            time_to_first_token: Histogram::new(&FIRST_TOKEN_BOUNDS_US),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            connections_refused: Counters::new(),
            malformed_requests: Counters::new(),
            refused_keys: Counters::new(),
            client_closed: Counter::default(),
            panics: Counter::default(),
            attempts: Grid::new(),
            failovers: Counter::default(),
            retries: Counter::default(),
            retry_budget_exhausted: Counter::default(),
            connection_benched: Counters::new(),
            limit_refusals: Grid::new(),
            cache_requests: Counters::new(),
            cache_store_up: Gauge::default(),
            rules_taken: Counters::new(),
            rule_errors: Counters::new(),
            shared_reservations: Counters::new(),
            shared_up: Gauge::default(),
            shared_settlements_lost: Counter::default(),
            tokens: Counters::new(),
            reloads: Counters::new(),
            dns_lookups: Counters::new(),
            sources: OnceLock::new(),
        }
    }
}

impl Metrics {
    /// Says where a scrape finds the rest. Once; a second call changes nothing.
    pub fn set_sources(&self, sources: Sources) {
        self.sources.get_or_init(|| sources);
    }

    /// Counts a request that ended, from its row.
    pub fn count_row(&self, row: &UsageRow) {
        self.requests.inc(row.dialect, row.outcome);
        self.request_duration.observe_us(row.dialect, row.timings.total_us);
        self.overhead.observe_us(row.timings.overhead_us);
        if let Some(first_token_us) = row.timings.first_token_us {
            self.time_to_first_token.observe_us(first_token_us);
        }
        if row.outcome == Outcome::ClientClosed {
            self.client_closed.inc();
        }
        self.count_tokens(&row.tokens);
    }

    fn count_tokens(&self, tokens: &Tokens) {
        let kinds = [
            (TokenKind::InputUncached, tokens.input_uncached),
            (TokenKind::InputCacheRead, tokens.input_cache_read),
            (TokenKind::InputCacheWrite5m, tokens.input_cache_write_5m),
            (TokenKind::InputCacheWrite1h, tokens.input_cache_write_1h),
            (TokenKind::Output, tokens.output),
            (TokenKind::Reasoning, tokens.reasoning),
            (TokenKind::AudioIn, tokens.audio_in),
            (TokenKind::AudioOut, tokens.audio_out),
        ];
        for (kind, count) in kinds {
            if let Some(count @ 1..) = count {
                self.tokens.add(kind, count);
            }
        }
    }

    /// The page of a scrape. Reads `/proc` and asks the sources: not for the request path.
    pub fn render(&self) -> String {
        let mut page = Page::default();
        self.render_requests(&mut page);
        self.render_attempts(&mut page);
        if let Some(sources) = self.sources.get() {
            render_sources(&mut page, sources);
        }
        page.family(&names::BUILD_INFO);
        page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        render_process(&mut page, &Process::read());
        page.into_text()
    }

    fn render_requests(&self, page: &mut Page) {
        page.family(&names::REQUESTS);
        for dialect in Dialect::ALL {
            for outcome in Outcome::ALL {
                let labels = [("dialect", dialect.name()), ("outcome", outcome.name())];
                page.sample(&labels, self.requests.get(dialect, outcome));
            }
        }
        page.family(&names::REQUEST_DURATION);
        for dialect in Dialect::ALL {
            if let Some(histogram) = self.request_duration.get(dialect) {
                page.histogram(&[("dialect", dialect.name())], histogram);
            }
        }
        page.family(&names::OVERHEAD);
        page.histogram(&[], &self.overhead);
        page.family(&names::TIME_TO_FIRST_TOKEN);
        page.histogram(&[], &self.time_to_first_token);
        page.single(&names::IN_FLIGHT, self.in_flight.get());
        page.single(&names::CONNECTIONS, self.connections.get());
        counters(page, &names::CONNECTIONS_REFUSED, &self.connections_refused);
        counters(page, &names::MALFORMED_REQUESTS, &self.malformed_requests);
        counters(page, &names::REFUSED_KEYS, &self.refused_keys);
        page.single(&names::CLIENT_CLOSED, self.client_closed.get());
        page.single(&names::PANICS, self.panics.get());
        counters(page, &names::TOKENS, &self.tokens);
    }

    fn render_attempts(&self, page: &mut Page) {
        page.family(&names::ATTEMPTS);
        for provider in ProviderLabel::all() {
            for result in AttemptResult::all() {
                // Most pairs never occur; one that has occurred stays.
                if let count @ 1.. = self.attempts.get(provider, result) {
                    let labels = [("provider", provider.name()), ("result", result.name())];
                    page.sample(&labels, count);
                }
            }
        }
        page.single(&names::FAILOVERS, self.failovers.get());
        page.single(&names::RETRIES, self.retries.get());
        page.single(&names::RETRY_BUDGET_EXHAUSTED, self.retry_budget_exhausted.get());
        page.family(&names::LIMIT_REFUSALS);
        for level in Level::ALL {
            for metric in Metric::ALL {
                // Most pairs never occur; one that has occurred stays.
                if let count @ 1.. = self.limit_refusals.get(level, metric) {
                    let labels = [("level", level.name()), ("metric", metric.name())];
                    page.sample(&labels, count);
                }
            }
        }
        counters(page, &names::CACHE_REQUESTS, &self.cache_requests);
        page.single(&names::CACHE_STORE_UP, self.cache_store_up.get());
        counters(page, &names::RULES_TAKEN, &self.rules_taken);
        counters(page, &names::RULE_ERRORS, &self.rule_errors);
        counters(page, &names::SHARED_RESERVATIONS, &self.shared_reservations);
        page.single(&names::SHARED_UP, self.shared_up.get());
        page.single(&names::SHARED_SETTLEMENTS_LOST, self.shared_settlements_lost.get());
        counters(page, &names::CONNECTION_BENCHED, &self.connection_benched);
        counters(page, &names::RELOADS, &self.reloads);
        counters(page, &names::DNS_LOOKUPS, &self.dns_lookups);
    }
}

/// A family with one label, whose name the family knows.
fn counters<L: Label>(page: &mut Page, metric: &'static names::Metric, counters: &Counters<L>) {
    page.family(metric);
    for label in L::all() {
        for name in metric.labels {
            page.sample(&[(name, label.name())], counters.get(label));
        }
    }
}

fn render_sources(page: &mut Page, sources: &Sources) {
    if let Some(breakers) = &sources.breakers {
        page.family(&names::BREAKER_STATE);
        for breaker in breakers() {
            let labels = [
                ("workspace", &*breaker.workspace),
                ("environment", &*breaker.environment),
                ("deployment", &*breaker.deployment),
                ("target", &*breaker.target),
            ];
            page.sample(&labels, breaker.state as u8);
        }
    }
    if let Some(usage) = &sources.usage {
        let usage = usage();
        page.family(&names::USAGE_ROWS);
        for (result, rows) in usage.rows {
            page.sample(&[("result", result)], rows);
        }
        page.family(&names::USAGE_INSERTS);
        for (result, inserts) in usage.inserts {
            page.sample(&[("result", result)], inserts);
        }
        page.single(&names::USAGE_INSERT_RETRIES, usage.insert_retries);
        page.single(&names::USAGE_QUEUE_ROWS, usage.queue_rows);
        page.single(&names::USAGE_SPOOL_BYTES, usage.spool_bytes);
        page.single(&names::USAGE_OLDEST_AGE, usage.oldest_age_seconds);
        page.single(&names::USAGE_SPOOL_FULL, u8::from(usage.is_spool_full));
        page.single(&names::USAGE_SHED, usage.shed);
        page.single(&names::USAGE_CRASHED, usage.crashed);
        page.single(&names::USAGE_SPOOL_DAMAGED, usage.damaged);
        page.single(&names::USAGE_SPOOL_DAMAGED_ROWS, usage.damaged_rows);
        page.single(&names::USAGE_SEGMENTS_MISSING, usage.segments_missing);
        page.family(&names::PAYLOADS);
        for (result, payloads) in usage.payloads {
            page.sample(&[("result", result)], payloads);
        }
    }
    if let Some(cache) = &sources.cache {
        let [entries, bytes] = cache();
        page.single(&names::CACHE_ENTRIES, entries);
        page.single(&names::CACHE_BYTES, bytes);
    }
    if let Some(shared) = &sources.limit_values_shared {
        page.single(&names::LIMIT_VALUES_SHARED, shared());
    }
    if let Some(dropped) = &sources.log_lines_dropped {
        page.single(&names::LOG_LINES_DROPPED, dropped());
    }
    if let Some(is_ready) = &sources.is_ready {
        page.single(&names::READY, u8::from(is_ready()));
    }
    if let Some(is_read) = &sources.is_state_read {
        page.single(&names::STATE_STORE_UP, u8::from(is_read()));
    }
}

fn render_process(page: &mut Page, process: &Process) {
    if let Some(seconds) = process.cpu_seconds {
        page.single(&names::PROCESS_CPU, seconds);
    }
    if let Some(bytes) = process.resident_bytes {
        page.single(&names::PROCESS_RESIDENT, bytes);
    }
    if let Some(threads) = process.threads {
        page.single(&names::PROCESS_THREADS, threads);
    }
    if let Some(fds) = process.fds {
        page.single(&names::PROCESS_FDS, fds);
    }
    if let Some(fds_max) = process.fds_max {
        page.single(&names::PROCESS_FDS_MAX, fds_max);
    }
}

#[cfg(test)]
mod tests;
