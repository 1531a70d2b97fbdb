//! The path itself: admit -> route -> attempt* -> relay -> record.
//!
//! This is the only place that answers a rejection and that ends a row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::header;
use pingora_core::connectors::TransportConnector;
use pingora_error::BError;
use serde_json::json;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::cache::Cache;
use crate::clock::Clock;
use crate::config::server::OnFull;
use crate::control::State;
use crate::control::snapshot::Target;
use crate::dialect::{Dialect, Endpoint, Envelope};
use crate::net::pool::Pool;
use crate::proxy::admit::{self, Known};
use crate::proxy::cached::{Keeping, Looked, Passed};
use crate::proxy::call::{self, BodyLimits, Call};
use crate::proxy::client::Client;
use crate::proxy::convert::Reading;
use crate::proxy::flow::{Entered, Flow};
use crate::proxy::forward::{Exhausted, Request};
use crate::proxy::limits::Counting;
use crate::proxy::record::{Arrival, Ending, Recorder};
use crate::proxy::relay::{Accepted, Source};
use crate::proxy::respond;
use crate::proxy::routes::{self, PathScope, Route};
use crate::proxy::select::{self, Selected, Unselected};
use crate::proxy::stored::{StoredResponses, StoredTarget};
use crate::proxy::{headers, limits, models, payload, rules};
use crate::rejection::{LimitCode, Rejection};
use crate::shared::Shared;
use crate::telemetry::metrics::{Malformed, Metrics, RefusedKey};
use crate::usage::payload::Exchange;
use crate::usage::record::{CacheUse, Outcome};
use crate::usage::store::UsageSink;

/// Bounds of one request.
#[derive(Debug, Clone, Copy)]
pub struct GatewayLimits {
    pub body: BodyLimits,
    /// A client that does not read is cut after this time.
    pub write_timeout: Duration,
    pub in_flight_max: usize,
    pub server_timing: bool,
    /// When there is no room for the row of a request.
    pub on_full: OnFull,
}

/// The data plane.
pub struct Gateway {
    pub state: Arc<State>,
    /// Makes connections to upstreams; `pool` keeps them.
    pub connector: TransportConnector,
    pub pool: Arc<Pool>,
    pub usage: UsageSink,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    /// Answers of deployments that keep them.
    pub cache: Arc<Cache>,
    /// Where limits of all nodes are counted.
    pub shared: Option<Arc<Shared>>,
    pub limits: GatewayLimits,
    pub flow: Arc<Flow>,
    pub stored: StoredResponses,
    /// Places for answers that are read on after their client has left.
    pub drains: Arc<Semaphore>,
}

/// What lives as long as a request.
pub struct RequestCtx {
    pub(super) request_id: Uuid,
    pub(super) began: Instant,
    pub(super) envelope: Envelope,
    pub(super) recorder: Option<Recorder>,
    pub(super) stored: Option<StoredTarget>,
    /// Where bodies are logged.
    pub(super) payload: Option<Box<Exchange>>,
    /// Where the answer is to be kept.
    pub(super) keeping: Option<Box<Keeping>>,
    pub(super) _entered: Entered,
}

/// Why a request does not go on.
#[derive(Debug)]
pub enum Stop {
    /// The gateway answers by itself.
    Rejected(Rejection),
    /// The client has left, or cannot be written to.
    Gone(BError),
}

/// What became of a request.
pub(super) enum Served {
    Answered,
    /// Pingora's own upstream path takes over.
    Upstream,
    /// The answer was cut in the middle: the connection must not end cleanly.
    Cut,
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

// === impl Gateway ===

impl Gateway {
    /// Answers one request. An error means that the client cannot be answered any more.
    pub(super) async fn serve(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
    ) -> Result<Served, BError> {
        client.set_write_timeout(self.limits.write_timeout);
        let served = match self.answer(client, ctx).await {
            Ok(served) => Ok(served),
            Err(Stop::Rejected(rejection)) => self.reject(client, ctx, &rejection).await,
            Err(Stop::Gone(error)) => {
                Self::record_gone(ctx);
                Err(error)
            }
        };
        if let Some(exchange) = ctx.payload.take() {
            self.usage.keep_payload(exchange);
        }
        served
    }

