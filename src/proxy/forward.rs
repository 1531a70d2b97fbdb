//! The targets of the plan in turn, until one answers. Nothing goes to the client from here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::Millis;
use crate::config::resources::Auth;
use crate::control::limits::Refused;
use crate::control::live::{InFlight, TargetLive, lock};
use crate::control::snapshot::{Deployment, Target};
use crate::head::fields::Fields;
use crate::proxy::attempt::{self, Answer, Failed, Try};
use crate::proxy::call::Call;
use crate::proxy::convert::{Conversion, Reading};
use crate::proxy::limits;
use crate::proxy::record::Recorder;
use crate::proxy::relay::{Accepted, estimated};
use crate::proxy::select::Selected;
use crate::proxy::serve::Gateway;
use crate::rejection::{Rejection, UpstreamStatus};
use crate::route::backoff::backoff;
use crate::route::breaker::{Outcome, Ticket};
use crate::route::failure::{
    self, BENCH, Blame, Credential, FailoverOn, Failure, Stage, Verdict, judge,
};
use crate::secret::Secret;
use crate::telemetry::metrics::{AttemptResult, Metrics};
use crate::usage::record::AttemptRow;
use crate::usage::tap::{Tap, TapMode};

/// What every attempt of a request shares.
pub struct Request<'a> {
    pub call: &'a Call,
    /// The client's headers that go to a provider, as lines of a head.
    pub forwarded: Bytes,
    pub accepts: Accepted,
    pub is_beta: bool,
    pub failover_on: &'a FailoverOn,
    pub passthrough: Option<&'a Secret>,
    pub deadline: Instant,
    pub request_id: Uuid,
    /// For targets of other dialects.
    pub reading: Reading,
}

/// A provider's own answer to a failed attempt, kept in case nothing better comes.
#[derive(Debug)]
pub struct LastAnswer {
    pub status: u16,
    pub headers: Fields,
    pub body: Bytes,
}

/// All attempts failed.
#[derive(Debug)]
pub struct Exhausted {
    pub last: Option<(LastAnswer, Arc<Target>)>,
    /// The gateway's own answer, when no provider's can be shown.
    pub rejection: Rejection,
    pub retry_after: Option<Duration>,
    pub is_timeout: bool,
    pub class: &'static str,
}

/// The right to try a target: counted in flight, and settled with its breaker exactly once.
#[derive(Debug)]
pub struct Turn {
    live: Arc<TargetLive>,
    ticket: Option<Ticket>,
    _in_flight: InFlight,
}

impl Turn {
    /// `None` when the breaker refuses.
    fn take(target: &Target, now: Millis) -> Option<Self> {
        let ticket = lock(&target.live.breaker).admit(now).ok()?;
        let live = Arc::clone(&target.live);
        Some(Self { ticket: Some(ticket), _in_flight: live.enter(), live })
    }

    /// Tells the breaker how the attempt ended.
    pub fn settle(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            if outcome != Outcome::Uncounted {
                self.live.note(outcome != Outcome::Success);
            }
            lock(&self.live.breaker).settle(ticket, outcome, Millis::now(), rand::random());
        }
    }
}

/// An attempt that nobody settled says nothing about its target: the client left.
impl Drop for Turn {
    fn drop(&mut self) {
        self.settle(Outcome::Uncounted);
    }
}

/// An attempt until it ends. Dropped before, its client has left, and the row says what was begun.
struct UnderWay<'a> {
    one: &'a Try<'a>,
    recorder: &'a mut Recorder,
    row: Option<AttemptRow>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Some(mut row) = self.row.take() else { return };
        let Try { gateway, request, target, began, .. } = *self.one;
        let spent = began.elapsed();
        self.recorder.waited(spent);
        row.total_us = u64::try_from(spent.as_micros()).unwrap_or(u64::MAX);
        let is_panic = std::thread::panicking();
        row.error_class = Some(if is_panic { "internal_error" } else { "client_closed" });
        gateway.metrics.attempts.inc(target.connection.provider_label, AttemptResult::ClientClosed);
        if row.is_maybe_billed {
            let seen = Tap::new(request.call.endpoint.dialect(), TapMode::Json).finish();
            let seen = estimated(seen, request.call);
            self.recorder.note(|usage| {
                usage.usage_source = seen.source;
                usage.tokens = seen.tokens;
            });
        }
        self.recorder.attempt(target, row);
    }
}

/// What has come of the attempts so far.
#[derive(Default)]
struct Tally {
    n_attempts: u8,
    last: Option<(LastAnswer, Arc<Target>)>,
    last_failure: Option<Verdict>,
    soonest: Option<Duration>,
    only_auth_failed: Option<bool>,
    /// A limit of a target that was skipped for it.
    refused: Option<Box<Refused>>,
    /// What a target of another dialect cannot be asked.
    unasked: Option<Rejection>,
}

