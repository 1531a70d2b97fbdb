//! When requests are sent. Pure: time is what the caller says.

use std::time::Duration;

use crate::scenario::{Arrivals as Spacing, Phase};

/// When a request of an open loop is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Arrival {
    pub(super) phase: usize,
    /// Since the start of the run.
    pub(super) due: Duration,
}

/// The arrivals of an open loop, in order.
#[derive(Debug)]
pub(super) struct Arrivals {
    phases: Vec<Rise>,
    at: usize,
    /// When the phase begins.
    started_s: f64,
    /// The next arrival is due when the rate has added up to this since then.
    next: f64,
    random: fastrand::Rng,
}

/// A rate that changes evenly.
#[derive(Debug)]
struct Rise {
    from: f64,
    /// Change a second.
    slope: f64,
    seconds: f64,
    /// What the rate adds up to.
    total: f64,
    spacing: Spacing,
}

impl Rise {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests fit")]
    fn of(phase: &Phase) -> Self {
        let rate = phase.rate.expect("an open loop's phases have rates");
        let spacing = phase.arrivals;
        match (phase.seconds, phase.requests) {
            (None, Some(requests)) => {
                let total = requests as f64;
                Self { from: rate.from, slope: 0.0, seconds: total / rate.from, total, spacing }
            }
            (seconds, _) => {
                let seconds = seconds.expect("a phase has seconds or requests");
                let slope = if seconds > 0.0 { (rate.to - rate.from) / seconds } else { 0.0 };
                let total = f64::midpoint(rate.from, rate.to) * seconds;
                Self { from: rate.from, slope, seconds, total, spacing }
            }
        }
    }

    /// When the rate has added up to `sum`. In this form nothing is lost to rounding where the
    /// slope is small.
    fn seconds_to(&self, sum: f64) -> f64 {
        if sum <= 0.0 {
            return 0.0;
        }
        let root = (self.from * self.from + 2.0 * self.slope * sum).max(0.0).sqrt();
        (2.0 * sum / (self.from + root)).min(self.seconds)
    }
}

impl Arrivals {
    pub(super) fn new(phases: &[Phase], seed: u64) -> Self {
        let phases = phases.iter().map(Rise::of).collect();
        let mut arrivals = Self {
            phases,
            at: 0,
            started_s: 0.0,
            next: 0.0,
            random: fastrand::Rng::with_seed(seed),
        };
        arrivals.next = match arrivals.phases.first() {
            Some(Rise { spacing: Spacing::Poisson, .. }) => arrivals.exponential(),
            _ => 0.0,
        };
        arrivals
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.random.f64()).ln()
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        loop {
            let phase = self.phases.get(self.at)?;
            if self.next < phase.total {
                let due = self.started_s + phase.seconds_to(self.next);
                let spacing = phase.spacing;
                let step = match spacing {
                    Spacing::Even => 1.0,
                    Spacing::Poisson => self.exponential(),
                };
                self.next += step;
                return Some(Arrival { phase: self.at, due: Duration::from_secs_f64(due) });
            }
            self.next -= phase.total;
            self.started_s += phase.seconds;
            self.at += 1;
        }
    }
}

/// What a client of a closed loop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Ask {
        phase: usize,
    },
    /// Nothing before this time.
    Wait(Duration),
    Done,
}

/// The turns of a closed loop's clients.
#[derive(Debug)]
pub(super) struct Turns {
    phases: Vec<Phase>,
    at: usize,
    started: Duration,
    taken: u64,
}

