//! Statements on a `ClickHouse` server.

use std::net::IpAddr;

use clickhouse::Client;
use clickhouse::query::BytesCursor;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt as _, Lines};

use super::reading::ReadError;
use super::sql::{Param, Statement};

/// How long the server works on one statement.
const EXECUTION_S_MAX: &str = "10";

/// The hosts of a store, each with its user and database.
#[derive(Clone)]
pub struct Servers(Vec<Client>);

/// Rows of an answer as they come.
pub(super) struct Rows(Lines<BytesCursor>);

impl std::fmt::Debug for Servers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Servers({})", self.0.len())
    }
}

impl Servers {
    pub fn new(clients: Vec<Client>) -> Self {
        Self(clients)
    }

    /// Each row a list of its cells; one row more than `rows_max` at most.
    pub(super) async fn cells(
        &self,
        statement: &Statement,
        rows_max: usize,
    ) -> Result<Vec<Vec<Value>>, ReadError> {
        self.first(statement, "JSONCompactEachRow", rows_max).await
    }

    /// Each row an object.
    pub(super) async fn objects(
        &self,
        statement: &Statement,
    ) -> Result<Vec<Map<String, Value>>, ReadError> {
        self.first(statement, "JSONEachRow", usize::MAX).await
    }

    /// What the first host answers that answers at all.
    async fn first<T: DeserializeOwned>(
        &self,
        statement: &Statement,
        format: &str,
        rows_max: usize,
    ) -> Result<Vec<T>, ReadError> {
        let mut last = ReadError::Unavailable("there is no host".to_owned());
        for client in &self.0 {
            // The first request on a kept connection fails once when the server has gone meanwhile.
            for _ in 0..2 {
                let answered = match execute(client, statement, format) {
                    Ok(rows) => rows.read(rows_max).await,
                    Err(error) => Err(error),
                };
                match answered {
                    Err(error @ ReadError::Unavailable(_)) => last = error,
                    answer => return answer,
                }
            }
        }
        Err(last)
    }
}

fn execute(client: &Client, statement: &Statement, format: &str) -> Result<Rows, ReadError> {
    let mut query = client
        .query(&statement.sql)
        .with_setting("max_execution_time", EXECUTION_S_MAX)
        .with_setting("cancel_http_readonly_queries_on_client_close", "1")
        .with_setting("output_format_json_quote_64bit_integers", "0");
    for (number, param) in (1..).zip(&statement.params) {
        let name = format!("p{number}");
        query = match param {
            Param::Text(text) => query.param(&name, text),
            Param::Int(number) => query.param(&name, number),
            Param::Id(id) | Param::Request(id) => query.param(&name, id.to_string()),
            Param::Ip(ip) => query.param(&name, mapped(*ip)),
        };
    }
    let cursor = query.fetch_bytes(format).map_err(unavailable)?;
    Ok(Rows(cursor.lines()))
}

fn mapped(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_string(),
        IpAddr::V6(ip) => ip.to_string(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn unavailable(error: impl ToString) -> ReadError {
    ReadError::Unavailable(error.to_string())
}

impl Rows {
    async fn read<T: DeserializeOwned>(mut self, rows_max: usize) -> Result<Vec<T>, ReadError> {
        let mut found = Vec::new();
        while found.len() <= rows_max
            && let Some(row) = self.next().await?
        {
            found.push(row);
        }
        Ok(found)
    }

    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ReadError> {
        let Some(line) = self.0.next_line().await.map_err(unavailable)? else { return Ok(None) };
        // An error amid an answer comes in the place of a row.
        serde_json::from_str(&line).map(Some).map_err(unavailable)
    }
}
