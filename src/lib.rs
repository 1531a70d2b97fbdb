//! Sluice: a gateway for large-language-model APIs.
//!
//! The modules in reading order; each may use only those below it (`tests/tidy.rs` holds that).

pub mod cli;

pub mod app;

pub mod admin;
pub mod proxy;

pub mod cache;
pub mod control;
pub mod net;
pub mod shared;
pub mod telemetry;
pub mod usage;

pub mod config;
pub mod provider;

pub mod rejection;
pub mod translate;

pub mod sse;

pub mod rule;

pub mod dialect;
pub mod head;
pub mod json;
pub mod limit;
pub mod price;
pub mod route;

pub mod clock;
pub mod id;
pub mod key;
pub mod percent;
pub mod secret;
