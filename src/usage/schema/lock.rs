//! One process at a time changes the schema.
//!
//! `ClickHouse` has no locks; what it has is that a table is made before its maker is answered, and then seen by
//! everybody. So a lock is a table of its own name, `schema_lock_…`, and it is held by the process that made it and
//! then found no other. Of two that make theirs at the same time at least the one that looks last sees the other;
//! who sees another takes its own away and tries again after a moment. A lock whose holder died is void
//! after [`LEASE`]; a living holder renews it before each statement, by the table's comment, and gives up when it
//! is gone. On a cluster the table is made on every host.

use std::time::Duration;

use super::files::quoted;
use super::{Schema, SchemaError};

/// Longer than a statement takes.
const LEASE: Duration = Duration::from_mins(5);

/// A lock that stays behind keeps others out until it runs out: a server that is away for a moment is asked again.
const RELEASE_TRIES: u32 = 6;

/// How long a process waits before it tries again, at most.
const PAUSE_MAX_MS: u64 = 500;

/// Whoever has it may change the schema.
#[derive(Debug)]
pub(super) struct Lock {
    table: String,
}

impl Lock {
    pub(super) async fn acquire(schema: &Schema<'_>) -> Result<Self, SchemaError> {
        let deadline = tokio::time::Instant::now() + schema.options.lock_wait;
        loop {
            let lock = Self { table: format!("schema_lock_{:032x}", rand::random::<u128>()) };
            schema
                .execute(&format!(
                    "CREATE TABLE {} {} (nothing UInt8) ENGINE = Null COMMENT {}",
                    lock.name(schema),
                    schema.layout.on_cluster,
                    quoted(&schema.options.applied_by, '\'')
                ))
                .await?;
            match Box::pin(lock.other(schema)).await {
                Ok(None) => return Ok(lock),
                Ok(Some(holder)) => {
                    lock.release(schema).await;
                    if tokio::time::Instant::now() >= deadline {
                        return Err(SchemaError::Locked(holder.into()));
                    }
                    let pause = rand::random_range(PAUSE_MAX_MS / 10..=PAUSE_MAX_MS);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err(error) => {
                    lock.release(schema).await;
                    return Err(error);
                }
            }
        }
    }

    /// Says that its holder lives, and is about to do `what`.
    pub(super) async fn renew(&self, schema: &Schema<'_>, what: &str) -> Result<(), SchemaError> {
        let comment = format!("{} ({what})", schema.options.applied_by);
        let statement = format!(
            "ALTER TABLE {} {} MODIFY COMMENT {}",
            self.name(schema),
            schema.layout.on_cluster,
            quoted(&comment, '\'')
        );
        match schema.execute(&statement).await {
            Err(SchemaError::Refused { source, .. })
                if source.to_string().contains("UNKNOWN_TABLE") =>
            {
                Err(SchemaError::LockLost)
            }
            result => result,
        }
    }

    /// Gives it back; when that fails it runs out.
    pub(super) async fn release(&self, schema: &Schema<'_>) {
        let statement =
            format!("DROP TABLE IF EXISTS {} {} SYNC", self.name(schema), schema.layout.on_cluster);
        for n_tried in 0..RELEASE_TRIES {
            match schema.execute(&statement).await {
                Ok(()) => return,
                Err(SchemaError::Unavailable(_)) => {
                    tokio::time::sleep(Duration::from_millis(100 << n_tried)).await;
                }
                Err(error) => {
                    tracing::warn!(%error, table = self.table, "the lock of the schema must run out");
                    return;
                }
            }
        }
        tracing::warn!(table = self.table, "the lock of the schema must run out: no answer");
    }

    /// Who else has a lock that holds. Locks that have run out are taken away.
    async fn other(&self, schema: &Schema<'_>) -> Result<Option<String>, SchemaError> {
        let query = "SELECT name, comment, toUInt64(greatest(0, dateDiff('second', metadata_modification_time, now()))) \
                     FROM system.tables WHERE database = ? AND startsWith(name, 'schema_lock_') AND name != ? \
                     ORDER BY name";
        let others = schema.client.query(query).bind(&schema.options.database).bind(&self.table);
        let others: Vec<(String, String, u64)> = schema.read(others.fetch_all()).await?;
        let mut living = None;
        for (table, holder, age_s) in others {
            if age_s < LEASE.as_secs() {
                living = Some(holder);
            } else {
                tracing::warn!(table, holder, age_s, "a lock of the schema has run out");
                Self { table }.release(schema).await;
            }
        }
        Ok(living)
    }

    fn name(&self, schema: &Schema<'_>) -> String {
        format!("{}.{}", schema.layout.db, self.table)
    }
}
