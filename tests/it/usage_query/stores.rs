//! Every metric, dimension and granularity, over rows made at random.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use sluice::secret::Secret;
use sluice::usage::address::Address;
use sluice::usage::query::{
    Dimension, Export, Extent, Format, Granularity, Metric, Query, ReadError, Reading, RowQuery,
    RowsKept, Servers,
};
use sluice::usage::record::UsageRow;
use sluice::usage::row::{self, Stamp, encode};
use sluice::usage::schema;
use sluice::usage::spool::Rows;
use sluice::usage::store::{Batch, Insert as _, Sqlite, Table};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::model;
use super::rows::{self, BEGIN_US, DAY_US, DAYS, HOSTILE, HOUR_US};
use crate::clickhouse_server::ClickHouse;
use crate::client::{DEADLINE, within};

/// Parameters of a page, and the rows that they are to find.
type Question<'a> = (&'a [(&'a str, &'a str)], fn(&UsageRow) -> bool);
type Keep = Box<dyn Fn(&UsageRow) -> bool>;

/// `ClickHouse` as it answers what it has no rows for.
const ROLLED: &str = "clickhouse from hours";

/// Sets of rows that are tried.
const CASES: usize = 2;

struct Stores {
    rows: Vec<UsageRow>,
    all: Vec<(&'static str, Reading)>,
    _folder: TempDir,
}

impl Stores {
    /// Both stores, with the same rows; and `ClickHouse` once more when its rows are gone.
    async fn with(server: &ClickHouse, rows: Vec<UsageRow>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let mut sqlite = Sqlite::open(&path).unwrap().with_usual_days(3_650);
        let (one, other) = rows.split_at(rows.len() / 2);
        // The first half comes twice: nothing may count twice.
        for (number, batch) in [one, other, one].into_iter().enumerate() {
            let rows = encoded(batch);
            sqlite.insert(&Batch::new(Table::Usage, &number.to_string(), &rows)).unwrap();
        }
        let servers = within(fill(server, &rows)).await;
        let all = vec![
            ("sqlite", Reading::sqlite(path, RowsKept::forever())),
            ("clickhouse", Reading::clickhouse(servers.clone(), RowsKept::forever())),
            (ROLLED, Reading::clickhouse(servers, RowsKept::new(|_| Some(Duration::ZERO)))),
        ];
        Self { rows, all, _folder: folder }
    }

    async fn random(server: &ClickHouse, runner: &mut TestRunner, n_max: usize) -> Self {
        Self::with(server, rows::rows(n_max).new_tree(runner).unwrap().current()).await
    }

    fn within(&self, from_us: i64, to_us: i64) -> Vec<&UsageRow> {
        self.rows.iter().filter(|row| (from_us..to_us).contains(&row.started_at_us)).collect()
    }
}

/// A database with the schema and `rows`.
async fn fill(server: &ClickHouse, rows: &[UsageRow]) -> Servers {
    static N_DATABASES: AtomicUsize = AtomicUsize::new(0);
    let database = format!("usage_{}", N_DATABASES.fetch_add(1, Ordering::Relaxed));
    let address = Address::parse(&Secret::new(server.url(&database))).unwrap();
    let options = schema::Options {
        database,
        cluster: None,
        applied_by: "a test".to_owned(),
        lock_wait: DEADLINE,
    };
    Box::pin(schema::migrate_any(&address.clients, &options)).await.unwrap();
    let names: Vec<String> =
        row::COLUMNS.iter().map(|column| format!("`{}`", column.name)).collect();
    let sql = format!("INSERT INTO usage ({}) FORMAT RowBinary", names.join(", "));
    let mut insert = address.clients[0].insert_formatted_with(sql);
    insert.send(encoded(rows).bytes.into()).await.unwrap();
    insert.end().await.unwrap();
    Servers::new(address.clients)
}

/// The bytes of rows, as the spool has them.
fn encoded(rows: &[UsageRow]) -> Rows {
    // Rows of a fixed day must not expire, whatever day it is.
    let stamp = Stamp::new("node-1", 3_650);
    let mut encoded = Rows::default();
    for row in rows {
        encode(row, &stamp, &mut encoded.bytes);
        encoded.ends.push(encoded.bytes.len());
    }
    encoded
}

pub(super) fn show(us: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).unwrap();
    time.format(&time::format_description::well_known::Rfc3339).unwrap()
}

