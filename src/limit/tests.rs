//! Windows against models that remember every request.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const DAY_MS: u64 = 86_400_000;

fn at(ms: u64) -> Now {
    // A Tuesday in November 2026, so that no calendar window begins at zero.
    Now { steady: Millis(ms), unix_ms: 1_795_000_000_000 + ms }
}

/// Rolls, asks, and takes when there is room.
fn try_take(window: &mut Window, period: Period, (amount, ask): (u64, u64), now: Now) -> bool {
    window.roll(period, now);
    let fits = window.refuses(period, (amount, ask), now).is_none();
    if fits {
        window.take(ask);
    }
    fits
}

fn limit(metric: Metric, period: Period, amount: u64) -> Limit {
    Limit { metric, period, dimension: None, amount, mode: Mode::Local, on_error: OnError::Deny }
}

#[test]
fn limits_as_a_client_reads_them() {
    let mut by_user = limit(Metric::Requests, Period::Minute, 60);
    by_user.dimension = Some(Dimension::EndUser);
    let all = [
        limit(Metric::Requests, Period::Minute, 60),
        limit(Metric::Concurrent, Period::Lifetime, 5),
        limit(Metric::InputTokens, Period::Day, 1_000),
        limit(Metric::Cost, Period::Month, 50_000_000_000),
        limit(Metric::Cost, Period::Lifetime, 1),
        by_user,
    ];
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(all.join("\n"), @r"
    60 requests per minute
    5 requests at once
    1000 input tokens per day
    $50.00 per month
    $0.000000001 in all
    60 requests per minute for each end_user
    ");
}

#[test]
fn names_are_read_back() {
    for metric in Metric::ALL {
        assert_eq!(Metric::from_name(metric.name()), Some(metric));
    }
    for period in Period::ALL {
        assert_eq!(Period::from_name(period.name()), Some(period));
    }
    for name in ["source_ip", "end_user", "metadata.team"] {
        assert_eq!(Dimension::from_name(name).unwrap().to_string(), name);
    }
}

#[test]
fn saturated_minute_admits_its_amount_per_minute() {
    // Whenever it begins.
    for begin in [0, 13_000, 59_999] {
        let mut window = Window::default();
        // Four times the load, for ten minutes.
        let admitted = (begin..begin + 600_000)
            .step_by(15)
            .filter(|ms| try_take(&mut window, Period::Minute, (1_000, 1), at(*ms)))
            .count();
        assert!((9_900..=10_100).contains(&admitted), "{admitted}");
    }
}

#[test]
fn reservation_that_outlives_its_day_charges_no_other() {
    let mut window = Window::default();
    window.roll(Period::Day, at(0));
    let index = window.take(100);
    window.roll(Period::Day, at(DAY_MS));
    window.settle(Period::Day, index, (100, 500), at(DAY_MS));
    assert_eq!(window.used(Period::Day, at(DAY_MS)), 0);
    assert_eq!(window.held(), 0);
}

#[test]
fn long_request_cannot_pass_a_short_limit_unseen() {
    let mut window = Window::default();
    window.roll(Period::Second, at(0));
    let index = window.take(10);
    window.settle(Period::Second, index, (10, 400), at(30_000));
    assert_eq!(window.used(Period::Second, at(30_000)), 390);
}

#[test]
fn clock_that_is_set_back_opens_no_second_window() {
    let now =
        |hours: u64| Now { steady: Millis(0), unix_ms: 1_795_000_000_000 + hours * 3_600_000 };
    let mut window = Window::default();
    window.roll(Period::Hour, now(5));
    window.take(7);
    window.roll(Period::Hour, now(4));
    assert_eq!(window.used(Period::Hour, now(4)), 7);
    window.roll(Period::Hour, now(6));
    assert_eq!(window.used(Period::Hour, now(6)), 0);
}

#[test]
fn more_than_the_limit_never_fits() {
    let window = Window::default();
    for period in Period::ALL {
        assert_eq!(window.refuses(period, (5, 6), at(0)), Some(Wait::Never), "{period:?}");
        assert_eq!(window.refuses(period, (5, 5), at(0)), None);
    }
}

#[test]
fn what_a_file_remembers_counts_until_its_window_ends() {
    let mut window = Window::default();
    window.roll(Period::Day, at(0));
    window.take(3);
    let held = window.take(4);
    window.settle(Period::Day, held, (4, 4), at(0));
    let (index, used) = window.settled();
    assert_eq!(used, 4, "what is reserved is not remembered");
    let today = Window::restored(Period::Day, index, used, at(1));
    assert_eq!(today.used(Period::Day, at(1)), 4);
    assert!(Window::restored(Period::Day, index, used, at(DAY_MS)).is_idle());
    let ever = Window::restored(Period::Lifetime, 0, 9, at(400 * DAY_MS));
    assert_eq!(ever.used(Period::Lifetime, at(400 * DAY_MS)), 9);
}

#[test]
fn expected_cost_is_the_prices() {
    let price = Price { input: 1_000_000_000, output: 2_000_000_000, ..Price::default() };
    let ask = Amounts::expected(1_000, 500, Some(&price));
    assert_eq!(ask.cost_nanousd, 2_000_000);
    assert_eq!(ask.of_reserved(Metric::Tokens), 1_500);
    assert_eq!(ask.of_reserved(Metric::Concurrent), 1);
    assert_eq!(ask.of_used(Metric::Concurrent), 0);
}

fn sliding() -> impl Strategy<Value = (Period, u64)> {
    prop_oneof![Just((Period::Second, 1_000)), Just((Period::Minute, 60_000))]
}

proptest! {
    #[test]
    fn no_stretch_of_time_admits_more_than_rate_and_burst(
        (period, length) in sliding(),
        amount in 1..200_u64,
        steps in prop::collection::vec((0..20_000_u64, 1..20_u64), 1..200),
    ) {
        let mut window = Window::default();
        let mut now = 0;
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for (step, ask) in steps {
            now += step % (length / 2);
            if try_take(&mut window, period, (amount, ask), at(now)) {
                taken.push((now, ask));
            }
        }
        for (n, (begin, _)) in taken.iter().enumerate() {
            let mut sum = 0;
            for (end, ask) in &taken[n..] {
                sum += ask;
                let bound = amount + (amount * (end - begin)).div_ceil(length);
                prop_assert!(sum <= bound, "{sum} from {begin} to {end}, not {bound}");
            }
        }
    }

    #[test]
    fn no_window_of_the_calendar_admits_more_than_its_amount(
        amount in 1..200_u64,
        steps in prop::collection::vec((0..7_200_000_u64, 1..20_u64), 1..200),
    ) {
        let mut window = Window::default();
        let mut now = 0;
        let mut taken = std::collections::HashMap::<u64, u64>::new();
        for (step, ask) in steps {
            now += step;
            let hour = at(now).unix_ms / 3_600_000;
            let used = taken.entry(hour).or_default();
            let fits = try_take(&mut window, Period::Hour, (amount, ask), at(now));
            prop_assert_eq!(fits, *used + ask <= amount);
            if fits {
                *used += ask;
            }
        }
    }

    #[test]
    fn request_passes_when_it_is_told_to_come_back_and_not_before(
        (period, _) in sliding(),
        amount in 1..50_u64,
        steps in prop::collection::vec((0..9_000_u64, 1..50_u64), 1..50),
    ) {
        let mut window = Window::default();
        let mut now = 0;
        for (step, ask) in steps {
            now += step;
            window.roll(period, at(now));
            match window.refuses(period, (amount, ask), at(now)) {
                None => {
                    window.take(ask);
                }
                Some(Wait::Never) => prop_assert!(amount < ask),
                Some(Wait::For(wait)) => {
                    let wait = u64::try_from(wait.as_millis()).unwrap();
                    let fits = |ms: u64| {
                        let mut later = window;
                        later.roll(period, at(ms));
                        later.refuses(period, (amount, ask), at(ms)).is_none()
                    };
                    prop_assert!(fits(now + wait), "told to wait {wait} ms");
                    prop_assert!(!fits(now + wait - 1), "{wait} ms is not the soonest");
                }
            }
        }
    }

    #[test]
    fn reserved_and_given_back_leaves_nothing(
        period in prop::sample::select(&Period::ALL[..]),
        steps in prop::collection::vec((0..90_000_u64, 0..1_000_u64, any::<bool>()), 1..100),
    ) {
        let mut window = Window::default();
        let mut now = 0;
        let mut open = Vec::new();
        for (step, ask, is_begin) in steps {
            now += step;
            window.roll(period, at(now));
            if is_begin || open.is_empty() {
                open.push((window.take(ask), ask));
            } else {
                let (index, ask) = open.swap_remove(0);
                window.settle(period, index, (ask, 0), at(now));
            }
        }
        for (index, ask) in open {
            window.settle(period, index, (ask, 0), at(now));
        }
        prop_assert_eq!(window.used(period, at(now)), 0);
        prop_assert_eq!(window.held(), 0);
        prop_assert!(window.is_idle());
    }

    #[test]
    fn settlement_is_exact(
        parts in prop::collection::vec((0..1_000_u64, 0..1_000_u64), 1..50),
    ) {
        let mut window = Window::default();
        window.roll(Period::Month, at(0));
        let open: Vec<_> = parts.iter().map(|(ask, _)| window.take(*ask)).collect();
        for ((ask, used), index) in parts.iter().zip(open) {
            window.settle(Period::Month, index, (*ask, *used), at(1));
        }
        let sum: u64 = parts.iter().map(|(_, used)| used).sum();
        prop_assert_eq!(window.used(Period::Month, at(1)), sum);
    }

    #[test]
    fn greatest_numbers_do_not_overflow(
        period in prop::sample::select(&Period::ALL[..]),
        amounts in prop::collection::vec((any::<u64>(), any::<u64>(), 0..100_000_u64), 1..20),
    ) {
        let mut window = Window::default();
        let mut now = 0;
        for (ask, used, step) in amounts {
            now += step;
            window.roll(period, at(now));
            let _wait = window.refuses(period, (u64::MAX, ask), at(now));
            let index = window.take(ask);
            window.settle(period, index, (ask, used), at(now + step));
            prop_assert!(window.resets_in(period, at(now)) < Duration::MAX);
        }
    }
}
