//! Connections to upstreams that wait for their next request.
//!
//! Each address has its own; they share one bound. What waits is looked at when it is taken, and by
//! a sweep as long as anything waits: one that the upstream has closed, or that has waited too
//! long, goes.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::clock::Millis;
use crate::net::alarm::Alarm;

/// How long a connection may wait.
pub const IDLE_MAX: Duration = Duration::from_secs(55);
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// The bound that all addresses share.
#[derive(Debug)]
pub struct Pool {
    idle_max: usize,
    n_idle: AtomicUsize,
}

/// What waits of one address; the last that came is at the end.
#[derive(Debug, Default)]
pub struct Idle {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    connections: Vec<Connection>,
    is_swept: bool,
}

struct Connection {
    stream: Stream,
    alarm: Alarm,
    since: Millis,
    place: Place,
}

/// One of the pool's places, until it is dropped.
struct Place(Arc<Pool>);

impl Pool {
    pub fn new(idle_max: usize) -> Self {
        Self { idle_max, n_idle: AtomicUsize::new(0) }
    }

    fn place(self: &Arc<Self>) -> Option<Place> {
        let place = Place(Arc::clone(self));
        let n_before = self.n_idle.fetch_add(1, Ordering::Relaxed);
        (n_before < self.idle_max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.n_idle.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Idle {
    /// The connection that was used last and is still good.
    pub fn take(&self, now: Millis) -> Option<(Stream, Alarm)> {
        loop {
            let mut connection = self.lock().connections.pop()?;
            if connection.is_good(now) {
                return Some((connection.stream, connection.alarm));
            }
        }
    }

    /// Keeps a connection on which nothing is under way. In a full pool it takes the place of the
    /// oldest of its address; without one it is closed.
    pub fn put(self: &Arc<Self>, (stream, alarm): (Stream, Alarm), pool: &Arc<Pool>) {
        let place = pool.place();
        let mut waiting = self.lock();
        let place = match place {
            Some(place) => place,
            None if waiting.connections.is_empty() => return,
            None => waiting.connections.remove(0).place,
        };
        waiting.connections.push(Connection { stream, alarm, since: Millis::now(), place });
        if !std::mem::replace(&mut waiting.is_swept, true) {
            drop(tokio::spawn(sweep(Arc::downgrade(self))));
        }
    }

    /// Closes what is no longer good. False when nothing is left.
    fn sweep(&self) -> bool {
        let now = Millis::now();
        let mut waiting = self.lock();
        waiting.connections.retain_mut(|connection| connection.is_good(now));
        waiting.is_swept = !waiting.connections.is_empty();
        waiting.is_swept
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if !idle.upgrade().is_some_and(|idle| idle.sweep()) {
            return;
        }
    }
}

impl Connection {
    /// Whether the upstream has said nothing since, not even that it closes. Costs no system call as
    /// long as it has not.
    fn is_good(&mut self, now: Millis) -> bool {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let stream = Pin::new(&mut self.stream);
        let mut context = Context::from_waker(Waker::noop());
        now.since(self.since) < IDLE_MAX && stream.poll_read(&mut context, &mut buffer).is_pending()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place(pool) = &self.place;
        let out = &mut out.debug_struct("Connection");
        out.field("since", &self.since).field("pool", pool).finish_non_exhaustive()
    }
}
