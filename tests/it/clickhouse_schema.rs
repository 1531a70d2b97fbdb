//! The schema of `conf/clickhouse` on a real server: made once, by one process, and told apart from
//! what another release made; what it stores once however often a batch comes; who sees what.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sluice::usage::schema::{self, Applied, SchemaError, migrate};

use crate::binary::sluice;
use crate::clickhouse_rows::{prepare, rows_sql, target};
use crate::clickhouse_server::{ClickHouse, Seat};
use crate::client::within;

const FILES: [&str; 5] = [
    "0001_usage.sql",
    "0002_refused_keys.sql",
    "0003_payloads.sql",
    "0004_rollups.sql",
    "0005_days.sql",
];

/// All that counts requests, and how.
const COUNTS: [(&str, &str); 7] = [
    ("usage", "count()"),
    ("usage_minute", "sum(requests)"),
    ("usage_hour", "sum(requests)"),
    ("usage_workspace_hour", "sum(requests)"),
    ("usage_day", "sum(requests)"),
    ("usage_workspace_day", "sum(requests)"),
    ("usage_key_day", "sum(requests)"),
];

/// All that holds digests of all requests.
const DIGESTS: [&str; 7] = [
    "usage_minute",
    "usage_hour",
    "usage_workspace_hour",
    "usage_day_digest",
    "usage_workspace_day_digest WHERE level = 'workspace'",
    "usage_workspace_day_digest WHERE level = 'environment'",
    "usage_workspace_day_digest WHERE level = 'deployment'",
];

#[tokio::test]
async fn first_call_applies_all_files_and_the_second_finds_them() {
    let server = ClickHouse::start().await;
    let (client, options) = target(&server, "fresh `d`");

    let first = within(migrate(&client, &options)).await.unwrap();
    assert_eq!(first, Applied { files: FILES.to_vec(), ..Applied::default() });
    let second = within(migrate(&client, &options)).await.unwrap();
    assert_eq!(second, Applied { n_before: FILES.len(), ..Applied::default() });

    let tables = server.rows("SELECT name FROM system.tables WHERE database = 'fresh `d`'").await;
    assert!(tables.contains(&json!({ "name": "usage" })), "{tables:?}");
    assert!(!tables.iter().any(|table| table["name"].as_str().unwrap().contains("lock")));
    let row =
        &server.rows("SELECT * FROM `fresh \\`d\\``.schema_migrations ORDER BY version").await[0];
    assert_eq!((&row["version"], &row["name"]), (&json!(1), &json!(FILES[0])));
    assert!(row["applied_by"].as_str().unwrap().starts_with("sluice "), "{row}");
}

#[tokio::test]
async fn of_many_processes_at_once_one_does_the_work() {
    let server = ClickHouse::start().await;
    let (client, options) = target(&server, "crowd");
    let mut calls = Vec::new();
    for _ in 0..6 {
        let (client, options) = (client.clone(), options.clone());
        calls.push(tokio::spawn(async move { Box::pin(migrate(&client, &options)).await }));
    }
    let mut n_applied = 0;
    for call in calls {
        let applied = within(call).await.unwrap().unwrap();
        assert!([0, FILES.len()].contains(&applied.files.len()), "{applied:?}");
        n_applied += applied.files.len();
    }
    assert_eq!(n_applied, FILES.len());
    assert_eq!(server.value("SELECT count() FROM crowd.schema_migrations").await, FILES.len());
    assert_eq!(locks(&server, "crowd").await, 0);
}

#[tokio::test]
async fn lock_of_another_holds_until_it_runs_out() {
    let server = ClickHouse::start().await;
    let (client, mut options) = target(&server, "d");
    options.lock_wait = Duration::ZERO;
    server.database("d").await;
    let lock = "CREATE TABLE d.schema_lock_x (nothing UInt8) ENGINE = Null COMMENT 'somebody'";
    server.execute(lock).await;

    let error = within(migrate(&client, &options)).await.unwrap_err();
    assert!(matches!(&error, SchemaError::Locked(holder) if &**holder == "somebody"), "{error}");
    assert!(error.is_temporary());
    assert_eq!(locks(&server, "d").await, 1, "it took its own away, and left the other's");

    // Its holder died a while ago.
    let disk = server.value("SELECT path FROM system.disks WHERE name = 'default'").await;
    let query = "SELECT metadata_path FROM system.tables WHERE name = 'schema_lock_x'";
    let path = server.value(query).await;
    let path = std::path::Path::new(disk.as_str().unwrap()).join(path.as_str().unwrap());
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let applied = within(migrate(&client, &options)).await.unwrap();
    assert_eq!(applied.files, FILES);
    assert_eq!(locks(&server, "d").await, 0);
}

