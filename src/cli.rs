//! The command line.

use std::process::ExitCode;

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
