//! What changes with traffic, beside the snapshot: kept by id, so that a reload forgets nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;

use crate::clock::Millis;
use crate::config::resources::{BaseUrl, HealthCheck};
use crate::control::limits::Registry;
use crate::id::{ConnectionId, TargetId};
use crate::net::health::Health;
use crate::net::peer::UpstreamPeer;
use crate::route::breaker::Breaker;
use crate::route::error_rate::ErrorRates;
use crate::route::ewma::PeakEwma;
use crate::route::retry_budget::RetryBudget;
use crate::route::swrr::Swrr;

/// Addresses of one connection that are remembered; those of a name that changes come and go.
const PEERS_MAX: usize = 64;

/// The live state of a deployment. Its id includes the environment's, so none is shared.
#[derive(Debug)]
pub struct DeploymentLive {
    pub weights: Vec<u32>,
    pub swrr: Mutex<Swrr>,
    pub retry_budget: Mutex<RetryBudget>,
}

/// The live state of a target.
#[derive(Debug)]
pub struct TargetLive {
    pub breaker: Mutex<Breaker>,
    pub latency: Mutex<PeakEwma>,
    pub in_flight: AtomicU32,
    pub last_error: Mutex<Option<&'static str>>,
    /// Once a rule has asked for them.
    error_rates: OnceLock<Box<Mutex<ErrorRates>>>,
}

/// The live state of a connection.
#[derive(Debug, Default)]
pub struct ConnectionLive {
    /// Its credential was refused: not used before this time, in [`Millis`].
    benched_until: AtomicU64,
    /// Counts requests, so that they go round the addresses of the upstream.
    turns: AtomicUsize,
    checked: Mutex<Option<Checked>>,
    /// Those that were used, the newest at the end, with their open connections.
    peers: ArcSwap<Vec<UpstreamPeer>>,
}

/// Active checks that run, and what they were started for.
#[derive(Debug)]
struct Checked {
    check: HealthCheck,
    base_url: BaseUrl,
    health: Arc<Health>,
}

/// Everything live of one snapshot, to be taken over by the next.
#[derive(Debug)]
pub struct Live {
    pub deployments: HashMap<uuid::Uuid, Arc<DeploymentLive>>,
    pub targets: HashMap<TargetId, Arc<TargetLive>>,
    pub connections: HashMap<ConnectionId, Arc<ConnectionLive>>,
    /// The counters of all limits there have been.
    pub limits: Arc<Registry>,
}

impl Live {
    /// Of no snapshot yet.
    pub fn new(limits: Arc<Registry>) -> Self {
        Self {
            deployments: HashMap::new(),
            targets: HashMap::new(),
            connections: HashMap::new(),
            limits,
        }
    }
}

/// Locks for a few instructions; a panic elsewhere does not end the gateway.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl DeploymentLive ===

impl DeploymentLive {
    pub fn new(weights: Vec<u32>) -> Self {
        Self {
            swrr: Mutex::new(Swrr::new(&weights)),
            weights,
            retry_budget: Mutex::new(RetryBudget::new(Millis::now())),
        }
    }
}

// === impl TargetLive ===

impl TargetLive {
    pub fn new(breaker: Breaker) -> Self {
        Self {
            breaker: Mutex::new(breaker),
            latency: Mutex::new(PeakEwma::default()),
            in_flight: AtomicU32::new(0),
            last_error: Mutex::new(None),
            error_rates: OnceLock::new(),
        }
    }

    /// From now on attempts are counted by the minute.
    pub fn watch(&self) {
        self.error_rates.get_or_init(Box::default);
    }

    /// Counts an attempt, if anyone asks.
    pub fn note(&self, is_failure: bool) {
        if let Some(rates) = self.error_rates.get() {
            lock(rates).note(Millis::now(), is_failure);
        }
    }

    /// The part of the attempts that failed within the last minutes.
    pub fn error_rate(&self, minutes: u32) -> f64 {
        self.error_rates.get().map_or(0.0, |rates| lock(rates).rate(Millis::now(), minutes))
    }

    /// Counts an attempt until the guard goes away.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

/// One attempt in flight on a target.
#[derive(Debug)]
pub struct InFlight(Arc<TargetLive>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl ConnectionLive ===

impl ConnectionLive {
    /// A number that counts up with each call.
    pub fn turn(&self) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// The peer of an address, made when the address is first used.
    pub fn peer(&self, address: SocketAddr, base_url: &BaseUrl) -> UpstreamPeer {
        let is_it = |peer: &&UpstreamPeer| peer.is_for(address, base_url.is_tls, &base_url.host);
        if let Some(peer) = self.peers.load().iter().find(is_it) {
            return peer.clone();
        }
        let peer = UpstreamPeer::new(address, base_url.is_tls, &base_url.host);
        self.peers.rcu(|known| {
            let n_forgotten = (known.len() + 1).saturating_sub(PEERS_MAX);
            let kept = known.iter().skip(n_forgotten).cloned();
            kept.chain([peer.clone()]).collect::<Vec<_>>()
        });
        peer
    }

    /// The running checks, if they are still the wanted ones; else those that `start` starts.
    pub fn health(
        &self,
        check: Option<&HealthCheck>,
        base_url: &BaseUrl,
        start: impl FnOnce(&HealthCheck) -> Option<Health>,
    ) -> Option<Arc<Health>> {
        let mut checked = lock(&self.checked);
        let is_same = |old: &Checked| Some(&old.check) == check && old.base_url == *base_url;
        if !checked.as_ref().is_some_and(is_same) {
            *checked = check.and_then(|check| {
                let health = Arc::new(start(check)?);
                Some(Checked { check: check.clone(), base_url: base_url.clone(), health })
            });
        }
        checked.as_ref().map(|checked| Arc::clone(&checked.health))
    }

    pub fn bench(&self, until: Millis) {
        self.benched_until.fetch_max(until.0, Ordering::Relaxed);
    }

    /// When the bench ends, if it has not yet.
    pub fn benched_until(&self, now: Millis) -> Option<Millis> {
        let until = Millis(self.benched_until.load(Ordering::Relaxed));
        (now < until).then_some(until)
    }
}
