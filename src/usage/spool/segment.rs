//! One file of records: a page that says what it is, a mark up to where it has been sent, records.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FallocateFlags;

use super::frame::Salt;
use super::slice::Bounds;

const MAGIC: &[u8; 8] = b"SLSPOOL1";

/// Where the mark stands that says up to where the segment is sent.
const SENT_AT: u64 = 512;

/// Where the first record begins.
pub const RECORDS_AT: u64 = 4096;

/// Of a segment's name; the part before it is its number in hexadecimal.
pub const EXTENSION: &str = "seg";

/// Of the name of a file that is to become a segment.
pub(super) const BLANK: &str = "blank";

/// What the first page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Title {
    /// Of the columns that its rows have.
    pub fingerprint: u64,
    pub boot: [u8; 16],
    pub number: u64,
}

/// One segment, as who appends to it and who sends it see it.
#[derive(Debug)]
pub struct Segment {
    pub title: Title,
    pub salt: Salt,
    pub path: PathBuf,
    file: File,
    /// The bytes that the file takes of the disk.
    bytes: AtomicU64,
    /// Nothing more will be appended.
    is_sealed: AtomicBool,
    /// Where the next slice to be sent begins.
    position: AtomicU64,
    /// Where slices end that are not sent.
    cuts: Mutex<VecDeque<u64>>,
}

impl Title {
    pub fn salt(self) -> Salt {
        Salt::new(&self.boot, self.number)
    }

    pub fn page(self) -> [u8; 44] {
        let mut page = [0; 44];
        let fields = MAGIC
            .iter()
            .copied()
            .chain(self.fingerprint.to_le_bytes())
            .chain(self.boot)
            .chain(self.number.to_le_bytes());
        let crc = crc32c::crc32c(&fields.clone().collect::<Vec<u8>>());
        for (to, from) in page.iter_mut().zip(fields.chain(crc.to_le_bytes())) {
            *to = from;
        }
        page
    }

    fn parse(page: &[u8; 44]) -> Option<Self> {
        let (fields, crc) = page.split_last_chunk::<4>()?;
        if crc32c::crc32c(fields) != u32::from_le_bytes(*crc) || !fields.starts_with(MAGIC) {
            return None;
        }
        let rest = fields.get(MAGIC.len()..)?;
        let (fingerprint, rest) = rest.split_first_chunk::<8>()?;
        let (boot, rest) = rest.split_first_chunk::<16>()?;
        let number = rest.first_chunk::<8>()?;
        Some(Self {
            fingerprint: u64::from_le_bytes(*fingerprint),
            boot: *boot,
            number: u64::from_le_bytes(*number),
        })
    }
}

pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.{EXTENSION}")
}

/// The number in a segment's name.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let is_segment = path.extension()?.to_str()? == EXTENSION;
    (is_segment && stem.len() == 16).then(|| u64::from_str_radix(stem, 16).ok()).flatten()
}

/// A file with its room on the disk taken, which is no segment yet.
#[derive(Debug)]
pub(super) struct Blank {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Blank {
    /// Makes the file. No other may be in the making in `folder` under the same `name`.
    pub(super) fn create(folder: &Path, name: &str, bytes: u64) -> io::Result<Self> {
        let path = folder.join(format!("{name}.{BLANK}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        let blank = Self { file, path, bytes };
        match rustix::fs::fallocate(&blank.file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(blank),
            // A file system without it: the room is taken as it is written.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                blank.file.set_len(bytes)?;
                Ok(blank)
            }
            Err(error) => {
                blank.remove()?;
                Err(error.into())
            }
        }
    }

    /// Makes it the segment `title` of `folder`.
    pub(super) fn into_segment(self, folder: &Path, title: Title) -> io::Result<Segment> {
        self.file.write_all_at(&title.page(), 0)?;
        let path = folder.join(file_name(title.number));
        std::fs::rename(&self.path, &path)?;
        Ok(Segment::with(self.file, &path, title, self.bytes))
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

impl Segment {
    /// Opens a segment that another process has left. `named` is what its place says of it, should
    /// its first page be damaged.
    pub fn open(path: &Path, named: Title) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut page = [0; 44];
        let title = match file.read_exact_at(&mut page, 0) {
            Ok(()) => Title::parse(&page).unwrap_or(named),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => named,
            Err(error) => return Err(error),
        };
        let bytes = file.metadata()?.len();
        let segment = Self::with(file, path, title, bytes);
        segment.is_sealed.store(true, Ordering::Release);
        let mut mark = [0; 12];
        if segment.file.read_exact_at(&mut mark, SENT_AT).is_ok()
            && let Some((sent, crc)) = mark.split_last_chunk::<4>()
            && segment.salt.checksum(sent) == u32::from_le_bytes(*crc)
            && let Some(sent) = sent.first_chunk::<8>()
        {
            let sent = u64::from_le_bytes(*sent).clamp(RECORDS_AT, bytes.max(RECORDS_AT));
            segment.position.store(sent, Ordering::Release);
        }
        Ok(segment)
    }

    fn with(file: File, path: &Path, title: Title, bytes: u64) -> Self {
        Self {
            title,
            salt: title.salt(),
            path: path.to_owned(),
            file,
            bytes: AtomicU64::new(bytes),
            is_sealed: AtomicBool::new(false),
            position: AtomicU64::new(RECORDS_AT),
            cuts: Mutex::default(),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Acquire)
    }

    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Hands the record's bytes to the operating system.
    pub fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    pub fn read(&self, bounds: Bounds, to: &mut Vec<u8>) -> io::Result<()> {
        let n_bytes = usize::try_from(bounds.to.saturating_sub(bounds.from)).unwrap_or(usize::MAX);
        to.clear();
        to.resize(n_bytes, 0);
        self.file.read_exact_at(to, bounds.from)
    }

    /// The whole part of the records.
    pub fn read_all(&self, to: &mut Vec<u8>) -> io::Result<()> {
        self.read(Bounds { from: RECORDS_AT, to: self.bytes().max(RECORDS_AT) }, to)
    }

    /// A slice ends at `at`.
    pub fn add_cut(&self, at: u64) {
        self.cuts().push_back(at);
    }

    /// Nothing more comes, and the last record ends at `end`.
    pub fn seal(&self) {
        self.is_sealed.store(true, Ordering::Release);
    }

    /// Gives back the room behind the last record. The segment is sealed.
    pub fn trim(&self, end: u64) -> io::Result<()> {
        self.file.set_len(end)?;
        self.bytes.store(end, Ordering::Release);
        Ok(())
    }

    /// The oldest slice that is not sent.
    pub fn next(&self) -> Option<Bounds> {
        let to = *self.cuts().front()?;
        Some(Bounds { from: self.position(), to })
    }

    /// The slice up to `to` is in the store. A mark that is lost does no harm: the slice is sent
    /// again, with the same token.
    pub fn sent(&self, to: u64) -> io::Result<()> {
        self.position.store(to, Ordering::Release);
        let mut cuts = self.cuts();
        while cuts.front().is_some_and(|cut| *cut <= to) {
            cuts.pop_front();
        }
        drop(cuts);
        let sent = to.to_le_bytes();
        let mark = [&sent[..], &self.salt.checksum(&sent).to_le_bytes()].concat();
        self.file.write_all_at(&mark, SENT_AT)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    fn cuts(&self) -> std::sync::MutexGuard<'_, VecDeque<u64>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
