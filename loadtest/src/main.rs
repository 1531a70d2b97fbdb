//! The command line: `loadtest mock` and `loadtest run`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use loadtest::mock::{Behaviour, Mock};
use loadtest::run::{Plan, Workload};
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
    /// Runs the scripted provider until a signal ends it; prints its address.
    Mock(MockArgs),
    /// Sends requests, checks every answer, prints latencies; fails if an answer was wrong.
    Run(RunArgs),
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

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// `http://host:port`, with a path where it is not `/v1`.
    #[arg(long)]
    url: String,
    /// Sent as `authorization: Bearer`.
    #[arg(long)]
    key: Option<String>,
    #[arg(long, value_enum)]
    workload: Workload,
    #[arg(long)]
    model: String,
    #[arg(long, default_value_t = 8)]
    concurrency: usize,
    #[arg(long)]
    requests: u64,
    /// Requests before those that count.
    #[arg(long, default_value_t = 0)]
    warmup: u64,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A further request header; can be repeated.
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Requests a second: an open loop instead of a closed one.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds one request may take.
    #[arg(long, default_value_t = 60)]
    timeout_s: u64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME:VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Mock(args) => mock(&args).map(|()| ExitCode::SUCCESS),
        Command::Run(args) => run(args),
    };
    match result {
        Ok(code) => code,
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
        writeln!(io::stdout(), "{}", mock.addr())?;
        io::stdout().flush()?;
        tokio::signal::ctrl_c().await
    })
}

fn run(args: RunArgs) -> io::Result<ExitCode> {
    let report = loadtest::run::run(&Plan {
        url: args.url,
        key: args.key,
        workload: args.workload,
        model: args.model,
        concurrency: args.concurrency,
        requests: args.requests,
        warmup: args.warmup,
        threads: args.threads,
        headers: args.header,
        rate: args.rate,
        time_max: Duration::from_secs(args.timeout_s),
    })?;
    let mut out = io::stdout();
    if args.json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
