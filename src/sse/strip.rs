//! Takes the usage chunk out of a chat stream whose client did not ask for it.
//!
//! The chunk to take out is an event whose data is an object with an empty `choices` array and a
//! `usage` object. Everything else passes byte for byte and at once: bytes are held only while
//! the event under way may still turn out to be that one, which ends with the first byte of an
//! element of `choices`, or of a `usage` that is null, or with `HELD_BYTES_MAX`.
//!
//! Both decisions are made byte by byte from the beginning of an event, never from what a chunk
//! happens to hold, so that any split of the stream gives the same bytes.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memchr2;
use memchr::memmem::Finder;

/// A longer event is no usage chunk.
const HELD_BYTES_MAX: usize = 16 * 1024;

const DATA: &[u8] = b"data:";

static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"choices\""));

/// The filter for one stream.
#[derive(Debug, Default)]
pub struct UsageStripper {
    /// Bytes of the event under way that came in earlier chunks and are not passed yet.
    held: Vec<u8>,
    line: Line,
    line_bytes: usize,
    event_bytes: usize,
    json: Probe,
    /// The event under way is certainly not the usage chunk.
    is_passing: bool,
    after_cr: AfterCr,
}

/// What the line under way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` are there.
    Begun(usize),
    /// After `data:`, where one space is not part of the value.
    DataBegun,
    Data,
    /// A comment before an event, which belongs to none.
    Comment,
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Begun(0)
    }
}

/// Whether the last byte was a CR, and whose an LF after it would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum AfterCr {
    #[default]
    No,
    InEvent,
    Passed,
    Dropped,
}

impl UsageStripper {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream, and calls `forward` with what is to be sent, in order.
    pub fn push(&mut self, chunk: &Bytes, mut forward: impl FnMut(Bytes)) {
        // What is before `sent` is settled; what is before `event` is not of the event under way.
        let mut sent = 0;
        let mut event = 0;
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            let after_cr = std::mem::take(&mut self.after_cr);
            if after_cr != AfterCr::No && rest.starts_with(b"\n") {
                at += 1;
                match after_cr {
                    AfterCr::Dropped => (sent, event) = (at, at),
                    AfterCr::Passed => event = at,
                    AfterCr::InEvent | AfterCr::No => {}
                }
                continue;
            }
            let end = memchr2(b'\n', b'\r', rest);
            let (text, tail) = rest.split_at(end.unwrap_or(rest.len()));
            let is_whole = tail.starts_with(b"\n\n") || tail.starts_with(b"\r\n\r\n");
            if is_whole && self.event_bytes == 0 && !has_empty_choices(text) {
                self.line_bytes += text.len();
                self.event_bytes += text.len();
                self.is_passing = true;
            } else {
                self.text(text);
            }
            at += text.len();
            if self.is_passing {
                self.release(&mut forward);
            }
            let Some(&mark) = tail.first() else {
                break;
            };
            at += 1;
            let event_end = self.end_line();
            if event_end == Some(Verdict::Drop) {
                self.held.clear();
                send(chunk, sent, event, &mut forward);
                (sent, event) = (at, at);
            } else if event_end == Some(Verdict::Pass) {
                self.release(&mut forward);
                event = at;
            }
            if mark == b'\r' {
                self.after_cr = match event_end {
                    None => AfterCr::InEvent,
                    Some(Verdict::Pass) => AfterCr::Passed,
                    Some(Verdict::Drop) => AfterCr::Dropped,
                };
            }
        }
        let is_free = self.is_passing || self.line == Line::Comment;
        let end = if is_free { chunk.len() } else { event };
        send(chunk, sent, end, &mut forward);
        self.held.extend_from_slice(chunk.get(end..).unwrap_or_default());
    }

    /// The stream has ended: what was held of an unfinished event.
    pub fn finish(&mut self) -> Option<Bytes> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then(|| held.into())
    }

    fn release(&mut self, forward: &mut impl FnMut(Bytes)) {
        if !self.held.is_empty() {
            forward(std::mem::take(&mut self.held).into());
        }
    }

    /// Takes more of the line under way.
    fn text(&mut self, text: &[u8]) {
        self.line_bytes += text.len();
        self.event_bytes += text.len();
        if self.event_bytes > HELD_BYTES_MAX {
            self.is_passing = true;
        }
        let mut rest = text;
        while let (false, Some((&byte, tail))) = (self.is_passing, rest.split_first()) {
            match self.line {
                Line::Begun(n) if DATA.get(n) == Some(&byte) => {
                    rest = tail;
                    let is_whole = n + 1 == DATA.len();
                    self.line = if is_whole { Line::DataBegun } else { Line::Begun(n + 1) };
                }
                Line::Begun(0) if byte == b':' && self.event_bytes == text.len() => {
                    self.line = Line::Comment;
                }
                Line::Begun(_) => self.line = Line::Other,
                Line::DataBegun => {
                    self.line = Line::Data;
                    rest = if byte == b' ' { tail } else { rest };
                }
                Line::Data => {
                    self.is_passing = !self.json.push(rest);
                    return;
                }
                Line::Comment | Line::Other => return,
            }
        }
    }

    /// The line under way has ended. Returns what becomes of the event if that ends too.
    fn end_line(&mut self) -> Option<Verdict> {
        let is_comment = self.line == Line::Comment;
        let is_blank = self.line_bytes == 0;
        self.line = Line::default();
        self.line_bytes = 0;
        if !is_blank && !is_comment {
            self.event_bytes += 1;
            // Between data lines is a line feed, which JSON lets stand between tokens only.
            self.is_passing |= self.json.string != InString::No;
            return None;
        }
        let is_usage = is_blank && !self.is_passing && self.json.is_usage();
        self.json = Probe::default();
        self.event_bytes = 0;
        self.is_passing = false;
        Some(if is_usage { Verdict::Drop } else { Verdict::Pass })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Drop,
}

