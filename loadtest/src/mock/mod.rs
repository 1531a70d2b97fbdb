//! A scripted LLM provider on a local port.
//!
//! A reply follows from the request's path (which dialect, which shape), the request's body
//! (model, stream or not) and a [`Behaviour`]: the one that the model's name carries after a `?`,
//! else the next of the script's list, else the default. The mock asks for no credential and keeps
//! a journal of what it received.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

mod admin;
mod ask;
mod behaviour;
mod chat;
mod connection;
mod content;
mod errors;
mod events;
mod faults;
mod http;
mod journal;
mod json;
mod messages;
mod others;
mod reply;
mod responses;
mod script;
mod send;
mod shared;

pub use behaviour::{Behaviour, BehaviourError, EarlyError, ErrorMix, Mishap, Weird};
pub use content::text_pieces;
pub use faults::check_faults;
pub use journal::{BODY_KEPT_BYTES_MAX, ENTRIES_MAX, End, Entry, fnv1a};
pub use script::{SCRIPT_ID_LEN, Script};

use shared::Shared;

/// A running mock. Clones are the same mock; when the last one is dropped it stops, and its
/// connections are closed.
#[derive(Debug, Clone)]
pub struct Mock {
    running: Arc<Running>,
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Mock {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start() -> io::Result<Self> {
        Self::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::serve(TcpListener::bind(address).await?)
    }

    /// Takes over a bound listener. Must be called inside a tokio runtime.
    pub fn from_listener(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Self::serve(TcpListener::from_std(listener)?)
    }

    fn serve(listener: TcpListener) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(listener.local_addr()?));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { running: Arc::new(Running { shared, accepting }) })
    }

    fn shared(&self) -> &Shared {
        &self.running.shared
    }

    pub fn addr(&self) -> SocketAddr {
        self.shared().address
    }

    /// `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr())
    }

    /// Sets the behaviour of requests that nothing else decides.
    pub fn set_default(&self, behaviour: Behaviour) {
        self.shared().set_default(behaviour);
    }

    /// Sets the behaviours of the next requests, in this order, in place of those still left.
    pub fn script(&self, list: Vec<Behaviour>) {
        self.shared().set_list(list);
    }

    /// Lays `members` of a behaviour over that of every request, or of each N-th with `every`;
    /// `None` takes them back. Calls that the behaviour cannot have are an error.
    pub fn set_faults(
        &self,
        members: Option<serde_json::Map<String, serde_json::Value>>,
    ) -> Result<(), BehaviourError> {
        self.shared().faults.set(members)
    }

    /// The last [`ENTRIES_MAX`] requests, oldest first.
    pub fn journal(&self) -> Vec<Entry> {
        self.shared().journal.entries().iter().cloned().collect()
    }

    pub fn clear_journal(&self) {
        self.shared().journal.entries().clear();
    }

    /// Switches the journal, which is on at first. In-flight requests go on as they began.
    pub fn set_journal(&self, is_on: bool) {
        self.shared().journal.set_on(is_on);
    }

    /// Waits until the journal has `n` ended requests, and returns all of it.
    pub async fn wait_for(&self, n: usize) -> Vec<Entry> {
        self.shared().journal.wait(n, |entry| entry.end != End::Running).await
    }

    /// Waits until the heads of `n` requests have arrived, and returns the whole journal.
    pub async fn wait_for_started(&self, n: usize) -> Vec<Entry> {
        self.shared().journal.wait(n, |_| true).await
    }

    pub fn open_connections(&self) -> usize {
        self.shared().connections_n()
    }

    /// Requests whose head has been read and whose answer is not finished.
    pub fn in_flight(&self) -> usize {
        self.shared().journal.in_flight()
    }
}

/// Accepts until aborted; the connections' tasks end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    number += 1;
                    connections.spawn(connection::serve(Arc::clone(&shared), stream, number));
                }
                // Out of descriptors, most likely: some must close first.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}
