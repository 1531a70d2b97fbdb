//! Clients that leave, dawdle, flood, or come over HTTP/2: nobody else notices, and every request
//! that was begun has its row.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::client::{Client, within};
use crate::harness::{TestGateway, document};

mod gone;
mod h2c;
mod panics;
mod pressure;
mod slow;

/// A provider that never stops sending an answer with this content type and these pieces.
struct Flood {
    address: SocketAddr,
    /// One for each connection that was closed.
    closed: mpsc::Receiver<()>,
}

impl Flood {
    async fn start(content_type: &'static str, first: &'static str, piece: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (report, closed) = mpsc::channel(1_000);
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n\
             transfer-encoding: chunked\r\n\r\n{}",
            chunk(first)
        );
        let (head, piece) = (Arc::<str>::from(head), Arc::<str>::from(chunk(&piece)));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (head, piece, report) = (Arc::clone(&head), Arc::clone(&piece), report.clone());
                tokio::spawn(async move {
                    let mut request = [0; 4 * 1024];
                    assert!(0 < stream.read(&mut request).await.unwrap());
                    let mut written = stream.write_all(head.as_bytes()).await;
                    while written.is_ok() {
                        written = stream.write_all(piece.as_bytes()).await;
                    }
                    report.send(()).await.unwrap();
                });
            }
        });
        Self { address, closed }
    }

    fn document(&self) -> String {
        document(&[(&format!("http://{}/v1", self.address), "sim", "")], "")
    }

    async fn closed(&mut self) {
        within(self.closed.recv()).await.unwrap();
    }
}

/// A chat event of `bytes` bytes of text.
fn chat_event(bytes: usize) -> String {
    let text = "x".repeat(bytes);
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum Leave {
    Fin,
    Reset,
}

impl Leave {
    const BOTH: [Self; 2] = [Self::Fin, Self::Reset];

    fn go(self, client: Client) {
        match self {
            Self::Fin => drop(client),
            Self::Reset => client.reset(),
        }
    }
}

/// Waits until the gateway has `n` requests in hand.
async fn in_flight(gateway: &TestGateway, n: usize) {
    within(async {
        while gateway.app().in_flight() != n {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// How long `work` takes.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let output = within(work).await;
    (output, began.elapsed())
}

/// The middle one: a machine that is busy with other things delays single measurements.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
