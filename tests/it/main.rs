//! Integration tests: the gateway, its clients and its providers on real sockets.
//!
//! The harness checks after every test that there is exactly one usage row for each request, and that
//! nothing is left in flight.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test may panic"
)]

mod client;
mod harness;

mod basics;
mod upstream;
