//! When requests are sent: phases one after the other, of an open loop or of a closed one.

use serde::{Deserialize, Serialize};

use super::{ScenarioError, wrong};
use crate::distribution::Distribution;

/// A stretch of a run. With a `rate` requests arrive whatever became of those before; with a
/// `concurrency` so many clients each wait for their answer before they ask again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    pub name: String,
    /// How long it lasts; or `requests`.
    pub seconds: Option<f64>,
    /// How many requests it has; or `seconds`.
    pub requests: Option<u64>,
    /// Requests a second, or `[from, to]`.
    pub rate: Option<Ramp>,
    #[serde(default)]
    pub arrivals: Arrivals,
    /// Clients, or `[from, to]`.
    pub concurrency: Option<Ramp>,
    /// What a client does between an answer and its next request: nothing, in milliseconds.
    pub think_ms: Option<Distribution>,
    /// Whether it belongs to the figures; a warm-up does not.
    #[serde(default = "yes")]
    pub counted: bool,
}

/// An amount that changes evenly over a phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "Amounts", into = "(f64, f64)")]
pub struct Ramp {
    pub from: f64,
    pub to: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Amounts {
    One(f64),
    Two(f64, f64),
}

/// Times between arrivals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// All the same.
    #[default]
    Even,
    /// As independent callers make them.
    Poisson,
}

fn yes() -> bool {
    true
}

const CONCURRENCY_MAX: f64 = 100_000.0;
const RATE_MAX: f64 = 1e6;

impl From<Amounts> for Ramp {
    fn from(amounts: Amounts) -> Self {
        match amounts {
            Amounts::One(amount) => Self { from: amount, to: amount },
            Amounts::Two(from, to) => Self { from, to },
        }
    }
}

impl From<Ramp> for (f64, f64) {
    fn from(ramp: Ramp) -> Self {
        (ramp.from, ramp.to)
    }
}

impl Ramp {
    #[expect(clippy::float_cmp, reason = "both are as written in a file")]
    pub fn is_even(self) -> bool {
        self.from == self.to
    }

    pub fn max(self) -> f64 {
        self.from.max(self.to)
    }

    pub fn at(self, share: f64) -> f64 {
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }

    fn is_within(self, max: f64) -> bool {
        let is_fit = |value: f64| (0.0..=max).contains(&value);
        is_fit(self.from) && is_fit(self.to) && self.max() > 0.0
    }
}

pub(super) fn check(phases: &[Phase]) -> Result<(), ScenarioError> {
    if phases.is_empty() {
        return Err(wrong("phases", "a run has at least one"));
    }
    if !phases.iter().any(|phase| phase.counted) {
        return Err(wrong("phases", "none is counted"));
    }
    let is_open = phases.iter().any(|phase| phase.rate.is_some());
    for (index, phase) in phases.iter().enumerate() {
        let why = reason_against(phase, is_open);
        why.map_or(Ok(()), |why| Err(wrong(&format!("phases[{index}]"), why)))?;
    }
    Ok(())
}

fn reason_against(phase: &Phase, is_open: bool) -> Option<&'static str> {
    let amount = match (phase.rate, phase.concurrency) {
        (Some(rate), None) => {
            if !rate.is_within(RATE_MAX) {
                return Some("a rate is above 0 somewhere, and 1,000,000 at most");
            }
            rate
        }
        (None, Some(_)) if is_open => {
            return Some("all phases have a `rate`, or all have a `concurrency`");
        }
        (None, Some(concurrency)) => {
            if !concurrency.is_within(CONCURRENCY_MAX) {
                return Some("a concurrency is above 0 somewhere, and 100,000 at most");
            }
            concurrency
        }
        _ => return Some("must have either a `rate` or a `concurrency`"),
    };
    if phase.rate.is_some() && phase.think_ms.is_some() {
        return Some("`think_ms` is for a `concurrency`; a `rate` waits for nobody");
    }
    match (phase.seconds, phase.requests) {
        (Some(seconds), None) if !(0.0..=1e9).contains(&seconds) => {
            Some("`seconds` is above 0, and 1e9 at most")
        }
        (None, Some(_)) if !amount.is_even() => Some("a ramp needs `seconds`"),
        (Some(_), None) | (None, Some(_)) => None,
        _ => Some("must have either `seconds` or `requests`"),
    }
}
