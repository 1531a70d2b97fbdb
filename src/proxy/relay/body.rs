//! The body of an answer between the upstream and the client.
//!
//! What is read goes through the tap, which changes nothing, and lies ready until it is taken. Of an
//! event stream only whole events become ready.

use std::io;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};

use super::translated::Translated;
use crate::dialect::Dialect;
use crate::head::answer::Framing;
use crate::head::fields::Fields;
use crate::net::alarm::Alarm;
use crate::proxy::attempt::is_json;
use crate::proxy::forward::Request;
use crate::proxy::upstream::Sent;
use crate::route::failure::Failure;
use crate::sse::UsageStripper;
use crate::translate::Translation;
use crate::usage::inflate::{Encoding, Inflater};
use crate::usage::tap::{End, Observed, Opening, Tap, TapMode};

/// An event of which more than this has come passes before its end: what is larger is an image or
/// the like, and not worth its weight in memory.
const TAIL_BYTES_MAX: usize = 64 * 1024;

/// The content encodings that a client takes, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted(u8);

/// The form of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Events,
    Json,
    /// Audio and other things that are passed on unread.
    Opaque,
}

/// A body on its way.
pub struct Body {
    /// Until all of it is read, and the connection is given back.
    sent: Option<Sent>,
    form: Form,
    tap: Option<Tap>,
    /// There instead of the tap for an answer in another dialect than the client's.
    translated: Option<Box<Translated>>,
    /// There for a client that does not take the provider's encoding.
    inflater: Option<Inflater>,
    stripper: Option<UsageStripper>,
    is_encoded: bool,
    dialect: Dialect,
    ready: Vec<Bytes>,
    ready_bytes: usize,
    passed_bytes: u64,
    /// The beginning of an event whose end has not come.
    tail: BytesMut,
    is_ended: bool,
    /// What the tap saw, once it is known to be all.
    observed: Option<Observed>,
}

impl Accepted {
    const ANY: u8 = u8::MAX;

    pub fn of(accept_encoding: Option<&HeaderValue>) -> Self {
        let text = accept_encoding.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let bits = text.split(',').map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let is_refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00"));
            match name {
                _ if is_refused => 0,
                "*" => Self::ANY,
                name => Encoding::from_header(name).map_or(0, Self::bit),
            }
        });
        Self(bits.fold(Self::bit(Encoding::Identity), |all, bit| all | bit))
    }

    const fn bit(encoding: Encoding) -> u8 {
        1 << encoding as u8
    }

    fn takes(self, encoding: Encoding) -> bool {
        self.0 & Self::bit(encoding) != 0
    }

    fn takes_any(self) -> bool {
        self.0 == Self::ANY
    }
}

impl Body {
    /// The body of an answer that counts.
    pub fn new(
        request: &Request<'_>,
        headers: &Fields,
        sent: Sent,
        has_usage_chunk: bool,
    ) -> Result<Self, Failure> {
        let form = if is_event_stream(headers) {
            Form::Events
        } else if is_json(headers) {
            Form::Json
        } else {
            Form::Opaque
        };
        let dialect = request.call.endpoint.dialect();
        let mut body = Self::with_form((dialect, request.accepts), headers, sent, form)?;
        if form == Form::Events && has_usage_chunk {
            body.stripper = Some(UsageStripper::new());
        }
        Ok(body)
    }

    /// The body of an answer that is passed on for what it says: an error of the caller's own, of
    /// which `begun` has been read.
    pub fn opaque(
        request: &Request<'_>,
        headers: &Fields,
        (sent, begun): (Sent, Bytes),
    ) -> Result<Self, Failure> {
        let dialect = request.call.endpoint.dialect();
        let asked = (dialect, request.accepts);
        let mut body = Self::with_form(asked, headers, sent, Form::Opaque)?;
        if !body.is_ended || !begun.is_empty() {
            body.take(begun)?;
        }
        Ok(body)
    }

    /// The body of an answer that counts, in another dialect than the client's.
    pub fn translated(
        translation: &Translation,
        headers: &Fields,
        sent: Sent,
    ) -> Result<Self, Failure> {
        let is_events = is_of_type(headers, translation.stream_type().as_bytes());
        if !is_events && !is_json(headers) {
            return Err(Failure::BadBody);
        }
        let form = if is_events { Form::Events } else { Form::Json };
        let asked = (translation.client(), Accepted::default());
        let mut body = Self::with_form(asked, headers, sent, form)?;
        body.tap = None;
        body.translated = Some(Box::new(Translated::new(translation, is_events)));
        Ok(body)
    }

