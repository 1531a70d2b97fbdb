//! Usage rows in a `ClickHouse` database: the bytes of the spool, as they are.
//!
//! A batch is one `INSERT` of one day with the token of its slice, so that the server keeps it once,
//! whatever became of an earlier try. A host that does not answer is followed by the next.

use std::time::Duration;

use bytes::Bytes;
use clickhouse::Client;
use clickhouse::error::Error;
use tokio::runtime::Runtime;

use super::{Batch, Insert, InsertError, Table};
use crate::usage::address::Address;
use crate::usage::row::{COLUMNS, Column, PAYLOAD_COLUMNS, REFUSED_COLUMNS};

/// The server's time to take a small batch; a large one has a second more for each MiB.
const INSERT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that are compressed and sent at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Codes that say that something in the rows is at fault: `INCORRECT_DATA`, `CANNOT_PARSE_…`,
/// `TYPE_MISMATCH`, constraints and views that refuse a row. All others are worth another try: a
/// table that is not there yet, one that is read-only, too many parts, a server that is ending.
const FAULTS_OF_ROWS: [u32; 19] =
    [6, 26, 27, 33, 38, 41, 53, 69, 70, 72, 117, 131, 190, 321, 349, 395, 407, 469, 691];

/// The store as its writer has it.
pub struct ClickHouse {
    runtime: Runtime,
    clients: Vec<Client>,
    /// Which of them is asked.
    current: usize,
    into_usage: String,
    into_refused: String,
    into_payloads: String,
}

impl ClickHouse {
    /// Nothing is asked of the server yet: it may be away, and its tables may not be there.
    pub fn new(address: Address, is_cluster: bool) -> std::io::Result<Self> {
        let mut settings = vec![("async_insert", "0"), ("insert_deduplicate", "1")];
        settings.push(("deduplicate_blocks_in_dependent_materialized_views", "1"));
        if is_cluster {
            // An answer means that the shards have the rows.
            settings.push(("distributed_foreground_insert", "1"));
        }
        let with_settings = |client: Client| {
            settings.iter().fold(client, |client, (name, value)| client.with_setting(*name, *value))
        };
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            clients: address.clients.into_iter().map(with_settings).collect(),
            current: 0,
            into_usage: statement("usage", &COLUMNS),
            into_refused: statement("refused_keys", &REFUSED_COLUMNS),
            into_payloads: statement("payloads", &PAYLOAD_COLUMNS),
        })
    }

    /// Asks each host, beginning with the one that answered last.
    fn on_a_host(&mut self, batch: &Batch<'_>) -> Result<(), InsertError> {
        let into = match batch.table {
            Table::Usage => &self.into_usage,
            Table::RefusedKeys => &self.into_refused,
            Table::Payloads => &self.into_payloads,
        };
        let mut last = InsertError::Unavailable("the address names no host".to_owned());
        for _ in 0..self.clients.len() {
            let Some(client) = self.clients.get(self.current) else { break };
            let inserted = self.runtime.block_on(insert(client, into, batch));
            let error = match inserted {
                Ok(()) => return Ok(()),
                Err(error) => classify(&error),
            };
            if matches!(error, InsertError::Refused(_)) {
                return Err(error);
            }
            last = error;
            self.current = (self.current + 1) % self.clients.len();
        }
        Err(last)
    }
}

fn statement(table: &str, columns: &[Column]) -> String {
    let names: Vec<String> = columns.iter().map(|column| format!("`{}`", column.name)).collect();
    format!("INSERT INTO `{table}` ({}) FORMAT RowBinary", names.join(", "))
}

async fn insert(client: &Client, into: &str, batch: &Batch<'_>) -> Result<(), Error> {
    let bytes = batch.bytes();
    let longer = Duration::from_secs((bytes.len() >> 20) as u64);
    let mut insert = client
        .insert_formatted_with(into)
        .with_setting("insert_deduplication_token", &*batch.token)
        .with_timeouts(Some(INSERT_TIMEOUT), Some(INSERT_TIMEOUT + longer));
    for chunk in bytes.chunks(CHUNK_BYTES) {
        insert.send(Bytes::copy_from_slice(chunk)).await?;
    }
    insert.end().await
}

/// Whether another try may help. What is not known to be the rows' fault is the server's.
fn classify(error: &Error) -> InsertError {
    let text = error.to_string();
    match code(&text) {
        Some(code) if FAULTS_OF_ROWS.contains(&code) => InsertError::Refused(text),
        _ => InsertError::Unavailable(text),
    }
}

/// The number in `Code: 60. DB::Exception: …`
fn code(text: &str) -> Option<u32> {
    let (_, after) = text.split_once("Code: ")?;
    after.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

impl Insert for ClickHouse {
    fn insert(&mut self, batch: &Batch<'_>) -> Result<(), InsertError> {
        self.on_a_host(batch)
    }

    /// Rows expire by themselves.
    fn prune(&mut self, _before_us: i64, _now_us: i64) -> Result<bool, InsertError> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_at_fault_only_when_the_server_says_so() {
        let classified = |error: Error| match classify(&error) {
            InsertError::Unavailable(_) => "again",
            InsertError::Refused(_) => "rows",
        };
        let response = |text: &str| classified(Error::BadResponse(text.to_owned()));
        assert_eq!(response("Code: 117. DB::Exception: bad (INCORRECT_DATA)"), "rows");
        assert_eq!(response("Code: 469. DB::Exception: Constraint"), "rows");
        for code in [16, 60, 81, 164, 202, 241, 252, 319, 497, 516, 999, 1170] {
            assert_eq!(response(&format!("Code: {code}. DB::Exception: x")), "again", "{code}");
        }
        assert_eq!(response("502 Bad Gateway"), "again");
        assert_eq!(classified(Error::TimedOut), "again");
    }

    #[test]
    fn statements_name_their_columns() {
        let statement = statement("usage", &COLUMNS);
        assert!(statement.starts_with("INSERT INTO `usage` (`started_at`, `request_id`, "));
        assert!(statement.contains("`attempts.target_id`, "));
        assert!(statement.ends_with("`gateway_version`) FORMAT RowBinary"), "{statement}");
    }
}
