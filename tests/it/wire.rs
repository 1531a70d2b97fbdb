//! A provider that sends exactly the bytes that a test says, when it says.

use std::pin::pin;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Answer, Client, within};

/// Listens, and serves one exchange at a time.
pub(crate) struct Wire {
    listener: TcpListener,
    /// A connection that the gateway may use again.
    idle: Option<TcpStream>,
}

/// One request that has been read, to be answered.
pub(crate) struct Exchange {
    stream: TcpStream,
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), idle: None }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.listener.local_addr().unwrap())
    }

    /// The next request, on the idle connection or on a new one.
    pub(crate) async fn next(&mut self) -> Exchange {
        within(async {
            loop {
                let stream = match self.idle.take() {
                    None => self.accept().await,
                    // The gateway may not have it back yet, and open another one.
                    Some(idle) => tokio::select! {
                        ready = idle.readable() => {
                            ready.unwrap();
                            idle
                        }
                        stream = self.accept() => stream,
                    },
                };
                if let Some(exchange) = Exchange::read(stream).await {
                    return exchange;
                }
            }
        })
        .await
    }

    /// Has `client` ask, and the provider answer by `respond`: the head and the body that it was asked
    /// with, and what the client got.
    pub(crate) async fn exchange(
        &mut self,
        mut client: Client,
        request: &[u8],
        respond: impl AsyncFnOnce(Exchange),
    ) -> (String, Vec<u8>, Answer) {
        let answer = async {
            client.write(request).await;
            client.answer().await
        };
        let mut answer = pin!(answer);
        let exchange = tokio::select! {
            exchange = self.next() => exchange,
            answer = &mut answer => panic!("the provider was not asked: {}", answer.text()),
        };
        let (head, body) = (exchange.head.clone(), exchange.body.clone());
        let (answer, ()) = tokio::join!(answer, respond(exchange));
        (head, body, answer)
    }

    async fn accept(&self) -> TcpStream {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Takes the connection of an exchange back, for the next one.
    pub(crate) fn keep(&mut self, exchange: Exchange) {
        self.idle = Some(exchange.stream);
    }
}

impl Exchange {
    /// `None` if the connection ends before a whole request.
    async fn read(mut stream: TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        loop {
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                let length = content_length(&head);
                if end + 4 + length <= bytes.len() {
                    let body = bytes[end + 4..end + 4 + length].to_vec();
                    return Some(Self { stream, head, body });
                }
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// One chunk of a chunked body; an empty one ends it.
    pub(crate) async fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.send(framed).await;
    }

    /// The head of a chunked answer of this type.
    pub(crate) async fn chunked(&mut self, content_type: &str) {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        self.send(head).await;
    }
}

fn content_length(head: &str) -> usize {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.parse().unwrap())
}
