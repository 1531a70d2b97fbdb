//! A slice of a segment: what stands between two cuts, as the batches that a store is given. Pure.
//!
//! What a slice holds follows from its bytes alone, so that a slice which is sent again after a
//! crash is made of the same batches with the same tokens.

use super::frame::{Damage, Kind, Salt, Scan};
use crate::usage::row;

/// Where a slice stands in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub from: u64,
    pub to: u64,
}

/// The rows of one UTC day, or counts of refused keys: bytes one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    pub bytes: Vec<u8>,
    /// Where each row ends in `bytes`.
    pub ends: Vec<usize>,
}

/// The records of a slice.
#[derive(Debug, Default)]
pub struct Slice {
    /// By day, in the order of their first row.
    pub days: Vec<(i64, Rows)>,
    /// Bodies of requests, likewise.
    pub payloads: Vec<(i64, Rows)>,
    pub refused: Rows,
    pub damage: Damage,
}

/// A request in a slice: begun, or finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    Began { request: [u8; 16], row: &'a [u8] },
    Ended { request: [u8; 16] },
}

impl Slice {
    /// Reads the bytes of a slice that begins at `from`, and tells of each request in it.
    pub fn read(bytes: &[u8], from: u64, salt: Salt, mut each: impl FnMut(Step<'_>)) -> Self {
        let mut slice = Self::default();
        let mut scan = Scan::new(bytes, from, salt);
        for record in scan.by_ref() {
            match record.kind {
                Kind::Row => add_by_day(&mut slice.days, record.payload),
                Kind::Payload => add_by_day(&mut slice.payloads, record.payload),
                Kind::Refused => slice.refused.add(record.payload),
                Kind::Intent | Kind::Cut => {}
            }
            if let Some(step) = step(record.kind, record.payload) {
                each(step);
            }
        }
        slice.damage = scan.damage();
        slice
    }

    pub fn n_rows(&self) -> usize {
        self.days.iter().map(|(_, rows)| rows.ends.len()).sum()
    }
}

fn add_by_day(days: &mut Vec<(i64, Rows)>, row: &[u8]) {
    let Some(day) = row::day(row) else { return };
    if let Some((_, rows)) = days.iter_mut().find(|(known, _)| *known == day) {
        rows.add(row);
    } else {
        let mut rows = Rows::default();
        rows.add(row);
        days.push((day, rows));
    }
}

/// What a record says about its request.
pub fn step(kind: Kind, payload: &[u8]) -> Option<Step<'_>> {
    let request = row::request_key(payload)?;
    match kind {
        Kind::Row => Some(Step::Ended { request }),
        Kind::Intent => Some(Step::Began { request, row: payload }),
        Kind::Refused | Kind::Cut | Kind::Payload => None,
    }
}

impl Rows {
    fn add(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }
}
