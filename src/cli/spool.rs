//! `sluice spool`: what lies between the requests and the store.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{FAILED, WRONG, load};
use crate::clock::Clock;
use crate::config::server::UsageConfig;
use crate::usage::store::{self, tools};

#[derive(Debug, Subcommand)]
pub(super) enum Spool {
    /// Shows what waits in the spool, what is damaged, and what the store has refused
    Inspect {
        /// The configuration, as conf/sluice.toml
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Sends what processes that have ended have left; exits with 1 when something stays
    Drain {
        #[arg(long)]
        config: Option<PathBuf>,
        /// Seconds after which it gives up
        #[arg(long, default_value_t = 60)]
        within: u64,
    },
    /// Gives the store the rows once more that it has refused; exits with 1 when something stays
    RetryDead {
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

pub(super) fn run(command: &Spool) -> ExitCode {
    let (Spool::Inspect { config } | Spool::Drain { config, .. } | Spool::RetryDead { config }) =
        command;
    let usage = match load(config.as_deref()) {
        Ok(config) => config.usage,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(WRONG);
        }
    };
    let done = match command {
        Spool::Inspect { .. } => inspect(&usage.spool_dir),
        Spool::Drain { within, .. } => drain(&usage, Duration::from_secs(*within)),
        Spool::RetryDead { .. } => retry_dead(&usage),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

fn inspect(root: &Path) -> Result<bool, String> {
    let fail = |error: std::io::Error| format!("cannot read {}: {error}", root.display());
    let folders = tools::inspect(root).map_err(fail)?;
    if folders.is_empty() {
        println!("{}: nothing in the spool", root.display());
    }
    for folder in &folders {
        let state = if folder.is_alive { "a running process" } else { "a process that has ended" };
        println!("{}: {state}", folder.name);
        println!("  segments    {} ({} bytes)", folder.segments, folder.bytes);
        println!("  rows        {}, of which {} not sent", folder.rows, folder.unsent);
        if let Some(oldest) = folder.oldest_us {
            println!("  oldest      {}", at(oldest));
        }
        println!("  in flight   {}", folder.in_flight);
        if folder.damage.gaps > 0 {
            let damage = folder.damage;
            println!(
                "  damage      {} gap(s), {} bytes, at least {} row(s) lost",
                damage.gaps, damage.bytes, damage.rows
            );
        }
        if folder.unreadable > 0 {
            println!("  unreadable  {} segment(s)", folder.unreadable);
        }
    }
    for file in tools::dead(root).map_err(fail)? {
        println!(
            "{}: {} row(s) and {} count(s) that the store has refused",
            file.path.display(),
            file.rows,
            file.refused_keys
        );
    }
    Ok(true)
}

/// A time as RFC 3339 in UTC.
fn at(unix_micros: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_micros.div_euclid(1_000_000))
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{unix_micros} µs"))
}

fn drain(config: &UsageConfig, within: Duration) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let sink = store::start(config, Clock::default()).map_err(|error| describe(&error))?;
    let is_done = runtime.block_on(async {
        let is_done = tokio::time::timeout(within, sink.flush()).await.is_ok();
        sink.close(if is_done { within } else { Duration::ZERO }).await;
        is_done
    });
    let [found, inserted, _, lost] = sink.totals().rows();
    let left = sink.queue_depth();
    println!("{found} row(s) found, {inserted} sent, {lost} set aside or dropped, {left} left");
    drop(sink);
    let held = tools::inspect(&config.spool_dir).map_err(|error| error.to_string())?;
    for folder in held.iter().filter(|folder| folder.is_alive) {
        println!("{}: a running process sends its rows itself", folder.name);
    }
    Ok(is_done && left == 0 && lost == 0)
}

fn retry_dead(config: &UsageConfig) -> Result<bool, String> {
    let retried = tools::retry_dead(config).map_err(|error| describe(&error))?;
    println!("{} row(s) sent, {} refused again", retried.inserted, retried.refused);
    for (path, reason) in &retried.left {
        eprintln!("{}: {reason}", path.display());
    }
    Ok(retried.refused == 0 && retried.left.is_empty())
}

/// An error with its causes, on one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
