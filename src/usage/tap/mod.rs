//! Tokens read from an answer in passing. The tap is given the answer's bytes and changes none.
//!
//! A stream is split into events, and an event is parsed only when it can report usage; of the
//! others the tap counts the text, for an estimate in case the report never comes. A whole JSON
//! answer is kept up to `BODY_BYTES_MAX` and parsed at its end. Of a longer one (embeddings, mostly)
//! the last `TAIL_BYTES` are kept, and the usage object is looked for in them: all dialects put it
//! behind the bulk of the answer.

mod counts;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::{Finder, FinderRev};
use serde::Deserialize;
use serde_json::Value;

use self::counts::Usage;
use super::inflate::{Encoding, Inflater};
use crate::dialect::Dialect;
use crate::json::cursor::Cursor;
use crate::json::top_level_strings;
use crate::sse::{
    Class, Event, Splitter, StreamError, answer_text_bytes, classify, event_text_bytes,
    is_stream_end,
};
use crate::usage::record::{Tokens, UsageSource};

const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How much of a longer answer is looked at for its id.
const HEAD_BYTES: usize = 4 * 1024;
/// How much of a short one.
const OPENING_BYTES: usize = 512;
const TAIL_BYTES: usize = 64 * 1024;
/// Text of this length is about one token, in the languages that models mostly speak.
const TEXT_BYTES_PER_TOKEN: u64 = 4;

static USAGE_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));
static LAST_USAGE_KEY: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new("\"usage\""));

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapMode {
    /// One JSON document.
    Json,
    /// Server-sent events.
    Events,
}

/// How a stream began, which decides whether another attempt may still be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opening {
    /// Nothing that decides has come.
    #[default]
    Preamble,
    Content,
    /// An error before any content; [`Tap::end`] has it.
    Error,
}

/// How an answer ended, as far as its bytes tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum End {
    /// It has not: if no more bytes come, it is cut off.
    #[default]
    Open,
    /// As its dialect has it.
    Proper,
    /// With an error that the provider reported inside of the stream.
    Error(Box<StreamError>),
}

/// Reads one answer.
#[derive(Debug)]
pub struct Tap {
    inflater: Option<Box<Inflater>>,
    /// What is compressed is not read any further.
    has_given_up: bool,
    reader: Reader,
}

/// What the tap saw of an answer.
#[derive(Debug, Clone)]
pub struct Observed {
    pub dialect: Dialect,
    pub tokens: Tokens,
    pub source: UsageSource,
    /// The report is the last one; else more output may have followed it.
    pub is_final: bool,
    /// Text, reasoning and tool arguments, in bytes of JSON.
    pub text_bytes: u64,
    pub n_events: u64,
    pub opening: Opening,
    pub end: End,
    /// Something about the answer was not as it should be.
    pub is_degraded: bool,
    /// The id of the response that a later request may continue; Responses only.
    pub response_id: Option<Box<str>>,
}

#[derive(Debug)]
struct Reader {
    input: Input,
    /// Where in the last chunk the last event that ended in it ended.
    last_boundary: Option<usize>,
    seen: Seen,
}

#[derive(Debug)]
enum Input {
    Events(Splitter),
    Body {
        /// The only part so far: most answers have one, which is kept as it came.
        first: Bytes,
        /// All parts, when there are several.
        bytes: Vec<u8>,
        /// Only the end is kept.
        is_tail: bool,
    },
}

/// What tells whether all of an answer has come.
#[derive(Debug)]
enum Wholeness {
    Framed,
    /// Only the answer's own text does.
    Unknown,
}

#[derive(Debug)]
struct Seen {
    dialect: Dialect,
    wholeness: Wholeness,
    usage: Option<Usage>,
    is_final: bool,
    is_degraded: bool,
    text_bytes: usize,
    n_events: u64,
    /// Those of them that say nothing.
    n_comments: u64,
    opening: Opening,
    end: End,
    response_id: Option<Box<str>>,
}

/// The members of an answer, or of an event, that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    id: Value,
    #[serde(alias = "usageMetadata")]
    usage: Option<Usage>,
}

