//! Limits on the path: what a request sets aside before its plan and before each attempt, and what
//! becomes of it at the end of its row.
//!
//! Limits of key, deployment, environment and workspace are asked before there is a plan. Those of
//! model and connection belong to the target of an attempt: a target whose limit refuses is skipped
//! as an unhealthy one would be. The recorder holds all of it, so that every path out settles it.
//!
//! `shared` asks the shared store for the limits that are counted over all nodes.

mod shared;

use std::sync::Arc;
use std::time::Duration;

pub use self::shared::admit_shared;
use crate::clock::{Clock, Millis};
use crate::control::limits::{
    Family, Limits, Refused, Reservation, Sharing, Subject, reserve, would_refuse,
};
use crate::control::snapshot::{Deployment, Environment, KeyRecord, Target};
use crate::limit::{Amounts, Metric, Now, Period, Standing, TextBytes, Wait, dollars, text_bytes};
use crate::proxy::call::Call;
use crate::proxy::record::Recorder;
use crate::proxy::relay::has_tokens;
use crate::rejection::{LimitCode, Limited, Rejection};
use crate::shared::{Hold, Shared};
use crate::telemetry::metrics::Metrics;
use crate::usage::record::{UsageRow, UsageSource};

/// A limit that never lets the request pass says to come back after this time.
const NEVER: Duration = Duration::from_hours(24);
/// An SDK that is told to wait longer than this had better tell its user.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// What a request with limits holds, from before its plan to the end of its row.
pub struct Governed {
    request: Reservation,
    /// Of the attempt under way.
    attempt: Reservation,
    /// The same in the shared store.
    shared_request: Option<Hold>,
    shared_attempt: Option<Hold>,
    /// Whether the store must still be asked about the request.
    asks_shared: bool,
    ask: Amounts,
    demand: Demand,
    /// Of the target of the last attempt.
    family: Option<Arc<Family>>,
    standing: Standing,
    clock: Clock,
    shared: Option<Arc<Shared>>,
}

/// What counting needs of the gateway.
#[derive(Clone, Copy)]
pub struct Counting<'a> {
    pub clock: &'a Clock,
    pub metrics: &'a Metrics,
    pub shared: Option<&'a Arc<Shared>>,
}

/// Key and environment of a request.
pub type Caller<'a> = (&'a KeyRecord, &'a Environment);

/// What is known before of what a request will use.
#[derive(Debug, Clone, Copy)]
struct Demand {
    /// `None` when no limit counts what must be estimated.
    text: Option<TextBytes>,
    output_max: Option<u64>,
}

pub fn now(clock: &Clock) -> Now {
    Now { steady: Millis::now(), unix_ms: u64::try_from(clock.unix_micros() / 1_000).unwrap_or(0) }
}

/// Whose limits a request must pass before it has a target.
fn owners<'a>(
    key: &'a KeyRecord,
    environment: &'a Environment,
    deployment: Option<&'a Deployment>,
) -> impl Iterator<Item = &'a Limits> + Clone {
    let deployment = deployment.and_then(|deployment| deployment.limits.as_deref());
    let owners = [
        key.limits.as_deref(),
        deployment,
        environment.limits.as_deref(),
        environment.workspace_limits.as_deref(),
    ];
    owners.into_iter().flatten()
}

/// Sets aside what `call` may use, or says which limit refuses. Without limits it does nothing.
pub fn admit(
    recorder: &mut Recorder,
    (key, environment): Caller<'_>,
    (deployment, call): (&Deployment, &Call),
    counting: Counting<'_>,
) -> Result<(), Rejection> {
    let owners = owners(key, environment, Some(deployment));
    let of_targets = deployment.targets.iter().flat_map(|target| target.limits());
    let mut all = owners.clone().chain(of_targets);
    let is_estimated = match all.next() {
        None => return Ok(()),
        Some(first) => first.is_estimated || all.any(|limits| limits.is_estimated),
    };
    let demand = Demand {
        text: (is_estimated && has_tokens(call.endpoint)).then(|| text_bytes(&call.body)),
        output_max: call.max_tokens,
    };
    let ask = demand.greatest(deployment);
    recorder.govern(owners, (demand, ask), counting)
}

