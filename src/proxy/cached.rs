//! Requests whose answer is kept, or will be.
//!
//! ```text
//! look   no use of the cache, an answer that is kept, or the right to ask for one
//! hit    the kept answer, in the form that the request wants
//! keep   the answer on its way to the client, put aside until it is whole
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, header};
use pingora_timeout::tokio_timeout as timeout;

use crate::cache::key::{self, Keyed, Place};
use crate::cache::replay::{Form, Wanted, has_usage, replay};
use crate::cache::{Entry, Flight, Joined, Of, State, ended};
use crate::control::snapshot::{CacheRules, Target};
use crate::head::fields::Fields;
use crate::price;
use crate::proxy::admit::Known;
use crate::proxy::attempt::Answer;
use crate::proxy::call::Call;
use crate::proxy::client::{Client, Length};
use crate::proxy::record::{Ending, Recorder};
use crate::proxy::respond::{self, Kept};
use crate::proxy::select::Routed;
use crate::proxy::serve::{Gateway, RequestCtx, Stop};
use crate::telemetry::metrics::CacheResult;
use crate::usage::inflate::{Encoding, Inflater};
use crate::usage::record::{CacheUse, Outcome, Tokens};

/// A request waits so long for the same one before it; then it asks for itself.
const WAIT_MAX: Duration = Duration::from_secs(30);
const X_SLUICE_CACHE: HeaderName = HeaderName::from_static("x-sluice-cache");

/// What the cache has for a request.
pub(super) enum Looked {
    Hit(Box<Hit>),
    /// It has nothing; the answer is to be kept.
    Keep(Box<Keeping>),
    /// It has nothing to do with the request.
    Nothing(CacheUse),
}

/// An answer that is kept, as the request wants it.
pub(super) struct Hit {
    entry: Arc<Entry>,
    body: Bytes,
}

/// An answer on its way, to be kept once it is whole.
pub(super) struct Keeping {
    flight: Flight,
    rules: Arc<CacheRules>,
    deployment: Arc<str>,
    environment: crate::id::EnvironmentId,
    body: BytesMut,
    is_too_large: bool,
    form: Form,
    encoding: Option<Encoding>,
    /// Once the answer is known to be good.
    whole: Option<(Tokens, Arc<Target>)>,
}

/// What has become of an answer that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    Whole,
    /// There is none, or not all of it.
    Broken,
    /// The client went away.
    Left,
}

/// What a client says about the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Usual,
    /// Ask the provider, and keep what it says.
    NoCache,
    NoStore,
}

impl Wish {
    fn read(headers: &Fields) -> Self {
        match headers.get(&X_SLUICE_CACHE).map(HeaderValue::as_bytes) {
            Some(b"no-cache") => Self::NoCache,
            Some(b"no-store") => Self::NoStore,
            _ => Self::Usual,
        }
    }
}

impl Gateway {
    /// Looks for a kept answer, waiting for one that another request has asked for.
    pub(super) async fn look(
        &self,
        client: &mut Client<'_>,
        (call, known): (&Call, &Known),
        (routed, rules): (&Routed, &Arc<CacheRules>),
    ) -> Result<Looked, Stop> {
        let wish = Wish::read(client.headers());
        let keyed = keyed(client, call, (known, routed, rules));
        let Some(keyed) = keyed.filter(|_| wish != Wish::NoStore) else {
            return Ok(self.counted(Looked::Nothing(CacheUse::Bypass)));
        };
        let keep = |flight: Flight| {
            Looked::Keep(Box::new(Keeping {
                flight,
                rules: Arc::clone(rules),
                deployment: Arc::clone(&routed.deployment.name),
                environment: known.environment.id,
                body: BytesMut::new(),
                is_too_large: false,
                form: Form::Json,
                encoding: Some(Encoding::Identity),
                whole: None,
            }))
        };
        let of = Of { environment: known.environment.id, deployment: &routed.deployment.name };
        if wish == Wish::NoCache {
            let mut flight = self.cache.alone(keyed.key);
            drop(self.found(&keyed, of, &mut flight).await);
            return Ok(self.counted(keep(flight)));
        }
        let now_us = self.clock.unix_micros();
        if let Some(hit) = self.cache.get(&keyed.key, now_us).and_then(|it| hit(call, &keyed, it)) {
            return Ok(self.counted(Looked::Hit(hit)));
        }
        loop {
            let waiting = match self.cache.join(keyed.key) {
                // It may have come between looking and joining.
                Joined::Lead(mut flight) => {
                    let found = self.found(&keyed, of, &mut flight).await;
                    let Some(hit) = found.and_then(|entry| hit(call, &keyed, entry)) else {
                        return Ok(self.counted(keep(flight)));
                    };
                    flight.found(Arc::clone(&hit.entry));
                    return Ok(self.counted(Looked::Hit(hit)));
                }
                Joined::Wait(waiting) => waiting,
            };
            let state = tokio::select! {
                biased;
                state = timeout(WAIT_MAX, ended(waiting)) => state.unwrap_or(State::Failed),
                error = client.left() => return Err(Stop::Gone(error)),
            };
            let hit = match state {
                State::Abandoned => continue,
                State::Stored(entry) => hit(call, &keyed, entry),
                State::Failed | State::UnderWay => None,
            };
            return Ok(match hit {
                Some(hit) => {
                    self.metrics.cache_requests.inc(CacheResult::Waited);
                    Looked::Hit(hit)
                }
                None => self.counted(Looked::Nothing(CacheUse::Miss)),
            });
        }
    }

