//! What a process has left in its folder: found again, torn ends cut, requests in flight told.
//!
//! Nothing here refuses: what cannot be read is counted and passed over.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::boot::{Boot, write_whole};
use super::frame::{Damage, Draft, Kind, Scan, Tail};
use super::segment::{RECORDS_AT, Segment, Title, file_name};
use super::slice::{Step, step};
use crate::usage::row;

/// What was found in the folder of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    pub segments: u64,
    /// Rows that are not known to be in the store.
    pub rows: u64,
    /// Requests that were in flight: each has a row.
    pub crashed: u64,
    pub damage: Damage,
    /// Segments that should be there.
    pub missing: u64,
    /// Segments that are there and cannot be read.
    pub unreadable: u64,
}

/// Rows of requests that have begun and not ended, by request.
pub type Begun = HashMap<[u8; 16], Box<[u8]>>;

/// Takes note of what a record says about its request.
pub fn note(begun: &mut Begun, step: Step<'_>) {
    match step {
        Step::Began { request, row } => {
            begun.insert(request, row.into());
        }
        Step::Ended { request } => {
            begun.remove(&request);
        }
    }
}

/// Finds the segments of `boot`, and gives each request in flight its row.
pub fn recover(boot: &Boot) -> io::Result<Found> {
    let mut found = Found::default();
    let mut begun = Begun::new();
    let kept = boot.begun().unwrap_or_else(|error| {
        tracing::error!(folder = %boot.folder.display(), %error, "requests in flight are not known");
        found.damage.gaps += 1;
        None
    });
    let mut next = 0;
    if let Some((up_to, rows)) = kept {
        next = up_to + 1;
        for row in rows {
            if let Some(request) = row::request_key(&row) {
                begun.insert(request, row);
            }
        }
    }
    let mut bytes = Vec::new();
    for (number, path) in boot.files()? {
        if number < next {
            // It was done with when the requests above were kept.
            std::fs::remove_file(&path).ok();
            continue;
        }
        found.missing += if found.segments == 0 && next == 0 { 0 } else { number - next };
        next = number + 1;
        match read(boot, number, &path, (&mut bytes, &mut begun, &mut found)) {
            Ok(Some(segment)) => boot.segments().push_back(segment),
            Ok(None) => {}
            Err(error) => {
                found.unreadable += 1;
                tracing::error!(segment = %path.display(), %error, "a segment cannot be read");
            }
        }
    }
    if !begun.is_empty() {
        boot.segments().push_back(tell(boot, next, &begun, &mut found)?);
    }
    Ok(found)
}

/// One segment; `None` when there is nothing in it.
fn read(
    boot: &Boot,
    number: u64,
    path: &Path,
    (bytes, begun, found): (&mut Vec<u8>, &mut Begun, &mut Found),
) -> io::Result<Option<Arc<Segment>>> {
    let named = Title { fingerprint: row::fingerprint(), boot: boot.id.into_bytes(), number };
    let segment = Segment::open(path, named)?;
    segment.read_all(bytes)?;
    let sent = segment.position();
    let mut scan = Scan::from_first(bytes, RECORDS_AT, segment.salt);
    let (mut end, mut last_cut, mut rows) = (RECORDS_AT, RECORDS_AT, 0);
    for record in scan.by_ref() {
        end = record.end;
        match record.kind {
            Kind::Cut if record.at >= sent => {
                last_cut = record.end;
                segment.add_cut(record.end);
            }
            Kind::Cut => last_cut = record.end,
            Kind::Row => rows += u64::from(record.at >= sent),
            Kind::Intent | Kind::Refused | Kind::Payload => {}
        }
        if let Some(step) = step(record.kind, record.payload) {
            note(begun, step);
        }
    }
    // The end of the process was the end of the last slice.
    if last_cut.max(sent) < end {
        segment.add_cut(end);
    }
    let damage = scan.damage();
    found.damage.gaps += damage.gaps;
    found.damage.bytes += damage.bytes;
    found.damage.rows += damage.rows;
    if end == RECORDS_AT && damage.gaps == 0 {
        segment.remove()?;
        return Ok(None);
    }
    // The end of the process need not have been the end of the disk's work.
    segment.sync()?;
    found.segments += 1;
    found.rows += rows;
    Ok(Some(Arc::new(segment)))
}

/// A segment more, with a row for each request that had begun.
fn tell(boot: &Boot, number: u64, begun: &Begun, found: &mut Found) -> io::Result<Arc<Segment>> {
    let title = Title { fingerprint: row::fingerprint(), boot: boot.id.into_bytes(), number };
    let mut rows: Vec<&[u8]> = begun.values().map(|row| &**row).collect();
    rows.sort_unstable();
    let path = boot.folder.join(file_name(number));
    let end = write_segment(&path, title, rows.into_iter().map(|row| (Kind::Row, row)))?;
    let segment = Segment::open(&path, title)?;
    segment.add_cut(end);
    found.segments += 1;
    found.rows += begun.len() as u64;
    found.crashed += begun.len() as u64;
    Ok(Arc::new(segment))
}

/// Writes a segment of these records, whole or not at all; says where they end.
pub fn write_segment<'a>(
    path: &Path,
    title: Title,
    records: impl Iterator<Item = (Kind, &'a [u8])>,
) -> io::Result<u64> {
    let mut tail = Tail::new(title.salt(), RECORDS_AT, u64::MAX);
    let mut draft = Draft::default();
    let mut bytes = title.page().to_vec();
    bytes.resize(usize::try_from(RECORDS_AT).unwrap_or(usize::MAX), 0);
    for (kind, payload) in records {
        draft.fill(|to| to.extend_from_slice(payload));
        bytes.extend_from_slice(tail.place(kind, &mut draft));
        tail.advance(kind, &draft);
    }
    write_whole(path, &bytes)?;
    Ok(tail.at())
}
