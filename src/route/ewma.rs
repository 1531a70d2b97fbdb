//! How long a target takes: a moving average that follows a slower answer at once.

use std::time::Duration;

use crate::clock::Millis;

/// What was seen this long ago counts for a third (1/e).
const MEMORY_MS: f64 = 10_000.0;
/// A failure counts as an answer this slow, at least.
const FAILURE_US_MIN: f64 = 1_000_000.0;
/// Nothing is slower: the longest that any request may take.
const LATENCY_US_MAX: f64 = 3_600_000_000.0;

/// Peak-sensitive average of the time to the first byte of an answer.
///
/// A slower sample replaces the average, a faster one pulls it down by how long ago the last one was.
/// Without samples it decays, so that a target which was slow once is tried again.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeakEwma {
    /// Zero until the first sample.
    average_us: f64,
    seen_at: Millis,
}

impl PeakEwma {
    /// Takes in how long an answer took.
    pub fn observe(&mut self, now: Millis, latency: Duration) {
        let sample_us = (latency.as_secs_f64() * 1e6).min(LATENCY_US_MAX);
        self.take_in(now, sample_us);
    }

    /// Takes in a failure as a slow answer: a target that refuses at once must not look the fastest.
    pub fn penalize(&mut self, now: Millis) {
        let sample_us = (self.decayed(now) * 2.0).clamp(FAILURE_US_MIN, LATENCY_US_MAX);
        self.take_in(now, sample_us);
    }

    /// The average as of `now` in microseconds; zero when nothing is known.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies between zero and an hour"
    )]
    pub fn micros(&self, now: Millis) -> u64 {
        self.decayed(now) as u64
    }

    fn take_in(&mut self, now: Millis, sample_us: f64) {
        if self.average_us <= sample_us {
            self.average_us = sample_us;
        } else {
            let kept = self.kept(now);
            self.average_us = self.average_us * kept + sample_us * (1.0 - kept);
        }
        self.seen_at = self.seen_at.max(now);
    }

    fn decayed(&self, now: Millis) -> f64 {
        self.average_us * self.kept(now)
    }

    /// How much of the average is left after the time since the last sample.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a process fit 53 bits")]
    fn kept(&self, now: Millis) -> f64 {
        let elapsed_ms = now.0.saturating_sub(self.seen_at.0) as f64;
        (-elapsed_ms / MEMORY_MS).exp()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slower_answer_counts_at_once() {
        let mut ewma = PeakEwma::default();
        assert_eq!(ewma.micros(Millis(0)), 0);
        ewma.observe(Millis(0), Duration::from_millis(20));
        ewma.observe(Millis(1), Duration::from_millis(800));
        assert_eq!(ewma.micros(Millis(1)), 800_000);
    }

    #[test]
    fn faster_answer_counts_by_the_time_between() {
        let mut ewma = PeakEwma::default();
        ewma.observe(Millis(0), Duration::from_secs(1));
        ewma.observe(Millis(0), Duration::from_millis(100));
        assert_eq!(ewma.micros(Millis(0)), 1_000_000);
        ewma.observe(Millis(10_000), Duration::from_millis(100));
        assert_eq!(ewma.micros(Millis(10_000)), 431_091);
    }

    #[test]
    fn silence_forgives() {
        let mut ewma = PeakEwma::default();
        ewma.observe(Millis(0), Duration::from_secs(1));
        assert_eq!(ewma.micros(Millis(10_000)), 367_879);
        assert_eq!(ewma.micros(Millis(u64::MAX)), 0);
    }

    #[test]
    fn failures_look_slow_and_slower() {
        let mut ewma = PeakEwma::default();
        ewma.observe(Millis(0), Duration::from_millis(5));
        ewma.penalize(Millis(0));
        assert_eq!(ewma.micros(Millis(0)), 1_000_000);
        ewma.penalize(Millis(0));
        assert_eq!(ewma.micros(Millis(0)), 2_000_000);
        for _ in 0..100 {
            ewma.penalize(Millis(0));
        }
        assert_eq!(ewma.micros(Millis(0)), 3_600_000_000);
    }

    proptest! {
        #[test]
        fn average_stays_between_the_samples(
            samples in prop::collection::vec((0_u64..20_000, 1_u64..10_000_000), 1..50),
        ) {
            let mut ewma = PeakEwma::default();
            let mut now = 0;
            for &(wait, micros) in &samples {
                now += wait;
                ewma.observe(Millis(now), Duration::from_micros(micros));
            }
            let micros = ewma.micros(Millis(now));
            let least = samples.iter().map(|&(_, micros)| micros).min().unwrap();
            let most = samples.iter().map(|&(_, micros)| micros).max().unwrap();
            prop_assert!(least.saturating_sub(1) <= micros && micros <= most);
        }
    }
}
