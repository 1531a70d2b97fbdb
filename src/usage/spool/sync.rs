//! The thread that brings rows to the disk itself, and makes the next segment before it is needed.
//!
//! It sleeps while nothing is written. A row is at most [`INTERVAL`] old when it is synced, unless
//! the disk is slower than that.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::append::{Appended, Spool};
use super::boot::sync_folder;
use super::segment::Segment;
use crate::config::server::SyncPolicy;

/// Between two syncs.
const INTERVAL: Duration = Duration::from_millis(50);

/// Between two tries to make a segment on a disk that is full.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// What the thread and those who append have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Something is written that is not synced.
    is_dirty: AtomicBool,
    is_ended: AtomicBool,
    thread: OnceLock<Thread>,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Everything up to here is on the disk.
    up_to: Appended,
    /// Segments that are full, and where their records end.
    full: Vec<(Arc<Segment>, u64)>,
}

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Syncing {
    spool: Arc<Spool>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    /// Something was written.
    pub(super) fn touch(&self) {
        if !self.is_dirty.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    pub(super) fn add_full(&self, segment: Arc<Segment>, end: u64) {
        self.lock().full.push((segment, end));
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool {
    /// Starts the thread.
    pub fn start_syncing(self: &Arc<Self>) -> io::Result<Syncing> {
        let spool = Arc::clone(self);
        let thread =
            std::thread::Builder::new().name("usage-sync".to_owned()).spawn(move || spool.run())?;
        self.sync.thread.get_or_init(|| thread.thread().clone());
        self.sync.wake();
        Ok(Syncing { spool: Arc::clone(self), thread: Some(thread) })
    }

    /// Waits until what was appended up to `end` is on the disk, when rows have to be at once.
    pub fn wait_synced(&self, end: Appended) {
        if self.settings().sync != SyncPolicy::Always {
            return;
        }
        let mut state = self.sync.lock();
        while state.up_to < end && !self.sync.is_ended.load(Ordering::Acquire) {
            // The thread syncs in turns; a turn that fails is tried again.
            let waited = self.sync.synced.wait_timeout(state, INTERVAL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Brings what was appended up to `end` to the disk, unless it is there.
    pub fn sync_up_to(&self, end: Appended) -> io::Result<()> {
        if self.is_synced(end) { Ok(()) } else { self.sync_all() }
    }

    pub(super) fn is_synced(&self, end: Appended) -> bool {
        end <= self.sync.lock().up_to
    }

    /// Brings everything so far to the disk.
    pub fn sync_all(&self) -> io::Result<()> {
        let full = std::mem::take(&mut self.sync.lock().full);
        let mut left = full.into_iter();
        for (segment, end) in left.by_ref() {
            // Sealed only here: until then its file is longer than its records.
            if let Err(error) = segment.trim(end).and_then(|()| segment.sync()) {
                let mut state = self.sync.lock();
                state.full.push((segment, end));
                state.full.extend(left);
                return Err(error);
            }
            segment.seal();
        }
        let Some((segment, end)) = self.open_end() else { return Ok(()) };
        segment.sync()?;
        let mut state = self.sync.lock();
        state.up_to = state.up_to.max(end);
        drop(state);
        self.sync.synced.notify_all();
        Ok(())
    }

    fn run(&self) {
        let mut is_failing = false;
        while !self.sync.is_ended.load(Ordering::Acquire) {
            if !self.sync.is_dirty.swap(false, Ordering::AcqRel) && !is_failing {
                if self.is_full() {
                    std::thread::park_timeout(FULL_RETRY);
                    self.make_spare();
                } else {
                    std::thread::park();
                }
                continue;
            }
            let began = Instant::now();
            self.make_spare();
            sync_folder(&self.boot().folder);
            match self.sync_all() {
                Ok(()) => is_failing = false,
                Err(error) if is_failing => tracing::debug!(%error, "usage rows not synced"),
                Err(error) => {
                    is_failing = true;
                    tracing::error!(%error, "usage rows cannot be synced to the disk");
                }
            }
            if self.settings().sync == SyncPolicy::Interval || is_failing {
                self.rest_until(began + INTERVAL);
            }
        }
    }

    fn rest_until(&self, at: Instant) {
        while !self.sync.is_ended.load(Ordering::Acquire) {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.spool.sync.is_ended.store(true, Ordering::Release);
        self.spool.sync.wake();
        self.spool.sync.synced.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            thread.join().ok();
        }
    }
}
