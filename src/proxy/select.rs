//! From a call to the targets that may answer it, in order.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Millis;
use crate::config::resources::{HashOn, Strategy};
use crate::control::limits::Refused;
use crate::control::live::lock;
use crate::control::snapshot::{Deployment, Environment, KeyRecord, Target};
use crate::id::EnvironmentId;
use crate::limit::Wait;
use crate::proxy::call::Call;
use crate::proxy::convert;
use crate::rejection::{BadRequest, Rejection, UpstreamStatus};
use crate::route::plan::{self, Choice, NoTarget, Plan, TargetView};

/// Bytes of an upstream model's name that a caller makes up; it comes back in headers and rows.
const AD_HOC_NAME_BYTES_MAX: usize = 128;

/// What a call goes to.
#[derive(Debug)]
pub struct Selected {
    pub environment: EnvironmentId,
    pub deployment: Arc<Deployment>,
    /// Indexes of `deployment.targets`, in order.
    pub plan: Plan,
}

impl Selected {
    /// The timeouts of the target that is tried first.
    pub fn total_timeout(&self) -> Duration {
        let first = self.plan.iter().next().and_then(|index| self.deployment.targets.get(index));
        first.map_or(Duration::from_mins(10), |target| target.timeouts.total)
    }
}

/// The deployment of a request, and which of its targets, if a rule says so.
#[derive(Debug)]
pub struct Routed {
    pub deployment: Arc<Deployment>,
    pub target: Option<Box<str>>,
}

/// What `model` means for this key.
pub fn resolve(
    call: &Call,
    key: &KeyRecord,
    environment: &Environment,
) -> Result<Arc<Deployment>, Rejection> {
    environment
        .resolve(&call.model, &key.scopes)
        .map(Arc::clone)
        .or_else(|| ad_hoc(&call.model, key, environment))
        .ok_or_else(|| Rejection::ModelNotFound { model: call.model.to_string() })
}

/// What `connection/upstream-model` means: a deployment of one target that is made on the fly.
fn ad_hoc(model: &str, key: &KeyRecord, environment: &Environment) -> Option<Arc<Deployment>> {
    let (connection, upstream_model) = model.split_once('/').filter(|_| key.scopes.ad_hoc)?;
    let found = environment.ad_hoc.get(connection)?;
    // What has a name of its own is called by it, by those who may.
    let is_taken =
        environment.deployments.contains_key(model) || environment.models.contains_key(model);
    let is_name = (1..=AD_HOC_NAME_BYTES_MAX).contains(&upstream_model.len())
        && upstream_model.bytes().all(|byte| byte.is_ascii_graphic());
    (is_name && !is_taken).then(|| found.deployment(model, upstream_model))
}

/// Why there is no plan.
#[derive(Debug)]
pub enum Unselected {
    Rejected(Rejection),
    /// Nothing else stands in the way than a limit of a target.
    Limited(Box<Refused>),
}

/// The targets of the deployment that can take `call` now, in the order in which to try them.
/// `refused` is the limit of a target that says no.
pub fn select(
    routed: Routed,
    call: &Call,
    key: &KeyRecord,
    now: Millis,
    refused: impl Fn(&Target) -> Option<Box<Refused>>,
) -> Result<Selected, Unselected> {
    let Routed { deployment, target: ruled } = routed;
    // What a connection keeps, no other knows.
    let made_by = call
        .made_by
        .filter(|made_by| deployment.targets.iter().any(|target| target.connection.id == *made_by));
    let speaks = |target: &Target| {
        convert::takes(target, call.endpoint)
            && made_by.is_none_or(|made_by| target.connection.id == made_by)
    };
    if !deployment.targets.iter().any(|target| 0 < target.weight && speaks(target)) {
        return Err(Unselected::Rejected(no_speaker(&deployment, call)));
    }
    let plan = if let Some(name) = &call.options.target {
        pinned(&deployment, name, key, speaks).map_err(Unselected::Rejected)?
    } else if let Some(name) = &ruled {
        only(&deployment, name, speaks)
            .ok_or_else(|| Unselected::Rejected(no_speaker(&deployment, call)))?
    } else {
        let view = |index| {
            let target: &Arc<Target> = deployment.targets.get(index)?;
            speaks(target).then(|| view(target, now, &refused))
        };
        planned(&deployment, call, view).map_err(|no_target| {
            let mut weighed = deployment.targets.iter().filter(|target| 0 < target.weight);
            match weighed.find_map(|target| refused(target)) {
                Some(refused) => Unselected::Limited(refused),
                None => Unselected::Rejected(none_available(&deployment, &no_target, now)),
            }
        })?
    };
    Ok(Selected { environment: key.environment, deployment, plan })
}