/// As [`admit`], for a request about a stored response: it uses no tokens.
pub fn admit_stored(
    recorder: &mut Recorder,
    (key, environment): Caller<'_>,
    counting: Counting<'_>,
) -> Result<(), Rejection> {
    let owners = owners(key, environment, None);
    if owners.clone().next().is_none() {
        return Ok(());
    }
    let demand = Demand { text: None, output_max: None };
    let ask = Amounts { requests: 1, ..Amounts::default() };
    recorder.govern(owners, (demand, ask), counting)
}

impl Demand {
    /// What the call may use at `target`.
    fn at(&self, target: &Target) -> Amounts {
        let Some(text) = self.text else { return Amounts { requests: 1, ..Amounts::default() } };
        let learned = target.family.learned();
        let output = self.output_max.unwrap_or_else(|| learned.output_tokens());
        let output = target.output_tokens_max.map_or(output, |most| output.min(most));
        let price = target.price.as_ref().map(|priced| &priced.price);
        Amounts::expected(learned.input_tokens(text), output, price)
    }

    /// What it may use at any target of `deployment`.
    fn greatest(&self, deployment: &Deployment) -> Amounts {
        let none = Amounts { requests: 1, ..Amounts::default() };
        if self.text.is_none() {
            return none;
        }
        let targets = deployment.targets.iter().filter(|target| 0 < target.weight);
        targets.fold(none, |most, target| most.max(&self.at(target)))
    }
}

impl Recorder {
    fn govern<'a>(
        &mut self,
        owners: impl Iterator<Item = &'a Limits> + Clone,
        (demand, ask): (Demand, Amounts),
        counting: Counting<'_>,
    ) -> Result<(), Rejection> {
        let now = now(counting.clock);
        let sharing = sharing(counting.shared);
        let asks_shared =
            sharing == Sharing::Elsewhere && owners.clone().any(|limits| limits.is_shared);
        let request = reserve(owners, &ask, &self.subject(), (sharing, now))
            .map_err(|refused| rejection(&refused, counting.metrics))?;
        self.governed = Some(Box::new(Governed {
            standing: request.standing(now),
            request,
            attempt: Reservation::default(),
            shared_request: None,
            shared_attempt: None,
            asks_shared,
            ask,
            demand,
            family: None,
            clock: counting.clock.clone(),
            shared: counting.shared.map(Arc::clone),
        }));
        Ok(())
    }

    /// What the dimensions of limits read.
    fn subject(&self) -> Subject<'_> {
        let Some(row) = self.row() else { return Subject::default() };
        Subject {
            source_ip: row.source_ip,
            end_user: row.end_user.as_deref(),
            metadata: &row.metadata,
        }
    }

    /// The limit of `target` that refuses this request now, if one does. A look, no promise.
    pub fn refused_at(&self, target: &Target) -> Option<Box<Refused>> {
        let governed = self.governed.as_deref()?;
        target.limits().next()?;
        let ask = governed.demand.at(target);
        let sharing = sharing(governed.shared.as_ref());
        would_refuse(target.limits(), &ask, &self.subject(), (sharing, now(&governed.clock)))
    }

    /// Sets aside what an attempt on `target` may use.
    pub fn begin_attempt(&mut self, target: &Target) -> Result<(), Box<Refused>> {
        let shared = self.governed.as_ref().and_then(|governed| governed.shared.as_ref());
        self.begin_attempt_as(target, sharing(shared))
    }

    fn begin_attempt_as(&mut self, target: &Target, sharing: Sharing) -> Result<(), Box<Refused>> {
        let Some(governed) = self.governed.as_deref() else { return Ok(()) };
        let mut standing = governed.standing;
        let mut attempt = Reservation::default();
        if target.limits().next().is_some() {
            let ask = governed.demand.at(target);
            let now = now(&governed.clock);
            attempt = reserve(target.limits(), &ask, &self.subject(), (sharing, now))?;
            standing = standing.and(attempt.standing(now));
        }
        if let Some(governed) = self.governed.as_deref_mut() {
            governed.standing = standing;
            governed.attempt = attempt;
            if governed.demand.text.is_some() {
                governed.family = Some(Arc::clone(&target.family));
            }
        }
        Ok(())
    }

    /// The attempt has failed. One that the provider has seen counts as a request to it.
    pub fn end_attempt(&mut self, is_sent: bool) {
        let Some(governed) = self.governed.as_deref_mut() else { return };
        let attempt = std::mem::take(&mut governed.attempt);
        let used = Amounts { requests: u64::from(is_sent), ..Amounts::default() };
        attempt.settle(&used, now(&governed.clock));
        if let Some(hold) = governed.shared_attempt.take() {
            hold.settle(&used);
        }
    }

    /// For the headers of the answer.
    pub fn standing(&self) -> Standing {
        self.governed.as_ref().map_or_else(Standing::default, |governed| governed.standing)
    }
}

