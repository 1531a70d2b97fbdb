//! Many requests at once against the limits of several owners.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::clock::Millis;
use crate::limit::{Amounts, Dimension, Level, Limit, Metric, Mode, Now, OnError, Period, Wait};

fn at(ms: u64) -> Now {
    Now { steady: Millis(ms), unix_ms: 1_795_000_000_000 + ms }
}

fn limit(metric: Metric, period: Period, amount: u64) -> Limit {
    Limit {
        metric,
        period,
        dimension: None,
        amount,
        mode: Mode::Local,
        on_error: OnError::AllowLocal,
    }
}

fn by_user(mut limit: Limit) -> Limit {
    limit.dimension = Some(Dimension::EndUser);
    limit
}

fn owner(registry: &Registry, level: Level, limits: &[Limit]) -> Arc<Limits> {
    let id = Uuid::from_u128(level as u128 + 1);
    let owner = Owner { level, id, together: id };
    registry.limits(owner, &Arc::from(level.name()), limits).unwrap()
}

fn ask(tokens: u64) -> Amounts {
    Amounts { requests: 1, input_tokens: tokens, output_tokens: 0, cost_nanousd: tokens * 10 }
}

fn take(owners: &[Arc<Limits>], ask: &Amounts, now: Now) -> Result<Reservation, Box<Refused>> {
    reserve(owners.iter().map(|owner| &**owner), ask, &Subject::default(), (Sharing::Alone, now))
}

fn used(limits: &Limits, n: usize, now: Now) -> (u64, u64) {
    let Meter::One(counter) = &limits.counted[n].meter else { panic!("it has a dimension") };
    let window = counter.at(now);
    (window.used(counter.period(), now), window.held())
}

#[test]
fn first_limit_is_named_and_the_last_one_says_when() {
    let registry = Registry::new(16);
    let owners = [
        owner(&registry, Level::Key, &[limit(Metric::Requests, Period::Second, 0)]),
        owner(&registry, Level::Workspace, &[limit(Metric::Cost, Period::Hour, 5)]),
    ];
    let refused = take(&owners, &ask(1), at(0)).unwrap_err();
    assert_eq!((refused.level, refused.wait), (Level::Key, Wait::Never));
    let owners = [
        owner(&registry, Level::Key, &[limit(Metric::Requests, Period::Second, 1)]),
        owner(&registry, Level::Workspace, &[limit(Metric::Requests, Period::Hour, 1)]),
    ];
    take(&owners, &ask(1), at(0)).unwrap().settle(&ask(1), at(0));
    let refused = take(&owners, &ask(1), at(0)).unwrap_err();
    assert_eq!(&*refused.owner, "key");
    let Wait::For(wait) = refused.wait else { panic!("{refused:?}") };
    assert!(std::time::Duration::from_secs(1) < wait, "the hour is longer: {wait:?}");
}

#[test]
fn refusal_takes_nothing_from_the_others() {
    let registry = Registry::new(16);
    let key = owner(&registry, Level::Key, &[limit(Metric::Tokens, Period::Day, 1_000)]);
    let workspace = owner(&registry, Level::Workspace, &[limit(Metric::Cost, Period::Day, 5)]);
    assert!(take(&[Arc::clone(&key), workspace], &ask(100), at(0)).is_err());
    assert_eq!(used(&key, 0, at(0)), (0, 0));
}

#[test]
fn dropped_reservation_gives_all_back_but_the_request() {
    let registry = Registry::new(16);
    let limits = [
        limit(Metric::Requests, Period::Day, 10),
        limit(Metric::Concurrent, Period::Lifetime, 10),
        limit(Metric::Tokens, Period::Day, 1_000),
    ];
    let key = owner(&registry, Level::Key, &limits);
    let owners = [Arc::clone(&key)];
    drop(take(&owners, &ask(100), at(0)).unwrap());
    let all: Vec<_> = (0..3).map(|n| used(&key, n, at(0))).collect();
    assert_eq!(all, [(1, 0), (0, 0), (0, 0)]);
    take(&owners, &ask(100), at(0)).unwrap().cancel(at(0));
    assert_eq!(used(&key, 0, at(0)), (1, 0));
}

