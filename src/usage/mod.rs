//! What a request used, what that cost, and how it is kept.

pub mod address;
pub mod inflate;
pub mod record;
pub mod row;
pub mod spool;
pub mod store;
pub mod tap;
