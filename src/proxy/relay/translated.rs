//! An answer of another dialect than the client's on its way through the translator, which is also
//! what looks at it.

use bytes::Bytes;

use crate::dialect::Dialect;
use crate::sse::StreamError;
use crate::translate::form::{Usage, WireError};
use crate::translate::{Progress, StreamEnd, StreamTranslator, Translation, Whole};
use crate::usage::record::{Tokens, UsageSource};
use crate::usage::tap::{End, Observed, Opening};

/// An answer that is not streamed is here as a whole before any of it goes to the client.
const WHOLE_BYTES_MAX: usize = 32 * 1024 * 1024;

pub(super) struct Translated {
    client: Dialect,
    answer: Form,
    end: End,
    is_broken: bool,
    /// The provider's own words, when its answer says that it failed.
    failed: Option<(u16, Bytes)>,
}

enum Form {
    Events(Box<StreamTranslator>),
    Whole { translation: Box<Translation>, body: Vec<u8>, usage: Option<Usage>, text_bytes: u64 },
}

impl Translated {
    pub(super) fn new(translation: &Translation, is_events: bool) -> Self {
        let answer = if is_events {
            Form::Events(Box::new(translation.events()))
        } else {
            let translation = Box::new(translation.clone());
            Form::Whole { translation, body: Vec::new(), usage: None, text_bytes: 0 }
        };
        let client = translation.client();
        Self { client, answer, end: End::Open, is_broken: false, failed: None }
    }

    /// Takes the next bytes; returns what is ready.
    pub(super) fn push(&mut self, part: &[u8]) -> Bytes {
        match &mut self.answer {
            Form::Events(events) => {
                let mut out = String::new();
                events.push(part, &mut out);
                self.note();
                out.into()
            }
            Form::Whole { body, .. } => {
                if WHOLE_BYTES_MAX < body.len() + part.len() {
                    self.is_broken = true;
                } else {
                    body.extend_from_slice(part);
                }
                Bytes::new()
            }
        }
    }

    /// The provider has no more; returns what is ready.
    pub(super) fn finish(&mut self) -> Bytes {
        match &mut self.answer {
            Form::Events(events) => {
                let mut out = String::new();
                events.finish(&mut out);
                self.note();
                out.into()
            }
            Form::Whole { translation, body, usage, text_bytes } => {
                match translation.whole(&std::mem::take(body)) {
                    Some(Whole::Answer { body, usage: told, text_bytes: bytes }) => {
                        *usage = told;
                        *text_bytes = bytes;
                        self.end = End::Proper;
                        body.into()
                    }
                    Some(Whole::Failed { error, status, body }) => {
                        self.end = End::Error(Box::new(stream_error(&error)));
                        self.failed = Some((status, body.into()));
                        Bytes::new()
                    }
                    None => {
                        self.is_broken = true;
                        Bytes::new()
                    }
                }
            }
        }
    }

    fn note(&mut self) {
        let Some(progress) = self.progress() else { return };
        match &progress.end {
            StreamEnd::Open => {}
            StreamEnd::Proper => self.end = End::Proper,
            StreamEnd::Error(error) => self.end = End::Error(Box::new(stream_error(error))),
            StreamEnd::Broken => self.is_broken = true,
        }
    }

    fn progress(&self) -> Option<&Progress> {
        match &self.answer {
            Form::Events(events) => Some(events.progress()),
            Form::Whole { .. } => None,
        }
    }

    /// What came is not of the provider's dialect, or too large.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) fn take_failed(&mut self) -> Option<(u16, Bytes)> {
        self.failed.take()
    }

    /// Bytes that are here and not ready.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.answer {
            Form::Events(_) => 0,
            Form::Whole { body, .. } => body.len(),
        }
    }

    pub(super) fn n_events(&self) -> u64 {
        self.progress().map_or(0, |progress| progress.n_events)
    }

    pub(super) fn n_messages(&self) -> u64 {
        self.progress().map_or(0, |progress| progress.n_messages)
    }

    /// Events that the client gets.
    pub(super) fn n_written(&self) -> u64 {
        match &self.answer {
            Form::Events(events) => events.n_written(),
            Form::Whole { .. } => 0,
        }
    }

    pub(super) fn opening(&self) -> Opening {
        match (self.progress(), &self.end) {
            (Some(progress), _) if progress.has_content => Opening::Content,
            (None, End::Proper) => Opening::Content,
            (_, End::Error(_)) => Opening::Error,
            _ => Opening::Preamble,
        }
    }

    pub(super) fn end(&self) -> &End {
        &self.end
    }

    pub(super) fn observed(&self) -> Observed {
        let (usage, text_bytes) = match &self.answer {
            Form::Events(events) => (events.progress().usage, events.progress().text_bytes),
            Form::Whole { usage, text_bytes, .. } => (*usage, *text_bytes),
        };
        let is_reported = usage.is_some_and(|usage| usage.total().is_some());
        Observed {
            dialect: self.client,
            tokens: usage.as_ref().map(tokens).unwrap_or_default(),
            source: if is_reported { UsageSource::Reported } else { UsageSource::None },
            is_final: is_reported && self.end == End::Proper,
            text_bytes,
            n_events: self.n_events(),
            opening: self.opening(),
            end: self.end.clone(),
            is_degraded: self.is_broken,
            response_id: None,
        }
    }
}

fn stream_error(error: &WireError) -> StreamError {
    StreamError {
        status: error.status.or_else(|| Some(error.http_status())),
        kind: error.kind.as_deref().map(Box::from),
        code: error.code.as_deref().map(Box::from),
        message: Some(error.message.as_str().into()),
    }
}

/// Wholes without their parts, as a row has them.
fn tokens(usage: &Usage) -> Tokens {
    let without = |whole: Option<u64>, parts: [Option<u64>; 2]| {
        let inside: u64 = parts.iter().flatten().sum();
        whole.map(|whole| whole.saturating_sub(inside))
    };
    let long = usage.cache_write_1h;
    Tokens {
        input_uncached: without(usage.input_uncached(), [usage.audio_in, None]),
        input_cache_read: usage.cache_read,
        input_cache_write_5m: without(usage.cache_write, [long, None]),
        input_cache_write_1h: long,
        output: without(usage.output, [usage.reasoning, usage.audio_out]),
        reasoning: usage.reasoning,
        audio_in: usage.audio_in,
        audio_out: usage.audio_out,
    }
}
