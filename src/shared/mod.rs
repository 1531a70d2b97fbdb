//! Limits counted over all nodes, in Redis or Valkey.
//!
//! ```text
//! reserve.lua   all limits of a request in one script, one round trip
//! settle.lua    what was used in the place of what was reserved
//! hold          what a request holds there, until it is settled
//! keeper        the connection, its heartbeat, leases and settlements: off the path
//! ```
//!
//! A request waits for at most `shared.timeout_ms`. After a few that waited in vain the store counts as
//! down, and nobody asks it until the keeper has found it well again. Settlements and leases go through
//! the keeper's queue. A slot is a lease that the keeper renews: those of a node that is gone come back.

mod hold;
mod keeper;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{Client, RedisError, Script};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub use self::hold::Hold;
pub use self::keeper::Keeper;
use self::keeper::Order;
use crate::clock::Clock;
use crate::limit::{Metric, Period, Wait};
use crate::secret::Secret;
use crate::telemetry::metrics::{Metrics, SharedResult};

/// So many requests in a row that waited in vain, and the store counts as down.
const FAILURES_MAX: u32 = 3;
/// A reply that comes later than this finds nobody who could take it back.
const LATE_MAX: Duration = Duration::from_secs(2);
/// Settlements that wait for the keeper.
const QUEUE_MAX: usize = 65_536;

/// How to reach the store.
#[derive(Debug, Clone)]
pub struct SharedSettings {
    pub url: Secret,
    /// A request waits so long.
    pub timeout: Duration,
    /// A slot whose node is silent so long comes back.
    pub lease: Duration,
}

/// The shared store.
pub struct Shared {
    client: Client,
    timeout: Duration,
    lease: Duration,
    /// `None` while the store counts as down.
    link: ArcSwapOption<Link>,
    failures: AtomicU32,
    nodes: AtomicU64,
    /// The store's clock less ours, in milliseconds.
    ahead_ms: AtomicI64,
    orders: mpsc::Sender<Order>,
    /// The slots that requests of this node hold: lease -> keys.
    leases: Mutex<HashMap<u64, Arc<[String]>>>,
    next_lease: AtomicU64,
    node: String,
    reserve: Script,
    settle: Script,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// A connection; calls from everywhere share it.
pub(super) struct Link(MultiplexedConnection);

/// One limit of a request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub key: String,
    pub metric: Metric,
    pub period: Period,
    pub amount: u64,
    pub ask: u64,
}

/// What the store says to a request.
#[derive(Debug)]
pub enum Answer {
    Granted(Hold),
    /// Which of the limits refuses, and how long until all would let it pass.
    Refused(usize, Wait),
    /// It was not asked, or did not answer in time.
    Unavailable,
}

