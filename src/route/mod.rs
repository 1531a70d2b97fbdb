//! From a deployment to an order of targets, and what a failed attempt means.
//!
//! Pure: nothing here reads a clock, takes a lock or draws a random number. Time comes as
//! [`Millis`](crate::clock::Millis), randomness as a seed. Rules are small types of this module, so
//! that it knows nothing of the configuration they are made from.

pub mod backoff;
pub mod breaker;
pub mod error_rate;
pub mod ewma;
pub mod failure;
pub mod plan;
pub mod retry_after;
pub mod retry_budget;
pub mod swrr;

/// The finalizer of `SplitMix64`: every input bit reaches every output bit.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number below `bound` that `seed` decides; zero when `bound` is zero.
const fn below(bound: u64, seed: u64) -> u64 {
    // The high half of the product: without the division, and without its bias to small numbers.
    let product = (mix(seed) as u128) * (bound as u128);
    (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn draw_is_below_its_bound(bound: u64, seed: u64) {
            prop_assert!(below(bound, seed) < bound.max(1));
        }
    }

    #[test]
    fn draws_spread_over_the_whole_range() {
        let mut hits = [0_u32; 10];
        for seed in 0..10_000 {
            hits[usize::try_from(below(10, seed)).unwrap()] += 1;
        }
        assert!(hits.iter().all(|hits| (880..1_120).contains(hits)), "{hits:?}");
    }
}
