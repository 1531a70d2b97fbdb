//! Usage rows in a `SQLite` file.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::columns::{bind, int};
use super::shared::{Numbers, Shared};
use super::{Entry, Insert, InsertError, StoreError};

/// Applied in order, each once; the file's `user_version` is how many of them it has.
const MIGRATIONS: [&str; 1] = [include_str!("../../../conf/sqlite/0001_usage.sql")];

/// How long one statement waits for another process. The writer tries again on top of this.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// The write-ahead log is cut to this length when it has been moved into the file.
const WAL_BYTES_MAX: i64 = 64 << 20;

/// Rows that one call of `prune` deletes.
const PRUNE_ROWS_MAX: u32 = 1_000;

const US_PER_MINUTE: i64 = 60_000_000;

const INSERT: &str = "INSERT INTO request_rows VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
) ON CONFLICT (request_key) DO NOTHING";

const INSERT_REFUSED: &str = "INSERT INTO refused_keys VALUES (?, ?, ?)
    ON CONFLICT (minute, source_ip) DO UPDATE SET count = count + excluded.count";

const PRUNE: &str = "DELETE FROM request_rows WHERE request_key IN
    (SELECT request_key FROM request_rows WHERE started_at < ? ORDER BY started_at LIMIT ?)";

const PRUNE_REFUSED: &str = "DELETE FROM refused_keys WHERE (minute, source_ip) IN
    (SELECT minute, source_ip FROM refused_keys WHERE minute < ? LIMIT ?)";

/// The store as its writer has it.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    shared: Shared,
    numbers: Numbers,
    scratch: String,
}

// === impl Sqlite ===

impl Sqlite {
    /// Opens or makes the file, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = |source| StoreError::Open { path: path.into(), source };
        let mut connection = Connection::open(path).map_err(fail)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(fail)?;
        // A commit survives the end of the process at once, and a power cut once the log is synced.
        for (pragma, value) in [("journal_mode", "WAL"), ("synchronous", "NORMAL")] {
            connection.pragma_update(None, pragma, value).map_err(fail)?;
        }
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX).map_err(fail)?;
        migrate(&mut connection, path)?;
        connection.set_prepared_statement_cache_capacity(32);
        let (shared, numbers) = Default::default();
        Ok(Self { connection, shared, numbers, scratch: String::new() })
    }
}

impl Sqlite {
    fn try_insert(&mut self, batch: &[Entry]) -> rusqlite::Result<()> {
        let Self { connection, shared, numbers, scratch } = self;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut request = transaction.prepare_cached(INSERT)?;
            let mut refused = transaction.prepare_cached(INSERT_REFUSED)?;
            for entry in batch {
                match entry {
                    Entry::Request(row) => {
                        shared.numbers(&transaction, row, numbers)?;
                        bind(&mut request, row, numbers, scratch)?;
                        request.raw_execute()?;
                    }
                    Entry::Refused(row) => {
                        let source_ip = row.source_ip.map_or_else(String::new, |ip| ip.to_string());
                        refused.execute((row.unix_minute, source_ip, int(row.count)))?;
                    }
                }
            }
        }
        transaction.commit()
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let version_max = MIGRATIONS.len();
    let fail = |source| StoreError::Migrate { path: path.into(), version: version_max, source };
    // Taken before the version is read, so that two processes do not both migrate.
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    let version: i64 =
        transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    let n_applied = match usize::try_from(version) {
        Ok(n_applied) if n_applied <= version_max => n_applied,
        _ => return Err(StoreError::TooNew { path: path.into(), version }),
    };
    for migration in MIGRATIONS.iter().skip(n_applied) {
        transaction.execute_batch(migration).map_err(fail)?;
    }
    let version_max = i64::try_from(version_max).unwrap_or(i64::MAX);
    transaction.pragma_update(None, "user_version", version_max).map_err(fail)?;
    transaction.commit().map_err(fail)
}

impl Insert for Sqlite {
    fn insert(&mut self, batch: &[Entry]) -> Result<(), InsertError> {
        self.try_insert(batch).map_err(|error| {
            self.shared.forget();
            classify(&error)
        })
    }

    fn prune(&mut self, before_us: i64) -> Result<bool, InsertError> {
        prune(&mut self.connection, before_us).map_err(|error| classify(&error))
    }
}

fn prune(connection: &mut Connection, before_us: i64) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let n_requests = transaction.execute(PRUNE, (before_us, PRUNE_ROWS_MAX))?;
    let before_minute = before_us.div_euclid(US_PER_MINUTE);
    let n_refused = transaction.execute(PRUNE_REFUSED, (before_minute, PRUNE_ROWS_MAX))?;
    transaction.commit()?;
    Ok(n_requests.max(n_refused) >= PRUNE_ROWS_MAX as usize)
}

