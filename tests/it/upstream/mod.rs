//! What providers do wrong, one kind of fault a file, and what client, row and provider see of it.

mod body;
mod breaker;
mod broken;
mod budget;
mod connect;
mod early;
mod encoding;
mod head;
mod quiet;
mod status;
mod tls;
mod upload;

use std::net::SocketAddr;
use std::time::Duration;

use loadtest::mock::Mock;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::client::{Answer, within};
use crate::harness::{Builder, TargetSpec, TestGateway, chat_body, deployment};

/// Breakers that stay closed, for tests of single requests.
const NO_BREAKER: &str = "breaker = { consecutive_failures = 1000, error_rate = 1.0 }";

/// The streams of the three dialects: path, and the body of a streamed request.
const STREAMS: [(&str, &str); 3] = [
    (
        "/v1/chat/completions",
        r#"{"model":"chat","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
    ),
    ("/v1/messages", r#"{"model":"chat","max_tokens":64,"messages":[],"stream":true}"#),
    ("/v1/responses", r#"{"model":"chat","input":"hello","stream":true}"#),
];

/// A provider of the test's own, down to its bytes.
struct Provider {
    address: SocketAddr,
    accepting: AbortHandle,
}

/// A connection of the gateway to a [`Provider`].
struct Exchange {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Provider {
    /// Serves each connection by `serve`.
    async fn start<F, W>(serve: F) -> Self
    where
        F: Fn(Exchange) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                connections.spawn(serve(Exchange { stream, buffer: Vec::new() }));
            }
        });
        Self { address, accepting: accepting.abort_handle() }
    }

    fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Exchange {
    /// The next request, head and body; `None` when the gateway leaves first.
    async fn request(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                    .unwrap_or(0);
                let whole = end + 4 + length;
                if whole <= self.buffer.len() {
                    let rest = self.buffer.split_off(whole);
                    return Some(std::mem::replace(&mut self.buffer, rest));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// False when the gateway has left.
    async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Resolves when the gateway has left.
    async fn left(mut self) {
        while self.stream.read(&mut [0; 1024]).await.is_ok_and(|n| 0 < n) {}
    }
}

/// A 200 of `content_type` whose body ends with the connection.
fn head_until_close(content_type: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n")
}

/// A chat chunk with `text`.
fn chunk(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\
         \"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
    )
}

/// A gateway over `targets` whose breakers stay closed.
async fn without_breaker(targets: &[TargetSpec<'_>], fields: &str) -> TestGateway {
    let fields = format!("{NO_BREAKER}\n{fields}");
    Builder::new(&deployment(targets, &fields)).start().await
}

/// The body of `answer` with the id of the provider's answer replaced, so that two can be compared.
fn normalized(answer: &Answer) -> String {
    let id = answer.header("x-upstream-request-id").unwrap_or("none");
    answer.text().replace(id.trim_start_matches("req_"), "ID")
}

/// The whole stream that a healthy mock sends at `path`, normalized.
async fn reference(gateway: &TestGateway, path: &str, body: &str) -> String {
    let answer = gateway.post(path, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    normalized(&answer)
}

/// Cuts `text` where the gateway's own error event begins: what was before, and the event.
fn split_error(text: &str) -> (&str, &str) {
    let openai = text.rfind("data: {\"error\"");
    let named = text.rfind("event: error");
    let at = named.or(openai).unwrap_or_else(|| panic!("no error event in {text:?}"));
    text.split_at(at)
}

/// The JSON in an event.
fn data(event: &str) -> Value {
    let line = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str(line).unwrap()
}

/// Resident memory of this process, in which the gateway runs.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What the admin listener says of the `n`th target of the deployment `chat`.
async fn target_health(gateway: &TestGateway, n: usize) -> Value {
    let path = "/api/v1/workspaces/acme/environments/production/deployments/chat/health";
    let answer = gateway.admin_get(path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["targets"][n].clone()
}

/// Asks until the target `alias` answers.
async fn until_answered_by(gateway: &TestGateway, alias: &str) {
    let asked = async {
        loop {
            let answer = gateway.chat("").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            if answer.header("x-sluice-model") == Some(alias) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(asked).await;
}

async fn two_mocks() -> (Mock, Mock) {
    (Mock::start().await.unwrap(), Mock::start().await.unwrap())
}

/// A chat's body that is `bytes` long or a little more, for the model `chat`.
fn large_body(bytes: usize) -> String {
    let text: String = ('a'..='w').cycle().take(bytes).collect();
    chat_body(&format!(r#""user":"{text}""#))
}
