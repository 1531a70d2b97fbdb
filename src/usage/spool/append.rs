//! The end where rows come in: one record after the other into the open segment.
//!
//! A record is encoded and its payload summed up before; the lock is held for one `write(2)` into
//! the page cache.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use super::boot::Boot;
use super::frame::{Draft, Kind, Tail};
use super::segment::{Blank, RECORDS_AT, Segment, Title};
use crate::config::server::SyncPolicy;
use crate::usage::row;

/// How the spool is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    pub folder: PathBuf,
    pub segment_bytes: u64,
    /// When rows have to be on the disk itself.
    pub sync: SyncPolicy,
    /// Where slices end, by whether the store answers.
    pub usual: SliceLimits,
    pub outage: SliceLimits,
}

/// A slice ends when it has this much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceLimits {
    pub rows_max: usize,
    pub bytes_max: usize,
    pub age_max: Duration,
}

impl SliceLimits {
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self {
            rows_max: self.rows_max.max(other.rows_max),
            bytes_max: self.bytes_max.max(other.bytes_max),
            age_max: self.age_max.max(other.age_max),
        }
    }
}

/// Whether the store answers: while it does not, slices are larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Usual = 0,
    Outage = 1,
}

/// The open end of the spool.
#[derive(Debug)]
pub struct Spool {
    settings: Settings,
    boot: Arc<Boot>,
    open: Mutex<Open>,
    pace: AtomicU8,
    /// No segment could be made ahead: the disk is full.
    is_full: AtomicBool,
    pub(super) sync: super::sync::Shared,
    /// The thread that sends.
    sender: OnceLock<Thread>,
}

/// What the lock guards.
#[derive(Debug)]
struct Open {
    segment: Option<Arc<Segment>>,
    tail: Tail,
    since_cut: SinceCut,
    last_cut: Appended,
    /// Made ahead, so that nobody waits for it.
    spare: Option<Blank>,
    next_number: u64,
    is_closed: bool,
    cut: Draft,
}

/// Records since the last cut.
#[derive(Debug, Clone, Copy, Default)]
struct SinceCut {
    n_records: usize,
    /// Rows and counts: what there is to send.
    n_sent: usize,
    bytes: usize,
}