/// Whether another try may help. What is not known to be the batch's fault is the store's.
fn classify(error: &rusqlite::Error) -> InsertError {
    let is_batch_at_fault = match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig
        ),
        None => matches!(error, rusqlite::Error::ToSqlConversionFailure(_)),
    };
    if is_batch_at_fault {
        InsertError::Refused(error.to_string())
    } else {
        InsertError::Unavailable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::super::tests::{old_row, refusal, row};
    use super::*;

    fn store() -> (tempfile::TempDir, Sqlite, Reader) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let store = Sqlite::open(&path).unwrap();
        let reader = Reader::open(&path).unwrap();
        (folder, store, reader)
    }

    #[test]
    fn row_that_comes_again_is_kept_once() {
        let (_folder, mut store, reader) = store();
        let batch: Vec<_> = [1, 2, 1].map(|number| Entry::Request(row(number))).into();
        store.insert(&batch).unwrap();
        store.insert(&batch).unwrap();
        assert_eq!(reader.count().unwrap(), 2);
    }

    #[test]
    fn refusals_of_one_minute_and_address_add_up() {
        let (_folder, mut store, reader) = store();
        let batch = [refusal(7, "10.0.0.1", 2), refusal(7, "", 1), refusal(8, "10.0.0.1", 1)];
        store.insert(&batch.clone().map(Entry::Refused)).unwrap();
        store.insert(&batch.map(Entry::Refused)).unwrap();
        let expected = [refusal(8, "10.0.0.1", 2), refusal(7, "", 2), refusal(7, "10.0.0.1", 4)];
        assert_eq!(reader.refused(10).unwrap(), expected);
    }

    #[test]
    fn old_rows_go_in_chunks_and_young_ones_stay() {
        let (_folder, mut store, reader) = store();
        let old = (0..=u64::from(PRUNE_ROWS_MAX)).map(|number| Entry::Request(old_row(number)));
        let mut batch: Vec<_> = old.collect();
        batch.push(Entry::Request(row(9_999)));
        batch.push(Entry::Refused(refusal(0, "10.0.0.1", 2)));
        batch.push(Entry::Refused(refusal(1, "10.0.0.1", 2)));
        store.insert(&batch).unwrap();
        let before_us = US_PER_MINUTE;
        assert!(store.prune(before_us).unwrap());
        assert_eq!(reader.count().unwrap(), 2);
        assert!(!store.prune(before_us).unwrap());
        assert_eq!(reader.count().unwrap(), 1);
        assert_eq!(reader.refused(10).unwrap(), [refusal(1, "10.0.0.1", 2)]);
    }

    #[test]
    fn locked_file_is_worth_another_try() {
        let (folder, mut store, _reader) = store();
        store.connection.busy_timeout(Duration::ZERO).unwrap();
        let other = Connection::open(folder.path().join("usage.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let batch = [Entry::Request(row(1))];
        assert!(matches!(store.insert(&batch), Err(InsertError::Unavailable(_))));
        other.execute_batch("COMMIT").unwrap();
        store.insert(&batch).unwrap();
    }

    #[test]
    fn row_that_breaks_a_rule_is_refused_and_its_batch_with_it() {
        let (_folder, mut store, reader) = store();
        store
            .connection
            .execute_batch(
                "CREATE TRIGGER poison BEFORE INSERT ON callers WHEN NEW.workspace = 'poison'
                 BEGIN SELECT RAISE(ABORT, 'no'); END",
            )
            .unwrap();
        let mut poison = row(2);
        std::sync::Arc::make_mut(&mut poison.caller).workspace_slug = "poison".into();
        let batch = [Entry::Request(row(1)), Entry::Request(poison)];
        assert!(matches!(store.insert(&batch), Err(InsertError::Refused(_))));
        assert_eq!(reader.count().unwrap(), 0);
    }

    #[test]
    fn file_of_a_newer_release_is_left_alone() {
        let (folder, store, _reader) = store();
        store.connection.pragma_update(None, "user_version", 99).unwrap();
        let error = Sqlite::open(&folder.path().join("usage.db")).unwrap_err();
        assert!(matches!(error, StoreError::TooNew { version: 99, .. }), "{error}");
    }

    #[test]
    fn committed_rows_survive_the_end_of_the_process() {
        let (folder, mut store, _reader) = store();
        store.insert(&[Entry::Request(row(1)), Entry::Request(row(2))]).unwrap();
        // What the files hold now is what a killed process leaves behind: the log is not in the
        // database yet.
        let after = tempfile::tempdir().unwrap();
        for name in ["usage.db", "usage.db-wal"] {
            std::fs::copy(folder.path().join(name), after.path().join(name)).unwrap();
        }
        let mut store = Sqlite::open(&after.path().join("usage.db")).unwrap();
        store.insert(&[Entry::Request(row(2)), Entry::Request(row(3))]).unwrap();
        let reader = Reader::open(&after.path().join("usage.db")).unwrap();
        assert_eq!(reader.count().unwrap(), 3);
    }
}
