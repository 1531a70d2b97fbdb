//! The command line: serve | check | demo | apply | export | audit | admin | migrate | spool | generate | completions.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage or configuration.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what a person reads")]

mod demo;
mod migrate;
mod operate;
mod remote;
mod serve;
mod spool;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::app::StartError;
use crate::config::{self, ConfigError};
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
    /// Brings the tables of the usage store up to this release; `serve` does so at its start
    Migrate {
        /// The configuration, as conf/sluice.toml
        #[arg(long)]
        config: Option<PathBuf>,
        /// Prints the statements for a new database, and asks no server
        #[arg(long)]
        print: bool,
    },
    /// Makes the state of a gateway what a document says, all or nothing
    ///
    /// `SLUICE_ADMIN_URL` and `SLUICE_ADMIN_TOKEN` say which gateway, and who asks.
    Apply {
        /// The document: TOML, YAML or JSON
        #[arg(short = 'f', long = "file")]
        file: PathBuf,
        /// Only print what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        at: remote::At,
    },
    /// Prints the state of a gateway as a document, without secrets
    Export {
        /// Only this workspace
        #[arg(long)]
        workspace: Option<String>,
        #[arg(long, value_enum, default_value = "toml")]
        format: remote::Form,
        #[command(flatten)]
        at: remote::At,
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
    /// Looks after the usage rows between the requests and the store
    Spool {
        #[command(subcommand)]
        command: spool::Spool,
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
        Command::Apply { file, dry_run, at } => remote::apply(&file, dry_run, &at),
        Command::Export { workspace, format, at } => {
            remote::export(workspace.as_deref(), format, &at)
        }
        Command::Audit { what: Audit::Verify { config } } => operate::verify(config.as_deref()),
        Command::Admin { what: Admin::Reset { config } } => operate::reset(config.as_deref()),
        Command::Migrate { config, print } => migrate::run(config.as_deref(), print),
        Command::Spool { command } => spool::run(&command),
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
        Generate::MasterKey => {
            let mut bytes = [0; 32];
            if SystemRandom::new().fill(&mut bytes).is_err() {
                eprintln!("the operating system gave no random bytes");
                return ExitCode::from(FAILED);
            }
            println!("{}", base64(&bytes));
        }
    }
    ExitCode::SUCCESS
}

/// Base64 of RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| {
        let index = (bits & 63) as usize;
        char::from(ALPHABET.get(index).copied().unwrap_or(b'='))
    };
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        text.push(digit(bits >> 18));
        text.push(digit(bits >> 12));
        text.push(if 1 < group.len() { digit(bits >> 6) } else { '=' });
        text.push(if 2 < group.len() { digit(bits) } else { '=' });
    }
    text
}

/// The exit code of a start that failed.
fn code_of(error: &StartError) -> ExitCode {
    match error {
        StartError::Config(_)
        | StartError::Certificate { .. }
        | StartError::Token(_)
        | StartError::Password
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

    #[test]
    fn base64_is_the_standards() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
