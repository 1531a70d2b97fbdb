//! The connection of one attempt: found or made, written in as few calls as can be, read part by
//! part, and given back to the pool when it is clean.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::Stream;
use pingora_error::{BError, ErrorType};
use pingora_timeout::tokio_timeout as timeout;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::clock::Millis;
use crate::control::snapshot::Connection;
use crate::head::answer::{AnswerHead, Framing, take_head};
use crate::head::chunked::ChunkedCheck;
use crate::json::Spliced;
use crate::net::alarm::Alarm;
use crate::net::peer::UpstreamPeer;
use crate::net::pool::Pool;
use crate::net::resolve::{Addresses, NoAddress};
use crate::net::turn;
use crate::proxy::incoming::{Incoming, Left, READ_BYTES_MIN};
use crate::route::failure::Failure;

/// A request of up to this size leaves in one write.
const ONE_WRITE_MAX: usize = 64 * 1024;
/// A cold name is waited for this long.
const RESOLVE_MAX: Duration = Duration::from_secs(1);
/// Addresses of one name that one attempt tries.
const ADDRESSES_MAX: usize = 3;

/// An open connection to an upstream.
pub struct Link {
    stream: Stream,
    peer: UpstreamPeer,
    /// Taken from the pool: the upstream may have closed it meanwhile.
    pub is_reused: bool,
    pub alarm: Alarm,
}

/// A connection on which the request has been sent.
pub struct Unanswered {
    stream: Stream,
    peer: UpstreamPeer,
}

/// Why there is no head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHead {
    /// The connection ended before.
    Closed,
    Malformed,
}

/// A connection on which the answer arrives.
pub struct Sent {
    stream: Stream,
    peer: UpstreamPeer,
    pub head: AnswerHead,
    body: Incoming,
    /// Of the connection.
    pub alarm: Alarm,
}

/// Finds or makes a connection within `time`.
pub async fn connect(
    connector: &TransportConnector,
    connection: &Connection,
    is_new_wanted: bool,
    (now, time): (Instant, Duration),
) -> Result<Link, Failure> {
    let deadline = now + time;
    let now = Millis::from(now);
    let addresses = addresses(connection, now).await?;
    let is_up = |address: &SocketAddr| {
        connection.health.as_ref().is_none_or(|health| health.is_healthy(*address))
    };
    let n_tries = addresses.len().min(ADDRESSES_MAX);
    let in_turn = in_turn(&addresses, connection.live.turn(), is_up).take(n_tries);
    let mut failure = Failure::Dns;
    for (n_tried, address) in in_turn.enumerate() {
        let peer = connection.live.peer(address, &connection.base_url);
        if !is_new_wanted && let Some((stream, alarm)) = peer.idle().take(now) {
            return Ok(Link { stream, peer, is_reused: true, alarm });
        }
        // An address that swallows packets leaves its share of the time to the others.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(n_tries - n_tried).unwrap_or(1).max(1);
        // Rare and large: on the heap, so that requests on pooled connections do not carry it.
        let opened = Box::pin(connector.new_stream(&peer));
        match timeout(share, opened).await {
            Ok(Ok(stream)) => {
                return Ok(Link { stream, peer, is_reused: false, alarm: Alarm::default() });
            }
            Ok(Err(error)) => {
                tracing::debug!(connection = &*connection.name, %error, "cannot connect");
                failure = connect_failure(&error);
            }
            Err(_elapsed) => failure = Failure::ConnectTimeout,
        }
    }
    Err(failure)
}

/// All addresses that are up, beginning with the one whose turn it is. When none is up, all are
/// tried: that is how one is found to be up again.
fn in_turn(
    addresses: &[SocketAddr],
    turn: usize,
    is_up: impl Fn(&SocketAddr) -> bool,
) -> impl Iterator<Item = SocketAddr> {
    let is_any_up = addresses.iter().any(&is_up);
    let first = turn.checked_rem(addresses.len()).unwrap_or(0);
    let round = addresses.iter().cycle().skip(first).take(addresses.len());
    round.filter(move |address| !is_any_up || is_up(address)).copied()
}

