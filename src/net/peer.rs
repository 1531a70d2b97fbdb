//! An address of an upstream as Pingora wants it, made once and shared by all requests.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora_core::upstreams::peer::{HttpPeer, Peer, PeerOptions};

use crate::net::pool::{IDLE_MAX, Idle};

/// A peer whose hash is computed once and whose clone is one counter.
#[derive(Debug, Clone)]
pub struct UpstreamPeer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peer: HttpPeer,
    hash: u64,
    idle: Arc<Idle>,
}

impl UpstreamPeer {
    /// `host` is what the certificate must name.
    pub fn new(address: SocketAddr, is_tls: bool, host: &str) -> Self {
        let mut peer = HttpPeer::new(address, is_tls, host.to_owned());
        peer.options.idle_timeout = Some(IDLE_MAX);
        peer.options.verify_cert = true;
        peer.options.verify_hostname = true;
        let hash = peer.reuse_hash();
        Self(Arc::new(Inner { peer, hash, idle: Arc::default() }))
    }

    /// Whether this is where a request for `host` at `address` goes.
    pub fn is_for(&self, address: SocketAddr, is_tls: bool, host: &str) -> bool {
        let Inner { peer, .. } = &*self.0;
        peer._address.as_inet() == Some(&address) && peer.is_tls() == is_tls && peer.sni == host
    }

    /// The open connections that wait for their next request.
    pub fn idle(&self) -> &Arc<Idle> {
        &self.0.idle
    }

    /// For Pingora's own upstream path, which wants its own type.
    pub fn to_http_peer(&self) -> HttpPeer {
        self.0.peer.clone()
    }
}

impl fmt::Display for UpstreamPeer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.peer.fmt(out)
    }
}

impl Peer for UpstreamPeer {
    fn address(&self) -> &PingoraAddr {
        &self.0.peer._address
    }

    fn tls(&self) -> bool {
        self.0.peer.is_tls()
    }

    fn sni(&self) -> &str {
        &self.0.peer.sni
    }

    fn reuse_hash(&self) -> u64 {
        self.0.hash
    }

    fn get_peer_options(&self) -> Option<&PeerOptions> {
        Some(&self.0.peer.options)
    }

    /// The key of Pingora's pool holds the address, so a connection found under it goes there:
    /// asking the kernel again would cost a system call a request.
    fn matches_fd<V: AsRawFd>(&self, _fd: V) -> bool {
        true
    }
}
