//! One try on one target: connect, send, wait for the head, and hold back what could still be taken
//! back.
//!
//! Of an event stream everything up to the first content is held, so that an early error can fail
//! over. Of a short JSON answer all is held, so that a client never sees half of one.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use http::{HeaderName, HeaderValue, header};

use crate::control::live::lock;
use crate::control::snapshot::Target;
use crate::head::fields::Fields;
use crate::json::Spliced;
use crate::percent::encoded;
use crate::provider::aws::Signed;
use crate::provider::errors::Said;
use crate::proxy::call::Outgoing;
use crate::proxy::convert::Conversion;
use crate::proxy::forward::{LastAnswer, Request, Turn, credential};
use crate::proxy::relay::Body;
use crate::proxy::serve::Gateway;
use crate::proxy::stored::passthrough_line;
use crate::proxy::upstream::{self, Link, NoHead, Sent};
use crate::route::failure::{self, Failure, Stage, Verdict, judge};
use crate::route::retry_after::parse_retry_after;
use crate::usage::record::AttemptRow;
use crate::usage::tap::{End, Opening};

/// A JSON answer up to this size is complete before any of it goes to the client.
const WHOLE_BYTES_MAX: usize = 256 * 1024;
/// What is held of a stream until its first content.
const HELD_FRAMES_MAX: u64 = 64;
const HELD_BYTES_MAX: usize = 256 * 1024;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// That a pooled connection had been closed before the request reached it shows within a round trip.
/// What breaks later may have been executed, and is not sent to the same provider again unasked.
const STALE_MAX: Duration = Duration::from_millis(300);

/// One attempt, about to be made.
pub struct Try<'a> {
    pub gateway: &'a Gateway,
    pub request: &'a Request<'a>,
    pub target: &'a Arc<Target>,
    /// There for a target that does not speak the client's dialect.
    pub conversion: Option<&'a Conversion>,
    pub began: Instant,
    /// Microseconds after the request began.
    pub started_us: u64,
}

/// An answer that counts. Its beginning may have been read already.
pub struct Answer {
    pub status: u16,
    pub headers: Fields,
    pub body: Box<Body>,
    pub target: Arc<Target>,
    pub turn: Turn,
    pub row: AttemptRow,
    /// When the attempt began.
    pub began: Instant,
}

/// An attempt that did not count. Nothing of it has reached the client.
#[derive(Debug)]
pub struct Failed {
    pub failure: Failure,
    pub turn: Turn,
    pub answer: Option<LastAnswer>,
    pub row: AttemptRow,
}

/// Why there is no answer to hold.
pub(super) struct NoAnswer {
    pub(super) failure: Failure,
    pub(super) answer: Option<LastAnswer>,
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        Self { failure, answer: None }
    }
}

/// Makes one attempt. `row` says at any time how far it has come.
pub async fn attempt(
    one: &Try<'_>,
    turn: Turn,
    row: &mut AttemptRow,
) -> Result<Box<Answer>, Box<Failed>> {
    let answered = one.answer(row).await;
    let mut row = row.clone();
    let now = Instant::now();
    row.total_us = one.micros_at(now);
    match answered {
        Ok((status, headers, body)) => {
            row.is_maybe_billed = false;
            if is_success(status) {
                row.first_token_us = Some(row.total_us);
            }
            let latency = now.saturating_duration_since(one.began);
            lock(&one.target.live.latency).observe(now.into(), latency);
            let target = Arc::clone(one.target);
            let began = one.began;
            Ok(Box::new(Answer { status, headers, body, target, turn, row, began }))
        }
        Err(NoAnswer { failure, answer }) => Err(Box::new(Failed { failure, turn, answer, row })),
    }
}