/// The addresses that may be reached.
async fn addresses(connection: &Connection, now: Millis) -> Result<Arc<[SocketAddr]>, Failure> {
    let name = &connection.upstream_name;
    let mut found = name.addresses(now);
    if matches!(found, Addresses::Unusable(NoAddress::Unresolved)) {
        name.resolved(RESOLVE_MAX).await;
        found = name.addresses(Millis::now());
    }
    match found {
        Addresses::Known(addresses) => Ok(addresses),
        Addresses::Unusable(NoAddress::Unresolved) => Err(Failure::Dns),
        Addresses::Unusable(NoAddress::Forbidden) => Err(Failure::Forbidden),
    }
}

fn connect_failure(error: &BError) -> Failure {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Failure::ConnectTimeout,
        ErrorType::TLSHandshakeFailure
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => Failure::Tls,
        _ => Failure::Connect,
    }
}

impl Link {
    /// A connection that was made elsewhere.
    pub(super) fn over(stream: Stream, peer: UpstreamPeer) -> Self {
        Self { stream, peer, is_reused: false, alarm: Alarm::default() }
    }

    /// Sends a request. An error of the write may hide an answer: read it all the same.
    pub async fn send(mut self, head: &[u8], body: &Spliced) -> (Unanswered, io::Result<()>) {
        let written = async {
            turn::others_first().await;
            if body.len() <= ONE_WRITE_MAX {
                let mut all = Vec::with_capacity(head.len() + body.len());
                all.extend_from_slice(head);
                for part in body.parts() {
                    all.extend_from_slice(part);
                }
                self.stream.write_all(&all).await?;
            } else {
                self.stream.write_all(head).await?;
                for part in body.parts() {
                    self.stream.write_all(part).await?;
                }
            }
            self.stream.flush().await
        };
        let written = written.await;
        (Unanswered { stream: self.stream, peer: self.peer }, written)
    }
}

impl Unanswered {
    /// Reads the head of the answer, past informational ones. Takes as long as it takes.
    pub async fn read_head(mut self) -> Result<Sent, NoHead> {
        let mut read = BytesMut::with_capacity(READ_BYTES_MIN);
        let mut searched = 0;
        loop {
            match take_head(&mut read, searched).map_err(|_| NoHead::Malformed)? {
                Some(AnswerHead { status: 101, .. }) => return Err(NoHead::Malformed),
                Some(AnswerHead { status: 100..200, .. }) => {
                    searched = 0;
                    continue;
                }
                Some(head) => {
                    let left = match head.framing {
                        Framing::None => Left::Nothing,
                        Framing::Length(bytes) => Left::Bytes(bytes),
                        Framing::Chunked => Left::Chunks(Box::new(ChunkedCheck::of_answer())),
                        Framing::UntilClose => Left::All,
                    };
                    let Self { stream, peer } = self;
                    let body = Incoming::new(read, left);
                    return Ok(Sent { stream, peer, head, body, alarm: Alarm::default() });
                }
                None => {}
            }
            // The end may lie across two reads.
            searched = read.len().saturating_sub(3);
            read.reserve(READ_BYTES_MIN / 2);
            match self.stream.read_buf(&mut read).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(NoHead::Closed),
            }
        }
    }
}

impl Sent {
    /// The next part of the body, as much as is there; `None` at its end.
    pub async fn read(&mut self) -> io::Result<Option<Bytes>> {
        self.body.next(&mut self.stream).await
    }

    /// Whether the whole body has been read.
    pub fn is_done(&self) -> bool {
        self.body.is_done()
    }

