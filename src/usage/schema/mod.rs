//! The schema of a `ClickHouse` store: the numbered files of `conf/clickhouse`, applied in their order.
//!
//! ```text
//! files    the files, what their placeholders stand for, their statements
//! lock     one process at a time changes the schema
//! ```
//!
//! A file is applied statement by statement, and noted with its checksum when the last is done: what was cut off
//! in between is done again, so every statement bears being run twice. A file that a release has shipped is never
//! edited; what was applied from another text is an error. Files that only a newer release knows do no harm: a file
//! takes nothing away that an older release needs.

mod files;
mod lock;

use std::time::Duration;

use clickhouse::Client;
use clickhouse::error::Error as ClientError;

use self::files::{FILES, File, Layout};
use self::lock::Lock;

/// No statement takes longer, even on a cluster with a slow host.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(4);

/// Where the schema goes, and who brings it.
#[derive(Debug, Clone)]
pub struct Options {
    pub database: String,
    /// The cluster whose hosts all get the tables, as replicas and shards.
    pub cluster: Option<String>,
    /// Shown to those who wait, and kept with what is applied.
    pub applied_by: String,
    /// How long to wait for another process that is at it.
    pub lock_wait: Duration,
}

/// What [`migrate`] found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The names of the files applied by this call.
    pub files: Vec<&'static str>,
    /// How many were there before.
    pub n_before: usize,
    /// Versions that a newer release has applied.
    pub newer: Vec<u32>,
}

/// Why the schema is not as this release wants it.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("`usage.url` {0}")]
    Address(&'static str),
    #[error("ClickHouse does not answer: {0}")]
    Unavailable(Box<ClientError>),
    #[error("ClickHouse refuses to read or lock the schema of `{database}`: {source}")]
    Refused { database: Box<str>, source: Box<ClientError> },
    #[error("statement {statement} of {file} failed: {source}")]
    Statement { file: &'static str, statement: usize, source: Box<ClientError> },
    #[error(
        "{file} was applied to this database from another text (checksum {found}, this release has {expected}); \
         use the release that applied it, or another database"
    )]
    Changed { file: &'static str, found: Box<str>, expected: Box<str> },
    #[error("{0} is changing the schema, and did not end in time; try again")]
    Locked(Box<str>),
    #[error(
        "another process took the lock of the schema away: it was held for too long; try again"
    )]
    LockLost,
}

/// Brings the database up to the schema of this release. It is made when it is not there.
pub async fn migrate(client: &Client, options: &Options) -> Result<Applied, SchemaError> {
    let schema = Schema::new(client, options);
    // Most starts find nothing to do: they need neither the lock nor the right to change tables.
    if schema.exists().await?
        && let Some(applied) = schema.found().await?.complete()
    {
        return Ok(applied);
    }
    Box::pin(schema.make_database()).await?;
    let lock = Box::pin(Lock::acquire(&schema)).await?;
    let applied = Box::pin(schema.apply(&lock)).await;
    lock.release(&schema).await;
    applied
}

/// What [`migrate`] sends for a database that is not there: (file, statement).
pub fn script(database: &str, cluster: Option<&str>) -> Vec<(&'static str, String)> {
    let layout = Layout::new(database, cluster);
    let statements = FILES.iter().flat_map(|file| {
        file.statements(&layout).into_iter().map(|statement| (file.name, statement))
    });
    let database = ("the database", layout.make_database());
    std::iter::once(database).chain(statements).collect()
}

/// As [`migrate`], on the first host that answers.
pub async fn migrate_any(clients: &[Client], options: &Options) -> Result<Applied, SchemaError> {
    let mut result = Err(SchemaError::Address("names no host"));
    for client in clients {
        result = Box::pin(migrate(client, options)).await;
        if !matches!(result, Err(SchemaError::Unavailable(_))) {
            break;
        }
    }
    result
}

/// How this process is called in the database.
pub fn this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!(
        "sluice {} on {}, process {}",
        env!("CARGO_PKG_VERSION"),
        host.trim(),
        std::process::id()
    )
}

/// One database and who speaks to it.
struct Schema<'a> {
    client: Client,
    options: &'a Options,
    layout: Layout,
}

/// The files of this release, and what the database says of them.
struct Found {
    n_before: usize,
    missing: Vec<&'static File>,
    newer: Vec<u32>,
}

impl<'a> Schema<'a> {
    fn new(client: &Client, options: &'a Options) -> Self {
        // The database of the client may not be there yet; every statement names its own.
        let client = client
            .clone()
            .with_database("system")
            .with_setting("wait_end_of_query", "1")
            .with_setting("distributed_ddl_output_mode", "throw")
            .with_setting("distributed_ddl_task_timeout", "200");
        Self { client, options, layout: Layout::new(&options.database, options.cluster.as_deref()) }
    }

