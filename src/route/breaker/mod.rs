//! Whether a target is worth a try, learnt from real traffic.
//!
//! A breaker is closed while requests pass. It opens after a run of failures or too high a rate of
//! them, and refuses until its cooldown is over. Then one request at a time is let through as a
//! probe: success closes the breaker, failure opens it for twice as long. Being told to wait (429,
//! 529) is no failure, but the target is left alone until the time that the provider named.

mod window;

use std::time::Duration;

use self::window::Window;
use super::below;
use super::retry_after::RETRY_AFTER_MAX;
use crate::clock::Millis;

/// The error rate says nothing about fewer requests.
const RATE_REQUESTS_MIN: u32 = 20;
/// A cooldown stops doubling here, unless the first one is longer.
const COOLDOWN_MAX: Duration = Duration::from_mins(5);
/// A probe that was never settled gives its place to another one after this long: longer than
/// connecting, waiting for the head and waiting for the first token together.
const PROBE_MAX: Duration = Duration::from_mins(5);
/// When to come back while somebody else's probe is out, which may end at any time.
const PROBE_RECHECK: Duration = Duration::from_secs(1);

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    pub consecutive_failures: u32,
    /// Between 0 and 1; the breaker opens above it.
    pub error_rate: f64,
    /// The first cooldown; each further one without a success between is twice as long.
    pub cooldown: Duration,
}

/// The breaker of one target. A short `std` mutex around it is enough for many threads.
#[derive(Debug, Clone)]
pub struct Breaker {
    rules: Rules,
    phase: Phase,
    /// Told to wait until then by the provider.
    limited_until: Millis,
    /// Openings since the breaker was last closed.
    openings: u32,
    /// Counts the phases; an outcome is heard only in the one that admitted its attempt.
    generation: u32,
    consecutive_failures: u32,
    window: Window,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    /// Refusing until `until`, then waiting for the verdict of a probe.
    Tripped {
        until: Millis,
        /// When the probe that is out loses its place.
        probe_until: Option<Millis>,
    },
}

/// The right to make one attempt, to be given back with [`Breaker::settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "every admitted attempt is settled"]
pub struct Ticket {
    generation: u32,
    is_probe: bool,
}

impl Ticket {
    /// Whether this attempt decides if the breaker closes.
    pub const fn is_probe(self) -> bool {
        self.is_probe
    }
}

/// The target is not to be tried before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub until: Millis,
}

/// How an admitted attempt ended, as far as the breaker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The target's fault.
    Failure {
        retry_after: Option<Duration>,
    },
    /// The target works and asks to be left alone; without a time, for the first cooldown.
    Limited {
        retry_after: Option<Duration>,
    },
    /// It says nothing about the target: the client left, or its request was wrong.
    Uncounted,
}

/// What the metrics show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed,
    /// Refusing, because it failed or was told to wait.
    Open {
        until: Millis,
    },
    /// The cooldown is over and no probe has succeeded yet.
    HalfOpen,
}

