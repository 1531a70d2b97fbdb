//! Answers kept for requests that come again.
//!
//! ```text
//! key      what makes two requests the same
//! replay   a kept answer as one answer or as a stream
//! remote   in Redis or Valkey, for all nodes
//! flight   one of several same requests asks, the others wait for its answer
//! ```
//!
//! In the memory of this process, bounded by bytes, where what is used least goes first; or in a store
//! that all nodes share. An entry knows the environment it is of, and its key is made of it.

mod flight;
pub mod key;
mod remote;
pub mod replay;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quick_cache::Weighter;
use tokio::sync::watch;

pub use self::flight::{Flight, Joined, State, ended};
use self::key::Key;
pub use self::remote::{Marks, Of, Remote, RemoteError};
use self::replay::Form;
use crate::id::{EnvironmentId, TargetId};
use crate::usage::record::Tokens;

/// What an entry takes besides its body.
const ENTRY_BYTES: u64 = 400;
/// For the size of tables to begin with.
const BODY_BYTES_USUAL: usize = 4 * 1024;

/// An answer that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub environment: EnvironmentId,
    /// By name, which also a model that is called directly has.
    pub deployment: Arc<str>,
    /// Who gave it.
    pub target: TargetId,
    /// Microseconds since 1970 UTC.
    pub stored_us: i64,
    pub expires_us: i64,
    pub form: Form,
    pub body: Bytes,
    pub tokens: Tokens,
    pub cost_nanousd: u64,
}

/// The answers that this process keeps.
#[derive(Debug)]
pub struct Cache {
    entries: quick_cache::sync::Cache<Key, Arc<Entry>, Weight>,
    flights: Mutex<HashMap<Key, watch::Receiver<State>>>,
    /// Counts purges: what was asked before one is not kept after it.
    purges: AtomicU64,
    /// Where answers are kept in place of here.
    remote: Option<Arc<Remote>>,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Key, Arc<Entry>> for Weight {
    fn weight(&self, _key: &Key, entry: &Arc<Entry>) -> u64 {
        entry.body.len() as u64 + ENTRY_BYTES
    }
}

impl Cache {
    /// For at most so many bytes; with none it keeps nothing.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Self::with(bytes_max, None)
    }

    /// In a store for all nodes.
    pub fn shared(remote: Arc<Remote>) -> Arc<Self> {
        Self::with(0, Some(remote))
    }

    fn with(bytes_max: u64, remote: Option<Arc<Remote>>) -> Arc<Self> {
        let n_usual = usize::try_from(bytes_max).unwrap_or(usize::MAX) / BODY_BYTES_USUAL;
        Arc::new(Self {
            entries: quick_cache::sync::Cache::with_weighter(n_usual.max(16), bytes_max, Weight),
            flights: Mutex::default(),
            purges: AtomicU64::new(0),
            remote,
        })
    }