    /// Gives the connection back, if it is clean.
    pub fn release(self, pool: &Arc<Pool>) {
        if self.head.is_kept && self.body.is_clean() {
            self.peer.idle().put((self.stream, self.alarm), pool);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses() -> Vec<SocketAddr> {
        ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|text| text.parse().unwrap()).into()
    }

    fn ips_in_turn(turn: usize, is_up: impl Fn(&SocketAddr) -> bool) -> Vec<String> {
        in_turn(&addresses(), turn, is_up).map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn requests_go_round_the_addresses() {
        assert_eq!(ips_in_turn(0, |_| true), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(ips_in_turn(4, |_| true), ["10.0.0.2", "10.0.0.3", "10.0.0.1"]);
        assert_eq!(in_turn(&[], 7, |_| true).count(), 0);
    }

    #[test]
    fn address_that_is_down_is_left_out_unless_all_are() {
        let is_up = |address: &SocketAddr| address.ip().to_string() != "10.0.0.2";
        assert_eq!(ips_in_turn(1, is_up), ["10.0.0.3", "10.0.0.1"]);
        assert_eq!(ips_in_turn(2, |_| false), ["10.0.0.3", "10.0.0.1", "10.0.0.2"]);
    }

    /// How an upstream goes on after it has written its answer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Then {
        Waits,
        Closes,
    }

    /// The body of an answer that arrives in pieces of `cut` bytes, and whether its connection can
    /// be used again.
    async fn read(wire: Vec<u8>, then: Then, cut: usize) -> Result<(Vec<u8>, bool), String> {
        let (ours, mut theirs) = tokio::io::duplex(cut);
        let peer = UpstreamPeer::new("127.0.0.1:1".parse().unwrap(), false, "");
        let unanswered = Unanswered { stream: Box::new(ours), peer: peer.clone() };
        let upstream = tokio::spawn(async move {
            theirs.write_all(&wire).await.ok();
            (then == Then::Waits).then_some(theirs)
        });
        let mut sent = unanswered.read_head().await.map_err(|error| format!("{error:?}"))?;
        let mut body = Vec::new();
        while let Some(part) = sent.read().await.map_err(|error| error.to_string())? {
            assert!(!part.is_empty());
            body.extend_from_slice(&part);
        }
        sent.release(&Arc::new(Pool::new(1)));
        let _still_open = upstream.await.unwrap();
        Ok((body, peer.idle().take(Millis::now()).is_some()))
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn answer_that_breaks_off_is_an_error() {
        for wire in [
            "HTTP/1.1 200 OK\r\ncontent-le",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcd",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ] {
            let read = block_on(read(wire.into(), Then::Closes, 9));
            assert!(read.is_err(), "{wire}: {read:?}");
        }
    }

    #[test]
    fn connection_is_kept_only_when_it_is_clean() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (wire, then, expected) in [
            (format!("{ok}content-length: 3\r\n\r\nabc"), Then::Waits, true),
            (
                format!("HTTP/1.1 103 Early\r\n\r\n{ok}content-length: 3\r\n\r\nabc"),
                Then::Waits,
                true,
            ),
            (format!("{ok}content-length: 3\r\n\r\nabcd"), Then::Waits, false),
            (format!("{ok}content-length: 3\r\n\r\nabc"), Then::Closes, false),
            (format!("{ok}content-length: 3\r\nconnection: close\r\n\r\nabc"), Then::Waits, false),
            (format!("{ok}\r\nabc"), Then::Closes, false),
        ] {
            let read = block_on(read(wire.clone().into(), then, 1024));
            assert_eq!(read, Ok((b"abc".to_vec(), expected)), "{wire}");
        }
    }

    proptest! {
        #[test]
        fn chunks_are_put_together_however_they_are_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..30),
            cut in 1_usize..200,
            pad in "[ ]{0,2}",
        ) {
            let mut wire = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}{pad}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\nx-trailer: 1\r\n\r\n");
            let read = block_on(read(wire, Then::Waits, cut));
            prop_assert_eq!(read, Ok((chunks.concat(), true)));
        }
    }
}
