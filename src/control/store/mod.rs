//! The state store: SQLite or PostgreSQL, with one text for each statement.
//!
//! ```text
//! sql        a connection: statements, values, rows
//! tls        …to PostgreSQL, encrypted
//! migrate    conf/state/*.sql, in order, once
//! resources  rows of everything a document holds
//! secrets    digests of virtual keys, and what nodes must forget
//! audit      events in a chain of hashes
//! copy       the state in a sealed file, for a start without the store
//! bell       what another node rings when it has changed something
//! identity   users, members, admin tokens, sessions
//! ```
//!
//! **Invariant:** a change and its audit event are one transaction, which takes the next revision;
//! changes run one after the other, whichever node makes them.

pub mod audit;
pub mod identity;

mod bell;
pub mod copy;
mod migrate;
pub mod resources;
pub mod secrets;
pub mod sql;
mod tls;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::Clock;
use crate::config::server::StateUrl;
use crate::control::live::lock;
pub use bell::Bell;
pub use sql::{Db, Row, StoreError, Value};

/// Idle connections that are kept.
const IDLE_MAX: usize = 8;

/// The way to the state.
pub struct Store {
    url: StateUrl,
    idle: Mutex<Vec<Db>>,
    clock: Clock,
    /// Whether its tables are up to date.
    is_open: AtomicBool,
}

/// A change under way. It is undone unless it ends well.
pub struct Tx<'a> {
    pub db: &'a mut Db,
    /// What this change will be known by.
    pub revision: i64,
    /// Microseconds since 1970 UTC, the same for all of the change.
    pub now: i64,
    /// Whether something has changed.
    is_changed: bool,
    /// Whether it was only to see what would change.
    is_trial: bool,
}

impl Store {
    /// Opens the store and brings its tables up to date.
    pub fn open(url: &StateUrl, clock: Clock) -> Result<Self, StoreError> {
        let store = Self::unopened(url, clock);
        if let StateUrl::Sqlite(path) = url {
            create_private(path)?;
        }
        let db = store.take()?;
        store.give_back(db);
        Ok(store)
    }

    /// A store that is opened by the first who reaches it.
    pub fn unopened(url: &StateUrl, clock: Clock) -> Self {
        let idle = Mutex::default();
        Self { url: url.clone(), idle, clock, is_open: AtomicBool::default() }
    }

    /// Whether it has been reached.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn url(&self) -> &StateUrl {
        &self.url
    }

    fn connect(&self) -> Result<Db, StoreError> {
        match &self.url {
            StateUrl::Sqlite(path) => Db::open_sqlite(path),
            StateUrl::Postgres(url) => Db::open_postgres(url),
        }
    }

    /// What rings when another node has changed something; `None` if the store cannot ring.
    pub fn listen(&self) -> Result<Option<Bell>, StoreError> {
        match &self.url {
            StateUrl::Sqlite(_) => Ok(None),
            StateUrl::Postgres(_) => Bell::hang(self.connect()?),
        }
    }

    fn take(&self) -> Result<Db, StoreError> {
        while let Some(db) = lock(&self.idle).pop() {
            if db.is_open() {
                return Ok(db);
            }
        }
        let mut db = self.connect()?;
        if !self.is_open() {
            migrate::run(&mut db, self.clock.unix_micros())?;
            self.is_open.store(true, Ordering::Release);
        }
        Ok(db)
    }

    fn give_back(&self, db: Db) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_MAX && db.is_open() {
            idle.push(db);
        }
    }

    /// Reads one moment of the state.
    pub fn read<T, E: From<StoreError>>(
        &self,
        read: impl FnOnce(&mut Db) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut db = self.take()?;
        db.begin_read()?;
        let answer = read(&mut db);
        // A connection that cannot end its transaction is not used again.
        if db.batch("COMMIT").is_ok() {
            self.give_back(db);
        }
        answer
    }

    /// Changes the state: all of `change`, or nothing when it fails or has changed nothing.
    pub fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut db = self.take()?;
        db.begin_write()?;
        let changed = self.changed(&mut db, change);
        let ended = match &changed {
            Ok((_, true)) => db.batch("COMMIT"),
            Ok((_, false)) | Err(_) => db.batch("ROLLBACK"),
        };
        if ended.is_ok() {
            self.give_back(db);
        }
        let (answer, is_changed) = changed?;
        if is_changed {
            ended?;
        }
        Ok(answer)
    }

    fn changed<T, E: From<StoreError>>(
        &self,
        db: &mut Db,
        change: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<(T, bool), E> {
        let row = db.first("SELECT revision FROM state WHERE one = $1", &[Value::Int(1)])?;
        let row =
            row.ok_or_else(|| StoreError::Corrupt("the table `state` is empty".to_owned()))?;
        let revision = row.int(0)? + 1;
        let mut tx =
            Tx { db, revision, now: self.clock.unix_micros(), is_changed: false, is_trial: false };
        let answer = change(&mut tx)?;
        let is_changed = tx.is_changed && !tx.is_trial;
        if is_changed {
            db.execute("UPDATE state SET revision = $1", &[Value::Int(revision)])?;
            if matches!(db, Db::Postgres { .. }) {
                db.batch("NOTIFY sluice_state")?;
            }
        }
        Ok((answer, is_changed))
    }

    /// Notes which master key seals, at the first start; refuses another one later.
    pub fn check_master_key(&self, id: &str) -> Result<(), StoreError> {
        self.write(|tx| {
            let row = tx.db.first("SELECT master_key_id FROM state", &[])?;
            let stored = row.as_ref().map_or(Ok(""), |row| row.text(0))?;
            if stored.is_empty() {
                tx.db.execute("UPDATE state SET master_key_id = $1", &[id.into()])?;
                tx.keep();
                return Ok(());
            }
            if stored == id {
                return Ok(());
            }
            let (stored, given) = (stored.to_owned(), id.to_owned());
            Err(StoreError::WrongMasterKey { stored, given })
        })
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Result<i64, StoreError> {
        self.read(revision)
    }
}

/// The revision of the last change that `db` sees.
pub fn revision(db: &mut Db) -> Result<i64, StoreError> {
    let row = db.first("SELECT revision FROM state", &[])?;
    row.ok_or_else(|| StoreError::Corrupt("the table `state` is empty".to_owned()))?.int(0)
}

impl Tx<'_> {
    /// Undoes everything at the end, although it went well.
    pub fn only_try(&mut self) {
        self.is_trial = true;
    }

    /// Says that this transaction shall be kept.
    pub fn keep(&mut self) {
        self.is_changed = true;
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Makes the file of an SQLite database, for its owner alone: SQLite gives the same rights to the
/// files beside it.
fn create_private(path: &PathBuf) -> Result<(), StoreError> {
    let open =
        |error: std::io::Error| StoreError::Open { path: path.clone(), reason: error.to_string() };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(open)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(open)?;
    Ok(())
}
