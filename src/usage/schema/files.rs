//! The files of `conf/clickhouse`: embedded, numbered, and templates.
//!
//! | placeholder | alone | on a cluster |
//! |---|---|---|
//! | `{db}` | the database, quoted | the same |
//! | `{local}` | nothing | `_local` |
//! | `{on_cluster}` | nothing | `ON CLUSTER` and its name |
//! | `{cluster}` | – | its name, as text |
//! | `{engine:X}` | `X` | `ReplicatedX`, a table for each shard |
//! | `{everywhere:X}` | `X` | `ReplicatedX`, one table on all hosts |
//! | `{window}` | the setting that remembers the tokens of batches | the same of replicated tables |
//!
//! A statement after the line `-- cluster only` is left out alone. `{shard}` and the like in what replaces a
//! placeholder are macros of the server.

/// One file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

/// In their order; the first notes the others.
pub(super) const FILES: [File; 6] = [
    file(
        "0000_schema_migrations.sql",
        include_str!("../../../conf/clickhouse/0000_schema_migrations.sql"),
    ),
    file("0001_usage.sql", include_str!("../../../conf/clickhouse/0001_usage.sql")),
    file("0002_refused_keys.sql", include_str!("../../../conf/clickhouse/0002_refused_keys.sql")),
    file("0003_payloads.sql", include_str!("../../../conf/clickhouse/0003_payloads.sql")),
    file("0004_rollups.sql", include_str!("../../../conf/clickhouse/0004_rollups.sql")),
    file("0005_days.sql", include_str!("../../../conf/clickhouse/0005_days.sql")),
];

const fn file(name: &'static str, text: &'static str) -> File {
    File { name, text }
}

/// Batches that are remembered, so that one that comes again is known: at one in a second, hours.
const ALONE_WINDOW: &str = "non_replicated_deduplication_window = 10000";
const CLUSTER_WINDOW: &str =
    "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800";

/// What the placeholders stand for.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) db: String,
    pub(super) on_cluster: String,
    cluster: Option<String>,
}

impl Layout {
    pub(super) fn new(database: &str, cluster: Option<&str>) -> Self {
        Self {
            db: quoted(database, '`'),
            on_cluster: cluster
                .map_or_else(String::new, |name| format!("ON CLUSTER {}", quoted(name, '`'))),
            cluster: cluster.map(|name| quoted(name, '\'')),
        }
    }

    pub(super) fn make_database(&self) -> String {
        format!("CREATE DATABASE IF NOT EXISTS {} {}", self.db, self.on_cluster)
            .trim_end()
            .to_owned()
    }

    fn fill(&self, statement: &str) -> String {
        let is_cluster = self.cluster.is_some();
        let path = |shard: &str, replica: &str| {
            is_cluster.then(|| {
                format!("('/clickhouse/tables/{shard}/{{database}}/{{table}}', '{replica}')")
            })
        };
        let by_shard = path("{shard}", "{replica}");
        let on_all = path("all", "{shard}-{replica}");
        let text = with_engine(statement, "{engine:", by_shard.as_deref());
        let text = with_engine(&text, "{everywhere:", on_all.as_deref());
        text.replace("{db}", &self.db)
            .replace(
                " {on_cluster}",
                &if is_cluster { format!(" {}", self.on_cluster) } else { String::new() },
            )
            .replace("{local}", if is_cluster { "_local" } else { "" })
            .replace("{cluster}", self.cluster.as_deref().unwrap_or_default())
            .replace("{window}", if is_cluster { CLUSTER_WINDOW } else { ALONE_WINDOW })
    }
}

/// `{engine:X}` as `X`, or as `ReplicatedX` with its arguments.
fn with_engine(text: &str, opening: &str, replicated: Option<&str>) -> String {
    let mut parts = text.split(opening);
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (engine, rest) = part.split_once('}').unwrap_or((part, ""));
        match replicated {
            None => filled += engine,
            Some(arguments) => filled += &format!("Replicated{engine}{arguments}"),
        }
        filled += rest;
    }
    filled
}

