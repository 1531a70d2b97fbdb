//! The folder of one process in the spool: its lock, its segments, its requests that outlive them.
//!
//! ```text
//! spool_dir/
//!   01980d2e…/         a process: the id of its start
//!     lock             held while it lives
//!     0000….seg        its segments, oldest first
//!     begun            requests without a row whose segments are gone
//!   dead/              rows that the store refused
//! ```

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::segment::{BLANK, Segment, number_of};

const LOCK: &str = "lock";
const BEGUN: &str = "begun";

/// Of the name of a file that is being written.
const NEW: &str = "new";

/// Segments up to this number are done with, and these rows of requests in them have begun and not
/// ended.
pub(super) type Outlived = (u64, Vec<Box<[u8]>>);

/// Rows that the store refused are kept here.
pub const DEAD: &str = "dead";

/// The folder of one process, held by this one.
#[derive(Debug)]
pub struct Boot {
    pub id: Uuid,
    pub folder: PathBuf,
    /// Oldest first.
    segments: Mutex<VecDeque<Arc<Segment>>>,
    /// Held open for its lock.
    _lock: File,
}

impl Boot {
    /// Makes the folder of this process. It has its name only once the lock is held.
    pub fn create(root: &Path) -> io::Result<Self> {
        let id = Uuid::now_v7();
        let made = root.join(format!(".{}", id.simple()));
        std::fs::create_dir_all(&made)?;
        let lock = File::create(made.join(LOCK))?;
        lock.try_lock()?;
        let folder = root.join(id.simple().to_string());
        std::fs::rename(&made, &folder)?;
        sync_folder(root);
        Ok(Self { id, folder, segments: Mutex::default(), _lock: lock })
    }

    /// Takes over the folder of a process that has ended; `None` when it lives.
    pub fn adopt(folder: &Path) -> io::Result<Option<Self>> {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Ok(id) = Uuid::try_parse(name) else { return Ok(None) };
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK));
        let lock = match lock {
            Ok(lock) => lock,
            // Somebody else has taken it over and is done with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Some(Self { id, folder: folder.to_owned(), segments: Mutex::default(), _lock: lock }))
    }

    pub fn segments(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn oldest(&self) -> Option<Arc<Segment>> {
        self.segments().front().map(Arc::clone)
    }

    pub fn bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.bytes()).sum()
    }

    /// The files of segments there are, by number.
    pub fn files(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        Self::files_in(&self.folder)
    }

    /// As [`Self::files`], of a folder that somebody else may hold.
    pub fn files_in(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if let Some(number) = number_of(&path) {
                files.push((number, path));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Keeps the rows of requests that are begun and not ended at the end of segment `up_to`,
    /// which can go then.
    pub fn keep_begun<'a>(
        &self,
        up_to: u64,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        let mut bytes = up_to.to_le_bytes().to_vec();
        for row in rows {
            bytes.extend_from_slice(&u32::try_from(row.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(row);
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        write_whole(&self.folder.join(BEGUN), &bytes)
    }

    /// What [`Self::keep_begun`] has kept.
    pub fn begun(&self) -> io::Result<Option<Outlived>> {
        let bytes = match std::fs::read(self.folder.join(BEGUN)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        parse_begun(&bytes)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the file is damaged"))
    }

    /// Removes what was to become a segment and did not.
    fn remove_blanks(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == BLANK || extension == NEW) {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the folder; every segment in it is done with.
    pub fn remove(&self) -> io::Result<()> {
        self.remove_blanks()?;
        for name in [BEGUN, LOCK] {
            match std::fs::remove_file(self.folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::remove_dir(&self.folder)
    }
}

fn parse_begun(bytes: &[u8]) -> Option<Outlived> {
    let (bytes, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(bytes) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (up_to, mut rest) = bytes.split_first_chunk::<8>()?;
    let mut rows = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (row, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rows.push(row.into());
        rest = after;
    }
    rest.is_empty().then(|| (u64::from_le_bytes(*up_to), rows))
}

/// The folders of processes in the spool, oldest first.
pub fn folders(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(folders),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.len() == 32 && Uuid::try_parse(name).is_ok() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// Writes a file that is there whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let made = path.with_extension(NEW);
    let file = File::create(&made)?;
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0)?;
    file.sync_data()?;
    std::fs::rename(&made, path)?;
    path.parent().into_iter().for_each(sync_folder);
    Ok(())
}

/// Names survive a power cut only once their folder is synced. Not every file system can.
pub(super) fn sync_folder(folder: &Path) {
    File::open(folder).and_then(|folder| folder.sync_all()).ok();
}
