//! The generator against the mock: right answers count, and everything else is found.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![expect(unreachable_pub, reason = "modules of a test are its own")]

mod documents;
mod loops;
mod planted;
mod program;
