//! A body of HTTP/1.1 as it arrives, from either side: its bytes are sliced out of what was read.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use pingora_core::protocols::Stream;
use tokio::io::AsyncReadExt as _;

use crate::head::chunked::ChunkedCheck;

/// Room for one read: a head and a short body, or an event or two.
pub const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 64 * 1024;

/// What is still to come of a body.
pub enum Left {
    Nothing,
    Bytes(u64),
    Chunks(Box<ChunkedCheck>),
    /// Everything until the connection ends.
    All,
}

/// The body that follows a head on a connection.
pub struct Incoming {
    /// Read and not taken.
    read: BytesMut,
    left: Left,
    /// Room for the next read.
    read_bytes: usize,
}

impl Incoming {
    /// `read` is what came with the head.
    pub fn new(read: BytesMut, left: Left) -> Self {
        Self { read, left, read_bytes: READ_BYTES_MIN }
    }

    /// The next part of the body, as much as is there; `None` at its end.
    pub async fn next(&mut self, stream: &mut Stream) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(part) = self.take_part()? {
                return Ok(Some(part));
            }
            if self.is_done() {
                return Ok(None);
            }
            let room = match self.left {
                // All of a short body lies together.
                Left::Bytes(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
                _ => self.read_bytes,
            };
            self.read.reserve(room.min(READ_BYTES_MAX));
            let n = stream.read_buf(&mut self.read).await?;
            if n == 0 {
                return match self.left {
                    Left::All => {
                        self.left = Left::Nothing;
                        Ok(None)
                    }
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            // Long bodies are read in large pieces, and waiting for slow ones takes little room.
            self.read_bytes = (2 * n).clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        }
    }

    /// The data in what has been read.
    fn take_part(&mut self) -> io::Result<Option<Bytes>> {
        if self.read.is_empty() {
            return Ok(None);
        }
        let part = match &mut self.left {
            Left::Nothing => return Ok(None),
            Left::All => self.read.split(),
            Left::Bytes(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.read.len());
                *left -= here as u64;
                if *left == 0 {
                    self.left = Left::Nothing;
                }
                self.read.split_to(here)
            }
            Left::Chunks(chunks) => {
                let data = take_data(chunks, &mut self.read)?;
                if chunks.is_done() {
                    self.left = Left::Nothing;
                }
                data
            }
        };
        Ok(Some(part.freeze()).filter(|part| !part.is_empty()))
    }

    /// Whether the whole body has been taken.
    pub fn is_done(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Whether nothing has come after the body.
    pub fn is_clean(&self) -> bool {
        self.is_done() && self.read.is_empty()
    }
}

/// Takes the data out of `read`, which begins within a chunked body: the chunks move together over
/// their framing.
fn take_data(chunks: &mut ChunkedCheck, read: &mut BytesMut) -> io::Result<BytesMut> {
    let mut pieces = Vec::new();
    let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let taken = chunks.feed_data(read, |piece| pieces.push(piece)).map_err(malformed)?;
    let mut body = read.split_to(taken);
    let start = pieces.first().map_or(0, |first| first.start);
    let mut end = start;
    for piece in pieces {
        let bytes = piece.len();
        if piece.start != end {
            body.copy_within(piece, end);
        }
        end += bytes;
    }
    body.truncate(end);
    body.advance(start);
    Ok(body)
}
