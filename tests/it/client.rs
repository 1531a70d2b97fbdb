//! A client that writes exactly what a test says and shows exactly what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No wait in a test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// Read, and not yet looked at.
    buffer: Vec<u8>,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing has it.
    Whole,
    /// The connection ended first.
    Cut,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lower-case names.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

/// The request of `method` and `path` with `headers`; `content-length` is added when there is a body.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: gateway.test\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() || method == "POST" {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(within(TcpStream::connect(address)).await.unwrap())
    }

    /// On a connection that is made.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Fails if the gateway has closed the connection already.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within(self.stream.write_all(bytes)).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).await.unwrap();
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Answer {
        self.write(request).await;
        self.answer().await
    }

    /// The next answer, informational ones left out.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            let (status, headers) = self.head().await;
            if (100..200).contains(&status) {
                continue;
            }
            let (body, end) = self.body(status, &headers).await;
            return Answer { status, headers, body, end };
        }
    }

    /// The next answer, or `None` when the gateway closes the connection instead.
    pub(crate) async fn next_answer(&mut self) -> Option<Answer> {
        self.find(b"\r\n\r\n").await?;
        Some(self.answer().await)
    }

    /// The head of the next answer.
    pub(crate) async fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let end = self.find(b"\r\n\r\n").await.expect("a head before the connection ends");
        let head = String::from_utf8(self.take(end + 4)).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        (status, headers)
    }

    async fn body(&mut self, status: u16, headers: &[(String, String)]) -> (Vec<u8>, End) {
        let header = |name: &str| {
            headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
        };
        if status == 204 {
            return (Vec::new(), End::Whole);
        }
        if header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().await {
                if chunk.is_empty() {
                    return (body, End::Whole);
                }
                body.extend_from_slice(&chunk);
            }
            return (body, End::Cut);
        }
        let Some(length) = header("content-length") else {
            while self.read_more().await {}
            return (std::mem::take(&mut self.buffer), End::Whole);
        };
        let length = length.parse().unwrap();
        while self.buffer.len() < length {
            if !self.read_more().await {
                return (std::mem::take(&mut self.buffer), End::Cut);
            }
        }
        (self.take(length), End::Whole)
    }

    /// The next chunk of a chunked body: empty at its end, `None` when the connection ends first.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = self.find(b"\r\n").await?;
        let size = String::from_utf8(self.take(end + 2)).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        while self.buffer.len() < size + 2 {
            if !self.read_more().await {
                return None;
            }
        }
        let chunk = self.take(size + 2);
        Some(chunk[..size].to_vec())
    }

    /// Reads chunks of a body until `text` has come. The chunks so far, joined.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk().await.unwrap_or_else(|| {
                panic!("the connection ended before {text:?}: {}", String::from_utf8_lossy(&body))
            });
            assert!(!chunk.is_empty(), "the body ended before {text:?}");
            body.extend_from_slice(&chunk);
            let read = String::from_utf8_lossy(&body);
            if read.contains(text) {
                return read.into_owned();
            }
        }
    }

    /// Whether the gateway closes the connection without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.read_more().await
    }

    /// What comes until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read_more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Leaves with a reset, as a process that is killed may.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    async fn find(&mut self, needle: &[u8]) -> Option<usize> {
        loop {
            let found = self.buffer.windows(needle.len()).position(|window| window == needle);
            if found.is_some() {
                return found;
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(n);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// False at the end of the connection, however it ends.
    async fn read_more(&mut self) -> bool {
        // Not into an array: it would lie in every future around this one.
        self.buffer.reserve(64 * 1024);
        within(self.stream.read_buf(&mut self.buffer)).await.is_ok_and(|n| 0 < n)
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// `error.code` of the `OpenAI` envelope.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The `data` of each event, in order.
    pub(crate) fn events(&self) -> Vec<String> {
        self.text()
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(str::to_owned)
            .collect()
    }
}

/// Every wait has a deadline.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work).await.expect("it takes too long")
}
