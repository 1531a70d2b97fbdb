//! Drawing targets by weight, so that a draw of one does not depend on the others.

use crate::route::mix;

/// A number that is smaller the sooner its target comes (weighted rendezvous hashing): the smallest
/// of several belongs to each target with a probability of its share of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Draw(u64);

impl Draw {
    /// What `seed` draws for a target.
    pub(super) fn new(seed: u64, identity: u64, weight: u32) -> Self {
        let unit = unit_interval(mix(seed ^ mix(identity)));
        let draw = -unit.ln() / f64::from(weight);
        Self(draw.to_bits()) // The bit patterns of positive floats sort like the floats.
    }
}

/// Maps 64 random bits to a number between 0 and 1 that is neither.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
fn unit_interval(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}
