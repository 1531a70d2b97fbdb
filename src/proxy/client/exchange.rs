//! One request of HTTP/1.1 and its answer.
//!
//! The head has been checked strictly before; here it is only taken apart. What is written is
//! gathered, so that the head and the first part of a body, or the last part and the end, leave in
//! one write.

use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{Method, StatusCode};
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::protocols::{Shutdown, Stream};
use pingora_error::{BError, Error, ErrorType};
use pingora_timeout::tokio_timeout as timeout;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::head::check::{self, Framing, Version};
use crate::head::fields::Fields;
use crate::net::turn;
use crate::proxy::client::Length;
use crate::proxy::incoming::{Incoming, Left};

/// What is gathered before it is written. Larger parts are not copied.
const GATHERED_MAX: usize = 16 * 1024;
/// Room for a head and a short body.
const GATHERED_BYTES: usize = 4 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A request on a connection.
pub struct Exchange {
    stream: Stream,
    pub(super) ip: Option<IpAddr>,
    pub(super) method: Method,
    /// Path and query.
    target: Bytes,
    pub(super) headers: Fields,
    version: Version,
    body: Incoming,
    pub(super) write_timeout: Duration,
    /// Whether the connection can take another request afterwards.
    is_kept: bool,
    answer: Answer,
    /// Written, and not yet sent.
    gathered: BytesMut,
    has_sent: bool,
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Unbegun,
    /// Bytes of the body that are still to be written.
    Length(u64),
    Chunks,
    UntilClose,
    Ended,
}

impl Exchange {
    /// A request whose `head` has passed as `checked`; `rest` came with it.
    pub fn new(
        stream: Stream,
        ip: Option<IpAddr>,
        (head, checked): (&Bytes, &check::Head<'_>),
        rest: BytesMut,
    ) -> Self {
        let left = match checked.framing {
            Framing::None | Framing::Length(0) => Left::Nothing,
            Framing::Length(bytes) => Left::Bytes(bytes),
            Framing::Chunked => Left::Chunks(Box::default()),
        };
        Self {
            stream,
            ip,
            method: Method::from_bytes(checked.method.as_bytes()).unwrap_or(Method::OPTIONS),
            target: match checked.target {
                "/" => Bytes::from_static(b"/"), // Of a URL without a path it is none of its bytes.
                target => head.slice_ref(target.as_bytes()),
            },
            headers: check::headers(head),
            version: checked.version,
            body: Incoming::new(rest, left),
            write_timeout: Duration::MAX,
            is_kept: !checked.wants_close,
            answer: Answer::Unbegun,
            gathered: BytesMut::new(),
            has_sent: false,
        }
    }

    pub(super) fn path_and_query(&self) -> (&str, Option<&str>) {
        let target = std::str::from_utf8(&self.target).unwrap_or_default();
        match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        }
    }

    pub fn close_after(&mut self) {
        self.is_kept = false;
    }

    // --- the request ---