impl Governed {
    /// Puts what the row says was used in the place of what was set aside.
    pub(super) fn settle(self, row: &UsageRow) {
        let used = Amounts::used(&row.tokens, row.cost_nanousd);
        if row.usage_source == UsageSource::Reported
            && let (Some(family), Some(text)) = (&self.family, self.demand.text)
        {
            family.learn(|it| it.observed(text, used.input_tokens, used.output_tokens));
        }
        let now = now(&self.clock);
        self.request.settle(&used, now);
        self.attempt.settle(&used, now);
        for hold in [self.shared_request, self.shared_attempt].into_iter().flatten() {
            hold.settle(&used);
        }
    }
}

/// How limits of all nodes are counted just now.
fn sharing(shared: Option<&Arc<Shared>>) -> Sharing {
    match shared {
        None => Sharing::Alone,
        Some(shared) if shared.is_up() => Sharing::Elsewhere,
        Some(shared) => Sharing::OneOf { nodes: shared.nodes() },
    }
}

/// A refusal as the client reads it.
pub fn rejection(refused: &Refused, metrics: &Metrics) -> Rejection {
    let Refused { level, owner, limit, asked, wait, at } = refused;
    metrics.limit_refusals.inc(*level, limit.metric);
    let code = match (limit.metric, limit.period) {
        (Metric::Concurrent, _) => LimitCode::Concurrency,
        (Metric::Cost, _) | (_, Period::Lifetime) => LimitCode::Budget,
        _ => LimitCode::Rate,
    };
    let advice = if limit.amount < *asked {
        let asked = match limit.metric {
            Metric::Cost => dollars(*asked),
            metric => format!("{asked} {}", metric.name().replace('_', " ")),
        };
        format!("this request alone may use {asked}; send less, or set a lower `max_tokens`")
    } else {
        match wait {
            Wait::Never => "ask its owner to raise it".to_owned(),
            Wait::For(_) if limit.metric == Metric::Concurrent => {
                "try again when another request has ended".to_owned()
            }
            Wait::For(wait) => format!("try again in {} s", wait.as_millis().div_ceil(1_000)),
        }
    };
    let (retry_after, should_retry) = match wait {
        Wait::For(wait) => (*wait, *wait <= RETRY_MAX),
        Wait::Never => (NEVER, false),
    };
    Rejection::Limited(Box::new(Limited {
        code,
        message: format!("{} `{owner}`: {limit}; {advice}", level.name()),
        retry_after,
        should_retry,
        standing: Standing::refused(limit, retry_after, *at),
    }))
}
