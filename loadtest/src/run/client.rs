//! A light HTTP/1.1 client: one connection, one request at a time, every answer checked.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::workload::Expected;

const READ_BYTES: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    Connect(io::ErrorKind),
    Broken(io::ErrorKind),
    Truncated,
    Malformed(&'static str),
    Status(u16),
    Content(&'static str),
    Late,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(kind) => write!(out, "connect: {kind}"),
            Self::Broken(kind) => write!(out, "broken: {kind}"),
            Self::Truncated => out.write_str("truncated"),
            Self::Malformed(what) => write!(out, "malformed {what}"),
            Self::Status(status) => write!(out, "status {status}"),
            Self::Content(what) => write!(out, "wrong content: {what}"),
            Self::Late => out.write_str("no whole answer in time"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.kind())
    }
}

/// When the content events of an answer came.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) first: Option<Instant>,
    last: Option<Instant>,
    pub(super) gaps: Vec<Duration>,
}

impl Seen {
    fn event(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.gaps.push(now - last);
        } else {
            self.first = Some(now);
        }
    }

    fn clear(&mut self) {
        self.first = None;
        self.last = None;
        self.gaps.clear();
    }
}

pub(super) struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    input: BytesMut,
    body: Vec<u8>,
    pub(super) seen: Seen,
}

/// What a response's head says about the rest.
#[derive(Debug)]
struct Head {
    framing: Framing,
    is_close: bool,
}

#[derive(Debug)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            input: BytesMut::new(),
            body: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Sends `request` and checks the answer. After a failure the connection is not used again.
    pub(super) async fn exchange(
        &mut self,
        request: &[u8],
        expected: &Expected,
        time_max: Duration,
    ) -> Result<(), Failure> {
        self.seen.clear();
        self.body.clear();
        let exchanged = tokio::time::timeout(time_max, self.try_exchange(request, expected)).await;
        let result = exchanged.unwrap_or(Err(Failure::Late));
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    async fn try_exchange(&mut self, request: &[u8], expected: &Expected) -> Result<(), Failure> {
        if self.stream.is_none() {
            let connected = TcpStream::connect(self.address).await;
            let stream = connected.map_err(|error| Failure::Connect(error.kind()))?;
            stream.set_nodelay(true)?;
            self.input.clear();
            self.stream = Some(stream);
        }
        if let Some(stream) = &mut self.stream {
            stream.write_all(request).await?;
        }
        let head = self.head().await?;
        let mut check = Check { expected, scanned: 0, events_n: 0, is_done: false };
        match head.framing {
            Framing::Length(length) => self.body_of_length(length).await?,
            Framing::Chunked => self.chunked_body(&mut check).await?,
            Framing::Close => while self.fill().await? > 0 {},
        }
        if let Framing::Close = head.framing {
            self.body.extend_from_slice(&self.input);
            self.input.clear();
        }
        check.events(&self.body, &mut self.seen)?;
        check.end(&self.body)?;
        if !self.input.is_empty() {
            return Err(Failure::Content("bytes after the end"));
        }
        if head.is_close || matches!(head.framing, Framing::Close) {
            self.stream = None;
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<usize, Failure> {
        self.input.reserve(READ_BYTES);
        match &mut self.stream {
            Some(stream) => Ok(stream.read_buf(&mut self.input).await?),
            None => Ok(0),
        }
    }

    async fn fill_some(&mut self) -> Result<(), Failure> {
        if self.fill().await? == 0 { Err(Failure::Truncated) } else { Ok(()) }
    }

    /// The head of the final response; informational ones are skipped.
    async fn head(&mut self) -> Result<Head, Failure> {
        loop {
            let Some(end) = memchr::memmem::find(&self.input, b"\r\n\r\n") else {
                self.fill_some().await?;
                continue;
            };
            let bytes = self.input.split_to(end + 4);
            let text = std::str::from_utf8(&bytes).map_err(|_| Failure::Malformed("head"))?;
            let status = text.get(9..12).and_then(|status| status.parse().ok());
            match status {
                Some(100..=199) => {}
                Some(200) => return Head::parse(text),
                Some(other) => return Err(Failure::Status(other)),
                None => return Err(Failure::Malformed("status line")),
            }
        }
    }

    async fn body_of_length(&mut self, length: usize) -> Result<(), Failure> {
        if length > BODY_BYTES_MAX {
            return Err(Failure::Content("the body is too large"));
        }
        while self.input.len() < length {
            self.fill_some().await?;
        }
        self.body.extend_from_slice(&self.input.split_to(length));
        Ok(())
    }

    async fn chunked_body(&mut self, check: &mut Check<'_>) -> Result<(), Failure> {
        let mut chunks = Chunks::Size;
        loop {
            chunks = chunks.take(&mut self.input, &mut self.body)?;
            check.events(&self.body, &mut self.seen)?;
            if let Chunks::End = chunks {
                return Ok(());
            }
            if self.body.len() > BODY_BYTES_MAX {
                return Err(Failure::Content("the body is too large"));
            }
            self.fill_some().await?;
        }
    }
}

impl Head {
    fn parse(text: &str) -> Result<Self, Failure> {
        let mut head = Self { framing: Framing::Close, is_close: text.starts_with("HTTP/1.0") };
        for line in text.lines().skip(1) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let length = value.parse().map_err(|_| Failure::Malformed("content-length"))?;
                head.framing = Framing::Length(length);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.framing = Framing::Chunked;
            } else if name.eq_ignore_ascii_case("connection") {
                head.is_close = value.eq_ignore_ascii_case("close");
            }
        }
        Ok(head)
    }
}

