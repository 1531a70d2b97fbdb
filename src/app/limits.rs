//! Limits that outlive the process, and the counters as the admin listener shows them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::server::{LimitsConfig, SharedConfig};
use crate::control::State;
use crate::control::limits::{Counter, Limits, Meter, Registry, SaveError, Saved};
use crate::control::live::lock;
use crate::limit::{Limit, Metric, Mode, Now};
use crate::proxy::limits::now;
use crate::shared::{Shared, SharedError, SharedSettings};
use crate::telemetry::metrics::Metrics;

/// Values of one dimension that an answer lists.
const VALUES_MAX: usize = 1_000;

/// Whose limits are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Key,
    Deployment,
    Model,
    Connection,
}

/// The counters, and the file in which those with long periods outlive the process.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) registry: Arc<Registry>,
    saved: Arc<Mutex<Saved>>,
    interval: Duration,
    clock: Clock,
}

impl Kept {
    /// With what was used before this process.
    pub(super) fn open(config: &LimitsConfig, clock: &Clock) -> Result<Self, SaveError> {
        let registry = Arc::new(Registry::new(config.dimension_values_max));
        let saved = Saved::open(&config.file, Arc::clone(&registry), now(clock))?;
        let saved = Arc::new(Mutex::new(saved));
        Ok(Self { registry, saved, interval: config.interval, clock: clock.clone() })
    }

    /// Writes what was used, again and again, until the process ends.
    pub(super) async fn write_on(self, mut shutdown: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut has_failed = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                ended = shutdown.wait_for(|is_set| *is_set) => {
                    if ended.is_err() {
                        tracing::debug!("shutdown signal's sender is gone");
                    }
                    return;
                }
            }
            let kept = self.clone();
            let written = tokio::task::spawn_blocking(move || {
                kept.registry.sweep(now(&kept.clock));
                lock(&kept.saved).write()
            });
            match written.await {
                Ok(Ok(())) => has_failed = false,
                // Said once for each time that it begins.
                Ok(Err(error)) if !has_failed => {
                    has_failed = true;
                    tracing::error!(%error, "a restart would forget what was used of limits");
                }
                Ok(Err(_)) => {}
                Err(error) => tracing::error!(%error, "the use of limits was not written"),
            }
        }
    }

    /// The last writing, when no request is left.
    pub(super) fn close(&self) {
        if let Err(error) = lock(&self.saved).write() {
            tracing::error!(%error, "the use of limits since the last writing is lost");
        }
    }
}

/// The shared store, if one is configured; its keeper runs on the runtime around.
pub(super) fn shared(
    config: &SharedConfig,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Shared>>, SharedError> {
    let Some(url) = config.redis.clone() else { return Ok(None) };
    let settings = SharedSettings { url, timeout: config.timeout, lease: config.lease };
    let (shared, keeper) = Shared::new(&settings, clock.clone(), Arc::clone(metrics))?;
    tokio::spawn(keeper.run());
    Ok(Some(shared))
}

/// The counters of an owner against each of its limits; `None` when there is no such owner.
pub(super) fn usage(
    state: &State,
    owner: Owner,
    (workspace, environment, name): (&str, &str, &str),
    now: Now,
) -> Option<Value> {
    let snapshot = state.snapshot.load();
    let found = snapshot.environments.values().find(|it| it.is_named(workspace, environment))?;
    let id = name;
    let limits = match owner {
        Owner::Key => {
            let is_it = |key: &crate::control::snapshot::KeyRecord| {
                key.environment == found.id
                    && (key.caller.key_name.as_deref() == Some(name) || key.id.to_string() == id)
            };
            state.keys.find(is_it)?.limits.clone()
        }
        Owner::Deployment => {
            let mut deployments = found.deployments.values();
            let deployment = deployments
                .find(|it| *it.name == *name || it.id.is_some_and(|own| own.to_string() == id))?;
            deployment.limits.clone()
        }
        Owner::Model => {
            let target = found.models.get(name)?.targets.first()?;
            let all: Vec<Value> =
                target.model_limits.iter().flatten().flat_map(|it| standings(it, now)).collect();
            return Some(json!({ "name": name, "limits": all }));
        }
        Owner::Connection => {
            let mut targets = found.reachable.values();
            let is_it = |connection: &crate::control::snapshot::Connection| {
                *connection.name == *name || connection.id.to_string() == id
            };
            targets.find(|target| is_it(&target.connection))?.connection.limits.clone()
        }
    };
    let all: Vec<Value> = limits.iter().flat_map(|limits| standings(limits, now)).collect();
    Some(json!({ "name": name, "limits": all }))
}

fn standings(limits: &Limits, now: Now) -> Vec<Value> {
    let shown = |counted: &crate::control::limits::Counted| {
        let mut value = shape(&counted.limit);
        match &counted.meter {
            Meter::One(counter) => merge(&mut value, standing(&counted.limit, counter, now)),
            Meter::Each(_, table) => {
                let values = table.all().into_iter().filter_map(|(name, counter)| {
                    let mut shown = standing(&counted.limit, &counter, now);
                    merge(&mut shown, json!({ "value": name }));
                    (!counter.at(now).is_idle()).then_some(shown)
                });
                let values: Vec<Value> = values.take(VALUES_MAX).collect();
                merge(&mut value, json!({ "values": values }));
            }
        }
        value
    };
    limits.counted.iter().map(shown).collect()
}

fn shape(limit: &Limit) -> Value {
    let period = (limit.metric != Metric::Concurrent).then(|| limit.period.name());
    json!({
        "metric": limit.metric.name(),
        "period": period,
        "dimension": limit.dimension.as_ref().map(ToString::to_string),
        "amount": amount(limit, limit.amount),
        "mode": match limit.mode {
            Mode::Local => "local",
            Mode::Shared => "shared",
        },
    })
}

/// Used and reserved, where what is reserved has its part in what is used.
fn standing(limit: &Limit, counter: &Counter, now: Now) -> Value {
    let window = counter.at(now);
    let used = window.used(counter.period(), now);
    let resets_in = window.resets_in(counter.period(), now);
    let is_lasting = limit.period == crate::limit::Period::Lifetime;
    json!({
        "used": amount(limit, used),
        "reserved": amount(limit, window.held()),
        "remaining": amount(limit, limit.amount.saturating_sub(used)),
        "resets_in_ms": (!is_lasting).then(|| u64::try_from(resets_in.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// Money as a decimal text in dollars: a JSON number would round it.
fn amount(limit: &Limit, amount: u64) -> Value {
    match limit.metric {
        Metric::Cost => json!(crate::limit::dollars(amount).trim_start_matches('$')),
        _ => json!(amount),
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
