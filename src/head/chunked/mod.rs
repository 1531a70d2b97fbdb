//! Checks the framing of a chunked body while its bytes pass, and says which of them are data.
//!
//! The parser behind this one decides where a body ends, too. Both agree only on bytes that leave no
//! choice, so that everything else is refused.

use std::ops::Range;

use super::table::{EXTENSION, NAME, VALUE};

/// Of one chunk's extensions.
const EXTENSION_BYTES_MAX: u32 = 256;
/// Of all extensions of a body: they are overhead that no body limit counts.
const EXTENSION_BYTES_TOTAL_MAX: u32 = 8 * 1024;
const TRAILER_BYTES_MAX: u32 = 8 * 1024;
const SIZE_DIGITS_MAX: u8 = 16;

/// Fields that decide how a message is read or who sent it: not to be learnt after the fact.
const FORBIDDEN: [&[u8]; 20] = [
    b"api-key",
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"host",
    b"keep-alive",
    b"max-forwards",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-api-key",
    b"x-goog-api-key",
];
/// The length of the longest of them, and one byte to tell a longer name.
const NAME_KEPT: usize = 20;

/// What is wrong with a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("a chunk does not begin with its size in hexadecimal")]
    Size,
    #[error("the size of a chunk has more than 16 digits")]
    SizeTooLong,
    #[error("a chunk's extensions have control characters")]
    Extension,
    #[error("the chunks' extensions are too long")]
    ExtensionTooLong,
    #[error("a line of the chunked body does not end with carriage return and line feed")]
    LineEnd,
    #[error("a trailer field is malformed")]
    Trailer,
    #[error("the trailer fields are longer than 8192 bytes")]
    TrailersTooLong,
    #[error("a trailer field is one that must be in the request head")]
    TrailerForbidden,
}

impl ChunkError {
    pub const ALL: [Self; 8] = [
        Self::Size,
        Self::SizeTooLong,
        Self::Extension,
        Self::ExtensionTooLong,
        Self::LineEnd,
        Self::Trailer,
        Self::TrailersTooLong,
        Self::TrailerForbidden,
    ];

    /// The label in metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Size => "chunk_size",
            Self::SizeTooLong => "chunk_size_too_long",
            Self::Extension => "chunk_extension",
            Self::ExtensionTooLong => "chunk_extension_too_long",
            Self::LineEnd => "chunk_line_end",
            Self::Trailer => "trailer",
            Self::TrailersTooLong => "trailers_too_long",
            Self::TrailerForbidden => "trailer_forbidden",
        }
    }
}

/// Follows one chunked body. However its bytes are cut, the verdict is the same.
#[derive(Debug, Clone)]
pub struct ChunkedCheck {
    sender: Sender,
    state: Result<State, ChunkError>,
    data_bytes: u64,
    /// Extensions before the current chunk's.
    extension_bytes: u32,
    trailer_bytes: u32,
    name: Name,
}

/// Whose body it is. No other parser reads an upstream's answer, and its trailers go nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Client,
    Upstream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        bytes: u32,
    },
    /// The line feed after a size or its extensions.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataReturn,
    DataEnd,
    /// The beginning of a trailer field, or of the last line.
    Line,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastEnd,
    Done,
}

impl Default for ChunkedCheck {
    fn default() -> Self {
        Self {
            sender: Sender::Client,
            state: Ok(State::Size { value: 0, digits: 0 }),
            data_bytes: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            name: Name::default(),
        }
    }
}

impl ChunkedCheck {
    pub fn new() -> Self {
        Self::default()
    }

    /// For the answer of an upstream: some pad the size of a chunk with spaces.
    pub fn of_answer() -> Self {
        Self { sender: Sender::Upstream, ..Self::default() }
    }

