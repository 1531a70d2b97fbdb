//! An address of an upstream as Pingora wants it, made once and shared by all requests.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora_core::upstreams::peer::{HttpPeer, Peer, PeerOptions};

/// How long an upstream connection may lie idle in the pool.
pub const POOL_IDLE_MAX: Duration = Duration::from_secs(55);

/// A peer whose hash is computed once and whose clone is one counter.
#[derive(Debug, Clone)]
pub struct UpstreamPeer(Arc<(HttpPeer, u64)>);

impl UpstreamPeer {
    /// `host` is what the certificate must name.
    pub fn new(address: SocketAddr, is_tls: bool, host: &str) -> Self {
        let mut peer = HttpPeer::new(address, is_tls, host.to_owned());
        peer.options.idle_timeout = Some(POOL_IDLE_MAX);
        peer.options.verify_cert = true;
        peer.options.verify_hostname = true;
        let hash = peer.reuse_hash();
        Self(Arc::new((peer, hash)))
    }

    /// For Pingora's own upstream path, which wants its own type.
    pub fn to_http_peer(&self) -> HttpPeer {
        self.0.0.clone()
    }
}

impl fmt::Display for UpstreamPeer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(out)
    }
}

impl Peer for UpstreamPeer {
    fn address(&self) -> &PingoraAddr {
        &self.0.0._address
    }

    fn tls(&self) -> bool {
        self.0.0.is_tls()
    }

    fn sni(&self) -> &str {
        &self.0.0.sni
    }

    fn reuse_hash(&self) -> u64 {
        self.0.1
    }

    fn get_peer_options(&self) -> Option<&PeerOptions> {
        Some(&self.0.0.options)
    }

    /// The pool's key holds the address, so a connection found under it goes there: asking the
    /// kernel again would cost a system call a request.
    fn matches_fd<V: AsRawFd>(&self, _fd: V) -> bool {
        true
    }
}