impl Gateway {
    /// Tries the planned targets in turn.
    pub async fn forward(
        &self,
        request: &Request<'_>,
        selected: &Selected,
        recorder: &mut Recorder,
    ) -> Result<Box<Answer>, Box<Exhausted>> {
        let deployment = &*selected.deployment;
        let mut tally = Tally::default();
        lock(&deployment.live.retry_budget).on_request(Millis::now());
        for target in selected.plan.iter().filter_map(|index| deployment.targets.get(index)) {
            let conversion = match self.convert(request, deployment, target) {
                Ok(conversion) => conversion,
                Err(rejection) => {
                    tally.unasked.get_or_insert(rejection);
                    continue;
                }
            };
            for retry in 0..=deployment.failover.retries {
                if !self.may_try(deployment, &tally) {
                    return Err(tally.exhausted(deployment, &self.metrics));
                }
                if 0 < retry && !self.wait_before_retry(retry, request.deadline).await {
                    return Err(tally.exhausted(deployment, &self.metrics));
                }
                let begun = match recorder.begin_attempt(target) {
                    Ok(()) if recorder.asks_shared_at(target) => {
                        Box::pin(recorder.begin_shared_attempt(target)).await
                    }
                    begun => begun,
                };
                if let Err(refused) = begun {
                    tally.refused.get_or_insert(refused);
                    break;
                }
                let now = Instant::now();
                let Some(turn) = Turn::take(target, now.into()) else {
                    recorder.end_attempt(false);
                    break;
                };
                self.count_again(retry, &tally);
                tally.n_attempts += 1;
                let aim = (target, conversion.as_deref());
                let failed = match self.attempt(request, aim, (turn, now), recorder).await {
                    Ok(answer) => return Ok(answer),
                    Err(failed) => failed,
                };
                let verdict =
                    self.settle(*failed, target, &deployment.failover_on, (recorder, &mut tally));
                if !verdict.fails_over {
                    return Err(tally.exhausted(deployment, &self.metrics));
                }
                if !is_same_target_worth_it(&verdict) {
                    break;
                }
            }
        }
        Err(tally.exhausted(deployment, &self.metrics))
    }

    fn convert(
        &self,
        request: &Request<'_>,
        deployment: &Deployment,
        target: &Target,
    ) -> Result<Option<Box<Conversion>>, Rejection> {
        let now_s = u64::try_from(self.clock.unix_micros() / 1_000_000).unwrap_or(0);
        request.reading.convert(
            request.call,
            (deployment, target),
            &request.forwarded,
            (now_s, request.request_id),
        )
    }

    /// Whether one more attempt is within `max_attempts` and the retry budget.
    fn may_try(&self, deployment: &Deployment, tally: &Tally) -> bool {
        if tally.n_attempts == 0 {
            return true;
        }
        if deployment.failover.max_attempts <= tally.n_attempts {
            return false;
        }
        let may = lock(&deployment.live.retry_budget).try_retry(Millis::now());
        if !may {
            self.metrics.retry_budget_exhausted.inc();
        }
        may
    }

    fn count_again(&self, retry: u8, tally: &Tally) {
        if 0 < retry {
            self.metrics.retries.inc();
        } else if 0 < tally.n_attempts {
            self.metrics.failovers.inc();
        }
    }

