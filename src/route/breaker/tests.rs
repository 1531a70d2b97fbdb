//! The rules one by one, and the breaker against a model that remembers everything.

use proptest::prelude::*;

use super::*;

const RULES: Rules =
    Rules { consecutive_failures: 5, error_rate: 0.5, cooldown: Duration::from_secs(5) };
const FAILURE: Outcome = Outcome::Failure { retry_after: None };

#[test]
fn five_failures_in_a_row_open_it() {
    let mut breaker = Breaker::new(RULES);
    fail(&mut breaker, 4, 0);
    assert_eq!(breaker.state(Millis(0)), State::Closed);
    settle(&mut breaker, Outcome::Success, 0);
    fail(&mut breaker, 4, 0);
    assert_eq!(breaker.state(Millis(0)), State::Closed);
    fail(&mut breaker, 1, 0);
    assert!(matches!(breaker.state(Millis(0)), State::Open { .. }));
    assert!(!breaker.is_available(Millis(4_499)));
    assert!(breaker.is_available(Millis(5_501)));
}

#[test]
fn error_rate_counts_from_twenty_requests() {
    for (n_requests, is_open) in [(18, false), (20, true)] {
        let mut breaker = Breaker::new(RULES);
        let tickets: Vec<Ticket> =
            (0..=n_requests).map(|_| breaker.admit(Millis(0)).unwrap()).collect();
        // Alternating, so that no run is longer than two, with one failure more than successes.
        for (index, ticket) in tickets.into_iter().enumerate() {
            let outcome = if index % 2 == 0 { FAILURE } else { Outcome::Success };
            breaker.settle(ticket, outcome, Millis(0), 0);
        }
        let state = breaker.state(Millis(0));
        assert_eq!(matches!(state, State::Open { .. }), is_open, "{n_requests}: {state:?}");
    }
}

#[test]
fn failure_limits_nobody_who_read_the_clock_before() {
    let mut breaker = Breaker::new(RULES);
    fail(&mut breaker, 1, 1_000);
    assert!(breaker.is_available(Millis(999)));
    let told = Outcome::Failure { retry_after: Some(Duration::from_secs(1)) };
    settle(&mut breaker, told, 1_000);
    assert!(!breaker.is_available(Millis(999)));
}

#[test]
fn failures_of_half_a_minute_ago_are_forgotten() {
    let mut breaker = Breaker::new(Rules { consecutive_failures: 100, ..RULES });
    fail(&mut breaker, 19, 0);
    fail(&mut breaker, 1, 30_000);
    assert_eq!(breaker.state(Millis(30_000)), State::Closed);
    fail(&mut breaker, 19, 30_000);
    assert!(matches!(breaker.state(Millis(30_000)), State::Open { .. }));
}

#[test]
fn one_probe_at_a_time_decides() {
    let mut breaker = opened();
    let late = Millis(10_000);
    assert_eq!(breaker.state(late), State::HalfOpen);
    let probe = breaker.admit(late).unwrap();
    assert!(probe.is_probe());
    assert_eq!(breaker.admit(late), Err(Refused { until: Millis(11_000) }));
    breaker.settle(probe, Outcome::Success, late, 0);
    assert_eq!(breaker.state(late), State::Closed);
    assert!(!breaker.admit(late).unwrap().is_probe());
}

#[test]
fn cancelled_probe_makes_room_for_another() {
    let mut breaker = opened();
    let probe = breaker.admit(Millis(10_000)).unwrap();
    breaker.settle(probe, Outcome::Uncounted, Millis(10_100), 0);
    assert!(breaker.admit(Millis(10_100)).unwrap().is_probe());
}

#[test]
fn lost_probe_makes_room_in_the_end_and_is_not_heard_afterwards() {
    let mut breaker = opened();
    let lost = breaker.admit(Millis(10_000)).unwrap();
    assert!(breaker.admit(Millis(309_999)).is_err());
    let probe = breaker.admit(Millis(310_000)).unwrap();
    breaker.settle(lost, Outcome::Success, Millis(310_001), 0);
    assert_eq!(breaker.state(Millis(310_001)), State::HalfOpen);
    assert!(breaker.admit(Millis(310_001)).is_err());
    breaker.settle(probe, Outcome::Success, Millis(310_002), 0);
    assert_eq!(breaker.state(Millis(310_002)), State::Closed);
}

