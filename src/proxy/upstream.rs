//! The connection of one attempt: found or made, written in as few calls as can be, read part by
//! part, and given back to the pool when it is clean.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::Peer as _;
use pingora_error::{BError, ErrorType};
use pingora_http::ResponseHeader;
use pingora_timeout::timeout;
use tokio::io::AsyncWriteExt as _;

use crate::clock::Millis;
use crate::control::snapshot::Connection;
use crate::json::Spliced;
use crate::net::peer::{POOL_IDLE_MAX, UpstreamPeer};
use crate::net::resolve::{Addresses, NoAddress};
use crate::route::failure::Failure;

/// A request of up to this size leaves in one write.
const ONE_WRITE_MAX: usize = 64 * 1024;
/// What is already there of a body is taken together up to this size.
const TOGETHER_MAX: usize = 16 * 1024;
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
}

/// A connection on which the request has been sent.
pub struct Sent {
    session: Box<HttpSession>,
    peer: UpstreamPeer,
    /// Met while reading ahead; Pingora reports an error once and the end of the body ever after.
    failed: Option<BError>,
}

/// Finds or makes a connection within `time`.
pub async fn connect(
    connector: &TransportConnector,
    connection: &Connection,
    is_new_wanted: bool,
    time: Duration,
) -> Result<Link, Failure> {
    let deadline = Instant::now() + time;
    let addresses = addresses(connection).await?;
    let is_up = |address: &SocketAddr| {
        connection.health.as_ref().is_none_or(|health| health.is_healthy(*address))
    };
    let n_tries = addresses.len().min(ADDRESSES_MAX);
    let in_turn = in_turn(&addresses, connection.live.turn(), is_up).take(n_tries);
    let mut failure = Failure::Dns;
    for (n_tried, address) in in_turn.enumerate() {
        let peer = peer(connection, address);
        if !is_new_wanted && let Some(stream) = connector.reused_stream(&peer).await {
            return Ok(Link { stream, peer, is_reused: true });
        }
        // An address that swallows packets leaves its share of the time to the others.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(n_tries - n_tried).unwrap_or(1).max(1);
        // Rare and large: on the heap, so that requests on pooled connections do not carry it.
        let opened = Box::pin(connector.new_stream(&peer));
        match timeout(share, opened).await {
            Ok(Ok(stream)) => return Ok(Link { stream, peer, is_reused: false }),
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
async fn addresses(connection: &Connection) -> Result<Arc<[SocketAddr]>, Failure> {
    let name = &connection.upstream_name;
    let mut found = name.addresses(Millis::now());
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

/// The peer of an address, made when the address is first used.
pub fn peer(connection: &Connection, address: SocketAddr) -> UpstreamPeer {
    let known = connection.peers.load();
    if let Some((_, peer)) = known.iter().find(|(of, _)| *of == address) {
        return peer.clone();
    }
    let url = &connection.base_url;
    let peer = UpstreamPeer::new(address, url.is_tls, &url.host);
    connection.peers.rcu(|known| {
        let mut known = known.to_vec();
        known.push((address, peer.clone()));
        known
    });
    peer
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
    /// Sends a request. An error of the write may hide an answer: read it all the same.
    pub async fn send(mut self, mut head: BytesMut, body: &Spliced) -> (Sent, io::Result<()>) {
        let written = async {
            if body.len() <= ONE_WRITE_MAX {
                for part in body.parts() {
                    head.extend_from_slice(part);
                }
                self.stream.write_all(&head).await?;
            } else {
                self.stream.write_all(&head).await?;
                for part in body.parts() {
                    self.stream.write_all(part).await?;
                }
            }
            self.stream.flush().await
        };
        let written = written.await;
        let session = Box::new(HttpSession::new(self.stream));
        (Sent { session, peer: self.peer, failed: None }, written)
    }
}

impl Sent {
    /// Reads the head of the answer, past informational ones. Takes as long as it takes.
    pub async fn read_head(&mut self) -> Result<(), BError> {
        loop {
            self.session.read_response().await?;
            let status = self.session.get_status().map_or(0, |status| status.as_u16());
            if !(100..=199).contains(&status) || status == 101 {
                return Ok(());
            }
        }
    }

    pub fn head(&self) -> Option<&ResponseHeader> {
        self.session.resp_header()
    }

    /// The next part of the body; `None` at its end.
    pub async fn read(&mut self) -> Result<Option<Bytes>, BError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Some(first) = self.session.read_body_bytes().await? else { return Ok(None) };
        if self.session.is_body_done() || TOGETHER_MAX <= first.len() {
            return Ok(Some(first));
        }
        let mut together: Option<BytesMut> = None;
        // What has arrived with the same segment leaves with the same write.
        while together.as_ref().map_or(first.len(), BytesMut::len) < TOGETHER_MAX
            && !self.session.is_body_done()
        {
            let next = tokio::task::unconstrained(self.session.read_body_ref()).now_or_never();
            match next {
                Some(Ok(Some(more))) => together
                    .get_or_insert_with(|| {
                        let mut buffer = BytesMut::with_capacity(first.len() + 4 * more.len());
                        buffer.extend_from_slice(&first);
                        buffer
                    })
                    .extend_from_slice(more),
                Some(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                Some(Ok(None)) | None => break,
            }
        }
        Ok(Some(together.map_or(first, BytesMut::freeze)))
    }

    /// Whether the whole body has been read.
    pub fn is_done(&mut self) -> bool {
        self.failed.is_none() && self.session.is_body_done()
    }

    /// Gives the connection back, if it is clean.
    pub async fn release(mut self, connector: &Arc<TransportConnector>) {
        self.session.respect_keepalive();
        if let Some(stream) = self.session.reuse().await {
            connector.release_stream(stream, self.peer.reuse_hash(), Some(POOL_IDLE_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
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
}
