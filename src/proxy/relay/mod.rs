//! The answer on its way to the client, read by read, through the tap.
//!
//! Bytes pass as they came. An event stream passes in whole events, flushed per read, so that an
//! event of our own can follow at any time; a stream that breaks gets the dialect's error event and
//! is then cut, never ended cleanly: clients take a clean end for success.

mod body;
mod translated;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora_error::{BError, ErrorType};

pub use self::body::{Accepted, Body};
use crate::config::resources::{OnDisconnect, Timeouts};
use crate::dialect::{Dialect, Endpoint};
use crate::proxy::attempt::Answer;
use crate::proxy::cached::Passed;
use crate::proxy::call::Call;
use crate::proxy::client::{Client, Length};
use crate::proxy::flow::Flow;
use crate::proxy::forward::{credential, result_of};
use crate::proxy::payload;
use crate::proxy::record::{Ending, Recorder};
use crate::proxy::respond::{self, Changed, Origin};
use crate::proxy::select::Selected;
use crate::proxy::serve::{Gateway, RequestCtx};
use crate::route::breaker;
use crate::route::failure::{Failure, Stage, judge};
use crate::sse::{OwnError, error_event};
use crate::telemetry::metrics::AttemptResult;
use crate::usage::record::{Outcome, UsageSource};
use crate::usage::tap::{End, Observed};

/// A comment: clients skip it, and connections that it passes through stay awake.
const HEARTBEAT: &[u8] = b": keep-alive\n\n";
/// An answer that the client no longer reads is read on for this long at most.
const DRAIN_TIME_MAX: Duration = Duration::from_mins(5);

/// What an answer answers.
pub struct Source<'a> {
    pub selected: &'a Selected,
    pub call: &'a Call,
    pub deadline: Instant,
}

/// Why an answer went no further.
#[derive(Debug)]
enum Broken {
    Upstream(Failure),
    Client(BError),
}

/// When to look up from waiting for the upstream.
struct Pace<'a> {
    heartbeat: Option<Duration>,
    idle: Duration,
    deadline: Instant,
    last_progress: Instant,
    last_write: Instant,
    /// Knows when the gateway ends. A stream that is silent when that is decided learns of it at its
    /// next heartbeat.
    flow: &'a Flow,
}

enum Due {
    Nothing,
    Heartbeat,
    Failed(Failure),
}

impl Gateway {
    /// Passes `answer` on to the client. False when the client must not take what it got for the
    /// whole answer.
    pub async fn relay(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
        mut answer: Box<Answer>,
        source: &Source<'_>,
    ) -> bool {
        let passed = match self.begin(client, ctx, &mut answer, source).await {
            Ok(()) => self.pass(client, ctx, &mut answer, source).await,
            Err(error) => Err(Broken::Client(error)),
        };
        match &passed {
            Ok(()) => {}
            Err(Broken::Upstream(failure)) => {
                let request_id = ctx.request_id.as_hyphenated().to_string();
                if *failure == Failure::Shutdown {
                    self.flow.count_cut();
                }
                self.record_broken(ctx, &mut answer, (source, failure));
                self.say_broken(client, &answer, source, (failure, &request_id)).await;
            }
            Err(Broken::Client(error)) => {
                if source.selected.deployment.on_disconnect == OnDisconnect::Drain
                    && answer.body.is_events()
                    && let Ok(_permit) = self.drains.try_acquire()
                {
                    self.drain(&mut answer, source).await;
                }
                let observed = estimated(answer.body.observe(), source.call);
                let end = (gone(error), AttemptResult::ClientClosed);
                self.record(ctx, &mut answer, (source, observed, end));
            }
        }
        let kept = match &passed {
            Ok(()) => Passed::Whole,
            Err(Broken::Upstream(_)) => Passed::Broken,
            Err(Broken::Client(_)) => Passed::Left,
        };
        self.end_keeping(ctx, kept);
        passed.is_ok() && !answer.body.has_failed_translated()
    }

