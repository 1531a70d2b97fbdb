//! The mock as its clients see it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may panic"
)]
#![expect(unreachable_pub, reason = "modules of a test are its own")]

mod client;
mod faults;
mod shapes;
