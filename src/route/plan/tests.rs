//! Each strategy in words, and what holds for all of them.

use proptest::prelude::*;

use super::*;

const SEEDS: std::ops::Range<u64> = 0..10_000;

#[test]
fn lower_tier_is_tried_first_whatever_the_weights() {
    let targets = [view(1, 0, 100, 2), view(2, 0, 1, 1), view(3, 0, 1, 3)];
    for choice in [Choice::LeastBusy { seed: 1 }, Choice::Hash { key: 1 }] {
        assert_eq!(order(&targets, 3, choice), [1, 0, 2]);
    }
    let mut swrr = Swrr::new(&[100, 1, 1]);
    assert_eq!(order(&targets, 3, Choice::WeightedRoundRobin(&mut swrr)), [1, 0, 2]);
}

#[test]
fn tier_with_nobody_available_is_passed_over() {
    let mut targets = [view(1, 0, 1, 0), view(2, 0, 1, 1)];
    targets[0].unavailable_until = Some(Millis(9));
    assert_eq!(order(&targets, 3, Choice::Hash { key: 1 }), [1]);
}

#[test]
fn draining_target_is_never_tried() {
    let targets = [view(1, 0, 0, 0), view(2, 0, 1, 1)];
    for seed in 0..100 {
        assert_eq!(order(&targets, 3, Choice::Cheapest { seed }), [1]);
    }
}

#[test]
fn nobody_available_says_when_somebody_will_be() {
    let mut targets = [view(1, 0, 1, 0), view(2, 0, 1, 1), view(3, 0, 0, 0)];
    targets[0].unavailable_until = Some(Millis(900));
    targets[1].unavailable_until = Some(Millis(400));
    targets[2].unavailable_until = Some(Millis(5));
    let refused = plan(3, 3, Choice::Hash { key: 1 }, |index| targets.get(index).copied());
    assert_eq!(refused, Err(NoTarget { soonest: Some(Millis(400)) }));
    let unfit = plan(3, 3, Choice::Hash { key: 1 }, |_| None);
    assert_eq!(unfit, Err(NoTarget { soonest: None }));
}

