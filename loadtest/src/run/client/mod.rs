//! Clients: each sends one request at a time and has its answer checked.

use std::sync::Arc;
use std::time::Duration;

use super::check::Seen;
use super::failure::Failure;
use super::requests::{Ask, Requests};

mod connect;
mod http1;
mod http2;

pub(super) use connect::Connector;
pub(super) use http2::Shared as SharedH2;

/// A client, with the connection it keeps.
pub(super) enum Client {
    Http1(Box<http1::Client>),
    H2(http2::Client),
}

impl Client {
    pub(super) fn http1(connector: Arc<Connector>) -> Self {
        Self::Http1(Box::new(http1::Client::new(connector)))
    }

    pub(super) fn h2(shared: Arc<SharedH2>) -> Self {
        Self::H2(http2::Client::new(shared))
    }

    /// Sends a request and checks the answer; when its events came is in `seen`.
    pub(super) async fn exchange(
        &mut self,
        requests: &Requests,
        ask: &Ask,
        time_max: Duration,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        seen.clear();
        match self {
            Self::Http1(client) => client.exchange(requests, ask, time_max, seen).await,
            Self::H2(client) => client.exchange(requests, ask, time_max, seen).await,
        }
    }
}
