//! One of several same requests asks the provider; the others wait for its answer.

use std::sync::Arc;

use tokio::sync::watch;

use super::key::Key;
use super::{Cache, Entry, Marks};

/// What has become of the request that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    UnderWay,
    /// Here is its answer.
    Stored(Arc<Entry>),
    /// It has an answer that is not kept: each of the others asks for itself.
    Failed,
    /// It has gone away without: one of the others asks in its place.
    Abandoned,
}

/// What a request does.
#[derive(Debug)]
pub enum Joined {
    Lead(Flight),
    Wait(watch::Receiver<State>),
}

/// The right to ask, and to keep the answer.
#[derive(Debug)]
pub struct Flight {
    cache: Arc<Cache>,
    key: Key,
    /// `None` when nobody waits for it.
    tell: Option<watch::Sender<State>>,
    n_purges: u64,
    /// What the store said when it was asked.
    marks: Option<Marks>,
}

impl Cache {
    /// Asks, or waits for whoever does.
    pub fn join(self: &Arc<Self>, key: Key) -> Joined {
        let mut flights = self.flights();
        if let Some(waiting) = flights.get(&key) {
            return Joined::Wait(waiting.clone());
        }
        let (tell, waiting) = watch::channel(State::UnderWay);
        flights.insert(key, waiting);
        drop(flights);
        let mut flight = self.alone(key);
        flight.tell = Some(tell);
        Joined::Lead(flight)
    }

    /// Asks whether or not another does.
    pub fn alone(self: &Arc<Self>, key: Key) -> Flight {
        Flight { cache: Arc::clone(self), key, tell: None, n_purges: self.n_purges(), marks: None }
    }
}

impl Flight {
    /// Purges that the store knows of.
    pub fn asked_at(&mut self, marks: Marks) {
        self.marks = Some(marks);
    }

    /// Keeps the answer, unless there was a purge since it was asked for.
    pub fn store(mut self, entry: Entry) {
        if self.cache.n_purges() == self.n_purges {
            let entry = Arc::new(entry);
            match (self.cache.remote(), &self.marks) {
                (None, _) => self.cache.put(self.key, &entry),
                (Some(remote), Some(marks)) => remote.put(&self.key, &entry, marks),
                // It was down when this was asked for.
                (Some(_), None) => {}
            }
            self.end(State::Stored(entry));
        } else {
            self.end(State::Failed);
        }
    }

    /// There is nothing to keep.
    pub fn fail(mut self) {
        self.end(State::Failed);
    }

    /// It was there after all.
    pub fn found(mut self, entry: Arc<Entry>) {
        self.end(State::Stored(entry));
    }

    fn end(&mut self, state: State) {
        let Some(tell) = self.tell.take() else { return };
        self.cache.flights().remove(&self.key);
        tell.send_replace(state);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.end(State::Abandoned);
    }
}

/// Waits until the one who asks has an answer, or none.
pub async fn ended(mut waiting: watch::Receiver<State>) -> State {
    let ended = waiting.wait_for(|state| *state != State::UnderWay).await;
    ended.map_or(State::Abandoned, |state| state.clone())
}
