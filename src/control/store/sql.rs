//! One way to talk to SQLite and to PostgreSQL.
//!
//! A statement is one text for both: `$1` for parameters, BIGINT, TEXT and BYTEA for columns. It is
//! `&'static`, so that none can be put together from what a caller sends.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postgres::types::private::BytesMut;
use postgres::types::{Format, IsNull, Type, to_sql_checked};

use crate::config::url::PostgresUrl;
use crate::secret::Secret;

/// How long a writer waits for another.
const BUSY_MAX: Duration = Duration::from_secs(5);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Under this number writers of one PostgreSQL database wait for each other.
const WRITE_LOCK: &str = "SELECT pg_advisory_xact_lock(7305813)";

/// Why the state cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the state store {}: {reason}", path.display())]
    Open { path: PathBuf, reason: String },
    #[error("the state store does not answer: {0}")]
    Unavailable(String),
    #[error("the state store refuses a statement: {0}")]
    Refused(String),
    #[error("the state store holds what this version does not understand: {0}")]
    Corrupt(String),
    #[error(
        "the state store was encrypted with master key {stored}, and the one given is {given}: \
         start with the former (SLUICE_MASTER_KEY or `secrets.master_key_file`)"
    )]
    WrongMasterKey { stored: String, given: String },
    #[error("the master key: {0}")]
    MasterKey(String),
}

/// A value on its way in or out.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// One row of an answer.
#[derive(Debug)]
pub struct Row(pub(super) Vec<Value>);

/// A connection to the store.
pub enum Db {
    Sqlite(rusqlite::Connection),
    Postgres { client: Client, prepared: HashMap<&'static str, postgres::Statement> },
}

/// A client of PostgreSQL that may be dropped anywhere: closing it waits for the server, which is not
/// allowed where a runtime is driven.
pub struct Client(Option<Box<postgres::Client>>);

/// What goes into a statement.
pub type Params<'a> = &'a [Value];

// === impl Value ===

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Int(flag.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<uuid::Uuid> for Value {
    fn from(id: uuid::Uuid) -> Self {
        Self::Text(id.to_string())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl postgres::types::ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(number) => number.to_sql(ty, out),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Bytes(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(ty)
    }

    fn encode_format(&self, _ty: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}

// === impl Row ===

impl Row {
    pub fn int(&self, at: usize) -> Result<i64, StoreError> {
        match self.0.get(at) {
            Some(Value::Int(number)) => Ok(*number),
            other => Err(unexpected(at, other)),
        }
    }

    pub fn text(&self, at: usize) -> Result<&str, StoreError> {
        match self.0.get(at) {
            Some(Value::Text(text)) => Ok(text),
            other => Err(unexpected(at, other)),
        }
    }

    pub fn id(&self, at: usize) -> Result<uuid::Uuid, StoreError> {
        let text = self.text(at)?;
        text.parse().map_err(|_| StoreError::Corrupt(format!("column {at} holds no id")))
    }

    pub fn bytes(&self, at: usize) -> Result<&[u8], StoreError> {
        self.opt_bytes(at)?.ok_or_else(|| unexpected(at, Some(&Value::Null)))
    }

    pub fn opt_int(&self, at: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(at) {
            Some(Value::Null) => Ok(None),
            _ => self.int(at).map(Some),
        }
    }

    pub fn opt_bytes(&self, at: usize) -> Result<Option<&[u8]>, StoreError> {
        match self.0.get(at) {
            Some(Value::Null) => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            other => Err(unexpected(at, other)),
        }
    }
}

fn unexpected(at: usize, found: Option<&Value>) -> StoreError {
    let found = match found {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Int(_)) => "a number",
        Some(Value::Text(_)) => "a text",
        Some(Value::Bytes(_)) => "bytes",
    };
    StoreError::Corrupt(format!("column {at} holds {found}"))
}

// === impl Client ===

impl Client {
    /// It is there until it is dropped.
    pub(super) fn get(&mut self) -> Result<&mut postgres::Client, StoreError> {
        self.0.as_deref_mut().ok_or_else(|| StoreError::Unavailable("it is closed".to_owned()))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.as_ref().is_none_or(|client| client.is_closed())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let client = self.0.take();
        let closing = std::thread::Builder::new().name("sluice-close".to_owned());
        if let Err(error) = closing.spawn(move || drop(client)) {
            tracing::warn!(%error, "no thread to close a connection of the state store");
        }
    }
}

// === impl Db ===

impl Db {
    pub(super) fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let opened = || -> rusqlite::Result<rusqlite::Connection> {
            let connection = rusqlite::Connection::open(path)?;
            connection.busy_timeout(BUSY_MAX)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // A key that was shown or revoked must stay so when the power fails.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.set_prepared_statement_cache_capacity(128);
            Ok(connection)
        };
        opened()
            .map(Self::Sqlite)
            .map_err(|error| StoreError::Open { path: path.to_owned(), reason: error.to_string() })
    }

    pub(super) fn open_postgres(url: &Secret) -> Result<Self, StoreError> {
        let url = PostgresUrl::parse(url.expose());
        let url = url.map_err(|fault| StoreError::Unavailable(fault.to_owned()))?;
        let config = url.rest.expose().parse::<postgres::Config>();
        let mut config = config.map_err(|error| unavailable(&error))?;
        config.connect_timeout(CONNECT_MAX).application_name("sluice");
        // A server that is gone without a word is noticed.
        config.tcp_user_timeout(CONNECT_MAX).keepalives_idle(CONNECT_MAX);
        let client = super::tls::connect(&url, &config)?;
        Ok(Self::Postgres { client: Client(Some(Box::new(client))), prepared: HashMap::new() })
    }

    /// Whether the connection can be used again.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Sqlite(connection) => connection.is_autocommit(),
            Self::Postgres { client, .. } => !client.is_closed(),
        }
    }