#[test]
fn round_robin_starts_with_the_next_pick_and_goes_on_with_the_one_after() {
    let targets = [view(1, 0, 5, 0), view(2, 0, 1, 0), view(3, 0, 1, 0)];
    let mut swrr = Swrr::new(&[5, 1, 1]);
    let orders: Vec<Vec<usize>> =
        (0..7).map(|_| order(&targets, 3, Choice::WeightedRoundRobin(&mut swrr))).collect();
    let firsts: Vec<usize> = orders.iter().map(|order| order[0]).collect();
    assert_eq!(firsts, [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(orders[2], [1, 0, 2]);
}

#[test]
fn round_robin_shares_are_exact_while_a_target_is_away() {
    let mut targets = [view(1, 0, 3, 0), view(2, 0, 1, 0), view(3, 0, 2, 0), view(4, 0, 9, 1)];
    targets[2].unavailable_until = Some(Millis(1));
    let mut swrr = Swrr::new(&[3, 1, 2, 9]);
    let mut counts = [0; 4];
    for _ in 0..4_000 {
        counts[order(&targets, 3, Choice::WeightedRoundRobin(&mut swrr))[0]] += 1;
    }
    assert_eq!(counts, [3_000, 1_000, 0, 0]);
}

#[test]
fn least_latency_prefers_the_faster_of_two() {
    let mut targets = [view(1, 0, 1, 0), view(2, 0, 1, 0), view(3, 0, 1, 0)];
    targets[0].latency_us = 900_000;
    targets[1].latency_us = 100_000;
    targets[2].latency_us = 300_000;
    let counts = firsts(&targets, |seed| Choice::LeastLatency { seed });
    assert_eq!(counts[0], 0, "the slowest loses against either");
    assert!((6_300..7_050).contains(&counts[1]), "{counts:?}");
    // After the first one the others follow by speed.
    assert_eq!(order(&targets, 3, Choice::LeastLatency { seed: 3 })[1..].len(), 2);

    targets[1].in_flight = 20;
    let counts = firsts(&targets, |seed| Choice::LeastLatency { seed });
    assert_eq!(counts[1], 0, "busy is slow");
}

#[test]
fn unmeasured_target_gets_its_turn_but_not_a_burst() {
    let mut targets = [view(1, 0, 1, 0), view(2, 0, 1, 0)];
    targets[0].latency_us = 100_000;
    let counts = firsts(&targets, |seed| Choice::LeastLatency { seed });
    assert!((4_700..5_300).contains(&counts[1]), "{counts:?}");
    targets[1].in_flight = 1;
    assert_eq!(firsts(&targets, |seed| Choice::LeastLatency { seed }), [10_000, 0]);
}

#[test]
fn least_busy_counts_by_weight() {
    let mut targets = [view(1, 0, 4, 0), view(2, 0, 1, 0)];
    targets[0].in_flight = 3;
    targets[1].in_flight = 1;
    assert_eq!(order(&targets, 2, Choice::LeastBusy { seed: 1 }), [0, 1]);
    targets[0].in_flight = 5;
    assert_eq!(order(&targets, 2, Choice::LeastBusy { seed: 1 }), [1, 0]);
    targets[0].in_flight = 4;
    let counts = firsts(&targets, |seed| Choice::LeastBusy { seed });
    assert!((7_800..=8_200).contains(&counts[0]), "equals share by weight: {counts:?}");
}

#[test]
fn cheapest_goes_first_and_unknown_prices_last() {
    let mut targets = [view(1, 0, 1, 0), view(2, 0, 3, 0), view(3, 0, 1, 0), view(4, 0, 1, 0)];
    for (target, price) in targets.iter_mut().zip([u64::MAX, 20, 20, 50]) {
        target.price = price;
    }
    let counts = firsts(&targets, |seed| Choice::Cheapest { seed });
    assert!((7_300..=7_700).contains(&counts[1]), "{counts:?}");
    assert_eq!(counts[1] + counts[2], 10_000);
    assert_eq!(order(&targets, 4, Choice::Cheapest { seed: 1 })[2..], [3, 0]);
}

#[test]
fn hash_spreads_keys_by_weight() {
    let targets = [view(1, 0, 80, 0), view(2, 0, 20, 0)];
    let counts = firsts(&targets, |key| Choice::Hash { key });
    assert!((7_800..=8_200).contains(&counts[0]), "{counts:?}");
}

#[test]
fn more_targets_than_attempts_are_all_reached() {
    let targets: Vec<TargetView> = (0..128).map(|identity| view(identity, 0, 1, 0)).collect();
    let mut swrr = Swrr::new(&[1; 128]);
    for index in 0..128 {
        let order = order(&targets, 16, Choice::WeightedRoundRobin(&mut swrr));
        assert_eq!((order[0], order.len()), (index, 16));
    }
    let mut targets = targets;
    for target in &mut targets {
        target.latency_us = 1_000;
    }
    let counts = firsts(&targets, |seed| Choice::LeastLatency { seed });
    assert!(counts.iter().all(|&count| 30 < count), "{counts:?}");
}

#[test]
fn pinned_plan_is_one_target() {
    assert_eq!(Plan::pinned(7).iter().collect::<Vec<_>>(), [7]);
    assert_eq!(Plan::pinned(7).get(1), None);
}

proptest! {
    #[test]
    fn plan_is_a_bounded_ordered_subset(
        targets in targets(),
        attempts_max in 0_u8..20,
        strategy in 0_usize..5,
        seed: u64,
    ) {
        let mut swrr = swrr(&targets);
        let choice = choice(strategy, seed, &mut swrr);
        let planned = plan(targets.len(), attempts_max, choice, |index| targets.get(index).copied());

        let is_fit = |target: &&TargetView| target.weight > 0 && target.unavailable_until.is_none();
        let n_fit = targets.iter().filter(is_fit).count();
        match planned {
            Ok(plan) => {
                let order: Vec<usize> = plan.iter().collect();
                prop_assert_eq!(order.len(), n_fit.min(usize::from(attempts_max.clamp(1, 16))));
                prop_assert!(order.iter().all(|&index| is_fit(&&targets[index])));
                prop_assert!(order.is_sorted_by_key(|&index| targets[index].tier));
                let mut tiers: Vec<u16> = targets.iter().filter(is_fit).map(|fit| fit.tier).collect();
                tiers.sort_unstable();
                let planned: Vec<u16> = order.iter().map(|&index| targets[index].tier).collect();
                prop_assert_eq!(&planned, &tiers[..order.len()]);
                let mut unique = order.clone();
                unique.sort_unstable();
                unique.dedup();
                prop_assert_eq!(unique.len(), order.len());
            }
            Err(NoTarget { soonest }) => {
                prop_assert_eq!(n_fit, 0);
                let weighty = targets.iter().filter(|target| target.weight > 0);
                prop_assert_eq!(soonest, weighty.filter_map(|target| target.unavailable_until).min());
            }
        }
    }

    #[test]
    fn losing_a_target_moves_only_its_own_keys(
        weights in prop::collection::vec(1_u32..100, 2..10),
        lost in 0_usize..10,
        key: u64,
    ) {
        let targets: Vec<TargetView> =
            (0..).zip(&weights).map(|(identity, &weight)| view(identity, 0, weight, 0)).collect();
        let mut fewer = targets.clone();
        let lost = lost % targets.len();
        fewer[lost].unavailable_until = Some(Millis(1));
        let before = order(&targets, 16, Choice::Hash { key });
        let after = order(&fewer, 16, Choice::Hash { key });
        let expected: Vec<usize> = before.into_iter().filter(|&index| index != lost).collect();
        prop_assert_eq!(after, expected);
    }

    #[test]
    fn order_of_the_targets_in_the_deployment_does_not_move_keys(
        weights in prop::collection::vec(1_u32..100, 1..10),
        key: u64,
    ) {
        let mut targets: Vec<TargetView> =
            (0..).zip(&weights).map(|(identity, &weight)| view(identity, 0, weight, 0)).collect();
        let identity = |targets: &[TargetView]| {
            targets[order(targets, 1, Choice::Hash { key })[0]].identity
        };
        let before = identity(&targets);
        targets.reverse();
        prop_assert_eq!(identity(&targets), before);
    }
}

fn view(identity: u64, in_flight: u32, weight: u32, tier: u16) -> TargetView {
    TargetView { identity, weight, tier, in_flight, ..TargetView::default() }
}

fn order(targets: &[TargetView], attempts_max: u8, choice: Choice<'_>) -> Vec<usize> {
    let view = |index: usize| targets.get(index).copied();
    plan(targets.len(), attempts_max, choice, view).unwrap().iter().collect()
}

/// How often each target goes first over many seeds.
fn firsts(targets: &[TargetView], choice: impl Fn(u64) -> Choice<'static>) -> Vec<u32> {
    let mut counts = vec![0; targets.len()];
    for seed in SEEDS {
        counts[order(targets, 3, choice(seed))[0]] += 1;
    }
    counts
}

fn swrr(targets: &[TargetView]) -> Swrr {
    Swrr::new(&targets.iter().map(|target| target.weight).collect::<Vec<_>>())
}

fn choice(strategy: usize, seed: u64, swrr: &mut Swrr) -> Choice<'_> {
    match strategy {
        0 => Choice::WeightedRoundRobin(swrr),
        1 => Choice::LeastLatency { seed },
        2 => Choice::LeastBusy { seed },
        3 => Choice::Cheapest { seed },
        _ => Choice::Hash { key: seed },
    }
}

fn targets() -> impl Strategy<Value = Vec<TargetView>> {
    let until = prop::option::weighted(0.3, (1_u64..100).prop_map(Millis));
    let numbers = (any::<u32>(), any::<u64>(), any::<u64>());
    let target = (any::<u64>(), 0_u32..4, 0_u16..4, until, numbers).prop_map(
        |(identity, weight, tier, unavailable_until, (in_flight, latency_us, price))| TargetView {
            identity,
            weight,
            tier,
            unavailable_until,
            in_flight,
            latency_us,
            price,
        },
    );
    prop::collection::vec(target, 0..24)
}
