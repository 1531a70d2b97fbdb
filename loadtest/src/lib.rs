//! A scripted provider and a load generator for LLM gateways.

pub mod mock;
pub mod run;
