//! The thread that makes rows of what passed: it unpacks, takes media and secrets out, cuts, and
//! appends to the spool. It starts with the first body that is handed over.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use super::{Body, Exchange, media};
use crate::usage::inflate::{Encoding, Inflater};
use crate::usage::row::{PayloadRow, Stamp, encode_payload};
use crate::usage::spool::{Draft, Kind, Spool};

/// Exchanges that wait, and their bytes.
const WAITING_MAX: usize = 1_024;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// What a body may become when it is unpacked.
const PLAIN_BYTES_MAX: usize = 8 << 20;

/// What became of exchanges.
#[derive(Debug, Default)]
pub struct Kept {
    /// In the spool.
    pub kept: AtomicU64,
    /// Not kept: too much at once, or no room on the disk.
    pub dropped: AtomicU64,
}

/// Where exchanges are handed over.
#[derive(Debug)]
pub(crate) struct Keeper {
    work: Arc<Work>,
    jobs: OnceLock<Option<Sender<Job>>>,
}

#[derive(Debug)]
struct Work {
    spool: Arc<Spool>,
    stamp: Stamp,
    bytes_max: usize,
    waiting_bytes: AtomicUsize,
    totals: Kept,
}

#[derive(Debug)]
enum Job {
    Keep(Box<Exchange>),
    /// Everything before is in the spool.
    Tell(oneshot::Sender<()>),
}

impl Keeper {
    /// Of each body at most `bytes_max` are kept.
    pub(crate) fn new(spool: Arc<Spool>, stamp: Stamp, bytes_max: usize) -> Self {
        let (waiting_bytes, totals) = Default::default();
        let work = Arc::new(Work { spool, stamp, bytes_max, waiting_bytes, totals });
        Self { work, jobs: OnceLock::new() }
    }

    pub(crate) fn totals(&self) -> &Kept {
        &self.work.totals
    }

    /// Never waits: what is too much is dropped and counted.
    pub(crate) fn keep(&self, exchange: Box<Exchange>) {
        let work = &self.work;
        let bytes = exchange.held_bytes();
        let is_room =
            work.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= WAITING_BYTES_MAX;
        let jobs = self.jobs.get_or_init(|| start(Arc::clone(work))).as_ref().filter(|_| is_room);
        let is_taken = jobs.is_some_and(|jobs| jobs.try_send(Job::Keep(exchange)).is_ok());
        if !is_taken {
            work.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            work.totals.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when everything that was handed over before is in the spool.
    pub(crate) async fn settle(&self) {
        let Some(Some(jobs)) = self.jobs.get() else { return };
        let (told, settled) = oneshot::channel();
        if jobs.send(Job::Tell(told)).await.is_err() {
            return;
        }
        // An error means that the thread is gone, and with it what there was to wait for.
        drop(settled.await);
    }
}

fn start(work: Arc<Work>) -> Option<Sender<Job>> {
    let (jobs, mut waiting) = channel(WAITING_MAX);
    let run = move || work.run(&mut waiting);
    let started = std::thread::Builder::new().name("usage-payloads".to_owned()).spawn(run);
    if let Err(error) = &started {
        tracing::error!(%error, "no thread for the bodies of requests: none are kept");
    }
    started.ok().map(|_detached| jobs)
}

impl Work {
    /// Until nobody can hand over any more.
    fn run(&self, waiting: &mut Receiver<Job>) {
        let mut draft = Draft::default();
        while let Some(job) = waiting.blocking_recv() {
            match job {
                Job::Keep(exchange) => {
                    self.spool(&exchange, &mut draft);
                    self.waiting_bytes.fetch_sub(exchange.held_bytes(), Ordering::Relaxed);
                }
                // Who asked may have left.
                Job::Tell(told) => drop(told.send(())),
            }
        }
    }

    fn spool(&self, exchange: &Exchange, draft: &mut Draft) {
        let bodies = [&exchange.request, &exchange.response].map(|body| self.text(body, exchange));
        let [request_body, response_body] = &bodies;
        let row = PayloadRow {
            started_at_us: exchange.started_at_us,
            request_id: exchange.request_id,
            workspace_id: exchange.workspace.0,
            request_type: &exchange.request.content_type,
            request_body,
            request_bytes: exchange.request.total_bytes,
            response_type: &exchange.response.content_type,
            response_body,
            response_bytes: exchange.response.total_bytes,
            retention_days: exchange.retention_days.unwrap_or(self.stamp.retention_days()),
        };
        draft.fill(|to| encode_payload(&row, to));
        let count = match self.spool.append(Kind::Payload, draft) {
            Ok(_end) => &self.totals.kept,
            Err(error) => {
                if self.totals.dropped.load(Ordering::Relaxed) == 0 {
                    tracing::error!(%error, "the bodies of a request could not be spooled");
                }
                &self.totals.dropped
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// What is kept of a body.
    fn text(&self, body: &Body, exchange: &Exchange) -> String {
        if !exchange.has_bodies || body.held_bytes == 0 {
            return String::new();
        }
        let plain = plain(body);
        let text = match &plain {
            Some(bytes) if media::is_text(&body.content_type) => {
                let text = String::from_utf8_lossy(bytes);
                // Media first: what is left is short. Secrets before the cut, so that no half of
                // one is too short to be known.
                (exchange.redact)(&media::replaced(&text))
            }
            Some(bytes) => media::described(&body.content_type, bytes, body.is_cut()),
            None => media::described(&body.content_type, &[], true),
        };
        cut(text, self.bytes_max)
    }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

/// The bytes of a body, unpacked; `None` for a packing that cannot be read.
fn plain(body: &Body) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(body.held_bytes);
    let encoding = body.encoding?;
    if encoding == Encoding::Identity {
        body.parts.iter().for_each(|part| plain.extend_from_slice(part));
        return Some(plain);
    }
    let mut inflater = Inflater::new(encoding)?;
    for part in &body.parts {
        let took = inflater.push(part, |bytes| plain.extend_from_slice(bytes));
        if took.is_err() || plain.len() > PLAIN_BYTES_MAX {
            break;
        }
    }
    // What is cut has no end; what there is comes out all the same.
    inflater.finish(|bytes| plain.extend_from_slice(bytes)).ok();
    Some(plain)
}
