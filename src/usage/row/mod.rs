//! A usage row as bytes: `ClickHouse`'s `RowBinary` over a fixed list of columns.
//!
//! ```text
//! columns   the list, and its fingerprint
//! encode    a row to bytes, once, when its request ends
//! view      bytes to columns, without copying
//! refused   the row of a count of refused keys
//! payload   the row of the bodies of a request
//! ```
//!
//! What is encoded here goes as it is into the spool and to a `ClickHouse` server. Another store
//! reads the columns through [`RowView`].

mod columns;
mod encode;
mod payload;
mod refused;
mod view;

pub use self::columns::{COLUMNS, Column, fingerprint};
pub use self::encode::{Stamp, encode};
pub use self::payload::{PAYLOAD_COLUMNS, PayloadRow, encode_payload};
pub use self::refused::{REFUSED_COLUMNS, RefusedView, encode_refused};
pub use self::view::{AttemptView, RowView};

/// Why bytes are no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no usage row")]
pub struct NotARow;

const US_PER_DAY: i64 = 86_400_000_000;

/// The day of a row's start, in days since 1970 UTC.
pub fn day(row: &[u8]) -> Option<i64> {
    let started_at = row.first_chunk::<8>()?;
    Some(i64::from_le_bytes(*started_at).div_euclid(US_PER_DAY))
}

/// When the request of a row began, in microseconds since 1970 UTC.
pub fn started_at_us(row: &[u8]) -> Option<i64> {
    row.first_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes))
}

/// The id of a row's request, as its 16 bytes in the row.
pub fn request_key(row: &[u8]) -> Option<[u8; 16]> {
    row.get(8..)?.first_chunk::<16>().copied()
}

#[cfg(test)]
pub(crate) mod tests;