/// Where in a chunked body the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunks {
    Size,
    Data(usize),
    DataEnd,
    Trailers,
    End,
}

impl Chunks {
    /// Moves what `input` has of the body to `out`.
    fn take(mut self, input: &mut BytesMut, out: &mut Vec<u8>) -> Result<Self, Failure> {
        loop {
            match self {
                Self::Data(0) => self = Self::DataEnd,
                Self::Data(left) => {
                    let n = left.min(input.len());
                    if n == 0 {
                        return Ok(self);
                    }
                    out.extend_from_slice(input.get(..n).unwrap_or_default());
                    input.advance(n);
                    self = Self::Data(left - n);
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
                    .ok_or(Failure::Malformed("chunk size"))?;
                Ok(if size == 0 { Self::Trailers } else { Self::Data(size) })
            }
            Self::DataEnd if line.is_empty() => Ok(Self::Size),
            Self::Trailers => Ok(if line.is_empty() { Self::End } else { Self::Trailers }),
            Self::DataEnd | Self::Data(_) | Self::End => Err(Failure::Malformed("chunk end")),
        }
    }
}

/// Compares a body with what is expected, as it grows.
struct Check<'a> {
    expected: &'a Expected,
    scanned: usize,
    events_n: usize,
    is_done: bool,
}

impl Check<'_> {
    /// Looks at the events that have come whole since the last look.
    fn events(&mut self, body: &[u8], seen: &mut Seen) -> Result<(), Failure> {
        let Expected::Events(texts) = self.expected else { return Ok(()) };
        if self.scanned == body.len() {
            return Ok(());
        }
        let now = Instant::now();
        loop {
            let rest = body.get(self.scanned..).unwrap_or_default();
            let Some(end) = memchr::memmem::find(rest, b"\n\n") else { return Ok(()) };
            let event = rest.get(..end).unwrap_or_default();
            self.scanned += end + 2;
            if event.first() == Some(&b':') {
                continue; // A comment.
            }
            if self.is_done {
                return Err(Failure::Content("an event after the last"));
            }
            if event == b"data: [DONE]" {
                self.is_done = true;
                continue;
            }
            let Some(text) = content_of(event).filter(|text| !text.is_empty()) else { continue };
            if texts.get(self.events_n).map(String::as_bytes) != Some(text) {
                return Err(Failure::Content("an event is not the one expected here"));
            }
            self.events_n += 1;
            seen.event(now);
        }
    }

    fn end(&self, body: &[u8]) -> Result<(), Failure> {
        match self.expected {
            Expected::Whole(text) if text.find(body).is_none() => {
                Err(Failure::Content("the text is not there"))
            }
            Expected::Whole(_) if body.trim_ascii_end().last() != Some(&b'}') => {
                Err(Failure::Content("the object is not ended"))
            }
            Expected::Events(texts) if texts.len() != self.events_n => {
                Err(Failure::Content("events are missing"))
            }
            Expected::Events(_) if !self.is_done => Err(Failure::Content("no [DONE]")),
            Expected::Whole(_) | Expected::Events(_) => Ok(()),
        }
    }
}

/// The delta's text. The mock's texts need no escapes.
fn content_of(event: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"\"content\"";
    let after = event.get(memchr::memmem::find(event, KEY)? + KEY.len()..)?;
    let value = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let text = value.strip_prefix(b"\"")?;
    text.get(..memchr::memchr(b'"', text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_out_whatever_the_split() {
        let framed = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nt: v\r\n\r\n";
        for split in 0..framed.len() {
            let mut out = Vec::new();
            let mut input = BytesMut::from(&framed[..split]);
            let chunks = Chunks::Size.take(&mut input, &mut out).unwrap();
            input.extend_from_slice(&framed[split..]);
            assert_eq!(chunks.take(&mut input, &mut out), Ok(Chunks::End), "{split}");
            assert_eq!((out.as_slice(), input.len()), (&b"hello world"[..], 0));
        }
        let mut input = BytesMut::from("5\r\nhelloX\r\n");
        assert!(Chunks::Size.take(&mut input, &mut Vec::new()).is_err());
    }

    #[test]
    fn stream_must_be_whole_and_in_order() {
        let expected = Expected::Events(vec!["a".to_owned(), "b".to_owned()]);
        let check = |body: &str| {
            let mut check = Check { expected: &expected, scanned: 0, events_n: 0, is_done: false };
            check.events(body.as_bytes(), &mut Seen::default())?;
            check.end(body.as_bytes())
        };
        let [role, a, b] =
            ["", "a", "b"].map(|text| format!("data: {{\"content\": \"{text}\"}}\n\n"));
        let done = "data: [DONE]\n\n";
        assert_eq!(check(&format!("{role}{a}: ping\n\n{b}{done}")), Ok(()));
        for wrong in
            [format!("{a}{b}"), format!("{b}{a}{done}"), format!("{a}{done}"), String::new()]
        {
            assert!(check(&wrong).is_err(), "{wrong}");
        }
        assert!(check(&format!("{a}{b}{done}{a}")).is_err());
    }
}