/// Where the end of a record is, in the order of all records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Appended {
    pub segment: u64,
    pub end: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum NotAppended {
    #[error("the spool is closed")]
    Closed,
    #[error("the spool has no room: {0}")]
    NoRoom(#[from] io::Error),
    #[error("the row is too large")]
    TooLarge,
}

impl Spool {
    /// Makes the folder of this process and its first segment. A full disk is no error.
    pub fn open(settings: Settings) -> io::Result<Self> {
        std::fs::create_dir_all(&settings.folder)?;
        let boot = Arc::new(Boot::create(&settings.folder)?);
        let open = Open {
            segment: None,
            tail: Tail::new(super::frame::Salt::new(&[0; 16], 0), 0, 0),
            since_cut: SinceCut::default(),
            last_cut: Appended::default(),
            spare: None,
            next_number: 0,
            is_closed: false,
            cut: Draft::default(),
        };
        let spool = Self {
            settings,
            boot,
            open: Mutex::new(open),
            pace: AtomicU8::new(Pace::Usual as u8),
            is_full: AtomicBool::new(false),
            sync: super::sync::Shared::default(),
            sender: OnceLock::new(),
        };
        match spool.roll(&mut spool.lock()) {
            Ok(()) => {}
            Err(error) if is_full(&error) => spool.set_full(true),
            Err(error) => return Err(error),
        }
        Ok(spool)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn boot(&self) -> &Arc<Boot> {
        &self.boot
    }

    pub fn root(&self) -> &Path {
        &self.settings.folder
    }

    /// Who has to hear of slices.
    pub fn set_sender(&self, sender: Thread) {
        // Set once, by who starts the thread.
        self.sender.set(sender).ok();
    }

    pub fn wake_sender(&self) {
        if let Some(sender) = self.sender.get() {
            sender.unpark();
        }
    }

    pub fn set_pace(&self, pace: Pace) {
        self.pace.store(pace as u8, Ordering::Relaxed);
    }

    /// What ends a slice at the moment.
    pub fn slice_limits(&self) -> &SliceLimits {
        if self.pace.load(Ordering::Relaxed) == Pace::Outage as u8 {
            &self.settings.outage
        } else {
            &self.settings.usual
        }
    }

    /// Whether there may soon be no room for more rows.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Hands a record to the operating system.
    pub fn append(&self, kind: Kind, draft: &mut Draft) -> Result<Appended, NotAppended> {
        if draft.is_too_large() {
            return Err(NotAppended::TooLarge);
        }
        let limits = self.slice_limits();
        let mut open = self.lock();
        if open.is_closed {
            return Err(NotAppended::Closed);
        }
        if open.segment.is_none() || !open.tail.has_room(draft) {
            self.roll(&mut open)?;
        }
        let segment = open.write(kind, draft)?;
        let end = Appended { segment, end: open.tail.at() };
        let was_empty = open.since_cut.n_sent == 0;
        open.since_cut.n_records += 1;
        open.since_cut.bytes += draft.framed_bytes();
        let is_sent = kind != Kind::Intent;
        open.since_cut.n_sent += usize::from(is_sent);
        let is_whole =
            open.since_cut.n_sent >= limits.rows_max || open.since_cut.bytes >= limits.bytes_max;
        if is_whole {
            open.cut()?;
        }
        drop(open);
        self.sync.touch();
        // The first row begins the age of its slice; the others do not wake anybody.
        if is_whole || (is_sent && was_empty) {
            self.wake_sender();
        }
        Ok(end)
    }

    /// Ends the slice, if there is something to send in it; says where the last slice ends.
    pub fn cut(&self) -> io::Result<Appended> {
        let mut open = self.lock();
        if open.since_cut.n_sent > 0 {
            open.cut()?;
        }
        Ok(open.last_cut)
    }

    /// Whether something waits for a cut.
    pub fn has_uncut(&self) -> bool {
        self.lock().since_cut.n_sent > 0
    }

    /// Takes no more records, and ends the last slice.
    pub fn close(&self) -> io::Result<()> {
        let mut open = self.lock();
        open.is_closed = true;
        if open.since_cut.n_records > 0 {
            open.cut()?;
        }
        if let Some(segment) = open.segment.take() {
            let end = open.tail.at();
            segment.sync()?;
            segment.seal();
            segment.trim(end)?;
        }
        if let Some(spare) = open.spare.take() {
            spare.remove()?;
        }
        drop(open);
        self.sync_all()
    }

    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// The open segment and where its records end.
    pub(super) fn open_end(&self) -> Option<(Arc<Segment>, Appended)> {
        let open = self.lock();
        let segment = Arc::clone(open.segment.as_ref()?);
        let end = Appended { segment: segment.title.number, end: open.tail.at() };
        Some((segment, end))
    }

    /// Makes the next segment ahead. Called where waiting does not matter.
    pub(super) fn make_spare(&self) {
        let has_spare = |open: &Open| open.is_closed || open.spare.is_some();
        if has_spare(&self.lock()) {
            return;
        }
        match self.blank("spare") {
            Ok(blank) => {
                let mut open = self.lock();
                if open.is_closed {
                    drop(open);
                    blank.remove().ok(); // The folder is about to go, with all that is in it.
                } else {
                    open.spare = Some(blank);
                    drop(open);
                    self.set_full(false);
                }
            }
            Err(error) => {
                if !self.is_full() {
                    tracing::error!(%error, folder = %self.settings.folder.display(),
                        "no room for more usage rows");
                }
                self.set_full(true);
            }
        }
    }

    fn set_full(&self, is_full: bool) {
        if self.is_full.swap(is_full, Ordering::Relaxed) && !is_full {
            tracing::info!("there is room for usage rows again");
        }
    }

    fn blank(&self, name: &str) -> io::Result<Blank> {
        Blank::create(&self.boot.folder, name, self.settings.segment_bytes)
    }

    /// Goes on in a new segment.
    fn roll(&self, open: &mut Open) -> io::Result<()> {
        let blank = match open.spare.take() {
            Some(spare) => spare,
            None => self.blank("next").inspect_err(|error| {
                if is_full(error) {
                    self.set_full(true);
                }
            })?,
        };
        let title = Title {
            fingerprint: row::fingerprint(),
            boot: self.boot.id.into_bytes(),
            number: open.next_number,
        };
        let next = Arc::new(blank.into_segment(&self.boot.folder, title)?);
        open.next_number += 1;
        if open.segment.is_some() && open.since_cut.n_records > 0 {
            open.cut()?;
        }
        if let Some(segment) = open.segment.take() {
            self.sync.add_full(segment, open.tail.at());
        }
        open.tail = Tail::new(next.salt, RECORDS_AT, self.settings.segment_bytes);
        open.segment = Some(Arc::clone(&next));
        self.boot.segments().push_back(next);
        self.sync.touch();
        Ok(())
    }

    /// What the lock guards is whole between two statements that can fail.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No room on the disk, or no leave to take more of it.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Open {
    /// Writes the record at the end; a write that fails leaves the end where it is.
    fn write(&mut self, kind: Kind, draft: &mut Draft) -> io::Result<u64> {
        let segment = self.segment.as_ref().ok_or(io::ErrorKind::StorageFull)?;
        segment.write(self.tail.place(kind, draft), self.tail.at())?;
        self.tail.advance(kind, draft);
        Ok(segment.title.number)
    }

    fn cut(&mut self) -> io::Result<()> {
        let mut cut = std::mem::take(&mut self.cut);
        cut.fill(|_| {});
        let written = self.write(Kind::Cut, &mut cut);
        self.cut = cut;
        written?;
        self.since_cut = SinceCut::default();
        if let Some(segment) = &self.segment {
            self.last_cut = Appended { segment: segment.title.number, end: self.tail.at() };
            segment.add_cut(self.tail.at());
        }
        Ok(())
    }
}
