//! Bodies of requests and answers, for the workspaces that log them.
//!
//! ```text
//! keep    the thread that makes rows of what passed, off the path of requests
//! media   images, audio and the like in a body, replaced by what they were
//! ```
//!
//! The path of a request shares the bytes that pass, up to a bound, and hands them over when the
//! answer has ended. A row is best effort: it may be missing when the process ends, or when more is
//! handed over than the thread can take; that is counted, and no request waits for it.

mod keep;
mod media;

use bytes::Bytes;
use uuid::Uuid;

pub(super) use self::keep::Keeper;
pub use self::keep::Kept;
use crate::id::WorkspaceId;
use crate::usage::inflate::Encoding;

/// What is held of one answer: its media go before the cap of a row counts.
const HELD_BYTES_MAX: usize = 1 << 20;

/// How a text loses its secrets.
pub type Redact = fn(&str) -> String;

/// A body as it passed.
#[derive(Debug, Default)]
pub struct Body {
    pub content_type: Box<str>,
    /// `None` is one that is not known.
    pub encoding: Option<Encoding>,
    parts: Vec<Bytes>,
    held_bytes: usize,
    total_bytes: u64,
}

/// A request and its answer.
#[derive(Debug)]
pub struct Exchange {
    pub request_id: Uuid,
    pub started_at_us: i64,
    pub workspace: WorkspaceId,
    pub retention_days: Option<u16>,
    /// Whether the bodies are kept, or only what they were.
    pub has_bodies: bool,
    pub redact: Redact,
    pub request: Body,
    pub response: Body,
}

impl Body {
    pub fn new(content_type: &str, encoding: Option<Encoding>) -> Self {
        Self { content_type: content_type.into(), encoding, ..Self::default() }
    }

    /// All of a body, which is in memory anyway.
    pub fn pass_whole(&mut self, bytes: &Bytes, is_kept: bool) {
        self.total_bytes += bytes.len() as u64;
        if is_kept {
            self.held_bytes += bytes.len();
            self.parts.push(bytes.clone());
        }
    }

    /// Shares what passes, up to a bound.
    pub fn pass(&mut self, part: &Bytes, is_kept: bool) {
        self.total_bytes += part.len() as u64;
        let room = HELD_BYTES_MAX.saturating_sub(self.held_bytes);
        if is_kept && room > 0 {
            let part = part.slice(..part.len().min(room));
            self.held_bytes += part.len();
            self.parts.push(part);
        }
    }

    fn is_cut(&self) -> bool {
        (self.held_bytes as u64) < self.total_bytes
    }
}

impl Exchange {
    /// A part of the answer, on its way to the client.
    pub fn answered(&mut self, part: &Bytes) {
        self.response.pass(part, self.has_bodies);
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.request.held_bytes + self.response.held_bytes
    }
}
