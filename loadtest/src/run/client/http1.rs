//! A light HTTP/1.1 client: one connection, one request at a time, buffers that are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::check::{Checker, Seen};
use super::super::failure::Failure;
use super::super::requests::{Ask, Requests};
use super::connect::{Connector, Socket};

const READ_BYTES: usize = 16 * 1024;
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Filler up to here goes out in one buffer with the head; more goes out from where it is.
const COPIED_BYTES_MAX: usize = 32 * 1024;
/// A connection that has rested this long may have been closed by the other side.
const REST_MAX: Duration = Duration::from_millis(500);

pub(in crate::run) struct Client {
    connector: Arc<Connector>,
    socket: Option<Socket>,
    used: Instant,
    /// When the last bytes came.
    read: Instant,
    input: BytesMut,
    output: Vec<u8>,
}

/// What a response's head says about the rest.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    framing: Framing,
    is_close: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

impl Client {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self {
            connector,
            socket: None,
            used: Instant::now(),
            read: Instant::now(),
            input: BytesMut::new(),
            output: Vec::new(),
        }
    }

    /// After a failure the connection is not used again, but for an error status that came whole.
    pub(super) async fn exchange(
        &mut self,
        requests: &Requests,
        ask: &Ask,
        time_max: Duration,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        let exchanged =
            tokio::time::timeout(time_max, self.try_exchange(requests, ask, seen)).await;
        let result = exchanged.unwrap_or(Err(Failure::Late));
        if !matches!(result, Ok(()) | Err(Failure::Status(_))) {
            self.socket = None;
        }
        self.used = self.read;
        result
    }

    async fn try_exchange(
        &mut self,
        requests: &Requests,
        ask: &Ask,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        self.connect().await?;
        self.send(requests, ask).await;
        let head = self.head().await?;
        if head.status != 200 {
            // The rest is read, so that the connection can go on.
            if self.body(head.framing, |_, _| Ok(())).await.is_err() || head.is_close {
                self.socket = None;
            }
            return Err(Failure::Status(head.status));
        }
        let mut checker = requests.expected(ask).checker();
        match self.body(head.framing, |bytes, now| checker.feed(bytes, now, seen)).await {
            Ok(()) => {}
            Err(failure @ Failure::Truncated(_)) => return Err(Checker::cut(checker, failure)),
            Err(failure) => return Err(failure),
        }
        checker.end()?;
        if !self.input.is_empty() {
            return Err(Failure::Malformed("bytes after the end of the body"));
        }
        if head.is_close {
            self.socket = None;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        if let Some(Socket::Plain(stream)) = &self.socket
            && self.used.elapsed() > REST_MAX
        {
            // Nothing may have come; an end tells that the other side has closed.
            let is_closed = match stream.try_read(&mut [0; 1]) {
                Ok(_) => true,
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            };
            if is_closed {
                self.socket = None;
            }
        }
        if self.socket.is_none() {
            self.input.clear();
            let connected = self.connector.connect().await;
            self.socket = Some(connected.map_err(|error| Failure::Connect(error.kind()))?);
        }
        Ok(())
    }

    /// Who answers early closes early: a failure to write is left to the reading, which says more.
    async fn send(&mut self, requests: &Requests, ask: &Ask) {
        let Some(socket) = &mut self.socket else { return };
        self.output.clear();
        requests.put_head(ask, &mut self.output);
        let body = requests.body(ask);
        if body.filler.len() <= COPIED_BYTES_MAX {
            self.output.extend_from_slice(body.filler);
            self.output.extend_from_slice(body.end);
            drop(write(socket, &self.output).await);
            return;
        }
        for part in [&self.output, body.filler, body.end] {
            if write(socket, part).await.is_err() {
                return;
            }
        }
    }

    async fn fill(&mut self) -> std::io::Result<usize> {
        self.input.reserve(READ_BYTES);
        let n = match &mut self.socket {
            Some(socket) => socket.read_buf(&mut self.input).await?,
            None => 0,
        };
        self.read = Instant::now();
        Ok(n)
    }

    /// The head of the final response; informational ones are skipped.
    async fn head(&mut self) -> Result<Head, Failure> {
        loop {
            let Some(end) = memchr::memmem::find(&self.input, b"\r\n\r\n") else {
                if self.input.len() > HEAD_BYTES_MAX {
                    return Err(Failure::Malformed("the head has no end"));
                }
                match self.fill().await {
                    Ok(0) if self.input.is_empty() => {
                        return Err(Failure::Broken(std::io::ErrorKind::UnexpectedEof));
                    }
                    Ok(0) => return Err(Failure::Truncated("in the head")),
                    Ok(_) => {}
                    Err(error) => return Err(Failure::Broken(error.kind())),
                }
                continue;
            };
            let head = Head::parse(self.input.get(..end + 2).unwrap_or_default())?;
            self.input.advance(end + 4);
            if !(100..200).contains(&head.status) {
                return Ok(head);
            }
        }
    }

    /// Reads a body to its end, and hands it out as it comes.
    async fn body(
        &mut self,
        framing: Framing,
        mut out: impl FnMut(&[u8], Instant) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut chunks = match framing {
            Framing::Length(length) => Chunks::Length(length),
            Framing::Chunked => Chunks::Size,
            Framing::Close => Chunks::Length(usize::MAX),
        };
        loop {
            let now = self.read;
            chunks = chunks.take(&mut self.input, |bytes| out(bytes, now))?;
            if matches!(chunks, Chunks::End) {
                return Ok(());
            }
            match (self.fill().await, framing) {
                (Ok(0), Framing::Close) => {
                    self.socket = None;
                    return Ok(());
                }
                (Ok(0), _) => return Err(Failure::Truncated("the connection ended in the body")),
                (Ok(_), _) => {}
                (Err(_), _) => return Err(Failure::Truncated("the connection broke in the body")),
            }
        }
    }
}

