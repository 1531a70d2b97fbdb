//! What the store holds, for the admin page and for tests.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{
    Connection, InterruptHandle, OpenFlags, OptionalExtension, Row, Statement, ToSql,
    params_from_iter,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::StoreError;
use super::columns::key;
use super::functions;
use super::sqlite::BUSY_TIMEOUT;
use crate::usage::query::sql::{self, Param};
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
        functions::add_reading(&connection).map_err(fail)?;
        Ok(Self(connection))
    }

    /// The cells of each row, as long as `take` wants more.
    pub(crate) fn cells(
        &self,
        statement: &sql::Statement,
        cancel: &Cancel,
        take: &mut dyn FnMut(Vec<Value>) -> bool,
    ) -> Result<(), StoreError> {
        let mut prepared = self.0.prepare(&statement.sql)?;
        let n_columns = prepared.column_count();
        self.run(&mut prepared, (&statement.params, cancel), &mut |row| {
            let cells = (0..n_columns).map(|index| Ok(cell(row.get_ref(index)?)));
            Ok(take(cells.collect::<rusqlite::Result<_>>()?))
        })
    }

    /// The columns of each row by their names, as long as `take` wants more.
    pub(crate) fn objects(
        &self,
        statement: &sql::Statement,
        cancel: &Cancel,
        take: &mut dyn FnMut(Map<String, Value>) -> bool,
    ) -> Result<(), StoreError> {
        let mut prepared = self.0.prepare(&statement.sql)?;
        self.run(&mut prepared, (&statement.params, cancel), &mut |row| Ok(take(columns(row)?)))
    }

    fn run(
        &self,
        prepared: &mut Statement<'_>,
        (params, cancel): (&[Param], &Cancel),
        take: &mut dyn FnMut(&Row<'_>) -> rusqlite::Result<bool>,
    ) -> Result<(), StoreError> {
        cancel.arm(self.0.get_interrupt_handle());
        let mut rows = prepared.query(params_from_iter(params))?;
        while !cancel.is_set() {
            let Some(row) = rows.next()? else { break };
            if !take(row)? {
                break;
            }
        }
        Ok(())
    }

    pub fn count(&self) -> Result<u64, StoreError> {
        let count: i64 = self.0.query_row("SELECT count(*) FROM requests", (), |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    pub fn count_payloads(&self) -> Result<u64, StoreError> {
        let count: i64 = self.0.query_row("SELECT count(*) FROM payloads", (), |row| row.get(0))?;
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

/// Ends a statement that nobody waits for any more.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Cancelled>);

#[derive(Default)]
struct Cancelled {
    is_set: AtomicBool,
    handle: Mutex<Option<InterruptHandle>>,
}

/// Sets a [`Cancel`] when it is dropped before its time.
pub(crate) struct CancelOnDrop(Option<Cancel>);

impl Cancel {
    pub(crate) fn on_drop(self) -> CancelOnDrop {
        CancelOnDrop(Some(self))
    }

    fn arm(&self, handle: InterruptHandle) {
        *self.0.handle.lock() = Some(handle);
    }

    fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.is_set.store(true, Ordering::Relaxed);
        if let Some(handle) = &*self.0.handle.lock() {
            handle.interrupt();
        }
    }
}

impl CancelOnDrop {
    pub(crate) fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(cancel) = &self.0 {
            cancel.set();
        }
    }
}

impl ToSql for Param {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Text(text) => text.as_str().into(),
            Self::Int(number) => (*number).into(),
            Self::Id(id) => id.to_string().into(),
            Self::Ip(ip) => ip.to_canonical().to_string().into(),
            Self::Request(id) => key(*id).to_vec().into(),
        })
    }
}

fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Null | ValueRef::Blob(_) => Value::Null,
    }
}

fn object(row: &Row<'_>) -> rusqlite::Result<Value> {
    columns(row).map(Value::Object)
}

fn columns(row: &Row<'_>) -> rusqlite::Result<Map<String, Value>> {
    let names = row.as_ref().column_names().map(ToOwned::to_owned).enumerate();
    // The id is there as text.
    let names = names.filter(|(_, name)| name != "request_key");
    let columns = names.map(|(index, name)| {
        let value = value(&name, row.get_ref(index)?)?;
        Ok((name, value))
    });
    columns.collect()
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
