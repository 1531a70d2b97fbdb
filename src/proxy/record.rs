//! The guard that owns a request's usage row: every path out of the request writes exactly one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::control::snapshot::{Deployment, KeyRecord, Target};
use crate::dialect::Endpoint;
use crate::price;
use crate::proxy::limits::Governed;
use crate::telemetry::metrics::Metrics;
use crate::usage::record::{
    AttemptRow, CacheUse, Outcome, RowTarget, Timings, Tokens, UsageRow, UsageSource,
};
use crate::usage::store::UsageSink;

/// Writes one row when it is finished, or when it is dropped: a panic unwinds through here.
pub struct Recorder {
    /// `None` once the row is written.
    row: Option<Box<UsageRow>>,
    began: Instant,
    /// Spent waiting for the client or a provider.
    waited: Duration,
    /// Of the target that answered, to price the row.
    target: Option<Arc<Target>>,
    /// What it holds of its limits; `None` when it has none.
    pub(super) governed: Option<Box<Governed>>,
    is_begun: bool,
    sink: UsageSink,
    metrics: Arc<Metrics>,
}

/// What is known of a request before its key is.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub request_id: Uuid,
    pub began: Instant,
    pub started_at_us: i64,
    pub source_ip: Option<IpAddr>,
    pub endpoint: Endpoint,
}

/// How the request ended, as the client saw it.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    pub outcome: Outcome,
    pub status: u16,
    pub error_class: Option<&'static str>,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Recorder {
    pub fn new(arrival: Arrival, key: &KeyRecord, sink: UsageSink, metrics: Arc<Metrics>) -> Self {
        let row = UsageRow {
            request_id: arrival.request_id,
            client_request_id: None,
            upstream_request_id: None,
            correlation_id: None,
            started_at_us: arrival.started_at_us,
            caller: Arc::clone(&key.caller),
            endpoint: arrival.endpoint,
            dialect: arrival.endpoint.dialect(),
            requested_model: Box::default(),
            deployment: None,
            target: None,
            is_stream: false,
            status: 500,
            outcome: Outcome::GatewayError,
            error_class: Some("internal_error"),
            is_degraded: false,
            cache: None,
            usage_source: UsageSource::None,
            tokens: Tokens::default(),
            cost_nanousd: None,
            saved_nanousd: 0,
            price_version: None,
            timings: Timings::default(),
            request_bytes: 0,
            response_bytes: 0,
            source_ip: arrival.source_ip,
            end_user: None,
            metadata: key.metadata_defaults.clone(),
            attempts: Vec::new(),
            retention_days: None,
        };
        Self {
            row: Some(Box::new(row)),
            began: arrival.began,
            waited: Duration::ZERO,
            target: None,
            governed: None,
            is_begun: false,
            sink,
            metrics,
        }
    }

    /// The row, to fill in. Nothing is lost by a call after the end: there is no row any more.
    pub fn note(&mut self, fill: impl FnOnce(&mut UsageRow)) {
        if let Some(row) = &mut self.row {
            fill(row);
        }
    }

    pub(super) fn row(&self) -> Option<&UsageRow> {
        self.row.as_deref()
    }

    /// What the response cache did, as its header says it.
    pub fn cache(&self) -> &'static str {
        let used = self.row.as_ref().and_then(|row| row.cache);
        used.map_or("bypass", CacheUse::name)
    }

    pub fn waited(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// Microseconds since the request began.
    pub fn micros_at(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.began))
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    /// Attempts that are in the row.
    pub fn n_attempts(&self) -> u64 {
        self.row.as_ref().map_or(0, |row| row.attempts.len() as u64)
    }

    pub fn deployment(&mut self, deployment: &Deployment) {
        self.note(|row| {
            row.deployment = deployment.id.map(|id| (id, Arc::clone(&deployment.name)));
        });
    }

    /// An attempt ended, or its head has arrived.
    pub fn attempt(&mut self, target: &Arc<Target>, attempt: AttemptRow) {
        self.target = Some(Arc::clone(target));
        self.note(|row| {
            row.target = Some(Arc::clone(&target.row));
            row.attempts.push(attempt);
        });
    }

    /// The request goes upstream: from here on it leaves a row even if the process ends first.
    pub fn begin(&mut self, target: &Arc<RowTarget>, started_us: u64) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        let Some(row) = &mut self.row else { return };
        let ending = (row.outcome, row.error_class, row.target.take());
        (row.outcome, row.error_class) = (Outcome::GatewayCrashed, Some("gateway_crashed"));
        row.target = Some(Arc::clone(target));
        row.attempts.push(AttemptRow {
            target: Arc::clone(target),
            status: None,
            error_class: Some("gateway_crashed"),
            is_maybe_billed: true,
            started_us,
            headers_us: None,
            first_token_us: None,
            total_us: 0,
        });
        self.sink.begin(row);
        row.attempts.pop();
        (row.outcome, row.error_class, row.target) = ending;
    }

    /// Writes the row.
    pub fn finish(mut self, ending: Ending) {
        self.note(|row| {
            row.outcome = ending.outcome;
            row.status = ending.status;
            row.error_class = ending.error_class;
        });
        self.write();
    }

    fn write(&mut self) {
        let Some(mut row) = self.row.take() else { return };
        let total = self.began.elapsed();
        row.timings.total_us = micros(total);
        row.timings.overhead_us = micros(total.saturating_sub(self.waited));
        if let Some(priced) = self.target.as_ref().and_then(|target| target.price.as_ref()) {
            row.cost_nanousd = price::cost(&priced.price, &row.tokens);
            row.price_version = Some(Arc::clone(&priced.version));
        }
        if let Some(governed) = self.governed.take() {
            governed.settle(&row);
        }
        self.metrics.count_row(&row);
        self.sink.record(&row);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.write();
    }
}