    /// Begins a transaction that no other writer runs beside.
    pub(super) fn begin_write(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => self.batch("BEGIN IMMEDIATE"),
            Self::Postgres { .. } => {
                self.batch("BEGIN")?;
                self.batch(WRITE_LOCK)
            }
        }
    }

    /// Begins a transaction that reads one moment.
    pub(super) fn begin_read(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => self.batch("BEGIN"),
            Self::Postgres { .. } => self.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        }
    }

    /// Runs statements without parameters.
    pub(super) fn batch(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => connection.execute_batch(sql).map_err(sqlite_error),
            Self::Postgres { client, .. } => {
                client.get()?.batch_execute(sql).map_err(postgres_error)
            }
        }
    }

    /// The number of rows that changed.
    pub fn execute(&mut self, sql: &'static str, params: Params<'_>) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql).map_err(sqlite_error)?;
                bind(&mut statement, params)?;
                let changed = statement.raw_execute().map_err(sqlite_error)?;
                Ok(changed as u64)
            }
            Self::Postgres { client, prepared } => {
                let client = client.get()?;
                let statement = prepare(client, prepared, sql)?;
                client.execute(&statement, &as_sql(params)).map_err(postgres_error)
            }
        }
    }

    /// Every row, handed to `take` as it comes.
    pub fn each(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
        mut take: impl FnMut(Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql).map_err(sqlite_error)?;
                bind(&mut statement, params)?;
                let n = statement.column_count();
                let mut rows = statement.raw_query();
                while let Some(row) = rows.next().map_err(sqlite_error)? {
                    take(sqlite_row(row, n)?)?;
                }
                Ok(())
            }
            Self::Postgres { client, prepared } => {
                use postgres::fallible_iterator::FallibleIterator as _;
                let client = client.get()?;
                let statement = prepare(client, prepared, sql)?;
                let params = as_sql(params);
                let mut rows = client.query_raw(&statement, params).map_err(postgres_error)?;
                while let Some(row) = rows.next().map_err(postgres_error)? {
                    take(postgres_row(&row)?)?;
                }
                Ok(())
            }
        }
    }

    pub fn query(&mut self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        self.each(sql, params, |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first row, if there is one.
    pub fn first(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, params)?.into_iter().next())
    }

    pub fn exists(&mut self, sql: &'static str, params: Params<'_>) -> Result<bool, StoreError> {
        Ok(self.first(sql, params)?.is_some())
    }
}

fn bind(statement: &mut rusqlite::Statement<'_>, params: Params<'_>) -> Result<(), StoreError> {
    for (n, param) in params.iter().enumerate() {
        // `$7` is a name to SQLite, numbered by where it first stands.
        let index = statement.parameter_index(&format!("${}", n + 1)).map_err(sqlite_error)?;
        let index =
            index.ok_or_else(|| StoreError::Refused(format!("there is no parameter {}", n + 1)))?;
        statement.raw_bind_parameter(index, param).map_err(sqlite_error)?;
    }
    Ok(())
}

fn sqlite_row(row: &rusqlite::Row<'_>, n: usize) -> Result<Row, StoreError> {
    use rusqlite::types::ValueRef;
    let value = |at| {
        Ok(match row.get_ref(at).map_err(sqlite_error)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Int(number),
            ValueRef::Text(text) => Value::Text(
                String::from_utf8(text.to_vec())
                    .map_err(|_| StoreError::Corrupt(format!("column {at} is no UTF-8")))?,
            ),
            ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
            ValueRef::Real(_) => {
                return Err(StoreError::Corrupt(format!("column {at} is a float")));
            }
        })
    };
    Ok(Row((0..n).map(value).collect::<Result<_, _>>()?))
}

fn prepare(
    client: &mut postgres::Client,
    prepared: &mut HashMap<&'static str, postgres::Statement>,
    sql: &'static str,
) -> Result<postgres::Statement, StoreError> {
    if let Some(statement) = prepared.get(sql) {
        return Ok(statement.clone());
    }
    let statement = client.prepare(sql).map_err(postgres_error)?;
    prepared.insert(sql, statement.clone());
    Ok(statement)
}

fn as_sql(params: Params<'_>) -> Vec<&(dyn postgres::types::ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn postgres::types::ToSql + Sync)).collect()
}

fn postgres_row(row: &postgres::Row) -> Result<Row, StoreError> {
    let value = |(at, column): (usize, &postgres::Column)| {
        let read = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(at).map(Value::from),
            Type::INT4 => {
                row.try_get::<_, Option<i32>>(at).map(|it| Value::from(it.map(i64::from)))
            }
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(at).map(Value::from),
            _ => row.try_get::<_, Option<String>>(at).map(Value::from),
        };
        read.map_err(postgres_error)
    };
    Ok(Row(row.columns().iter().enumerate().map(value).collect::<Result<_, _>>()?))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn sqlite_error(error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::PermissionDenied,
        ) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Refused(error.to_string()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
pub(super) fn postgres_error(error: postgres::Error) -> StoreError {
    let text = describe(&error);
    // Class 57 is a server that stops, 53 one that lacks something, 25 one that may only read.
    let is_passing = error.code().is_none_or(|code| {
        ["57", "53", "25", "08"].iter().any(|class| code.code().starts_with(class))
    });
    if is_passing { StoreError::Unavailable(text) } else { StoreError::Refused(text) }
}

/// For what happens before there is a connection.
pub(super) fn unavailable(error: &postgres::Error) -> StoreError {
    StoreError::Unavailable(describe(error))
}

/// Names what the server said, without the row that it may have quoted.
fn describe(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{}: {}", db.code().code(), db.message()),
        None => error.to_string(),
    }
}