    /// The head, and what has been held back.
    async fn begin(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
        answer: &mut Answer,
        source: &Source<'_>,
    ) -> Result<(), BError> {
        let recorder = ctx.recorder.as_mut();
        let attempts = recorder.map_or(1, |recorder| recorder.n_attempts() + 1);
        let origin = Origin {
            envelope: ctx.envelope,
            request_id: ctx.request_id,
            deployment: &source.selected.deployment,
            target: &answer.target,
            attempts,
            cache: ctx.recorder.as_ref().map_or("bypass", Recorder::cache),
            standing: ctx.recorder.as_ref().map(Recorder::standing).unwrap_or_default(),
        };
        if let Some(exchange) = &mut ctx.payload {
            payload::answered(exchange, answer);
        }
        if let Some(keeping) = &mut ctx.keeping {
            keeping.answered(answer);
        }
        let length = match answer.body.length(&answer.headers) {
            Some(length) => Length::Known(length),
            None => Length::Unknown,
        };
        let mut head = client.begin(answer.status)?;
        let changed = Changed {
            is_decoded: answer.body.is_decoded(),
            content_type: answer.body.translated_type(),
        };
        respond::answer_head(&mut head, &answer.headers, &origin, changed);
        if self.limits.server_timing {
            let millis = ctx.began.elapsed().as_secs_f64() * 1e3;
            head.put_text(&respond::SERVER_TIMING, &format!("gateway;dur={millis:.3}"));
        }
        // Then the head is all that the client waits for.
        if answer.body.is_done() && answer.body.held_bytes() == 0 {
            self.record_whole(ctx, answer, source);
        }
        client.write_head(head, length).await
    }

    /// Part after part, until the upstream has no more.
    async fn pass(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
        answer: &mut Answer,
        source: &Source<'_>,
    ) -> Result<(), Broken> {
        let mut pace =
            Pace::new(&self.flow, source, answer.target.timeouts, answer.body.takes_comments());
        loop {
            let is_done = answer.body.is_done();
            let checked = if is_done { answer.body.check_end() } else { Ok(()) };
            // Before the client has all of it: what it has seen end is never lost.
            if checked.is_ok() && answer.body.is_over() {
                self.record_whole(ctx, answer, source);
                // Also before: the client's next request may come at once.
                if let Some(sent) = answer.body.take_sent() {
                    sent.release(&self.pool);
                }
            }
            let parts = answer.body.take_ready();
            if let Some(keeping) = &mut ctx.keeping {
                for part in &parts {
                    keeping.push(part);
                }
                if checked.is_ok() && answer.body.is_over() {
                    // Before the client's next request, too.
                    self.end_keeping(ctx, Passed::Whole);
                }
            }
            let has_parts = !parts.is_empty();
            // When all is there, nothing is timed any more.
            let waiting = (!is_done).then(Instant::now);
            for part in parts {
                if let Some(exchange) = &mut ctx.payload {
                    exchange.answered(&part);
                }
                client.write(part).await.map_err(Broken::Client)?;
            }
            let Some(waiting) = waiting else {
                // What came before the break is the client's.
                checked.map_err(Broken::Upstream)?;
                return finish(client, &answer.body).await.map_err(Broken::Client);
            };
            if has_parts {
                pace.last_write = waiting;
            }
            client.flush().await.map_err(Broken::Client)?;
            let more = next_part(client, &mut answer.body, &mut pace).await;
            if let Some(recorder) = &mut ctx.recorder {
                recorder.waited(waiting.elapsed());
            }
            match more {
                // The dialect's last event has been passed on: nothing is missing.
                Err(Broken::Upstream(_)) if answer.body.is_over() => {
                    return finish(client, &answer.body).await.map_err(Broken::Client);
                }
                more => more?,
            }
        }
    }

    /// The dialect's own error event, unless the provider has just sent one.
    async fn say_broken(
        &self,
        client: &mut Client<'_>,
        answer: &Answer,
        source: &Source<'_>,
        (failure, request_id): (&Failure, &str),
    ) {
        if !answer.body.is_events() || matches!(answer.body.end(), Some(End::Error(_))) {
            return;
        }
        let dialect = source.call.endpoint.dialect();
        let (code, message) = match failure {
            Failure::IdleTimeout | Failure::TotalTimeout => {
                ("upstream_timeout", "the provider stopped answering in mid-stream")
            }
            Failure::Shutdown => {
                ("gateway_shutdown", "the gateway shut down in mid-stream; send the request again")
            }
            _ => ("upstream_error", "the provider's stream broke off"),
        };
        let event = error_event(
            dialect,
            &OwnError {
                kind: if dialect == Dialect::Messages { "api_error" } else { "server_error" },
                code,
                message,
                request_id,
                sequence_number: answer.body.n_written(),
            },
        );
        // The cut that follows says the same to a client that cannot be written to.
        drop(client.write(Bytes::from(event)).await);
    }

