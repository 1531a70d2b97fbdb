//! Strict framing of HTTP/1.1 requests, and of upstreams' answers.
//!
//! What is ambiguous is refused here, before any other parser sees it: where two readings of the same
//! bytes are possible, a request can be smuggled between them.
//!
//! Pure: bytes in, a verdict out.

pub mod answer;
pub mod check;
pub mod chunked;
mod error;
pub mod fields;
mod table;

pub use self::error::HeadError;
