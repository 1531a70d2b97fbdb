//! A client as plain as can be: it shows the bytes, and says how the connection ended.

use loadtest::mock::Mock;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back until the connection ended, or until the answer was whole.
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
    /// The bytes after the head with their chunk framing.
    pub raw: Vec<u8>,
    pub is_whole: bool,
    pub is_reset: bool,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        lines.filter_map(|line| line.split_once(": ")).find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The events of the stream: name and data.
    pub fn events(&self) -> Vec<(String, Value)> {
        let text = self.text();
        let blocks = text.split("\n\n").filter(|block| !block.is_empty());
        blocks
            .filter(|block| *block != "data: [DONE]" && !block.starts_with(':'))
            .map(event)
            .collect()
    }
}

fn event(block: &str) -> (String, Value) {
    let (name, data) = match block.split_once('\n') {
        Some((name, data)) => (name.strip_prefix("event: ").unwrap(), data),
        None => ("", block),
    };
    let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("{block}"));
    (name.to_owned(), serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
}

pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub async fn connect(mock: &Mock) -> Self {
        Self { stream: TcpStream::connect(mock.addr()).await.unwrap() }
    }

    pub async fn send(&mut self, method: &str, path: &str, body: &str) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: mock\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    pub async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.send("POST", path, &body.to_string()).await;
        self.answer().await
    }

    /// Reads one answer, or as much of it as comes.
    pub async fn answer(&mut self) -> Answer {
        let mut bytes = Vec::new();
        loop {
            if let Some(answer) = parsed(&bytes, false) {
                return answer;
            }
            match self.stream.read_buf(&mut bytes).await {
                Ok(0) => return parsed(&bytes, true).unwrap(),
                Ok(_) => {}
                Err(_) => {
                    let answer = parsed(&bytes, true).unwrap();
                    return Answer { is_reset: true, is_whole: false, ..answer };
                }
            }
        }
    }
}

fn parsed(bytes: &[u8], is_ended: bool) -> Option<Answer> {
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let split = match head_end {
        Some(end) => end + 4,
        None if is_ended => bytes.len(),
        None => return None,
    };
    let (head, raw) = bytes.split_at(split);
    let head = String::from_utf8(head.to_vec()).unwrap();
    let mut answer =
        Answer { head, body: raw.to_vec(), raw: raw.to_vec(), is_whole: false, is_reset: false };
    if answer.header("transfer-encoding") == Some("chunked") {
        (answer.body, answer.is_whole) = unchunked(raw);
    } else if let Some(length) = answer.header("content-length") {
        answer.is_whole = raw.len() >= length.parse().unwrap();
    } else {
        answer.is_whole = head_end.is_some() && (is_ended || answer.head.contains(" 204 "));
    }
    (answer.is_whole || is_ended).then_some(answer)
}

fn unchunked(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line_end) = raw.iter().position(|byte| *byte == b'\n') {
        let size = std::str::from_utf8(&raw[..line_end]).unwrap().trim();
        let size = usize::from_str_radix(size, 16).unwrap();
        raw = &raw[line_end + 1..];
        if size == 0 {
            return (body, raw.ends_with(b"\r\n"));
        }
        body.extend_from_slice(&raw[..size.min(raw.len())]);
        if raw.len() < size + 2 {
            break;
        }
        raw = &raw[size + 2..];
    }
    (body, false)
}