fn body(from_us: i64, to_us: i64) -> Value {
    let metrics: Vec<&str> = Metric::ALL.iter().map(|(name, _)| *name).collect();
    json!({ "range": { "from": show(from_us), "to": show(to_us) }, "metrics": metrics, "limit": 1000 })
}

async fn ask(reading: &Reading, body: &Value) -> Value {
    let query = Query::read(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let now_us = BEGIN_US + DAYS * DAY_US;
    within(reading.usage(query, None, now_us)).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Holds the answer to what the rows say.
fn check(answer: &Value, groups: &model::Groups<'_>, dimensions: &[Dimension], note: &str) {
    check_metrics(&Metric::ALL, answer, (groups, dimensions), note);
}

fn check_metrics(
    asked: &[(&str, Metric)],
    answer: &Value,
    (groups, dimensions): (&model::Groups<'_>, &[Dimension]),
    note: &str,
) {
    let is_exact = answer["source"] == "rows" && !note.contains("approximate");
    let mut n_found = 0;
    for row in answer["data"].as_array().unwrap() {
        let mut key = Map::new();
        let metrics: Vec<&str> = Metric::ALL.iter().map(|(name, _)| *name).collect();
        for (name, value) in row.as_object().unwrap() {
            if !metrics.contains(&name.as_str()) {
                key.insert(name.clone(), value.clone());
            }
        }
        let rows = groups.get(&Value::Object(key.clone()).to_string());
        n_found += usize::from(rows.is_some());
        let rows = rows.map_or(&[][..], Vec::as_slice);
        for (name, _) in asked {
            let (expected, sorted) = model::measured(rows, name);
            let is_same = same(&row[*name], &expected)
                || (!is_exact && is_near(&row[*name], &expected, &sorted));
            assert!(is_same, "{note}: {name} of {key:?} is {}, not {expected}", row[*name]);
        }
    }
    assert_eq!(n_found, groups.len(), "{note} by {dimensions:?}: {answer}");
}

/// Numbers are the same when they differ by no more than rounding.
fn same(found: &Value, expected: &Value) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => (found - expected).abs() <= expected.abs() * 1e-9,
        _ => found.is_null() && expected.is_null(),
    }
}

/// What docs/usage-api.md allows of approximate percentiles: 0.8 % of the value, or the ranks around.
fn is_near(found: &Value, expected: &Value, sorted: &[u64]) -> bool {
    let (Some(found), Some(expected)) = (found.as_u64(), expected.as_u64()) else { return false };
    if found.abs_diff(expected) * 128 <= expected {
        return true;
    }
    let rank = sorted.iter().position(|value| *value == expected).unwrap_or(0);
    let last_rank = sorted.iter().rposition(|value| *value == expected).unwrap_or(0);
    let slack = 2.max(sorted.len() / 100);
    let low = sorted[rank.saturating_sub(slack)];
    let high = sorted[(last_rank + slack).min(sorted.len() - 1)];
    // A digest has values as numbers of 24 bits.
    (low - low / 10_000_000..=high + high / 10_000_000).contains(&found)
}

#[tokio::test]
async fn every_metric_dimension_and_granularity() {
    every_question(CASES, |store| store != ROLLED).await;
}

#[tokio::test]
async fn every_metric_dimension_and_granularity_from_hours() {
    every_question(1, |store| store == ROLLED).await;
}

async fn every_question(n_cases: usize, is_asked: fn(&str) -> bool) {
    let server = ClickHouse::start().await;
    let mut runner = TestRunner::deterministic();
    let dimensions: Vec<Vec<Dimension>> = Dimension::all()
        .chain([Dimension::Metadata("team".into())])
        .map(|dimension| vec![dimension])
        .chain([
            vec![],
            vec![Dimension::Model, Dimension::Key],
            vec![Dimension::Workspace, Dimension::Outcome, Dimension::Status],
        ])
        .collect();
    for case in 0..n_cases {
        let stores = Stores::random(&server, &mut runner, 120).await;
        for (name, granularity) in Granularity::NAMES {
            let hours = match name {
                "minute" | "5m" => 2,
                "hour" => 30,
                _ => DAYS * 24,
            };
            let (from_us, to_us) = (BEGIN_US, BEGIN_US + hours * HOUR_US);
            let rows = stores.within(from_us, to_us);
            for dimensions in &dimensions {
                let mut body = body(from_us, to_us);
                body["granularity"] = json!(name);
                body["dimensions"] = dimensions.iter().map(Dimension::name).collect();
                let groups = model::grouped(&rows, dimensions, granularity);
                for (store, reading) in stores.all.iter().filter(|(store, _)| is_asked(store)) {
                    let answer = ask(reading, &body).await;
                    check(&answer, &groups, dimensions, &format!("case {case} {store} {name}"));
                }
            }
        }
    }
}

#[tokio::test]
async fn short_and_crooked_ranges() {
    let server = ClickHouse::start().await;
    let mut runner = TestRunner::deterministic();
    let stores = Stores::random(&server, &mut runner, 150).await;
    for (from_us, to_us) in [
        (BEGIN_US + 1, BEGIN_US + 2 * HOUR_US + 17),
        (BEGIN_US + 59 * 60_000_000, BEGIN_US + 25 * HOUR_US - 3),
        (BEGIN_US - DAY_US, BEGIN_US),
    ] {
        let rows = stores.within(from_us, to_us);
        let groups = model::grouped(&rows, &[Dimension::Outcome], Granularity::Fixed(3_600));
        let mut body = body(from_us, to_us);
        body["granularity"] = json!("hour");
        body["dimensions"] = json!(["outcome"]);
        for (store, reading) in stores.all.iter().filter(|(store, _)| *store != ROLLED) {
            let answer = ask(reading, &body).await;
            assert_eq!(answer["source"], "rows");
            check(&answer, &groups, &[Dimension::Outcome], store);
        }
    }
}

/// Sums are read from hours where nobody asks for a percentile, whatever rows there are.
#[tokio::test]
async fn sums_of_a_long_range_come_from_hours() {
    let server = ClickHouse::start().await;
    let mut runner = TestRunner::deterministic();
    let stores = Stores::random(&server, &mut runner, 150).await;
    // Roll-ups know whole hours: the first and the last are in it as a whole.
    let (from_us, to_us) = (BEGIN_US + 1, BEGIN_US + 9 * DAY_US + HOUR_US - 17);
    let rows = stores.within(BEGIN_US, BEGIN_US + 9 * DAY_US + HOUR_US);
    let groups = model::grouped(&rows, &[Dimension::Model], Granularity::Fixed(86_400));
    let mut body = body(from_us, to_us);
    let sums: Vec<(&str, Metric)> =
        Metric::ALL.into_iter().filter(|(_, metric)| !metric.is_percentile()).collect();
    body["metrics"] = sums.iter().map(|(name, _)| *name).collect();
    body["granularity"] = json!("day");
    body["dimensions"] = json!(["model"]);
    let mut answers = Vec::new();
    for (store, reading) in &stores.all {
        let answer = ask(reading, &body).await;
        assert_eq!(answer["source"], "hours", "{store}");
        check_metrics(&sums, &answer, (&groups, &[Dimension::Model]), store);
        answers.push(answer);
    }
    assert!(answers.iter().all(|answer| answer["data"] == answers[0]["data"]), "{answers:?}");
}

/// Each dimension, in and out, by a value that some have and by none at all.
#[tokio::test]
async fn every_dimension_filters() {
    let server = ClickHouse::start().await;
    let mut runner = TestRunner::deterministic();
    let stores = Stores::random(&server, &mut runner, 150).await;
    let (from_us, to_us) = (BEGIN_US, BEGIN_US + DAYS * DAY_US);
    let all = stores.within(from_us, to_us);
    for dimension in Dimension::all().chain([Dimension::Metadata("team".into())]) {
        let name = dimension.name();
        let value_of = |row: &UsageRow| {
            let (_, value) = model::fields_of(row, &dimension).pop().unwrap();
            value
        };
        let known = all.iter().map(|row| value_of(row)).find(|value| !value.is_null()).unwrap();
        for values in [vec![known.clone()], vec![Value::Null], vec![known, Value::Null]] {
            for op in ["in", "not_in"] {
                let keeps = |row: &UsageRow| values.contains(&value_of(row)) == (op == "in");
                let rows: Vec<&UsageRow> = all.iter().copied().filter(|row| keeps(row)).collect();
                let groups = model::grouped(&rows, &[], Granularity::Total);
                let mut body = body(from_us, to_us);
                body["filters"] = json!([{ "dimension": name, "op": op, "values": values }]);
                for (store, reading) in &stores.all {
                    let note = format!("approximate {store} {name} {op} {values:?}");
                    let answer = ask(reading, &body).await;
                    if rows.is_empty() {
                        assert_eq!(answer["data"][0]["requests"], 0, "{note}");
                    } else {
                        check(&answer, &groups, &[], &note);
                    }
                }
            }
        }
    }
}

/// All pages of rows, each as the API shows it.
async fn paged(reading: &Reading, pairs: &[(&str, &str)]) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let pairs = pairs.chain(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
        let page = within(reading.requests(RowQuery::read(pairs).unwrap(), None)).await.unwrap();
        found.extend(page.rows);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return found;
        }
    }
}

