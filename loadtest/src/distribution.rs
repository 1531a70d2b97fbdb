//! Amounts that vary: delays, sizes, pauses.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

/// How an amount varies from one draw to the next.
///
/// As text: `20`, `uniform:10:30`, `lognormal:20:0.5` (median and sigma of the logarithm),
/// `quantiles:0.5=20,0.9=45,0.99=300,1=900` (straight lines between them; below the first quantile
/// its value). A number means itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    Fixed(f64),
    Uniform {
        low: f64,
        high: f64,
    },
    LogNormal {
        median: f64,
        sigma: f64,
    },
    /// Share and value, both rising; the last share is 1.
    Quantiles(Vec<(f64, f64)>),
}

/// Why a text is no distribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no distribution: {why}")]
pub struct DistributionError {
    text: String,
    why: &'static str,
}

/// A draw of a lognormal distribution is at most this many times its median.
const TAIL_MAX: f64 = 1_000.0;

impl Distribution {
    /// The only value it has, if there is only one.
    pub fn fixed(&self) -> Option<f64> {
        match self {
            Self::Fixed(value) => Some(*value),
            Self::Uniform { .. } | Self::LogNormal { .. } | Self::Quantiles(_) => None,
        }
    }

    /// The largest value that can be drawn.
    pub fn max(&self) -> f64 {
        match self {
            Self::Fixed(value) => *value,
            Self::Uniform { high, .. } => *high,
            Self::LogNormal { median, .. } => median * TAIL_MAX,
            Self::Quantiles(points) => points.last().map_or(0.0, |(_, value)| *value),
        }
    }

    pub fn draw(&self, random: &mut fastrand::Rng) -> f64 {
        match self {
            Self::Fixed(value) => *value,
            Self::Uniform { low, high } => low + (high - low) * random.f64(),
            Self::LogNormal { median, sigma } => {
                // Box and Muller; 1 − u is never 0.
                let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
                (median * (sigma * normal).exp()).min(median * TAIL_MAX)
            }
            Self::Quantiles(points) => at_share(points, random.f64()),
        }
    }

    fn is_sound(&self) -> Result<(), &'static str> {
        let is_amount = |value: &f64| value.is_finite() && *value >= 0.0;
        match self {
            Self::Fixed(value) if !is_amount(value) => Err("an amount is 0 or more"),
            Self::Uniform { low, high } if !is_amount(low) || !is_amount(high) => {
                Err("an amount is 0 or more")
            }
            Self::Uniform { low, high } if low > high => Err("the lower bound is the higher one"),
            Self::LogNormal { median, sigma } if !is_amount(median) || !is_amount(sigma) => {
                Err("median and sigma are 0 or more")
            }
            Self::Quantiles(points) => are_sound(points),
            Self::Fixed(_) | Self::Uniform { .. } | Self::LogNormal { .. } => Ok(()),
        }
    }
}

fn are_sound(points: &[(f64, f64)]) -> Result<(), &'static str> {
    let mut before = (0.0, 0.0);
    for point in points {
        if point.0 <= before.0 || point.0 > 1.0 {
            return Err("shares rise, from above 0 to 1");
        }
        if !point.1.is_finite() || point.1 < before.1 {
            return Err("values do not fall");
        }
        before = *point;
    }
    #[expect(clippy::float_cmp, reason = "the text says 1, or it does not")]
    if before.0 == 1.0 { Ok(()) } else { Err("the last share is 1") }
}

fn at_share(points: &[(f64, f64)], share: f64) -> f64 {
    let mut before: Option<(f64, f64)> = None;
    for (to, value) in points {
        if share <= *to {
            return before
                .map_or(*value, |(from, low)| low + (value - low) * (share - from) / (to - from));
        }
        before = Some((*to, *value));
    }
    before.map_or(0.0, |(_, value)| value)
}

impl FromStr for Distribution {
    type Err = DistributionError;

