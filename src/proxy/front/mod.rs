//! A connection of a client: one strictly framed request after the other.
//!
//! Pingora's parser is lenient, and gives a slow head as long as each byte comes in time. So the head
//! is read here, under one deadline, and checked. A request whose target follows from its head is
//! handed on to Pingora as bytes that it has already read; all others go to the gateway. TLS connections that negotiated HTTP/2, and h2c where it is switched on,
//! go to Pingora as they are.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora_core::apps::{HttpServerApp, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Shutdown, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use pingora_timeout::tokio_timeout as timeout;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::control::live::lock;
use crate::head::HeadError;
use crate::head::check::{self, Framing};
use crate::head::chunked::{ChunkError, ChunkedCheck};
use crate::net::alarm::Alarm;
use crate::proxy::client::Exchange;
use crate::proxy::front::chunk_guard::ChunkGuard;
use crate::proxy::serve::Gateway;
use crate::proxy::{Shell, respond, routes};
use crate::telemetry::metrics::{Malformed, Metrics, RefusedConnection};

mod chunk_guard;

/// Requests on one connection before it is closed, so that connections move over a load balancer.
const REQUESTS_PER_CONNECTION_MAX: u32 = 1_000;
/// What is read, and thrown away, of a request that was refused before its end.
const DISCARD_BYTES_MAX: usize = 64 * 1024;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);
/// A first read that takes a small request whole.
const READ_BYTES: usize = 4 * 1024;
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Limits of a client's connection.
#[derive(Debug, Clone, Copy)]
pub struct FrontLimits {
    pub header_timeout: Duration,
    pub keepalive_timeout: Duration,
    pub connections_max: usize,
    /// 0 = no limit.
    pub connections_per_ip_max: usize,
    pub h2c: bool,
}

/// What accepts connections and hands their requests to the gateway.
pub struct Front {
    gateway: Arc<Gateway>,
    /// For HTTP/2, and for requests whose target follows from their head.
    proxy: Arc<HttpProxy<Shell>>,
    limits: FrontLimits,
    metrics: Arc<Metrics>,
    open: Arc<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    n: AtomicUsize,
    per_ip: Mutex<HashMap<IpAddr, usize>>,
}

/// One open connection, counted until it is dropped.
struct Open {
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
    ip: Option<IpAddr>,
}

/// Why no head came.
enum NoHead {
    /// The client closed, or the connection lay idle: nothing to answer.
    Quiet,
    TooSlow,
    TooLarge(BytesMut),
}

/// A whole head, and what came with it.
struct Read {
    bytes: BytesMut,
    end: usize,
}

impl Front {
    pub fn new(gateway: Arc<Gateway>, proxy: HttpProxy<Shell>, limits: FrontLimits) -> Self {
        let metrics = Arc::clone(&gateway.metrics);
        Self { gateway, proxy: Arc::new(proxy), limits, metrics, open: Arc::default() }
    }

    /// Counts a connection in, or says which limit it is over.
    fn open(&self, stream: &Stream) -> Result<Open, RefusedConnection> {
        let n = self.open.n.fetch_add(1, Ordering::Relaxed) + 1;
        let mut open = Open {
            connections: Arc::clone(&self.open),
            metrics: Arc::clone(&self.metrics),
            ip: None,
        };
        self.metrics.connections.inc();
        if self.limits.connections_max < n {
            return Err(RefusedConnection::Limit);
        }
        if 0 < self.limits.connections_per_ip_max
            && let Some(ip) = peer_ip(stream)
        {
            let mut per_ip = lock(&self.open.per_ip);
            let of_ip = per_ip.entry(ip).or_default();
            *of_ip += 1;
            open.ip = Some(ip);
            if self.limits.connections_per_ip_max < *of_ip {
                drop(per_ip);
                return Err(RefusedConnection::AddressLimit);
            }
        }
        Ok(open)
    }

