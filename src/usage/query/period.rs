//! Times and the buckets they fall into, all in UTC.

use time::format_description::well_known::Rfc3339;
use time::{Month, OffsetDateTime};

const US_PER_S: i64 = 1_000_000;
const DAY_S: i64 = 86_400;
const WEEK_S: i64 = 7 * DAY_S;
/// 1970-01-05 was a Monday, and weeks begin on Mondays.
const MONDAY_S: i64 = 4 * DAY_S;

/// How wide the buckets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// Of so many seconds, counted from 1970.
    Fixed(i64),
    Week,
    Month,
    /// One bucket for the whole range.
    Total,
}

/// From, inclusive, to, exclusive, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub from_us: i64,
    pub to_us: i64,
}

impl Granularity {
    pub const NAMES: [(&str, Self); 8] = [
        ("minute", Self::Fixed(60)),
        ("5m", Self::Fixed(300)),
        ("hour", Self::Fixed(3_600)),
        ("day", Self::Fixed(DAY_S)),
        ("week", Self::Week),
        ("month", Self::Month),
        ("total", Self::Total),
        ("none", Self::Total),
    ];

    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, granularity)| granularity)
    }

    pub fn name(self) -> &'static str {
        let known = Self::NAMES.into_iter().find(|(_, granularity)| *granularity == self);
        known.map_or("total", |(name, _)| name)
    }

    /// Whether buckets are narrower than an hour.
    pub(crate) const fn is_fine(self) -> bool {
        matches!(self, Self::Fixed(width) if width < 3_600)
    }

    /// The begin of the bucket that holds `second`.
    pub(crate) fn floor(self, second: i64) -> i64 {
        match self {
            Self::Fixed(width) => second.div_euclid(width) * width,
            Self::Week => (second - MONDAY_S).div_euclid(WEEK_S) * WEEK_S + MONDAY_S,
            Self::Month => month(second, 0),
            Self::Total => second,
        }
    }

    fn next(self, bucket: i64) -> i64 {
        match self {
            Self::Fixed(width) => bucket + width,
            Self::Week => bucket + WEEK_S,
            Self::Month => month(bucket, 1),
            Self::Total => i64::MAX,
        }
    }

    /// The begins of all buckets that `range` touches, as long as they are at most `n_max`.
    pub(crate) fn buckets(self, range: Range, n_max: usize) -> Option<Vec<i64>> {
        let to_s = range.to_us.saturating_sub(1).div_euclid(US_PER_S);
        let first = self.floor(range.from_us.div_euclid(US_PER_S));
        let all = std::iter::successors(Some(first), |bucket| Some(self.next(*bucket)));
        let buckets: Vec<i64> =
            all.take_while(|bucket| *bucket <= to_s).take(n_max.saturating_add(1)).collect();
        (buckets.len() <= n_max).then_some(buckets)
    }
}

impl Range {
    pub(crate) const fn len_us(self) -> i64 {
        self.to_us.saturating_sub(self.from_us)
    }

    /// The smallest range of whole units of so many seconds that holds this one.
    pub(crate) fn widened(self, unit_s: i64) -> Self {
        let unit = unit_s * US_PER_S;
        let up = |us: i64| us.saturating_add(unit - 1).div_euclid(unit) * unit;
        Self { from_us: self.from_us.div_euclid(unit) * unit, to_us: up(self.to_us) }
    }
}

/// The begin of the month of `second`, or of one after it.
fn month(second: i64, n_later: i32) -> i64 {
    let date = OffsetDateTime::from_unix_timestamp(second).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let months = date.year() * 12 + i32::from(u8::from(date.month())) - 1 + n_later;
    let number = u8::try_from(months.rem_euclid(12) + 1).unwrap_or(1);
    let month = Month::try_from(number).unwrap_or(Month::January);
    let first = time::Date::from_calendar_date(months.div_euclid(12), month, 1);
    first.map_or(second, |date| date.midnight().assume_utc().unix_timestamp())
}

/// Microseconds since 1970 of a time as RFC 3339 writes it.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).ok()
}

/// As RFC 3339 writes it, in UTC.
pub(crate) fn show(us: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

pub(crate) fn show_second(second: i64) -> String {
    show(second.saturating_mul(US_PER_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: &str, to: &str) -> Range {
        Range { from_us: parse(from).unwrap(), to_us: parse(to).unwrap() }
    }

    fn buckets(name: &str, range: Range) -> Vec<String> {
        let buckets = Granularity::of_name(name).unwrap().buckets(range, 10).unwrap();
        buckets.into_iter().map(show_second).collect()
    }

    #[test]
    fn buckets_are_those_that_the_range_touches() {
        let range = range("2026-02-27T23:59:30.5Z", "2026-03-02T00:00:00Z");
        assert_eq!(
            buckets("day", range),
            ["2026-02-27T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"]
        );
        assert_eq!(buckets("week", range), ["2026-02-23T00:00:00Z"]);
        assert_eq!(buckets("month", range), ["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]);
        assert_eq!(Granularity::Fixed(60).buckets(range, 1_000), None);
        assert_eq!(Granularity::Total.buckets(range, 1).unwrap().len(), 1);
    }

    #[test]
    fn months_go_over_the_year() {
        let december = parse("2025-12-31T23:59:59Z").unwrap() / US_PER_S;
        assert_eq!(show_second(month(december, 1)), "2026-01-01T00:00:00Z");
        assert_eq!(show_second(month(december, 0)), "2025-12-01T00:00:00Z");
    }

    #[test]
    fn times_go_through_text() {
        for text in ["2026-07-25T17:20:00.123456Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
        assert_eq!(parse("2026-07-25T19:20:00+02:00"), parse("2026-07-25T17:20:00Z"));
        assert_eq!(parse("2026-07-25"), None);
    }

    #[test]
    fn range_is_widened_to_whole_units() {
        let widened = range("2026-02-27T23:59:30.5Z", "2026-03-02T00:00:00Z").widened(3_600);
        assert_eq!(show(widened.from_us), "2026-02-27T23:00:00Z");
        assert_eq!(show(widened.to_us), "2026-03-02T00:00:00Z");
    }
}
