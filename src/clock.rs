//! Time, as two readings: one for measuring, one for stamping.
//!
//! Durations, timeouts and limits use [`Millis`] and [`Instant`], which never go backwards. The wall
//! clock stamps rows and judges expiry dates, nothing else.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since the process began: what pure code takes as "now".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// The reading of the monotonic clock.
    pub fn now() -> Self {
        Self::from(Instant::now())
    }

    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long until `self`, seen from `now`; zero when it has passed.
    pub fn since(self, now: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }
}

impl From<Instant> for Millis {
    fn from(instant: Instant) -> Self {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        let begin = *BEGIN.get_or_init(Instant::now);
        // A process that reads its first instant late must not see zero twice.
        let elapsed = instant.saturating_duration_since(begin);
        Self(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The wall clock, which a test can set.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// A clock that stands at `unix_micros` until it is set again.
    pub fn fixed(unix_micros: i64) -> Self {
        Self(Some(Arc::new(AtomicI64::new(unix_micros))))
    }

    /// Sets a fixed clock; a real one stays as it is.
    pub fn set(&self, unix_micros: i64) {
        if let Some(fixed) = &self.0 {
            fixed.store(unix_micros, Ordering::Relaxed);
        }
    }

    /// Microseconds since 1970-01-01 UTC.
    pub fn unix_micros(&self) -> i64 {
        match &self.0 {
            Some(fixed) => fixed.load(Ordering::Relaxed),
            None => system_micros(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
fn system_micros() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(_before_1970) => 0,
    }
}

/// A time of the wall clock as RFC 3339 writes it, in UTC.
pub fn rfc3339(unix_micros: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_micros) * 1000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// Microseconds since 1970 UTC of a time as RFC 3339 writes it.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_clock_stands_until_it_is_set() {
        let clock = Clock::fixed(5);
        assert_eq!(clock.unix_micros(), 5);
        clock.clone().set(9);
        assert_eq!(clock.unix_micros(), 9);
    }

    #[test]
    fn real_clock_is_after_2026() {
        assert!(Clock::default().unix_micros() > 1_767_225_600_000_000);
    }

    #[test]
    fn time_left_is_never_negative() {
        assert_eq!(Millis(10).since(Millis(25)), Duration::ZERO);
        assert_eq!(Millis(25).since(Millis(10)), Duration::from_millis(15));
    }
}