    /// Reads on for the usage after the client has left.
    async fn drain(&self, answer: &mut Answer, source: &Source<'_>) {
        let until = source.deadline.min(Instant::now() + DRAIN_TIME_MAX);
        let read_on = async {
            while !answer.body.is_done() && answer.body.read().await.is_ok() {
                answer.body.take_ready();
            }
        };
        drop(tokio::time::timeout_at(until.into(), read_on).await);
    }

    /// The answer is complete; a second call changes nothing.
    fn record_whole(&self, ctx: &mut RequestCtx, answer: &mut Answer, source: &Source<'_>) {
        if ctx.recorder.is_none() {
            return;
        }
        let status = answer.status;
        let mut observed = answer.body.observe();
        let is_success = (200..300).contains(&status);
        if is_success && observed.source == UsageSource::None {
            observed = estimated(observed, source.call);
        }
        let credential = credential(&answer.target);
        let refused = Failure::Status { status, reason: None, retry_after: None };
        let on = &source.selected.deployment.failover_on;
        answer.turn.settle(if is_success {
            breaker::Outcome::Success
        } else {
            judge(&refused, Stage::Held, credential, on).outcome()
        });
        let end = ending_of((status, answer.row.error_class), &observed);
        self.record(ctx, answer, (source, observed, end));
    }

