//! The same answers from rows in memory, in the plainest way: what the stores are held to.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sluice::usage::query::{Dimension, Granularity};
use sluice::usage::record::{CacheUse, Outcome, UsageRow};
use time::OffsetDateTime;

use super::rows::DAY_US;

/// Rows by what they are told apart by: the fields of the answer, as JSON.
pub(super) type Groups<'a> = BTreeMap<String, Vec<&'a UsageRow>>;

pub(super) fn grouped<'a>(
    rows: &[&'a UsageRow],
    dimensions: &[Dimension],
    granularity: Granularity,
) -> Groups<'a> {
    let mut groups = Groups::new();
    for row in rows {
        let mut fields = Map::new();
        if granularity != Granularity::Total {
            fields.insert("time".to_owned(), bucket(row.started_at_us, granularity).into());
        }
        for dimension in dimensions {
            fields.extend(fields_of(row, dimension));
        }
        groups.entry(Value::Object(fields).to_string()).or_default().push(row);
    }
    groups
}

fn bucket(us: i64, granularity: Granularity) -> String {
    let second = us.div_euclid(1_000_000);
    let date = OffsetDateTime::from_unix_timestamp(second).unwrap();
    let begin = match granularity {
        Granularity::Fixed(width) => second - second % width,
        Granularity::Week => {
            let monday = i64::from(date.weekday().number_days_from_monday());
            let days = us.div_euclid(DAY_US) - monday;
            days * 86_400
        }
        Granularity::Month => {
            date.replace_day(1).unwrap().date().midnight().assume_utc().unix_timestamp()
        }
        Granularity::Total => 0,
    };
    let begin = OffsetDateTime::from_unix_timestamp(begin).unwrap();
    begin.format(&time::format_description::well_known::Rfc3339).unwrap()
}

pub(super) fn fields_of(row: &UsageRow, dimension: &Dimension) -> Vec<(String, Value)> {
    let one = |value: Value| vec![(dimension.name(), value)];
    let named = |id: Option<String>, name: Option<&str>| {
        vec![(format!("{}_id", dimension.name()), json!(id)), (dimension.name(), json!(name))]
    };
    let caller = &row.caller;
    let target = row.target.as_ref();
    match dimension {
        Dimension::Workspace => {
            named(Some(caller.workspace.to_string()), Some(&caller.workspace_slug))
        }
        Dimension::Environment => {
            named(Some(caller.environment.to_string()), Some(&caller.environment_slug))
        }
        Dimension::Key => named(caller.key.map(|key| key.to_string()), caller.key_name.as_deref()),
        Dimension::Deployment => one(json!(row.deployment.as_ref().map(|(_, name)| &**name))),
        Dimension::Model => one(json!(target.map(|target| &*target.model_alias))),
        Dimension::Provider => one(json!(target.map(|target| target.provider))),
        Dimension::Connection => one(json!(target.map(|target| &*target.connection_name))),
        Dimension::Target => one(json!(target.map(|target| target.target.to_string()))),
        Dimension::Status => one(json!(row.status)),
        Dimension::Outcome => one(json!(row.outcome.name())),
        Dimension::ErrorClass => one(json!(row.error_class)),
        Dimension::Dialect => one(json!(row.dialect.name())),
        Dimension::EndUser => one(json!(row.end_user)),
        Dimension::SourceIp => one(json!(row.source_ip.map(|ip| ip.to_string()))),
        Dimension::Metadata(key) => {
            let value = row.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value);
            one(json!(value))
        }
    }
}

/// The value of a metric, and for a percentile the values that it is one of, sorted.
pub(super) fn measured(rows: &[&UsageRow], metric: &str) -> (Value, Vec<u64>) {
    if let Some((time, statistic)) = metric.split_once('_')
        && ["latency", "ttft", "overhead"].contains(&time)
    {
        return timed(rows, time, statistic);
    }
    (plain(rows, metric), Vec::new())
}