fn planned(
    deployment: &Deployment,
    call: &Call,
    view: impl Fn(usize) -> Option<TargetView>,
) -> Result<Plan, NoTarget> {
    let n_targets = deployment.targets.len();
    let attempts_max = deployment.failover.max_attempts;
    let choice = match &deployment.strategy {
        Strategy::WeightedRoundRobin => {
            let mut swrr = lock(&deployment.live.swrr);
            let choice = Choice::WeightedRoundRobin(&mut swrr);
            return plan::plan(n_targets, attempts_max, choice, view);
        }
        Strategy::LeastLatency => Choice::LeastLatency { seed: rand::random() },
        Strategy::LeastBusy => Choice::LeastBusy { seed: rand::random() },
        Strategy::Cheapest => Choice::Cheapest { seed: rand::random() },
        Strategy::Hash(on) => Choice::Hash { key: hash_key(on, call).unwrap_or_else(rand::random) },
    };
    plan::plan(n_targets, attempts_max, choice, view)
}

fn view(
    target: &Target,
    now: Millis,
    refused: impl Fn(&Target) -> Option<Box<Refused>>,
) -> TargetView {
    let benched = target.connection.live.benched_until(now);
    let ejected = lock(&target.live.breaker).unavailable_until(now);
    let is_down = target.connection.health.as_ref().is_some_and(|health| !health.is_up());
    let down = is_down.then_some(now);
    let limited = refused(target).map(|refused| match refused.wait {
        Wait::For(wait) => now.saturating_add(wait),
        Wait::Never => Millis(u64::MAX),
    });
    let price = target
        .price
        .as_ref()
        .map_or(u64::MAX, |priced| priced.price.input.saturating_add(priced.price.output));
    TargetView {
        identity: identity(target),
        weight: target.weight,
        tier: target.tier,
        unavailable_until: benched.max(ejected).max(down).max(limited),
        in_flight: target.live.in_flight.load(Ordering::Relaxed),
        latency_us: lock(&target.live.latency).micros(now),
        price,
    }
}

/// A part of the id: it stays the target's own whatever happens to the others.
fn identity(target: &Target) -> u64 {
    target.id.0.as_u64_pair().0
}

/// What keeps requests of one caller, session or tenant on one target.
fn hash_key(on: &HashOn, call: &Call) -> Option<u64> {
    let text = match on {
        HashOn::EndUser => call.end_user.as_deref(),
        HashOn::Session => {
            call.previous_response_id.as_deref().or(call.options.correlation_id.as_deref())
        }
        HashOn::Metadata(name) => {
            let found = call.options.metadata.iter().find(|(key, _)| **key == **name);
            found.map(|(_, value)| &**value)
        }
    };
    // The same on every node: the standard hasher is unkeyed when made so.
    let mut hasher = DefaultHasher::new();
    text?.hash(&mut hasher);
    Some(hasher.finish())
}

/// The one target that the caller names.
fn pinned(
    deployment: &Deployment,
    name: &str,
    key: &KeyRecord,
    speaks: impl Fn(&Target) -> bool,
) -> Result<Plan, Rejection> {
    let refused = |what: &str| {
        Rejection::invalid_request(format!("`x-sluice-target` {what}"), Some("x-sluice-target"))
    };
    if !key.scopes.pin {
        return Err(refused("needs a key with the scope `pin`"));
    }
    only(deployment, name, speaks)
        .ok_or_else(|| refused("names no target that can take this request"))
}

/// The target called `name` and no other.
fn only(deployment: &Deployment, name: &str, speaks: impl Fn(&Target) -> bool) -> Option<Plan> {
    let mut targets = deployment.targets.iter();
    let index = targets.position(|target| *target.name == *name && speaks(target))?;
    u8::try_from(index).ok().map(Plan::pinned)
}

fn no_speaker(deployment: &Deployment, call: &Call) -> Rejection {
    let spoken: std::collections::BTreeSet<&str> = deployment
        .targets
        .iter()
        .flat_map(|target| target.connection.dialects.iter())
        .map(crate::dialect::Dialect::name)
        .collect();
    let spoken: Vec<&str> = spoken.into_iter().collect();
    let dialect = call.endpoint.dialect().name();
    let message = if spoken.is_empty() {
        format!("no target of `{}` takes `{dialect}` requests", deployment.name)
    } else {
        format!(
            "no target of `{}` takes `{dialect}` requests; its targets take: {}",
            deployment.name,
            spoken.join(", ")
        )
    };
    Rejection::BadRequest {
        code: BadRequest::UnsupportedParameter,
        message,
        param: Some("model".to_owned()),
    }
}

fn none_available(deployment: &Deployment, no_target: &NoTarget, now: Millis) -> Rejection {
    let retry_after = no_target.soonest.map(|until| until.since(now));
    let mut weighed = deployment.targets.iter().filter(|target| 0 < target.weight);
    if weighed.all(|target| target.connection.live.benched_until(now).is_some()) {
        return Rejection::Upstream {
            status: UpstreamStatus::AuthFailed,
            message: "the provider refused the gateway's credential or account; its operator has been told",
            retry_after: None,
        };
    }
    Rejection::NoHealthyTarget { model: deployment.name.to_string(), retry_after }
}
