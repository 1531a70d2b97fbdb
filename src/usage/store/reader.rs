//! What the store holds, for the admin page and for tests.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use serde_json::Value;
use uuid::Uuid;

use super::StoreError;
use super::columns::key;
use super::sqlite::BUSY_TIMEOUT;
use crate::usage::record::RefusedRow;

/// An embedded store opened for reading: rows are JSON objects, a field per column.
#[derive(Debug)]
pub struct Reader(Connection);

impl Reader {
    /// Opens the file of a store for reading, beside its writer or without one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = |source| StoreError::Open { path: path.into(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(fail)?;
        Ok(Self(connection))
    }

    pub fn count(&self) -> Result<u64, StoreError> {
        let count: i64 = self.0.query_row("SELECT count(*) FROM requests", (), |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// The latest rows, newest first.
    pub fn rows(&self, limit: u32) -> Result<Vec<Value>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT * FROM requests ORDER BY started_at DESC, request_id DESC LIMIT ?",
        )?;
        let rows = statement.query_map([limit], object)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn by_request_id(&self, request_id: Uuid) -> Result<Option<Value>, StoreError> {
        let mut statement =
            self.0.prepare_cached("SELECT * FROM requests WHERE request_key = ?")?;
        Ok(statement.query_row([key(request_id)], object).optional()?)
    }

    /// The latest counts of refused keys, newest first.
    pub fn refused(&self, limit: u32) -> Result<Vec<RefusedRow>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT minute, source_ip, count FROM refused_keys
             ORDER BY minute DESC, source_ip LIMIT ?",
        )?;
        let rows = statement.query_map([limit], |row| {
            let count: i64 = row.get(2)?;
            Ok(RefusedRow {
                unix_minute: row.get(0)?,
                source_ip: row.get_ref(1)?.as_str()?.parse().ok(),
                count: count.unsigned_abs(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn object(row: &Row<'_>) -> rusqlite::Result<Value> {
    let names = row.as_ref().column_names().map(ToOwned::to_owned).enumerate();
    // The id is there as text.
    let names = names.filter(|(_, name)| name != "request_key");
    let columns = names.map(|(index, name)| {
        let value = value(&name, row.get_ref(index)?)?;
        Ok((name, value))
    });
    columns.collect::<rusqlite::Result<_>>().map(Value::Object)
}

fn value(name: &str, value: ValueRef<'_>) -> rusqlite::Result<Value> {
    Ok(match (name, value) {
        ("stream" | "degraded" | "priced", ValueRef::Integer(number)) => (number != 0).into(),
        ("metadata" | "attempts", ValueRef::Text(text)) => {
            serde_json::from_slice(text).unwrap_or(Value::Null)
        }
        (_, ValueRef::Integer(number)) => number.into(),
        (_, ValueRef::Real(number)) => number.into(),
        (_, ValueRef::Text(_)) => value.as_str()?.into(),
        (_, ValueRef::Null | ValueRef::Blob(_)) => Value::Null,
    })
}