/// An event that has its report inside.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wrapped {
    #[serde(alias = "message")]
    response: Option<Report>,
    usage: Option<Usage>,
}

/// What a text of `text_bytes` is likely to have as tokens.
pub fn estimate_tokens(text_bytes: u64) -> u64 {
    text_bytes.div_ceil(TEXT_BYTES_PER_TOKEN)
}

impl Tap {
    pub fn new(dialect: Dialect, mode: TapMode) -> Self {
        let input = match mode {
            TapMode::Events => Input::Events(Splitter::default()),
            TapMode::Json => Input::Body { first: Bytes::new(), bytes: Vec::new(), is_tail: false },
        };
        let seen = Seen {
            dialect,
            wholeness: Wholeness::Unknown,
            usage: None,
            is_final: false,
            is_degraded: false,
            text_bytes: 0,
            n_events: 0,
            n_comments: 0,
            opening: Opening::default(),
            end: End::default(),
            response_id: None,
        };
        Self {
            inflater: None,
            has_given_up: false,
            reader: Reader { input, last_boundary: None, seen },
        }
    }

    /// Says that the answer's framing tells a whole answer from one that is cut off.
    #[must_use]
    pub fn framed(mut self) -> Self {
        self.reader.seen.wholeness = Wholeness::Framed;
        self
    }

    /// A tap for an answer with a `content-encoding`. `None` for one that cannot be read.
    pub fn encoded(dialect: Dialect, mode: TapMode, content_encoding: &str) -> Option<Self> {
        let inflater = match Encoding::from_header(content_encoding)? {
            Encoding::Identity => None,
            encoding => Some(Box::new(Inflater::new(encoding)?)),
        };
        Some(Self { inflater, ..Self::new(dialect, mode) })
    }

    /// Reads the next bytes of the answer.
    pub fn push(&mut self, chunk: &Bytes) {
        let reader = &mut self.reader;
        match &mut self.inflater {
            None => reader.push_part(chunk),
            Some(inflater) => {
                if inflater.push(chunk, |plain| reader.push(plain)).is_err() {
                    self.has_given_up = true;
                    reader.seen.is_degraded = true;
                }
            }
        }
    }

    /// Whether part of a compressed answer has not been looked at, so that nothing can be said of its
    /// end.
    pub fn has_given_up(&self) -> bool {
        self.has_given_up
    }

    pub fn opening(&self) -> Opening {
        self.reader.seen.opening
    }

    pub fn end(&self) -> &End {
        &self.reader.seen.end
    }

    /// Events so far, comments included.
    pub fn n_events(&self) -> u64 {
        self.reader.seen.n_events
    }

    /// Events so far, without comments.
    pub fn n_messages(&self) -> u64 {
        self.reader.seen.n_events - self.reader.seen.n_comments
    }

    /// How much of the last chunk belongs to whole events; `None` if no event ended in it.
    pub fn last_boundary(&self) -> Option<usize> {
        self.reader.last_boundary
    }

    /// Whether an event of our own can be put in here.
    pub fn is_at_boundary(&self) -> bool {
        match &self.reader.input {
            Input::Events(splitter) => splitter.is_at_boundary(),
            Input::Body { .. } => false,
        }
    }

    /// The answer has ended, or will not go on.
    pub fn finish(mut self) -> Observed {
        let reader = &mut self.reader;
        if let Some(inflater) = &mut self.inflater
            && inflater.finish(|plain| reader.push(plain)).is_err()
        {
            reader.seen.is_degraded = true;
        }
        self.reader.finish()
    }
}

