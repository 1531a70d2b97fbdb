//! A `ClickHouse` database with the product's schema, and rows as of a gateway in use.

use std::time::Duration;

use clickhouse::Client;
use sluice::secret::Secret;
use sluice::usage::address::Address;
use sluice::usage::schema::{self, Options, migrate};

use crate::clickhouse_server::ClickHouse;
use crate::client::within;

/// A client of the server, and what brings `database` the schema.
pub(crate) fn target(server: &ClickHouse, database: &str) -> (Client, Options) {
    let address = Address::parse(&Secret::new(server.url("default"))).unwrap();
    let options = Options {
        database: database.to_owned(),
        cluster: None,
        applied_by: schema::this_process(),
        lock_wait: Duration::from_secs(15),
    };
    (address.clients[0].clone(), options)
}

/// Makes the database and its tables.
pub(crate) async fn prepare(server: &ClickHouse, database: &str) {
    let (client, options) = target(server, database);
    within(migrate(&client, &options)).await.unwrap();
}

/// Inserts `rows` rows of the last `seconds`; `first` is the number of the first.
pub(crate) fn rows_sql(database: &str, rows: u64, first: u64, seconds: u64) -> String {
    let now = sluice::clock::Clock::default().unix_micros() / 1_000_000;
    let from = u64::try_from(now).unwrap() - seconds;
    let mut sql = include_str!("../clickhouse/rows.sql").trim_end().to_owned();
    for (name, value) in [
        ("rows", rows),
        ("first", first),
        ("seconds", seconds),
        ("from", from),
        ("retention_days", 90),
    ] {
        sql = sql.replace(&format!("{{{name}}}"), &value.to_string());
    }
    sql.replace("{db}", database)
}
