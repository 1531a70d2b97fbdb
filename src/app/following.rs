//! Follows the state store: what another node, or a command on the store itself, changes is in force
//! here within a second.
//!
//! PostgreSQL says at once that something has changed; looking now and then is the safety net, and
//! all that SQLite has. A thread of its own does it, because a store may let it wait.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::app::resident::Resident;
use crate::config::server::StateUrl;
use crate::control::follow::Follower;
use crate::control::store::{Bell, Store, copy};

/// How often the revision is looked at, whether anybody has rung or not.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Between two copies of a state that changes.
const COPY_EVERY: Duration = Duration::from_secs(2);
/// A copy says until when it was right, whether anything changes or not.
const RENEW_AFTER: Duration = Duration::from_mins(15);

/// When keys were last used is written down so often.
const KEEP_USES_EVERY: Duration = Duration::from_secs(20);

/// Follows until the process ends.
pub(super) fn run(resident: &Resident, signal: &watch::Receiver<bool>) {
    let has_ended = || signal.has_changed().is_err() || *signal.borrow();
    let mut bell = None;
    let mut trouble = None;
    let mut copies = Copies::default();
    let mut uses_due = Instant::now() + KEEP_USES_EVERY;
    loop {
        wait(&resident.follower.store, &mut bell);
        let has_ended = has_ended();
        if has_ended || uses_due <= Instant::now() {
            keep_uses(resident);
            uses_due = Instant::now() + KEEP_USES_EVERY;
        }
        if has_ended {
            return;
        }
        match resident.follow() {
            Ok(_) => {
                if trouble.take().is_some() {
                    tracing::info!("the state is followed again");
                }
                copies.keep(resident);
            }
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

/// Copies of what is followed, for a start without the store.
#[derive(Default)]
struct Copies {
    revision: Option<i64>,
    /// When a copy may be made, and when one must be even if nothing has changed.
    times: Option<(Instant, Instant)>,
}

impl Copies {
    fn keep(&mut self, resident: &Resident) {
        let Follower { store, vault, .. } = &*resident.follower;
        if matches!(store.url(), StateUrl::Sqlite(_)) {
            return;
        }
        let (began, revision) = (Instant::now(), resident.follower.revision());
        let is_due = self
            .times
            .is_none_or(|(may, must)| must <= began || may <= began && revision != self.revision);
        if !is_due {
            return;
        }
        if let Err(error) = copy::write(store, vault, &resident.config.state.copy_file) {
            tracing::warn!(%error, "no copy of the state");
        }
        self.revision = revision;
        // A long copy takes a twentieth of the time at most.
        let may = Instant::now() + COPY_EVERY.max(began.elapsed() * 20);
        self.times = Some((may, may + RENEW_AFTER));
    }
}

fn keep_uses(resident: &Resident) {
    if resident.follower.store.is_open()
        && let Err(error) = resident.follower.keep_uses()
    {
        tracing::debug!(%error, "when keys were last used is written down later");
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
