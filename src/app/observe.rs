//! What the admin listener shows of the running parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::admin::{AdminError, AdminState, Desk, Readiness, ReadyStatus, UsageApi};
use crate::app::limits::{self, Owner};
use crate::app::probe::Prober;
use crate::cache::Cache;
use crate::clock::{Clock, Millis};
use crate::config::server::{UsageConfig, UsageUrl};
use crate::control::State;
use crate::control::edit::EditError;
use crate::control::limits::Registry;
use crate::control::live::lock;
use crate::control::rules::{Trial, explain};
use crate::control::snapshot::{Deployment, Environment, Target};
use crate::proxy::flow::Flow;
use crate::proxy::limits::now;
use crate::route::breaker;
use crate::telemetry::log::LogHandle;
use crate::telemetry::metrics::{BreakerSample, BreakerState, Metrics, Sources, UsageTotals};
use crate::usage::address::Address;
use crate::usage::query::{Extent, Reading, RowsKept, Servers, Visible};
use crate::usage::store::UsageSink;

/// The parts that are looked at.
#[derive(Clone)]
pub(super) struct Observed {
    pub(super) cache: Arc<Cache>,
    pub(super) state: Arc<State>,
    pub(super) flow: Arc<Flow>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) usage: UsageSink,
    pub(super) log: Option<Arc<LogHandle>>,
    pub(super) limits: Arc<Registry>,
    pub(super) clock: Clock,
    pub(super) state_answers: Arc<AtomicBool>,
    pub(super) prober: Arc<Prober>,
}

impl Observed {
    /// For the admin listener; a scrape finds the same parts.
    pub(super) fn admin_state(self, desk: Desk, usage: &UsageConfig) -> AdminState {
        self.metrics.set_sources(self.sources());
        let metrics = Arc::clone(&self.metrics);
        let state = Arc::clone(&self.state);
        let (of_cache, kept) = (Arc::clone(&self.state), Arc::clone(&self.cache));
        let (of_rules, rules_clock) = (Arc::clone(&self.state), self.clock.clone());
        let (of_limits, clock) = (Arc::clone(&self.state), self.clock.clone());
        let (prober, sign_on) = (Arc::clone(&self.prober), self.prober.sign_on());
        let usage = self.usage_api(usage);
        AdminState {
            desk,
            metrics: Arc::new(move || metrics.render()),
            readiness: Arc::new(move || self.readiness()),
            deployment_health: Arc::new(move |workspace, environment, deployment| {
                Ok(health(&state, workspace, environment, deployment))
            }),
            limit_usage: Arc::new(move |kind, place| {
                let owner = match kind {
                    "keys" => Owner::Key,
                    "deployments" => Owner::Deployment,
                    "models" => Owner::Model,
                    "connections" => Owner::Connection,
                    _ => return Ok(None),
                };
                Ok(limits::usage(&of_limits, owner, place, now(&clock)))
            }),
            cache_purge: Arc::new(move |place, deployment| {
                purge(&of_cache, &kept, place, deployment)
            }),
            rules_trial: Arc::new(move |place, trial| {
                trial_of(&of_rules, place, trial, &rules_clock)
            }),
            probe: Arc::new(move |connection, probe| prober.probe(connection, probe)),
            sign_on,
            usage,
        }
    }

    fn usage_api(&self, usage: &UsageConfig) -> UsageApi {
        let state = Arc::clone(&self.state);
        let workspace = move |name: &str| {
            let snapshot = state.snapshot.load();
            let mut environments = snapshot.environments.values();
            let names = environments.find_map(|environment| {
                let names = &environment.workspace_names;
                names.iter().any(|known| **known == *name).then_some(names)
            })?;
            names.iter().find_map(|name| name.parse().ok())
        };
        UsageApi {
            reading: reading(usage, &self.state),
            sink: Some(self.usage.clone()),
            workspace: Arc::new(workspace),
            clock: self.clock.clone(),
        }
    }

    fn readiness(&self) -> Readiness {
        let status =
            if self.flow.is_draining() { ReadyStatus::Draining } else { ReadyStatus::Ready };
        let mut checks = Map::new();
        checks.insert("keys".to_owned(), json!(self.state.keys.len()));
        checks.insert("in_flight".to_owned(), json!(self.flow.in_flight()));
        checks.insert("usage_queue_rows".to_owned(), json!(self.usage.queue_depth()));
        // Requests go on without it: this is said, and changes nothing else.
        let is_read = self.state_answers.load(Ordering::Relaxed);
        checks.insert("state".to_owned(), json!(if is_read { "ok" } else { "unavailable" }));
        Readiness { status, checks }
    }