    /// Serves the requests of an HTTP/1.1 connection until it closes.
    async fn serve(&self, mut stream: Stream, shutdown: &ShutdownWatch) {
        let mut stop = pin!(signalled(shutdown));
        let mut alarm = Alarm::default();
        let ip = peer_ip(&stream);
        let mut idle_max = self.limits.header_timeout; // A new connection has to say something.
        for served in 0.. {
            let read =
                match self.next_head(&mut stream, stop.as_mut(), (&mut alarm, idle_max)).await {
                    Ok(read) => read,
                    Err(NoHead::Quiet) => return,
                    Err(NoHead::TooSlow) => {
                        self.metrics.malformed_requests.inc(Malformed::HeadTimeout);
                        return refuse(stream, &TOO_SLOW, &[]).await;
                    }
                    Err(NoHead::TooLarge(head)) => {
                        return self.refuse(stream, &check::oversized(&head), &head).await;
                    }
                };
            let Read { bytes: mut rest, end } = read;
            let head = rest.split_to(end).freeze();
            let checked = match check::check(&head) {
                Ok(checked) => checked,
                Err(error) => return self.refuse(stream, &error, &head).await,
            };
            let body_bytes = match body_bytes(checked.framing, &rest) {
                Ok(body_bytes) => body_bytes,
                Err(error) => {
                    self.metrics.malformed_requests.inc(Malformed::Chunk);
                    let message = error.to_string();
                    let problem =
                        Problem { status: 400, code: "invalid_request", message: &message };
                    return refuse(stream, &problem, &head).await;
                }
            };
            // Of pipelined requests only the first is answered; its answer says so.
            let is_last = body_bytes < rest.len()
                || REQUESTS_PER_CONNECTION_MAX <= served
                || *shutdown.borrow();
            let kept = if routes::is_header_routed(checked.target) {
                if checked.framing == Framing::Chunked {
                    stream = ChunkGuard::wrap(stream, &rest);
                }
                self.pass_to_pingora(stream, (&head, &rest), is_last, shutdown).await
            } else {
                let mut exchange = Exchange::new(stream, ip, (&head, &checked), rest);
                if is_last {
                    exchange.close_after();
                }
                self.gateway.exchange(&mut exchange).await;
                exchange.end().await
            };
            let Some(kept) = kept else { return };
            stream = kept;
            idle_max = self.limits.keepalive_timeout;
        }
    }

    /// One request over Pingora's own upstream path, which reads its head once more.
    async fn pass_to_pingora(
        &self,
        stream: Stream,
        (head, rest): (&Bytes, &BytesMut),
        is_last: bool,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let mut session = ServerSession::new_http1(stream);
        session.set_keepalive(Some(self.limits.keepalive_timeout.as_secs()));
        session.set_keepalive_reuses_remaining(Some(u32::from(!is_last)));
        session.set_pipelined_prefix([head, &rest[..]].concat()[..].into());
        let reused = HttpServerApp::process_new_http(&self.proxy, session, shutdown).await;
        reused.map(ReusedHttpStream::consume).map(|(stream, _)| ChunkGuard::unwrap(stream))
    }

    /// Reads until a whole head is there. What came after it stays in the buffer.
    async fn next_head(
        &self,
        stream: &mut Stream,
        stop: Pin<&mut impl Future<Output = ()>>,
        (alarm, idle_max): (&mut Alarm, Duration),
    ) -> Result<Read, NoHead> {
        let mut bytes = BytesMut::with_capacity(READ_BYTES);
        let first = {
            let read = pin!(stream.read_buf(&mut bytes));
            tokio::select! {
                biased;
                read = alarm.within(idle_max, read) => read,
                () = stop => return Err(NoHead::Quiet),
            }
        };
        if !matches!(first, Ok(Ok(1..))) {
            return Err(NoHead::Quiet); // Closed, or idle for too long.
        }
        if let Some(end) = check::find_end(&bytes, 0) {
            return Ok(Read { bytes, end });
        }
        let rest = rest_of_head(stream, bytes);
        timeout(self.limits.header_timeout, rest).await.unwrap_or(Err(NoHead::TooSlow))
    }

    async fn refuse(&self, stream: Stream, error: &HeadError, head: &[u8]) {
        self.metrics.malformed_requests.inc(label(error));
        let problem = Problem { status: error.status, code: error.code, message: error.message() };
        refuse(stream, &problem, head).await;
    }

