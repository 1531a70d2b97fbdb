//! Rows on their way from the spool to the store.
//!
//! A request never waits here: [`UsageSink::record`] hands its row to the operating system. A thread
//! of its own reads the spool slice by slice, oldest first, and has a store insert it. Every row ends
//! in exactly one of these:
//!
//! ```text
//! accepted + recovered = inserted + lost + what is still in the spool
//! ```
//!
//! What stands behind the thread is an [`Insert`]; nothing before it knows which.

mod backlog;
mod batch;
mod clickhouse;
mod columns;
mod dead;
mod functions;
mod reader;
mod refused;
mod rollup;
mod send;
mod shared;
mod sink;
mod sqlite;
pub mod tools;
mod writer;

use std::path::Path;
use std::time::Duration;

pub use self::batch::{Batch, Table};
pub use self::clickhouse::ClickHouse;
pub use self::reader::{Cancel, Reader};
pub use self::sink::{UsageSink, UsageTotals};
pub use self::sqlite::Sqlite;
use crate::clock::Clock;
use crate::config::server::{UsageConfig, UsageUrl};
use crate::usage::address::Address;
use crate::usage::row::Stamp;
use crate::usage::spool::{Settings, SliceLimits};

/// While the store does not answer, slices are larger: what comes after is fewer inserts.
const OUTAGE: SliceLimits =
    SliceLimits { rows_max: 100_000, bytes_max: 32 << 20, age_max: Duration::from_secs(30) };

/// A store of usage rows.
pub trait Insert: Send + 'static {
    /// Keeps the whole batch or nothing of it, and each token once: a batch may come again when
    /// nobody knows what became of it.
    fn insert(&mut self, batch: &Batch<'_>) -> Result<(), InsertError>;

    /// Deletes some of what began before `before_us` (microseconds since 1970 UTC), or has a
    /// retention of its own that has ended at `now_us`; few enough not to hold up the next batch.
    /// Says whether there may be more. A store that lets rows expire by itself answers `Ok(false)`.
    fn prune(&mut self, before_us: i64, now_us: i64) -> Result<bool, InsertError>;
}

impl Insert for Box<dyn Insert> {
    fn insert(&mut self, batch: &Batch<'_>) -> Result<(), InsertError> {
        (**self).insert(batch)
    }

    fn prune(&mut self, before_us: i64, now_us: i64) -> Result<bool, InsertError> {
        (**self).prune(before_us, now_us)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// Trying again may help.
    #[error("the usage store is unavailable: {0}")]
    Unavailable(String),
    /// Something in the batch is at fault.
    #[error("the usage store refused the batch: {0}")]
    Refused(String),
}

/// Why a store cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot make the folder of {}", path.display())]
    Folder { path: Box<Path>, source: std::io::Error },
    #[error("cannot open {}", path.display())]
    Open { path: Box<Path>, source: rusqlite::Error },
    #[error("cannot bring {} up to schema version {version}", path.display())]
    Migrate { path: Box<Path>, version: usize, source: rusqlite::Error },
    #[error("{} has schema version {version}, which a newer release made", path.display())]
    TooNew { path: Box<Path>, version: i64 },
    #[error("cannot read usage rows")]
    Read(#[from] rusqlite::Error),
    #[error("cannot start the thread that writes usage rows")]
    Thread(#[source] std::io::Error),
    #[error("cannot use the spool {}: {source}", path.display())]
    Spool { path: Box<Path>, source: std::io::Error },
    #[error("`usage.url` {0}")]
    Address(&'static str),
}

/// The bounds of the spool and its writer.
#[derive(Debug, Clone)]
pub struct Limits {
    pub spool: Settings,
    pub spool_bytes_max: u64,
    pub stamp: Stamp,
    /// What is kept of the body of a request or of an answer.
    pub payload_bytes_max: usize,
    pub backoff: Backoff,
    /// Rows older than this are deleted; `None` keeps them.
    pub retention: Option<Duration>,
}

/// The waits between tries: doubled each time, and each shortened by chance.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
}

/// Opens the store that `config` names and starts its writer.
pub fn start(config: &UsageConfig, clock: Clock) -> Result<UsageSink, StoreError> {
    start_with(open(config)?, Limits::of(config), clock)
}

/// The store that `config` names.
pub fn open(config: &UsageConfig) -> Result<Box<dyn Insert>, StoreError> {
    Ok(match &config.url {
        UsageUrl::Sqlite(path) => {
            let days = u16::try_from(config.retention_days).unwrap_or(u16::MAX);
            Box::new(open_sqlite(path)?.with_usual_days(days))
        }
        UsageUrl::ClickHouse(url) => {
            let address = Address::parse(url).map_err(StoreError::Address)?;
            let is_cluster = config.cluster.is_some();
            Box::new(ClickHouse::new(address, is_cluster).map_err(StoreError::Thread)?)
        }
    })
}

/// Starts a writer before `insert`, which a test may have scripted.
pub fn start_with(
    insert: impl Insert,
    limits: Limits,
    clock: Clock,
) -> Result<UsageSink, StoreError> {
    sink::start(insert, limits, clock)
}

/// Opens or makes the `SQLite` file, its folder included.
fn open_sqlite(path: &Path) -> Result<Sqlite, StoreError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| StoreError::Folder { path: path.into(), source })?;
    }
    Sqlite::open(path)
}

// === impl Limits ===

impl Limits {
    pub fn of(config: &UsageConfig) -> Self {
        const DAY: u64 = 24 * 60 * 60;
        let node = config.node.clone().unwrap_or_else(host_name);
        let retention_days = u16::try_from(config.retention_days).unwrap_or(u16::MAX);
        let usual = SliceLimits {
            rows_max: config.batch_rows_max,
            bytes_max: config.batch_bytes_max,
            age_max: config.batch_age_max,
        };
        Self {
            spool: Settings {
                folder: config.spool_dir.clone(),
                // Dropping the oldest of a few drops a part only.
                segment_bytes: config.segment_bytes.min(config.spool_bytes_max / 4),
                sync: config.sync,
                usual,
                outage: OUTAGE.at_least(usual),
            },
            spool_bytes_max: config.spool_bytes_max,
            stamp: Stamp::new(&node, retention_days),
            payload_bytes_max: config.payload_bytes_max,
            backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(30) },
            retention: (config.retention_days > 0)
                .then(|| Duration::from_secs(u64::from(config.retention_days) * DAY)),
        }
    }
}

/// What the machine calls itself.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

// === impl Backoff ===

impl Backoff {
    /// The wait after `n_failed` tries, of which `chance` (0 to 1) is taken.
    fn wait(self, n_failed: u32, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(n_failed.saturating_sub(1)));
        doubled.min(self.max).mul_f64(chance)
    }
}

#[cfg(test)]
mod tests;