    /// The order of things.
    async fn answer(&self, client: &mut Client<'_>, ctx: &mut RequestCtx) -> Result<Served, Stop> {
        let path = client.path().to_owned();
        ctx.envelope = routes::envelope(&path, headers::told_envelope(client.headers()));
        let route = routes::route(client.method(), &path).ok_or(Rejection::NotFound)?;
        let is_probe = matches!(route, Route::Healthz | Route::Readyz);
        if self.limits.in_flight_max < self.flow.in_flight() && !is_probe {
            return Err(Rejection::Overloaded { retry_after: Duration::from_secs(1) }.into());
        }
        if self.flow.is_over() && !is_probe {
            return Err(Rejection::Draining.into());
        }
        match route {
            Route::OllamaVersion => Self::ollama_version(client).await,
            Route::Healthz => Self::healthz(client).await,
            Route::Readyz => self.readyz(client).await,
            Route::Models => {
                let known = self.admit(client, ctx, (Endpoint::Models, None))?;
                self.list_models(client, ctx, &known, None).await
            }
            Route::Model { id } => {
                let known = self.admit(client, ctx, (Endpoint::Models, None))?;
                self.list_models(client, ctx, &known, Some(id)).await
            }
            Route::StoredResponse { id } => {
                let known = self.admit(client, ctx, (Endpoint::StoredResponse, None))?;
                ctx.stored = Some(self.stored.find(&known, id)?);
                let caller = (&*known.key, &*known.environment);
                let recorder = recorder(ctx);
                limits::admit_stored(recorder, caller, self.counting())?;
                if recorder.asks_shared() {
                    let of = (caller, None);
                    Box::pin(limits::admit_shared(recorder, of, self.counting())).await?;
                }
                Ok(Served::Upstream)
            }
            Route::Body { endpoint, scope, model } => {
                let known = self.admit(client, ctx, (endpoint, scope))?;
                self.complete(client, ctx, &known, (endpoint, model)).await
            }
        }
    }

