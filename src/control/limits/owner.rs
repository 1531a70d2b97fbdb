//! The limits of one owner, with their counters found when the snapshot is built.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use super::counter::Counter;
use super::table::Table;
use crate::limit::{Dimension, Learned, Level, Limit, Metric, Mode, Now};

/// In the order of [`crate::limit::LimitKey`].
#[derive(Debug)]
pub struct Limits {
    pub owner: Owner,
    pub name: Arc<str>,
    pub counted: Box<[Counted]>,
    /// Whether one of them counts what can only be estimated before.
    pub is_estimated: bool,
    /// Whether one of them is counted over all nodes.
    pub is_shared: bool,
}

/// Whose limits they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub level: Level,
    pub id: Uuid,
    /// What all limits of a request lie together by in the shared store: the workspace, or for the
    /// limits of a target its connection.
    pub together: Uuid,
}

#[derive(Debug)]
pub struct Counted {
    pub limit: Limit,
    pub meter: Meter,
}

/// Where a limit is counted.
#[derive(Debug)]
pub enum Meter {
    One(Arc<Counter>),
    Each(Dimension, Arc<Table>),
}

/// What the dimensions of a request's limits read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    pub source_ip: Option<IpAddr>,
    pub end_user: Option<&'a str>,
    pub metadata: &'a [(Box<str>, Box<str>)],
}

/// What is known of a family of models, learnt by all its targets.
#[derive(Debug)]
pub struct Family(AtomicU64);

// === impl Limits ===

impl Limits {
    /// Limits stand in the order in which they are locked. `None` when there is none.
    pub fn new(owner: Owner, name: Arc<str>, mut counted: Vec<Counted>) -> Option<Arc<Self>> {
        counted.sort_by_cached_key(|counted| counted.limit.key());
        let is_estimated = counted.iter().any(|counted| counted.limit.metric.is_estimated());
        let is_shared = counted.iter().any(|counted| counted.limit.mode == Mode::Shared);
        let counted = counted.into_boxed_slice();
        (!counted.is_empty())
            .then(|| Arc::new(Self { owner, name, counted, is_estimated, is_shared }))
    }
}

impl Counted {
    /// What the limit is called in the shared store.
    pub fn shared_key(&self, owner: &Owner, subject: &Subject<'_>) -> String {
        let Limit { metric, period, dimension, .. } = &self.limit;
        let (together, id) = (owner.together.simple(), owner.id.simple());
        let mut key = format!("sluice:{{{together}}}:{id}:{}:{}", metric.name(), period.name());
        if let Some(dimension) = dimension {
            subject.with_value(dimension, |value| {
                write!(key, ":{dimension}:{value}").expect("a string takes everything");
            });
        }
        key
    }
}

impl Limits {
    /// Whether one of them is about money.
    pub fn has_budget(&self) -> bool {
        self.counted.iter().any(|counted| counted.limit.metric == Metric::Cost)
    }
}

impl Meter {
    /// The counter of a request. A request that lacks the value counts with all that lack it.
    pub(super) fn counter(&self, subject: &Subject<'_>, now: Now) -> Arc<Counter> {
        match self {
            Self::One(counter) => Arc::clone(counter),
            Self::Each(dimension, table) => {
                subject.with_value(dimension, |value| table.counter(value, now))
            }
        }
    }
}

// === impl Subject ===

impl Subject<'_> {
    pub(super) fn with_value<T>(&self, dimension: &Dimension, see: impl FnOnce(&str) -> T) -> T {
        match dimension {
            Dimension::SourceIp => {
                let mut text = Text { bytes: [0; 48], len: 0 };
                if let Some(address) = self.source_ip {
                    let written = write!(text, "{}", address.to_canonical());
                    written.expect("the longest address has 45 letters");
                }
                see(text.as_str())
            }
            Dimension::EndUser => see(self.end_user.unwrap_or_default()),
            Dimension::Metadata(wanted) => {
                let mut entries = self.metadata.iter();
                see(entries.find(|(key, _)| key == wanted).map_or("", |(_, value)| value))
            }
        }
    }
}

/// An address written where it costs no allocation.
struct Text {
    bytes: [u8; 48],
    len: usize,
}

impl Text {
    fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("")
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let end = self.len + part.len();
        let place = self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        place.copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

// === impl Family ===

impl Default for Family {
    fn default() -> Self {
        Self(AtomicU64::new(Learned::default().to_bits()))
    }
}

impl Family {
    pub fn learned(&self) -> Learned {
        Learned::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// One report of many: one that is lost to another at the same moment does no harm.
    pub fn learn(&self, step: impl FnOnce(Learned) -> Learned) {
        self.0.store(step(self.learned()).to_bits(), Ordering::Relaxed);
    }
}
