//! What can be asked about requests, and what a store has to measure for it.
//!
//! A store answers with [`Measure`]s, whole numbers that add up; a [`Metric`] is made of them here,
//! by the same arithmetic whatever the store.

use serde_json::Value;

use super::sketch::LEVELS;

/// A number that a store makes of a group of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Measure {
    Requests,
    Errors,
    Failovers,
    CacheHits,
    Unpriced,
    Tokens(TokenKind),
    /// Money in two parts, so that no sum overflows: whole dollars of each row, and the rest.
    Dollars(Money),
    NanoDollars(Money),
    /// The sum of a time, and of how many rows it is known.
    Micros(Timing),
    Timed(Timing),
    /// Output tokens of the streams whose speed is known, and the time that they took.
    SpeedTokens,
    SpeedMicros,
    /// The percentiles of [`LEVELS`].
    Quantiles(Timing),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TokenKind {
    InputUncached,
    InputCacheRead,
    InputCacheWrite5m,
    InputCacheWrite1h,
    Output,
    Reasoning,
    AudioIn,
    AudioOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Money {
    Cost,
    Saved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timing {
    Latency,
    Ttft,
    Overhead,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// One measure as it is.
    Plain(Plain),
    SuccessRate,
    InputTokens,
    OutputTokens,
    TotalTokens,
    CostUsd,
    SavedUsd,
    Average(Time),
    /// The index of a level.
    Percentile(Time, usize),
    TokensPerSecond,
}

/// A measure that is a metric itself. (A type of its own, so that no other can be meant.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Plain(Measure);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Time(Timing);

impl TokenKind {
    pub(crate) const INPUT: [Self; 5] = [
        Self::InputUncached,
        Self::InputCacheRead,
        Self::InputCacheWrite5m,
        Self::InputCacheWrite1h,
        Self::AudioIn,
    ];
    pub(crate) const OUTPUT: [Self; 3] = [Self::Output, Self::Reasoning, Self::AudioOut];

    /// The column of a row, of a roll-up, and the metric's name.
    pub(crate) const fn column(self) -> &'static str {
        match self {
            Self::InputUncached => "input_uncached",
            Self::InputCacheRead => "input_cache_read",
            Self::InputCacheWrite5m => "input_cache_write_5m",
            Self::InputCacheWrite1h => "input_cache_write_1h",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::AudioIn => "audio_in",
            Self::AudioOut => "audio_out",
        }
    }
}

impl Timing {
    pub(crate) const fn column(self) -> &'static str {
        match self {
            Self::Latency => "total_us",
            Self::Ttft => "first_token_us",
            Self::Overhead => "overhead_us",
        }
    }
}

impl Money {
    pub(crate) const fn column(self) -> &'static str {
        match self {
            Self::Cost => "cost_nanousd",
            Self::Saved => "saved_nanousd",
        }
    }
}

const fn plain(measure: Measure) -> Metric {
    Metric::Plain(Plain(measure))
}

const fn tokens(kind: TokenKind) -> Metric {
    plain(Measure::Tokens(kind))
}

const fn average(timing: Timing) -> Metric {
    Metric::Average(Time(timing))
}

const fn percentile(timing: Timing, level: usize) -> Metric {
    Metric::Percentile(Time(timing), level)
}