#[test]
fn changed_amount_keeps_what_was_used() {
    let registry = Registry::new(16);
    let before = owner(&registry, Level::Key, &[limit(Metric::Requests, Period::Day, 2)]);
    for _ in 0..2 {
        take(&[Arc::clone(&before)], &ask(1), at(0)).unwrap().settle(&ask(1), at(0));
    }
    let after = owner(&registry, Level::Key, &[limit(Metric::Requests, Period::Day, 3)]);
    take(&[Arc::clone(&after)], &ask(1), at(0)).unwrap().settle(&ask(1), at(0));
    assert!(take(&[after], &ask(1), at(0)).is_err());
}

#[test]
fn limit_that_was_taken_away_and_comes_back_has_not_forgotten() {
    let registry = Registry::new(16);
    let key = owner(&registry, Level::Key, &[limit(Metric::Requests, Period::Lifetime, 1)]);
    take(&[Arc::clone(&key)], &ask(1), at(0)).unwrap().settle(&ask(1), at(0));
    drop(key);
    registry.sweep(at(1_000));
    let key = owner(&registry, Level::Key, &[limit(Metric::Requests, Period::Lifetime, 1)]);
    assert!(take(&[key], &ask(1), at(1_000)).is_err());
}

#[test]
fn each_value_has_its_own_counter_and_a_flood_of_values_shares_one() {
    let registry = Registry::new(16);
    let key = owner(&registry, Level::Key, &[by_user(limit(Metric::Requests, Period::Minute, 1))]);
    let call = |user: &str, ms: u64| {
        let subject = Subject { end_user: Some(user), ..Subject::default() };
        let taken = reserve([&*key].into_iter(), &ask(1), &subject, (Sharing::Alone, at(ms)));
        taken.map(|taken| taken.settle(&ask(1), at(ms))).is_ok()
    };
    assert!(call("ann", 0) && call("bob", 0));
    assert!(!call("ann", 1) && !call("bob", 1));
    let admitted = (0..1_000).filter(|n| call(&format!("flood{n}"), 2)).count();
    assert!(admitted <= 17, "{admitted} of a flood of made-up users");
    assert!(0 < registry.stats().full.load(Ordering::Relaxed));
    assert!(!call("ann", 3), "one with use makes no room");
    // Two minutes later all are idle, and make room.
    assert!(call("late", 180_000) && call("later", 180_000));
}

#[test]
fn use_of_long_limits_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/limits");
    let limits = [
        limit(Metric::Requests, Period::Minute, 10),
        limit(Metric::Requests, Period::Day, 10),
        limit(Metric::Cost, Period::Lifetime, 100),
        by_user(limit(Metric::Tokens, Period::Month, 10)),
    ];
    let subject = Subject { end_user: Some("ann\t\n"), ..Subject::default() };
    {
        let registry = Arc::new(Registry::new(16));
        let mut saved = Saved::open(&path, Arc::clone(&registry), at(0)).unwrap();
        let key = owner(&registry, Level::Key, &limits);
        let first =
            reserve([&*key].into_iter(), &ask(3), &subject, (Sharing::Alone, at(0))).unwrap();
        first.settle(&ask(3), at(0));
        let _in_flight =
            reserve([&*key].into_iter(), &ask(2), &subject, (Sharing::Alone, at(0))).unwrap();
        saved.write().unwrap();
    }
    let registry = Arc::new(Registry::new(16));
    let saved = Saved::open(&path, Arc::clone(&registry), at(5)).unwrap();
    drop(saved);
    let key = owner(&registry, Level::Key, &limits);
    let seen: Vec<_> = [0, 1, 3].iter().map(|n| used(&key, *n, at(5)).0).collect();
    assert_eq!(seen, [0, 1, 30], "a minute, a day, a lifetime");
    assert!(
        reserve([&*key].into_iter(), &ask(8), &subject, (Sharing::Alone, at(5))).is_err(),
        "3 + 8 of 10"
    );
    assert!(reserve([&*key].into_iter(), &ask(7), &subject, (Sharing::Alone, at(5))).is_ok());
}

#[test]
fn file_that_is_not_understood_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("limits");
    std::fs::write(&path, "sluice limits 1\nbroken").unwrap();
    Saved::open(&path, Arc::new(Registry::new(16)), at(0)).unwrap();
    assert!(!path.exists());
    assert!(path.with_extension("unreadable").exists());
}

