//! The dashboards of `conf/grafana` on a real server: every query, with variables and macros
//! expanded as Grafana and the plugin of its data source do.

use std::process::Command;

use crate::clickhouse_rows::{prepare, rows_sql};
use crate::clickhouse_server::ClickHouse;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

#[tokio::test]
async fn dashboards_draw_a_few_hours() {
    dashboards_draw(6 * HOUR).await;
}

#[tokio::test]
async fn dashboards_draw_two_days() {
    dashboards_draw(2 * DAY).await;
}

#[tokio::test]
async fn dashboards_draw_a_month() {
    dashboards_draw(30 * DAY).await;
}

async fn dashboards_draw(seconds: u64) {
    let server = ClickHouse::start().await;
    prepare(&server, "d").await;
    server.execute(&rows_sql("d", 12_000, 0, 35 * DAY)).await;
    server.execute(&rows_sql("d", 4_000, 1_000_000, 5 * HOUR)).await;
    server.execute("INSERT INTO d.refused_keys VALUES (now() - 600, '::1', 'n', 3)").await;

    let url = server.url("d");
    let url = url.replace("default:@", "").replace("/d", "");
    let now = sluice::clock::Clock::default().unix_micros() / 1_000_000;
    let mut command = Command::new("python3");
    command.arg("tests/clickhouse/check_dashboards.py").args([&url, "d", &now.to_string()]);
    command.arg(seconds.to_string());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    assert_eq!(said.matches(" 0 failed").count(), 5, "five dashboards: {said}");
}

#[test]
fn dashboards_are_what_their_script_writes() {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("python3").arg("conf/grafana/build.py").arg(dir.path()).status();
    assert!(status.unwrap().success());
    let mut n_files = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let kept = std::path::Path::new("conf/grafana/dashboards").join(entry.file_name());
        let (made, kept) = (std::fs::read(entry.path()).unwrap(), std::fs::read(kept).unwrap());
        assert!(made == kept, "run conf/grafana/build.py: {:?} differs", entry.file_name());
        n_files += 1;
    }
    assert_eq!((n_files, std::fs::read_dir("conf/grafana/dashboards").unwrap().count()), (5, 5));
}