impl Reader {
    fn push_part(&mut self, part: &Bytes) {
        match &mut self.input {
            Input::Body { first, bytes, is_tail: false }
                if first.is_empty()
                    && bytes.is_empty()
                    && part.len() <= self.seen.body_bytes_max() =>
            {
                *first = part.clone();
            }
            _ => self.push(part),
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        match &mut self.input {
            Input::Events(splitter) => {
                self.last_boundary = None;
                splitter.push(chunk, |event, end| {
                    self.seen.event(&event);
                    self.last_boundary = Some(end);
                });
            }
            Input::Body { first, bytes, is_tail } => {
                bytes.extend_from_slice(&std::mem::take(first));
                bytes.extend_from_slice(chunk);
                if !*is_tail && bytes.len() > self.seen.body_bytes_max() {
                    *is_tail = true;
                    self.seen.head(bytes.get(..HEAD_BYTES).unwrap_or_default());
                }
                // Cut at twice the tail, so that each byte is moved once at most.
                if *is_tail && bytes.len() > 2 * TAIL_BYTES {
                    bytes.drain(..bytes.len() - TAIL_BYTES);
                    bytes.shrink_to(2 * TAIL_BYTES);
                }
            }
        }
    }

    fn finish(self) -> Observed {
        let Self { input, mut seen, .. } = self;
        match input {
            Input::Events(mut splitter) => splitter.finish(|event| seen.event(&event)),
            Input::Body { bytes, is_tail: true, .. } => seen.tail(&bytes),
            Input::Body { first, bytes, .. } if bytes.is_empty() => seen.body(&first),
            Input::Body { bytes, .. } => seen.body(&bytes),
        }
        seen.finish()
    }
}

impl Seen {
    fn event(&mut self, event: &Event<'_>) {
        self.n_events += 1;
        let data = match *event {
            Event::Silent => {
                self.n_comments += 1;
                return;
            }
            Event::Oversized => {
                self.is_degraded = true;
                self.class(Class::Content);
                return;
            }
            Event::Message { data, .. } => data,
        };
        let is_end = is_stream_end(self.dialect, event);
        if is_end && self.end == End::Open {
            self.end = End::Proper;
        }
        let data = data.trim_ascii();
        let is_object = data.starts_with(b"{") && data.ends_with(b"}");
        if !is_object {
            // Some end every stream like a chat.
            self.is_degraded |= !is_end && data != b"[DONE]";
            self.class(if is_end { Class::Terminal } else { Class::Content });
            return;
        }
        if self.may_report(event) {
            self.report(data);
        }
        let text_bytes = event_text_bytes(self.dialect, data);
        self.text_bytes += text_bytes;
        if text_bytes == 0 || self.opening == Opening::Preamble {
            self.class(classify(self.dialect, event));
        }
    }

    fn class(&mut self, class: Class) {
        let is_open = self.opening == Opening::Preamble;
        match class {
            Class::Content | Class::Terminal if is_open => self.opening = Opening::Content,
            Class::Preamble | Class::Content | Class::Terminal => {}
            Class::Error(error) => {
                if is_open {
                    self.opening = Opening::Error;
                }
                self.end = End::Error(error);
            }
        }
    }

    /// Whether the id of a response has still to be found.
    fn wants_id(&self) -> bool {
        self.dialect == Dialect::Responses && self.response_id.is_none()
    }

    /// Whether `event` is worth parsing: it may have usage, or the first news of the id.
    fn may_report(&self, event: &Event<'_>) -> bool {
        let Event::Message { name, data } = *event else {
            return false;
        };
        match self.dialect {
            Dialect::Responses | Dialect::Messages => {
                let is_error = name == b"error" || data.starts_with(b"{\"type\":\"error\"");
                let is_delta = name.ends_with(b"delta") && name != b"message_delta"
                    || name == b"ping"
                    || name == b"content_block_stop";
                !is_error && !is_delta && (self.wants_id() || has_usage(data))
            }
            Dialect::Gemini => memchr::memmem::find(data, b"\"usageMetadata\"").is_some(),
            Dialect::Chat
            | Dialect::Embeddings
            | Dialect::Completions
            | Dialect::Moderations
            | Dialect::Converse
            | Dialect::Cohere
            | Dialect::Ollama
            | Dialect::Rerank
            | Dialect::Images
            | Dialect::Audio => self.n_events - self.n_comments == 1 || has_usage(data),
        }
    }

