//! A listener whose connections are bounded in number and cannot be held by waiting.
//!
//! The HTTP server below has no timeouts of its own here, so the bytes have: from the first byte of a
//! request until something is answered, between requests, and while a write waits for the client.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once; more wait in the backlog.
const CONNECTIONS_MAX: usize = 256;
/// From the first byte of a request until the first byte of its answer, and for each write.
const ACTIVE_MAX: Duration = Duration::from_secs(30);
/// Without a request: longer than a scrape's interval, so that scrapes keep their connection.
const IDLE_MAX: Duration = Duration::from_mins(2);
/// Before accepting again when that failed for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("nobody closes the semaphore");
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => return (Connection::new(stream, place), address),
                Err(error) => {
                    tracing::warn!(%error, "admin connection not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    /// When waiting ends with an error.
    deadline: Pin<Box<Sleep>>,
    doing: Doing,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Idle,
    Request,
    Answer,
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        let deadline = Box::pin(sleep(ACTIVE_MAX));
        Self { stream, deadline, doing: Doing::Idle, _place: place }
    }

    fn begin(&mut self, doing: Doing, limit: Duration) {
        self.doing = doing;
        self.deadline.as_mut().reset(Instant::now() + limit);
    }

    fn poll_deadline<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// A write that went through begins the wait for the next request.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.begin(Doing::Idle, IDLE_MAX);
            return write;
        }
        if self.doing != Doing::Answer {
            self.begin(Doing::Answer, ACTIVE_MAX);
        }
        self.poll_deadline(cx)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            return self.poll_deadline(cx);
        }
        if self.doing == Doing::Idle {
            self.begin(Doing::Request, ACTIVE_MAX);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn pair() -> (Connection, TcpStream, Bounded) {
        let mut listener = Bounded::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (connection, _) = listener.accept().await;
        (connection, client, listener)
    }

    async fn reads_until_error(connection: &mut Connection) -> (Duration, io::ErrorKind) {
        let begin = Instant::now();
        let mut byte = [0];
        loop {
            match connection.read(&mut byte).await {
                Ok(0) => panic!("the client is still there"),
                Ok(_) => {}
                Err(error) => return (begin.elapsed(), error.kind()),
            }
        }
    }

    #[tokio::test]
    async fn dripping_request_ends_thirty_seconds_after_its_first_byte() {
        let (mut connection, mut client, _listener) = pair().await;
        client.write_all(b"G").await.unwrap();
        connection.read_u8().await.unwrap();
        tokio::time::pause();
        let dripping = tokio::spawn(async move {
            // Ends when the connection is gone.
            while client.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(7)).await;
            }
        });
        let (took, kind) = reads_until_error(&mut connection).await;
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!((ACTIVE_MAX..ACTIVE_MAX * 2).contains(&took), "{took:?}");
        drop(connection);
        dripping.abort();
    }

    #[tokio::test]
    async fn connection_between_requests_waits_longer() {
        let (mut connection, mut client, _listener) = pair().await;
        client.write_all(b"G").await.unwrap();
        connection.read_u8().await.unwrap();
        connection.write_all(b"x").await.unwrap();
        tokio::time::pause();
        let (took, kind) = reads_until_error(&mut connection).await;
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(took > ACTIVE_MAX * 3, "{took:?}");
    }

    #[tokio::test]
    async fn client_that_does_not_read_is_cut() {
        let (mut connection, _client, _listener) = pair().await;
        tokio::time::pause();
        let error = connection.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