#[test]
fn cooldown_doubles_to_five_minutes_and_starts_over_after_a_success() {
    let mut breaker = opened();
    let mut now = 0;
    let mut cooldowns = Vec::new();
    for _ in 0..8 {
        now = breaker.unavailable_until(Millis(now)).unwrap().0;
        let probe = breaker.admit(Millis(now)).unwrap();
        breaker.settle(probe, FAILURE, Millis(now), now);
        let cooldown = breaker.unavailable_until(Millis(now)).unwrap().0 - now;
        cooldowns.push((cooldown + 500) / 1_000);
    }
    for (cooldown, expected) in cooldowns.iter().zip([10, 20, 40, 80, 160, 300, 300, 300]) {
        assert!(cooldown.abs_diff(expected) <= expected / 10, "{cooldowns:?}");
    }
    assert_eq!(breaker.openings(), 9);

    now = breaker.unavailable_until(Millis(now)).unwrap().0;
    settle(&mut breaker, Outcome::Success, now);
    assert_eq!(breaker.openings(), 0);
    fail(&mut breaker, 5, now);
    assert!(breaker.unavailable_until(Millis(now)).unwrap().0 - now <= 5_500);
}

#[test]
fn jitter_is_a_tenth_either_way() {
    let cooldowns: Vec<u128> =
        (0..2_000).map(|seed| jittered(Duration::from_secs(5), seed).as_millis()).collect();
    assert!(cooldowns.iter().all(|cooldown| (4_500..=5_500).contains(cooldown)));
    assert!(cooldowns.iter().any(|&cooldown| cooldown < 4_520));
    assert!(cooldowns.iter().any(|&cooldown| 5_480 < cooldown));
}

#[test]
fn limited_target_waits_and_stays_closed() {
    let mut breaker = Breaker::new(RULES);
    for _ in 0..50 {
        let tickets = [breaker.admit(Millis(0)).unwrap()];
        for ticket in tickets {
            breaker.settle(ticket, limited(0), Millis(0), 0);
        }
    }
    assert_eq!(breaker.state(Millis(0)), State::Closed);
    settle(&mut breaker, limited(20), 0);
    assert_eq!(breaker.state(Millis(0)), State::Open { until: Millis(20_000) });
    assert_eq!(breaker.openings(), 0);
    assert!(!breaker.admit(Millis(20_000)).unwrap().is_probe());
}

#[test]
fn later_longer_wish_extends_and_a_shorter_one_does_not_cut() {
    let mut breaker = Breaker::new(RULES);
    let tickets: Vec<Ticket> = (0..4).map(|_| breaker.admit(Millis(0)).unwrap()).collect();
    for (ticket, (seconds, until)) in tickets.into_iter().zip([(10, 10), (2, 10), (60, 60)]) {
        breaker.settle(ticket, limited(seconds), Millis(0), 0);
        assert_eq!(breaker.unavailable_until(Millis(0)), Some(Millis(until * 1_000)));
    }
}

#[test]
fn absurd_wish_is_an_hour_and_no_wish_is_the_first_cooldown() {
    let mut breaker = Breaker::new(RULES);
    settle(&mut breaker, Outcome::Limited { retry_after: None }, 0);
    assert_eq!(breaker.unavailable_until(Millis(0)), Some(Millis(5_000)));
    settle(&mut breaker, limited(u64::MAX), 5_000);
    assert_eq!(breaker.unavailable_until(Millis(5_000)), Some(Millis(3_605_000)));
}

#[test]
fn wish_is_a_floor_for_the_cooldown() {
    let mut breaker = opened_by(Outcome::Failure { retry_after: Some(Duration::from_secs(90)) });
    assert_eq!(breaker.unavailable_until(Millis(10_000)), Some(Millis(90_000)));
    assert!(breaker.admit(Millis(90_000)).unwrap().is_probe());
}

