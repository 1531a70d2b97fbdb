//! The command line: `loadtest mock`, `loadtest run` and `loadtest check`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

mod cli;

use cli::{Args, Command, MockArgs, RunArgs};
use loadtest::mock::{Behaviour, Mock};
use loadtest::run::{Options, Outcome, Progress, Report};
use loadtest::scenario::{Scenario, ScenarioError};

/// Exit codes besides those of [`Outcome`]. Clap's own for a wrong command line is 2, too.
const COULD_NOT_RUN: u8 = 1;
const SCENARIO_WRONG: u8 = 2;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("{0}")]
    Usage(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Mock(args) => mock(&args).map(|()| Outcome::Passed),
        Command::Run(args) => run(&args),
        Command::Check { files } => check(&files).map(|()| Outcome::Passed),
    };
    match done {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(error) => {
            // With standard error gone too, the exit code is all there is.
            drop(writeln!(io::stderr(), "loadtest: {error}"));
            ExitCode::from(match &error {
                Error::Scenario(_) | Error::Usage(_) => SCENARIO_WRONG,
                Error::Io(error) if error.kind() == io::ErrorKind::InvalidInput => SCENARIO_WRONG,
                Error::Io(_) => COULD_NOT_RUN,
            })
        }
    }
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    // One thread needs no scheduler between threads.
    let mut builder =
        if threads <= 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(threads.max(1)).enable_all().build()
}

fn mock(args: &MockArgs) -> Result<(), Error> {
    let default: Behaviour = match &args.default {
        Some(json) => serde_json::from_str(json).map_err(io::Error::from)?,
        None => Behaviour::default(),
    };
    raise_descriptors();
    runtime(args.threads)?.block_on(async {
        let mock = Mock::bind(args.listen).await?;
        mock.set_default(default);
        mock.set_journal(!args.no_journal);
        writeln!(io::stdout(), "{}", mock.addr())?;
        io::stdout().flush()?;
        Ok(tokio::signal::ctrl_c().await?)
    })
}

fn run(args: &RunArgs) -> Result<Outcome, Error> {
    let with_mock = args.with_mock;
    let mut scenario = match &args.scenario {
        Some(path) => Scenario::read(path)?,
        None => cli::scenario(args).ok_or(Error::Usage(
            "give a scenario file, or --workload and --model (`loadtest run --help` has examples)",
        ))?,
    };
    cli::override_with(&mut scenario, args);
    raise_descriptors();
    let (_runtime, _mock);
    if with_mock {
        let runtime = runtime(2)?;
        let mock = runtime.block_on(Mock::start())?;
        mock.set_journal(false);
        let url = mock.base_url();
        scenario.target.mock_url.get_or_insert_with(|| url.clone());
        scenario.target.url.get_or_insert(url);
        (_runtime, _mock) = (runtime, mock);
    }
    scenario.check()?;
    let progress = if args.quiet { Progress::Silent } else { Progress::fitting() };
    let report = loadtest::run::run(&Options { scenario, pids: args.pid.clone(), progress })?;
    write_out(&report, args)?;
    Ok(report.outcome)
}

fn write_out(report: &Report, args: &RunArgs) -> io::Result<()> {
    if let Some(path) = &args.report {
        std::fs::write(path, serde_json::to_vec_pretty(report)?)?;
    }
    if let Some(path) = &args.html {
        std::fs::write(path, report.to_html()?)?;
    }
    let mut out = io::stdout();
    if args.json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)
    } else {
        write!(out, "{report}")
    }
}

fn check(files: &[std::path::PathBuf]) -> Result<(), Error> {
    for path in files {
        let scenario = Scenario::read(path)?;
        writeln!(io::stdout(), "{}: {} is a scenario", path.display(), scenario.name)?;
    }
    Ok(())
}

/// Thousands of connections need more descriptors than most shells give.
fn raise_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // What cannot be raised is told when it runs out.
        let _raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}