async fn exported(reading: &Reading, pairs: &[(&str, &str)], format: Format) -> String {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let query = RowQuery::read(pairs).unwrap();
    let now_us = BEGIN_US + DAYS * DAY_US;
    let mut export = Export::new(reading.clone(), query, None, format, now_us);
    let mut text = String::new();
    while let Some(piece) = within(export.next()).await.unwrap() {
        text += &piece;
    }
    text
}

/// Every column of every row, by pages and as files.
#[tokio::test]
async fn both_stores_show_the_same_rows() {
    let server = ClickHouse::start().await;
    let mut runner = TestRunner::deterministic();
    let stores = Stores::random(&server, &mut runner, 150).await;
    let (_, sqlite) = &stores.all[0];
    let (_, clickhouse) = &stores.all[1];
    let (from, to) = (show(BEGIN_US), show(BEGIN_US + 20 * DAY_US));
    let questions: [Question<'_>; 4] = [
        (&[], |_| true),
        (&[("model", "m1"), ("model", ""), ("status", "429")], |row| {
            row.status == 429
                && row.target.as_ref().is_none_or(|target| &*target.model_alias == "m1")
        }),
        (&[("end_user", HOSTILE[0]), ("end_user", HOSTILE[3])], |row| {
            row.end_user.as_deref().is_some_and(|user| [HOSTILE[0], HOSTILE[3]].contains(&user))
        }),
        (&[("from", &from), ("to", &to), ("source_ip", "2001:db8::1")], |row| {
            (BEGIN_US..BEGIN_US + 20 * DAY_US).contains(&row.started_at_us)
                && row.source_ip.is_some_and(|ip| ip.is_ipv6())
        }),
    ];
    for (question, keeps) in questions {
        let expected = stores.rows.iter().filter(|row| keeps(row)).count();
        assert!(expected > 0, "{question:?} has no rows to find");
        let pages = [question, &[("limit", "7")]].concat();
        let rows = paged(sqlite, &pages).await;
        assert_eq!(rows.len(), expected, "{question:?}");
        assert_eq!(paged(clickhouse, &pages).await, rows, "{question:?}");
        for format in [Format::Csv, Format::Ndjson] {
            let file = exported(sqlite, question, format).await;
            assert_eq!(exported(clickhouse, question, format).await, file, "{question:?}");
        }
        let lines = exported(clickhouse, question, Format::Ndjson).await;
        let lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, rows, "{question:?}: a file has the rows of the pages");
    }
}

