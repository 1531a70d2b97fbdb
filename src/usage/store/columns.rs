//! A usage row as the columns of `request_rows`.

use std::fmt::Write as _;

use rusqlite::{Statement, ToSql};
use uuid::Uuid;

use super::rollup::{Flags, Summed};
use super::shared::Numbers;
use crate::usage::row::RowView;

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

    /// A text that does not apply is empty in a row, and NULL here.
    fn put_text(&mut self, text: &str) -> rusqlite::Result<()> {
        self.put(Some(text).filter(|text| !text.is_empty()))
    }

    fn put_int(&mut self, number: u64) -> rusqlite::Result<()> {
        self.put(int(number))
    }
}

/// What `SQLite` cannot hold is the greatest that it can.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An id as the lookup of a row wants it.
pub(super) fn key(request_id: Uuid) -> [u8; 16] {
    request_id.into_bytes()
}

/// In the order of the insert's columns; `numbers` are those of what the row shares with others,
/// `scratch` is a text to write in, and rows that stay for `usual_days` say nothing of it.
pub(super) fn bind(
    statement: &mut Statement<'_>,
    row: &RowView<'_>,
    numbers: &Numbers,
    scratch: &mut String,
    usual_days: Option<u16>,
) -> rusqlite::Result<()> {
    let mut binder = Binder { statement, n_bound: 0 };
    let to = &mut binder;
    to.put(key(row.request_id))?;
    to.put(row.started_at_us)?;
    to.put(numbers.caller)?;
    to.put(numbers.deployment)?;
    to.put(numbers.target)?;
    to.put(row.requested_model)?;
    bind_outcome(to, row)?;
    bind_usage(to, row)?;
    bind_measures(to, row)?;
    to.put(row.source_ip.map(|ip| ip.to_string()))?;
    to.put_text(row.end_user)?;
    to.put(metadata_json(row))?;
    to.put_text(row.correlation_id)?;
    to.put_text(row.client_request_id)?;
    to.put_text(row.upstream_request_id)?;
    to.put(attempts_json(row, numbers, scratch))?;
    to.put(row.cache)?;
    to.put_int(row.saved_nanousd)?;
    to.put(usual_days.filter(|usual| *usual != row.retention_days).map(|_| row.retention_days))?;
    to.put(row.node)?;
    to.put(row.gateway_version)
}

/// What of `row` the roll-ups sum.
pub(super) fn summed<'a>(row: &RowView<'a>, numbers: &Numbers) -> Summed<'a> {
    let first = row.attempts.first().map(|attempt| attempt.target_id);
    Summed {
        started_at_us: row.started_at_us,
        shared: (numbers.caller, numbers.deployment, numbers.target),
        dialect: row.dialect,
        status: row.status,
        outcome: row.outcome,
        error_class: row.error_class,
        tokens: row.tokens,
        timings: row.timings,
        cost_nanousd: row.cost_nanousd,
        saved_nanousd: row.saved_nanousd,
        flags: Flags {
            is_failover: row.attempts.iter().any(|attempt| Some(attempt.target_id) != first),
            is_cache_hit: row.cache == "hit",
            is_unpriced: row.target_id.is_some() && !row.is_priced,
            is_stream: row.is_stream,
        },
    }
}

fn bind_outcome(to: &mut Binder<'_, '_>, row: &RowView<'_>) -> rusqlite::Result<()> {
    to.put(row.dialect)?;
    to.put(row.endpoint)?;
    to.put(row.is_stream)?;
    to.put(row.status)?;
    to.put(row.outcome)?;
    to.put_text(row.error_class)?;
    to.put(row.is_degraded)
}

fn bind_usage(to: &mut Binder<'_, '_>, row: &RowView<'_>) -> rusqlite::Result<()> {
    let tokens = &row.tokens;
    to.put(row.usage_source)?;
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
    to.put_text(row.price_version)
}

fn bind_measures(to: &mut Binder<'_, '_>, row: &RowView<'_>) -> rusqlite::Result<()> {
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

fn metadata_json(row: &RowView<'_>) -> Option<String> {
    if row.metadata.is_empty() {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> =
        row.metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    Some(serde_json::Value::Object(object).to_string())
}

fn attempts_json<'a>(
    row: &RowView<'_>,
    numbers: &Numbers,
    scratch: &'a mut String,
) -> Option<&'a str> {
    if row.attempts.is_empty() {
        return None;
    }
    scratch.clear();
    for (attempt, target) in row.attempts.iter().zip(&numbers.attempts) {
        scratch.push(if scratch.is_empty() { '[' } else { ',' });
        let billed = u8::from(attempt.is_maybe_billed);
        let class = match attempt.error_class {
            "" => "null".to_owned(),
            class => serde_json::Value::from(class).to_string(),
        };
        let optional = |number: Option<u64>| {
            number.map_or_else(|| "null".to_owned(), |number| number.to_string())
        };
        let status = optional(Some(u64::from(attempt.status)).filter(|status| *status != 0));
        let headers_us = optional(attempt.headers_us);
        let first_token_us = optional(attempt.first_token_us);
        let (started_us, total_us) = (attempt.started_us, attempt.total_us);
        write!(
            scratch,
            "[{target},{status},{class},{billed},{started_us},{headers_us},{first_token_us},\
             {total_us}]"
        )
        .expect("writing to a text cannot fail");
    }
    scratch.push(']');
    Some(scratch)
}