    /// What is kept, here or in the store, which also says of its purges.
    async fn found(&self, keyed: &Keyed, of: Of<'_>, flight: &mut Flight) -> Option<Arc<Entry>> {
        let Some(remote) = self.cache.remote() else {
            return self.cache.get(&keyed.key, self.clock.unix_micros());
        };
        let (entry, marks) = remote.get(&keyed.key, of).await?;
        flight.asked_at(marks);
        entry.filter(|entry| self.clock.unix_micros() < entry.expires_us).map(Arc::new)
    }

    fn counted(&self, looked: Looked) -> Looked {
        self.metrics.cache_requests.inc(match &looked {
            Looked::Hit(_) => CacheResult::Hit,
            Looked::Keep(_) | Looked::Nothing(CacheUse::Miss | CacheUse::Hit) => CacheResult::Miss,
            Looked::Nothing(CacheUse::Bypass) => CacheResult::Bypass,
        });
        looked
    }

    /// Answers with what is kept. The row is written before the client has all of it.
    pub(super) async fn answer_kept(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
        (hit, routed, is_stream): (Box<Hit>, &Routed, bool),
    ) -> Result<(), Stop> {
        let Hit { entry, body } = *hit;
        let target = routed.deployment.targets.iter().find(|target| target.id == entry.target);
        let age_us = self.clock.unix_micros().saturating_sub(entry.stored_us).max(0);
        let content_type =
            if is_stream { "text/event-stream; charset=utf-8" } else { "application/json" };
        let kept = Kept {
            envelope: ctx.envelope,
            request_id: ctx.request_id,
            deployment: &routed.deployment,
            target: target.map(|target| &**target),
            age_s: u64::try_from(age_us / 1_000_000).unwrap_or(0),
            content_type,
            standing: ctx.recorder.as_ref().map(Recorder::standing).unwrap_or_default(),
        };
        let mut head = client.begin(200).map_err(Stop::Gone)?;
        respond::kept_head(&mut head, &kept);
        if let Some(recorder) = &mut ctx.recorder {
            recorder.note(|row| {
                row.cache = Some(CacheUse::Hit);
                row.cost_nanousd = Some(0);
                row.saved_nanousd = entry.cost_nanousd;
                row.target = target.map(|target| Arc::clone(&target.row));
                row.response_bytes = body.len() as u64;
            });
        }
        if let Some(exchange) = &mut ctx.payload {
            exchange.response =
                crate::usage::payload::Body::new(content_type, Some(Encoding::Identity));
            exchange.answered(&body);
        }
        Self::end(ctx, Ending { outcome: Outcome::CacheHit, status: 200, error_class: None });
        let length = if is_stream { Length::Unknown } else { Length::Known(body.len()) };
        client.write_head(head, length).await.map_err(Stop::Gone)?;
        client.write(body).await.map_err(Stop::Gone)?;
        client.finish().await.map_err(Stop::Gone)
    }

