//! Reading usage: questions about many requests, and requests one by one.
//!
//! ```text
//! ask        a body or a query string -> a checked question | which field is wrong
//! metric     what can be asked, and the measures that it is made of
//! dimension  what requests are told apart and filtered by
//! period     ranges and their buckets
//! sql        a question as SQL with bound parameters
//! sketch     percentiles, exact or by histogram
//! answer     measures of a store -> the answer
//! requests   rows one by one, in pages
//! row        a row as the API shows it
//! export     rows as a file
//! clickhouse statements on a server
//! reading    the stores
//! ```
//!
//! All but the last two are pure.

mod answer;
mod ask;
mod clickhouse;
mod dimension;
mod export;
mod metric;
mod period;
mod reading;
mod requests;
mod row;
pub(super) mod sketch;
pub(super) mod sql;

pub use self::ask::{Query, QueryError};
pub use self::clickhouse::Servers;
pub use self::dimension::Dimension;
pub use self::export::Format;
pub use self::metric::Metric;
pub use self::period::{Granularity, Range};
pub use self::reading::{Export, ReadError, Reading, RowsKept};
pub use self::requests::RowQuery;
pub(crate) use self::row::FIELDS as ROW_FIELDS;
pub use self::row::of_record;
pub use self::sql::{Extent, Visible};
