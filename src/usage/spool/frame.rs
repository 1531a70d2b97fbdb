//! Records in a segment: framed, found again, and found again after damage. Pure.
//!
//! ```text
//! 0  "SL" 0xA5, kind    4  length of the payload    8  row records before this one
//! 12 CRC-32C of the payload    16  unused, 0    20  CRC-32C of the 20 bytes above and the place
//! 24 payload, then zeros up to a multiple of 8
//! ```
//!
//! The checksum of the header begins with a salt that no client knows, and covers where the record
//! stands: bytes that a client has put into its row are never taken for a record, and a search for
//! the next record after damage reads each byte a bounded number of times.

use std::ops::Range;

const MAGIC: [u8; 3] = [b'S', b'L', 0xa5];

pub const HEADER_BYTES: usize = 24;

/// Records begin at multiples of this.
const STEP: usize = 8;

/// Larger payloads are no records.
pub const PAYLOAD_BYTES_MAX: usize = 512 * 1024;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A finished request.
    Row = 1,
    /// The row that a request leaves if the process ends before it does.
    Intent = 2,
    /// A count of refused keys.
    Refused = 3,
    /// The end of a slice: what stands between two cuts is sent together.
    Cut = 4,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Row, Self::Intent, Self::Refused, Self::Cut];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What the checksums of one segment begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(u32);

impl Salt {
    pub fn new(boot: &[u8; 16], segment: u64) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(boot), &segment.to_le_bytes()))
    }

    /// The checksum of something else in the same segment.
    pub fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// The bytes of a record with `payload_bytes`.
pub const fn framed_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(STEP)
}

/// A record that has no place yet: room for the header, and the payload with its checksum.
///
/// All that is done before the place is known, outside of any lock.
#[derive(Debug, Default)]
pub struct Draft {
    bytes: Vec<u8>,
    length: u32,
    payload_crc: u32,
}

impl Draft {
    /// Begins anew with what `write` appends.
    pub fn fill(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.clear();
        self.bytes.resize(HEADER_BYTES, 0);
        write(&mut self.bytes);
        let payload = self.bytes.get(HEADER_BYTES..).unwrap_or_default();
        self.length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.payload_crc = crc32c::crc32c(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(STEP), 0);
    }

    /// The bytes that the record takes.
    pub fn framed_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_too_large(&self) -> bool {
        self.length as usize > PAYLOAD_BYTES_MAX
    }

    /// The record's bytes for its place.
    pub fn placed(&mut self, salt: Salt, at: u64, kind: Kind, rows_before: u32) -> &[u8] {
        let header = header(kind, self.length, rows_before, self.payload_crc);
        let crc = header_crc(salt, at, &header);
        if let Some((place, rest)) = self.bytes.split_first_chunk_mut() {
            *place = header;
            if let Some(place) = rest.first_chunk_mut() {
                *place = crc.to_le_bytes();
            }
        }
        &self.bytes
    }
}

fn header(kind: Kind, length: u32, rows_before: u32, payload_crc: u32) -> [u8; 20] {
    let [m0, m1, m2] = MAGIC;
    let [l0, l1, l2, l3] = length.to_le_bytes();
    let [r0, r1, r2, r3] = rows_before.to_le_bytes();
    let [p0, p1, p2, p3] = payload_crc.to_le_bytes();
    [m0, m1, m2, kind as u8, l0, l1, l2, l3, r0, r1, r2, r3, p0, p1, p2, p3, 0, 0, 0, 0]
}

fn header_crc(salt: Salt, at: u64, header: &[u8; 20]) -> u32 {
    crc32c::crc32c_append(salt.checksum(header), &at.to_le_bytes())
}

/// A record as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins and ends in the segment.
    pub at: u64,
    pub end: u64,
    pub kind: Kind,
    pub payload: &'a [u8],
    rows_before: u32,
}

/// What was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Damage {
    /// Stretches of bytes that are no records.
    pub gaps: u64,
    pub bytes: u64,
    /// Rows that stood in them, as far as the records that follow tell.
    pub rows: u64,
}

/// Goes from record to record through a part of a segment, over whatever is damaged.
#[derive(Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    /// Where `bytes` begins in the segment.
    base: u64,
    salt: Salt,
    at: usize,
    /// How many rows should stand before the next record; not known before the first.
    rows: Option<u32>,
    damage: Damage,
}

/// What stands at a place.
enum Place {
    Record {
        kind: Kind,
        payload: Range<usize>,
        rows_before: u32,
        end: usize,
    },
    /// The header is good, and says how long the record is.
    BadPayload {
        kind: Kind,
        rows_before: u32,
        end: usize,
    },
    Nothing,
}

impl<'a> Scan<'a> {
    /// `bytes` stand at `base` of their segment, where a record begins.
    pub fn new(bytes: &'a [u8], base: u64, salt: Salt) -> Self {
        Self { bytes, base, salt, at: 0, rows: None, damage: Damage::default() }
    }

