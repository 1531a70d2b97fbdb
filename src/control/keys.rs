//! Digest of a virtual key -> its record: read by every request, changed one key at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::control::snapshot::KeyRecord;
use crate::key::KeyDigest;

/// The map of all keys. Reading takes no lock; changing one key touches no other.
#[derive(Debug, Default)]
pub struct Keys {
    map: papaya::HashMap<KeyDigest, Arc<KeyRecord>>,
}

impl Keys {
    pub fn get(&self, digest: &KeyDigest) -> Option<Arc<KeyRecord>> {
        self.map.pin().get(digest).map(Arc::clone)
    }

    /// A key for which `is_it` holds. Looks at every one: not for the path of a request.
    pub fn find(&self, is_it: impl Fn(&KeyRecord) -> bool) -> Option<Arc<KeyRecord>> {
        self.map.pin().values().find(|record| is_it(record)).map(Arc::clone)
    }

    /// The keys that were used since this was last asked, and in which minute.
    pub fn take_used(&self) -> Vec<(Arc<KeyRecord>, u32)> {
        let map = self.map.pin();
        // Most were not: a load costs less than a swap.
        let used = map.values().filter(|record| record.used_min.load(Ordering::Relaxed) != 0);
        let used =
            used.map(|record| (Arc::clone(record), record.used_min.swap(0, Ordering::Relaxed)));
        used.collect()
    }

    pub fn insert(&self, digest: KeyDigest, record: Arc<KeyRecord>) {
        self.map.pin().insert(digest, record);
    }

    pub fn remove(&self, digest: &KeyDigest) {
        self.map.pin().remove(digest);
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}
