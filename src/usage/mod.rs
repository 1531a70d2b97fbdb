//! What a request used, what that cost, and how it is kept.

pub mod address;
pub mod inflate;
pub mod payload;
pub mod query;
pub mod record;
pub mod row;
pub mod schema;
pub mod spool;
pub mod store;
pub mod tail;
pub mod tap;