    /// False when the deadline comes first.
    async fn wait_before_retry(&self, retry: u8, deadline: Instant) -> bool {
        let wait = backoff(u32::from(retry), rand::random());
        if deadline <= Instant::now() + wait {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    async fn attempt(
        &self,
        request: &Request<'_>,
        (target, conversion): (&Arc<Target>, Option<&Conversion>),
        (turn, began): (Turn, Instant),
        recorder: &mut Recorder,
    ) -> Result<Box<Answer>, Box<Failed>> {
        let started_us = recorder.micros_at(began);
        recorder.begin(&target.row, started_us);
        let one = Try { gateway: self, request, target, conversion, began, started_us };
        let mut under_way = UnderWay { row: Some(one.row()), one: &one, recorder };
        let row = under_way.row.as_mut().expect("it is under way");
        let result = attempt::attempt(&one, turn, row).await;
        under_way.row = None;
        let row = result.as_ref().map_or_else(|failed| &failed.row, |answer| &answer.row);
        under_way.recorder.waited(Duration::from_micros(row.total_us));
        result
    }

    /// Acts on a failed attempt: breaker, bench, row, metrics.
    fn settle(
        &self,
        failed: Failed,
        target: &Arc<Target>,
        on: &FailoverOn,
        (recorder, tally): (&mut Recorder, &mut Tally),
    ) -> Verdict {
        let Failed { failure, mut turn, answer, mut row } = failed;
        let verdict = judge(&failure, Stage::Held, credential(target), on);
        turn.settle(verdict.outcome());
        if verdict.blame == Blame::Connection {
            self.bench(target, verdict.class);
        }
        if !matches!(verdict.blame, Blame::Caller | Blame::Nobody) {
            *lock(&target.live.last_error) = Some(verdict.class);
            lock(&target.live.latency).penalize(Millis::now());
        }
        tracing::debug!(target = %target.id, class = verdict.class, "attempt failed");
        self.metrics.attempts.inc(target.connection.provider_label, result_of(&failure));
        row.error_class = Some(verdict.class);
        row.is_maybe_billed = verdict.is_maybe_billed;
        recorder.end_attempt(row.status.is_some() || row.is_maybe_billed);
        recorder.attempt(target, row);
        tally.note(&verdict, answer, target);
        verdict
    }

    /// A refused credential is ours to mend: the connection is left alone and somebody is told.
    fn bench(&self, target: &Target, class: &'static str) {
        let connection = &target.connection;
        connection.live.bench(Millis::now().saturating_add(BENCH));
        self.metrics.connection_benched.inc(connection.provider_label);
        tracing::error!(
            connection = &*connection.name,
            connection_id = %connection.id,
            class,
            "the provider refused the connection's credential or account; it is not used for 60 s"
        );
    }
}

impl Tally {
    fn note(&mut self, verdict: &Verdict, answer: Option<LastAnswer>, target: &Arc<Target>) {
        let is_auth = verdict.blame == Blame::Connection;
        self.only_auth_failed = Some(is_auth && self.only_auth_failed.unwrap_or(true));
        if let Some(answer) = answer.filter(|_| !is_auth) {
            self.last = Some((answer, Arc::clone(target)));
        }
        if let Blame::Target { retry_after: Some(wait) }
        | Blame::Limit { retry_after: Some(wait) } = verdict.blame
        {
            self.soonest = Some(self.soonest.map_or(wait, |soonest| soonest.min(wait)));
        }
        self.last_failure = Some(*verdict);
    }

    fn exhausted(self, deployment: &Deployment, metrics: &Metrics) -> Box<Exhausted> {
        let is_timeout =
            self.last_failure.is_some_and(|verdict| verdict.answer == failure::Answer::Own(504));
        let (status, message) = if self.only_auth_failed == Some(true) {
            (
                UpstreamStatus::AuthFailed,
                "the provider refused the gateway's credential or account; its operator has been told",
            )
        } else if is_timeout {
            (UpstreamStatus::TimedOut, "the provider did not answer in time")
        } else {
            (UpstreamStatus::Failed, "no provider could answer")
        };
        let rejection = if let (0, Some(refused)) = (self.n_attempts, &self.refused) {
            limits::rejection(refused, metrics)
        } else if let Some(unasked) = self.unasked.filter(|_| self.n_attempts == 0) {
            unasked
        } else if self.n_attempts == 0 {
            Rejection::NoHealthyTarget {
                model: deployment.name.to_string(),
                retry_after: self.soonest,
            }
        } else {
            Rejection::Upstream { status, message, retry_after: self.soonest }
        };
        let class = rejection.wire().code;
        Box::new(Exhausted {
            last: self.last,
            rejection,
            retry_after: self.soonest,
            is_timeout,
            class: self.last_failure.map_or(class, |verdict| verdict.class),
        })
    }
}

/// Whose credential an attempt on `target` carries.
pub fn credential(target: &Target) -> Credential {
    match target.connection.auth {
        Auth::Passthrough => Credential::Callers,
        Auth::ApiKey | Auth::None => Credential::Connections,
    }
}

/// A target that said to wait, or whose credential is bad, says the same a moment later.
const fn is_same_target_worth_it(verdict: &Verdict) -> bool {
    matches!(verdict.blame, Blame::Target { retry_after: None })
}

/// The label of an attempt that failed.
pub const fn result_of(failure: &Failure) -> AttemptResult {
    match failure {
        Failure::Dns => AttemptResult::Dns,
        Failure::Forbidden => AttemptResult::Forbidden,
        Failure::Connect | Failure::Unsent => AttemptResult::Connect,
        Failure::ConnectTimeout => AttemptResult::ConnectTimeout,
        Failure::Tls => AttemptResult::Tls,
        Failure::Reset => AttemptResult::Reset,
        Failure::MalformedHead | Failure::BadBody | Failure::EventTooLarge => {
            AttemptResult::Malformed
        }
        Failure::HeadersTimeout => AttemptResult::HeadersTimeout,
        Failure::FirstTokenTimeout => AttemptResult::FirstTokenTimeout,
        Failure::IdleTimeout => AttemptResult::IdleTimeout,
        Failure::TotalTimeout => AttemptResult::TotalTimeout,
        Failure::Shutdown => AttemptResult::Shutdown,
        Failure::EarlyError { .. } => AttemptResult::EarlyError,
        Failure::Status { .. } => match failure.meant_status() {
            Some(401..=403) => AttemptResult::Auth,
            Some(429) => AttemptResult::RateLimited,
            Some(408 | 500..=599) => AttemptResult::ServerError,
            _ => AttemptResult::ClientError,
        },
    }
}