#[test]
fn node_that_cannot_ask_has_its_share_less_what_it_let_in() {
    let registry = Registry::new(16);
    let mut shared = limit(Metric::Requests, Period::Day, 10);
    shared.mode = Mode::Shared;
    let key = owner(&registry, Level::Key, &[shared.clone()]);
    let take =
        |sharing| reserve([&*key].into_iter(), &ask(1), &Subject::default(), (sharing, at(0)));
    for _ in 0..3 {
        take(Sharing::Elsewhere).unwrap().settle(&ask(1), at(0));
    }
    let down = Sharing::OneOf { nodes: 2 };
    take(down).unwrap().settle(&ask(1), at(0));
    take(down).unwrap().settle(&ask(1), at(0));
    assert!(take(down).is_err(), "5 of 10, for two nodes");
    assert!(take(Sharing::Elsewhere).unwrap().standing(at(0)).is_empty());
    shared.on_error = OnError::Deny;
    let deny = owner(&registry, Level::Workspace, &[shared]);
    let refused = reserve([&*deny].into_iter(), &ask(1), &Subject::default(), (down, at(0)));
    assert_eq!(&*refused.unwrap_err().owner, "workspace");
}

/// What a thread does with what it was let in for.
#[derive(Debug, Clone, Copy)]
enum End {
    Settled,
    Failed,
    Dropped,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Exactly as many pass as the tightest limit has room for, whatever the threads do.
    #[test]
    fn of_many_at_once_exactly_as_many_pass_as_fit(
        n_threads in 2..8_usize,
        each in 1..60_u64,
        amounts in prop::array::uniform4(1..150_u64),
    ) {
        let registry = Registry::new(16);
        let [requests, tokens, cost, of_workspace] = amounts;
        let owners = [
            owner(&registry, Level::Key, &[
                limit(Metric::Requests, Period::Minute, requests),
                limit(Metric::Tokens, Period::Day, tokens * 7),
            ]),
            owner(&registry, Level::Workspace, &[
                limit(Metric::Cost, Period::Lifetime, cost * 70),
                limit(Metric::Requests, Period::Month, of_workspace),
            ]),
        ];
        let passed = AtomicU64::new(0);
        let barrier = Barrier::new(n_threads);
        std::thread::scope(|scope| {
            for _ in 0..n_threads {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..each {
                        if let Ok(taken) = take(&owners, &ask(7), at(0)) {
                            passed.fetch_add(1, Ordering::Relaxed);
                            taken.settle(&ask(7), at(0));
                        }
                    }
                });
            }
        });
        let offered = n_threads as u64 * each;
        let room = amounts.into_iter().min().unwrap();
        prop_assert_eq!(passed.load(Ordering::Relaxed), room.min(offered));
    }

    /// Whatever happens to requests, what is left is what was used.
    #[test]
    fn whatever_ends_a_request_its_slot_comes_back(
        ends in prop::collection::vec(
            prop::sample::select(&[End::Settled, End::Failed, End::Dropped][..]), 1..200),
        slots in 1..6_u64,
    ) {
        let registry = Registry::new(16);
        let key = owner(&registry, Level::Key, &[
            limit(Metric::Concurrent, Period::Lifetime, slots),
            limit(Metric::Tokens, Period::Lifetime, 1_000_000),
        ]);
        let owners = [Arc::clone(&key)];
        let at_once = AtomicU64::new(0);
        let settled = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for part in ends.chunks(ends.len().div_ceil(4)) {
                let (owners, at_once, settled) = (&owners, &at_once, &settled);
                scope.spawn(move || {
                    for end in part {
                        let taken = loop {
                            match take(owners, &ask(50), at(0)) {
                                Ok(taken) => break taken,
                                Err(_busy) => std::thread::yield_now(),
                            }
                        };
                        let n = at_once.fetch_add(1, Ordering::SeqCst);
                        assert!(n < slots, "{n} at once");
                        at_once.fetch_sub(1, Ordering::SeqCst);
                        match end {
                            End::Settled => {
                                settled.fetch_add(9, Ordering::Relaxed);
                                taken.settle(&ask(9), at(0));
                            }
                            End::Failed => taken.settle(&Amounts::default(), at(0)),
                            End::Dropped => drop(taken),
                        }
                    }
                });
            }
        });
        prop_assert_eq!(used(&key, 0, at(0)), (0, 0));
        prop_assert_eq!(used(&key, 1, at(0)), (settled.load(Ordering::Relaxed), 0));
    }
}
