//! A row as the API shows it, the same from both stores.

use serde_json::{Map, Value};

use super::dimension::shown_ip;
use super::period;
use super::requests::Cursor;

/// What a row has, in the order of exports. `attempts` and `metadata` are nested.
pub(crate) const FIELDS: [&str; 58] = [
    "request_id",
    "started_at",
    "workspace_id",
    "workspace",
    "environment_id",
    "environment",
    "key_id",
    "key",
    "deployment_id",
    "deployment",
    "requested_model",
    "target_id",
    "model_id",
    "model",
    "upstream_model",
    "provider",
    "connection_id",
    "connection",
    "dialect",
    "endpoint",
    "stream",
    "status",
    "outcome",
    "error_class",
    "degraded",
    "cache",
    "usage_source",
    "input_uncached",
    "input_cache_read",
    "input_cache_write_5m",
    "input_cache_write_1h",
    "output",
    "reasoning",
    "audio_in",
    "audio_out",
    "cost_nanousd",
    "saved_nanousd",
    "priced",
    "price_version",
    "total_us",
    "overhead_us",
    "queue_us",
    "headers_us",
    "first_token_us",
    "output_tokens_per_second",
    "request_bytes",
    "response_bytes",
    "source_ip",
    "end_user",
    "metadata",
    "correlation_id",
    "client_request_id",
    "upstream_request_id",
    "retention_days",
    "node",
    "gateway_version",
    "attempts",
    "started_at_us",
];

/// Columns of which the empty text means that there is nothing.
const NOTHING_IF_EMPTY: [&str; 17] = [
    "key",
    "deployment",
    "model",
    "upstream_model",
    "provider",
    "connection",
    "error_class",
    "cache",
    "price_version",
    "source_ip",
    "end_user",
    "correlation_id",
    "client_request_id",
    "upstream_request_id",
    "node",
    "gateway_version",
    "workspace",
];

/// A row and where it stands among the others.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) cursor: Option<Cursor>,
    pub(crate) row: Map<String, Value>,
}

/// Of what `SQLite` or ClickHouse says.
pub(crate) fn shown(mut cells: Map<String, Value>) -> Shown {
    nest_attempts(&mut cells);
    let started_at = cells.remove("started_at_us").or_else(|| cells.get("started_at").cloned());
    let started_at_us = started_at.as_ref().and_then(integer);
    let request_id = cells.get("request_id").and_then(Value::as_str);
    let request_id = request_id.and_then(|id| id.parse().ok());
    let cursor = started_at_us
        .zip(request_id)
        .map(|(started_at_us, request_id)| Cursor { started_at_us, request_id });
    if let Some(us) = started_at_us {
        cells.insert("started_at".to_owned(), period::show(us).into());
    }
    let speed = speed(&cells);
    cells.insert("output_tokens_per_second".to_owned(), speed);
    let mut row = Map::new();
    for field in FIELDS {
        if let Some(cell) = cells.remove(field) {
            row.insert(field.to_owned(), cleaned(field, cell));
        }
    }
    Shown { cursor, row }
}

fn cleaned(field: &str, cell: Value) -> Value {
    match cell {
        Value::String(text) if text.is_empty() && NOTHING_IF_EMPTY.contains(&field) => Value::Null,
        Value::String(text) if field == "source_ip" => shown_ip(&text),
        Value::Number(number) if ["stream", "degraded", "priced"].contains(&field) => {
            (number.as_i64() != Some(0)).into()
        }
        cell => cell,
    }
}

fn integer(cell: &Value) -> Option<i64> {
    cell.as_i64().or_else(|| cell.as_str()?.parse().ok())
}

/// Output tokens per second between the first token and the end.
#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn speed(cells: &Map<String, Value>) -> Value {
    let get = |name: &str| cells.get(name).and_then(integer);
    let output = get("output").unwrap_or(0) + get("reasoning").unwrap_or(0);
    let spent_us = get("total_us").zip(get("first_token_us")).map(|(total, first)| total - first);
    match spent_us.filter(|spent_us| *spent_us > 0 && output > 0) {
        Some(spent_us) => (output as f64 * 1e6 / spent_us as f64).into(),
        None => Value::Null,
    }
}

/// ClickHouse has a list for each field of the attempts; a status of 0 and an empty class are
/// nothing.
fn nest_attempts(cells: &mut Map<String, Value>) {
    const FIELDS: [&str; 12] = [
        "target_id",
        "connection_id",
        "connection",
        "model",
        "provider",
        "status",
        "error_class",
        "maybe_billed",
        "started_us",
        "headers_us",
        "first_token_us",
        "total_us",
    ];
    let mut attempts: Vec<Map<String, Value>> = Vec::new();
    let mut is_split = false;
    for field in FIELDS {
        let Some(Value::Array(list)) = cells.remove(&format!("attempts.{field}")) else { continue };
        is_split = true;
        attempts.resize_with(list.len().max(attempts.len()), Map::new);
        for (attempt, value) in attempts.iter_mut().zip(list) {
            let value = match (field, &value) {
                ("status", Value::Number(number)) if number.as_u64() == Some(0) => Value::Null,
                ("error_class", Value::String(text)) if text.is_empty() => Value::Null,
                _ => value,
            };
            attempt.insert(field.to_owned(), value);
        }
    }
    if is_split {
        let attempts = attempts.into_iter().map(Value::Object).collect();
        cells.insert("attempts".to_owned(), Value::Array(attempts));
    }
}
