//! The row of a count of refused keys.

use std::net::IpAddr;

use super::encode::{Stamp, put_ip, put_text, put_u64};
use super::view::Bytes;
use super::{Column, NotARow};
use crate::usage::record::RefusedRow;

pub const REFUSED_COLUMNS: [Column; 4] = [
    Column { name: "minute", kind: "DateTime('UTC')" },
    Column { name: "source_ip", kind: "IPv6" },
    Column { name: "node", kind: "LowCardinality(String)" },
    Column { name: "count", kind: "UInt64" },
];

/// What the bytes of such a row say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedView<'a> {
    pub unix_minute: i64,
    pub source_ip: Option<IpAddr>,
    pub node: &'a str,
    pub count: u64,
}

/// Appends the bytes of `row` to `to`.
pub fn encode_refused(row: &RefusedRow, stamp: &Stamp, to: &mut Vec<u8>) {
    let seconds = u32::try_from(row.unix_minute.saturating_mul(60)).unwrap_or(0);
    to.extend_from_slice(&seconds.to_le_bytes());
    put_ip(to, row.source_ip);
    put_text(to, stamp.node());
    put_u64(to, row.count);
}

impl<'a> RefusedView<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Self, NotARow> {
        let mut from = Bytes(bytes);
        let seconds = from.u32()?;
        let view = Self {
            unix_minute: i64::from(seconds / 60),
            source_ip: from.ip()?,
            node: from.text()?,
            count: from.u64()?,
        };
        from.end()?;
        Ok(view)
    }
}
