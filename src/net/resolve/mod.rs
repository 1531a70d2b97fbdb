//! Names of upstreams, resolved in the background.
//!
//! A request reads the addresses that a [`Name`] holds and never waits for DNS, except the first one
//! after a name is new. [`Resolver::run`] looks every name up again and again; when a lookup fails,
//! the last good answer is served for up to `stale_max`. Every answer passes the [`guard`] before it
//! can be used, so that a name cannot lead into the gateway's own network.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Millis;
use crate::config::server::IpNetwork;
use crate::net::guard::{self, Host};
use crate::telemetry::metrics::{LookupResult, Metrics};

/// How long a good answer is served while lookups fail.
pub const STALE_MAX: Duration = Duration::from_hours(1);
/// How long one lookup may take.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// Lookups at once.
const LOOKUPS_MAX: usize = 16;
/// After a failed lookup the next one comes so soon, then twice as late each time, up to the refresh.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Addresses of one name that are kept.
const ADDRESSES_MAX: usize = 64;

/// Turns a name into addresses: the system's resolver, or a script in the tests.
#[async_trait]
pub trait Lookup: Send + Sync {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// What the operating system knows: its hosts file, its DNS servers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

#[derive(Debug, Clone)]
pub struct ResolverConfig {
    /// How often each name is looked up.
    pub refresh: Duration,
    pub stale_max: Duration,
    /// Networks that upstreams may be in although they are not public.
    pub allow_networks: Vec<IpNetwork>,
}

/// The names in use.
pub struct Resolver {
    lookup: Box<dyn Lookup>,
    config: ResolverConfig,
    metrics: Arc<Metrics>,
    names: Mutex<Names>,
    /// There are new names.
    added: Notify,
}

#[derive(Default)]
struct Names {
    by_host: HashMap<(String, u16), Weak<Name>>,
    /// Not looked up yet.
    new: Vec<Weak<Name>>,
}

/// One upstream's host and port, with the addresses it has now. Looked up for as long as somebody
/// holds it.
pub struct Name {
    host: String,
    port: u16,
    answer: ArcSwap<Answer>,
    /// At least one lookup has ended, well or not.
    is_tried: AtomicBool,
    tried: Notify,
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Answer {
    /// Those that may be reached.
    addresses: Arc<[SocketAddr]>,
    /// There were addresses, and none may be reached.
    is_forbidden: bool,
    /// Not served from here on; `None` for what does not change.
    expires: Option<Millis>,
}

/// The addresses of a name at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// At least one, sorted.
    Known(Arc<[SocketAddr]>),
    Unusable(NoAddress),
}

/// Why a name has no address that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// No lookup has succeeded, or the last good answer is too old.
    #[error("the host name could not be resolved")]
    Unresolved,
    #[error("the host's address is in a network that connections may not reach")]
    Forbidden,
}

// === impl Name ===

impl Name {
    fn new(host: String, port: u16) -> Self {
        let is_tried = AtomicBool::new(false);
        Self { host, port, answer: ArcSwap::default(), is_tried, tried: Notify::new() }
    }

    /// A name whose answer is known for good.
    fn fixed(host: &str, port: u16, answer: Answer) -> Self {
        let answer = ArcSwap::from_pointee(answer);
        let is_tried = AtomicBool::new(true);
        Self { host: host.to_owned(), port, answer, is_tried, tried: Notify::new() }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The addresses that may be used now.
    pub fn addresses(&self, now: Millis) -> Addresses {
        let answer = self.answer.load();
        match answer.usable(now) {
            Ok(addresses) => Addresses::Known(Arc::clone(addresses)),
            Err(why) => Addresses::Unusable(why),
        }
    }

    /// The `n`th address, counting round and round: a caller that counts its requests spreads them,
    /// and one that adds 1 after a failure gets another address, if there is one.
    pub fn pick(&self, now: Millis, n: usize) -> Result<SocketAddr, NoAddress> {
        let answer = self.answer.load();
        let addresses = answer.usable(now)?;
        let index = n.checked_rem(addresses.len()).unwrap_or(0);
        addresses.get(index).copied().ok_or(NoAddress::Unresolved)
    }

    /// Waits until the first lookup has ended, well or not, for at most `limit`. Only a name that is
    /// new waits; all who wait share one lookup.
    pub async fn resolved(&self, limit: Duration) {
        if self.is_tried.load(Ordering::Acquire) {
            return;
        }
        let mut tried = pin!(self.tried.notified());
        tried.as_mut().enable(); // Before the second look, so that no end falls in between.
        if !self.is_tried.load(Ordering::Acquire) {
            // Out of time is for the caller to see in the addresses.
            timeout(limit, tried).await.unwrap_or_default();
        }
    }

    fn set_tried(&self) {
        self.is_tried.store(true, Ordering::Release);
        self.tried.notify_waiters();
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.host, self.port)
    }
}