#[test]
fn late_news_of_an_earlier_phase_changes_nothing() {
    let mut breaker = Breaker::new(RULES);
    let early: Vec<Ticket> = (0..10).map(|_| breaker.admit(Millis(0)).unwrap()).collect();
    fail(&mut breaker, 5, 0);
    let until = breaker.unavailable_until(Millis(0));
    for ticket in &early {
        breaker.settle(*ticket, FAILURE, Millis(100), 0);
    }
    assert_eq!(breaker.unavailable_until(Millis(0)), until);
    breaker.settle(early[0], Outcome::Success, Millis(9_000), 0);
    assert_eq!(breaker.state(Millis(9_000)), State::HalfOpen);
    assert_eq!(breaker.openings(), 1);
}

#[test]
fn old_failures_do_not_reopen_a_closed_breaker() {
    let mut breaker = Breaker::new(Rules { consecutive_failures: 20, ..RULES });
    fail(&mut breaker, 20, 0);
    settle(&mut breaker, Outcome::Success, 9_000);
    fail(&mut breaker, 1, 9_001);
    assert_eq!(breaker.state(Millis(9_001)), State::Closed);
}

fn opened() -> Breaker {
    opened_by(FAILURE)
}

fn opened_by(outcome: Outcome) -> Breaker {
    let mut breaker = Breaker::new(RULES);
    let tickets: Vec<Ticket> = (0..5).map(|_| breaker.admit(Millis(0)).unwrap()).collect();
    for ticket in tickets {
        breaker.settle(ticket, outcome, Millis(0), 0);
    }
    breaker
}

fn fail(breaker: &mut Breaker, times: u32, now: u64) {
    for _ in 0..times {
        settle(breaker, FAILURE, now);
    }
}

fn settle(breaker: &mut Breaker, outcome: Outcome, now: u64) {
    let ticket = breaker.admit(Millis(now)).unwrap();
    breaker.settle(ticket, outcome, Millis(now), now);
}

fn limited(seconds: u64) -> Outcome {
    Outcome::Limited { retry_after: Some(Duration::from_secs(seconds)) }
}

/// What a breaker does, in its longest form: a list of everything, and no jitter.
#[derive(Debug, Default)]
struct Model {
    /// Of this closed phase: when, and whether it failed.
    outcomes: Vec<(u64, bool)>,
    open_until: Option<u64>,
    limited_until: u64,
    openings: u32,
    phase: u32,
    /// Number and lease of the probe that is out.
    probe: Option<(usize, u64)>,
}

impl Model {
    fn may_pass(&self, now: u64) -> bool {
        let is_probed = self.probe.is_some_and(|(_, lease)| now < lease);
        now >= self.limited_until && self.open_until.is_none_or(|until| now >= until && !is_probed)
    }

    fn should_open(&self, now: u64) -> bool {
        let run = self.outcomes.iter().rev().take_while(|(_, is_failure)| *is_failure).count();
        let first = (now / 3_000).saturating_sub(9) * 3_000;
        let recent = || self.outcomes.iter().filter(|(at, _)| *at >= first);
        let failures = recent().filter(|(_, is_failure)| *is_failure).count();
        run >= 5 || (recent().count() >= 20 && failures * 2 > recent().count())
    }

    /// The breaker's own `until` is taken over after checking it, because jitter decides it.
    fn open(&mut self, now: u64, breaker: &Breaker) {
        let Phase::Tripped { until, probe_until: None } = breaker.phase else {
            panic!("should have opened: {self:?}");
        };
        let cooldown = (5_000_u64 << self.openings.min(10)).min(300_000);
        let taken = until.0 - now;
        assert!(taken.abs_diff(cooldown) <= cooldown / 10, "{taken} ms is not {cooldown} ms");
        self.open_until = Some(until.0);
        self.openings += 1;
        self.phase += 1;
        self.probe = None;
    }