    /// An error of the caller's own, as the client's dialect has it.
    pub fn translated_error(client: Dialect, body: Bytes) -> Self {
        Self {
            sent: None,
            form: Form::Opaque,
            tap: None,
            translated: None,
            inflater: None,
            stripper: None,
            is_encoded: false,
            dialect: client,
            ready_bytes: body.len(),
            ready: vec![body],
            passed_bytes: 0,
            tail: BytesMut::new(),
            is_ended: true,
            observed: None,
        }
    }

    fn with_form(
        (dialect, accepts): (Dialect, Accepted),
        headers: &Fields,
        sent: Sent,
        form: Form,
    ) -> Result<Self, Failure> {
        let name = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
        let encoding = name.map_or(Some(Encoding::Identity), Encoding::from_header);
        let is_encoded = encoding != Some(Encoding::Identity);
        let must_decode = match encoding {
            Some(encoding) => is_encoded && (form == Form::Events || !accepts.takes(encoding)),
            // Asked for by the client, or not to be read by anybody.
            None if accepts.takes_any() => false,
            None => return Err(Failure::BadBody),
        };
        let inflater = match encoding.filter(|_| must_decode) {
            Some(encoding) => Some(Inflater::new(encoding).ok_or(Failure::BadBody)?),
            None => None,
        };
        let mode = if form == Form::Events { TapMode::Events } else { TapMode::Json };
        let tap = match form {
            Form::Opaque => None,
            Form::Events | Form::Json if is_encoded && !must_decode => {
                Tap::encoded(dialect, mode, name.unwrap_or_default())
            }
            Form::Events | Form::Json => Some(Tap::new(dialect, mode)),
        };
        let is_framed = sent.head.framing != Framing::UntilClose;
        let tap = tap.map(|tap| if is_framed { tap.framed() } else { tap });
        // Without a body, the head is the end.
        let is_ended = inflater.is_none() && sent.is_done();
        Ok(Self {
            sent: Some(sent),
            form,
            tap,
            translated: None,
            inflater,
            stripper: None,
            is_encoded: is_encoded && !must_decode,
            dialect,
            ready: Vec::new(),
            ready_bytes: 0,
            passed_bytes: 0,
            tail: BytesMut::new(),
            is_ended,
            observed: None,
        })
    }

    pub fn is_events(&self) -> bool {
        self.form == Form::Events
    }

    /// Whether a comment can be put between what comes: lines of JSON have none, and Google's SDKs
    /// take one for a broken answer.
    pub fn takes_comments(&self) -> bool {
        self.is_events() && !matches!(self.dialect, Dialect::Ollama | Dialect::Gemini)
    }

    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// Whether the client gets it without the provider's encoding.
    pub fn is_decoded(&self) -> bool {
        self.inflater.is_some()
    }

    /// Whether nothing more will become ready.
    pub fn is_done(&self) -> bool {
        self.is_ended
    }

    /// Events so far.
    pub fn n_events(&self) -> u64 {
        if let Some(translated) = &self.translated {
            return translated.n_events();
        }
        let finished = self.observed.as_ref().map_or(0, |observed| observed.n_events);
        self.tap.as_ref().map_or(finished, Tap::n_events)
    }

    /// Events that the client gets, for the number of one of our own.
    pub fn n_written(&self) -> u64 {
        self.translated.as_ref().map_or_else(|| self.n_events(), |answer| answer.n_written())
    }