    /// Reads what an event reports.
    fn report(&mut self, data: &[u8]) {
        let is_wrapped = matches!(self.dialect, Dialect::Responses | Dialect::Messages);
        if !is_wrapped {
            match serde_json::from_slice(data) {
                Ok(report) => self.take(report),
                Err(_malformed) => self.is_degraded = true,
            }
            return;
        }
        match serde_json::from_slice::<Wrapped>(data) {
            Ok(Wrapped { response, usage }) => {
                // What `message_start` says of the output is only the beginning.
                let is_beginning = self.dialect == Dialect::Messages && response.is_some();
                self.take(response.unwrap_or_default());
                self.is_final &= !is_beginning;
                self.take(Report { usage, ..Report::default() });
            }
            Err(_malformed) => self.is_degraded = true,
        }
    }

    fn take(&mut self, report: Report) {
        if self.dialect == Dialect::Responses && self.response_id.is_none() {
            self.response_id = report.id.as_str().map(Box::from);
        }
        if let Some(later) = report.usage {
            self.usage = Some(self.usage.take().unwrap_or_default().updated(later));
            self.is_final = true;
        }
    }

    /// Reads a whole answer.
    fn body(&mut self, body: &[u8]) {
        let from_its_ends = match self.wholeness {
            Wholeness::Framed => closing_report(self.dialect, body),
            Wholeness::Unknown => None,
        };
        match from_its_ends.or_else(|| whole_report(body)) {
            Some(report) => {
                self.take(report);
                self.opening = Opening::Content;
                self.end = End::Proper;
            }
            None => self.is_degraded = true,
        }
        if self.usage.is_none() {
            self.text_bytes = answer_text_bytes(self.dialect, body);
        }
    }

    /// What is kept whole of an answer. Vectors and pictures are long, and not worth keeping.
    fn body_bytes_max(&self) -> usize {
        match self.dialect {
            Dialect::Embeddings | Dialect::Images | Dialect::Audio => 2 * TAIL_BYTES,
            Dialect::Chat
            | Dialect::Responses
            | Dialect::Messages
            | Dialect::Completions
            | Dialect::Moderations
            | Dialect::Gemini
            | Dialect::Converse
            | Dialect::Cohere
            | Dialect::Ollama
            | Dialect::Rerank => BODY_BYTES_MAX,
        }
    }

    /// Reads the id at the beginning of a long answer, if it is there.
    fn head(&mut self, head: &[u8]) {
        self.take(opening_report(head));
    }

    /// Reads the end of a long answer.
    fn tail(&mut self, tail: &[u8]) {
        self.opening = Opening::Content;
        if tail.trim_ascii_end().ends_with(b"}") {
            self.end = End::Proper;
        } else {
            self.is_degraded = true;
        }
        let value = LAST_USAGE_KEY
            .rfind(tail)
            .and_then(|at| tail.get(at + LAST_USAGE_KEY.needle().len()..))
            .and_then(|rest| rest.trim_ascii_start().strip_prefix(b":"));
        // The object is followed by the rest of the answer, so only one value is read.
        let usage = value.and_then(|value| {
            serde_json::Deserializer::from_slice(value).into_iter::<Usage>().next()?.ok()
        });
        if usage.is_none() {
            self.text_bytes = answer_text_bytes(self.dialect, tail);
        }
        self.take(Report { usage, ..Report::default() });
    }