    fn is_h2c(&self) -> bool {
        self.limits.h2c
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(
        self: &Arc<Self>,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let _open = match self.open(&stream) {
            Ok(open) => open,
            Err(refused) => {
                self.metrics.connections_refused.inc(refused);
                return None;
            }
        };
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            return self.proxy.process_new(stream, shutdown).await;
        }
        if self.is_h2c() && stream.get_ssl_digest().is_none() {
            // The peek waits for 24 bytes without a limit of its own.
            let mut preface = [0; H2_PREFACE.len()];
            let peek = timeout(self.limits.header_timeout, stream.try_peek(&mut preface)).await;
            if matches!(peek, Ok(Ok(true))) && &preface == H2_PREFACE {
                return self.proxy.process_new(stream, shutdown).await;
            }
        }
        // Once for a connection, not for each request.
        Box::pin(self.serve(stream, shutdown)).await;
        None
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.n.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections.dec();
        if let Some(ip) = self.ip {
            let mut per_ip = lock(&self.connections.per_ip);
            if let Some(n) = per_ip.get_mut(&ip) {
                *n -= 1;
                if *n == 0 {
                    per_ip.remove(&ip);
                }
            }
        }
    }
}

/// Resolves once the shutdown signal is set.
async fn signalled(shutdown: &ShutdownWatch) {
    if *shutdown.borrow() {
        return;
    }
    let mut shutdown = shutdown.clone();
    if shutdown.wait_for(|is_set| *is_set).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How many bytes of the body are among `rest`, at most. Chunks that are framed wrongly are known
/// before anybody is asked for.
fn body_bytes(framing: Framing, rest: &[u8]) -> Result<usize, ChunkError> {
    match framing {
        Framing::None => Ok(0),
        Framing::Length(length) => Ok(usize::try_from(length).unwrap_or(usize::MAX)),
        Framing::Chunked => ChunkedCheck::new().feed(rest),
    }
}

/// Reads on until the head ends.
async fn rest_of_head(stream: &mut Stream, mut bytes: BytesMut) -> Result<Read, NoHead> {
    loop {
        if check::HEAD_BYTES_MAX < bytes.len() {
            return Err(NoHead::TooLarge(bytes));
        }
        // The end may lie across two reads.
        let seen = bytes.len().saturating_sub(3);
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Err(NoHead::Quiet),
            Ok(_) => {}
        }
        if let Some(end) = check::find_end(&bytes, seen) {
            return Ok(Read { bytes, end });
        }
    }
}

/// What a client is told whose bytes never became a request.
struct Problem<'a> {
    status: u16,
    code: &'a str,
    message: &'a str,
}

const TOO_SLOW: Problem<'_> = Problem {
    status: 408,
    code: "request_timeout",
    message: "the head of the request took too long to arrive",
};

/// The second word of the request line, for the shape of the error.
fn path_of(head: &[u8]) -> &str {
    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let target = std::str::from_utf8(target).unwrap_or_default();
    target.split('?').next().unwrap_or_default()
}

/// Answers a request that has no request yet, and closes.
async fn refuse(mut stream: Stream, problem: &Problem<'_>, head: &[u8]) {
    let envelope = routes::envelope(path_of(head), None);
    let answer = respond::bare(problem.status, problem.code, problem.message, envelope);
    let written = async {
        stream.write_all(&answer).await?;
        stream.flush().await?;
        discard(&mut stream).await
    };
    // The answer is a courtesy: a client that does not take it is let go.
    drop(timeout(DISCARD_TIME_MAX, written).await);
    Shutdown::shutdown(&mut *stream).await;
}

/// The label of a refused head.
fn label(error: &HeadError) -> Malformed {
    match (error.status, error.reason) {
        (414 | 431, _) => Malformed::HeadTooLarge,
        (_, "host_missing" | "host_twice" | "host" | "host_differs") => Malformed::Host,
        (
            _,
            "length"
            | "length_twice"
            | "encoding"
            | "encoding_twice"
            | "encoding_old"
            | "length_and_encoding",
        ) => Malformed::Framing,
        (_, "request_line" | "method" | "target" | "version") | (405 | 505, _) => {
            Malformed::RequestLine
        }
        _ => Malformed::Header,
    }
}

/// Reads a little of what the client still sends: a close with unread bytes would reset the
/// connection, and the answer could be lost.
async fn discard(stream: &mut Stream) -> io::Result<()> {
    // On the heap: this future is part of every connection's.
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut left = DISCARD_BYTES_MAX;
    while 0 < left {
        buffer.clear();
        let n = stream.read_buf(&mut buffer).await?;
        if n == 0 {
            break;
        }
        left = left.saturating_sub(n);
    }
    Ok(())
}

/// The address of the client.
fn peer_ip(stream: &Stream) -> Option<IpAddr> {
    let digest = stream.get_socket_digest()?;
    digest.peer_addr()?.as_inet().map(std::net::SocketAddr::ip)
}