impl Answer {
    /// The part of `found` that may be reached.
    fn vetted(mut found: Vec<SocketAddr>, allow: &[IpNetwork], expires: Option<Millis>) -> Self {
        let was_empty = found.is_empty();
        found.retain(|address| guard::is_allowed(address.ip(), allow));
        found.sort_unstable();
        found.dedup();
        found.truncate(ADDRESSES_MAX);
        let is_forbidden = !was_empty && found.is_empty();
        Self { addresses: found.into(), is_forbidden, expires }
    }

    fn usable(&self, now: Millis) -> Result<&Arc<[SocketAddr]>, NoAddress> {
        if self.expires.is_some_and(|expires| expires <= now) {
            Err(NoAddress::Unresolved)
        } else if self.is_forbidden {
            Err(NoAddress::Forbidden)
        } else if self.addresses.is_empty() {
            Err(NoAddress::Unresolved)
        } else {
            Ok(&self.addresses)
        }
    }
}

// === impl Resolver ===

impl Resolver {
    pub fn new(
        lookup: impl Lookup + 'static,
        config: ResolverConfig,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            lookup: Box::new(lookup),
            config,
            metrics,
            names: Mutex::default(),
            added: Notify::new(),
        }
    }

    /// The name for `host` and `port`, the same one for all who ask while it is in use. An address
    /// needs no lookup, and a host that can be no name gets none.
    pub fn handle(&self, host: &str, port: u16) -> Arc<Name> {
        let host = match guard::parse_host(host) {
            Host::Name(name) => name,
            Host::Ip(ip) => return self.fixed(host, SocketAddr::new(ip, port)),
            Host::Invalid => return Arc::new(Name::fixed(host, port, Answer::default())),
        };
        let key = (host, port);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.by_host.get(&key).and_then(Weak::upgrade) {
            return name;
        }
        let name = Arc::new(Name::new(key.0.clone(), port));
        names.by_host.insert(key, Arc::downgrade(&name));
        names.new.push(Arc::downgrade(&name));
        self.added.notify_one();
        name
    }

    /// The built-in provider's address, which is this process and needs nobody's permission.
    pub fn built_in(address: SocketAddr) -> Arc<Name> {
        let answer = Answer::vetted(vec![address], &[IpNetwork::of(address.ip())], None);
        Arc::new(Name::fixed(&address.ip().to_string(), address.port(), answer))
    }

    fn fixed(&self, host: &str, address: SocketAddr) -> Arc<Name> {
        let answer = Answer::vetted(vec![address], &self.config.allow_networks, None);
        Arc::new(Name::fixed(host, address.port(), answer))
    }

    /// Looks names up until the shutdown signal, or until nobody is left to give it.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut ended = pin!(async move { shutdown.wait_for(|is_set| *is_set).await.is_ok() });
        let mut work = Work::default();
        loop {
            self.queue_new(&mut work);
            self.start_due(&mut work);
            let due_in = work.due_in(now());
            tokio::select! {
                _ = &mut ended => return,
                () = self.added.notified() => {}
                () = elapse(due_in) => {}
                Some(looked_up) = work.running.join_next() => match looked_up {
                    Ok(next) => work.push(next),
                    Err(error) => tracing::error!(%error, "lookup ended in a panic"),
                },
            }
        }
    }

    fn queue_new(&self, work: &mut Work) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names.new.drain(..) {
            work.push(Next { at: Millis(0), name, n_failures: 0 });
        }
    }

    fn start_due(self: &Arc<Self>, work: &mut Work) {
        let now = now();
        let mut has_unused = false;
        while work.running.len() < LOOKUPS_MAX
            && let Some(next) = work.pop_due(now)
        {
            if let Some(name) = next.name.upgrade() {
                let resolver = Arc::clone(self);
                let n_failures = next.n_failures;
                work.running.spawn(async move { resolver.look_up(&name, n_failures).await });
            } else {
                has_unused = true;
            }
        }
        if has_unused {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.by_host.retain(|_, name| name.strong_count() > 0);
        }
    }

    /// One lookup of one name, and when the next is due.
    async fn look_up(&self, name: &Arc<Name>, n_failures: u32) -> Next {
        let found = match timeout(LOOKUP_MAX, self.lookup.lookup(&name.host, name.port)).await {
            Ok(Ok(found)) if found.is_empty() => Err(io::Error::other("no addresses")),
            Ok(found) => found,
            Err(elapsed) => Err(elapsed.into()),
        };
        let now = now();
        let (wait, n_failures) = match found {
            Ok(found) => {
                self.metrics.dns_lookups.inc(LookupResult::Ok);
                self.set_answer(name, found, now);
                (self.config.refresh, 0)
            }
            Err(error) => {
                self.metrics.dns_lookups.inc(LookupResult::Failed);
                // Once for each row of failures: a dead resolver must not fill the log.
                if n_failures == 0 {
                    tracing::warn!(host = name.host, %error, "lookup failed");
                }
                let retry = RETRY_MIN.saturating_mul(1 << n_failures.min(16));
                (retry.min(self.config.refresh), n_failures.saturating_add(1))
            }
        };
        name.set_tried();
        // Names that came together spread out.
        let wait = wait.mul_f64(rand::random_range(0.9..1.1));
        Next { at: now.saturating_add(wait), name: Arc::downgrade(name), n_failures }
    }

    fn set_answer(&self, name: &Name, found: Vec<SocketAddr>, now: Millis) {
        let expires = now.saturating_add(self.config.stale_max);
        let answer = Answer::vetted(found, &self.config.allow_networks, Some(expires));
        if answer.is_forbidden && !name.answer.load().is_forbidden {
            tracing::warn!(host = name.host, "host is in a network that is not allowed");
        }
        name.answer.store(Arc::new(answer));
    }
}