    fn from_str(text: &str) -> Result<Self, DistributionError> {
        let wrong = |why| DistributionError { text: text.to_owned(), why };
        let number = |part: &str| part.trim().parse::<f64>().map_err(|_| wrong("no number"));
        let pair = |rest: &str| match rest.split_once(':') {
            Some((first, second)) => Ok((number(first)?, number(second)?)),
            None => Err(wrong("two numbers are wanted, with a colon between")),
        };
        let parsed = match text.split_once(':') {
            None => Self::Fixed(number(text)?),
            Some(("uniform", rest)) => {
                let (low, high) = pair(rest)?;
                Self::Uniform { low, high }
            }
            Some(("lognormal", rest)) => {
                let (median, sigma) = pair(rest)?;
                Self::LogNormal { median, sigma }
            }
            Some(("quantiles", rest)) => {
                let points = rest.split(',').map(|point| match point.split_once('=') {
                    Some((share, value)) => Ok((number(share)?, number(value)?)),
                    None => Err(wrong("a quantile is SHARE=VALUE")),
                });
                Self::Quantiles(points.collect::<Result<_, _>>()?)
            }
            Some(_) => return Err(wrong("there are uniform, lognormal and quantiles")),
        };
        parsed.is_sound().map_err(wrong)?;
        Ok(parsed)
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(value) => write!(out, "{value}"),
            Self::Uniform { low, high } => write!(out, "uniform:{low}:{high}"),
            Self::LogNormal { median, sigma } => write!(out, "lognormal:{median}:{sigma}"),
            Self::Quantiles(points) => {
                out.write_str("quantiles:")?;
                for (index, (share, value)) in points.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(out, "{comma}{share}={value}")?;
                }
                Ok(())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum NumberOrText {
            Number(f64),
            Text(String),
        }
        let text = match NumberOrText::deserialize(from)? {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        };
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drawn(text: &str, n: usize) -> Vec<f64> {
        let distribution: Distribution = text.parse().unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let mut values: Vec<f64> = (0..n).map(|_| distribution.draw(&mut random)).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    #[test]
    fn draws_have_the_shape_that_is_asked_for() {
        let near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() < 0.1;
        assert!(drawn("20", 10).iter().all(|value| near(*value, 20.0)));
        let uniform = drawn("uniform:10:30", 10_000);
        assert!(near(uniform[5_000], 20.0) && uniform[0] >= 10.0 && uniform[9_999] <= 30.0);
        let lognormal = drawn("lognormal:20:0.5", 10_000);
        assert!(near(lognormal[5_000], 20.0), "{}", lognormal[5_000]);
        // One sigma up is at 84.13 %.
        assert!(near(lognormal[8_413], 20.0 * 0.5_f64.exp()), "{}", lognormal[8_413]);
        let table = drawn("quantiles:0.5=20,0.9=40,1=100", 10_000);
        assert!(near(table[2_000], 20.0) && near(table[7_000], 30.0) && near(table[9_500], 70.0));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("a", "no number"),
            ("-1", "0 or more"),
            ("uniform:3:1", "the higher one"),
            ("uniform:3", "two numbers"),
            ("normal:1:2", "there are uniform"),
            ("quantiles:0.5=1", "the last share is 1"),
            ("quantiles:0.5=9,1=1", "do not fall"),
        ] {
            let error = text.parse::<Distribution>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn text_says_it_all_and_draws_stay_in_bounds(
            kind in 0..4, a in 0.0..1e6_f64, b in 0.0..1e6_f64, seed: u64,
        ) {
            let (low, high) = (a.min(b), a.max(b));
            let distribution = match kind {
                0 => Distribution::Fixed(a),
                1 => Distribution::Uniform { low, high },
                2 => Distribution::LogNormal { median: a, sigma: b / 1e6 },
                _ => Distribution::Quantiles(vec![(0.25, low), (1.0, high)]),
            };
            prop_assert_eq!(distribution.to_string().parse(), Ok(distribution.clone()));
            let value = distribution.draw(&mut fastrand::Rng::with_seed(seed));
            prop_assert!(value >= 0.0 && value <= distribution.max(), "{} {}", distribution, value);
        }
    }
}