fn plain(rows: &[&UsageRow], metric: &str) -> Value {
    let n = |is: &dyn Fn(&UsageRow) -> bool| rows.iter().filter(|row| is(row)).count();
    let is_error = |row: &UsageRow| {
        !matches!(row.outcome, Outcome::Success | Outcome::CacheHit | Outcome::ClientClosed)
    };
    match metric {
        "requests" => json!(rows.len()),
        "errors" => json!(n(&is_error)),
        "success_rate" if rows.is_empty() => Value::Null,
        "success_rate" => json!((rows.len() - n(&is_error)) as f64 / rows.len() as f64),
        "failovers" => json!(n(&|row| {
            let first = row.attempts.first().map(|attempt| attempt.target.target);
            row.attempts.iter().any(|attempt| Some(attempt.target.target) != first)
        })),
        "cache_hits" => json!(n(&|row| row.cache == Some(CacheUse::Hit))),
        "unpriced" => json!(n(&|row| {
            row.target.is_some() && row.cost_nanousd.is_none() && row.price_version.is_none()
        })),
        "cost_usd" => dollars(rows.iter().filter_map(|row| row.cost_nanousd)),
        "saved_usd" => dollars(rows.iter().map(|row| row.saved_nanousd)),
        "tokens_per_second" => speed(rows),
        tokens => json!(rows.iter().map(|row| tokens_of(row, tokens)).sum::<u64>()),
    }
}

fn dollars(nano: impl Iterator<Item = u64>) -> Value {
    json!(nano.map(u128::from).sum::<u128>() as f64 / 1e9)
}

fn speed(rows: &[&UsageRow]) -> Value {
    let (mut tokens, mut us) = (0, 0);
    for row in rows.iter().filter(|row| row.is_stream) {
        let (Some(output), Some(first)) = (row.tokens.output, row.timings.first_token_us) else {
            continue;
        };
        if row.timings.total_us > first {
            tokens += output + row.tokens.reasoning.unwrap_or(0);
            us += row.timings.total_us - first;
        }
    }
    if us == 0 { Value::Null } else { json!(tokens as f64 * 1e6 / us as f64) }
}

fn tokens_of(row: &UsageRow, metric: &str) -> u64 {
    let tokens = &row.tokens;
    let input = [
        ("input_uncached", tokens.input_uncached),
        ("input_cache_read", tokens.input_cache_read),
        ("input_cache_write_5m", tokens.input_cache_write_5m),
        ("input_cache_write_1h", tokens.input_cache_write_1h),
        ("audio_in", tokens.audio_in),
    ];
    let output = [
        ("output", tokens.output),
        ("reasoning", tokens.reasoning),
        ("audio_out", tokens.audio_out),
    ];
    let sum = |all: &[(&str, Option<u64>)]| all.iter().filter_map(|(_, n)| *n).sum::<u64>();
    match metric {
        "input_tokens" => sum(&input),
        "output_tokens" => sum(&output),
        "total_tokens" => sum(&input) + sum(&output),
        one => {
            let mut all = input.iter().chain(&output);
            let found = all.find(|(name, _)| *name == one).unwrap_or_else(|| panic!("{one}"));
            found.1.unwrap_or(0)
        }
    }
}

fn timed(rows: &[&UsageRow], time: &str, statistic: &str) -> (Value, Vec<u64>) {
    let known = rows.iter().filter_map(|row| match time {
        "latency" => Some(row.timings.total_us),
        "ttft" => row.timings.first_token_us,
        _ => Some(row.timings.overhead_us),
    });
    let mut sorted: Vec<u64> = known.collect();
    sorted.sort_unstable();
    if sorted.is_empty() {
        return (Value::Null, sorted);
    }
    if statistic == "avg" {
        let average = sorted.iter().sum::<u64>() as f64 / sorted.len() as f64;
        return (json!(average), Vec::new());
    }
    let level: f64 = format!("0.{}", &statistic[1..]).parse().unwrap();
    let index = (level * sorted.len() as f64) as usize;
    (json!(sorted[index.min(sorted.len() - 1)]), sorted)
}