    /// Key, workspace, environment and scopes. From here on there is a row.
    fn admit(
        &self,
        client: &Client<'_>,
        ctx: &mut RequestCtx,
        (endpoint, scope): (Endpoint, Option<PathScope<'_>>),
    ) -> Result<Known, Rejection> {
        let snapshot = self.state.snapshot.load();
        let source_ip = client.ip();
        let now_us = self.clock.unix_micros();
        let headers = client.headers();
        let known = admit::identify(headers, &self.state, &snapshot).map_err(|unknown| {
            self.metrics.refused_keys.inc(unknown.label());
            self.usage.refused(source_ip, now_us / 60_000_000);
            unknown.rejection()
        })?;
        if self.usage.is_full() && self.sheds(&known) {
            self.usage.shed();
            return Err(Rejection::UsageStoreFull);
        }
        let arrival = Arrival {
            request_id: ctx.request_id,
            began: ctx.began,
            started_at_us: now_us,
            source_ip,
            endpoint,
        };
        let metrics = Arc::clone(&self.metrics);
        let mut recorder = Recorder::new(arrival, &known.key, self.usage.clone(), metrics);
        let client_request_id = headers.get(&headers::X_REQUEST_ID).and_then(|id| id.to_str().ok());
        recorder.note(|row| {
            row.client_request_id = client_request_id.map(short);
            row.retention_days = known.environment.settings.retention_days;
        });
        ctx.recorder = Some(recorder);
        admit::admit(&known, endpoint, scope, now_us).inspect_err(|rejection| {
            if *rejection == Rejection::KeyRefused {
                self.metrics.refused_keys.inc(refusal(&known, now_us));
            }
        })?;
        Ok(known)
    }

    /// Whether a request is refused while there is no room for its row.
    fn sheds(&self, known: &Known) -> bool {
        let environment = &known.environment;
        let owners = [&known.key.limits, &environment.limits, &environment.workspace_limits];
        let has_budget = owners.into_iter().flatten().any(|limits| limits.has_budget());
        match self.limits.on_full {
            OnFull::Shed => has_budget,
            OnFull::ShedAll => true,
            OnFull::ContinueUnmetered => false,
        }
    }

    /// A request whose target follows from its body: read, understand, select, attempt, relay.
    async fn complete(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
        known: &Known,
        asked: (Endpoint, Option<&str>),
    ) -> Result<Served, Stop> {
        let reading = Instant::now();
        let body = call::read_body(client, self.limits.body, reading).await?;
        let now = Instant::now();
        let request_id = ctx.request_id;
        let recorder = recorder(ctx);
        recorder.waited(now.saturating_duration_since(reading));
        recorder.note(|row| row.request_bytes = body.len() as u64);
        ctx.payload = payload::begin(known, recorder, (client.headers(), &body));
        let recorder = self::recorder(ctx);
        let mut call = Call::parse(asked, (client.headers(), client.query()), body)?;
        if let Some(previous) = &call.previous_response_id {
            call.made_by = self.stored.made_by(known.environment.id, previous);
        }
        note_call(recorder, &call, known);
        let routed = rules::resolve(&call, known, (client.headers(), recorder), self.counting())?;
        let deployment = &routed.deployment;
        recorder.deployment(deployment);
        if let Some(additions) = &deployment.additions {
            call.add(additions)?;
        }
        let caller = (&*known.key, &*known.environment);
        limits::admit(recorder, caller, (deployment, &call), self.counting())?;
        if recorder.asks_shared() {
            // Rare and large: on the heap.
            let of = (caller, Some(&**deployment));
            Box::pin(limits::admit_shared(recorder, of, self.counting())).await?;
        }
        if let Some(rules) = &routed.deployment.cache {
            // Rare and large: on the heap.
            let asked = (&call, known);
            match Box::pin(self.look(client, asked, (&routed, rules))).await? {
                Looked::Hit(hit) => {
                    let hit = (hit, &routed, call.is_stream);
                    Box::pin(self.answer_kept(client, ctx, hit)).await?;
                    return Ok(Served::Answered);
                }
                Looked::Keep(keeping) => {
                    recorder.note(|row| row.cache = Some(CacheUse::Miss));
                    ctx.keeping = Some(keeping);
                }
                Looked::Nothing(used) => recorder.note(|row| row.cache = Some(used)),
            }
        }
        let recorder = self::recorder(ctx);
        let refused = |target: &Target| recorder.refused_at(target);
        let selected = select::select(routed, &call, &known.key, now.into(), refused)
            .map_err(|why| self.unselected(why))?;
        let total = selected.total_timeout();
        let total = call.options.timeout.map_or(total, |asked| asked.min(total));
        let deadline = recorder.began() + total;
        let request = request(client, &call, known, (&selected, deadline, request_id));
        let answer = tokio::select! {
            biased;
            answer = self.forward(&request, &selected, recorder) => answer,
            error = client.left() => return Err(Stop::Gone(error)),
        };
        match answer {
            Ok(answer) => {
                let source =
                    Source { selected: &selected, call: &call, deadline: request.deadline };
                let is_whole = self.relay(client, ctx, answer, &source).await;
                Ok(if is_whole { Served::Answered } else { Served::Cut })
            }
            Err(exhausted) => {
                self.end_keeping(ctx, Passed::Broken);
                // Rare and large: on the heap.
                Box::pin(self.give_up(client, ctx, &selected, *exhausted)).await
            }
        }
    }

    fn counting(&self) -> Counting<'_> {
        Counting { clock: &self.clock, metrics: &self.metrics, shared: self.shared.as_ref() }
    }

    fn unselected(&self, why: Unselected) -> Rejection {
        match why {
            Unselected::Rejected(rejection) => rejection,
            Unselected::Limited(refused) => limits::rejection(&refused, &self.metrics),
        }
    }