    pub(super) async fn send_continue(&mut self) -> Result<(), BError> {
        let sent = write(&mut self.stream, CONTINUE, self.write_timeout).await;
        sent.map_err(|error| failed(ErrorType::WriteError, error))
    }

    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, BError> {
        let part = self.body.next(&mut self.stream).await;
        part.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => failed(ErrorType::ConnectionClosed, error),
            _ => failed(ErrorType::ReadError, error),
        })
    }

    pub(super) fn is_body_done(&self) -> bool {
        self.body.is_done()
    }

    pub(super) async fn left(&mut self) -> BError {
        let mut byte = [0];
        match self.stream.read(&mut byte).await {
            Ok(0) => {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                failed(ErrorType::ConnectionClosed, error)
            }
            Err(error) => failed(ErrorType::ReadError, error),
            Ok(_) => {
                self.is_kept = false;
                pending().await
            }
        }
    }

    // --- the answer ---

    pub(super) fn has_begun(&self) -> bool {
        self.has_sent
    }

    pub(super) fn write_head(&mut self, status: StatusCode, lines: &[u8], length: Length) {
        // What is left of the request's body would be taken for the next request.
        self.is_kept &= self.body.is_clean();
        let is_empty = self.method == Method::HEAD || matches!(status.as_u16(), 204 | 304);
        self.answer = match length {
            _ if is_empty => Answer::Length(0),
            Length::Known(bytes) => Answer::Length(bytes as u64),
            Length::Unknown if self.version == Version::Http10 => Answer::UntilClose,
            Length::Unknown => Answer::Chunks,
        };
        self.is_kept &= self.answer != Answer::UntilClose;
        // An answer that was begun and not sent is forgotten.
        let out = &mut self.gathered;
        out.clear();
        out.reserve(GATHERED_BYTES.max(lines.len() + 256));
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(status.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.put_slice(b"\r\n");
        out.put_slice(lines);
        match (self.answer, length) {
            (Answer::Chunks, _) => out.put_slice(b"transfer-encoding: chunked\r\n"),
            (_, Length::Known(bytes)) if status != StatusCode::NO_CONTENT => {
                out.put_slice(b"content-length: ");
                out.put_slice(itoa::Buffer::new().format(bytes).as_bytes());
                out.put_slice(b"\r\n");
            }
            _ => {}
        }
        out.put_slice(b"date: ");
        out.put_slice(get_cached_date().as_bytes());
        out.put_slice(if self.is_kept {
            b"\r\nconnection: keep-alive\r\n\r\n"
        } else {
            b"\r\nconnection: close\r\n\r\n"
        });
    }

    pub(super) async fn write(&mut self, mut part: Bytes) -> Result<(), BError> {
        if let Answer::Length(left) = &mut self.answer {
            part.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= part.len() as u64;
        }
        if part.is_empty() || matches!(self.answer, Answer::Unbegun | Answer::Ended) {
            return Ok(());
        }
        let is_chunk = self.answer == Answer::Chunks;
        if is_chunk {
            put_chunk_size(part.len(), &mut self.gathered);
        }
        let end: &[u8] = if is_chunk { b"\r\n" } else { b"" };
        if GATHERED_MAX < self.gathered.len() + part.len() {
            let all = self.gathered.split().chain(part).chain(end);
            return self.send(all).await;
        }
        self.gathered.put_slice(&part);
        self.gathered.put_slice(end);
        Ok(())
    }

    pub(super) async fn finish(&mut self) -> Result<(), BError> {
        match self.answer {
            Answer::Chunks => self.gathered.put_slice(b"0\r\n\r\n"),
            Answer::Length(0) | Answer::UntilClose => {}
            // The client must not wait for what does not come.
            Answer::Length(_) | Answer::Unbegun | Answer::Ended => self.is_kept = false,
        }
        self.answer = Answer::Ended;
        self.flush().await
    }

    pub(super) async fn flush(&mut self) -> Result<(), BError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.has_sent = true;
        turn::others_first().await;
        let written = write(&mut self.stream, &self.gathered, self.write_timeout).await;
        self.gathered.clear();
        self.settle(written)
    }

    async fn send(&mut self, mut bytes: impl bytes::Buf) -> Result<(), BError> {
        self.has_sent = true;
        turn::others_first().await;
        let stream = &mut self.stream;
        let written = async {
            stream.write_all_buf(&mut bytes).await?;
            stream.flush().await
        };
        let written = timeout(self.write_timeout, written).await;
        self.settle(written.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())))
    }

    fn settle(&mut self, written: io::Result<()>) -> Result<(), BError> {
        written.map_err(|error| {
            self.is_kept = false;
            match error.kind() {
                io::ErrorKind::TimedOut => failed(ErrorType::WriteTimedout, error),
                _ => failed(ErrorType::WriteError, error),
            }
        })
    }

    /// Sends what has been written, and closes the connection.
    pub(super) async fn shut(&mut self) {
        self.is_kept = false;
        // Whoever does not take it sees the connection end all the same.
        drop(self.flush().await);
        drop(timeout(self.write_timeout, Shutdown::shutdown(&mut *self.stream)).await);
    }

    /// The connection, if it can take another request; else it is closed.
    pub async fn end(mut self) -> Option<Stream> {
        if self.is_kept && self.answer == Answer::Ended && self.body.is_clean() {
            return Some(self.stream);
        }
        self.shut().await;
        None
    }
}

async fn write(stream: &mut Stream, bytes: &[u8], time: Duration) -> io::Result<()> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    timeout(time, written).await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

#[expect(clippy::unnecessary_box_returns, reason = "Pingora passes its errors boxed")]
fn failed(kind: ErrorType, error: io::Error) -> BError {
    Error::because(kind, "the client's connection", error)
}

/// The size of a chunk in hexadecimal.
fn put_chunk_size(bytes: usize, out: &mut BytesMut) {
    let n_digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4).max(1);
    for place in (0..n_digits).rev() {
        let digit = u32::try_from(bytes >> (4 * place) & 0xf).unwrap_or_default();
        out.put_u8(char::from_digit(digit, 16).map_or(b'0', |digit| digit as u8));
    }
    out.put_slice(b"\r\n");
}