    /// Looks at the next bytes, and says how many of them belong to this body: fewer than all when
    /// the next request begins in them. After an error it gives the same error for ever.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        self.feed_data(bytes, |_data| {})
    }

    /// The same; where in `bytes` there are data is told to `on_data`.
    pub fn feed_data(
        &mut self,
        bytes: &[u8],
        mut on_data: impl FnMut(Range<usize>),
    ) -> Result<usize, ChunkError> {
        let mut state = self.state?;
        let mut rest = bytes;
        while state != State::Done {
            let Some((&byte, after)) = rest.split_first() else { break };
            (state, rest) = match state {
                State::Data { left } => {
                    let (state, after) = self.skip_data(left, rest);
                    on_data(bytes.len() - rest.len()..bytes.len() - after.len());
                    (state, after)
                }
                _ => match self.step(state, byte) {
                    Ok(state) => (state, after),
                    Err(error) => {
                        self.state = Err(error);
                        return Err(error);
                    }
                },
            };
        }
        self.state = Ok(state);
        Ok(bytes.len() - rest.len())
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == Ok(State::Done)
    }

    /// Bytes of data that have passed, without the framing.
    pub const fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    fn skip_data<'a>(&mut self, left: u64, bytes: &'a [u8]) -> (State, &'a [u8]) {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let passed = here as u64;
        self.data_bytes = self.data_bytes.saturating_add(passed);
        let state = match left - passed {
            0 => State::DataReturn,
            left => State::Data { left },
        };
        (state, bytes.get(here..).unwrap_or_default())
    }

    fn step(&mut self, state: State, byte: u8) -> Result<State, ChunkError> {
        match state {
            State::Size { value, digits } => size(value, digits, byte, self.sender),
            State::Extension { size, bytes } => self.extension(size, bytes, byte),
            State::SizeEnd { size: 0 } => line_feed(byte, State::Line),
            State::SizeEnd { size } => line_feed(byte, State::Data { left: size }),
            State::DataReturn if byte == b'\r' => Ok(State::DataEnd),
            State::DataReturn => Err(ChunkError::LineEnd),
            State::DataEnd => line_feed(byte, State::Size { value: 0, digits: 0 }),
            State::Line if byte == b'\r' => Ok(State::LastEnd),
            State::LastEnd => line_feed(byte, State::Done),
            State::Line | State::TrailerName | State::TrailerValue | State::TrailerEnd => {
                self.trailer(state, byte)
            }
            // `feed` does not come here with these.
            State::Data { .. } | State::Done => Ok(state),
        }
    }

    fn extension(&mut self, size: u64, bytes: u32, byte: u8) -> Result<State, ChunkError> {
        let is_too_long = |bytes, before| {
            EXTENSION_BYTES_MAX < bytes || EXTENSION_BYTES_TOTAL_MAX < before + bytes
        };
        match byte {
            b'\n' => Err(ChunkError::LineEnd),
            b'\r' if is_too_long(bytes, self.extension_bytes) => Err(ChunkError::ExtensionTooLong),
            b'\r' => {
                self.extension_bytes += bytes;
                Ok(State::SizeEnd { size })
            }
            _ if !EXTENSION.has(byte) => Err(ChunkError::Extension),
            _ if is_too_long(bytes + 1, self.extension_bytes) => Err(ChunkError::ExtensionTooLong),
            _ => Ok(State::Extension { size, bytes: bytes + 1 }),
        }
    }

    fn trailer(&mut self, state: State, byte: u8) -> Result<State, ChunkError> {
        self.trailer_bytes += 1;
        if TRAILER_BYTES_MAX < self.trailer_bytes {
            return Err(ChunkError::TrailersTooLong);
        }
        match (state, byte) {
            (State::TrailerEnd, _) => line_feed(byte, State::Line),
            (State::TrailerValue, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerValue, _) if VALUE.has(byte) => Ok(State::TrailerValue),
            (State::TrailerName, b':')
                if self.sender == Sender::Client && self.name.is_forbidden() =>
            {
                Err(ChunkError::TrailerForbidden)
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::Line | State::TrailerName, _) if NAME.has(byte) => {
                if state == State::Line {
                    self.name = Name::default();
                }
                self.name.push(byte);
                Ok(State::TrailerName)
            }
            (_, b'\n') => Err(ChunkError::LineEnd),
            _ => Err(ChunkError::Trailer),
        }
    }
}

/// After an extension's `;` there may be anything visible, after a size only that or the line's end.
fn size(value: u64, digits: u8, byte: u8, sender: Sender) -> Result<State, ChunkError> {
    match (byte, char::from(byte).to_digit(16)) {
        (_, Some(_)) if digits == SIZE_DIGITS_MAX => Err(ChunkError::SizeTooLong),
        (_, Some(digit)) => {
            Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
        }
        (b'\n', None) if 0 < digits => Err(ChunkError::LineEnd),
        (b'\r', None) if 0 < digits => Ok(State::SizeEnd { size: value }),
        (b';', None) if 0 < digits => Ok(State::Extension { size: value, bytes: 1 }),
        (b' ' | b'\t', None) if 0 < digits && sender == Sender::Upstream => {
            Ok(State::Extension { size: value, bytes: 1 })
        }
        _ => Err(ChunkError::Size),
    }
}

fn line_feed(byte: u8, next: State) -> Result<State, ChunkError> {
    if byte == b'\n' { Ok(next) } else { Err(ChunkError::LineEnd) }
}

/// As much of a trailer's name as tells whether it is forbidden.
#[derive(Debug, Clone, Copy, Default)]
struct Name {
    bytes: [u8; NAME_KEPT],
    len: usize,
}

impl Name {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte.to_ascii_lowercase();
            self.len += 1;
        }
    }

    fn is_forbidden(&self) -> bool {
        let name = self.bytes.get(..self.len).unwrap_or_default();
        FORBIDDEN.contains(&name)
    }
}

#[cfg(test)]
mod tests;