    /// All attempts failed: the last provider's own answer, or ours.
    async fn give_up(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
        selected: &Selected,
        exhausted: Exhausted,
    ) -> Result<Served, Stop> {
        let Exhausted { last, rejection, retry_after, is_timeout, class } = exhausted;
        let Some((last, target)) = last else {
            if let Rejection::BadRequest { .. } = rejection {
                return Err(rejection.into());
            }
            let ending = Ending {
                outcome: if is_timeout { Outcome::Timeout } else { outcome_of(&rejection) },
                status: rejection.wire().status,
                error_class: Some(class),
            };
            let request = asked(ctx);
            Self::end(ctx, ending);
            let written = respond::reject(client, &rejection, &request, 0).await;
            return written.map(|_| Served::Answered).map_err(Stop::Gone);
        };
        let ending = Ending {
            outcome: Outcome::UpstreamError,
            status: last.status,
            error_class: Some(class),
        };
        let origin = respond::Origin {
            envelope: ctx.envelope,
            request_id: ctx.request_id,
            deployment: &selected.deployment,
            target: &target,
            attempts: recorder(ctx).n_attempts(),
            cache: recorder(ctx).cache(),
            standing: recorder(ctx).standing(),
        };
        recorder(ctx).note(|row| row.response_bytes = last.body.len() as u64);
        if let Some(exchange) = &mut ctx.payload {
            payload::refused(exchange, &last.headers, &last.body);
        }
        Self::end(ctx, ending);
        let written = respond::last_answer(client, last, &origin, retry_after).await;
        written.map(|()| Served::Answered).map_err(Stop::Gone)
    }

    async fn reject(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
        rejection: &Rejection,
    ) -> Result<Served, BError> {
        match rejection {
            Rejection::TooLarge { .. } => {
                self.metrics.malformed_requests.inc(Malformed::BodyTooLarge);
            }
            Rejection::RequestTimeout => {
                self.metrics.malformed_requests.inc(Malformed::BodyTimeout);
            }
            _ => {}
        }
        // Of a caller that we know a whole body is taken, so that it surely reads our answer.
        let discard_max = match ctx.recorder {
            Some(_) => self.limits.body.bytes_max.saturating_mul(2),
            None => respond::DISCARD_BYTES_MAX,
        };
        let request = asked(ctx);
        Self::end(
            ctx,
            Ending {
                outcome: outcome_of(rejection),
                status: rejection.wire().status,
                error_class: Some(rejection.wire().code),
            },
        );
        respond::reject(client, rejection, &request, discard_max).await?;
        Ok(Served::Answered)
    }

    fn record_gone(ctx: &mut RequestCtx) {
        Self::end(
            ctx,
            Ending {
                outcome: Outcome::ClientClosed,
                status: 499,
                error_class: Some("client_closed"),
            },
        );
    }

    /// Writes the row, if there is one that is not written yet.
    pub(super) fn end(ctx: &mut RequestCtx, ending: Ending) {
        if let Some(recorder) = ctx.recorder.take() {
            recorder.finish(ending);
        }
    }

    async fn healthz(client: &mut Client<'_>) -> Result<Served, Stop> {
        respond::json(client, 200, &json!({"status": "ok"}), None).await.map_err(Stop::Gone)?;
        Ok(Served::Answered)
    }

    async fn ollama_version(client: &mut Client<'_>) -> Result<Served, Stop> {
        let version = json!({"version": env!("CARGO_PKG_VERSION")});
        respond::json(client, 200, &version, None).await.map_err(Stop::Gone)?;
        Ok(Served::Answered)
    }

    async fn readyz(&self, client: &mut Client<'_>) -> Result<Served, Stop> {
        let (status, text) =
            if self.flow.is_draining() { (503, "draining") } else { (200, "ready") };
        respond::json(client, status, &json!({"status": text}), None).await.map_err(Stop::Gone)?;
        Ok(Served::Answered)
    }

