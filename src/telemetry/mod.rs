//! Logs and metrics.

pub mod log;
pub mod metrics;
pub(crate) mod redact;
