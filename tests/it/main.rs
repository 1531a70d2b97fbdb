//! Integration tests: the gateway, its clients and its providers on real sockets.
//!
//! The harness checks after every test that there is exactly one usage row for each request, and that
//! nothing is left in flight.
#![expect(
    clippy::float_cmp,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic, has few futures, and compares counters"
)]

mod binary;
mod client;
mod harness;

mod basics;
mod command_line;
mod sdk;
mod signals;
mod tls;
