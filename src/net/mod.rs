//! The way to an upstream: which addresses may be reached, which a name has, which are healthy.

pub mod alarm;
pub mod guard;
pub mod health;
pub mod peer;
pub mod pool;
pub mod resolve;
pub mod turn;