    /// The type of an answer that is translated.
    pub fn translated_type(&self) -> Option<&'static str> {
        self.translated.as_ref().map(|_| match self.form {
            Form::Events if self.dialect == Dialect::Ollama => "application/x-ndjson",
            Form::Events => "text/event-stream; charset=utf-8",
            Form::Json | Form::Opaque => "application/json",
        })
    }

    /// Whether all of it must be here before any of it can go to the client.
    pub fn must_be_whole(&self) -> bool {
        self.translated.is_some() && self.form == Form::Json
    }

    /// What the provider says in an answer that failed: the status, and the client's error body.
    pub fn take_failed(&mut self) -> Option<(u16, Bytes)> {
        self.translated.as_mut()?.take_failed()
    }

    /// Events so far that are no comments, while the answer is read.
    pub fn n_messages(&self) -> u64 {
        match &self.translated {
            Some(translated) => translated.n_messages(),
            None => self.tap.as_ref().map_or(0, Tap::n_messages),
        }
    }

    /// Whether an event of our own can be put in after what is ready.
    pub fn is_at_boundary(&self) -> bool {
        // A translator writes whole events. The beginning of an event is kept back, unless it is a large one.
        self.translated.is_some()
            || !self.tail.is_empty()
            || self.tap.as_ref().is_some_and(Tap::is_at_boundary)
    }

    pub fn opening(&self) -> Opening {
        if let Some(translated) = &self.translated {
            return translated.opening();
        }
        self.tap.as_ref().map_or(Opening::Content, Tap::opening)
    }

    pub fn end(&self) -> Option<&End> {
        if let Some(translated) = &self.translated {
            return Some(translated.end());
        }
        let finished = self.observed.as_ref().map(|observed| &observed.end);
        self.tap.as_ref().map(Tap::end).or(finished)
    }

    /// Whether this is a stream of another dialect in which the provider has reported an error.
    pub fn has_failed_translated(&self) -> bool {
        self.is_events() && self.translated.is_some() && matches!(self.end(), Some(End::Error(_)))
    }

    pub fn held_bytes(&self) -> usize {
        let translated = self.translated.as_ref().map_or(0, |answer| answer.held_bytes());
        self.ready_bytes + self.tail.len() + translated
    }

    pub fn passed_bytes(&self) -> u64 {
        self.passed_bytes
    }

    /// The length to announce, if it is known.
    pub fn length(&self, headers: &Fields) -> Option<usize> {
        let is_changed = self.inflater.is_some() || self.translated.is_some();
        if self.form == Form::Events || is_changed && !self.is_ended {
            return None;
        }
        if self.is_ended {
            return Some(self.ready_bytes);
        }
        headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The timer of the upstream's connection: what is read borrows all of the body.
    pub fn lend_alarm(&mut self) -> Alarm {
        self.sent.as_mut().map(|sent| std::mem::take(&mut sent.alarm)).unwrap_or_default()
    }

    pub fn return_alarm(&mut self, alarm: Alarm) {
        if let Some(sent) = &mut self.sent {
            sent.alarm = alarm;
        }
    }

    /// What can go to the client.
    pub fn take_ready(&mut self) -> Vec<Bytes> {
        self.passed_bytes += self.ready_bytes as u64;
        self.ready_bytes = 0;
        std::mem::take(&mut self.ready)
    }

    /// Reads the next part, or learns that there is none.
    pub async fn read(&mut self) -> Result<(), Failure> {
        let Some(sent) = &mut self.sent else { return Ok(()) };
        let Some(part) = sent.read().await.map_err(|error| failure(&error))? else {
            return self.finish_decoding();
        };
        self.take(part)
    }

    fn take(&mut self, part: Bytes) -> Result<(), Failure> {
        if let Some(mut inflater) = self.inflater.take() {
            let mut plain = BytesMut::new();
            let inflated = inflater.push(&part, |bytes| plain.extend_from_slice(bytes));
            self.inflater = Some(inflater);
            inflated.map_err(|_| Failure::BadBody)?;
            self.push(plain.freeze());
        } else {
            self.push(part);
        }
        if self.translated.as_ref().is_some_and(|answer| answer.is_broken()) {
            return Err(Failure::BadBody);
        }
        if self.sent.as_ref().is_none_or(Sent::is_done) { self.finish_decoding() } else { Ok(()) }
    }

    /// The upstream has no more: what the decoder still has is the end.
    fn finish_decoding(&mut self) -> Result<(), Failure> {
        if let Some(mut inflater) = self.inflater.take() {
            let mut plain = BytesMut::new();
            let finished = inflater.finish(|bytes| plain.extend_from_slice(bytes));
            self.inflater = Some(inflater);
            finished.map_err(|_| Failure::BadBody)?;
            self.push(plain.freeze());
        }
        if let Some(translated) = &mut self.translated {
            let ready = translated.finish();
            let is_broken = translated.is_broken();
            self.make_ready(ready);
            // Then it has not ended as it should, and must not look so.
            if is_broken {
                return Err(Failure::BadBody);
            }
        }
        self.is_ended = true;
        Ok(())
    }

    fn push(&mut self, part: Bytes) {
        if part.is_empty() {
            return;
        }
        if let Some(translated) = &mut self.translated {
            let ready = translated.push(&part);
            return self.make_ready(ready);
        }
        if let Some(tap) = &mut self.tap {
            tap.push(&part);
        }
        if self.form != Form::Events || self.tap.is_none() {
            return self.make_ready(part);
        }
        let boundary = self.tap.as_ref().and_then(Tap::last_boundary);
        match boundary {
            Some(end) if end == part.len() && self.tail.is_empty() => self.make_ready(part),
            Some(end) => {
                let rest = part.slice(end..);
                let whole = part.slice(..end);
                if self.tail.is_empty() {
                    self.make_ready(whole);
                } else {
                    self.tail.extend_from_slice(&whole);
                    let whole = self.tail.split().freeze();
                    self.make_ready(whole);
                }
                self.tail.extend_from_slice(&rest);
            }
            None if TAIL_BYTES_MAX < self.tail.len() + part.len() => {
                let tail = self.tail.split().freeze();
                self.make_ready(tail);
                self.make_ready(part);
            }
            None => self.tail.extend_from_slice(&part),
        }
    }

    fn make_ready(&mut self, part: Bytes) {
        let Self { stripper, ready, ready_bytes, .. } = self;
        let mut put = |part: Bytes| {
            *ready_bytes += part.len();
            if !part.is_empty() {
                ready.push(part);
            }
        };
        match stripper {
            Some(stripper) => stripper.push(&part, put),
            None => put(part),
        }
    }

    /// Whether the client will have seen the end once it has what is ready.
    pub fn is_over(&self) -> bool {
        self.is_ended || matches!(self.end(), Some(End::Proper))
    }

    /// A stream that ends without its dialect's last event is cut off, however politely. What it
    /// has begun to say last is then not passed on: an event of our own follows.
    pub fn check_end(&mut self) -> Result<(), Failure> {
        if self.form == Form::Events && (self.translated.is_some() || has_last_event(self.dialect))
        {
            self.finish_tap();
            if matches!(self.end(), Some(End::Open)) {
                return Err(Failure::Reset);
            }
        }
        if !self.tail.is_empty() {
            // Without the blank line at its end most clients take it for an event all the same.
            let tail = self.tail.split().freeze();
            self.make_ready(tail);
        }
        Ok(())
    }

    /// An answer that is all here: JSON that can be read, unless its compression hides it.
    pub fn check_whole(&mut self) -> Result<(), Failure> {
        let is_hidden = self.is_encoded && self.tap.as_ref().is_none_or(Tap::has_given_up);
        self.finish_tap();
        match self.end() {
            Some(End::Error(error)) if self.translated.is_some() => {
                Err(Failure::EarlyError { status: error.status, reason: None, retry_after: None })
            }
            Some(end) if *end != End::Proper && !is_hidden => Err(Failure::BadBody),
            _ => Ok(()),
        }
    }

    fn finish_tap(&mut self) {
        if let Some(tap) = self.tap.take() {
            self.observed = Some(tap.finish());
        }
    }

    /// What the tap saw. It looks at nothing that comes after.
    pub fn observe(&mut self) -> Observed {
        if let Some(translated) = &self.translated {
            return translated.observed();
        }
        self.finish_tap();
        self.observed.clone().unwrap_or_else(|| Tap::new(self.dialect, TapMode::Json).finish())
    }

    /// The connection that it came on, once all of it is read.
    pub fn take_sent(&mut self) -> Option<Sent> {
        self.sent.take_if(|_| self.is_ended)
    }
}

fn is_event_stream(headers: &Fields) -> bool {
    is_of_type(headers, b"text/event-stream")
}

fn is_of_type(headers: &Fields, kind: &[u8]) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().get(..kind.len()).is_some_and(|begun| begun.eq_ignore_ascii_case(kind))
    })
}

/// Whether a stream of `dialect` says that it is over.
const fn has_last_event(dialect: Dialect) -> bool {
    matches!(
        dialect,
        Dialect::Chat
            | Dialect::Completions
            | Dialect::Responses
            | Dialect::Messages
            | Dialect::Gemini
    )
}

fn failure(error: &io::Error) -> Failure {
    tracing::debug!(%error, "the upstream's answer broke");
    Failure::Reset
}
