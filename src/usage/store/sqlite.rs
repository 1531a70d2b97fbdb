//! Usage rows in a `SQLite` file.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::columns::{bind, int, key, summed};
use super::rollup::{self, RollUps};
use super::shared::{Numbers, Shared};
use super::{Batch, Insert, InsertError, StoreError, Table, functions};
use crate::clock::Clock;
use crate::usage::row::{NotARow, PayloadRow, RefusedView, RowView};

/// Applied in order, each once; the file's `user_version` is how many of them it has.
const MIGRATIONS: [&str; 4] = [
    include_str!("../../../conf/sqlite/0001_usage.sql"),
    include_str!("../../../conf/sqlite/0002_applied_batches.sql"),
    include_str!("../../../conf/sqlite/0003_rollups.sql"),
    include_str!("../../../conf/sqlite/0004_payloads.sql"),
];

/// How long one statement waits for another process. The writer tries again on top of this.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// The write-ahead log is cut to this length when it has been moved into the file.
const WAL_BYTES_MAX: i64 = 64 << 20;

/// Rows that one call of `prune` deletes.
const PRUNE_ROWS_MAX: u32 = 1_000;

const US_PER_MINUTE: i64 = 60_000_000;

const US_PER_DAY: i64 = 86_400_000_000;

const INSERT: &str = "INSERT INTO request_rows (
    request_key, started_at, caller, deployment, target, requested_model,
    dialect, endpoint, stream, status, outcome, error_class, degraded,
    usage_source, input_uncached, input_cache_read, input_cache_write_5m, input_cache_write_1h,
    output, reasoning, audio_in, audio_out, cost_nanousd, price_version,
    total_us, overhead_us, queue_us, headers_us, first_token_us, output_tokens_per_second,
    request_bytes, response_bytes, source_ip, end_user, metadata,
    correlation_id, client_request_id, upstream_request_id, attempts,
    cache, saved_nanousd, retention_days, node, gateway_version
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
) ON CONFLICT (request_key) DO NOTHING";

const INSERT_REFUSED: &str = "INSERT INTO refused_keys VALUES (?, ?, ?)
    ON CONFLICT (minute, source_ip) DO UPDATE SET count = count + excluded.count";

const INSERT_PAYLOAD: &str = "INSERT INTO payloads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (request_key) DO NOTHING";

const APPLY: &str = "INSERT INTO applied_batches VALUES (?, ?) ON CONFLICT (token) DO NOTHING";

/// A token is sent again by the process that sent it, or by the next: not after a month.
const FORGET_APPLIED: &str = "DELETE FROM applied_batches WHERE applied_at < ?";

const APPLIED_KEPT_US: i64 = 30 * 24 * 60 * 60 * 1_000_000;

const PRUNE: &str = "DELETE FROM request_rows WHERE request_key IN
    (SELECT request_key FROM request_rows WHERE started_at < ? AND retention_days IS NULL
     ORDER BY started_at LIMIT ?)";

/// Rows of workspaces with a retention of their own.
const PRUNE_EXPIRED: &str = "DELETE FROM request_rows WHERE request_key IN
    (SELECT request_key FROM request_rows WHERE retention_days IS NOT NULL
     AND started_at + retention_days * 86400000000 < ? LIMIT ?)";

const PRUNE_PAYLOADS: &str = "DELETE FROM payloads WHERE rowid IN
    (SELECT rowid FROM payloads WHERE expires_at < ? LIMIT ?)";

const PRUNE_REFUSED: &str = "DELETE FROM refused_keys WHERE (minute, source_ip) IN
    (SELECT minute, source_ip FROM refused_keys WHERE minute < ? LIMIT ?)";

/// The store as its writer has it.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    shared: Shared,
    numbers: Numbers,
    scratch: String,
    roll_ups: RollUps,
    /// How long rows stay that do not say so.
    usual_days: Option<u16>,
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
        functions::add_writing(&connection).map_err(fail)?;
        connection.set_prepared_statement_cache_capacity(32);
        let (shared, numbers, scratch, roll_ups) = Default::default();
        Ok(Self { connection, shared, numbers, scratch, roll_ups, usual_days: None })
    }

    /// Rows that are to stay for another time than `usual_days` keep that time.
    #[must_use]
    pub fn with_usual_days(mut self, usual_days: u16) -> Self {
        self.usual_days = Some(usual_days);
        self
    }
}

