//! What all connections of a mock share: the script, the journal, counters.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::behaviour::{Behaviour, BehaviourError};
use super::faults::Faults;
use super::journal::Journal;
use super::reply::ID_LEN;

/// Made responses that can be asked for again; beyond it the oldest goes.
const STORED_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) address: SocketAddr,
    pub(super) journal: Journal,
    pub(super) faults: Faults,
    script: Mutex<Script>,
    /// Changes with the default behaviour.
    epoch: AtomicU64,
    /// Length of the script's list, readable without the lock.
    listed_n: AtomicUsize,
    seq: AtomicU64,
    connections_n: AtomicUsize,
    /// Requests that an error rate has been asked about.
    rated_n: AtomicU64,
    stored: Mutex<Stored>,
}

#[derive(Debug, Default)]
struct Script {
    default: Arc<Behaviour>,
    list: VecDeque<Arc<Behaviour>>,
}

#[derive(Debug, Default)]
struct Stored {
    by_id: HashMap<String, (String, Arc<Behaviour>)>,
    order: VecDeque<String>,
}

/// The behaviour of one request, and how long the choice holds.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) behaviour: Arc<Behaviour>,
    holds: Holds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// The model's name says it.
    Always,
    /// While the default is this one and the list is empty.
    Epoch(u64),
    Once,
}

impl Chosen {
    pub(super) fn once(behaviour: Arc<Behaviour>) -> Self {
        Self { behaviour, holds: Holds::Once }
    }

    pub(super) fn can_be_kept(&self) -> bool {
        self.holds != Holds::Once
    }
}

/// Counts a connection for as long as it lives.
pub(super) struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            journal: Journal::new(),
            faults: Faults::default(),
            script: Mutex::default(),
            epoch: AtomicU64::new(0),
            listed_n: AtomicUsize::new(0),
            seq: AtomicU64::new(0),
            connections_n: AtomicUsize::new(0),
            rated_n: AtomicU64::new(0),
            stored: Mutex::default(),
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_default(&self, behaviour: Behaviour) {
        self.script().default = Arc::new(behaviour);
        self.epoch.fetch_add(1, Relaxed);
    }

    pub(super) fn set_list(&self, list: Vec<Behaviour>) {
        let mut script = self.script();
        script.list = list.into_iter().map(Arc::new).collect();
        self.listed_n.store(script.list.len(), Relaxed);
    }

    /// The behaviour of a request for `model`. What the name carries comes first, and takes
    /// nothing from the list.
    pub(super) fn choose(&self, model: &str) -> Result<Chosen, BehaviourError> {
        if let Some(behaviour) = Behaviour::of_model(model)? {
            return Ok(Chosen { behaviour: Arc::new(behaviour), holds: Holds::Always });
        }
        let epoch = self.epoch.load(Relaxed);
        if self.listed_n.load(Relaxed) > 0 {
            return Ok(Chosen::once(self.take()));
        }
        let behaviour = Arc::clone(&self.script().default);
        Ok(Chosen { behaviour, holds: Holds::Epoch(epoch) })
    }

    pub(super) fn is_current(&self, chosen: &Chosen) -> bool {
        match chosen.holds {
            Holds::Always => true,
            Holds::Epoch(epoch) => {
                self.epoch.load(Relaxed) == epoch && self.listed_n.load(Relaxed) == 0
            }
            Holds::Once => false,
        }
    }

    /// The next behaviour of the list, or the default, left where it is.
    pub(super) fn peek(&self) -> Arc<Behaviour> {
        let script = self.script();
        Arc::clone(script.list.front().unwrap_or(&script.default))
    }

    pub(super) fn take(&self) -> Arc<Behaviour> {
        let mut script = self.script();
        let taken = script.list.pop_front();
        self.listed_n.store(script.list.len(), Relaxed);
        taken.unwrap_or_else(|| Arc::clone(&script.default))
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Relaxed) + 1
    }

    /// The id of a request: of two mocks on one machine, no two are the same.
    pub(super) fn id(&self, seq: u64) -> [u8; ID_LEN] {
        let number = u64::from(self.address.port()) << 48 | (seq & 0xffff_ffff_ffff);
        let mut id = [b'0'; ID_LEN];
        for (place, digit) in id.iter_mut().rev().enumerate() {
            let nibble = u32::try_from(number >> (4 * place) & 15).unwrap_or(0);
            *digit = char::from_digit(nibble, 16).map_or(b'0', |digit| digit as u8);
        }
        id
    }

    pub(super) fn connections_n(&self) -> usize {
        self.connections_n.load(Relaxed)
    }

    pub(super) fn connection_opened(&self) -> Open<'_> {
        self.connections_n.fetch_add(1, Relaxed);
        Open(&self.connections_n)
    }

    /// Whether this request is among the share of them that fails: of any n in a row, n × rate
    /// (rounded).
    #[expect(clippy::cast_precision_loss, reason = "counts of requests fit")]
    pub(super) fn fails(&self, rate: f64) -> bool {
        let before = self.rated_n.fetch_add(1, Relaxed) as f64;
        ((before + 1.0) * rate).floor() > (before * rate).floor()
    }

    fn stored_lock(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn store(&self, id: [u8; ID_LEN], model: &str, behaviour: Arc<Behaviour>) {
        let id = String::from_utf8_lossy(&id).into_owned();
        let mut stored = self.stored_lock();
        if stored.order.len() >= STORED_MAX
            && let Some(oldest) = stored.order.pop_front()
        {
            stored.by_id.remove(&oldest);
        }
        stored.order.push_back(id.clone());
        stored.by_id.insert(id, (model.to_owned(), behaviour));
    }

    pub(super) fn stored(&self, id: &str) -> Option<(String, Arc<Behaviour>)> {
        self.stored_lock().by_id.get(id).cloned()
    }

    pub(super) fn forget(&self, id: &str) {
        self.stored_lock().by_id.remove(id);
    }
}
