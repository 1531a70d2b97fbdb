//! Percentiles: exact over values, within 0.8 % over a histogram that can be kept and merged.
//!
//! The percentile `p` of `n` values is the one at index `floor(p · n)` of the sorted values (the last
//! for `p · n = n`): always one of the values. ClickHouse's `quantileExact` is the same.
//!
//! A histogram has 64 buckets for each power of two, and stands for a bucket by its middle.

use std::collections::BTreeMap;

/// The percentiles that can be asked for.
pub(crate) const LEVELS: [f64; 4] = [0.5, 0.9, 0.95, 0.99];

/// Values that are kept one by one; then the histogram takes over, so that memory is bounded.
const VALUES_MAX: usize = 250_000;

const BUCKET_BITS: u32 = 6;

/// Percentiles of values that come one after the other.
#[derive(Debug, Clone)]
pub(crate) enum Sketch {
    Exact(Vec<u64>),
    Approximate(Histogram),
}

/// How many values fell into which bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram(BTreeMap<u16, u64>);

// === impl Sketch ===

impl Default for Sketch {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Sketch {
    pub(crate) fn add(&mut self, value: u64) {
        match self {
            Self::Exact(values) if values.len() < VALUES_MAX => values.push(value),
            Self::Exact(values) => {
                let mut histogram = Histogram::default();
                for value in std::mem::take(values) {
                    histogram.add(value);
                }
                histogram.add(value);
                *self = Self::Approximate(histogram);
            }
            Self::Approximate(histogram) => histogram.add(value),
        }
    }

    /// `None` without values.
    pub(crate) fn quantiles(self) -> Option<[u64; 4]> {
        match self {
            Self::Exact(mut values) => {
                values.sort_unstable();
                let last = values.len().checked_sub(1)?;
                let at = |level: f64| {
                    let index = rank(level, values.len() as u64);
                    let index = usize::try_from(index).unwrap_or(last).min(last);
                    values.get(index).copied().unwrap_or_default()
                };
                Some(LEVELS.map(at))
            }
            Self::Approximate(histogram) => histogram.quantiles(),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "as ClickHouse does it: a product of doubles, cut"
)]
fn rank(level: f64, count: u64) -> u64 {
    ((level * count as f64) as u64).min(count.saturating_sub(1))
}

// === impl Histogram ===

impl Histogram {
    pub(crate) fn add(&mut self, value: u64) {
        *self.0.entry(bucket(value)).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            let sum = self.0.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    pub(crate) fn quantiles(&self) -> Option<[u64; 4]> {
        let count: u64 = self.0.values().fold(0, |sum, count| sum.saturating_add(*count));
        if count == 0 {
            return None;
        }
        Some(LEVELS.map(|level| {
            let rank = rank(level, count);
            let mut n_before = 0_u64;
            let found = self.0.iter().find(|(_, n)| {
                n_before = n_before.saturating_add(**n);
                n_before > rank
            });
            found.map_or(0, |(bucket, _)| middle(*bucket))
        }))
    }

    /// Pairs of (step to the next bucket, count), seven bits a byte.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * 3);
        let mut last = 0;
        for (bucket, count) in &self.0 {
            put(&mut out, u64::from(bucket - last));
            put(&mut out, *count);
            last = *bucket;
        }
        out
    }

    /// What is damaged ends the histogram.
    pub(crate) fn decode(mut bytes: &[u8]) -> Self {
        let mut buckets = BTreeMap::new();
        let mut bucket = 0_u16;
        while let Some((step, count)) = take(&mut bytes).zip(take(&mut bytes)) {
            let next = u16::try_from(step).ok().and_then(|step| bucket.checked_add(step));
            let Some(next) = next else { break };
            bucket = next;
            buckets.insert(bucket, count);
        }
        Self(buckets)
    }
}

fn bucket(value: u64) -> u16 {
    let Some(exponent) = value.checked_ilog2().filter(|exponent| *exponent >= BUCKET_BITS) else {
        return u16::try_from(value).unwrap_or_default();
    };
    let octave = exponent - BUCKET_BITS;
    let within = (value >> octave) & ((1 << BUCKET_BITS) - 1);
    let index = u64::from(octave + 1) << BUCKET_BITS | within;
    u16::try_from(index).unwrap_or(u16::MAX)
}

fn middle(bucket: u16) -> u64 {
    let (octave, within) = (u32::from(bucket) >> BUCKET_BITS, u64::from(bucket) & 63);
    let Some(octave) = octave.checked_sub(1) else { return within };
    let low = ((1 << BUCKET_BITS) + within).checked_shl(octave).unwrap_or(u64::MAX);
    low.saturating_add(((1_u64.checked_shl(octave).unwrap_or(1)) - 1) / 2)
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while let [low, _, ..] = number.to_le_bytes()
        && number > 0x7f
    {
        out.push(low | 0x80);
        number >>= 7;
    }
    let [low, ..] = number.to_le_bytes();
    out.push(low);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn histogram(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.add(*value);
        }
        histogram
    }

    fn exact(values: &[u64]) -> Option<[u64; 4]> {
        Sketch::Exact(values.to_vec()).quantiles()
    }

    #[test]
    fn percentile_is_the_value_at_its_index() {
        let hundred: Vec<u64> = (0..100).rev().collect();
        assert_eq!(exact(&hundred), Some([50, 90, 95, 99]));
        assert_eq!(exact(&[7]), Some([7; 4]));
        assert_eq!(exact(&[]), None);
        assert_eq!(Histogram::default().quantiles(), None);
    }

    #[test]
    fn many_values_take_bounded_memory() {
        let mut sketch = Sketch::default();
        for value in 0..VALUES_MAX as u64 + 10 {
            sketch.add(value);
        }
        assert!(matches!(&sketch, Sketch::Approximate(_)));
        let [p50, ..] = sketch.quantiles().unwrap();
        assert!(p50.abs_diff(VALUES_MAX as u64 / 2) < 1_500, "{p50}");
    }

    #[test]
    fn damaged_histogram_does_not_panic() {
        for bytes in [&[0xff; 30][..], &[1], &[0xff, 0xff, 0xff, 0x7f, 1], &[0x80; 3]] {
            Histogram::decode(bytes).quantiles();
        }
    }

    proptest! {
        #[test]
        fn bucket_is_near_its_values(value: u64, shift in 0_u32..64) {
            let value = value >> shift;
            let error = middle(bucket(value)).abs_diff(value);
            prop_assert!(u128::from(error) * 128 <= u128::from(value), "{value}: {error}");
        }

        #[test]
        fn histogram_is_within_its_tolerance(values in vec(0_u64..1 << 40, 1..300)) {
            let approximate = histogram(&values).quantiles().unwrap();
            for (near, value) in approximate.into_iter().zip(exact(&values).unwrap()) {
                prop_assert!(near.abs_diff(value) * 128 <= value, "{near} {value}");
            }
        }

        #[test]
        fn merging_is_adding_all(one in vec(any::<u64>(), 0..50), other in vec(any::<u64>(), 0..50)) {
            let mut merged = histogram(&one);
            merged.merge(&Histogram::decode(&histogram(&other).encode()));
            prop_assert_eq!(merged, histogram(&[one, other].concat()));
        }
    }
}
