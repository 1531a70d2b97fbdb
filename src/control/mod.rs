//! What requests read: an immutable snapshot of the resources, and the live state beside it.
//!
//! ```text
//! snapshot   workspaces, environments, deployments, targets, connections: read, never changed
//! keys       digest of a virtual key -> its record; changed one at a time
//! limits     counters of limits and budgets, and what a request holds of them
//! live       breakers, counters, in-flight: keyed by id, kept over reloads
//! build      Resources -> Snapshot + keys
//! ```
//!
//! The control plane never talks to the data plane except through these.

pub mod build;
pub mod keys;
pub mod limits;
pub mod live;
pub mod snapshot;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::control::keys::Keys;
use crate::control::snapshot::Snapshot;

/// What the data plane reads.
#[derive(Debug, Default)]
pub struct State {
    pub snapshot: ArcSwap<Snapshot>,
    pub keys: Keys,
}

impl State {
    /// Puts `built` in force.
    ///
    /// Keys are added before the snapshot changes and removed after, so that no request finds a key
    /// without its environment: a key of an environment that is not there yet is simply unknown.
    pub fn install(&self, built: build::Built) -> live::Live {
        let keep = built.digests();
        for (digest, record) in built.keys {
            self.keys.insert(digest, record);
        }
        self.snapshot.store(Arc::new(built.snapshot));
        self.keys.retain(&keep);
        built.live
    }
}