async fn write(socket: &mut Socket, bytes: &[u8]) -> std::io::Result<()> {
    socket.write_all(bytes).await?;
    match socket {
        Socket::Plain(_) => Ok(()),
        Socket::Tls(stream) => stream.flush().await,
    }
}

impl Head {
    /// Reads a head without its blank line.
    fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let digits = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        let status = digits
            .filter(|_| bytes.starts_with(b"HTTP/1."))
            .and_then(|digits| digits.parse().ok())
            .ok_or(Failure::Malformed("the status line"))?;
        let is_close = bytes.starts_with(b"HTTP/1.0");
        let mut head = Self { status, framing: Framing::Close, is_close };
        let mut from = 0;
        while let Some(rest) = bytes.get(from..)
            && let Some(line_end) = memchr::memchr(b'\n', rest)
        {
            let line = rest.get(..line_end).unwrap_or_default();
            from += line_end + 1;
            let Some((name, value)) =
                memchr::memchr(b':', line).and_then(|colon| line.split_at_checked(colon))
            else {
                continue;
            };
            head.field(name, value.get(1..).unwrap_or_default().trim_ascii())?;
        }
        if matches!(status, 204 | 304) {
            head.framing = Framing::Length(0);
        }
        Ok(head)
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Failure> {
        // The length tells most names apart before they are compared.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let text = std::str::from_utf8(value).ok();
                let length = text.and_then(|text| text.parse().ok());
                self.framing = Framing::Length(length.ok_or(Failure::Malformed("content-length"))?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.framing = Framing::Chunked;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.is_close = value.eq_ignore_ascii_case(b"close");
            }
            _ => {}
        }
        Ok(())
    }
}

/// Where in a body the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunks {
    Length(usize),
    Size,
    Data(usize),
    DataEnd,
    Trailers,
    End,
}

impl Chunks {
    /// Hands out what `input` has of the body.
    fn take(
        mut self,
        input: &mut BytesMut,
        mut out: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        loop {
            match self {
                Self::Length(0) => self = Self::End,
                Self::Data(0) => self = Self::DataEnd,
                Self::Length(left) | Self::Data(left) => {
                    let n = left.min(input.len());
                    if n == 0 {
                        return Ok(self);
                    }
                    out(input.get(..n).unwrap_or_default())?;
                    input.advance(n);
                    self = match self {
                        Self::Length(_) => Self::Length(left - n),
                        _ => Self::Data(left - n),
                    };
                }
                Self::Size | Self::DataEnd | Self::Trailers => {
                    let Some(end) = memchr::memchr(b'\n', input) else { return Ok(self) };
                    let line = input.get(..end).unwrap_or_default().trim_ascii_end();
                    self = self.after_line(line)?;
                    input.advance(end + 1);
                }
                Self::End => return Ok(self),
            }
        }
    }

    fn after_line(self, line: &[u8]) -> Result<Self, Failure> {
        match self {
            Self::Size => {
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| usize::from_str_radix(digits.trim(), 16).ok())
                    .ok_or(Failure::Malformed("the size of a chunk"))?;
                Ok(if size == 0 { Self::Trailers } else { Self::Data(size) })
            }
            Self::DataEnd if line.is_empty() => Ok(Self::Size),
            Self::Trailers => Ok(if line.is_empty() { Self::End } else { Self::Trailers }),
            Self::DataEnd | Self::Data(_) | Self::Length(_) | Self::End => {
                Err(Failure::Malformed("the end of a chunk"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_out_whatever_the_split() {
        let framed = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nt: v\r\n\r\n";
        for split in 0..framed.len() {
            let mut body = Vec::new();
            let mut out = |bytes: &[u8]| {
                body.extend_from_slice(bytes);
                Ok(())
            };
            let mut input = BytesMut::from(&framed[..split]);
            let chunks = Chunks::Size.take(&mut input, &mut out).unwrap();
            input.extend_from_slice(&framed[split..]);
            assert_eq!(chunks.take(&mut input, &mut out), Ok(Chunks::End), "{split}");
            assert_eq!((body.as_slice(), input.len()), (&b"hello world"[..], 0));
        }
        let mut input = BytesMut::from("5\r\nhelloX\r\n");
        assert!(Chunks::Size.take(&mut input, |_| Ok(())).is_err());
    }

    #[test]
    fn head_says_where_the_body_ends() {
        let parse = |text: &str| Head::parse(text.as_bytes());
        let of = |status, framing, is_close| Ok(Head { status, framing, is_close });
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n";
        assert_eq!(parse(length), of(200, Framing::Length(12), false));
        let chunked = "HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\nconnection: Close\r\n";
        assert_eq!(parse(chunked), of(503, Framing::Chunked, true));
        assert_eq!(parse("HTTP/1.0 200 OK\r\n"), of(200, Framing::Close, true));
        assert_eq!(parse("HTTP/1.1 204 No Content\r\n"), of(204, Framing::Length(0), false));
        assert!(parse("NOT HTTP\r\n").is_err());
        assert!(parse("HTTP/1.1 200 OK\r\ncontent-length: x\r\n").is_err());
    }
}