    async fn exists(&self) -> Result<bool, SchemaError> {
        let query =
            "SELECT count() FROM system.tables WHERE database = ? AND name = 'schema_migrations'";
        let count = self.client.query(query).bind(&self.options.database).fetch_one::<u64>();
        Ok(self.read(count).await? != 0)
    }

    async fn make_database(&self) -> Result<(), SchemaError> {
        let there = self.client.query("SELECT count() FROM system.databases WHERE name = ?");
        let there = there.bind(&self.options.database).fetch_one::<u64>();
        // Who may only change tables needs a database that somebody else has made.
        if self.options.cluster.is_none() && self.read(there).await? != 0 {
            return Ok(());
        }
        self.execute(&self.layout.make_database()).await
    }

    /// Compares what was applied with the files of this release.
    async fn found(&self) -> Result<Found, SchemaError> {
        let query = format!(
            "SELECT version, argMax(checksum, applied_at) FROM {}.schema_migrations GROUP BY version ORDER BY version",
            self.layout.db
        );
        let rows: Vec<(u32, String)> = self.read(self.client.query_raw(&query).fetch_all()).await?;
        let mut missing = Vec::new();
        for file in FILES.iter().skip(1) {
            match rows.iter().find(|(version, _)| *version == file.version()) {
                None => missing.push(file),
                Some((_, checksum)) if *checksum == file.checksum() => {}
                Some((_, checksum)) => {
                    return Err(SchemaError::Changed {
                        file: file.name,
                        found: checksum.as_str().into(),
                        expected: file.checksum().into(),
                    });
                }
            }
        }
        let newest = FILES.last().map_or(0, File::version);
        let versions = rows.into_iter().map(|(version, _)| version);
        let (known, newer): (Vec<u32>, Vec<u32>) = versions.partition(|version| *version <= newest);
        Ok(Found { n_before: known.len(), missing, newer })
    }

    async fn apply(&self, lock: &Lock) -> Result<Applied, SchemaError> {
        self.run(&FILES[0], lock).await?;
        let found = self.found().await?;
        let mut files = Vec::new();
        for file in found.missing {
            self.run(file, lock).await?;
            let note = format!(
                "INSERT INTO {}.schema_migrations (version, name, checksum, applied_by) VALUES (?, ?, ?, ?)",
                self.layout.db
            );
            let note = self.client.query(&note).bind(file.version()).bind(file.name);
            let note = note.bind(file.checksum()).bind(&self.options.applied_by);
            self.read(note.with_setting("async_insert", "0").execute()).await?;
            tracing::info!(file = file.name, database = %self.options.database, "schema file applied");
            files.push(file.name);
        }
        Ok(Applied { files, n_before: found.n_before, newer: found.newer })
    }

    async fn run(&self, file: &'static File, lock: &Lock) -> Result<(), SchemaError> {
        for (index, statement) in file.statements(&self.layout).into_iter().enumerate() {
            lock.renew(self, file.name).await?;
            let execute = self.client.query_raw(&statement).execute();
            within(execute).await.map_err(|source| match source {
                unavailable if is_unavailable(&unavailable) => {
                    SchemaError::Unavailable(Box::new(unavailable))
                }
                source => SchemaError::Statement {
                    file: file.name,
                    statement: index + 1,
                    source: Box::new(source),
                },
            })?;
        }
        Ok(())
    }

    async fn execute(&self, statement: &str) -> Result<(), SchemaError> {
        self.read(self.client.query_raw(statement).execute()).await
    }

    async fn read<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, SchemaError> {
        within(work).await.map_err(|source| {
            if is_unavailable(&source) {
                return SchemaError::Unavailable(Box::new(source));
            }
            SchemaError::Refused {
                database: self.options.database.as_str().into(),
                source: Box::new(source),
            }
        })
    }
}

impl Found {
    /// What there is to say when nothing is missing.
    fn complete(&self) -> Option<Applied> {
        self.missing.is_empty().then(|| Applied {
            files: Vec::new(),
            n_before: self.n_before,
            newer: self.newer.clone(),
        })
    }
}

impl SchemaError {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Locked(_) | Self::LockLost)
    }
}

async fn within<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::time::timeout(STATEMENT_TIMEOUT, work).await.unwrap_or(Err(ClientError::TimedOut))
}

/// Nobody answered, or somebody who is no `ClickHouse`.
fn is_unavailable(error: &ClientError) -> bool {
    match error {
        ClientError::Network(_) | ClientError::TimedOut => true,
        ClientError::BadResponse(text) => !text.contains("Code: "),
        _ => false,
    }
}
