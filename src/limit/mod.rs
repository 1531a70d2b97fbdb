//! Limits and budgets: what there is to limit, and the arithmetic of it. Pure: time is an argument.
//!
//! ```text
//! calendar   the UTC window that a moment is in
//! window     what has been used of a limit: taken, settled, given back
//! estimate   how many tokens a body has, corrected by what providers report
//! ```
//!
//! The counters that requests meet, with their locks, are in `control/limits`.

mod calendar;
mod estimate;
mod window;

use std::fmt;
use std::time::Duration;

pub use self::estimate::{Learned, TextBytes, family, text_bytes};
pub use self::window::{Wait, Window};
use crate::clock::Millis;
use crate::price::{Price, Tokens, cost};

/// What a limit counts. In this order the limits of an owner are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    Requests,
    Concurrent,
    Tokens,
    InputTokens,
    OutputTokens,
    /// In nano-dollars.
    Cost,
}

/// The time over which a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    /// Never resets. What runs at once has this period too: it ends with the requests.
    Lifetime,
}

/// What a limit counts apart: each value has a counter of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    SourceIp,
    EndUser,
    Metadata(Box<str>),
}

/// Where a limit is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In this process.
    Local,
    /// In the shared store, over all nodes.
    Shared,
}

/// What becomes of a shared limit while the shared store cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// This node counts its share by itself.
    AllowLocal,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    pub metric: Metric,
    pub period: Period,
    pub dimension: Option<Dimension>,
    pub amount: u64,
    pub mode: Mode,
    pub on_error: OnError,
}

/// Which limit of an owner it is, whatever its amount: a changed amount keeps what was used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitKey {
    pub metric: Metric,
    pub period: Period,
    pub dimension: Option<Dimension>,
}

/// Whose limit it is. In this order the owners of a request are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Key,
    Deployment,
    Environment,
    Workspace,
    Model,
    ModelGrant,
    Connection,
}

/// A moment: the steady clock for what slides, the wall clock for the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub steady: Millis,
    pub unix_ms: u64,
}

/// What a request takes of each metric: before it is sent what it may use, afterwards what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    pub requests: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_nanousd: u64,
}

/// How a request stands with its limits, for the headers that say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// When it was so.
    pub unix_ms: u64,
    pub requests: Option<Tightest>,
    pub tokens: Option<Tightest>,
}

/// The limit of a kind of which the least remains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tightest {
    pub limit: u64,
    pub remaining: u64,
    pub resets_in: Duration,
}

// === impl Metric ===

impl Metric {
    pub const ALL: [Self; 6] = [
        Self::Requests,
        Self::Concurrent,
        Self::Tokens,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Cost,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Concurrent => "concurrent",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Cost => "cost_usd",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// Whether it can only be estimated before the answer is there.
    pub const fn is_estimated(self) -> bool {
        !matches!(self, Self::Requests | Self::Concurrent)
    }
}

// === impl Period ===

impl Period {
    pub const ALL: [Self; 7] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Lifetime,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Lifetime => "lifetime",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.name() == name)
    }
}

// === impl Dimension ===

impl Dimension {
    /// As a document writes it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "source_ip" => Some(Self::SourceIp),
            "end_user" => Some(Self::EndUser),
            name => name.strip_prefix("metadata.").map(|key| Self::Metadata(key.into())),
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SourceIp => out.write_str("source_ip"),
            Self::EndUser => out.write_str("end_user"),
            Self::Metadata(key) => write!(out, "metadata.{key}"),
        }
    }
}

// === impl Limit ===

impl Limit {
    pub fn key(&self) -> LimitKey {
        LimitKey { metric: self.metric, period: self.period, dimension: self.dimension.clone() }
    }
}

impl LimitKey {
    /// Whether what was used must outlive the process: hours are long enough to notice.
    pub fn is_lasting(&self) -> bool {
        self.metric != Metric::Concurrent && Period::Hour <= self.period
    }
}

/// As a client reads it: ``60 requests per minute``.
impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, period, dimension, amount, .. } = self;
        match metric {
            Metric::Requests => write!(out, "{amount} requests")?,
            Metric::Concurrent => write!(out, "{amount} requests at once")?,
            Metric::Tokens => write!(out, "{amount} tokens")?,
            Metric::InputTokens => write!(out, "{amount} input tokens")?,
            Metric::OutputTokens => write!(out, "{amount} output tokens")?,
            Metric::Cost => out.write_str(&dollars(*amount))?,
        }
        match (metric, period) {
            (Metric::Concurrent, _) => {}
            (_, Period::Lifetime) => out.write_str(" in all")?,
            (_, period) => write!(out, " per {}", period.name())?,
        }
        match dimension {
            None => Ok(()),
            Some(dimension) => write!(out, " for each {dimension}"),
        }
    }
}

