//! `sluice migrate`: the schema of the usage store, without starting the gateway.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::{FAILED, WRONG, load};
use crate::config::server::{UsageConfig, UsageUrl};
use crate::usage::address::Address;
use crate::usage::schema::{self, Applied, Options, SchemaError};

/// Longer than a start waits: this command has nothing else to do.
const LOCK_WAIT: Duration = Duration::from_mins(5);

pub(super) fn run(path: Option<&Path>, is_to_print: bool) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config.usage,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(WRONG);
        }
    };
    let UsageUrl::ClickHouse(url) = &config.url else {
        println!("usage rows are kept in SQLite, which `serve` brings up to date by itself");
        return ExitCode::SUCCESS;
    };
    let address = match Address::parse(url) {
        Ok(address) => address,
        Err(reason) => {
            eprintln!("{}", SchemaError::Address(reason));
            return ExitCode::from(WRONG);
        }
    };
    if is_to_print {
        for (file, statement) in schema::script(&address.database, config.cluster.as_deref()) {
            println!("-- {file}\n{statement};\n");
        }
        return ExitCode::SUCCESS;
    }
    match migrate(&address, &config) {
        Ok(applied) => {
            print(&applied, &address.database);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

fn migrate(address: &Address, config: &UsageConfig) -> Result<Applied, Box<dyn std::error::Error>> {
    let options = Options {
        database: address.database.clone(),
        cluster: config.cluster.clone(),
        applied_by: schema::this_process(),
        lock_wait: LOCK_WAIT,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(schema::migrate_any(&address.clients, &options))?)
}

fn print(applied: &Applied, database: &str) {
    for file in &applied.files {
        println!("applied {file}");
    }
    for version in &applied.newer {
        println!("version {version:04} is of a newer release");
    }
    let n_files = applied.files.len() + applied.n_before;
    println!("{database}: up to date, {n_files} files, {} applied now", applied.files.len());
}