#[tokio::test]
async fn filters_keep_what_they_name() {
    let server = ClickHouse::start().await;
    let mut runner = TestRunner::deterministic();
    let stores = Stores::random(&server, &mut runner, 150).await;
    let (from_us, to_us) = (BEGIN_US, BEGIN_US + DAYS * DAY_US);
    let all = stores.within(from_us, to_us);
    let hostile = HOSTILE[1];
    let id = all[0].caller.environment.to_string();
    let filters: Vec<(Value, Keep)> = vec![
        (
            json!({ "dimension": "model", "values": ["m1", "m2", "none"] }),
            Box::new(|row| {
                row.target
                    .as_ref()
                    .is_some_and(|target| ["m1", "m2"].contains(&&*target.model_alias))
            }),
        ),
        (
            json!({ "dimension": "key", "op": "not_in", "values": ["k1"] }),
            Box::new(|row| row.caller.key_name.as_deref() != Some("k1")),
        ),
        (json!({ "dimension": "key", "values": [null] }), Box::new(|row| row.caller.key.is_none())),
        (
            json!({ "dimension": "target", "op": "not_in", "values": [null] }),
            Box::new(|row| row.target.is_some()),
        ),
        (
            json!({ "dimension": "error_class", "values": [null, "x"] }),
            Box::new(|row| row.error_class.is_none()),
        ),
        (
            json!({ "dimension": "status", "values": [200, "429"] }),
            Box::new(|row| [200, 429].contains(&row.status)),
        ),
        (
            json!({ "dimension": "environment", "values": [id.clone()] }),
            Box::new(move |row| row.caller.environment.to_string() == id),
        ),
        (
            json!({ "dimension": "end_user", "values": [hostile] }),
            Box::new(move |row| row.end_user.as_deref() == Some(hostile)),
        ),
        (
            json!({ "dimension": "source_ip", "values": ["10.0.0.1", null] }),
            Box::new(|row| row.source_ip.is_none_or(|ip| ip.to_string() == "10.0.0.1")),
        ),
        (
            json!({ "dimension": "metadata.team", "op": "not_in", "values": [HOSTILE[2]] }),
            Box::new(|row| row.metadata.iter().all(|(_, value)| **value != *HOSTILE[2])),
        ),
    ];
    for (filter, keep) in filters {
        let rows: Vec<&UsageRow> = all.iter().copied().filter(|row| keep(row)).collect();
        let groups = model::grouped(&rows, &[Dimension::Outcome], Granularity::Total);
        let mut body = body(from_us, to_us);
        body["dimensions"] = json!(["outcome"]);
        body["filters"] = json!([filter]);
        for (store, reading) in &stores.all {
            let note = format!("approximate {store} {filter}");
            check(&ask(reading, &body).await, &groups, &[Dimension::Outcome], &note);
        }
    }
}