#[tokio::test]
async fn what_was_cut_off_is_done_again() {
    let server = ClickHouse::start().await;
    // Each kill comes later in the course of the migration.
    for n_passed in [3, 9, 15, 24] {
        let database = format!("d{n_passed}");
        let (client, options) = target(&server, &database);
        server.faults(json!([{ "kind": "kill", "on": "any", "after": n_passed }])).await;
        let error = within(migrate(&client, &options)).await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        server.kill(0).await;

        let applied = within(migrate(&client, &options)).await.unwrap();
        assert_eq!(applied.files.len() + applied.n_before, FILES.len());
        assert_eq!(locks(&server, &database).await, 0);
    }
}

#[tokio::test]
async fn file_applied_from_another_text_is_an_error_and_a_newer_release_is_none() {
    let server = ClickHouse::start().await;
    let (client, options) = target(&server, "d");
    within(migrate(&client, &options)).await.unwrap();
    let note = |version: u32, checksum: &str| {
        format!(
            "INSERT INTO d.schema_migrations (version, name, checksum, applied_at) \
             VALUES ({version}, 'x', '{checksum}', now64(3) + 60)"
        )
    };

    server.execute(&note(77, "of a newer release")).await;
    assert_eq!(within(migrate(&client, &options)).await.unwrap().newer, [77]);

    server.execute(&note(2, "cafe")).await;
    let error = within(migrate(&client, &options)).await.unwrap_err();
    assert!(!error.is_temporary());
    let text = error.to_string();
    assert!(text.contains("0002_refused_keys.sql") && text.contains("cafe"), "{text}");
}