/// Nano-dollars as dollars with at least two decimals: `$2.50`.
pub fn dollars(nano: u64) -> String {
    let (whole, fraction) = (nano / 1_000_000_000, nano % 1_000_000_000);
    let digits = format!("{fraction:09}");
    let kept = digits.trim_end_matches('0');
    format!("${whole}.{kept:0<2}")
}

// === impl Level ===

impl Level {
    pub const ALL: [Self; 7] = [
        Self::Key,
        Self::Deployment,
        Self::Environment,
        Self::Workspace,
        Self::Model,
        Self::ModelGrant,
        Self::Connection,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Deployment => "deployment",
            Self::Environment => "environment",
            Self::Workspace => "workspace",
            Self::Model => "model",
            Self::ModelGrant => "model grant",
            Self::Connection => "connection",
        }
    }
}

// === impl Amounts ===

impl Amounts {
    /// What was used, from the counts and the cost of a row.
    pub fn used(tokens: &Tokens, cost_nanousd: Option<u64>) -> Self {
        let sum = |parts: &[Option<u64>]| {
            parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.unwrap_or(0)))
        };
        Self {
            requests: 1,
            input_tokens: sum(&[
                tokens.input_uncached,
                tokens.input_cache_read,
                tokens.input_cache_write_5m,
                tokens.input_cache_write_1h,
                tokens.audio_in,
            ]),
            output_tokens: sum(&[tokens.output, tokens.reasoning, tokens.audio_out]),
            cost_nanousd: cost_nanousd.unwrap_or(0),
        }
    }

    /// What a request may use, at a price.
    pub fn expected(input_tokens: u64, output_tokens: u64, price: Option<&Price>) -> Self {
        let tokens = Tokens {
            input_uncached: Some(input_tokens),
            output: Some(output_tokens),
            ..Tokens::default()
        };
        let cost_nanousd = price.and_then(|price| cost(price, &tokens)).unwrap_or(0);
        Self { requests: 1, input_tokens, output_tokens, cost_nanousd }
    }

    /// The greater of each.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.max(other.requests),
            input_tokens: self.input_tokens.max(other.input_tokens),
            output_tokens: self.output_tokens.max(other.output_tokens),
            cost_nanousd: self.cost_nanousd.max(other.cost_nanousd),
        }
    }

    /// What a limit of `metric` counts of it. A request that ran is not running any more, so of what
    /// was *used* nothing is concurrent; see [`Amounts::of_reserved`].
    pub const fn of_used(&self, metric: Metric) -> u64 {
        match metric {
            Metric::Requests => self.requests,
            Metric::Concurrent => 0,
            Metric::Tokens => self.input_tokens.saturating_add(self.output_tokens),
            Metric::InputTokens => self.input_tokens,
            Metric::OutputTokens => self.output_tokens,
            Metric::Cost => self.cost_nanousd,
        }
    }

    /// What a limit of `metric` sets aside for it.
    pub const fn of_reserved(&self, metric: Metric) -> u64 {
        match metric {
            Metric::Concurrent => 1,
            metric => self.of_used(metric),
        }
    }
}

// === impl Standing ===

impl Standing {
    /// Of a request that `limit` has refused.
    pub fn refused(limit: &Limit, resets_in: Duration, now: Now) -> Self {
        let tightest = Some(Tightest { limit: limit.amount, remaining: 0, resets_in });
        let mut standing = Self { unix_ms: now.unix_ms, ..Self::default() };
        match limit.metric {
            Metric::Requests => standing.requests = tightest,
            Metric::Tokens | Metric::InputTokens | Metric::OutputTokens => {
                standing.tokens = tightest;
            }
            Metric::Concurrent | Metric::Cost => {}
        }
        standing
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            unix_ms: self.unix_ms.max(other.unix_ms),
            requests: Tightest::of(self.requests, other.requests),
            tokens: Tightest::of(self.tokens, other.tokens),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.requests.is_none() && self.tokens.is_none()
    }
}

impl Tightest {
    /// The tighter of two.
    pub fn of(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) if other.remaining < one.remaining => Some(other),
            (one, other) => one.or(other),
        }
    }
}

/// Time until a moment, as a duration.
fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests;