impl Metric {
    /// Every metric by its name.
    pub const ALL: [(&str, Self); 35] = [
        ("requests", plain(Measure::Requests)),
        ("errors", plain(Measure::Errors)),
        ("success_rate", Self::SuccessRate),
        ("failovers", plain(Measure::Failovers)),
        ("cache_hits", plain(Measure::CacheHits)),
        ("unpriced", plain(Measure::Unpriced)),
        ("input_tokens", Self::InputTokens),
        ("output_tokens", Self::OutputTokens),
        ("total_tokens", Self::TotalTokens),
        ("input_uncached", tokens(TokenKind::InputUncached)),
        ("input_cache_read", tokens(TokenKind::InputCacheRead)),
        ("input_cache_write_5m", tokens(TokenKind::InputCacheWrite5m)),
        ("input_cache_write_1h", tokens(TokenKind::InputCacheWrite1h)),
        ("output", tokens(TokenKind::Output)),
        ("reasoning", tokens(TokenKind::Reasoning)),
        ("audio_in", tokens(TokenKind::AudioIn)),
        ("audio_out", tokens(TokenKind::AudioOut)),
        ("cost_usd", Self::CostUsd),
        ("saved_usd", Self::SavedUsd),
        ("latency_avg", average(Timing::Latency)),
        ("latency_p50", percentile(Timing::Latency, 0)),
        ("latency_p90", percentile(Timing::Latency, 1)),
        ("latency_p95", percentile(Timing::Latency, 2)),
        ("latency_p99", percentile(Timing::Latency, 3)),
        ("ttft_avg", average(Timing::Ttft)),
        ("ttft_p50", percentile(Timing::Ttft, 0)),
        ("ttft_p90", percentile(Timing::Ttft, 1)),
        ("ttft_p95", percentile(Timing::Ttft, 2)),
        ("ttft_p99", percentile(Timing::Ttft, 3)),
        ("tokens_per_second", Self::TokensPerSecond),
        ("overhead_avg", average(Timing::Overhead)),
        ("overhead_p50", percentile(Timing::Overhead, 0)),
        ("overhead_p90", percentile(Timing::Overhead, 1)),
        ("overhead_p95", percentile(Timing::Overhead, 2)),
        ("overhead_p99", percentile(Timing::Overhead, 3)),
    ];

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, metric)| metric)
    }

    pub fn name(self) -> &'static str {
        let known = Self::ALL.into_iter().find(|(_, metric)| *metric == self);
        known.map_or("", |(name, _)| name)
    }

    /// Whether stores may differ by the tolerance of approximate percentiles.
    pub const fn is_percentile(self) -> bool {
        matches!(self, Self::Percentile(..))
    }

    /// What it is made of.
    pub(crate) fn measures(self) -> Vec<Measure> {
        let tokens = |kinds: &[TokenKind]| kinds.iter().copied().map(Measure::Tokens).collect();
        match self {
            Self::Plain(Plain(measure)) => vec![measure],
            Self::SuccessRate => vec![Measure::Requests, Measure::Errors],
            Self::InputTokens => tokens(&TokenKind::INPUT),
            Self::OutputTokens => tokens(&TokenKind::OUTPUT),
            Self::TotalTokens => tokens(&[&TokenKind::INPUT[..], &TokenKind::OUTPUT].concat()),
            Self::CostUsd => vec![Measure::Dollars(Money::Cost), Measure::NanoDollars(Money::Cost)],
            Self::SavedUsd => {
                vec![Measure::Dollars(Money::Saved), Measure::NanoDollars(Money::Saved)]
            }
            Self::Average(Time(timing)) => vec![Measure::Micros(timing), Measure::Timed(timing)],
            Self::Percentile(Time(timing), _) => {
                vec![Measure::Timed(timing), Measure::Quantiles(timing)]
            }
            Self::TokensPerSecond => vec![Measure::SpeedTokens, Measure::SpeedMicros],
        }
    }

    /// Its value, of the measures that `find` knows. What is not known of any row is null, but a
    /// count of nothing is 0.
    pub(crate) fn value(self, find: &dyn Fn(Measure) -> Value) -> Value {
        let int = |measure| integer(&find(measure));
        let sum = || self.measures().into_iter().map(int).sum::<i128>();
        match self {
            Self::Plain(_) | Self::InputTokens | Self::OutputTokens | Self::TotalTokens => {
                whole(sum())
            }
            Self::SuccessRate => {
                let requests = int(Measure::Requests);
                ratio(requests - int(Measure::Errors), requests)
            }
            Self::CostUsd => usd(int, Money::Cost),
            Self::SavedUsd => usd(int, Money::Saved),
            Self::Average(Time(timing)) => {
                ratio(int(Measure::Micros(timing)), int(Measure::Timed(timing)))
            }
            Self::Percentile(Time(timing), level) => {
                if int(Measure::Timed(timing)) == 0 {
                    return Value::Null;
                }
                let mut found = find(Measure::Quantiles(timing));
                if let Value::String(list) = &found {
                    found = serde_json::from_str(list).unwrap_or_default();
                }
                debug_assert!(level < LEVELS.len());
                found.get(level).map_or(Value::Null, |value| whole(integer(value)))
            }
            Self::TokensPerSecond => {
                ratio(int(Measure::SpeedTokens) * 1_000_000, int(Measure::SpeedMicros))
            }
        }
    }
}

/// A store may write a large number as a text.
fn integer(value: &Value) -> i128 {
    match value {
        Value::Number(number) => {
            number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).unwrap_or(0)
        }
        Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

fn whole(number: i128) -> Value {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => number.into(),
        (_, Ok(number)) => number.into(),
        _ => float(number).into(),
    }
}

fn ratio(of: i128, to: i128) -> Value {
    if to == 0 { Value::Null } else { (float(of) / float(to)).into() }
}

/// Dollars: exact to the nano-dollar up to nine million.
fn usd(int: impl Fn(Measure) -> i128, money: Money) -> Value {
    let nano = int(Measure::Dollars(money)) * 1_000_000_000 + int(Measure::NanoDollars(money));
    (float(nano) / 1e9).into()
}

#[expect(clippy::cast_precision_loss, reason = "a number for people to read")]
fn float(number: i128) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for (name, metric) in Metric::ALL {
            assert_eq!((Metric::of_name(name), metric.name()), (Some(metric), name));
        }
        assert_eq!(Metric::of_name("latency_p42"), None);
    }

    #[test]
    fn money_is_exact_to_the_nano_dollar() {
        let find = |measure| match measure {
            Measure::Dollars(Money::Cost) => json!(8_999_999),
            Measure::NanoDollars(Money::Cost) => json!("123456789"),
            _ => Value::Null,
        };
        let usd = Metric::CostUsd.value(&find).as_f64().unwrap();
        assert_eq!(format!("{usd:.9}"), "8999999.123456789");
    }

    #[test]
    fn nothing_is_zero_requests_and_no_rate() {
        let nothing = |_| Value::Null;
        for (name, metric) in Metric::ALL {
            let value = metric.value(&nothing);
            let is_count = matches!(metric, Metric::Plain(_) | Metric::InputTokens)
                || matches!(metric, Metric::OutputTokens | Metric::TotalTokens)
                || matches!(metric, Metric::CostUsd | Metric::SavedUsd);
            assert_eq!(value.as_f64(), is_count.then_some(0.0), "{name}");
        }
    }

    #[test]
    fn large_sums_stay_whole() {
        assert_eq!(whole(i128::from(u64::MAX)), json!(u64::MAX));
        assert_eq!(integer(&json!("18446744073709551615")), i128::from(u64::MAX));
    }
}