    fn settle(&mut self, attempt: &Attempt, outcome: Outcome, now: u64, breaker: &Breaker) {
        let is_the_probe = self.probe.is_some_and(|(number, _)| number == attempt.number);
        let is_heard = if attempt.ticket.is_probe() {
            is_the_probe
        } else {
            attempt.phase == self.phase && self.open_until.is_none()
        };
        let wait = match outcome {
            Outcome::Failure { retry_after } => retry_after.unwrap_or_default(),
            Outcome::Limited { retry_after } => retry_after.unwrap_or(RULES.cooldown),
            Outcome::Success | Outcome::Uncounted => Duration::ZERO,
        };
        self.limited_until =
            self.limited_until.max(now + u64::try_from(wait.as_millis()).unwrap().min(3_600_000));
        if !is_heard {
            return;
        }
        if is_the_probe {
            self.probe = None;
        }
        match outcome {
            Outcome::Success => {
                if is_the_probe {
                    self.open_until = None;
                    self.openings = 0;
                    self.outcomes.clear();
                    self.phase += 1;
                }
                self.outcomes.push((now, false));
            }
            Outcome::Failure { .. } => {
                self.outcomes.push((now, true));
                if is_the_probe || self.should_open(now) {
                    self.open(now, breaker);
                }
            }
            Outcome::Limited { .. } | Outcome::Uncounted => {}
        }
    }
}

#[derive(Debug)]
struct Attempt {
    number: usize,
    ticket: Ticket,
    phase: u32,
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Admit,
    /// Settles one of the attempts that are out.
    Settle(usize, Outcome),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let retry_after = || prop::option::weighted(0.2, (0_u64..20).prop_map(Duration::from_secs));
    let outcome = prop_oneof![
        6 => Just(Outcome::Success),
        9 => retry_after().prop_map(|retry_after| Outcome::Failure { retry_after }),
        1 => retry_after().prop_map(|retry_after| Outcome::Limited { retry_after }),
        1 => Just(Outcome::Uncounted),
    ];
    let step = prop_oneof![
        2 => (0_u64..1_500).prop_map(Step::Wait),
        1 => (0_u64..400_000).prop_map(Step::Wait),
        12 => Just(Step::Admit),
        12 => (0_usize..100, outcome).prop_map(|(which, outcome)| Step::Settle(which, outcome)),
    ];
    prop::collection::vec(step, 0..400)
}

proptest! {
    #[test]
    fn breaker_agrees_with_the_model(steps in steps()) {
        let mut breaker = Breaker::new(RULES);
        let mut model = Model::default();
        let mut out: Vec<Attempt> = Vec::new();
        let mut now = 1_000;
        let mut n_admitted = 0;
        for step in steps {
            match step {
                Step::Wait(millis) => now += millis,
                Step::Admit => {
                    let may_pass = model.may_pass(now);
                    prop_assert_eq!(breaker.is_available(Millis(now)), may_pass);
                    match breaker.admit(Millis(now)) {
                        Ok(ticket) => {
                            prop_assert!(may_pass, "admitted at {now}: {model:?}");
                            prop_assert_eq!(ticket.is_probe(), model.open_until.is_some());
                            n_admitted += 1;
                            if ticket.is_probe() {
                                model.probe = Some((n_admitted, now + 300_000));
                            }
                            let phase = model.phase;
                            out.push(Attempt { number: n_admitted, ticket, phase });
                        }
                        Err(Refused { until }) => {
                            prop_assert!(!may_pass, "refused at {now}: {model:?}");
                            prop_assert!(now < until.0);
                        }
                    }
                }
                Step::Settle(which, outcome) => {
                    if out.is_empty() {
                        continue;
                    }
                    let attempt = out.swap_remove(which % out.len());
                    breaker.settle(attempt.ticket, outcome, Millis(now), now);
                    model.settle(&attempt, outcome, now, &breaker);
                }
            }
            prop_assert_eq!(breaker.phase == Phase::Closed, model.open_until.is_none());
            prop_assert_eq!(breaker.openings(), model.openings);
            prop_assert_eq!(breaker.limited_until.0.max(now), model.limited_until.max(now));
        }
    }
}