    /// The answer of `key`, if it is not too old.
    pub fn get(&self, key: &Key, now_us: i64) -> Option<Arc<Entry>> {
        let entry = self.entries.get(key)?;
        if now_us < entry.expires_us {
            return Some(entry);
        }
        // Not one that has come in its place meanwhile.
        self.entries.remove_if(key, |kept| kept.expires_us <= now_us);
        None
    }

    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.as_ref()
    }

    fn put(&self, key: Key, entry: &Arc<Entry>) {
        self.entries.insert(key, Arc::clone(entry));
    }

    fn n_purges(&self) -> u64 {
        self.purges.load(Ordering::SeqCst)
    }

    /// Drops the answers of an environment, or of one deployment of it. How many there were.
    pub fn purge(&self, environment: EnvironmentId, deployment: Option<&str>) -> usize {
        self.purges.fetch_add(1, Ordering::SeqCst);
        let n_dropped = AtomicU64::new(0);
        self.entries.retain(|_, entry| {
            let is_meant = entry.environment == environment
                && deployment.is_none_or(|deployment| *entry.deployment == *deployment);
            if is_meant {
                n_dropped.fetch_add(1, Ordering::Relaxed);
            }
            !is_meant
        });
        usize::try_from(n_dropped.into_inner()).unwrap_or(usize::MAX)
    }

    pub fn n_entries(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn n_bytes(&self) -> u64 {
        self.entries.weight()
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, watch::Receiver<State>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(environment: u128, deployment: &str, bytes: usize) -> Entry {
        Entry {
            environment: EnvironmentId(uuid::Uuid::from_u128(environment)),
            deployment: deployment.into(),
            target: TargetId(uuid::Uuid::nil()),
            stored_us: 0,
            expires_us: 1_000,
            form: Form::Json,
            body: Bytes::from(vec![b'x'; bytes]),
            tokens: Tokens::default(),
            cost_nanousd: 7,
        }
    }

    fn put(cache: &Arc<Cache>, key: u8, entry: Entry) {
        let Joined::Lead(flight) = cache.join([key; 32]) else { panic!("nobody asks") };
        flight.store(entry);
    }

    #[test]
    fn answers_grow_old() {
        let cache = Cache::new(1 << 20);
        put(&cache, 1, entry(1, "chat", 10));
        assert_eq!(cache.get(&[1; 32], 999).unwrap().cost_nanousd, 7);
        assert_eq!(cache.n_bytes(), 410);
        assert!(cache.get(&[1; 32], 1_000).is_none());
        assert_eq!(cache.n_entries(), 0);
    }

    #[test]
    fn bytes_are_bounded() {
        let cache = Cache::new(64 * 1024);
        for key in 0..=255 {
            put(&cache, key, entry(1, "chat", 1_000));
        }
        assert!(cache.n_bytes() <= 64 * 1024, "{}", cache.n_bytes());
        assert!(16 < cache.n_entries(), "{}", cache.n_entries());
        let nothing = Cache::new(0);
        put(&nothing, 1, entry(1, "chat", 1));
        assert_eq!(nothing.n_entries(), 0);
    }

    #[test]
    fn purge_takes_what_is_meant_and_what_was_under_way() {
        let cache = Cache::new(1 << 20);
        put(&cache, 1, entry(1, "chat", 1));
        put(&cache, 2, entry(1, "other", 1));
        put(&cache, 3, entry(2, "chat", 1));
        let Joined::Lead(under_way) = cache.join([4; 32]) else { panic!("nobody asks") };
        assert_eq!(cache.purge(EnvironmentId(uuid::Uuid::from_u128(1)), Some("chat")), 1);
        under_way.store(entry(1, "chat", 1));
        assert!(cache.get(&[4; 32], 0).is_none());
        assert!(cache.get(&[2; 32], 0).is_some());
        assert_eq!(cache.purge(EnvironmentId(uuid::Uuid::from_u128(1)), None), 1);
        assert!(cache.get(&[3; 32], 0).is_some());
    }

    #[tokio::test]
    async fn others_wait_for_the_one_who_asks() {
        let cache = Cache::new(1 << 20);
        let Joined::Lead(flight) = cache.join([1; 32]) else { panic!("nobody asks") };
        let Joined::Wait(waiting) = cache.join([1; 32]) else { panic!("one asks") };
        flight.store(entry(1, "chat", 1));
        assert_eq!(ended(waiting).await, State::Stored(Arc::new(entry(1, "chat", 1))));

        for (end, state) in [(true, State::Failed), (false, State::Abandoned)] {
            let Joined::Lead(flight) = cache.join([2; 32]) else { panic!("nobody asks") };
            let Joined::Wait(waiting) = cache.join([2; 32]) else { panic!("one asks") };
            if end {
                flight.fail();
            } else {
                drop(flight);
            }
            assert_eq!(ended(waiting).await, state);
        }
        assert!(matches!(cache.join([2; 32]), Joined::Lead(_)));
    }
}