    fn finish(self) -> Observed {
        let converted = self.usage.map(|usage| usage.convert(self.dialect)).unwrap_or_default();
        let is_reported = converted.tokens != Tokens::default();
        Observed {
            dialect: self.dialect,
            tokens: converted.tokens,
            source: if is_reported { UsageSource::Reported } else { UsageSource::None },
            is_final: self.is_final && is_reported,
            text_bytes: self.text_bytes as u64,
            n_events: self.n_events,
            opening: self.opening,
            end: self.end,
            is_degraded: self.is_degraded || converted.is_absurd,
            response_id: self.response_id,
        }
    }
}

impl Observed {
    /// Fills in what was not reported: input from the size of the request, output from the text
    /// that was seen. A final report stays as it is.
    #[must_use]
    pub fn estimated(mut self, request_bytes: u64) -> Self {
        if self.is_final {
            return self;
        }
        let tokens = &mut self.tokens;
        let has_input = tokens.input_uncached.is_some() || tokens.input_cache_read.is_some();
        if !has_input {
            tokens.input_uncached = Some(estimate_tokens(request_bytes));
        }
        let has_output = matches!(
            self.dialect,
            Dialect::Chat
                | Dialect::Responses
                | Dialect::Messages
                | Dialect::Gemini
                | Dialect::Ollama
                | Dialect::Completions
        );
        if has_output {
            tokens.output = tokens.output.max(Some(estimate_tokens(self.text_bytes)));
        }
        self.source = UsageSource::Estimated;
        self
    }
}

/// What a whole answer reports, read from its two ends: usage stands behind the bulk, the id before
/// it. `None` when it is not found there, and all of the answer must be walked over.
///
/// In JSON a quote that no backslash stands before, and that a name and a colon follow, opens a key.
/// When what follows the key's value closes one object and ends, the key is at the top level of an
/// answer that is whole.
fn closing_report(dialect: Dialect, body: &[u8]) -> Option<Report> {
    let at = LAST_USAGE_KEY.rfind(body)?;
    let (before, rest) = body.split_at_checked(at)?;
    let rest = rest.get(LAST_USAGE_KEY.needle().len()..)?;
    if !before.trim_ascii_start().starts_with(b"{") || before.ends_with(b"\\") {
        return None;
    }
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    // As text: bytes would be checked again at each string.
    let value = std::str::from_utf8(value).ok()?;
    let mut values = serde_json::Deserializer::from_str(value).into_iter();
    let usage = values.next()?.ok()?;
    let mut cursor = Cursor::new(value.get(values.byte_offset()..)?);
    while cursor.member(false).ok()?.is_some() {
        cursor.skip_value(1).ok()?;
    }
    if cursor.peek_token().is_some() {
        return None;
    }
    if dialect != Dialect::Responses {
        return Some(Report { usage, ..Report::default() });
    }
    // Of a response the id must be known, wherever it stands.
    let opening = opening_report(before.get(..OPENING_BYTES).unwrap_or(before));
    (!opening.id.is_null()).then_some(Report { usage, ..opening })
}

/// The id at the beginning of an answer, if it is there.
fn opening_report(head: &[u8]) -> Report {
    let valid = std::str::from_utf8(head).unwrap_or_else(|broken| {
        // A character may be cut in two.
        let valid = head.get(..broken.valid_up_to()).unwrap_or_default();
        std::str::from_utf8(valid).unwrap_or_default()
    });
    let mut report = Report::default();
    top_level_strings(valid, |key, value| {
        if key == "id" {
            report.id = value.into();
        }
    });
    report
}

/// What a whole answer reports at its top level. The rest of it is walked over without being read;
/// `None` when it is not one JSON object, or what it reports is of the wrong kind.
fn whole_report(body: &[u8]) -> Option<Report> {
    let mut cursor = Cursor::new(std::str::from_utf8(body).ok()?);
    let mut report = Report::default();
    cursor.enter_object(0).ok()?;
    let mut is_first = true;
    while let Some(member) = cursor.member(is_first).ok()? {
        is_first = false;
        cursor.peek_token();
        let start = cursor.at();
        cursor.skip_value(1).ok()?;
        let value = cursor.slice(start..cursor.at());
        match cursor.decode(&member.key).as_deref() {
            Some("id") => report.id = serde_json::from_str(value).ok()?,
            Some("usage" | "usageMetadata") => report.usage = serde_json::from_str(value).ok()?,
            _ => {}
        }
    }
    cursor.peek_token().is_none().then_some(report)
}

/// Whether `json` has a `usage` that is not null.
fn has_usage(json: &[u8]) -> bool {
    if json.ends_with(b"\"usage\":null}") {
        return false; // Most events of a stream, where the provider was asked for usage.
    }
    let mut rest = json;
    while let Some(at) = USAGE_KEY.find(rest) {
        rest = rest.get(at + USAGE_KEY.needle().len()..).unwrap_or_default();
        let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        if value.is_some_and(|value| !value.starts_with(b"null")) {
            return true;
        }
    }
    false
}