/// Whether `line`, which is a whole event, has `"choices":[]` anywhere. Without it, it is not the
/// usage chunk, whatever else it is; that is one search instead of a walk.
fn has_empty_choices(line: &[u8]) -> bool {
    let mut rest = line;
    while let Some(at) = CHOICES.find(rest) {
        rest = rest.get(at + CHOICES.needle().len()..).unwrap_or_default();
        let element = rest
            .trim_ascii_start()
            .strip_prefix(b":")
            .and_then(|value| value.trim_ascii_start().strip_prefix(b"["))
            .map(<[u8]>::trim_ascii_start);
        if element.is_some_and(|element| element.starts_with(b"]")) {
            return true;
        }
    }
    false
}

fn send(chunk: &Bytes, start: usize, end: usize, forward: &mut impl FnMut(Bytes)) {
    if start < end {
        forward(chunk.slice(start..end));
    }
}

/// Follows the top level of a JSON object far enough to tell a usage chunk from any other.
#[derive(Debug, Default)]
struct Probe {
    place: Place,
    /// Objects and arrays that are open inside of the value under way.
    depth: usize,
    string: InString,
    key: Key,
    key_bytes: [u8; 8],
    key_len: usize,
    has_choices: bool,
    has_usage: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Start,
    Key,
    Colon,
    Value,
    /// After the `[` of `choices`.
    Choices,
    /// Inside of a value, or after it.
    Rest,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum InString {
    #[default]
    No,
    Plain,
    Escape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Key {
    #[default]
    Other,
    Choices,
    Usage,
}

impl Probe {
    fn is_usage(&self) -> bool {
        self.place == Place::End && self.has_choices && self.has_usage
    }

    /// Takes more of the JSON text. Returns whether it may still be a usage chunk.
    fn push(&mut self, json: &[u8]) -> bool {
        let mut rest = json;
        while let Some((&byte, tail)) = rest.split_first() {
            if self.string != InString::No {
                rest = self.in_string(rest);
                continue;
            }
            rest = tail;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') && !self.token(byte) {
                return false;
            }
        }
        true
    }

    /// Takes what `json` has of the string under way. Returns what follows.
    fn in_string<'j>(&mut self, json: &'j [u8]) -> &'j [u8] {
        if self.string == InString::Escape {
            self.string = InString::Plain;
            return json.get(1..).unwrap_or_default();
        }
        let end = memchr2(b'"', b'\\', json).unwrap_or(json.len());
        let (plain, tail) = json.split_at(end);
        if self.place == Place::Key {
            self.take_key(plain);
        }
        match tail.split_first() {
            Some((b'"', tail)) => {
                self.string = InString::No;
                if self.place == Place::Key {
                    self.place = Place::Colon;
                    self.key = match self.key_bytes.get(..self.key_len) {
                        Some(b"choices") => Key::Choices,
                        Some(b"usage") => Key::Usage,
                        _ => Key::Other,
                    };
                }
                tail
            }
            Some((_backslash, tail)) => {
                self.string = InString::Escape;
                // Longer than any key that matters: an escaped key is another key.
                self.key_len = self.key_bytes.len() + 1;
                tail
            }
            None => tail,
        }
    }

    fn take_key(&mut self, plain: &[u8]) {
        let end = self.key_len + plain.len();
        if let Some(room) = self.key_bytes.get_mut(self.key_len..end) {
            room.copy_from_slice(plain);
        }
        self.key_len = end;
    }

    /// Takes one byte outside of strings. Returns whether it may still be a usage chunk.
    fn token(&mut self, byte: u8) -> bool {
        match (self.place, byte) {
            (Place::Start, b'{') | (Place::Rest, b',') if self.depth == 0 => {
                self.place = Place::Key;
                self.key_len = 0;
            }
            (Place::Key, b'"') => self.string = InString::Plain,
            (Place::Colon, b':') => self.place = Place::Value,
            (Place::Value, _) => return self.value(byte),
            (Place::Choices, b']') => {
                self.has_choices = true;
                self.depth = 0;
                self.place = Place::Rest;
            }
            (Place::Rest, b'}') if self.depth == 0 => self.place = Place::End,
            (Place::Rest, _) => self.inside(byte),
            (Place::Start | Place::Key | Place::Colon | Place::Choices | Place::End, _) => {
                return false;
            }
        }
        true
    }

    fn value(&mut self, first: u8) -> bool {
        self.place = Place::Rest;
        match (self.key, first) {
            (Key::Choices, b'[') => {
                self.place = Place::Choices;
                return true;
            }
            (Key::Usage, b'{') => self.has_usage = true,
            (Key::Choices | Key::Usage, _) => return false,
            (Key::Other, _) => {}
        }
        self.inside(first);
        true
    }

    fn inside(&mut self, byte: u8) {
        match byte {
            b'"' => self.string = InString::Plain,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}
