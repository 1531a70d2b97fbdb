//! What the command line takes, and how it bends a scenario.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use loadtest::scenario::{Check, Keys, Limits, Phase, Protocol, Ramp, Scenario, Target, Workload};

/// A load generator and a scripted provider for LLM gateways.
#[derive(Debug, Parser)]
#[command(version, after_help = OVERVIEW)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const OVERVIEW: &str = "\
Try it without a gateway:   loadtest run loadtest/scenarios/smoke.toml --with-mock
Against a gateway:          loadtest mock --listen 127.0.0.1:9000 &   # its only provider
                            LOADTEST_KEY=… loadtest run loadtest/scenarios/mixed.toml \\
                                --url http://127.0.0.1:8080 --key-env LOADTEST_KEY --html report.html
The README beside the sources explains scenarios, reports and the mock's behaviours.";

const RUN_HELP: &str = "\
Examples:
  A file, against a mock inside this process:
    loadtest run loadtest/scenarios/smoke.toml --with-mock
  Any OpenAI- or Anthropic-compatible server, key from an env var, report as a page:
    loadtest run my.toml --url https://api.example.com/v1 --key-env MY_KEY --html report.html
  Without a file: 8 clients that ask 10,000 times in all, from a gateway before a mock:
    loadtest run --url http://127.0.0.1:8080 --workload small --model small -c 8 -n 10000
  The same, 500 requests a second whatever the answers do, for 30 s:
    loadtest run --url http://127.0.0.1:8080 --workload small --model small --rate 500 --seconds 30

Times: with a rate, a request's latency counts from when it was due, not from when it could be sent.