// === the schedule ===

/// What the background task has to do.
#[derive(Default)]
struct Work {
    /// In the order of their time; the number keeps two of the same time apart.
    due: BTreeMap<(Millis, u64), Next>,
    n_pushed: u64,
    running: JoinSet<Next>,
}

/// The next lookup of a name.
struct Next {
    at: Millis,
    name: Weak<Name>,
    /// Lookups that failed in a row.
    n_failures: u32,
}

impl Work {
    fn push(&mut self, next: Next) {
        self.n_pushed += 1;
        self.due.insert((next.at, self.n_pushed), next);
    }

    fn pop_due(&mut self, now: Millis) -> Option<Next> {
        let first = self.due.first_entry()?;
        (first.get().at <= now).then(|| first.remove())
    }

    /// `None` when only the end of a running lookup, or a new name, brings something to do.
    fn due_in(&self, now: Millis) -> Option<Duration> {
        let (_, first) = self.due.first_key_value()?;
        (self.running.len() < LOOKUPS_MAX).then(|| first.at.since(now))
    }
}

async fn elapse(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => pending().await,
    }
}

/// As `Millis::now()`, on the clock that tests can pause.
fn now() -> Millis {
    Millis::from(Instant::now().into_std())
}

#[cfg(test)]
mod tests;
