//! The run over time: a point for each stretch of it.

use std::time::Duration;

use serde::Serialize;

use super::report::{Percentiles, per_second};
use super::server::Usage;
use super::stats::{Counts, Window};
use crate::scenario::Phase;

/// What happened in one stretch, by when answers ended.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Where the stretch ends, in seconds since the start.
    pub at_s: f64,
    pub phase: String,
    pub requests_per_s: f64,
    pub failures: u64,
    pub in_flight: usize,
    pub latency_us: Option<Percentiles>,
    pub first_event_us: Option<Percentiles>,
    pub gap_us: Option<Percentiles>,
    pub rss_kib: Option<u64>,
    /// Cores' worth of the server.
    pub cpu: Option<f64>,
    pub descriptors: Option<u64>,
    pub threads: Option<u64>,
}

/// Most points of a run whose length is known.
const POINTS_MAX: f64 = 1_800.0;

/// Seconds of a stretch: one, or more for long runs.
pub(super) fn width_s(phases: &[Phase]) -> f64 {
    let seconds: f64 = phases.iter().filter_map(|phase| phase.seconds).sum();
    (seconds / POINTS_MAX).ceil().max(1.0)
}

/// The phase at this time, where it follows from the scenario.
pub(super) fn phase_at(phases: &[Phase], at_s: f64) -> &str {
    let mut end = 0.0;
    for phase in phases {
        match phase.seconds {
            Some(seconds) => end += seconds,
            None => return &phase.name,
        }
        if at_s <= end {
            return &phase.name;
        }
    }
    "the last answers"
}

/// What the server used, at the end of a stretch and before.
pub(super) struct Looks {
    pub(super) before: Usage,
    pub(super) after: Usage,
}

impl Point {
    pub(super) fn of(
        window: &Window,
        ends: (Duration, Duration),
        phase: &str,
        in_flight: usize,
        looks: Option<&Looks>,
    ) -> Self {
        let mut all = window.counted_sum();
        all.add(&window.uncounted);
        let Counts { latency, first_event, gap, successes, .. } = &all;
        let length = ends.1.saturating_sub(ends.0);
        let cpu = |looks: &Looks| {
            let used = looks.after.cpu.saturating_sub(looks.before.cpu);
            used.as_secs_f64() / length.as_secs_f64().max(1e-9)
        };
        Self {
            at_s: ends.1.as_secs_f64(),
            phase: phase.to_owned(),
            requests_per_s: per_second(*successes, length),
            failures: all.failures_n(),
            in_flight,
            latency_us: Percentiles::of(latency),
            first_event_us: Percentiles::of(first_event),
            gap_us: Percentiles::of(gap),
            rss_kib: looks.map(|looks| looks.after.rss_kib),
            cpu: looks.map(cpu),
            descriptors: looks.map(|looks| looks.after.descriptors),
            threads: looks.map(|looks| looks.after.threads),
        }
    }
}

/// Slope in MiB an hour of memory over time, by least squares.
pub(super) fn slope(looks: &[(f64, u64)]) -> Option<f64> {
    const LOOKS_MIN: usize = 10;
    if looks.len() < LOOKS_MIN {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "memory fits")]
    let points = looks.iter().map(|(at_s, kib)| (at_s / 3600.0, *kib as f64 / 1024.0));
    let (mut n, mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (hours, mib) in points {
        n += 1.0;
        x += hours;
        y += mib;
        xx += hours * hours;
        xy += hours * mib;
    }
    let spread = n * xx - x * x;
    (spread > 0.0).then(|| (n * xy - x * y) / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_is_that_of_a_line() {
        let line = |mib_per_hour: f64| -> Vec<(f64, u64)> {
            let kib = |at_s: f64| 10_240.0 + mib_per_hour * 1024.0 * at_s / 3600.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            (0..100).map(|n| (f64::from(n) * 60.0, kib(f64::from(n) * 60.0) as u64)).collect()
        };
        assert!((slope(&line(12.0)).unwrap() - 12.0).abs() < 0.1);
        assert!(slope(&line(0.0)).unwrap().abs() < 1e-9);
        assert_eq!(slope(&line(1.0)[..5]), None);
    }

    #[test]
    fn long_runs_have_wider_stretches() {
        let phase = |text: &str| -> Phase { toml::from_str(text).unwrap() };
        let day = phase("name = \"a\"\nseconds = 86400\nrate = 1");
        let short = phase("name = \"b\"\nseconds = 10\nrate = 1");
        let width = |phase: &Phase| Duration::from_secs_f64(width_s(std::slice::from_ref(phase)));
        assert_eq!([width(&day), width(&short)], [48, 1].map(Duration::from_secs));
        let phases = [short, day];
        assert_eq!(phase_at(&phases, 5.0), "b");
        assert_eq!(phase_at(&phases, 11.0), "a");
        assert_eq!(phase_at(&phases, 1e6), "the last answers");
    }
}