impl Breaker {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Closed,
            limited_until: Millis::default(),
            openings: 0,
            generation: 0,
            consecutive_failures: 0,
            window: Window::default(),
        }
    }

    /// Takes over rules that a reload changed; what was learnt stays.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Asks to make an attempt now.
    pub fn admit(&mut self, now: Millis) -> Result<Ticket, Refused> {
        if let Some(until) = self.unavailable_until(now) {
            return Err(Refused { until });
        }
        let is_probe = match &mut self.phase {
            Phase::Closed => false,
            Phase::Tripped { probe_until, .. } => {
                if probe_until.replace(now.saturating_add(PROBE_MAX)).is_some() {
                    // The probe before was never settled: if it comes back, it is too late.
                    self.generation = self.generation.wrapping_add(1);
                }
                true
            }
        };
        Ok(Ticket { generation: self.generation, is_probe })
    }

    /// When the target may be tried again, or `None` if it may be tried now.
    pub fn unavailable_until(&self, now: Millis) -> Option<Millis> {
        let until = match self.phase {
            Phase::Closed => self.limited_until,
            Phase::Tripped { until, probe_until } => {
                let probed = match probe_until {
                    Some(probe_until) if now < probe_until => {
                        now.saturating_add(PROBE_RECHECK).min(probe_until)
                    }
                    Some(_) | None => Millis::default(),
                };
                until.max(self.limited_until).max(probed)
            }
        };
        (now < until).then_some(until)
    }

    pub fn is_available(&self, now: Millis) -> bool {
        self.unavailable_until(now).is_none()
    }

    /// Takes in how an admitted attempt ended. `seed` decides the jitter, should the breaker open.
    ///
    /// An outcome that belongs to an earlier phase is late news and changes nothing, except that a
    /// provider's wish to be left alone is always heard.
    pub fn settle(&mut self, ticket: Ticket, outcome: Outcome, now: Millis, seed: u64) {
        let is_heard = ticket.generation == self.generation;
        if is_heard && ticket.is_probe {
            self.free_probe();
        }
        match outcome {
            Outcome::Success if is_heard => self.on_success(ticket, now),
            Outcome::Failure { retry_after } => {
                self.limit(now, retry_after.unwrap_or_default());
                if is_heard {
                    self.on_failure(ticket, now, seed);
                }
            }
            Outcome::Limited { retry_after } => {
                self.limit(now, retry_after.unwrap_or(self.rules.cooldown));
            }
            Outcome::Success | Outcome::Uncounted => {}
        }
    }

    pub fn state(&self, now: Millis) -> State {
        let opens_at = match self.phase {
            Phase::Closed => self.limited_until,
            Phase::Tripped { until, .. } => until.max(self.limited_until),
        };
        match self.phase {
            Phase::Closed | Phase::Tripped { .. } if now < opens_at => {
                State::Open { until: opens_at }
            }
            Phase::Closed => State::Closed,
            Phase::Tripped { .. } => State::HalfOpen,
        }
    }

    /// Openings since the breaker was last closed, for the metrics.
    pub const fn openings(&self) -> u32 {
        self.openings
    }

    fn on_success(&mut self, ticket: Ticket, now: Millis) {
        if ticket.is_probe {
            self.phase = Phase::Closed;
            self.openings = 0;
            self.window = Window::default();
            self.generation = self.generation.wrapping_add(1);
        }
        self.consecutive_failures = 0;
        self.window.count_success(now);
    }

    fn on_failure(&mut self, ticket: Ticket, now: Millis, seed: u64) {
        self.window.count_failure(now);
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        // A success can only lower the rate, so it is enough to judge here.
        if ticket.is_probe || self.has_failed_enough(now) {
            self.open(now, seed);
        }
    }

    fn has_failed_enough(&self, now: Millis) -> bool {
        if self.rules.consecutive_failures <= self.consecutive_failures {
            return true;
        }
        let (failures, total) = self.window.failures_of_total(now);
        RATE_REQUESTS_MIN <= total && f64::from(total) * self.rules.error_rate < f64::from(failures)
    }

    fn open(&mut self, now: Millis, seed: u64) {
        let most = COOLDOWN_MAX.max(self.rules.cooldown);
        let doubled = self.rules.cooldown.saturating_mul(1 << self.openings.min(30)).min(most);
        let until = now.saturating_add(jittered(doubled, seed));
        self.phase = Phase::Tripped { until, probe_until: None };
        self.openings = self.openings.saturating_add(1);
        self.generation = self.generation.wrapping_add(1);
        self.consecutive_failures = 0;
    }

    /// A later, longer wish extends an earlier one; a shorter one does not cut it. No wish limits
    /// nothing, not even for those who read the clock a moment before.
    fn limit(&mut self, now: Millis, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        let until = now.saturating_add(wait.min(RETRY_AFTER_MAX));
        self.limited_until = self.limited_until.max(until);
    }

    fn free_probe(&mut self) {
        if let Phase::Tripped { probe_until, .. } = &mut self.phase {
            *probe_until = None;
        }
    }
}

/// Between 90 % and 110 % of `cooldown`, so that gateways which saw the same failure part again.
fn jittered(cooldown: Duration, seed: u64) -> Duration {
    let tenth = u64::try_from(cooldown.as_millis() / 10).unwrap_or(u64::MAX / 4);
    let least = cooldown.saturating_sub(Duration::from_millis(tenth));
    least.saturating_add(Duration::from_millis(below(2 * tenth + 1, seed)))
}

#[cfg(test)]
mod tests;