#[tokio::test]
async fn order_and_limit_choose_groups() {
    let server = ClickHouse::start().await;
    let mut runner = TestRunner::deterministic();
    let stores = Stores::random(&server, &mut runner, 150).await;
    for (_, reading) in &stores.all {
        let mut body = body(BEGIN_US, BEGIN_US + 3 * HOUR_US);
        body["metrics"] = json!(["requests", "cost_usd", "latency_p95"]);
        body["dimensions"] = json!(["end_user", "key"]);
        body["order"] = json!({ "by": "cost_usd", "direction": "desc" });
        let all = ask(reading, &body).await;
        body["limit"] = json!(3);
        let top = ask(reading, &body).await;
        assert_eq!(top["data"].as_array().unwrap()[..], all["data"].as_array().unwrap()[..3]);
        assert_eq!((&top["is_truncated"], &top["groups"]), (&json!(true), &all["groups"]));
        let costs: Vec<f64> = all["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["cost_usd"].as_f64().unwrap())
            .collect();
        assert!(costs.is_sorted_by(|one, other| one >= other), "{costs:?}");

        // The buckets are those of the groups that the whole range chose.
        body["granularity"] = json!("hour");
        let buckets = ask(reading, &body).await;
        let buckets = buckets["data"].as_array().unwrap();
        assert_eq!(buckets.len(), 3 * 3);
        for (rows, group) in buckets.chunks(3).zip(top["data"].as_array().unwrap()) {
            let sum: u64 = rows.iter().map(|row| row["requests"].as_u64().unwrap()).sum();
            assert_eq!((json!(sum), &rows[0]["key"]), (group["requests"].clone(), &group["key"]));
        }
    }
}

#[tokio::test]
async fn nothing_is_told_of_workspaces_that_are_not_visible() {
    let server = ClickHouse::start().await;
    let mut runner = TestRunner::deterministic();
    let stores = Stores::random(&server, &mut runner, 100).await;
    let (from_us, to_us) = (BEGIN_US, BEGIN_US + DAYS * DAY_US);
    let id = stores.rows[0].caller.workspace.0;
    let here = stores.rows[0].caller.environment.0;
    let count =
        |is_seen: &dyn Fn(&UsageRow) -> bool| stores.rows.iter().filter(|row| is_seen(row)).count();
    let mine = count(&|row| row.caller.workspace.0 == id);
    let is_here = |row: &UsageRow| row.caller.environment.0 == here;
    let other = stores.rows.iter().map(|row| row.caller.workspace.0).find(|other| *other != id);
    let other = Extent::whole(other.unwrap());
    let narrow = Extent { workspace: id, environments: Some(vec![here]) };
    let mine_here = count(&|row| row.caller.workspace.0 == id && is_here(row));
    let others = count(&|row| row.caller.workspace.0 == other.workspace);
    for (_, reading) in &stores.all {
        for (visible, n) in [
            (vec![Extent::whole(id)], mine),
            (vec![narrow.clone()], mine_here),
            (vec![narrow.clone(), other.clone()], mine_here + others),
            (vec![Extent { workspace: other.workspace, ..narrow.clone() }], 0),
            (vec![Extent { workspace: id, environments: Some(Vec::new()) }], 0),
            (vec![], 0),
        ] {
            let query = Query::read(&body(from_us, to_us)).unwrap();
            let answer = within(reading.usage(query, Some(visible.clone()), to_us)).await.unwrap();
            assert_eq!(answer["data"][0]["requests"], json!(n), "{visible:?}");
            let query =
                RowQuery::read([("limit".to_owned(), "1000".to_owned())].into_iter()).unwrap();
            let page = within(reading.requests(query, Some(visible))).await.unwrap();
            assert_eq!(page.rows.len(), n);
        }
    }
}

#[tokio::test]
async fn hostile_values_stay_values() {
    let server = ClickHouse::start().await;
    let mut runner = TestRunner::deterministic();
    let stores = Stores::random(&server, &mut runner, 60).await;
    let n_all = stores.rows.len();
    for (store, reading) in stores.all.iter().filter(|(store, _)| *store != ROLLED) {
        for n in 0..100 {
            let text = hostile(n);
            for dimension in Dimension::all().chain([Dimension::Metadata("team".into())]) {
                let mut body = body(BEGIN_US, BEGIN_US + DAYS * DAY_US);
                body["metrics"] = json!(["requests"]);
                body["filters"] = json!([{ "dimension": dimension.name(), "values": [text] }]);
                let Ok(query) = Query::read(&body) else { continue };
                let answer = within(reading.usage(query, None, BEGIN_US)).await;
                let answer = answer.unwrap_or_else(|error| panic!("{store} {text}: {error}"));
                let expected = model::grouped(
                    &stores.within(0, i64::MAX),
                    std::slice::from_ref(&dimension),
                    Granularity::Total,
                );
                let key = json!({ dimension.name(): text }).to_string();
                let expected = expected.get(&key).map_or(0, Vec::len);
                assert_eq!(
                    answer["data"][0]["requests"],
                    json!(expected),
                    "{store} {dimension:?} {text}"
                );
            }
        }
        let answer = ask(reading, &body(BEGIN_US, BEGIN_US + DAYS * DAY_US)).await;
        assert_eq!(answer["data"][0]["requests"], json!(n_all), "{store}: rows are gone");
    }
}

/// A hundred texts that would do harm inside SQL.
fn hostile(n: usize) -> String {
    const PARTS: [&str; 10] = [
        "' OR '1'='1",
        "'; DROP TABLE usage; DROP TABLE request_rows; --",
        "\") OR 1=1 --",
        "\\' UNION SELECT * FROM callers --",
        "{p1:String}",
        "?1 OR 1",
        "$1\u{1}\n\t\\N",
        "*/ OR /*",
        "%' OR r.key LIKE '%",
        "😀' || (SELECT sql FROM sqlite_master) || '",
    ];
    HOSTILE.get(n).map_or_else(
        || format!("{}{}", PARTS[n % 10], PARTS[n / 10].trim_start_matches('\'')),
        |text| (*text).to_owned(),
    )
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_overlap() {
    let server = ClickHouse::start().await;
    let mut runner = TestRunner::deterministic();
    let mut rows = rows::rows(60).new_tree(&mut runner).unwrap().current();
    // Many at one time: the id decides.
    rows.iter_mut().take(20).for_each(|row| row.started_at_us = BEGIN_US);
    let stores = Stores::with(&server, rows).await;
    for (store, reading) in &stores.all {
        let mut cursor = None;
        let mut found = Vec::new();
        loop {
            let pairs = [("limit".to_owned(), "7".to_owned())].into_iter();
            let pairs = pairs.chain(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
            let page =
                within(reading.requests(RowQuery::read(pairs).unwrap(), None)).await.unwrap();
            assert!(page.rows.len() <= 7);
            found.extend(page.rows);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let mut expected: Vec<&UsageRow> = stores.rows.iter().collect();
        expected.sort_by_key(|row| (-row.started_at_us, std::cmp::Reverse(row.request_id)));
        let ids = |id: &Value| id["request_id"].as_str().unwrap().to_owned();
        let found_ids: Vec<String> = found.iter().map(ids).collect();
        let expected_ids: Vec<String> =
            expected.iter().map(|row| row.request_id.to_string()).collect();
        assert_eq!(found_ids, expected_ids, "{store}");
        for (found, row) in found.iter().zip(expected) {
            assert_eq!(found["started_at"], json!(show(row.started_at_us)));
            assert_eq!(found["end_user"], json!(row.end_user));
            assert_eq!(found["source_ip"], json!(row.source_ip.map(|ip| ip.to_string())));
            assert_eq!(found["attempts"].as_array().unwrap().len(), row.attempts.len());
            assert_eq!(found["stream"], json!(row.is_stream));
        }
    }
}

#[tokio::test]
async fn too_large_an_answer_is_refused_with_its_field() {
    let server = ClickHouse::start().await;
    let stores = Stores::random(&server, &mut TestRunner::deterministic(), 200).await;
    let (_, reading) = &stores.all[0];
    let mut body = body(BEGIN_US, BEGIN_US + 7 * DAY_US);
    body["granularity"] = json!("minute");
    body["dimensions"] = json!(["key", "model", "outcome", "status"]);
    let query = Query::read(&body).unwrap();
    let error = within(reading.usage(query, None, BEGIN_US)).await.unwrap_err();
    assert!(matches!(&error, ReadError::Query(error) if error.field == "limit"), "{error}");
}
