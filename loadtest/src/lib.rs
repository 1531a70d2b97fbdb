//! A scripted provider and a load generator for LLM gateways.

pub mod distribution;
pub mod mock;
pub mod run;
pub mod scenario;
