//! The row of the bodies of a request.

use uuid::Uuid;

use super::encode::{put_i64, put_text, put_u16, put_u64, put_uuid};
use super::view::Bytes;
use super::{Column, NotARow};

const fn column(name: &'static str, kind: &'static str) -> Column {
    Column { name, kind }
}

/// The first two stand where a usage row has them.
pub const PAYLOAD_COLUMNS: [Column; 10] = [
    column("started_at", "DateTime64(6, 'UTC')"),
    column("request_id", "UUID"),
    column("workspace_id", "UUID"),
    column("request_type", "LowCardinality(String)"),
    column("request_body", "String"),
    column("request_bytes", "UInt64"),
    column("response_type", "LowCardinality(String)"),
    column("response_body", "String"),
    column("response_bytes", "UInt64"),
    column("retention_days", "UInt16"),
];

/// The bodies of a request, as they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadRow<'a> {
    pub started_at_us: i64,
    pub request_id: Uuid,
    pub workspace_id: Uuid,
    pub request_type: &'a str,
    pub request_body: &'a str,
    /// The size before anything was taken out.
    pub request_bytes: u64,
    pub response_type: &'a str,
    pub response_body: &'a str,
    pub response_bytes: u64,
    pub retention_days: u16,
}

/// Appends the bytes of `row` to `to`.
pub fn encode_payload(row: &PayloadRow<'_>, to: &mut Vec<u8>) {
    put_i64(to, row.started_at_us);
    put_uuid(to, row.request_id);
    put_uuid(to, row.workspace_id);
    put_text(to, row.request_type);
    put_text(to, row.request_body);
    put_u64(to, row.request_bytes);
    put_text(to, row.response_type);
    put_text(to, row.response_body);
    put_u64(to, row.response_bytes);
    put_u16(to, row.retention_days);
}

impl<'a> PayloadRow<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Self, NotARow> {
        let mut from = Bytes(bytes);
        let row = Self {
            started_at_us: i64::from_le_bytes(from.array()?),
            request_id: from.uuid()?,
            workspace_id: from.uuid()?,
            request_type: from.text()?,
            request_body: from.text()?,
            request_bytes: from.u64()?,
            response_type: from.text()?,
            response_body: from.text()?,
            response_bytes: from.u64()?,
            retention_days: from.u16()?,
        };
        from.end()?;
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn row_is_read_as_it_was_written(
            ids in any::<[u128; 2]>(),
            at in any::<i64>(),
            texts in proptest::collection::vec("\\PC{0,300}", 4),
            sizes in any::<[u64; 2]>(),
            retention_days in any::<u16>(),
        ) {
            let row = PayloadRow {
                started_at_us: at,
                request_id: Uuid::from_u128(ids[0]),
                workspace_id: Uuid::from_u128(ids[1]),
                request_type: &texts[0],
                request_body: &texts[1],
                request_bytes: sizes[0],
                response_type: &texts[2],
                response_body: &texts[3],
                response_bytes: sizes[1],
                retention_days,
            };
            let mut bytes = Vec::new();
            encode_payload(&row, &mut bytes);
            prop_assert_eq!(PayloadRow::decode(&bytes), Ok(row));
            prop_assert_eq!(super::super::started_at_us(&bytes), Some(at));
            for end in 0..bytes.len() {
                prop_assert_eq!(PayloadRow::decode(&bytes[..end]), Err(NotARow));
            }
        }
    }
}
