//! The command line: serve | check | apply | export | audit | admin | demo | generate | completions.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage or configuration.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what a person reads")]

mod demo;
mod operate;
mod remote;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::app::StartError;
use crate::config::{self, ConfigError};
use crate::control::seal;
use crate::key;

const FAILED: u8 = 1;
const WRONG: u8 = 2;

/// A self-hosted gateway for large-language-model APIs.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway; without a file, on the defaults
    Serve {
        /// The configuration, as conf/sluice.toml
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Runs everything on embedded defaults with a simulated provider, and prints calls to paste
    Demo {
        /// Where to keep the data; a temporary folder by default
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Where applications call; a free port by default
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: std::net::SocketAddr,
        /// The admin listener
        #[arg(long, default_value = "127.0.0.1:8081")]
        admin: std::net::SocketAddr,
    },
    /// Checks configuration and resources, and prints every problem with file, line and field
    Check {
        #[arg(long)]
        config: Option<PathBuf>,
        /// The declarative document; by default the one that the configuration names
        #[arg(long)]
        resources: Option<PathBuf>,
    },
    /// Makes the state of a running gateway what a document says, all or nothing
    ///
    /// `SLUICE_ADMIN_URL` and `SLUICE_ADMIN_TOKEN` say which gateway, and who asks.
    Apply {
        /// The document: TOML, YAML or JSON
        #[arg(short = 'f', long = "file")]
        file: PathBuf,
        /// Only print what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Prints the state of a running gateway as a document, without secrets
    Export {
        /// Only this workspace
        #[arg(long)]
        workspace: Option<String>,
        #[arg(long, value_enum, default_value = "toml")]
        format: remote::Form,
    },
    /// The audit log
    Audit {
        #[command(subcommand)]
        what: Audit,
    },
    /// Administrators
    Admin {
        #[command(subcommand)]
        what: Admin,
    },
    /// Makes a secret and prints it once; nothing is stored
    Generate {
        #[command(subcommand)]
        what: Generate,
    },
    /// Prints completions for a shell
    Completions { shell: Shell },
}

#[derive(Debug, Subcommand)]
enum Audit {
    /// Goes along the chain of the audit log in the state store; exit 1 if an event was changed
    Verify {
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Gives the first superadmin a new one-time password and a new token
    Reset {
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum Generate {
    /// A virtual key
    Key,
    /// A master key: 256 bits in base64
    MasterKey,
}

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve { config } => serve::run(config.as_deref()),
        Command::Demo { dir, listen, admin } => demo::run(dir, listen, admin),
        Command::Check { config, resources } => check(config.as_deref(), resources),
        Command::Apply { file, dry_run } => remote::apply(&file, dry_run),
        Command::Export { workspace, format } => remote::export(workspace.as_deref(), format),
        Command::Audit { what: Audit::Verify { config } } => operate::verify(config.as_deref()),
        Command::Admin { what: Admin::Reset { config } } => operate::reset(config.as_deref()),
        Command::Generate { what } => generate(&what),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "sluice", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

/// The configuration of the process, from file and env vars.
fn load(path: Option<&Path>) -> Result<config::server::ServerConfig, ConfigError> {
    config::load_server(path, env_vars())
}

/// Env vars that are not UTF-8 mean nothing to us.
fn env_vars() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn check(config: Option<&Path>, resources: Option<PathBuf>) -> ExitCode {
    let mut is_right = true;
    let mut n_warnings = 0;
    let server = load(config).inspect_err(|error| {
        eprintln!("{error}");
        is_right = false;
    });
    let named = server.ok().and_then(|server| server.resources);
    let document = resources.or(named);
    if let Some(path) = &document {
        match config::load_resources(path, &|name| std::env::var(name).ok()) {
            Ok(document) => {
                for warning in &document.warnings {
                    eprintln!("warning: {warning}");
                }
                n_warnings = document.warnings.len();
            }
            Err(error) => {
                eprintln!("{error}");
                is_right = false;
            }
        }
    }
    if !is_right {
        return ExitCode::from(WRONG);
    }
    let files: Vec<String> = [config, document.as_deref()]
        .into_iter()
        .flatten()
        .map(|path| path.display().to_string())
        .collect();
    let what = if files.is_empty() { "the defaults".to_owned() } else { files.join(" and ") };
    println!("{what}: ok, {n_warnings} warning(s)");
    ExitCode::SUCCESS
}

fn generate(what: &Generate) -> ExitCode {
    match what {
        Generate::Key => println!("{}", key::generate().expose()),
        Generate::MasterKey => match seal::generate() {
            Ok(key) => println!("{}", key.expose()),
            Err(_no_randomness) => {
                eprintln!("the operating system gave no random bytes");
                return ExitCode::from(FAILED);
            }
        },
    }
    ExitCode::SUCCESS
}

/// The exit code of a start that failed.
fn code_of(error: &StartError) -> ExitCode {
    match error {
        StartError::Config(_)
        | StartError::Certificate { .. }
        | StartError::Token(_)
        | StartError::Document(_) => ExitCode::from(WRONG),
        _ => ExitCode::from(FAILED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
