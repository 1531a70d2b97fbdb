//! Rows on their way to the store.
//!
//! A request never waits here: [`UsageSink::record`] either queues a row or counts it as dropped. A
//! thread of its own gathers rows into batches and inserts them. Every accepted row ends in exactly
//! one of two counters:
//!
//! ```text
//! accepted = inserted + lost        (once the sink is closed)
//! ```
//!
//! What stands behind the thread is an [`Insert`]; the request path does not know which.

mod columns;
mod reader;
mod refused;
mod shared;
mod sink;
mod sqlite;
mod writer;

use std::path::Path;
use std::time::Duration;

pub use self::reader::Reader;
pub use self::sink::{UsageSink, UsageTotals};
pub use self::sqlite::Sqlite;
use super::record::{RefusedRow, UsageRow};
use crate::clock::Clock;
use crate::config::server::{UsageConfig, UsageUrl};

/// The waits before the second, third, … try of a batch; after the last it is lost.
const RETRY_DELAYS: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(10),
];

/// A store of usage rows.
pub trait Insert: Send + 'static {
    /// Keeps the whole batch or nothing of it. A row that is kept already does no harm, so that a
    /// batch can be tried again when nobody knows what became of it.
    fn insert(&mut self, batch: &[Entry]) -> Result<(), InsertError>;

    /// Deletes some of what began before `before_us` (microseconds since 1970 UTC), few enough not
    /// to hold up the next batch; says whether there may be more. A store that lets rows expire by
    /// itself answers `Ok(false)`.
    fn prune(&mut self, before_us: i64) -> Result<bool, InsertError>;
}

/// What a store is given.
#[derive(Debug, Clone)]
pub enum Entry {
    Request(Box<UsageRow>),
    /// To be added to what is there of the same minute and address.
    Refused(RefusedRow),
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
    #[error("this build keeps usage rows in SQLite only")]
    Unsupported,
}

/// The bounds of the queue and its writer.
#[derive(Debug, Clone)]
pub struct Limits {
    pub queue_rows_max: usize,
    pub batch_rows_max: usize,
    pub batch_age_max: Duration,
    pub retry_delays: Vec<Duration>,
    /// Rows older than this are deleted; `None` keeps them.
    pub retention: Option<Duration>,
}

/// Opens the store that `config` names and starts its writer.
pub fn start(config: &UsageConfig, clock: Clock) -> Result<UsageSink, StoreError> {
    match &config.url {
        UsageUrl::Sqlite(path) => start_with(open(path)?, Limits::of(config), clock),
        UsageUrl::ClickHouse(_) => Err(StoreError::Unsupported),
    }
}

/// Starts a writer before `insert`, which a test may have scripted.
pub fn start_with(
    insert: impl Insert,
    limits: Limits,
    clock: Clock,
) -> Result<UsageSink, StoreError> {
    sink::start(insert, limits, clock).map_err(StoreError::Thread)
}

/// Opens or makes the `SQLite` file, its folder included.
fn open(path: &Path) -> Result<Sqlite, StoreError> {
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
        Self {
            queue_rows_max: config.queue_rows_max,
            batch_rows_max: config.batch_rows_max,
            batch_age_max: config.batch_age_max,
            retry_delays: RETRY_DELAYS.to_vec(),
            retention: (config.retention_days > 0)
                .then(|| Duration::from_secs(u64::from(config.retention_days) * DAY)),
        }
    }
}

#[cfg(test)]
mod tests;
