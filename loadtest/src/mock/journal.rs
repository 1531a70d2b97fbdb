//! What the mock received and how each exchange ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Notify;

use super::http::Head;

/// Bytes of a request's body that an entry keeps.
pub const BODY_KEPT_BYTES_MAX: usize = 64 * 1024;
/// Entries kept; beyond it the oldest goes.
pub const ENTRIES_MAX: usize = 10_000;

/// One request.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Counts requests, from 1.
    pub seq: u64,
    /// Counts connections, from 1.
    pub connection: u64,
    pub method: String,
    /// With the query.
    pub path: String,
    /// As received, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The first [`BODY_KEPT_BYTES_MAX`] bytes.
    pub body: Bytes,
    pub body_bytes: u64,
    /// FNV-1a, 64 bits, over the whole body.
    pub body_fnv: u64,
    pub is_chunked: bool,
    /// Empty until the body has been read, and when it names none.
    pub model: String,
    /// Bytes of the answer's body, framing not counted; 0 while running.
    pub sent_bytes: u64,
    pub end: End,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Running,
    Complete,
    /// The client left first.
    ClientClosed,
    /// The script cut it.
    Cut,
}

impl Entry {
    /// The value of the first header with this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// FNV-1a with 64 bits, as in [`Entry::body_fnv`].
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[derive(Debug)]
pub(super) struct Journal {
    entries: Mutex<VecDeque<Entry>>,
    changed: Notify,
    is_on: AtomicBool,
    in_flight: AtomicUsize,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            entries: Mutex::default(),
            changed: Notify::new(),
            is_on: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
        }
    }

    pub(super) fn set_on(&self, is_on: bool) {
        self.is_on.store(is_on, Relaxed);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `n` entries fit, and returns all there are.
    pub(super) async fn wait(&self, n: usize, fits: fn(&Entry) -> bool) -> Vec<Entry> {
        loop {
            let changed = self.changed.notified();
            {
                let entries = self.entries();
                if entries.iter().filter(|entry| fits(entry)).count() >= n {
                    return entries.iter().cloned().collect();
                }
            }
            changed.await;
        }
    }

    /// Starts the entry of a request whose head has been read.
    pub(super) fn begin(&self, seq: u64, connection: u64, head: &Head) -> Ticket<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        let is_kept = self.is_on.load(Relaxed);
        if is_kept {
            let entry = Entry {
                seq,
                connection,
                method: head.method().to_owned(),
                path: head.target().to_owned(),
                headers: head.headers(),
                body: Bytes::new(),
                body_bytes: 0,
                body_fnv: fnv1a(b""),
                is_chunked: head.is_chunked,
                model: String::new(),
                sent_bytes: 0,
                end: End::Running,
            };
            let mut entries = self.entries();
            if entries.len() >= ENTRIES_MAX {
                entries.pop_front();
            }
            entries.push_back(entry);
            drop(entries);
            self.changed.notify_waiters();
        }
        Ticket { journal: self, seq: is_kept.then_some(seq), sent_bytes: 0, end: End::ClientClosed }
    }
}

/// The running entry of one request: dropped, it is ended.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    journal: &'a Journal,
    seq: Option<u64>,
    pub(super) sent_bytes: u64,
    pub(super) end: End,
}

impl Ticket<'_> {
    pub(super) fn body(&self, body: &[u8]) {
        if self.seq.is_none() {
            return;
        }
        let body_fnv = fnv1a(body);
        // A copy, so that an entry does not keep megabytes alive.
        let kept = body.get(..BODY_KEPT_BYTES_MAX).unwrap_or(body);
        let kept = Bytes::copy_from_slice(kept);
        self.update(|entry| {
            entry.body = kept;
            entry.body_bytes = body.len() as u64;
            entry.body_fnv = body_fnv;
        });
    }

    pub(super) fn model(&self, model: &str) {
        self.update(|entry| model.clone_into(&mut entry.model));
    }

    fn update(&self, change: impl FnOnce(&mut Entry)) {
        let Some(seq) = self.seq else { return };
        let mut entries = self.journal.entries();
        // Requests of several connections may enter a little out of order: look from the end.
        if let Some(entry) = entries.iter_mut().rev().find(|entry| entry.seq == seq) {
            change(entry);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.journal.in_flight.fetch_sub(1, Relaxed);
        if self.seq.is_some() {
            self.update(|entry| {
                entry.sent_bytes = self.sent_bytes;
                entry.end = self.end;
            });
            self.journal.changed.notify_waiters();
        }
    }
}
