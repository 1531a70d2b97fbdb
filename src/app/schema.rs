//! The schema of a usage store that is a server, brought up to date at start.
//!
//! A server that is away holds nothing up: the gateway starts, its rows wait, and the schema is tried again until it
//! is there. A schema that does not fit ends the start.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::StartError;
use crate::clock::Clock;
use crate::config::server::{UsageConfig, UsageUrl};
use crate::usage::address::Address;
use crate::usage::schema::{self, Applied, Options, SchemaError};
use crate::usage::store::{self, UsageSink};

/// A start waits no longer for the server.
const START_WAIT: Duration = Duration::from_secs(10);

/// The waits between two tries in the background double up to this.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Opens the usage store, its schema up to date or on its way there.
pub(super) fn open(
    config: &UsageConfig,
    clock: Clock,
    control: &Runtime,
    shutdown: watch::Receiver<bool>,
) -> Result<UsageSink, StartError> {
    prepare(config, control, shutdown)?;
    Ok(store::start(config, clock)?)
}

/// Brings the schema up to date, now or, when the server is away, in the background.
fn prepare(
    config: &UsageConfig,
    control: &Runtime,
    shutdown: watch::Receiver<bool>,
) -> Result<(), SchemaError> {
    let UsageUrl::ClickHouse(url) = &config.url else { return Ok(()) };
    let address = Address::parse(url).map_err(SchemaError::Address)?;
    let options = Options {
        database: address.database.clone(),
        cluster: config.cluster.clone(),
        applied_by: schema::this_process(),
        lock_wait: START_WAIT,
    };
    let first = async {
        tokio::time::timeout(START_WAIT, schema::migrate_any(&address.clients, &options)).await
    };
    match control.block_on(first) {
        Ok(Ok(applied)) => {
            report(&applied);
            return Ok(());
        }
        Ok(Err(error)) if !error.is_temporary() => return Err(error),
        Ok(Err(error)) => tracing::warn!(%error, "the schema of the usage store must wait"),
        Err(_) => tracing::warn!("the schema of the usage store must wait: no answer in time"),
    }
    control.spawn(keep_trying(address, options, shutdown));
    Ok(())
}

async fn keep_trying(address: Address, options: Options, mut shutdown: watch::Receiver<bool>) {
    let mut pause = Duration::from_secs(1);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = shutdown.changed() => return,
        }
        match Box::pin(schema::migrate_any(&address.clients, &options)).await {
            Ok(applied) => return report(&applied),
            Err(error) if error.is_temporary() => {
                tracing::debug!(%error, "the schema of the usage store must wait");
            }
            // Nobody can be told by a failed start any more; the rows wait in the spool.
            Err(error) => tracing::error!(%error, "the schema of the usage store does not fit"),
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

fn report(applied: &Applied) {
    if !applied.newer.is_empty() {
        tracing::warn!(versions = ?applied.newer, "a newer release has changed the schema of the usage store");
    }
    tracing::info!(
        applied = applied.files.len(),
        before = applied.n_before,
        "the schema is up to date"
    );
}