    /// Where a scrape finds what the metrics do not count themselves.
    fn sources(&self) -> Sources {
        let state = Arc::clone(&self.state);
        let flow = Arc::clone(&self.flow);
        let (usage, clock) = (self.usage.clone(), self.clock.clone());
        let log = self.log.clone();
        let limits = Arc::clone(&self.limits);
        let cache = Arc::clone(&self.cache);
        let answers = Arc::clone(&self.state_answers);
        Sources {
            is_state_read: Some(Box::new(move || answers.load(Ordering::Relaxed))),
            breakers: Some(Box::new(move || breakers(&state))),
            usage: Some(Box::new(move || totals(&usage, &clock))),
            log_lines_dropped: log.map(|log| {
                Box::new(move || log.lines_dropped()) as Box<dyn Fn() -> u64 + Send + Sync>
            }),
            is_ready: Some(Box::new(move || !flow.is_draining())),
            cache: Some(Box::new(move || [cache.n_entries(), cache.n_bytes()])),
            limit_values_shared: Some(Box::new(move || {
                limits.stats().full.load(Ordering::Relaxed)
            })),
        }
    }
}

/// `None` for a store that cannot be read.
fn reading(usage: &UsageConfig, state: &Arc<State>) -> Option<Reading> {
    let (usual_days, state) = (u64::from(usage.retention_days), Arc::clone(state));
    let rows_kept = RowsKept::new(move |visible| {
        let days = days_kept(&state, visible, usual_days);
        (days > 0).then(|| Duration::from_secs(days * 86_400))
    });
    match &usage.url {
        UsageUrl::Sqlite(path) => Some(Reading::sqlite(path.clone(), rows_kept)),
        UsageUrl::ClickHouse(url) => {
            let address = Address::parse(url).ok()?;
            Some(Reading::clickhouse(Servers::new(address.clients), rows_kept))
        }
    }
}

/// The least that a workspace keeps its rows.
fn days_kept(state: &State, visible: &Visible, usual_days: u64) -> u64 {
    let snapshot = state.snapshot.load();
    let is_visible = |workspace: &Uuid| {
        let is_it = |extent: &Extent| extent.workspace == *workspace;
        visible.as_ref().is_none_or(|extents| extents.iter().any(is_it))
    };
    let of_workspaces = snapshot
        .environments
        .values()
        .filter(|environment| is_visible(&environment.caller.workspace.0))
        .filter_map(|environment| environment.settings.retention_days)
        .map(u64::from);
    of_workspaces.fold(usual_days, u64::min)
}

#[expect(clippy::cast_precision_loss, reason = "an age for people to read")]
fn totals(usage: &UsageSink, clock: &Clock) -> UsageTotals {
    let totals = usage.totals();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let age_us = usage.oldest_us().map_or(0, |at| clock.unix_micros().saturating_sub(at).max(0));
    UsageTotals {
        rows: vec![
            ("accepted", count(&totals.accepted)),
            ("recovered", count(&totals.recovered)),
            ("inserted", count(&totals.inserted)),
            ("unmetered", count(&totals.unmetered)),
            ("dead", count(&totals.dead)),
            ("dropped", count(&totals.dropped_oldest)),
        ],
        inserts: vec![
            ("ok", count(&totals.inserts)),
            ("failed", count(&totals.inserts_failed)),
            ("refused", count(&totals.inserts_refused)),
        ],
        insert_retries: count(&totals.retries),
        queue_rows: usage.queue_depth() as u64,
        spool_bytes: usage.spool_bytes(),
        oldest_age_seconds: age_us as f64 / 1e6,
        is_spool_full: usage.is_full(),
        damaged: count(&totals.damaged),
        damaged_rows: count(&totals.damaged_rows),
        segments_missing: count(&totals.segments_missing),
        crashed: count(&totals.crashed),
        payloads: vec![
            ("kept", count(&usage.payload_totals().kept)),
            ("dropped", count(&usage.payload_totals().dropped)),
        ],
        shed: count(&totals.shed),
    }
}

fn breakers(state: &State) -> Vec<BreakerSample> {
    let snapshot = state.snapshot.load();
    let now = Millis::now();
    let environments = snapshot.environments.values();
    let samples = |environment: &Arc<Environment>| {
        let environment = Arc::clone(environment);
        let deployments: Vec<Arc<Deployment>> =
            environment.deployments.values().map(Arc::clone).collect();
        deployments.into_iter().flat_map(move |deployment| {
            let environment = Arc::clone(&environment);
            let name = Arc::clone(&deployment.name);
            deployment
                .targets
                .iter()
                .map(|target| sample(&environment, &name, target, now))
                .collect::<Vec<_>>()
        })
    };
    environments.flat_map(samples).collect()
}