/// Why rows cannot be kept.
enum Fault {
    Store(rusqlite::Error),
    Row(NotARow),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

impl From<NotARow> for Fault {
    fn from(error: NotARow) -> Self {
        Self::Row(error)
    }
}

impl Sqlite {
    fn try_insert(&mut self, batch: &Batch<'_>) -> Result<(), Fault> {
        let Self { connection, shared, numbers, scratch, roll_ups, usual_days } = self;
        roll_ups.clear();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match batch.table {
            Table::Usage => {
                let mut insert = transaction.prepare_cached(INSERT)?;
                for bytes in batch.rows() {
                    let row = RowView::decode(bytes)?;
                    shared.numbers(&transaction, &row, numbers)?;
                    bind(&mut insert, &row, numbers, scratch, *usual_days)?;
                    if insert.raw_execute()? > 0 {
                        roll_ups.add(&summed(&row, numbers));
                    }
                }
            }
            Table::RefusedKeys => add_refused(&transaction, batch)?,
            Table::Payloads => add_payloads(&transaction, batch)?,
        }
        roll_ups.write(&transaction)?;
        transaction.commit()?;
        Ok(())
    }
}

/// Adds counts, unless the batch is there already.
fn add_refused(transaction: &Transaction<'_>, batch: &Batch<'_>) -> Result<(), Fault> {
    let now_us = Clock::default().unix_micros();
    if transaction.prepare_cached(APPLY)?.execute((&*batch.token, now_us))? == 0 {
        return Ok(());
    }
    let mut insert = transaction.prepare_cached(INSERT_REFUSED)?;
    for bytes in batch.rows() {
        let row = RefusedView::decode(bytes)?;
        let source_ip = row.source_ip.map_or_else(String::new, |ip| ip.to_string());
        insert.execute((row.unix_minute, source_ip, int(row.count)))?;
    }
    Ok(())
}

fn add_payloads(transaction: &Transaction<'_>, batch: &Batch<'_>) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(INSERT_PAYLOAD)?;
    for bytes in batch.rows() {
        let row = PayloadRow::decode(bytes)?;
        let kept_us = i64::from(row.retention_days) * US_PER_DAY;
        insert.execute((
            key(row.request_id),
            row.started_at_us,
            row.workspace_id.to_string(),
            row.request_type,
            row.request_body,
            int(row.request_bytes),
            row.response_type,
            row.response_body,
            int(row.response_bytes),
            row.started_at_us.saturating_add(kept_us),
        ))?;
    }
    Ok(())
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
    fn insert(&mut self, batch: &Batch<'_>) -> Result<(), InsertError> {
        self.try_insert(batch).map_err(|fault| {
            self.shared.forget();
            match fault {
                Fault::Store(error) => classify(&error),
                Fault::Row(error) => InsertError::Refused(error.to_string()),
            }
        })
    }

    fn prune(&mut self, before_us: i64, now_us: i64) -> Result<bool, InsertError> {
        prune(&mut self.connection, before_us, now_us).map_err(|error| classify(&error))
    }
}