    /// The upstream failed after content had gone out.
    fn record_broken(
        &self,
        ctx: &mut RequestCtx,
        answer: &mut Answer,
        (source, failure): (&Source<'_>, &Failure),
    ) {
        let on = &source.selected.deployment.failover_on;
        let verdict = judge(failure, Stage::Committed, credential(&answer.target), on);
        answer.row.error_class = Some(verdict.class);
        answer.turn.settle(verdict.outcome());
        let observed = estimated(answer.body.observe(), source.call);
        let end = (broken(answer.status, failure), result_of(failure));
        self.record(ctx, answer, (source, observed, end));
    }

    /// Metrics and row of an answer that is over. Once: then the recorder is gone.
    fn record(
        &self,
        ctx: &mut RequestCtx,
        answer: &mut Answer,
        (source, observed, (ending, result)): (&Source<'_>, Observed, (Ending, AttemptResult)),
    ) {
        let Some(mut recorder) = ctx.recorder.take() else { return };
        let target = Arc::clone(&answer.target);
        self.metrics.attempts.inc(target.connection.provider_label, result);
        self.remember_response(&observed, source, &target);
        if let Some(keeping) = &mut ctx.keeping
            && ending.outcome == Outcome::Success
            && ending.status == 200
            && !observed.is_degraded
        {
            keeping.is_good(observed.tokens, &target);
        }
        let headers = &answer.headers;
        let upstream_id = respond::upstream_id(headers);
        let upstream_id = upstream_id.and_then(|id| id.to_str().ok()).map(Box::from);
        let mut row = answer.row.clone();
        row.total_us = u64::try_from(answer.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        recorder.note(|usage| {
            usage.upstream_request_id = upstream_id;
            usage.response_bytes = answer.body.passed_bytes() + answer.body.held_bytes() as u64;
            usage.is_degraded = observed.is_degraded;
            usage.usage_source = observed.source;
            usage.tokens = observed.tokens;
            usage.timings.headers_us = row.headers_us.map(|us| us + row.started_us);
            usage.timings.first_token_us = row.first_token_us.map(|us| us + row.started_us);
        });
        recorder.attempt(&target, row);
        recorder.finish(ending);
    }

    /// So that later requests about a stored response find its connection.
    fn remember_response(
        &self,
        observed: &Observed,
        source: &Source<'_>,
        target: &crate::control::snapshot::Target,
    ) {
        if let Some(id) = &observed.response_id {
            self.stored.remember(source.selected.environment, id.clone(), target.connection.id);
        }
    }
}

/// Waits for the next part of the answer; meanwhile watches the client and the clock.
async fn next_part(
    client: &mut Client<'_>,
    body: &mut Body,
    pace: &mut Pace<'_>,
) -> Result<(), Broken> {
    let n_messages = body.n_messages();
    let is_at_boundary = body.is_at_boundary();
    let mut alarm = body.lend_alarm();
    {
        let mut read = pin!(body.read());
        loop {
            tokio::select! {
                biased;
                read = &mut read => break read.map_err(Broken::Upstream)?,
                error = client.left() => return Err(Broken::Client(error)),
                () = alarm.reached(pace.next_look()) => {}
            }
            match pace.due(Instant::now(), is_at_boundary) {
                Due::Nothing => {}
                Due::Failed(failure) => return Err(Broken::Upstream(failure)),
                Due::Heartbeat => {
                    let comment = Bytes::from_static(HEARTBEAT);
                    client.write(comment).await.map_err(Broken::Client)?;
                    client.flush().await.map_err(Broken::Client)?;
                    pace.last_write = Instant::now();
                }
            }
        }
    }
    body.return_alarm(alarm);
    // A provider's comments keep a connection awake, but they are no progress.
    if n_messages < body.n_messages() || !body.is_events() {
        pace.last_progress = Instant::now();
    }
    Ok(())
}

/// Ends the answer; one that the provider broke off by an error is left open, to be cut.
async fn finish(client: &mut Client<'_>, body: &Body) -> Result<(), BError> {
    if body.has_failed_translated() { client.flush().await } else { client.finish().await }
}

impl<'a> Pace<'a> {
    fn new(flow: &'a Flow, source: &Source<'_>, timeouts: Timeouts, has_comments: bool) -> Self {
        let now = Instant::now();
        Self {
            heartbeat: source.selected.deployment.heartbeat.filter(|_| has_comments),
            idle: timeouts.idle,
            deadline: source.deadline,
            last_progress: now,
            last_write: now,
            flow,
        }
    }

    fn next_look(&self) -> Instant {
        let quiet = self.heartbeat.map(|heartbeat| self.last_write + heartbeat);
        let idle = self.last_progress + self.idle;
        let next = quiet.map_or(idle, |quiet| quiet.min(idle)).min(self.deadline);
        self.flow.cut_at().map_or(next, |cut_at| cut_at.min(next))
    }

    fn due(&mut self, now: Instant, is_at_boundary: bool) -> Due {
        if self.flow.cut_at().is_some_and(|cut_at| cut_at <= now) {
            return Due::Failed(Failure::Shutdown);
        }
        if self.deadline <= now {
            return Due::Failed(Failure::TotalTimeout);
        }
        if self.last_progress + self.idle <= now {
            return Due::Failed(Failure::IdleTimeout);
        }
        match self.heartbeat {
            Some(heartbeat) if self.last_write + heartbeat <= now => {
                // In the middle of an event nothing can be put in; the next look is one beat away.
                self.last_write = now;
                if is_at_boundary { Due::Heartbeat } else { Due::Nothing }
            }
            _ => Due::Nothing,
        }
    }
}

/// How an answer ended that was passed on whole.
fn ending_of(
    (status, class): (u16, Option<&'static str>),
    observed: &Observed,
) -> (Ending, AttemptResult) {
    if let End::Error(_) = observed.end {
        let ending =
            Ending { outcome: Outcome::UpstreamError, status, error_class: Some("stream_error") };
        return (ending, AttemptResult::StreamBroken);
    }
    let (outcome, error_class, result) = match status {
        200..300 => (Outcome::Success, None, AttemptResult::Ok),
        400..500 => {
            let class = class.unwrap_or("client_error");
            (Outcome::ClientError, Some(class), AttemptResult::ClientError)
        }
        _ => (Outcome::UpstreamError, Some("server_error"), AttemptResult::ServerError),
    };
    (Ending { outcome, status, error_class }, result)
}

fn gone(error: &BError) -> Ending {
    let is_stalled = *error.etype() == ErrorType::WriteTimedout;
    let error_class = if is_stalled { "client_stalled" } else { "client_closed" };
    Ending { outcome: Outcome::ClientClosed, status: 499, error_class: Some(error_class) }
}

/// Fills in what was not reported, where it can be told from the bytes.
pub fn estimated(observed: Observed, call: &Call) -> Observed {
    if has_tokens(call.endpoint) { observed.estimated(call.body.len() as u64) } else { observed }
}

/// Whether an answer of `endpoint` is made of tokens, so that a missing report is estimated.
pub const fn has_tokens(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::GenerateContent
            | Endpoint::StreamGenerateContent
            | Endpoint::OllamaChat
            | Endpoint::OllamaGenerate
            | Endpoint::Completions
            | Endpoint::Embeddings
    )
}

/// The status stays what the client saw.
fn broken(status: u16, failure: &Failure) -> Ending {
    let (outcome, error_class) = match failure {
        Failure::IdleTimeout => (Outcome::Timeout, "idle_timeout"),
        Failure::TotalTimeout => (Outcome::Timeout, "total_timeout"),
        Failure::Shutdown => (Outcome::GatewayError, "gateway_shutdown"),
        _ => (Outcome::StreamBroken, "stream_broken"),
    };
    Ending { outcome, status, error_class: Some(error_class) }
}
