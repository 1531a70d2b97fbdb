//! Bytes to server-sent events, wherever the bytes are split.
//!
//! Lines end in LF, CRLF or CR, as the HTML standard has it. An event that lies whole in one chunk
//! and has one `data` line is borrowed from the chunk; only what a chunk leaves unfinished is kept.

use memchr::{memchr, memchr2};

/// The most that one event may have, unless the user of a [`Splitter`] says otherwise.
pub const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What stands between two blank lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    Message {
        /// The `event` field; empty if there is none.
        name: &'a [u8],
        /// The `data` lines, joined with line feeds.
        data: &'a [u8],
    },
    /// Lines without data: comments, ids, a name alone.
    Silent,
    /// An event over the bound, which is not read. Reported as soon as that is known.
    Oversized,
}

/// An incremental splitter of one stream.
#[derive(Debug)]
pub struct Splitter {
    event_bytes_max: usize,
    /// How much of the byte order mark has been seen; its whole length once that is past.
    bom_bytes: usize,
    /// The last byte was a CR, so an LF belongs to it.
    is_after_cr: bool,
    /// The line under way, as far as earlier chunks had it.
    line: Vec<u8>,
    /// Its length, which is known even while an oversized event is skipped.
    line_bytes: usize,
    event: Begun,
}

/// The event under way, as far as earlier chunks had it.
#[derive(Debug, Default)]
struct Begun {
    /// Bytes of the whole lines, each with one for its end.
    bytes: usize,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    is_skipped: bool,
}

/// Fields of the event under way that lie in the current chunk.
#[derive(Default)]
struct Borrowed<'c> {
    name: Option<&'c [u8]>,
    data: Option<&'c [u8]>,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new(EVENT_BYTES_MAX)
    }
}

impl Splitter {
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            bom_bytes: 0,
            is_after_cr: false,
            line: Vec::new(),
            line_bytes: 0,
            event: Begun::default(),
        }
    }

    /// Whether the stream stands between two events, where one can be put in.
    pub fn is_at_boundary(&self) -> bool {
        self.event.bytes == 0
            && self.line_bytes == 0
            && (self.bom_bytes == 0 || self.bom_bytes == BOM.len())
    }

    /// Takes the next bytes. `on_event` gets each event that ends in them, and where in `chunk`
    /// the bytes after it begin.
    pub fn push(&mut self, chunk: &[u8], mut on_event: impl FnMut(Event<'_>, usize)) {
        let mut rest = self.after_bom(chunk);
        let mut borrowed = Borrowed::default();
        if self.is_after_cr && !rest.is_empty() {
            self.is_after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (line, tail) = rest.split_at(end);
            rest = match tail {
                [b'\r', b'\n', tail @ ..] | [_, tail @ ..] => tail,
                [] => tail,
            };
            self.is_after_cr = tail == b"\r";
            if self.line_bytes + line.len() == 0 {
                self.dispatch(&borrowed, chunk.len() - rest.len(), &mut on_event);
                borrowed = Borrowed::default();
            } else {
                self.end_line(line, &mut borrowed);
            }
        }
        self.event.keep(&borrowed);
        self.line_bytes += rest.len();
        if !self.event.is_skipped {
            self.line.extend_from_slice(rest);
            if self.event.bytes + self.line_bytes > self.event_bytes_max {
                self.skip();
                on_event(Event::Oversized, chunk.len());
            }
        }
    }

    /// The stream has ended. An event that lacks only its blank line is still an event to most
    /// clients, so it is one here.
    pub fn finish(&mut self, mut on_event: impl FnMut(Event<'_>)) {
        if self.line_bytes > 0 {
            self.end_line(&[], &mut Borrowed::default());
        }
        self.dispatch(&Borrowed::default(), 0, &mut |event, _at| on_event(event));
    }

    /// `chunk` without the byte order mark that the stream may begin with.
    fn after_bom<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let mut rest = chunk;
        while let Some(expected) = BOM.get(self.bom_bytes) {
            match rest.split_first() {
                None => return rest,
                Some((byte, tail)) if byte == expected => {
                    self.bom_bytes += 1;
                    rest = tail;
                }
                Some(_) => {
                    // It only began like one: what earlier chunks had of it is text.
                    let n_earlier = self.bom_bytes - (chunk.len() - rest.len());
                    self.line.extend_from_slice(BOM.get(..n_earlier).unwrap_or_default());
                    self.line_bytes = n_earlier;
                    self.bom_bytes = BOM.len();
                    return chunk;
                }
            }
        }
        rest
    }

    /// A line that is not blank has ended; `end` is what the current chunk has of it.
    fn end_line<'c>(&mut self, end: &'c [u8], borrowed: &mut Borrowed<'c>) {
        self.event.bytes += self.line_bytes + end.len() + 1;
        self.line_bytes = 0;
        if self.event.is_skipped {
            return;
        }
        if self.line.is_empty() {
            self.event.field(end, borrowed);
            return;
        }
        // A line that began in an earlier chunk is the first of this one: nothing is borrowed yet.
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(end);
        let mut own = Borrowed::default();
        self.event.field(&line, &mut own);
        self.event.keep(&own);
        line.clear();
        self.line = line;
    }

    /// A blank line: the event is complete.
    fn dispatch(
        &mut self,
        borrowed: &Borrowed<'_>,
        end: usize,
        on_event: &mut impl FnMut(Event<'_>, usize),
    ) {
        let event = &self.event;
        if event.bytes == 0 || event.is_skipped {
            // Nothing, or reported already.
        } else if event.bytes > self.event_bytes_max {
            on_event(Event::Oversized, end);
        } else if let Some(data) = borrowed.data.or(event.has_data.then_some(&*event.data)) {
            let name = borrowed.name.unwrap_or(&event.name);
            on_event(Event::Message { name, data }, end);
        } else {
            on_event(Event::Silent, end);
        }
        self.event.clear();
    }

    fn skip(&mut self) {
        self.line = Vec::new();
        let bytes = self.event.bytes;
        self.event = Begun { bytes, is_skipped: true, ..Begun::default() };
    }
}

impl Begun {
    /// Reads one line.
    fn field<'c>(&mut self, line: &'c [u8], borrowed: &mut Borrowed<'c>) {
        let colon = memchr(b':', line).unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.data_line(value, borrowed),
            b"event" => borrowed.name = Some(value),
            _ => {} // A comment, `id`, `retry`, or something of the future.
        }
    }

    fn data_line<'c>(&mut self, value: &'c [u8], borrowed: &mut Borrowed<'c>) {
        if let Some(first) = borrowed.data.take() {
            self.data.extend_from_slice(first);
            self.has_data = true;
        }
        if self.has_data {
            self.data.push(b'\n');
            self.data.extend_from_slice(value);
        } else {
            borrowed.data = Some(value);
        }
    }

    /// Copies what the chunk that is about to go away has.
    fn keep(&mut self, borrowed: &Borrowed<'_>) {
        if let Some(name) = borrowed.name {
            self.name.clear();
            self.name.extend_from_slice(name);
        }
        if let Some(data) = borrowed.data {
            self.data.extend_from_slice(data);
            self.has_data = true;
        }
    }

    fn clear(&mut self) {
        self.bytes = 0;
        self.name.clear();
        self.data.clear();
        self.has_data = false;
        self.is_skipped = false;
    }
}
