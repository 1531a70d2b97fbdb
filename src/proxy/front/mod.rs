//! A connection of a client: one strictly framed request after the other.
//!
//! Pingora's parser is lenient, and gives a slow head as long as each byte comes in time. So the head
//! is read here, under one deadline, and checked; what passes is handed on to Pingora as bytes that
//! it has already read. TLS connections that negotiated HTTP/2, and h2c where it is switched on,
//! go to Pingora as they are.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use pingora_timeout::timeout;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::control::live::lock;
use crate::head::check::{self, Framing, HeadError};
use crate::proxy::front::chunk_guard::ChunkGuard;
use crate::proxy::serve::Gateway;
use crate::proxy::{respond, routes};
use crate::telemetry::metrics::{Metrics, RefusedConnection};

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
    proxy: Arc<HttpProxy<Gateway>>,
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
    Bad(HeadError),
}

impl Front {
    pub fn new(proxy: Arc<HttpProxy<Gateway>>, limits: FrontLimits, metrics: Arc<Metrics>) -> Self {
        Self { proxy, limits, metrics, open: Arc::default() }
    }

    /// Counts a connection in, or says which limit it is over.
    fn open(&self, stream: &Stream) -> Result<Open, RefusedConnection> {
        let n = self.open.n.fetch_add(1, Ordering::Relaxed) + 1;
        let mut open = Open {
            connections: Arc::clone(&self.open),
            metrics: Arc::clone(&self.metrics),
            ip: None,
        };
        self.metrics.connections.set(n);
        if self.limits.connections_max < n {
            return Err(RefusedConnection::TooMany);
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
                return Err(RefusedConnection::TooManyOfAddress);
            }
        }
        Ok(open)
    }

    /// Serves the requests of an HTTP/1.1 connection until it closes.
    async fn serve(&self, mut stream: Stream, shutdown: &ShutdownWatch) {
        let mut idle_max = self.limits.header_timeout; // A new connection has to say something.
        for served in 0.. {
            let head = match self.next_head(&mut stream, shutdown, idle_max).await {
                Ok(head) => head,
                Err(NoHead::Quiet) => return,
                Err(NoHead::TooSlow) => {
                    self.metrics.malformed("slow_head");
                    return refuse(stream, 408, "request_timeout", "the head of the request took too long", b"").await;
                }
                Err(NoHead::Bad(error)) => {
                    self.metrics.malformed(error.reason());
                    return refuse(stream, error.status(), error.code(), &error.to_string(), b"").await;
                }
            };
            let framed = match frame(stream, &head) {
                Ok(framed) => framed,
                Err((stream, error, path)) => {
                    self.metrics.malformed(error.reason());
                    return refuse(stream, error.status(), error.code(), &error.to_string(), &path).await;
                }
            };
            let mut session = ServerSession::new_http1(framed);
            session.set_keepalive(Some(self.limits.keepalive_timeout.as_secs()));
            session.set_keepalive_reuses_remaining(Some(
                REQUESTS_PER_CONNECTION_MAX.saturating_sub(served),
            ));
            session.set_pipelined_prefix(head);
            let reused = HttpServerApp::process_new_http(&self.proxy, session, shutdown).await;
            let Some((reusable, _settings)) = reused.map(|reused| reused.consume()) else { return };
            stream = ChunkGuard::unwrap(reusable);
            idle_max = self.limits.keepalive_timeout;
        }
    }

    /// Reads until a whole head is there. What came after it stays in the buffer.
    async fn next_head(
        &self,
        stream: &mut Stream,
        shutdown: &ShutdownWatch,
        idle_max: Duration,
    ) -> Result<BytesMut, NoHead> {
        let mut head = BytesMut::with_capacity(READ_BYTES);
        let first = tokio::select! {
            biased;
            read = timeout(idle_max, stream.read_buf(&mut head)) => read,
            () = signalled(shutdown) => return Err(NoHead::Quiet),
        };
        match first {
            Ok(Ok(1..)) => {}
            Ok(_closed) => return Err(NoHead::Quiet),
            Err(_idle) => return Err(NoHead::Quiet),
        }
        if let Some(end) = check::find_end(&head, 0).map_err(NoHead::Bad)? {
            let _ = end;
            return Ok(head);
        }
        match timeout(self.limits.header_timeout, rest_of_head(stream, &mut head)).await {
            Ok(Ok(())) => Ok(head),
            Ok(Err(no_head)) => Err(no_head),
            Err(_elapsed) => Err(NoHead::TooSlow),
        }
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
                self.metrics.refused_connection(refused);
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
        self.serve(stream, shutdown).await;
        None
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let left = self.connections.n.fetch_sub(1, Ordering::Relaxed) - 1;
        self.metrics.connections.set(left);
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

/// Reads on until the head ends.
async fn rest_of_head(stream: &mut Stream, head: &mut BytesMut) -> Result<(), NoHead> {
    loop {
        // The end may lie across two reads.
        let seen = head.len().saturating_sub(3);
        if check::HEAD_BYTES_MAX < head.len() {
            return Err(NoHead::Bad(HeadError::HeadTooLarge));
        }
        match stream.read_buf(head).await {
            Ok(0) | Err(_) => return Err(NoHead::Quiet),
            Ok(_) => {}
        }
        if check::find_end(head, seen).map_err(NoHead::Bad)?.is_some() {
            return Ok(());
        }
    }
}

/// Checks the head; a chunked body is checked as it is read.
fn frame(stream: Stream, head: &BytesMut) -> Result<Stream, (Stream, HeadError, Vec<u8>)> {
    let end = match check::find_end(head, 0) {
        Ok(end) => end.unwrap_or(head.len()),
        Err(error) => return Err((stream, error, Vec::new())),
    };
    let (head, body) = head.split_at(end);
    match check::check(head) {
        Ok(head) if head.framing == Framing::Chunked => ChunkGuard::wrap(stream, body)
            .map_err(|stream| (stream, HeadError::BadChunk, head.target.to_vec())),
        Ok(_) => Ok(stream),
        Err(error) => Err((stream, error, target_of(head).to_vec())),
    }
}

/// The second word of the request line, for the shape of the error.
fn target_of(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

/// Answers a request that has no request yet, and closes.
async fn refuse(mut stream: Stream, status: u16, code: &str, message: &str, target: &[u8]) {
    let path = std::str::from_utf8(target).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let answer = respond::bare(status, code, message, routes::envelope(path, false));
    let written = async {
        stream.write_all(&answer).await?;
        stream.flush().await?;
        stream.shutdown().await;
        discard(&mut stream).await
    };
    // The answer is a courtesy: a client that does not take it is let go.
    drop(timeout(DISCARD_TIME_MAX, written).await);
}

/// Reads a little of what the client still sends: a close with unread bytes would reset the
/// connection, and the answer could be lost.
async fn discard(stream: &mut Stream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut left = DISCARD_BYTES_MAX;
    while 0 < left {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        left = left.saturating_sub(n);
    }
    Ok(())
}

/// The address of the client.
pub fn peer_ip(stream: &Stream) -> Option<IpAddr> {
    let digest = stream.get_socket_digest()?;
    digest.peer_addr()?.as_inet().map(|address| address.ip())
}