    /// The whole answer has gone to the client, or never will.
    pub(super) fn end_keeping(&self, ctx: &mut RequestCtx, passed: Passed) {
        let Some(keeping) = ctx.keeping.take() else { return };
        match passed {
            Passed::Whole => keeping.store(self.clock.unix_micros()),
            Passed::Broken => keeping.flight.fail(),
            // Another of those who wait asks.
            Passed::Left => drop(keeping),
        }
    }
}

/// A kept answer as the request wants it.
fn hit(call: &Call, keyed: &Keyed, entry: Arc<Entry>) -> Option<Box<Hit>> {
    let wanted = Wanted { is_stream: call.is_stream, has_usage: keyed.wants_usage };
    let kept = (entry.form, &entry.body);
    let body = replay(call.endpoint.dialect(), kept, &entry.tokens, wanted)?;
    Some(Box::new(Hit { entry, body }))
}

/// The key of a request, if its answers are kept.
fn keyed(
    client: &Client<'_>,
    call: &Call,
    (known, routed, rules): (&Known, &Routed, &CacheRules),
) -> Option<Keyed> {
    let place = Place {
        environment: known.environment.id,
        deployment: &routed.deployment.name,
        targets: &rules.targets,
        target: call.options.target.as_deref().or(routed.target.as_deref()),
        endpoint: call.endpoint,
        query: client.query(),
    };
    // What decides over an answer besides the body; in an order of its own.
    let mut headers: Vec<(&str, &[u8])> = client
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| name.starts_with("openai-") || name.starts_with("anthropic-"))
        .collect();
    headers.sort_unstable();
    let keyed = key::key(&place, headers.into_iter(), call.json()?)?;
    (keyed.is_deterministic || !rules.only_deterministic).then_some(keyed)
}

impl Keeping {
    /// An answer begins.
    pub(super) fn answered(&mut self, answer: &Answer) {
        let is_plain = answer.body.translated_type().is_some() || answer.body.is_decoded();
        let encoding = answer.headers.get(header::CONTENT_ENCODING);
        self.encoding = match encoding.filter(|_| !is_plain) {
            None => Some(Encoding::Identity),
            Some(name) => name.to_str().ok().and_then(Encoding::from_header),
        };
        if answer.body.is_events() {
            self.form = Form::Events { has_usage: false };
        }
    }

    pub(super) fn push(&mut self, part: &Bytes) {
        if self.rules.entry_bytes_max < self.body.len() + part.len() {
            self.is_too_large = true;
            self.body = BytesMut::new();
        }
        if !self.is_too_large {
            self.body.extend_from_slice(part);
        }
    }

    /// The answer is a good one.
    pub(super) fn is_good(&mut self, tokens: Tokens, target: &Arc<Target>) {
        self.whole = Some((tokens, Arc::clone(target)));
    }

    fn store(self: Box<Self>, now_us: i64) {
        let Self { flight, rules, deployment, environment, body, is_too_large, form, .. } = *self;
        let plain = plain(body.freeze(), self.encoding, rules.entry_bytes_max);
        let (Some((tokens, target)), Some(body), false) = (self.whole, plain, is_too_large) else {
            return flight.fail();
        };
        let form = match form {
            Form::Json => Form::Json,
            Form::Events { .. } => Form::Events { has_usage: has_usage(&body) },
        };
        let cost = target.price.as_ref().and_then(|priced| price::cost(&priced.price, &tokens));
        let ttl_us = i64::try_from(rules.ttl.as_micros()).unwrap_or(i64::MAX);
        flight.store(Entry {
            environment,
            deployment,
            target: target.id,
            stored_us: now_us,
            expires_us: now_us.saturating_add(ttl_us),
            form,
            body,
            tokens,
            cost_nanousd: cost.unwrap_or(0),
        });
    }
}

/// A body without its provider's encoding.
fn plain(body: Bytes, encoding: Option<Encoding>, bytes_max: usize) -> Option<Bytes> {
    let encoding = encoding?;
    if encoding == Encoding::Identity {
        return Some(body);
    }
    let mut inflater = Inflater::new(encoding)?;
    let mut plain = BytesMut::new();
    let mut put = |bytes: &[u8]| {
        if plain.len() <= bytes_max {
            plain.extend_from_slice(bytes);
        }
    };
    inflater.push(&body, &mut put).ok()?;
    inflater.finish(&mut put).ok()?;
    (plain.len() <= bytes_max).then(|| plain.freeze())
}
