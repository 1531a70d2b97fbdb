//! One connection's bytes: request heads and bodies in, anything out.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

const HEAD_BYTES_MAX: usize = 256 * 1024;
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// What a client may send ahead while it waits for an answer.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Why an exchange ends without a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The client left.
    Gone,
    /// The script cuts the connection.
    Cut,
    /// The request is not HTTP as we read it; answer 400 and close.
    Malformed,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A request's head: its bytes, and the few fields that say how to go on.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for one header")]
pub(super) struct Head {
    bytes: Bytes,
    length: Option<usize>,
    pub(super) is_chunked: bool,
    pub(super) is_continue_expected: bool,
    pub(super) is_close: bool,
    is_multipart: bool,
}

impl Head {
    fn parse(bytes: Bytes) -> Result<Self, Stop> {
        let mut head = Self {
            bytes: Bytes::new(),
            length: None,
            is_chunked: false,
            is_continue_expected: false,
            is_close: false,
            is_multipart: false,
        };
        for (name, value) in fields(&bytes) {
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
            // The length tells most names apart before they are compared.
            match name.len() {
                14 if is("content-length") => {
                    let text = std::str::from_utf8(value).map_err(|_| Stop::Malformed)?;
                    head.length = Some(text.parse().map_err(|_| Stop::Malformed)?);
                }
                17 if is("transfer-encoding") => {
                    head.is_chunked = value.eq_ignore_ascii_case(b"chunked");
                }
                6 if is("expect") => {
                    head.is_continue_expected = value.eq_ignore_ascii_case(b"100-continue");
                }
                10 if is("connection") => head.is_close = value.eq_ignore_ascii_case(b"close"),
                12 if is("content-type") => head.is_multipart = value.starts_with(b"multipart/"),
                _ => {}
            }
        }
        head.bytes = bytes;
        if head.target().is_empty() {
            return Err(Stop::Malformed);
        }
        Ok(head)
    }

    fn word(&self, index: usize) -> &str {
        let line_end = memchr::memchr(b'\r', &self.bytes).unwrap_or(0);
        let line = self.bytes.get(..line_end).unwrap_or_default();
        std::str::from_utf8(line).ok().and_then(|line| line.split(' ').nth(index)).unwrap_or("")
    }

    pub(super) fn method(&self) -> &str {
        self.word(0)
    }

    /// The path with its query.
    pub(super) fn target(&self) -> &str {
        self.word(1)
    }

    pub(super) fn is_multipart(&self) -> bool {
        self.is_multipart
    }

    /// All headers, names in lower case.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        fields(&self.bytes)
            .map(|(name, value)| {
                let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                (name, String::from_utf8_lossy(value).into_owned())
            })
            .collect()
    }

    pub(super) fn has(&self, wanted: &str) -> bool {
        fields(&self.bytes).any(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()))
    }

    fn has_body(&self) -> bool {
        self.is_chunked || self.length.is_some_and(|length| length > 0)
    }
}

/// The header lines after the first line of `head`.
fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut lines_from = 0;
    std::iter::from_fn(move || {
        let rest = head.get(lines_from..)?;
        let line_len = memchr::memchr(b'\n', rest)?;
        lines_from += line_len + 1;
        rest.get(..line_len)
    })
    .skip(1)
    .filter_map(|line| {
        let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
        Some((name, value.get(1..)?.trim_ascii()))
    })
}

