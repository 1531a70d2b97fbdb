//! How many attempts failed within the last minutes.

use crate::clock::Millis;

/// An hour, and the minute that is under way.
const MINUTES: usize = 61;

/// What became of attempts, by the minute.
#[derive(Debug, Clone)]
pub struct ErrorRates {
    minutes: [Minute; MINUTES],
}

#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    number: u64,
    n: u32,
    n_failed: u32,
}

impl Default for ErrorRates {
    fn default() -> Self {
        Self { minutes: [Minute::default(); MINUTES] }
    }
}

impl ErrorRates {
    pub fn note(&mut self, now: Millis, is_failure: bool) {
        let number = minute(now);
        let Some(minute) = self.minutes.get_mut(place(number)) else { return };
        if minute.number != number {
            *minute = Minute { number, ..Minute::default() };
        }
        minute.n = minute.n.saturating_add(1);
        minute.n_failed = minute.n_failed.saturating_add(u32::from(is_failure));
    }

    /// The part that failed in this minute and those before it, `minutes` in all; 0 without attempts.
    pub fn rate(&self, now: Millis, minutes: u32) -> f64 {
        let this = minute(now);
        let since = (this + 1).saturating_sub(u64::from(minutes));
        let counted = self.minutes.iter().filter(|it| (since..=this).contains(&it.number));
        let (n, n_failed) = counted.fold((0_u64, 0_u64), |(n, n_failed), minute| {
            (n + u64::from(minute.n), n_failed + u64::from(minute.n_failed))
        });
        if n == 0 { 0.0 } else { as_f64(n_failed) / as_f64(n) }
    }
}

/// From 1: a minute of number 0 was never written.
fn minute(now: Millis) -> u64 {
    now.0 / 60_000 + 1
}

fn place(number: u64) -> usize {
    usize::try_from(number % MINUTES as u64).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
const fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn minutes_go_by() {
        let at = |minute: u64| Millis(minute * 60_000 + 7);
        let mut rates = ErrorRates::default();
        assert!(rates.rate(at(0), 60).abs() < f64::EPSILON);
        rates.note(at(0), true);
        rates.note(at(1), false);
        assert!((rates.rate(at(1), 1) - 0.0).abs() < 1e-9);
        assert!((rates.rate(at(1), 2) - 0.5).abs() < 1e-9);
        assert!((rates.rate(at(60), 60) - 0.0).abs() < 1e-9);
        rates.note(at(61), true);
        assert!((rates.rate(at(61), 60) - 1.0).abs() < 1e-9);
    }

    proptest! {
        /// As counting all attempts by hand says.
        #[test]
        fn rate_is_that_of_the_attempts(
            attempts in prop::collection::vec((0_u64..7_200_000, any::<bool>()), 0..200),
            minutes in 1_u32..=60,
        ) {
            let mut attempts = attempts;
            attempts.sort_unstable();
            let mut rates = ErrorRates::default();
            for (at, is_failure) in &attempts {
                rates.note(Millis(*at), *is_failure);
            }
            let now = attempts.last().map_or(0, |(at, _)| *at);
            let since = (now / 60_000 + 1).saturating_sub(u64::from(minutes));
            let counted: Vec<bool> = attempts
                .iter()
                .filter(|(at, _)| since <= at / 60_000)
                .map(|(_, is_failure)| *is_failure)
                .collect();
            let n_failed = counted.iter().filter(|is_failure| **is_failure).count();
            let wanted = if counted.is_empty() { 0.0 } else { as_f64(n_failed as u64) / as_f64(counted.len() as u64) };
            prop_assert!((rates.rate(Millis(now), minutes) - wanted).abs() < 1e-9);
        }
    }
}