/// How long a client that is not wanted waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Turns {
    pub(super) fn new(phases: &[Phase]) -> Self {
        Self { phases: phases.to_vec(), at: 0, started: Duration::ZERO, taken: 0 }
    }

    /// The turn of client number `client` (from 0) at this time.
    pub(super) fn turn(&mut self, client: usize, now: Duration) -> Turn {
        loop {
            let Some(phase) = self.phases.get(self.at) else { return Turn::Done };
            let elapsed = now.saturating_sub(self.started);
            let length = phase.seconds.map(Duration::from_secs_f64);
            let is_over = length.is_some_and(|length| elapsed >= length)
                || phase.requests.is_some_and(|requests| self.taken >= requests);
            if is_over {
                self.started = length.map_or(now, |length| self.started + length);
                self.taken = 0;
                self.at += 1;
                continue;
            }
            let concurrency = phase.concurrency.expect("a closed loop's phases have concurrencies");
            let share = length.map_or(0.0, |length| elapsed.as_secs_f64() / length.as_secs_f64());
            #[expect(clippy::cast_precision_loss, reason = "counts of clients fit")]
            if client as f64 >= concurrency.at(share).max(1.0) {
                return Turn::Wait(now + LOOK_AGAIN);
            }
            self.taken += 1;
            return Turn::Ask { phase: self.at };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(rates: &[(f64, f64, f64)], spacing: Spacing) -> Vec<Phase> {
        let phase = |(from, to, seconds): &(f64, f64, f64)| {
            let text = format!("name = \"p\"\nseconds = {seconds:?}\nrate = [{from:?}, {to:?}]");
            Phase { arrivals: spacing, ..toml::from_str(&text).unwrap() }
        };
        rates.iter().map(phase).collect()
    }

    fn dues(phases: &[Phase]) -> Vec<f64> {
        Arrivals::new(phases, 1).map(|arrival| arrival.due.as_secs_f64()).collect()
    }

    #[test]
    fn even_rate_is_even() {
        let dues = dues(&open(&[(10.0, 10.0, 1.0)], Spacing::Even));
        let wanted: Vec<f64> = (0..10).map(|n| f64::from(n) / 10.0).collect();
        assert!(dues.iter().zip(&wanted).all(|(is, wanted)| (is - wanted).abs() < 1e-6));
        assert_eq!(dues.len(), 10);
    }

    #[test]
    fn ramp_has_half_its_arrivals_where_half_of_it_has_added_up() {
        let dues = dues(&open(&[(0.0, 1000.0, 10.0)], Spacing::Even));
        assert_eq!(dues.len(), 5000);
        // Half the triangle is at 1/√2 of its base.
        assert!((dues[2500] - 10.0 / 2.0_f64.sqrt()).abs() < 0.01, "{}", dues[2500]);
    }

    #[test]
    fn poisson_has_about_as_many_with_uneven_gaps() {
        let dues = dues(&open(&[(1000.0, 1000.0, 10.0)], Spacing::Poisson));
        assert!((9_600..10_400).contains(&dues.len()), "{}", dues.len());
        let longer = dues.windows(2).filter(|pair| pair[1] - pair[0] > 0.001).count();
        // e⁻¹ of them are longer than the mean.
        assert!((3_300..4_100).contains(&longer), "{longer}");
    }

    #[test]
    fn clients_take_turns_until_all_is_asked() {
        let phases = [
            "name = \"a\"\nrequests = 3\nconcurrency = 2\ncounted = false",
            "name = \"b\"\nseconds = 1\nconcurrency = [1, 3]",
        ]
        .map(|text| toml::from_str(text).unwrap());
        let mut turns = Turns::new(&phases);
        let at = Duration::from_millis;
        let ask = |phase| Turn::Ask { phase };
        assert_eq!(turns.turn(2, at(0)), Turn::Wait(at(10)));
        assert_eq!([0, 1, 0].map(|client| turns.turn(client, at(5))), [ask(0); 3]);
        assert_eq!(turns.turn(0, at(7)), ask(1));
        assert!(matches!(turns.turn(1, at(7)), Turn::Wait(_)));
        assert_eq!(turns.turn(1, at(600)), ask(1));
        assert_eq!(turns.turn(2, at(1000)), ask(1));
        assert_eq!(turns.turn(0, at(1007)), Turn::Done);
    }

    proptest! {
        #[test]
        fn arrivals_are_in_order_and_within_their_phase(
            rates in prop::collection::vec((0.0..300.0_f64, 0.1..300.0_f64, 0.1..3.0_f64), 1..5),
            is_even: bool,
        ) {
            let spacing = if is_even { Spacing::Even } else { Spacing::Poisson };
            let phases = open(&rates, spacing);
            let total: f64 = rates.iter().map(|(from, to, s)| (from + to) / 2.0 * s).sum();
            let arrivals: Vec<_> = Arrivals::new(&phases, 3).collect();
            if is_even {
                #[expect(clippy::cast_precision_loss, reason = "small")]
                let n = arrivals.len() as f64;
                prop_assert!((n - total).abs() <= 1.0, "{n} {total}");
            }
            for pair in arrivals.windows(2) {
                prop_assert!(pair[0].due <= pair[1].due && pair[0].phase <= pair[1].phase);
            }
            let mut start = 0.0;
            for (index, (_, _, seconds)) in rates.iter().enumerate() {
                let due_s = |arrival: &Arrival| arrival.due.as_secs_f64();
                let mine = arrivals.iter().filter(|arrival| arrival.phase == index);
                for arrival in mine {
                    prop_assert!(due_s(arrival) >= start - 1e-6);
                    prop_assert!(due_s(arrival) <= start + seconds + 1e-6);
                }
                start += seconds;
            }
        }
    }
}
