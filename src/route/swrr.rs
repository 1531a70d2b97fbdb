//! Smooth weighted round robin: exact shares, evenly spread.

/// The state of one deployment's rotation.
///
/// While the same targets are eligible, any window of sum-of-weights consecutive picks, wherever it
/// begins, gives each of them exactly its weight. A target that is left out neither gains nor loses:
/// when it comes back it goes on where it stopped, at most two picks of a window away from its share.
#[derive(Debug, Clone)]
pub struct Swrr {
    slots: Box<[Slot]>,
    /// The sum of all weights: nobody is owed more, or owes more.
    reach: i64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    weight: i64,
    /// What the target is owed, in picks times the sum of weights.
    standing: i64,
}

impl Swrr {
    /// A rotation in which nobody is owed anything. Weight 0 is never picked.
    pub fn new(weights: &[u32]) -> Self {
        let slot = |&weight: &u32| Slot { weight: i64::from(weight), standing: 0 };
        let slots: Box<[Slot]> = weights.iter().map(slot).collect();
        let reach = slots.iter().map(|slot| slot.weight).sum();
        Self { slots, reach }
    }

    /// The next target among those that are `eligible`, or `None` when none of them has weight.
    pub fn next(&mut self, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let reach = self.reach;
        let mut total = 0;
        let mut best: Option<(usize, &mut Slot)> = None;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.weight == 0 || !eligible(index) {
                continue;
            }
            total += slot.weight;
            // The bound bites only when eligibility changes from pick to pick.
            slot.standing = slot.standing.min(reach) + slot.weight;
            if best.as_ref().is_none_or(|(_, leader)| leader.standing < slot.standing) {
                best = Some((index, slot));
            }
        }
        let (index, slot) = best?;
        slot.standing = (slot.standing - total).max(-reach);
        Some(index)
    }

    /// How strong the claim of target `index` is to the pick after the next one. Whoever loses the
    /// next pick to another target is tried after it in this order, the strongest claim first.
    pub fn claim(&self, index: usize) -> i64 {
        self.slots.get(index).map_or(i64::MIN, |slot| slot.standing + 2 * slot.weight)
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heavy_target_is_spread_between_the_light_ones() {
        let mut swrr = Swrr::new(&[5, 1, 1]);
        let picks: String = (0..14).map(|_| letter(swrr.next(|_| true))).collect();
        assert_eq!(picks, "AABACAAAABACAA");
    }

    #[test]
    fn ten_thousand_picks_keep_five_to_one_to_one() {
        let mut swrr = Swrr::new(&[5, 1, 1]);
        let mut counts = [0; 3];
        for _ in 0..7 * 1_500 {
            counts[swrr.next(|_| true).unwrap()] += 1;
        }
        assert_eq!(counts, [7_500, 1_500, 1_500]);
    }

    #[test]
    fn target_that_was_away_does_not_catch_up() {
        let mut swrr = Swrr::new(&[1, 1]);
        for _ in 0..1_000 {
            assert_eq!(swrr.next(|index| index == 0), Some(0));
        }
        let picks: String = (0..6).map(|_| letter(swrr.next(|_| true))).collect();
        assert_eq!(picks, "ABABAB");
    }

    #[test]
    fn nothing_to_pick_is_none() {
        assert_eq!(Swrr::new(&[]).next(|_| true), None);
        assert_eq!(Swrr::new(&[0, 0]).next(|_| true), None);
        assert_eq!(Swrr::new(&[1, 1]).next(|_| false), None);
    }

    #[test]
    fn largest_weights_do_not_overflow() {
        let mut swrr = Swrr::new(&[u32::MAX; 128]);
        for round in 0..1_000_usize {
            assert_eq!(swrr.next(|_| true), Some(round % 128));
        }
    }

    proptest! {
        #[test]
        fn every_window_holds_exact_shares(weights in weights(), skip in 0_usize..60) {
            let total: u32 = weights.iter().sum();
            let mut swrr = Swrr::new(&weights);
            for _ in 0..skip {
                swrr.next(|_| true);
            }
            let picks: Vec<usize> = (0..3 * total).filter_map(|_| swrr.next(|_| true)).collect();
            for window in picks.windows(total as usize) {
                for (index, &weight) in weights.iter().enumerate() {
                    let share = window.iter().filter(|&&pick| pick == index).count();
                    prop_assert_eq!(share, weight as usize);
                }
            }
        }

        #[test]
        fn only_eligible_targets_with_weight_are_picked(
            weights in prop::collection::vec(0_u32..5, 0..8),
            masks in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut swrr = Swrr::new(&weights);
            for mask in masks {
                let is_eligible = |index: usize| mask & (1 << index) != 0;
                let some = (0..weights.len()).any(|index| is_eligible(index) && weights[index] > 0);
                match swrr.next(is_eligible) {
                    Some(pick) => prop_assert!(is_eligible(pick) && weights[pick] > 0),
                    None => prop_assert!(!some),
                }
            }
        }

        #[test]
        fn after_any_history_a_window_is_at_most_two_picks_off(
            weights in weights(),
            masks in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let total: u32 = weights.iter().sum();
            let mut swrr = Swrr::new(&weights);
            for mask in masks {
                swrr.next(|index| mask & (1 << index) != 0);
                for index in 0..weights.len() {
                    prop_assert!(swrr.slots[index].standing.abs() <= 2 * i64::from(total));
                }
            }
            let mut counts = vec![0_u32; weights.len()];
            for _ in 0..total {
                counts[swrr.next(|_| true).unwrap()] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!(count.abs_diff(*weight) <= 2, "{counts:?} for {weights:?}");
            }
        }
    }

    fn weights() -> impl Strategy<Value = Vec<u32>> {
        let weights = prop::collection::vec(0_u32..12, 1..7);
        weights.prop_filter("somebody must be picked", |weights| weights.iter().sum::<u32>() > 0)
    }

    fn letter(pick: Option<usize>) -> char {
        pick.map_or('-', |index| char::from(b'A' + u8::try_from(index).unwrap()))
    }
}