#[tokio::test]
async fn server_that_is_away_is_told_from_one_that_refuses() {
    let server = ClickHouse::start().await;
    let (client, options) = target(&server, "d");
    server.faults(json!([{ "kind": "refuse" }])).await;
    let error = within(migrate(&client, &options)).await.unwrap_err();
    assert!(matches!(error, SchemaError::Unavailable(_)), "{error}");

    server.faults(json!([])).await;
    let stranger = client.with_user("nobody").with_password("hunter2");
    let error = within(migrate(&stranger, &options)).await.unwrap_err();
    assert!(matches!(error, SchemaError::Refused { .. }) && !error.is_temporary(), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn command_migrates_and_prints() {
    let server = ClickHouse::start().await;
    let dir = tempfile::tempdir().unwrap();
    let url = server.url("gate");
    let config = |fields: &str| {
        let text = format!("[usage]\nurl = \"{url}\"\n{fields}");
        std::fs::write(dir.path().join("sluice.toml"), text).unwrap();
    };
    let run = |arguments: &[&str]| {
        let arguments = [&["migrate", "--config", "sluice.toml"], arguments].concat();
        let output = sluice(dir.path(), &arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };

    config("");
    let (code, out, err) = run(&[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("applied 0005_days.sql\ngate: up to date, 5 files, 5 applied"), "{out}");
    let (code, out, _) = run(&[]);
    assert_eq!((code, out.as_str()), (Some(0), "gate: up to date, 5 files, 0 applied now\n"));

    config("cluster = \"prod\"\n");
    let (code, out, _) = run(&["--print"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("CREATE TABLE IF NOT EXISTS `gate`.usage ON CLUSTER `prod` AS"), "{out}");

    server.faults(json!([{ "kind": "refuse" }])).await;
    let (code, out, err) = run(&[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("ClickHouse does not answer"), "{err}");
}

#[tokio::test]
async fn batch_that_comes_three_times_is_everywhere_once() {
    let server = ClickHouse::start().await;
    prepare(&server, "d").await;
    for (token, first) in [("a", 0), ("a", 0), ("b", 5_000), ("a", 0), ("b", 5_000)] {
        let rows = rows_sql("d", 5_000, first, 3 * 86_400);
        server.execute(&format!("{rows} SETTINGS insert_deduplication_token = '{token}'")).await;
        let refused = format!(
            "INSERT INTO d.refused_keys SETTINGS insert_deduplication_token = '{token}' \
             SELECT toStartOfHour(now()) + number % 2 * 60, toIPv6('::1'), 'n', 1 FROM numbers(10)"
        );
        server.execute(&refused).await;
    }

    for (table, count) in COUNTS {
        let stored = server.value(&format!("SELECT {count} FROM d.{table}")).await;
        assert_eq!(stored, 10_000, "{table}");
    }
    assert_eq!(server.value("SELECT sum(count) FROM d.refused_keys").await, 20);
    assert_eq!(server.value("SELECT count() = uniqExact(request_id) FROM d.usage").await, 1);
}

/// A view that fails after the rows are in fails the insert; the same batch again fills what is
/// missing and doubles nothing.
#[tokio::test]
async fn batch_whose_roll_up_failed_is_completed_by_the_next_try() {
    let server = ClickHouse::start().await;
    prepare(&server, "d").await;
    let batch =
        format!("{} SETTINGS insert_deduplication_token = 'a'", rows_sql("d", 5_000, 0, 86_400));
    server.execute("ALTER TABLE d.usage_day ADD CONSTRAINT broken CHECK requests = 0").await;
    let answer = server.ask(OWNER, &batch).await;
    assert!(answer.text().contains("VIOLATED_CONSTRAINT"), "{}", answer.text());

    server.execute("ALTER TABLE d.usage_day DROP CONSTRAINT broken").await;
    for _ in 0..2 {
        server.execute(&batch).await;
        for (table, count) in COUNTS {
            let stored = server.value(&format!("SELECT {count} FROM d.{table}")).await;
            assert_eq!(stored, 5_000, "{table}");
        }
    }
}

#[tokio::test]
async fn roll_ups_say_what_the_rows_say() {
    let server = ClickHouse::start().await;
    prepare(&server, "d").await;
    for part in 0..4 {
        server.execute(&rows_sql("d", 5_000, part * 5_000, 2 * 86_400)).await;
    }
    // Their parts merge at any time; both before and after they must say the same.
    for _ in 0..2 {
        let sums = [
            ("failovers", "countIf(length(arrayDistinct(attempts.target_id)) > 1)"),
            ("attempts", "sum(length(attempts.target_id))"),
            ("cache_hits", "countIf(cache = 'hit')"),
            ("input_cache_read", "sum(input_cache_read)"),
            ("output", "sum(output)"),
            ("reasoning", "sum(reasoning)"),
            ("cost_nanousd", "sum(cost_nanousd)"),
            ("saved_nanousd", "sum(saved_nanousd)"),
            ("total_us", "sum(total_us)"),
            ("first_tokens", "count(first_token_us)"),
            ("first_token_us", "sum(first_token_us)"),
            ("priced", "countIf(priced)"),
        ];
        for (column, of_rows) in sums {
            let raw = server.value(&format!("SELECT {of_rows} FROM d.usage")).await;
            assert!(raw.as_u64().unwrap() > 0, "{column}");
            for table in roll_ups_with(&server, column).await {
                let rolled = server.value(&format!("SELECT sum({column}) FROM d.{table}")).await;
                assert_eq!(rolled, raw, "{column} of {table}");
            }
        }
        // Where a roll-up has the dimension, each of its values.
        let errors = |table: &str, count: &str| {
            format!(
                "SELECT workspace, outcome, error_class, {count} AS n FROM d.{table} GROUP BY ALL \
                 ORDER BY ALL"
            )
        };
        let raw = server.rows(&errors("usage", "count()")).await;
        assert!(raw.len() > 500, "{}", raw.len());
        assert_eq!(server.rows(&errors("usage_workspace_hour", "sum(requests)")).await, raw);
        let of_keys = |table: &str, errors: &str| {
            format!(
                "SELECT workspace, environment, key, {errors} AS n FROM d.{table} GROUP BY ALL \
                 ORDER BY ALL"
            )
        };
        let raw = "countIf(outcome NOT IN ('success', 'cache_hit', 'client_closed'))";
        let raw = server.rows(&of_keys("usage", raw)).await;
        assert_eq!(server.rows(&of_keys("usage_key_day", "sum(errors)")).await, raw);
        each_level_has_all_requests(&server).await;
        quantiles_are_near(&server).await;
        for (table, _) in &COUNTS[1..] {
            server.execute(&format!("OPTIMIZE TABLE d.{table} FINAL")).await;
        }
        for table in ["usage_day_digest", "usage_workspace_day_digest"] {
            server.execute(&format!("OPTIMIZE TABLE d.{table} FINAL")).await;
        }
    }
}

/// The digests of days by workspace have sums as well.
async fn each_level_has_all_requests(server: &ClickHouse) {
    let sums = |requests: &str, errors: &str| {
        format!("[{requests}, {errors}, sum(ifNull(cost_nanousd, 0))] AS sums")
    };
    let errors = "countIf(outcome NOT IN ('success', 'cache_hit', 'client_closed'))";
    let raw = format!("SELECT {} FROM d.usage", sums("count()", errors));
    let raw = server.value(&raw).await;
    for (level, names) in [
        ("workspace", "environment = '' AND deployment = ''"),
        ("environment", "environment != '' AND deployment = ''"),
        ("deployment", "environment != '' AND deployment != ''"),
    ] {
        let rolled = format!(
            "SELECT {} FROM d.usage_workspace_day_digest WHERE level = '{level}' AND {names}",
            sums("sum(requests)", "sum(errors)")
        );
        assert_eq!(server.value(&rolled).await, raw, "{level}");
    }
}

/// The roll-ups of `COUNTS` that know a column: days know no times.
async fn roll_ups_with(server: &ClickHouse, column: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (table, _) in &COUNTS[1..] {
        let has = format!(
            "SELECT count() FROM system.columns \
             WHERE database = 'd' AND table = '{table}' AND name = '{column}'"
        );
        if server.value(&has).await == 1 {
            found.push(*table);
        }
    }
    assert!(found.len() >= 4, "{column}: {found:?}");
    found
}

/// A digest may be off by one rank in a hundred.
async fn quantiles_are_near(server: &ClickHouse) {
    for (digest, column) in [
        ("latency_digest", "total_us"),
        ("first_token_digest", "first_token_us"),
        ("overhead_digest", "overhead_us"),
    ] {
        let has = |table: &&&str| {
            digest != "overhead_digest" || !table.starts_with("usage_workspace_day_digest")
        };
        for table in DIGESTS.iter().filter(has) {
            let levels = "0.5, 0.9, 0.95, 0.99";
            let rank = |n: usize| format!("countIf({column} <= q[{n}]) / count({column})");
            let ranks = format!(
                "WITH (SELECT quantilesTDigestMerge({levels})({digest}) FROM d.{table}) AS q \
                 SELECT [{}, {}, {}, {}] AS ranks FROM d.usage",
                rank(1),
                rank(2),
                rank(3),
                rank(4)
            );
            let ranks = server.value(&ranks).await;
            for (rank, wanted) in ranks.as_array().unwrap().iter().zip([0.5, 0.9, 0.95, 0.99]) {
                let off = (rank.as_f64().unwrap() - wanted).abs();
                assert!(off < 0.01, "{digest} of {table}: {ranks}");
            }
        }
    }
}

#[tokio::test]
async fn users_of_the_example_see_what_they_may() {
    let password = |text: &str| {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let mut users = include_str!("../../conf/clickhouse/access/users.xml").to_owned();
    for user in ["gateway", "grafana", "acme"] {
        users = users.replacen(&"0".repeat(64), &password(user), 1);
    }
    let server = ClickHouse::with_users(&users).await;
    prepare(&server, "sluice").await;
    server.execute(&rows_sql("sluice", 2_000, 0, 86_400)).await;
    let acme = "00000000-0000-7000-8000-000000000001";
    let rows = rows_sql("sluice", 100, 9_000, 3_600).replacen(
        "reinterpretAsUUID(sipHash128('workspace', w))",
        &format!("toUUID('{acme}')"),
        1,
    );
    server.execute(&rows).await;

    let seat = |user, password| Seat { server: 0, user, password };
    let count = async |user: Seat<'_>, table: &str, count: &str| {
        server.rows_at(user, &format!("SELECT {count} AS n FROM sluice.{table}")).await[0]["n"]
            .clone()
    };
    let (workspace, grafana) = (seat("acme", "acme"), seat("sluice_grafana", "grafana"));
    for (table, n) in
        COUNTS.into_iter().filter(|(t, _)| !["usage_minute", "usage_hour"].contains(t))
    {
        assert_eq!(count(workspace, table, n).await, 100, "{table}");
        assert_eq!(count(grafana, table, n).await, 2_100, "{table}");
    }
    let days = "uniqExact(workspace_id)";
    assert_eq!(count(workspace, "usage_workspace_day_digest", days).await, 1);
    assert!(count(grafana, "usage_workspace_day_digest", days).await.as_u64() > Some(1));
    // Neither a condition nor another name of the table leads past the filter.
    let merged = "SELECT count() AS n FROM merge('sluice', '^usage(_minute)?$')";
    assert_eq!(server.rows_at(workspace, merged).await, [json!({ "n": 100 })]);
    let others =
        format!("SELECT count() AS n FROM sluice.usage WHERE workspace_id != '{acme}' OR 1");
    assert_eq!(server.rows_at(workspace, &others).await, [json!({ "n": 100 })]);
    for query in [
        "SELECT count() FROM sluice.usage_minute",
        "SELECT count() FROM sluice.usage_hour",
        "SELECT count() FROM sluice.usage_day_digest",
        "SELECT count() FROM sluice.payloads",
        "SELECT count() FROM sluice.refused_keys",
        "SELECT count() FROM sluice.schema_migrations",
        "SELECT count() FROM sluice.usage_day_view",
        "INSERT INTO sluice.usage (retention_days) VALUES (1)",
        "DROP TABLE sluice.usage",
        "SET max_execution_time = 0",
    ] {
        let answer = server.ask(workspace, query).await;
        let is_refused =
            ["ACCESS_DENIED", "READONLY"].iter().any(|word| answer.text().contains(word));
        assert!(is_refused, "{query}: {}", answer.text());
    }
    assert!(server.ask(grafana, "DROP TABLE sluice.usage").await.text().contains("ACCESS_DENIED"));

    // The gateway's own user writes, views included, and finds the schema complete.
    let gateway = seat("sluice_gateway", "gateway");
    server.rows_at(gateway, &rows_sql("sluice", 10, 20_000, 60)).await;
    assert_eq!(count(gateway, "usage_hour", "sum(requests)").await, 2_110);
    assert!(server.ask(gateway, "DROP TABLE sluice.usage").await.text().contains("ACCESS_DENIED"));
    let (client, options) = target(&server, "sluice");
    let client = client.with_user("sluice_gateway").with_password("gateway");
    assert_eq!(within(migrate(&client, &options)).await.unwrap().files, Vec::<&str>::new());
}

#[tokio::test]
async fn example_of_access_in_sql_is_sql() {
    let server = ClickHouse::start().await;
    let text = include_str!("../../conf/clickhouse/access/access.sql");
    let statements: Vec<&str> = text.split(";\n").filter(|part| part.contains(' ')).collect();
    assert_eq!(statements.len(), 17);
    for statement in statements {
        server.execute(&format!("EXPLAIN AST {statement}")).await;
    }
}

#[tokio::test]
async fn statements_of_a_cluster_are_sql() {
    let server = ClickHouse::start().await;
    for (file, statement) in schema::script("gate", Some("prod")) {
        let answer = server.ask(OWNER, &format!("EXPLAIN AST {statement}")).await;
        assert_eq!(answer.status, 200, "{file}: {statement}\n{}", answer.text());
    }
}

/// The tables of a cluster on two servers, each with its shard: the engine here has no Keeper, so
/// the statements run on each server, and the replicated engines are their plain ones.
#[tokio::test]
async fn batch_for_a_cluster_is_split_by_workspace_and_stored_once() {
    let servers = ClickHouse::cluster(2).await;
    let seats = [0, 1].map(|server| Seat { server, ..OWNER });
    for (_, statement) in schema::script("d", Some("test")) {
        for seat in seats {
            servers.rows_at(seat, &without_keeper(&statement)).await;
        }
    }
    let rows = rows_sql("d", 5_000, 0, 86_400);
    for _ in 0..3 {
        servers
            .execute(&format!(
                "{rows} SETTINGS insert_deduplication_token = 'a', distributed_foreground_insert = 1"
            ))
            .await;
    }

    for (table, count) in COUNTS {
        for seat in seats {
            let all = format!("SELECT {count} AS n FROM d.{table}");
            assert_eq!(servers.rows_at(seat, &all).await, [json!({ "n": 5_000 })], "{table}");
        }
    }
    let mut workspaces = Vec::new();
    for seat in seats {
        let query = "SELECT DISTINCT workspace FROM d.usage_local ORDER BY workspace";
        workspaces.push(servers.rows_at(seat, query).await);
    }
    assert!(workspaces.iter().all(|of_shard| of_shard.len() > 20), "both shards have some");
    assert!(!workspaces[0].iter().any(|workspace| workspaces[1].contains(workspace)));
}

/// The first server's own user.
const OWNER: Seat<'_> = Seat { server: 0, user: "default", password: "" };

async fn locks(server: &ClickHouse, database: &str) -> Value {
    let query = "SELECT count() FROM system.tables WHERE name LIKE 'schema_lock_%' AND database = ";
    server.value(&format!("{query}'{database}'")).await
}

fn without_keeper(statement: &str) -> String {
    let mut text = statement.replace(" ON CLUSTER `test`", "");
    if let Some(at) = text.find("ENGINE = Replicated") {
        let arguments = at + text[at..].find('(').unwrap();
        let end = arguments + text[arguments..].find(')').unwrap() + 1;
        text.replace_range(arguments..end, "");
        text = text.replace("ENGINE = Replicated", "ENGINE = ");
    }
    text.replace(
        "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800",
        "non_replicated_deduplication_window = 10000",
    )
}
