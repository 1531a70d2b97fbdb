//! A row as the API shows it, the same from both stores.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::dimension::shown_ip;
use super::period;
use super::requests::Cursor;
use crate::usage::record::UsageRow;
use crate::usage::row::{AttemptView, RowView, Stamp, encode};

/// What a row has, in the order of exports. `attempts` and `metadata` are nested.
pub(crate) const FIELDS: [&str; 57] = [
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

/// Bodies of a request, as they are kept.
pub(crate) fn payload(mut cells: Map<String, Value>) -> Value {
    let mut of = |name: &str| {
        let mut cell = |field| cells.remove(&format!("{name}_{field}")).unwrap_or_default();
        let text = |cell: Value| if cell == "" { Value::Null } else { cell };
        json!({ "type": text(cell("type")), "bytes": cell("bytes"), "body": text(cell("body")) })
    };
    json!({ "request": of("request"), "response": of("response") })
}

/// Of a request that has just finished.
pub fn of_record(row: &UsageRow, stamp: &Stamp) -> Map<String, Value> {
    let mut bytes = Vec::new();
    encode(row, stamp, &mut bytes);
    RowView::decode(&bytes).map_or_else(|_| Map::new(), |view| shown(cells(&view)).row)
}

fn cells(row: &RowView<'_>) -> Map<String, Value> {
    let metadata: Map<String, Value> =
        row.metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    let attempts: Vec<Value> = row.attempts.iter().map(attempt).collect();
    let (tokens, timings) = (&row.tokens, &row.timings);
    let parts = [
        json!({
            "request_id": row.request_id.to_string(), "started_at_us": row.started_at_us,
            "workspace_id": row.workspace_id.to_string(), "workspace": row.workspace,
            "environment_id": row.environment_id.to_string(), "environment": row.environment,
            "key_id": text(row.key_id), "key": row.key,
            "deployment_id": text(row.deployment_id), "deployment": row.deployment,
            "requested_model": row.requested_model, "target_id": text(row.target_id),
            "model_id": text(row.model_id), "model": row.model,
            "upstream_model": row.upstream_model, "provider": row.provider,
            "connection_id": text(row.connection_id), "connection": row.connection,
            "dialect": row.dialect, "endpoint": row.endpoint, "stream": row.is_stream,
            "status": row.status, "outcome": row.outcome, "error_class": row.error_class,
            "degraded": row.is_degraded, "cache": row.cache,
        }),
        json!({
            "usage_source": row.usage_source, "input_uncached": tokens.input_uncached,
            "input_cache_read": tokens.input_cache_read,
            "input_cache_write_5m": tokens.input_cache_write_5m,
            "input_cache_write_1h": tokens.input_cache_write_1h, "output": tokens.output,
            "reasoning": tokens.reasoning, "audio_in": tokens.audio_in,
            "audio_out": tokens.audio_out, "cost_nanousd": row.cost_nanousd,
            "saved_nanousd": row.saved_nanousd, "priced": row.is_priced,
            "price_version": row.price_version, "total_us": timings.total_us,
            "overhead_us": timings.overhead_us, "queue_us": timings.queue_us,
            "headers_us": timings.headers_us, "first_token_us": timings.first_token_us,
        }),
        json!({
            "request_bytes": row.request_bytes, "response_bytes": row.response_bytes,
            "source_ip": row.source_ip.map(|ip| ip.to_string()), "end_user": row.end_user,
            "metadata": metadata, "correlation_id": row.correlation_id,
            "client_request_id": row.client_request_id,
            "upstream_request_id": row.upstream_request_id,
            "retention_days": row.retention_days, "node": row.node,
            "gateway_version": row.gateway_version, "attempts": attempts,
        }),
    ];
    let objects = parts.into_iter().filter_map(|part| match part {
        Value::Object(object) => Some(object),
        _ => None,
    });
    objects.flatten().collect()
}

fn attempt(attempt: &AttemptView<'_>) -> Value {
    let class = Some(attempt.error_class).filter(|class| !class.is_empty());
    json!({
        "target_id": attempt.target_id.to_string(),
        "connection_id": attempt.connection_id.to_string(),
        "connection": attempt.connection, "model": attempt.model, "provider": attempt.provider,
        "status": Some(attempt.status).filter(|status| *status != 0), "error_class": class,
        "maybe_billed": attempt.is_maybe_billed, "started_us": attempt.started_us,
        "headers_us": attempt.headers_us, "first_token_us": attempt.first_token_us,
        "total_us": attempt.total_us,
    })
}

fn text(id: Option<Uuid>) -> Option<String> {
    id.map(|id| id.to_string())
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