    /// Exactly what this key may call, in the caller's shape.
    async fn list_models(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
        known: &Known,
        id: Option<&str>,
    ) -> Result<Served, Stop> {
        let visible = known.environment.visible(&known.key.scopes);
        let page = match id {
            None => models::list(&visible, ctx.envelope),
            Some(id) => models::one(&visible, id, ctx.envelope)
                .ok_or_else(|| Rejection::ModelNotFound { model: id.to_owned() })?,
        };
        let request = Some((ctx.envelope, ctx.request_id));
        Self::end(ctx, Ending { outcome: Outcome::Success, status: 200, error_class: None });
        respond::json(client, 200, &page, request).await.map_err(Stop::Gone)?;
        Ok(Served::Answered)
    }
}

/// The recorder, which is there from admission to the end.
fn recorder(ctx: &mut RequestCtx) -> &mut Recorder {
    ctx.recorder.as_mut().expect("an admitted request has a recorder until it is concluded")
}

/// What is answered, for the head of a rejection.
pub(super) fn asked(ctx: &RequestCtx) -> respond::Asked {
    respond::Asked {
        envelope: ctx.envelope,
        request_id: ctx.request_id,
        standing: ctx.recorder.as_ref().map(Recorder::standing).unwrap_or_default(),
    }
}

fn note_call(recorder: &mut Recorder, call: &Call, known: &Known) {
    let metadata = call.options.metadata_over(&known.key.metadata_defaults);
    recorder.note(|row| {
        row.requested_model.clone_from(&call.model);
        row.is_stream = call.is_stream;
        row.end_user.clone_from(&call.end_user);
        row.correlation_id.clone_from(&call.options.correlation_id);
        row.metadata = metadata;
    });
}

/// What all attempts share, read from the client's head once.
fn request<'a>(
    client: &Client<'_>,
    call: &'a Call,
    known: &'a Known,
    (selected, deadline, request_id): (&'a Selected, Instant, Uuid),
) -> Request<'a> {
    let (client_headers, query) = (client.headers(), client.query());
    let mut forwarded = BytesMut::with_capacity(256);
    headers::forward(client_headers, &mut forwarded);
    if !client_headers.contains(header::CONTENT_TYPE) {
        headers::line("content-type", b"application/json", &mut forwarded);
    }
    let is_messages = call.endpoint.dialect() == Dialect::Messages;
    if is_messages && !client_headers.contains(&headers::ANTHROPIC_VERSION) {
        headers::line("anthropic-version", b"2023-06-01", &mut forwarded);
    }
    let accept_encoding = client_headers.get(header::ACCEPT_ENCODING).filter(|_| !call.is_stream);
    let accepted = accept_encoding.map_or(&b"identity"[..], |value| value.as_bytes());
    headers::line("accept-encoding", accepted, &mut forwarded);
    let is_beta =
        is_messages && query.is_some_and(|query| query.split('&').any(|pair| pair == "beta=true"));
    Request {
        call,
        forwarded: forwarded.freeze(),
        accepts: Accepted::of(accept_encoding),
        is_beta,
        failover_on: &selected.deployment.failover_on,
        passthrough: known.passthrough.as_ref(),
        deadline,
        request_id,
        reading: Reading::default(),
    }
}

/// A caller's own id, bounded.
fn short(text: &str) -> Box<str> {
    text.chars().take(256).collect::<String>().into_boxed_str()
}

fn refusal(known: &Known, now_us: i64) -> RefusedKey {
    if known.environment.is_archived {
        RefusedKey::Archived
    } else if known.key.is_expired(now_us) {
        RefusedKey::Expired
    } else {
        RefusedKey::Disabled
    }
}

fn outcome_of(rejection: &Rejection) -> Outcome {
    match rejection {
        Rejection::KeyMissing | Rejection::KeyRefused => Outcome::Unauthorized,
        Rejection::EndpointForbidden { .. }
        | Rejection::EnvironmentMismatch
        | Rejection::ModelNotFound { .. }
        | Rejection::NotFound
        | Rejection::BadRequest { .. }
        | Rejection::RequestTimeout
        | Rejection::TooLarge { .. } => Outcome::ClientError,
        Rejection::Blocked { .. } => Outcome::Blocked,
        Rejection::Limited(limited) => match limited.code {
            LimitCode::Budget => Outcome::BudgetExceeded,
            LimitCode::Rate | LimitCode::Concurrency => Outcome::RateLimited,
        },
        Rejection::Overloaded { .. }
        | Rejection::UsageStoreFull
        | Rejection::NoHealthyTarget { .. }
        | Rejection::Draining
        | Rejection::Upstream { .. } => Outcome::UpstreamError,
        Rejection::Internal => Outcome::GatewayError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that `make` makes, which is never made here.
    fn future_size<'a, F: Future>(
        _make: impl FnOnce(&'a Gateway, &'a mut Client<'static>, &'a mut RequestCtx) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn request_in_flight_stays_below_four_kibibytes() {
        let path = future_size(Gateway::serve);
        let context = size_of::<RequestCtx>();
        assert!(path + context < 4096, "{path} bytes of future, {context} of context");
    }
}