fn prune(connection: &mut Connection, before_us: i64, now_us: i64) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let n_requests = transaction.execute(PRUNE, (before_us, PRUNE_ROWS_MAX))?;
    let n_expired = transaction.execute(PRUNE_EXPIRED, (now_us, PRUNE_ROWS_MAX))?;
    let n_payloads = transaction.execute(PRUNE_PAYLOADS, (now_us, PRUNE_ROWS_MAX))?;
    let before_minute = before_us.div_euclid(US_PER_MINUTE);
    let n_refused = transaction.execute(PRUNE_REFUSED, (before_minute, PRUNE_ROWS_MAX))?;
    transaction.execute(FORGET_APPLIED, (before_us.saturating_sub(APPLIED_KEPT_US),))?;
    let has_more = rollup::prune(&transaction, now_us)?;
    transaction.commit()?;
    Ok(has_more
        || n_requests.max(n_expired).max(n_refused).max(n_payloads) >= PRUNE_ROWS_MAX as usize)
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
    use super::super::tests::{refusal, refused_rows, rows_of};
    use super::*;
    use crate::usage::record::UsageRow;
    use crate::usage::row::tests::bare;
    use crate::usage::spool::Rows;

    fn store() -> (tempfile::TempDir, Sqlite, Reader) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let store = Sqlite::open(&path).unwrap();
        let reader = Reader::open(&path).unwrap();
        (folder, store, reader)
    }

    fn insert(store: &mut Sqlite, token: &str, rows: &Rows) -> Result<(), InsertError> {
        store.insert(&Batch::new(Table::Usage, token, rows))
    }

    fn insert_refused(store: &mut Sqlite, token: &str, rows: &Rows) {
        store.insert(&Batch::new(Table::RefusedKeys, token, rows)).unwrap();
    }

    #[test]
    fn row_that_comes_again_is_kept_once() {
        let (_folder, mut store, reader) = store();
        let rows = rows_of(&[1, 2, 1].map(bare));
        insert(&mut store, "one", &rows).unwrap();
        insert(&mut store, "other", &rows).unwrap();
        assert_eq!(reader.count().unwrap(), 2);
    }

    #[test]
    fn refusals_of_one_minute_and_address_add_up() {
        let (_folder, mut store, reader) = store();
        let batch = [refusal(7, "10.0.0.1", 2), refusal(7, "", 1), refusal(8, "10.0.0.1", 1)];
        let rows = refused_rows(&batch);
        insert_refused(&mut store, "one", &rows);
        insert_refused(&mut store, "other", &rows);
        // A batch that comes again is the same, and adds nothing.
        insert_refused(&mut store, "one", &rows);
        let expected = [refusal(8, "10.0.0.1", 2), refusal(7, "", 2), refusal(7, "10.0.0.1", 4)];
        assert_eq!(reader.refused(10).unwrap(), expected);
    }

    #[test]
    fn old_rows_go_in_chunks_and_young_ones_stay() {
        let (_folder, mut store, reader) = store();
        let old = (0..=u64::from(PRUNE_ROWS_MAX))
            .map(|number| UsageRow { started_at_us: 0, ..bare(number) });
        let mut rows: Vec<_> = old.collect();
        rows.push(bare(9_999));
        insert(&mut store, "rows", &rows_of(&rows)).unwrap();
        let refused = [refusal(0, "10.0.0.1", 2), refusal(1, "10.0.0.1", 2)];
        insert_refused(&mut store, "refused", &refused_rows(&refused));
        let before_us = US_PER_MINUTE;
        assert!(store.prune(before_us, before_us).unwrap());
        assert_eq!(reader.count().unwrap(), 2);
        assert!(!store.prune(before_us, before_us).unwrap());
        assert_eq!(reader.count().unwrap(), 1);
        assert_eq!(reader.refused(10).unwrap(), [refusal(1, "10.0.0.1", 2)]);
    }

    #[test]
    fn row_with_a_time_of_its_own_stays_as_long() {
        const DAY_US: i64 = 86_400_000_000;
        let (_folder, store, reader) = store();
        let mut store = store.with_usual_days(90);
        let of =
            |number, retention_days| UsageRow { started_at_us: 0, retention_days, ..bare(number) };
        let rows = [of(1, None), of(2, Some(7)), of(3, Some(90)), of(4, Some(400))];
        insert(&mut store, "rows", &rows_of(&rows)).unwrap();
        for (day, left) in [(7, 4), (8, 3), (90, 3), (91, 1), (400, 1), (401, 0)] {
            let now_us = day * DAY_US;
            store.prune(now_us - 90 * DAY_US, now_us).unwrap();
            assert_eq!(reader.count().unwrap(), left, "day {day}");
        }
    }

    #[test]
    fn bodies_are_kept_once_and_as_long_as_they_say() {
        let (_folder, mut store, reader) = store();
        let mut rows = Rows::default();
        for (request, retention_days) in [(1, 7), (2, 30), (1, 7)] {
            let row = PayloadRow {
                started_at_us: 0,
                request_id: uuid::Uuid::from_u128(request),
                workspace_id: uuid::Uuid::from_u128(9),
                request_type: "text/plain",
                request_body: "a",
                request_bytes: 1,
                response_type: "",
                response_body: "",
                response_bytes: 0,
                retention_days,
            };
            crate::usage::row::encode_payload(&row, &mut rows.bytes);
            rows.ends.push(rows.bytes.len());
        }
        for token in ["one", "other"] {
            store.insert(&Batch::new(Table::Payloads, token, &rows)).unwrap();
        }
        for (day, left) in [(7, 2), (8, 1), (31, 0)] {
            store.prune(0, day * US_PER_DAY).unwrap();
            assert_eq!(reader.count_payloads().unwrap(), left, "day {day}");
        }
    }

    #[test]
    fn locked_file_is_worth_another_try() {
        let (folder, mut store, _reader) = store();
        store.connection.busy_timeout(Duration::ZERO).unwrap();
        let other = Connection::open(folder.path().join("usage.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let rows = rows_of(&[bare(1)]);
        assert!(matches!(insert(&mut store, "t", &rows), Err(InsertError::Unavailable(_))));
        other.execute_batch("COMMIT").unwrap();
        insert(&mut store, "t", &rows).unwrap();
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
        let mut poison = bare(2);
        std::sync::Arc::make_mut(&mut poison.caller).workspace_slug = "poison".into();
        let rows = rows_of(&[bare(1), poison]);
        assert!(matches!(insert(&mut store, "t", &rows), Err(InsertError::Refused(_))));
        assert_eq!(reader.count().unwrap(), 0);
        let no_row = Rows { bytes: vec![1, 2, 3], ends: vec![3] };
        assert!(matches!(insert(&mut store, "t", &no_row), Err(InsertError::Refused(_))));
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
        insert(&mut store, "one", &rows_of(&[bare(1), bare(2)])).unwrap();
        // What the files hold now is what a killed process leaves behind: the log is not in the
        // database yet.
        let after = tempfile::tempdir().unwrap();
        for name in ["usage.db", "usage.db-wal"] {
            std::fs::copy(folder.path().join(name), after.path().join(name)).unwrap();
        }
        let mut store = Sqlite::open(&after.path().join("usage.db")).unwrap();
        insert(&mut store, "other", &rows_of(&[bare(2), bare(3)])).unwrap();
        let reader = Reader::open(&after.path().join("usage.db")).unwrap();
        assert_eq!(reader.count().unwrap(), 3);
    }
}