Exit codes:
  0  every limit was kept
  1  it could not run: a file, a socket, the mock
  2  the command line or the scenario is wrong
  3  a limit on times, errors, throughput or memory is broken
  4  answers were truncated, changed, reordered or held together
  5  the generator was late (`limits.lag_ms`): the figures are its own
  6  interrupted before its end";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the scripted provider until a signal ends it; prints its address.
    Mock(MockArgs),
    /// Sends requests, checks every answer, reports times; fails when a limit is broken.
    #[command(after_long_help = RUN_HELP, after_help = "`--help` has examples and the exit codes.")]
    Run(Box<RunArgs>),
    /// Reads scenario files and says what is wrong with them.
    Check {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct MockArgs {
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Keeps no journal: faster.
    #[arg(long)]
    pub(crate) no_journal: bool,
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Behaviour of requests whose model carries none, as JSON.
    #[arg(long, value_name = "JSON")]
    pub(crate) default: Option<String>,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct RunArgs {
    /// A scenario; the options below change what it says.
    pub(crate) scenario: Option<PathBuf>,
    /// `http://host:port` or `https://…`, with a path where it is not `/v1`.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Starts a mock in this process: the target, unless there is another, and what `faults` go to.
    #[arg(long)]
    pub(crate) with_mock: bool,
    /// Where the mock behind the target takes the scenario's faults.
    #[arg(long, value_name = "URL")]
    pub(crate) mock_url: Option<String>,
    /// The env var that holds the key.
    #[arg(long, value_name = "NAME", conflicts_with = "key_file")]
    pub(crate) key_env: Option<String>,
    /// A file with a key on each line.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// A further request header; can be repeated.
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    pub(crate) header: Vec<(String, String)>,
    #[arg(long, value_enum)]
    pub(crate) protocol: Option<Protocol>,
    /// Certificates to trust besides the system's, as PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Seconds one request may take.
    #[arg(long)]
    pub(crate) timeout_s: Option<f64>,
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Most connections of an open loop.
    #[arg(long)]
    pub(crate) connections: Option<usize>,
    /// Times the length of every phase.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) scale: f64,
    /// Times every rate and concurrency.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) load: f64,
    /// A process of the server, to report its memory and CPU, children included; can be repeated.
    #[arg(long)]
    pub(crate) pid: Vec<u32>,

    /// Without a scenario: what to ask for. The mock must behave as `--help` of the README says.
    #[arg(long, value_enum, conflicts_with = "scenario", requires = "model")]
    pub(crate) workload: Option<Workload>,
    /// The model to ask for, in place of the scenario's; straight at a mock, `sim?bytes=2048` carries the behaviour.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// The model that the mock is asked for in the end: answers must be byte for byte its own.
    #[arg(long)]
    pub(crate) script: Option<String>,
    /// How strictly answers are looked at.
    #[arg(long, value_enum)]
    pub(crate) check: Option<Check>,
    /// Clients that each wait for their answer.
    #[arg(short, long, default_value_t = 8, conflicts_with = "rate")]
    pub(crate) concurrency: u32,
    /// Requests a second: an open loop.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    #[arg(short = 'n', long, default_value_t = 1000, conflicts_with = "seconds")]
    pub(crate) requests: u64,
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Requests before those that count.
    #[arg(long, default_value_t = 0)]
    pub(crate) warmup: u64,

    /// Prints the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Writes the report as a page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Shows no progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME:VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Most connections of an open loop that comes without a file.
const OPEN_CONNECTIONS: usize = 256;

/// The scenario that the options say, where there is no file.
pub(crate) fn scenario(args: &RunArgs) -> Option<Scenario> {
    let workload = args.workload?;
    let mut mix = workload.mix(args.model.clone()?);
    if args.script.is_some() {
        mix.script.clone_from(&args.script);
        mix.check = None;
    }
    if args.check.is_some() {
        mix.check = args.check;
    }
    let even = |amount| Ramp { from: amount, to: amount };
    let phase = |name: &str, requests: Option<u64>, counted| Phase {
        name: name.to_owned(),
        seconds: if requests.is_some() { None } else { args.seconds },
        requests,
        rate: args.rate.map(even),
        arrivals: loadtest::scenario::Arrivals::Even,
        concurrency: args.rate.is_none().then(|| even(f64::from(args.concurrency))),
        think_ms: None,
        counted,
    };
    let mut phases = Vec::new();
    if args.warmup > 0 {
        phases.push(phase("warm-up", Some(args.warmup), false));
    }
    phases.push(phase("steady", args.seconds.is_none().then_some(args.requests), true));
    Some(Scenario {
        name: workload.name().to_owned(),
        description: String::new(),
        target: Target::default(),
        keys: Keys::default(),
        connections: OPEN_CONNECTIONS,
        threads: 1,
        seed: 1,
        mix: vec![mix],
        phases,
        faults: Vec::new(),
        limits: Limits::default(),
    })
}

/// What the command line says goes before what the file says.
pub(crate) fn override_with(scenario: &mut Scenario, args: &RunArgs) {
    fn set<T: Clone>(place: &mut T, value: Option<&T>) {
        if let Some(value) = value {
            place.clone_from(value);
        }
    }
    let target = &mut scenario.target;
    set(&mut target.url, Some(&args.url).filter(|url| url.is_some()));
    set(&mut target.mock_url, Some(&args.mock_url).filter(|url| url.is_some()));
    set(&mut target.protocol, args.protocol.as_ref());
    set(&mut target.ca_file, Some(&args.ca_file).filter(|path| path.is_some()));
    set(&mut target.timeout_s, Some(&args.timeout_s).filter(|seconds| seconds.is_some()));
    target.headers.extend(args.header.iter().cloned());
    if args.key_env.is_some() || args.key_file.is_some() {
        scenario.keys.env.clone_from(&args.key_env);
        scenario.keys.file.clone_from(&args.key_file);
    }
    if let (Some(model), Some(_)) = (&args.model, &args.scenario) {
        scenario.mix.iter_mut().for_each(|mix| mix.model.clone_from(model));
    }
    set(&mut scenario.threads, args.threads.as_ref());
    set(&mut scenario.connections, args.connections.as_ref());
    for fault in &mut scenario.faults {
        fault.at_s *= args.scale;
        fault.for_s *= args.scale;
    }
    for phase in &mut scenario.phases {
        phase.seconds = phase.seconds.map(|seconds| seconds * args.scale);
        let scaled = |ramp: Ramp| Ramp { from: ramp.from * args.load, to: ramp.to * args.load };
        phase.rate = phase.rate.map(scaled);
        phase.concurrency = phase.concurrency.map(scaled);
    }
}
