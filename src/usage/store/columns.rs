//! A usage row as the columns of `requests`.

use rusqlite::{Statement, ToSql};
use serde::Serializer;
use serde::ser::SerializeSeq;
use uuid::Uuid;

use crate::usage::record::{AttemptRow, UsageRow};

/// Binds one value after the other.
struct Binder<'a, 'b> {
    statement: &'a mut Statement<'b>,
    n_bound: usize,
}

impl Binder<'_, '_> {
    fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.n_bound += 1;
        self.statement.raw_bind_parameter(self.n_bound, value)
    }

    fn put_all<const N: usize>(&mut self, values: [impl ToSql; N]) -> rusqlite::Result<()> {
        values.into_iter().try_for_each(|value| self.put(value))
    }

    fn put_id(&mut self, id: Option<Uuid>) -> rusqlite::Result<()> {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        self.put(id.map(|id| &*id.hyphenated().encode_lower(&mut text)))
    }

    fn put_int(&mut self, number: u64) -> rusqlite::Result<()> {
        self.put(int(number))
    }
}

/// What `SQLite` cannot hold is the greatest that it can.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// In the order of the table's columns.
pub(super) fn bind(statement: &mut Statement<'_>, row: &UsageRow) -> rusqlite::Result<()> {
    let mut binder = Binder { statement, n_bound: 0 };
    let to = &mut binder;
    to.put_id(Some(row.request_id))?;
    to.put(row.started_at_us)?;
    bind_caller(to, row)?;
    bind_target(to, row)?;
    bind_outcome(to, row)?;
    bind_usage(to, row)?;
    bind_measures(to, row)?;
    to.put(row.source_ip.map(|ip| ip.to_string()))?;
    to.put(row.end_user.as_deref())?;
    to.put(metadata_json(&row.metadata))?;
    to.put(row.correlation_id.as_deref())?;
    to.put(row.client_request_id.as_deref())?;
    to.put(row.upstream_request_id.as_deref())?;
    to.put(attempts_json(&row.attempts))
}

fn bind_caller(to: &mut Binder<'_, '_>, row: &UsageRow) -> rusqlite::Result<()> {
    let caller = &row.caller;
    to.put_id(Some(caller.workspace.0))?;
    to.put(&*caller.workspace_slug)?;
    to.put_id(Some(caller.environment.0))?;
    to.put(&*caller.environment_slug)?;
    to.put_id(caller.key.map(|key| key.0))?;
    to.put(caller.key_name.as_deref())
}

fn bind_target(to: &mut Binder<'_, '_>, row: &UsageRow) -> rusqlite::Result<()> {
    let (deployment, target) = (row.deployment.as_ref(), row.target.as_deref());
    to.put_id(deployment.map(|(id, _)| id.0))?;
    to.put(deployment.map(|(_, name)| &**name))?;
    to.put(&*row.requested_model)?;
    to.put_id(target.map(|target| target.model.0))?;
    to.put(target.map(|target| &*target.model_alias))?;
    to.put(target.map(|target| &*target.upstream_model))?;
    to.put(target.map(|target| target.provider))?;
    to.put_id(target.map(|target| target.connection.0))?;
    to.put(target.map(|target| &*target.connection_name))?;
    to.put_id(target.map(|target| target.target.0))
}

fn bind_outcome(to: &mut Binder<'_, '_>, row: &UsageRow) -> rusqlite::Result<()> {
    to.put(row.dialect.name())?;
    to.put(row.endpoint.name())?;
    to.put(row.is_stream)?;
    to.put(row.status)?;
    to.put(row.outcome.name())?;
    to.put(row.error_class)?;
    to.put(row.is_degraded)
}

fn bind_usage(to: &mut Binder<'_, '_>, row: &UsageRow) -> rusqlite::Result<()> {
    let tokens = &row.tokens;
    to.put(row.usage_source.name())?;
    let counts = [
        tokens.input_uncached,
        tokens.input_cache_read,
        tokens.input_cache_write_5m,
        tokens.input_cache_write_1h,
        tokens.output,
        tokens.reasoning,
        tokens.audio_in,
        tokens.audio_out,
        row.cost_nanousd,
    ];
    to.put_all(counts.map(|count| count.map(int)))?;
    // A request of a priced model may still have no cost: nobody said how many tokens it used.
    to.put(row.cost_nanousd.is_some() || row.price_version.is_some())?;
    to.put(row.price_version.as_deref())
}

fn bind_measures(to: &mut Binder<'_, '_>, row: &UsageRow) -> rusqlite::Result<()> {
    let timings = &row.timings;
    to.put_int(timings.total_us)?;
    to.put_int(timings.overhead_us)?;
    to.put_int(timings.queue_us)?;
    to.put(timings.headers_us.map(int))?;
    to.put(timings.first_token_us.map(int))?;
    to.put(row.tokens_per_second())?;
    to.put_int(row.request_bytes)?;
    to.put_int(row.response_bytes)
}

fn metadata_json(metadata: &[(Box<str>, Box<str>)]) -> String {
    json(|to| to.collect_map(metadata.iter().map(|(key, value)| (key, value))))
}

fn attempts_json(attempts: &[AttemptRow]) -> String {
    json(|to| {
        let mut list = to.serialize_seq(Some(attempts.len()))?;
        for attempt in attempts {
            list.serialize_element(&AttemptJson::from(attempt))?;
        }
        list.end()
    })
}

/// An attempt as its row shows it.
#[derive(serde::Serialize)]
struct AttemptJson<'a> {
    target_id: Uuid36,
    connection_id: Uuid36,
    connection: &'a str,
    model: &'a str,
    status: Option<u16>,
    error_class: Option<&'static str>,
    maybe_billed: bool,
    started_us: u64,
    headers_us: Option<u64>,
    first_token_us: Option<u64>,
    total_us: u64,
}

struct Uuid36(Uuid);

impl serde::Serialize for Uuid36 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'a> From<&'a AttemptRow> for AttemptJson<'a> {
    fn from(attempt: &'a AttemptRow) -> Self {
        Self {
            target_id: Uuid36(attempt.target.0),
            connection_id: Uuid36(attempt.connection.0),
            connection: &attempt.connection_name,
            model: &attempt.model,
            status: attempt.status,
            error_class: attempt.error_class,
            maybe_billed: attempt.is_maybe_billed,
            started_us: attempt.started_us,
            headers_us: attempt.headers_us,
            first_token_us: attempt.first_token_us,
            total_us: attempt.total_us,
        }
    }
}

/// Text and numbers into memory: there is nothing that could fail.
fn json<F>(write: F) -> String
where
    F: FnOnce(&mut serde_json::Serializer<&mut Vec<u8>>) -> serde_json::Result<()>,
{
    let mut bytes = Vec::new();
    write(&mut serde_json::Serializer::new(&mut bytes)).expect("text and numbers are JSON");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}
