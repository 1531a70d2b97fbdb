//! What `sluice spool` does: look into the spool, and try again what a store has refused.

use std::io;
use std::path::{Path, PathBuf};

use super::batch::{Batch, Table};
use super::dead::Dead;
use super::send::{Between, send};
use super::{InsertError, StoreError, open};
use crate::config::server::UsageConfig;
use crate::usage::row;
use crate::usage::spool::frame::{Damage, Scan};
use crate::usage::spool::{
    Begun, Boot, DEAD, EXTENSION, Kind, RECORDS_AT, Segment, Slice, Title, folders, note, step,
};

/// The folder of one process, as it is.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    pub name: String,
    pub is_alive: bool,
    pub segments: u64,
    pub bytes: u64,
    pub rows: u64,
    pub unsent: u64,
    /// Requests that have begun and not ended, as far as the segments tell.
    pub in_flight: u64,
    /// When the oldest request began whose row is not sent, in microseconds since 1970.
    pub oldest_us: Option<i64>,
    pub damage: Damage,
    pub unreadable: u64,
}

/// Rows that a store has refused.
#[derive(Debug, Clone)]
pub struct DeadFile {
    pub path: PathBuf,
    pub rows: u64,
    pub refused_keys: u64,
}

/// What became of the refused rows.
#[derive(Debug, Clone, Default)]
pub struct Retried {
    pub inserted: u64,
    pub refused: u64,
    /// The store did not answer, or a file could not be read: files that stay as they were.
    pub left: Vec<(PathBuf, String)>,
}

/// Looks into every folder; changes nothing.
pub fn inspect(root: &Path) -> io::Result<Vec<Folder>> {
    folders(root)?.iter().map(|path| inspect_one(path)).collect()
}

fn inspect_one(path: &Path) -> io::Result<Folder> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut folder = Folder { name, ..Folder::default() };
    let Some(boot) = Boot::adopt(path)? else {
        return inspect_files(path, Folder { is_alive: true, ..folder });
    };
    if let Ok(Some((_, rows))) = boot.begun() {
        folder.in_flight = rows.len() as u64;
    }
    inspect_files(path, folder)
}

fn inspect_files(path: &Path, mut folder: Folder) -> io::Result<Folder> {
    let boot = uuid::Uuid::try_parse(&folder.name).unwrap_or_default().into_bytes();
    let mut begun = Begun::new();
    for (number, file) in Boot::files_in(path)? {
        let named = Title { fingerprint: row::fingerprint(), boot, number };
        let read = Segment::open(&file, named).and_then(|segment| {
            let mut bytes = Vec::new();
            segment.read_all(&mut bytes).map(|()| (segment, bytes))
        });
        let Ok((segment, bytes)) = read else {
            folder.unreadable += 1;
            continue;
        };
        folder.segments += 1;
        folder.bytes += segment.bytes();
        let mut scan = Scan::from_first(&bytes, RECORDS_AT, segment.salt);
        for record in scan.by_ref() {
            if record.kind == Kind::Row {
                folder.rows += 1;
                if record.at >= segment.position() {
                    folder.unsent += 1;
                    let row_us = row::started_at_us(record.payload);
                    folder.oldest_us = folder.oldest_us.into_iter().chain(row_us).min();
                }
            }
            if let Some(step) = step(record.kind, record.payload) {
                note(&mut begun, step);
            }
        }
        let damage = scan.damage();
        folder.damage.gaps += damage.gaps;
        folder.damage.bytes += damage.bytes;
        folder.damage.rows += damage.rows;
    }
    folder.in_flight += begun.len() as u64;
    Ok(folder)
}

/// The files of rows that a store has refused.
pub fn dead(root: &Path) -> io::Result<Vec<DeadFile>> {
    let entries = match std::fs::read_dir(root.join(DEAD)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let (_, slice) = read(&path)?;
            files.push(DeadFile {
                path,
                rows: slice.n_rows() as u64,
                refused_keys: slice.refused.ends.len() as u64,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read(path: &Path) -> io::Result<(Segment, Slice)> {
    let named = Title { fingerprint: row::fingerprint(), boot: [0; 16], number: 0 };
    let segment = Segment::open(path, named)?;
    let mut bytes = Vec::new();
    segment.read_all(&mut bytes)?;
    let slice = Slice::read(&bytes, RECORDS_AT, segment.salt, |_| {});
    Ok((segment, slice))
}

/// Gives the store each refused row once more; what it refuses again stays.
pub fn retry_dead(config: &UsageConfig) -> Result<Retried, StoreError> {
    let mut store = open(config)?;
    let fail = |source| StoreError::Spool { path: config.spool_dir.as_path().into(), source };
    let mut retried = Retried::default();
    for file in dead(&config.spool_dir).map_err(fail)? {
        let before = retried.clone();
        if let Err(reason) = retry_one(&mut store, &file.path, &mut retried) {
            retried = before;
            retried.left.push((file.path, reason));
        }
    }
    Ok(retried)
}

fn retry_one(
    store: &mut impl super::Insert,
    path: &Path,
    retried: &mut Retried,
) -> Result<(), String> {
    let (segment, slice) = read(path).map_err(|error| error.to_string())?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut dead = Dead::default();
    let mut last = Last(None);
    let days =
        slice.days.iter().map(|(day, rows)| (Table::Usage, format!("{name}-dead-{day}"), rows));
    let payloads = slice.payloads.iter();
    let payloads =
        payloads.map(|(day, rows)| (Table::Payloads, format!("{name}-dead-payloads-{day}"), rows));
    let refused = (Table::RefusedKeys, format!("{name}-dead-refused"), &slice.refused);
    for (table, token, rows) in days.chain(payloads).chain([refused]) {
        let batch = Batch::new(table, &token, rows);
        if !batch.is_empty() && !send(store, &batch, &mut last, &mut dead) {
            return Err(last.0.unwrap_or_else(|| "the store does not answer".to_owned()));
        }
    }
    let n_refused = dead.n_rows();
    let kept = if dead.is_empty() {
        std::fs::remove_file(path)
    } else {
        dead.bury_again(path, segment.title)
    };
    kept.map_err(|error| error.to_string())?;
    retried.inserted += slice.n_rows() as u64 - n_refused;
    retried.refused += n_refused;
    Ok(())
}

/// A command does not wait for a store that is away: it says so.
struct Last(Option<String>);

impl Between for Last {
    fn pause(&mut self, _n_failed: u32, error: &InsertError) -> bool {
        self.0 = Some(error.to_string());
        matches!(error, InsertError::Refused(_))
    }

    fn tried(&mut self, _result: &Result<(), InsertError>) {}
}
