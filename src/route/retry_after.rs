//! What a provider says about when to come back.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// A wait beyond this is taken for a mistake.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Reads the headers `retry-after-ms` and `retry-after` (seconds, whole or decimal, or an HTTP date).
///
/// The first is the more exact and wins when it can be read. A date that has passed is a wait of
/// nothing, one beyond [`RETRY_AFTER_MAX`] is cut to it, and what cannot be read is as if not sent.
pub fn parse_retry_after(
    retry_after: Option<&str>,
    retry_after_ms: Option<&str>,
    now_unix_s: i64,
) -> Option<Duration> {
    let exact = retry_after_ms.and_then(|text| decimal(text, 0.001));
    let wait = exact.or_else(|| {
        let text = retry_after?;
        decimal(text, 1.0).or_else(|| until_date(text, now_unix_s))
    })?;
    Some(wait.min(RETRY_AFTER_MAX))
}

fn decimal(text: &str, unit_s: f64) -> Option<Duration> {
    let text = text.trim();
    // Digits and a point only: `f64` also reads `inf`, `1e9` and signs.
    if text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let seconds = text.parse::<f64>().ok()? * unit_s;
    Some(Duration::from_secs_f64(seconds.min(RETRY_AFTER_MAX.as_secs_f64())))
}

fn until_date(text: &str, now_unix_s: i64) -> Option<Duration> {
    let at = OffsetDateTime::parse(text.trim(), &Rfc2822).ok()?.unix_timestamp();
    Some(Duration::from_secs(u64::try_from(at.saturating_sub(now_unix_s)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 1994-11-06 08:49:37 UTC.
    const NOW: i64 = 784_111_777;

    #[test]
    fn seconds_milliseconds_and_dates_are_read() {
        let cases = [
            (Some("3"), None, Some(3_000)),
            (Some(" 0 "), None, Some(0)),
            (Some("1.5"), None, Some(1_500)),
            (Some("9"), Some("250"), Some(250)),
            (Some("9"), Some("12.5"), Some(12)),
            (Some("9"), Some("soon"), Some(9_000)),
            (None, Some("70"), Some(70)),
            (Some("Sun, 06 Nov 1994 08:50:07 GMT"), None, Some(30_000)),
            (Some("Sun, 06 Nov 1994 08:49:07 GMT"), None, Some(0)),
            (Some("Mon, 06 Nov 2034 08:49:37 GMT"), None, Some(3_600_000)),
            (Some("86400"), None, Some(3_600_000)),
            (Some("99999999999999999999"), None, Some(3_600_000)),
            (Some("999999999999999999999"), None, None),
            (Some("-1"), None, None),
            (Some("+1"), None, None),
            (Some("1e9"), None, None),
            (Some("inf"), None, None),
            (Some("."), None, None),
            (Some(""), None, None),
            (Some("tomorrow"), None, None),
            (None, None, None),
        ];
        for (seconds, millis, expected) in cases {
            let wait = parse_retry_after(seconds, millis, NOW).map(|wait| wait.as_millis());
            assert_eq!(wait, expected, "{seconds:?} {millis:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(seconds: Option<String>, millis: Option<String>, now: i64) {
            let wait = parse_retry_after(seconds.as_deref(), millis.as_deref(), now);
            prop_assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
        }
    }
}