/// A name or a text as SQL has it.
pub(super) fn quoted(text: &str, quote: char) -> String {
    let escaped = text.replace('\\', "\\\\").replace(quote, &format!("\\{quote}"));
    format!("{quote}{escaped}{quote}")
}

impl File {
    pub(super) fn version(&self) -> u32 {
        self.name.split('_').next().and_then(|number| number.parse().ok()).unwrap_or_default()
    }

    /// SHA-256 of the template.
    pub(super) fn checksum(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.text.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What to send, a statement a request. A statement ends with a semicolon at the end of its line.
    pub(super) fn statements(&self, layout: &Layout) -> Vec<String> {
        let mut statements = Vec::new();
        for part in self.text.split(";\n") {
            let is_for_cluster = part.lines().any(|line| line == "-- cluster only");
            let code: Vec<&str> = part
                .lines()
                .filter(|line| !line.is_empty() && !line.trim_start().starts_with("--"))
                .collect();
            if !code.is_empty() && (!is_for_cluster || layout.cluster.is_some()) {
                statements.push(layout.fill(&code.join("\n")));
            }
        }
        statements
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn embedded_files_are_those_of_the_folder() {
        let mut names: Vec<String> = std::fs::read_dir("conf/clickhouse")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| Path::new(name).extension().is_some_and(|it| it == "sql"))
            .collect();
        names.sort();
        assert_eq!(names, FILES.map(|file| file.name));
        for (index, file) in FILES.iter().enumerate() {
            assert_eq!(file.version() as usize, index, "{}: numbers without a gap", file.name);
        }
    }

    #[test]
    fn every_statement_bears_being_run_twice_and_leaves_no_placeholder() {
        for cluster in [None, Some("prod")] {
            let layout = Layout::new("gate", cluster);
            for file in &FILES {
                let statements = file.statements(&layout);
                assert!(!statements.is_empty());
                for statement in statements {
                    assert!(statement.starts_with("CREATE "), "{}: {statement}", file.name);
                    assert!(
                        statement.contains(" IF NOT EXISTS `gate`."),
                        "{}: {statement}",
                        file.name
                    );
                    let macros = ["{shard}", "{replica}", "{database}", "{table}"];
                    let rest =
                        macros.iter().fold(statement.clone(), |text, name| text.replace(name, ""));
                    assert!(!rest.contains(['{', '}']), "{}: {rest}", file.name);
                }
            }
        }
    }

    #[test]
    fn alone_there_is_one_table_and_on_a_cluster_one_behind_another() {
        let file = File {
            name: "0007_t.sql",
            text: "-- About t.\nCREATE TABLE IF NOT EXISTS {db}.t{local} {on_cluster}\n(\n    -- inside\n    a UInt8\n)\n\
                   ENGINE = {engine:MergeTree}\nORDER BY a\nSETTINGS {window};\n\n-- cluster only\n\
                   CREATE TABLE IF NOT EXISTS {db}.t {on_cluster} AS {db}.t_local\n\
                   ENGINE = Distributed({cluster}, {db}, t_local, a);\n",
        };
        assert_eq!(file.version(), 7);
        assert_eq!(
            file.statements(&Layout::new("d`b", None)),
            [
                "CREATE TABLE IF NOT EXISTS `d\\`b`.t\n(\n    a UInt8\n)\nENGINE = MergeTree\nORDER BY a\n\
             SETTINGS non_replicated_deduplication_window = 10000"
            ]
        );
        assert_eq!(
            file.statements(&Layout::new("d", Some("c'1"))),
            [
                "CREATE TABLE IF NOT EXISTS `d`.t_local ON CLUSTER `c'1`\n(\n    a UInt8\n)\n\
             ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')\nORDER BY a\n\
             SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800",
                "CREATE TABLE IF NOT EXISTS `d`.t ON CLUSTER `c'1` AS `d`.t_local\n\
             ENGINE = Distributed('c\\'1', `d`, t_local, a)",
            ]
        );
    }
}