#[derive(Debug, thiserror::Error)]
#[error("`shared.redis` cannot be used: {0}")]
pub struct SharedError(String);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The store and its keeper, which must be run.
    pub fn new(
        settings: &SharedSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<(Arc<Self>, Keeper), SharedError> {
        // The address may hold a password, and the error may hold the address.
        let client = Client::open(settings.url.expose())
            .map_err(|error| SharedError(format!("{:?}", error.kind())))?;
        let (orders, queue) = mpsc::channel(QUEUE_MAX);
        let shared = Arc::new(Self {
            client,
            timeout: settings.timeout,
            lease: settings.lease,
            link: ArcSwapOption::empty(),
            failures: AtomicU32::new(0),
            nodes: AtomicU64::new(1),
            ahead_ms: AtomicI64::new(0),
            orders,
            leases: Mutex::default(),
            next_lease: AtomicU64::new(0),
            node: format!("{:016x}", rand::random::<u64>()),
            reserve: Script::new(include_str!("reserve.lua")),
            settle: Script::new(include_str!("settle.lua")),
            clock,
            metrics,
        });
        let keeper = Keeper::new(Arc::clone(&shared), queue);
        Ok((shared, keeper))
    }

    /// Whether it is worth asking.
    pub fn is_up(&self) -> bool {
        self.link.load().is_some()
    }

    /// Nodes that were alive when last seen, this one among them.
    pub fn nodes(&self) -> u64 {
        self.nodes.load(Ordering::Relaxed).max(1)
    }

    /// Takes from all limits or from none, in one round trip. All keys must have one hash tag.
    pub async fn reserve(self: &Arc<Self>, asked: Vec<Asked>) -> Answer {
        let answer = self.ask(asked).await;
        self.metrics.shared_reservations.inc(match &answer {
            Answer::Granted(_) => SharedResult::Granted,
            Answer::Refused(..) => SharedResult::Refused,
            Answer::Unavailable => SharedResult::Unavailable,
        });
        answer
    }

    async fn ask(self: &Arc<Self>, asked: Vec<Asked>) -> Answer {
        let Some(link) = self.link.load_full() else { return Answer::Unavailable };
        // On a task of its own: a client that leaves, or a reply that is late, must not leave behind
        // what nobody holds.
        let (tell, told) = oneshot::channel();
        tokio::spawn(Arc::clone(self).call(link, asked, tell));
        match timeout(self.timeout, told).await {
            Ok(Ok(Some(answer))) => {
                self.failures.store(0, Ordering::Relaxed);
                answer
            }
            Ok(_broken) => Answer::Unavailable,
            Err(_elapsed) => {
                if FAILURES_MAX <= self.failures.fetch_add(1, Ordering::Relaxed) + 1 {
                    self.down("it does not answer in time");
                }
                Answer::Unavailable
            }
        }
    }

    async fn call(
        self: Arc<Self>,
        link: Arc<Link>,
        asked: Vec<Asked>,
        tell: oneshot::Sender<Option<Answer>>,
    ) {
        let lease = self.next_lease.fetch_add(1, Ordering::Relaxed);
        let mut call = self.reserve.prepare_invoke();
        let deadline =
            self.store_time().saturating_add(LATE_MAX.as_millis().try_into().unwrap_or(0));
        call.arg(deadline).arg(self.member(lease)).arg(millis(self.lease));
        for Asked { key, metric, period, amount, ask } in &asked {
            let kind = if *metric == Metric::Concurrent { "slot" } else { period.name() };
            call.key(key).arg(kind).arg(*amount).arg(*ask);
        }
        let mut connection = link.0.clone();
        let reply = timeout(LATE_MAX, call.invoke_async::<Vec<i64>>(&mut connection)).await;
        let answer = match reply {
            Ok(Ok(reply)) => Hold::of_reply(&self, lease, asked, &reply),
            Ok(Err(error)) => {
                self.down(broken(&error));
                None
            }
            Err(_elapsed) => None,
        };
        // Nobody waits any more: what was granted goes back when it is dropped.
        drop(tell.send(answer));
    }

    /// What the store's clock shows.
    fn store_time(&self) -> i64 {
        self.clock.unix_micros() / 1_000 + self.ahead_ms.load(Ordering::Relaxed)
    }

    /// The name of a lease in the store.
    fn member(&self, lease: u64) -> String {
        format!("{}:{lease}", self.node)
    }

    /// Nobody asks from here on, until the keeper says otherwise.
    fn down(&self, why: &str) {
        if self.link.swap(None).is_some() {
            tracing::error!(
                why,
                "the shared store is down; shared limits are counted by this node"
            );
            self.metrics.shared_up.set(0);
        }
    }

    fn up(&self, link: Link) {
        self.failures.store(0, Ordering::Relaxed);
        if self.link.swap(Some(Arc::new(link))).is_none() {
            tracing::info!(nodes = self.nodes(), "the shared store is up");
            self.metrics.shared_up.set(1);
        }
    }

    /// Waits until everything so far is settled, or for a while; not at all for a store that is down.
    pub async fn flush(&self) {
        if !self.is_up() {
            return;
        }
        let (done, is_done) = oneshot::channel();
        if self.orders.send(Order::Flush(done)).await.is_ok() {
            drop(timeout(LATE_MAX, is_done).await);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What broke, without the text of the store: it may show an address.
fn broken(error: &RedisError) -> &'static str {
    if error.is_timeout() {
        "it does not answer in time"
    } else if error.is_io_error() {
        "the connection broke"
    } else {
        "it refused a command"
    }
}
