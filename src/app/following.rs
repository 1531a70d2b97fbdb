//! Follows the state store: what another node, or a command on the store itself, changes is in force
//! here within a second.
//!
//! PostgreSQL says at once that something has changed; looking now and then is the safety net, and
//! all that SQLite has. A thread of its own does it, because a store may let it wait.

use std::time::Duration;

use tokio::sync::watch;

use crate::app::resident::Resident;
use crate::control::store::{Bell, Store};

/// How often the revision is looked at, whether anybody has rung or not.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Follows until the process ends.
pub(super) fn run(resident: &Resident, signal: &watch::Receiver<bool>) {
    let has_ended = || signal.has_changed().is_err() || *signal.borrow();
    let mut bell = None;
    let mut trouble = None;
    loop {
        wait(&resident.follower.store, &mut bell);
        if has_ended() {
            return;
        }
        match resident.follow() {
            Ok(_) if trouble.take().is_some() => tracing::info!("the state is followed again"),
            Ok(_) => {}
            Err(error) => {
                let text = error.to_string();
                if trouble.as_ref() != Some(&text) {
                    tracing::warn!(
                        %error,
                        "the state cannot be followed; requests go on with what is in memory"
                    );
                    trouble = Some(text);
                }
            }
        }
    }
}

/// Until another node has changed something, or a while has passed.
fn wait(store: &Store, bell: &mut Option<Bell>) {
    if bell.is_none() {
        *bell = store.listen().ok().flatten();
    }
    let is_heard = bell.as_mut().is_some_and(|bell| bell.wait(LOOK_EVERY).is_ok());
    if !is_heard {
        *bell = None;
        std::thread::park_timeout(LOOK_EVERY);
    }
}
