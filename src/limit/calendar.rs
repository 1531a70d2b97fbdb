//! The UTC window that a moment is in: hours, days, weeks from Monday, months.

use super::Period;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// 1970-01-01 was a Thursday: three days after a Monday.
const DAYS_AFTER_MONDAY: u64 = 3;

/// A window's number, which counts up, and when it ends, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) index: u64,
    pub(super) until_ms: u64,
}

/// The window of `period` that `unix_ms` is in. What slides has no calendar and never resets here.
pub(super) fn span(period: Period, unix_ms: u64) -> Span {
    match period {
        Period::Hour => even(unix_ms, HOUR_MS, 0),
        Period::Day => even(unix_ms, DAY_MS, 0),
        Period::Week => even(unix_ms, 7 * DAY_MS, DAYS_AFTER_MONDAY * DAY_MS),
        Period::Month => month(unix_ms),
        Period::Second | Period::Minute | Period::Lifetime => Span { index: 0, until_ms: u64::MAX },
    }
}

/// Windows of one length, the first of which began `ahead_ms` before 1970.
fn even(unix_ms: u64, length_ms: u64, ahead_ms: u64) -> Span {
    let index = (unix_ms + ahead_ms) / length_ms;
    Span { index, until_ms: (index + 1) * length_ms - ahead_ms }
}

/// Months since the year 0.
fn month(unix_ms: u64) -> Span {
    let (year, month) = year_and_month(unix_ms / DAY_MS);
    let index = year * 12 + (month - 1);
    let next = index + 1;
    Span { index, until_ms: days_before(next / 12, next % 12 + 1) * DAY_MS }
}

/// Howard Hinnant's `civil_from_days`, for days after 1970.
fn year_and_month(days: u64) -> (u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month)
}

/// Days from 1970-01-01 to the first of a month: `days_from_civil`.
fn days_before(year: u64, month: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::{Date, Month, OffsetDateTime, Weekday};

    use super::*;

    fn moment(unix_ms: u64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp((unix_ms / 1000).cast_signed()).unwrap()
    }

    #[test]
    fn month_ends_with_its_last_day() {
        let begin = |year, month, day| {
            let date = Date::from_calendar_date(year, month, day).unwrap();
            u64::try_from(date.midnight().assume_utc().unix_timestamp()).unwrap() * 1000
        };
        let leap = span(Period::Month, begin(2028, Month::February, 29));
        assert_eq!(leap.until_ms, begin(2028, Month::March, 1));
        let last = span(Period::Month, begin(2027, Month::January, 1) - 1);
        assert_eq!(last.until_ms, begin(2027, Month::January, 1));
        assert_eq!(last.index + 1, span(Period::Month, last.until_ms).index);
    }

    proptest! {
        #[test]
        fn window_holds_its_moment_and_the_next_begins_where_it_ends(
            unix_ms in 0..7_000_000_000_000_u64,
            period in prop::sample::select(&[Period::Hour, Period::Day, Period::Week, Period::Month][..]),
        ) {
            let Span { index, until_ms } = span(period, unix_ms);
            prop_assert!(unix_ms < until_ms);
            prop_assert_eq!(span(period, until_ms - 1).index, index);
            let next = span(period, until_ms);
            prop_assert_eq!(next.index, index + 1);
            let begin = moment(until_ms);
            prop_assert_eq!((begin.minute(), begin.second()), (0, 0));
            match period {
                Period::Day => prop_assert_eq!(begin.hour(), 0),
                Period::Week => {
                    prop_assert_eq!((begin.hour(), begin.weekday()), (0, Weekday::Monday));
                }
                Period::Month => {
                    prop_assert_eq!((begin.hour(), begin.day()), (0, 1));
                    let at = moment(unix_ms);
                    let months = at.year().cast_unsigned() * 12 + u32::from(u8::from(at.month())) - 1;
                    prop_assert_eq!(index, u64::from(months));
                }
                _ => {}
            }
        }
    }
}