    /// From the first record of a segment on, so that rows which are lost before the first record
    /// that is found are counted as well.
    pub fn from_first(bytes: &'a [u8], base: u64, salt: Salt) -> Self {
        Self { rows: Some(0), ..Self::new(bytes, base, salt) }
    }

    /// What was damaged up to here.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    fn place(&self, at: usize) -> Place {
        let Some(bytes) = self.bytes.get(at..) else { return Place::Nothing };
        let Some((header, rest)) = bytes.split_first_chunk::<20>() else { return Place::Nothing };
        let Some(crc) = rest.first_chunk::<4>() else { return Place::Nothing };
        let [m0, m1, m2, kind, l0, l1, l2, l3, r0, r1, r2, r3, p0, p1, p2, p3, ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if [m0, m1, m2] != MAGIC || length > PAYLOAD_BYTES_MAX {
            return Place::Nothing;
        }
        let Some(kind) = Kind::from_byte(kind) else { return Place::Nothing };
        let is_ours =
            header_crc(self.salt, self.base + at as u64, header) == u32::from_le_bytes(*crc);
        let end = at + framed_bytes(length);
        if !is_ours || end > self.bytes.len() {
            return Place::Nothing;
        }
        let rows_before = u32::from_le_bytes([r0, r1, r2, r3]);
        let payload = at + HEADER_BYTES..at + HEADER_BYTES + length;
        let found = self.bytes.get(payload.clone()).map(crc32c::crc32c);
        if found == Some(u32::from_le_bytes([p0, p1, p2, p3])) {
            Place::Record { kind, payload, rows_before, end }
        } else {
            Place::BadPayload { kind, rows_before, end }
        }
    }

    /// Goes on to the next place that is not `Nothing`, and counts what is passed; zeros are the
    /// part of a segment that nobody has written to.
    fn skip(&mut self) {
        let from = self.at;
        let mut last_byte = None;
        while let Some(bytes) = self.bytes.get(self.at..).filter(|bytes| !bytes.is_empty()) {
            if !matches!(self.place(self.at), Place::Nothing) {
                break;
            }
            let step = bytes.get(..STEP).unwrap_or(bytes);
            if step.iter().any(|byte| *byte != 0) {
                last_byte = Some(self.at + step.len());
            }
            self.at += step.len();
        }
        let is_at_end = self.at == self.bytes.len();
        let end = if is_at_end { last_byte.unwrap_or(from) } else { self.at };
        if from < end {
            self.damage.gaps += 1;
            self.damage.bytes += (end - from) as u64;
        }
    }

    fn pass(&mut self, kind: Kind, rows_before: u32, end: usize) {
        if let Some(expected) = self.rows {
            self.damage.rows += u64::from(rows_before.saturating_sub(expected));
        }
        self.rows = Some(rows_before + u32::from(kind == Kind::Row));
        self.at = end;
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        while self.at < self.bytes.len() {
            let at = self.at;
            match self.place(at) {
                Place::Record { kind, payload, rows_before, end } => {
                    self.pass(kind, rows_before, end);
                    return Some(Record {
                        at: self.base + at as u64,
                        end: self.base + end as u64,
                        kind,
                        payload: self.bytes.get(payload).unwrap_or_default(),
                        rows_before,
                    });
                }
                Place::BadPayload { kind, rows_before, end } => {
                    self.damage.gaps += 1;
                    self.damage.bytes += (end - at) as u64;
                    self.damage.rows += u64::from(kind == Kind::Row);
                    self.pass(kind, rows_before, end);
                }
                Place::Nothing => self.skip(),
            }
        }
        None
    }
}

/// Where the next record of a segment goes.
#[derive(Debug, Clone, Copy)]
pub struct Tail {
    salt: Salt,
    at: u64,
    end: u64,
    rows: u32,
}

impl Tail {
    /// An empty segment whose records stand between `begin` and `end`.
    pub const fn new(salt: Salt, begin: u64, end: u64) -> Self {
        Self { salt, at: begin, end, rows: 0 }
    }

    pub const fn at(&self) -> u64 {
        self.at
    }

    /// Whether the record fits, and the cut that comes last.
    pub const fn has_room(&self, draft: &Draft) -> bool {
        self.at + draft.bytes.len() as u64 + HEADER_BYTES as u64 <= self.end
    }

    /// The bytes of the record for the next place.
    pub fn place<'d>(&self, kind: Kind, draft: &'d mut Draft) -> &'d [u8] {
        draft.placed(self.salt, self.at, kind, self.rows)
    }

    /// The record is written: the next comes behind it.
    pub fn advance(&mut self, kind: Kind, draft: &Draft) {
        self.at += draft.bytes.len() as u64;
        self.rows += u32::from(kind == Kind::Row);
    }
}
