//! What a run must keep to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ScenarioError, wrong};

/// Upper bounds for percentiles, in milliseconds: `{ p50 = 5, "p99.9" = 100, max = 400 }`.
pub type Percentiles = BTreeMap<String, f64>;

/// A limit that is not there holds nothing up, but for those on what must not happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// From when a request was due to its last byte.
    pub latency_ms: Percentiles,
    /// From when it was due to the first content event.
    pub first_event_ms: Percentiles,
    /// Between content events.
    pub gap_ms: Percentiles,
    /// Between content events, less the pause of the mock's script.
    pub gap_added_ms: Percentiles,
    /// How late the generator itself was.
    pub lag_ms: Percentiles,
    /// Share of the requests that got an error: no connection, a status, an error event, no answer
    /// in time.
    pub error_rate_max: f64,
    /// Answers that came, and were not what they must be: changed, in another order, twice, not
    /// as the protocol has it.
    pub wrong_max: u64,
    /// Answers that ended too early.
    pub truncated_max: u64,
    /// Share of the content events that came together with the one before them, though the mock's
    /// script has a pause between.
    pub coalesced_rate_max: Option<f64>,
    pub slow: Option<Slow>,
    /// Right answers a second.
    pub throughput_min: Option<f64>,
    /// Right answers.
    pub requests_min: u64,
    /// Resident memory of the server's processes.
    pub rss_mib_max: Option<f64>,
    /// Its slope over the counted phases.
    pub rss_mib_per_hour_max: Option<f64>,
}

/// Only this share of the requests may take longer than this.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    pub over_ms: f64,
    pub share_max: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            latency_ms: Percentiles::new(),
            first_event_ms: Percentiles::new(),
            gap_ms: Percentiles::new(),
            gap_added_ms: Percentiles::new(),
            lag_ms: Percentiles::new(),
            error_rate_max: 0.0,
            wrong_max: 0,
            truncated_max: 0,
            coalesced_rate_max: None,
            slow: None,
            throughput_min: None,
            requests_min: 1,
            rss_mib_max: None,
            rss_mib_per_hour_max: None,
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        for (key, percentiles) in [
            ("latency_ms", &self.latency_ms),
            ("first_event_ms", &self.first_event_ms),
            ("gap_ms", &self.gap_ms),
            ("gap_added_ms", &self.gap_added_ms),
            ("lag_ms", &self.lag_ms),
        ] {
            for name in percentiles.keys() {
                if quantile(name).is_none() {
                    let why = format!("`{name}` is no percentile such as p50, p99.9, max");
                    return Err(wrong(&format!("limits.{key}"), &why));
                }
            }
        }
        Ok(())
    }
}

/// `p99.9` is 0.999, `max` is 1.
pub(crate) fn quantile(name: &str) -> Option<f64> {
    if name == "max" {
        return Some(1.0);
    }
    let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}
