//! The `sluice` command: parses the command line, calls the library, chooses the exit code.

use std::process::ExitCode;

// Memory per held stream is what decides: see `docs/performance.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    sluice::cli::run()
}