fn sample(
    environment: &Environment,
    deployment: &Arc<str>,
    target: &Target,
    now: Millis,
) -> BreakerSample {
    let state = match lock(&target.live.breaker).state(now) {
        breaker::State::Closed => BreakerState::Closed,
        breaker::State::HalfOpen => BreakerState::HalfOpen,
        breaker::State::Open { .. } => BreakerState::Open,
    };
    let [workspace, _] = &environment.workspace_names;
    let [slug, _] = &environment.environment_names;
    BreakerSample {
        workspace: Arc::from(&**workspace),
        environment: Arc::from(&**slug),
        deployment: Arc::clone(deployment),
        target: Arc::clone(&target.name),
        state,
    }
}

/// Drops what is kept of an environment, or of a deployment of it.
fn purge(
    state: &State,
    cache: &Cache,
    (workspace, environment): (&str, &str),
    deployment: Option<&str>,
) -> Result<Option<Value>, AdminError> {
    let snapshot = state.snapshot.load();
    let mut environments = snapshot.environments.values();
    let Some(found) = environments.find(|it| it.is_named(workspace, environment)) else {
        return Ok(None);
    };
    let n_here = cache.purge(found.id, deployment);
    let Some(remote) = cache.remote() else { return Ok(Some(json!({ "purged": n_here }))) };
    // This is called where it may block.
    let purged = Handle::current().block_on(remote.purge(found.id, deployment));
    purged.map_err(|_| AdminError::Unavailable)?;
    Ok(Some(json!({ "purged": null })))
}

/// What the rules would do with a request.
fn trial_of(
    state: &State,
    (workspace, environment): (&str, &str),
    trial: &Trial,
    clock: &Clock,
) -> Result<Option<Value>, AdminError> {
    let snapshot = state.snapshot.load();
    let mut environments = snapshot.environments.values();
    let found = environments.find(|it| it.is_named(workspace, environment));
    let Some(found) = found else { return Ok(None) };
    let key = state.keys.find(|key| {
        key.environment == found.id && key.caller.key_name.as_deref() == Some(&*trial.key)
    });
    let limits = key.as_ref().and_then(|key| key.limits.as_deref());
    let explained = explain(found, trial, (limits, now(clock)));
    explained.map(Some).map_err(|error| EditError::invalid("body.model", error.to_string()).into())
}

/// The targets of one deployment as they stand.
fn health(state: &State, workspace: &str, environment: &str, deployment: &str) -> Option<Value> {
    let snapshot = state.snapshot.load();
    let found = snapshot
        .environments
        .values()
        .find(|candidate| candidate.is_named(workspace, environment))?;
    let deployment = found
        .deployments
        .iter()
        .find(|(name, built)| {
            &***name == deployment || built.id.is_some_and(|id| id.to_string() == deployment)
        })
        .map(|(_, built)| built)?;
    let now = Millis::now();
    let targets: Vec<Value> =
        deployment.targets.iter().map(|target| target_health(target, now)).collect();
    Some(json!({
        "id": deployment.id.map(|id| id.to_string()),
        "name": &*deployment.name,
        "targets": targets,
    }))
}

fn target_health(target: &Target, now: Millis) -> Value {
    let breaker = lock(&target.live.breaker).state(now);
    let (state, ejected_for) = match breaker {
        breaker::State::Closed => ("closed", None),
        breaker::State::HalfOpen => ("half_open", None),
        breaker::State::Open { until } => ("open", Some(until.since(now))),
    };
    let benched_for = target.connection.live.benched_until(now).map(|until| until.since(now));
    let is_up = target.connection.health.as_ref().map(|health| health.is_up());
    json!({
        "id": target.id.to_string(),
        "name": &*target.name,
        "connection": &*target.connection.name,
        "weight": target.weight,
        "tier": target.tier,
        "state": state,
        "ejected_for_ms": ejected_for.map(|left| left.as_millis()),
        "benched_for_ms": benched_for.map(|left| left.as_millis()),
        "health_check": is_up.map(|is_up| if is_up { "up" } else { "down" }),
        "last_error": *lock(&target.live.last_error),
        "in_flight": target.live.in_flight.load(Ordering::Relaxed),
        "ewma_latency_us": lock(&target.live.latency).micros(now),
    })
}