/// A connection with what has been read ahead, and a buffer for what goes out.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    input: BytesMut,
    pub(super) output: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::new(), output: Vec::new() }
    }

    /// The next request's head; `None` when the client is done.
    pub(super) async fn head(&mut self) -> Result<Option<Head>, Stop> {
        let mut scanned = 0;
        loop {
            let unscanned = self.input.get(scanned..).unwrap_or_default();
            if let Some(found) = memchr::memmem::find(unscanned, b"\r\n\r\n") {
                let head = self.input.split_to(scanned + found + 4).freeze();
                return Head::parse(head).map(Some);
            }
            scanned = self.input.len().saturating_sub(3);
            if self.input.len() > HEAD_BYTES_MAX {
                return Err(Stop::Malformed);
            }
            if self.fill().await? == 0 {
                return if self.input.is_empty() { Ok(None) } else { Err(Stop::Gone) };
            }
        }
    }

    /// Whether a part of the request's body is still on its way.
    pub(super) fn is_body_outstanding(&self, head: &Head) -> bool {
        head.has_body() && (head.is_chunked || head.length > Some(self.input.len()))
    }

    /// What has been read of the body; waits for some, if there is none yet.
    pub(super) async fn body_start(&mut self) -> Result<&[u8], Stop> {
        if self.input.is_empty() && self.fill().await? == 0 {
            return Err(Stop::Gone);
        }
        Ok(&self.input)
    }

    pub(super) async fn send_continue(&mut self) -> Result<(), Stop> {
        Ok(self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?)
    }

    /// The whole body. When it does not come whole, what came is in `partial`.
    pub(super) async fn body(
        &mut self,
        head: &Head,
        pace: Option<Duration>,
        partial: &mut BytesMut,
    ) -> Result<Bytes, Stop> {
        if head.is_chunked {
            self.chunked_body(pace, partial).await?;
            return Ok(std::mem::take(partial).freeze());
        }
        let length = head.length.unwrap_or(0);
        if length > BODY_BYTES_MAX {
            return Err(Stop::Malformed);
        }
        if length > self.input.len() && pace.is_none() {
            self.input.reserve(length - self.input.len());
        }
        while self.input.len() < length {
            if self.fill_paced(pace).await.unwrap_or(0) == 0 {
                *partial = self.input.split();
                return Err(Stop::Gone);
            }
        }
        Ok(self.input.split_to(length).freeze())
    }

    async fn chunked_body(
        &mut self,
        pace: Option<Duration>,
        body: &mut BytesMut,
    ) -> Result<(), Stop> {
        loop {
            let line = self.line(pace).await?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let size = std::str::from_utf8(size).map_err(|_| Stop::Malformed)?;
            let size = usize::from_str_radix(size, 16).map_err(|_| Stop::Malformed)?;
            if size == 0 {
                while !self.line(pace).await?.is_empty() {} // Trailers.
                return Ok(());
            }
            if size.saturating_add(body.len()) > BODY_BYTES_MAX {
                return Err(Stop::Malformed);
            }
            let mut left = size;
            while left > 0 {
                if self.input.is_empty() && self.fill_paced(pace).await? == 0 {
                    return Err(Stop::Gone);
                }
                let part = self.input.split_to(left.min(self.input.len()));
                left -= part.len();
                body.extend_from_slice(&part);
            }
            if !self.line(pace).await?.is_empty() {
                return Err(Stop::Malformed);
            }
        }
    }

    /// The next line, without its end.
    async fn line(&mut self, pace: Option<Duration>) -> Result<Bytes, Stop> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let line = self.input.split_to(end + 1).freeze();
                let line_len = line.trim_ascii_end().len();
                return Ok(line.slice(..line_len));
            }
            if self.input.len() > HEAD_BYTES_MAX {
                return Err(Stop::Malformed);
            }
            if self.fill_paced(pace).await? == 0 {
                return Err(Stop::Gone);
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.input.reserve(READ_BYTES);
        self.stream.read_buf(&mut self.input).await
    }

    async fn fill_paced(&mut self, pace: Option<Duration>) -> io::Result<usize> {
        let Some(pace) = pace else {
            // Room that has been reserved for a whole body is used as it is.
            if self.input.capacity() == self.input.len() {
                self.input.reserve(READ_BYTES);
            }
            return self.stream.read_buf(&mut self.input).await;
        };
        tokio::time::sleep(pace).await;
        (&mut self.stream).take(4096).read_buf(&mut self.input).await
    }

    /// Writes what is in `output`, and empties it.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.output.clear();
        }
        Ok(())
    }

    /// Waits, and notices when the client leaves meanwhile.
    pub(super) async fn pause(&mut self, delay_ms: u64) -> Result<(), Stop> {
        if delay_ms == 0 { Ok(()) } else { self.pause_for(Duration::from_millis(delay_ms)).await }
    }

    pub(super) async fn pause_for(&mut self, delay: Duration) -> Result<(), Stop> {
        let until = Instant::now() + delay;
        tokio::select! {
            biased;
            () = sleep_until(until) => Ok(()),
            stop = self.gone() => Err(stop),
        }
    }

    /// Waits until the client leaves.
    pub(super) async fn gone(&mut self) -> Stop {
        while self.input.len() < AHEAD_BYTES_MAX {
            match self.fill().await {
                Ok(0) | Err(_) => return Stop::Gone,
                Ok(_) => {}
            }
        }
        std::future::pending().await
    }

    /// Ends the sending side, and gives the client a moment to read before the socket goes: with
    /// unread bytes in it, that is a reset.
    pub(super) async fn close_gently(&mut self) {
        const LINGER: Duration = Duration::from_millis(200);
        if self.stream.shutdown().await.is_ok() {
            let _left_or_late = tokio::time::timeout(LINGER, self.gone()).await;
        }
    }

    /// Makes the coming close a TCP reset.
    pub(super) fn reset(&mut self) {
        // A failure leaves an ordinary close, which the test that wants a reset will tell.
        drop(self.stream.set_zero_linger());
    }
}