impl Try<'_> {
    /// The row of an attempt that has not begun.
    pub fn row(&self) -> AttemptRow {
        AttemptRow {
            target: Arc::clone(&self.target.row),
            status: None,
            error_class: None,
            is_maybe_billed: false,
            started_us: self.started_us,
            headers_us: None,
            first_token_us: None,
            total_us: 0,
        }
    }

    fn micros_at(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.began);
        u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
    }

    /// `limit` from `now` on, but not past the deadline of the request; and which of the two it is.
    fn within(&self, now: Instant, limit: Duration, failure: Failure) -> (Duration, Failure) {
        let left = self.request.deadline.saturating_duration_since(now);
        if left < limit { (left, Failure::TotalTimeout) } else { (limit, failure) }
    }

    /// Sends the request and reads until it is clear that the answer counts.
    async fn answer(&self, row: &mut AttemptRow) -> Result<(u16, Fields, Box<Body>), NoAnswer> {
        let outgoing = match self.conversion {
            None => self.request.call.outgoing(&self.target.upstream_model),
            Some(conversion) => Outgoing { body: conversion.body.clone(), has_usage_chunk: false },
        };
        let mut sent = self.send(&outgoing.body, &mut row.is_maybe_billed).await?;
        let now = Instant::now();
        row.headers_us = Some(self.micros_at(now));
        let status = sent.head.status;
        let headers = std::mem::take(&mut sent.head.headers);
        row.status = Some(status);
        if !is_success(status) {
            // Rare and large: on the heap.
            return Box::pin(self.refused((status, headers), sent, row)).await;
        }
        let body = match self.conversion {
            None => Body::new(self.request, &headers, sent, outgoing.has_usage_chunk)?,
            Some(conversion) => Body::translated(&conversion.answer, &headers, sent)?,
        };
        let mut body = Box::new(body);
        if body.is_events() {
            self.hold_events(&mut body, now).await?;
        } else if body.is_json() {
            self.hold_whole(&mut body, now).await?;
        }
        Ok((status, headers, body))
    }

    /// Sends on a pooled connection if there is one. The upstream may have closed it in the same
    /// moment: then the request is sent once more, on a new one.
    async fn send(&self, body: &Spliced, has_left: &mut bool) -> Result<Sent, Failure> {
        let head = self.head(body);
        let mut is_new_wanted = false;
        let mut now = self.began;
        loop {
            let (time, failure) =
                self.within(now, self.target.timeouts.connect, Failure::ConnectTimeout);
            let connector = &self.gateway.connector;
            let connection = &self.target.connection;
            let time = (now, time);
            let opened = upstream::connect(connector, connection, is_new_wanted, time).await;
            let link = opened.map_err(|error| match error {
                Failure::ConnectTimeout => failure,
                error => error,
            })?;
            let is_reused = link.is_reused;
            *has_left = true;
            if !is_reused {
                now = Instant::now(); // To connect took its time.
            }
            match self.exchange(link, now, (&head, body)).await {
                Err((_, IsStale(true))) if is_reused && now.elapsed() < STALE_MAX => {
                    is_new_wanted = true;
                    now = Instant::now();
                }
                Err((failure, _)) => return Err(failure),
                Ok(sent) => return Ok(sent),
            }
        }
    }

    /// One request and the head of its answer, under the timeout for heads.
    async fn exchange(
        &self,
        mut link: Link,
        now: Instant,
        (head, body): (&[u8], &Spliced),
    ) -> Result<Sent, (Failure, IsStale)> {
        let headers_max = self.target.timeouts.headers;
        let (time, failure) = self.within(now, headers_max, Failure::HeadersTimeout);
        let mut alarm = std::mem::take(&mut link.alarm);
        let exchanged = pin!(async {
            let (unanswered, written) = link.send(head, body).await;
            // An upstream may answer, and close, before it has read everything.
            let read = unanswered.read_head().await;
            read.map_err(|error| match (written, error) {
                (Err(_), _) => (Failure::Unsent, IsStale(true)),
                (Ok(()), NoHead::Closed) => (Failure::Reset, IsStale(true)),
                (Ok(()), NoHead::Malformed) => (Failure::MalformedHead, IsStale(false)),
            })
        });
        let sent = alarm.within(time, exchanged).await;
        let mut sent = sent.unwrap_or(Err((failure, IsStale(false))))?;
        sent.alarm = alarm;
        Ok(sent)
    }

    /// The head of the request, built from nothing.
    fn head(&self, body: &Spliced) -> BytesMut {
        let connection = &*self.target.connection;
        let (path, forwarded) = match self.conversion {
            None => {
                let path = self.request.call.upstream_path(&self.target.upstream_model);
                (path, &self.request.forwarded)
            }
            Some(conversion) => (conversion.path.clone(), &conversion.forwarded),
        };
        let path = &*path;
        let mut head = BytesMut::with_capacity(256 + forwarded.len() + connection.head.0.len());
        head.put_slice(b"POST ");
        head.put_slice(connection.base_url.path.as_bytes());
        head.put_u8(b'/');
        if let Some(version) = &connection.api_version {
            let path = of_azure_deployment(&self.target.upstream_model, path, version);
            head.put_slice(path.as_bytes());
        } else {
            head.put_slice(path.as_bytes());
        }
        head.put_slice(if self.request.is_beta && self.conversion.is_none() {
            b"?beta=true HTTP/1.1\r\n"
        } else {
            b" HTTP/1.1\r\n"
        });
        head.put_slice(&connection.head.0);
        passthrough_line(connection, self.request.passthrough, &mut head);
        if let Some(signer) = &connection.signer {
            let path = format!("{}/{path}", connection.base_url.path);
            let unix_s = self.gateway.clock.unix_micros() / 1_000_000;
            let body = body.parts();
            signer.lines(&Signed { method: "POST", path: &path, body, unix_s }, &mut head);
        }
        head.put_slice(forwarded);
        head.put_slice(b"content-length: ");
        head.put_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        head.put_slice(b"\r\n\r\n");
        head
    }

    pub(super) fn retry_after(&self, headers: &Fields) -> Option<Duration> {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let now_unix_s = self.gateway.clock.unix_micros() / 1_000_000;
        parse_retry_after(text(&header::RETRY_AFTER), text(&RETRY_AFTER_MS), now_unix_s)
    }

    /// Reads a stream until its first content, or until an error says that there will be none.
    async fn hold_events(&self, body: &mut Body, now: Instant) -> Result<(), NoAnswer> {
        let first_max = self.target.timeouts.first_token;
        let (time, failure) = self.within(now, first_max, Failure::FirstTokenTimeout);
        let mut alarm = body.lend_alarm();
        let held = async {
            loop {
                match body.opening() {
                    Opening::Content => return Ok(()),
                    Opening::Error => return self.early_error(body.end()),
                    Opening::Preamble if body.is_done() => return body.check_end(),
                    Opening::Preamble => {}
                }
                if HELD_FRAMES_MAX <= body.n_events() || HELD_BYTES_MAX <= body.held_bytes() {
                    return Ok(());
                }
                body.read().await?;
            }
        };
        alarm.within(time, pin!(held)).await.unwrap_or(Err(failure))?;
        body.return_alarm(alarm);
        Ok(())
    }

    /// An error before any content. What is the caller's own fault is passed on as it came.
    fn early_error(&self, end: Option<&End>) -> Result<(), Failure> {
        let failure = self.early_failure(end);
        let verdict = self.judge(&failure);
        if !verdict.fails_over && verdict.answer == failure::Answer::Upstreams {
            Ok(())
        } else {
            Err(failure)
        }
    }

    fn early_failure(&self, end: Option<&End>) -> Failure {
        let (status, reason) = match end {
            Some(End::Error(error)) => {
                let said = Said::in_event(error);
                (error.status, self.target.connection.provider.reason(error.status, &said))
            }
            _ => (None, None),
        };
        Failure::EarlyError { status, reason, retry_after: None }
    }

    pub(super) fn judge(&self, failure: &Failure) -> Verdict {
        judge(failure, Stage::Held, credential(self.target), self.request.failover_on)
    }

    /// Reads a JSON answer to its end, unless it is a long one.
    async fn hold_whole(&self, body: &mut Body, mut now: Instant) -> Result<(), NoAnswer> {
        let mut limit = (self.target.timeouts.first_token, Failure::FirstTokenTimeout);
        while body.held_bytes() < WHOLE_BYTES_MAX || body.must_be_whole() {
            let (time, failure) = self.within(now, limit.0, limit.1);
            let mut alarm = body.lend_alarm();
            alarm.within(time, pin!(body.read())).await.map_err(|_elapsed| failure)??;
            body.return_alarm(alarm);
            if body.is_done() {
                return body.check_whole().map_err(|failure| {
                    let failure = match failure {
                        Failure::EarlyError { .. } => self.early_failure(body.end()),
                        failure => failure,
                    };
                    let answer = body.take_failed().map(|(status, body)| {
                        let headers = Fields::from_iter([json_type()]);
                        LastAnswer { status, headers, body }
                    });
                    NoAnswer { failure, answer }
                });
            }
            limit = (self.target.timeouts.idle, Failure::IdleTimeout);
            now = Instant::now();
        }
        Ok(())
    }
}

/// The older paths of Azure. Responses have no deployment in theirs.
pub(super) fn of_azure_deployment(deployment: &str, path: &str, version: &str) -> String {
    match path {
        "responses" => format!("{path}?api-version={version}"),
        _ => format!("deployments/{}/{path}?api-version={version}", encoded(deployment, "@:")),
    }
}

/// The header of an error that is ours to write.
pub(super) fn json_type() -> (HeaderName, HeaderValue) {
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
}

const fn is_success(status: u16) -> bool {
    matches!(status, 200..300)
}

/// Whether a pooled connection was closed by the upstream before the request reached it.
struct IsStale(bool);

/// Whether a header says JSON.
pub(super) fn is_json(headers: &Fields) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.len() >= 16
            && value.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json"))
    })
}
