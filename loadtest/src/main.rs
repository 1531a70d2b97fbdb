//! The command line: `loadtest mock` and `loadtest run`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::mock::{Behaviour, Mock};
use tokio::runtime::{Builder, Runtime};

/// A scripted provider and a load generator for LLM gateways.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the scripted provider until a signal ends it; prints its base URL.
    Mock(MockArgs),
}

#[derive(Debug, clap::Args)]
struct MockArgs {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Keeps no journal: faster.
    #[arg(long)]
    no_journal: bool,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Behaviour of requests whose model carries none, as JSON.
    #[arg(long, value_name = "JSON")]
    default: Option<String>,
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Mock(args) => mock(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone too, the exit code is all there is.
            drop(writeln!(io::stderr(), "loadtest: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    // One thread needs no scheduler between threads.
    let mut builder =
        if threads <= 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(threads.max(1)).enable_all().build()
}

fn mock(args: &MockArgs) -> io::Result<()> {
    let default: Behaviour = match &args.default {
        Some(json) => serde_json::from_str(json)?,
        None => Behaviour::default(),
    };
    runtime(args.threads)?.block_on(async {
        let mock = Mock::bind(args.listen).await?;
        mock.set_default(default);
        mock.set_journal(!args.no_journal);
        writeln!(io::stdout(), "{}", mock.base_url())?;
        io::stdout().flush()?;
        tokio::signal::ctrl_c().await
    })
}
