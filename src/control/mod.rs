//! What requests read: an immutable snapshot of the resources, and the live state beside it.
//!
//! ```text
//! snapshot   workspaces, environments, deployments, targets, connections: read, never changed
//! keys       digest of a virtual key -> its record; changed one at a time
//! limits     counters of limits and budgets, and what a request holds of them
//! rules      which deployment a request goes to, and why
//! live       breakers, counters, in-flight: keyed by id, kept over reloads
//! build      Resources -> Snapshot
//! ```
//!
//! Behind them is the state that people change:
//!
//! ```text
//! store      SQLite or PostgreSQL: the truth, with a revision
//! seal       credentials encrypted at rest
//! password   Argon2id
//! edit       changes: checked, sealed, audited
//! apply      a whole document made the state, and the state written as a document
//! load       Store -> Resources
//! follow     what requests read is kept equal to the store
//! ```
//!
//! The control plane never talks to the data plane except through the snapshot, the keys and the
//! live state.

pub mod apply;
pub mod build;
pub mod edit;
pub mod follow;
pub mod keys;
pub mod limits;
pub mod live;
pub mod load;
pub mod password;
pub mod rules;
pub mod seal;
pub mod snapshot;
pub mod store;

use arc_swap::ArcSwap;

use crate::control::keys::Keys;
use crate::control::snapshot::Snapshot;

/// What the data plane reads.
#[derive(Debug, Default)]
pub struct State {
    pub snapshot: ArcSwap<Snapshot>,
    pub keys: Keys,
}
