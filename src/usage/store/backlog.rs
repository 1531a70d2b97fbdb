//! What waits in the spool: the folders of processes that have ended, then that of this one.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::usage::row;
use crate::usage::spool::{
    Appended, Begun, Boot, Bounds, DEAD, Found, Segment, Slice, Spool, folders, note, recover,
};

/// Every folder that this process holds, oldest first; its own is the last.
#[derive(Debug)]
pub(super) struct Backlog {
    spool: Arc<Spool>,
    boots: Mutex<Vec<Arc<Boot>>>,
}

/// The next slice to be sent.
#[derive(Debug, Clone)]
pub(super) struct Next {
    pub(super) boot: Arc<Boot>,
    pub(super) segment: Arc<Segment>,
    pub(super) bounds: Bounds,
}

impl Backlog {
    pub(super) fn new(spool: Arc<Spool>) -> Self {
        let boots = Mutex::new(vec![Arc::clone(spool.boot())]);
        Self { spool, boots }
    }

    /// What the segments take of the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().iter().map(|boot| boot.bytes()).sum()
    }

    pub(super) fn is_own(&self, boot: &Boot) -> bool {
        boot.id == self.spool.boot().id
    }

    /// Takes over what processes that have ended have left.
    pub(super) fn adopt(&self, mut each: impl FnMut(&Boot, Found)) -> io::Result<()> {
        for folder in folders(self.spool.root())? {
            if self.lock().iter().any(|boot| boot.folder == folder) {
                continue;
            }
            let Some(boot) = Boot::adopt(&folder)? else { continue };
            let found = recover(&boot)?;
            each(&boot, found);
            let mut boots = self.lock();
            boots.push(Arc::new(boot));
            boots.sort_by_key(|boot| (self.is_own(boot), boot.id));
        }
        Ok(())
    }

    /// The oldest slice. Segments and folders that are done with go.
    pub(super) fn next(&self, begun: &Begun) -> Option<Next> {
        loop {
            let boot = self.lock().iter().find(|boot| !self.is_done(boot)).map(Arc::clone)?;
            let Some(segment) = boot.oldest() else {
                self.forget(&boot);
                continue;
            };
            if let Some(bounds) = segment.next() {
                return Some(Next { boot, segment, bounds });
            }
            if !segment.is_sealed() {
                return None;
            }
            self.remove(&boot, &segment, begun);
        }
    }

    /// Whether everything up to `end` of this process, and all that is older, is done with.
    pub(super) fn is_past(&self, end: Appended) -> bool {
        let boots = self.lock();
        let is_alone = boots.len() == 1;
        let own = boots.last().and_then(|own| own.oldest());
        is_alone
            && own.is_none_or(|segment| {
                Appended { segment: segment.title.number, end: segment.position() } >= end
            })
    }

    /// This process has nothing in the spool, and will have nothing more.
    fn is_done(&self, boot: &Boot) -> bool {
        self.is_own(boot) && boot.oldest().is_none()
    }

    /// Removes a segment whose rows are all sent, or given up.
    pub(super) fn remove(&self, boot: &Boot, segment: &Segment, begun: &Begun) {
        if self.is_own(boot) {
            // Requests that outlive their segment.
            let kept = boot.keep_begun(segment.title.number, begun.values().map(|row| &**row));
            if let Err(error) = kept {
                tracing::error!(%error, "requests in flight could not be noted");
            }
        }
        if let Err(error) = segment.remove() {
            tracing::error!(segment = %segment.path.display(), %error,
                "a segment that is sent could not be removed");
        }
        boot.segments().retain(|kept| kept.title.number != segment.title.number);
    }

    /// Removes an empty folder of another process.
    fn forget(&self, boot: &Arc<Boot>) {
        if let Err(error) = boot.remove() {
            tracing::warn!(folder = %boot.folder.display(), %error, "a folder could not be removed");
        }
        self.lock().retain(|kept| kept.id != boot.id);
    }

    /// Removes the folder of this process, unless something is left in it.
    pub(super) fn end(&self, begun: &Begun) {
        let boot = self.spool.boot();
        if begun.is_empty()
            && boot.oldest().is_none()
            && let Err(error) = boot.remove()
        {
            tracing::warn!(folder = %boot.folder.display(), %error, "a folder could not be removed");
        }
    }

    /// The oldest segment that can be dropped: nobody writes to it.
    pub(super) fn oldest_full(&self) -> Option<(Arc<Boot>, Arc<Segment>)> {
        let boots: Vec<_> = self.lock().iter().map(Arc::clone).collect();
        boots.into_iter().find_map(|boot| {
            let segment = boot.oldest().filter(|segment| segment.is_sealed())?;
            Some((boot, segment))
        })
    }

    /// Sets a segment aside whose rows have other columns than ours.
    pub(super) fn set_aside(&self, boot: &Boot, segment: &Segment) -> io::Result<()> {
        let dead = self.spool.root().join(DEAD);
        std::fs::create_dir_all(&dead)?;
        let name = format!("{}-{:x}.old", boot.id.simple(), segment.title.number);
        std::fs::rename(&segment.path, dead.join(name))?;
        boot.segments().retain(|kept| kept.title.number != segment.title.number);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Boot>>> {
        self.boots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Next {
    /// Whether the rows have the columns that this build knows.
    pub(super) fn is_known(&self) -> bool {
        self.segment.title.fingerprint == row::fingerprint()
    }

    /// Reads the slice, and notes the requests in it.
    pub(super) fn read(&self, bytes: &mut Vec<u8>, begun: &mut Begun) -> io::Result<Slice> {
        self.segment.read(self.bounds, bytes)?;
        let (from, salt) = (self.bounds.from, self.segment.salt);
        Ok(Slice::read(bytes, from, salt, |step| note(begun, step)))
    }

    /// The slice is in the store, or set aside.
    pub(super) fn done(&self) {
        if let Err(error) = self.segment.sent(self.bounds.to) {
            tracing::warn!(%error, "a slice that is sent could not be marked");
        }
    }

    /// What is the same for the same slice, whoever sends it.
    pub(super) fn token(&self) -> String {
        let Bounds { from, to } = self.bounds;
        let boot = uuid::Uuid::from_bytes(self.segment.title.boot);
        format!("{}-{:x}-{from:x}-{to:x}", boot.simple(), self.segment.title.number)
    }
}

/// Counts the rows of `segment` that are not sent, and notes the requests in what is not read.
pub(super) fn pass_over(segment: &Segment, begun: &mut Begun) -> u64 {
    let mut bytes = Vec::new();
    let position = segment.position();
    let bounds = Bounds { from: position, to: segment.bytes().max(position) };
    if segment.read(bounds, &mut bytes).is_err() {
        return 0;
    }
    let slice = Slice::read(&bytes, position, segment.salt, |step| note(begun, step));
    slice.n_rows() as u64
}
