//! How long to wait before the same target is tried again.

use std::time::Duration;

use super::below;

/// The longest wait before the first retry; it doubles with each further one.
const FIRST_MAX: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(2);

/// The wait before retry number `retry` (from 1) of one target: anything from nothing to 50 ms for
/// the first, to 2 s in the end. The whole range is used, so that requests which failed together do
/// not come back together.
pub fn backoff(retry: u32, seed: u64) -> Duration {
    let doublings = retry.saturating_sub(1).min(16);
    let most = FIRST_MAX.saturating_mul(1 << doublings).min(MAX);
    let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(below(micros + 1, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_doubles_up_to_two_seconds_and_uses_the_whole_range() {
        for (retry, most_ms) in [(0, 50), (1, 50), (2, 100), (3, 200), (6, 1_600), (7, 2_000)] {
            let waits = (0..1_000).map(|seed| backoff(retry, seed).as_millis());
            let (mut least, mut most) = (u128::MAX, 0);
            for wait in waits {
                least = least.min(wait);
                most = most.max(wait);
            }
            assert!(least <= most_ms / 100, "retry {retry}: {least} ms");
            assert!((most_ms * 99 / 100..=most_ms).contains(&most), "retry {retry}: {most} ms");
        }
        assert!(backoff(u32::MAX, 7) <= MAX);
    }
}
