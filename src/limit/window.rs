//! What has been used of a limit.
//!
//! Seconds and minutes slide: of the window before, the part counts that still lies within one
//! period back from now, as if its use had been even. So at most `amount` fits in a window, at most
//! `amount × (1 + time / period)` in any stretch of time, and under constant load exactly `amount`
//! per period: a window begins with the first use after nothing has counted. Hours and longer are windows of the UTC calendar; a lifetime is one window.
//!
//! What is reserved counts as used until it is settled, in the window in which it was taken.

use std::time::Duration;

use super::calendar::{Span, span};
use super::{Now, Period, millis};

/// The use of one limit in its window, and in the window before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Of the calendar its number; of what slides when it began, on the steady clock.
    index: u64,
    /// When a window of the calendar ends, in milliseconds since 1970.
    until_ms: u64,
    current: u64,
    previous: u64,
    /// Of `current` and `previous`, what is reserved and not settled.
    held: u64,
    held_previous: u64,
}

/// How long until a request would fit, if nothing else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    For(Duration),
    /// It asks for more than there is, or there will never be more.
    Never,
}

/// The length of a sliding period.
const fn slides(period: Period) -> Option<u64> {
    match period {
        Period::Second => Some(1_000),
        Period::Minute => Some(60_000),
        _ => None,
    }
}

impl Window {
    /// What was used in the window `index`, as a file remembers it.
    pub fn restored(period: Period, index: u64, used: u64, now: Now) -> Self {
        let mut window = Self { index, current: used, ..Self::default() };
        let at = span(period, now.unix_ms);
        // A window that lies ahead is one that the clock has been set back from: it is kept.
        window.until_ms = if at.index == index { at.until_ms } else { 0 };
        window.roll(period, now);
        window
    }

    /// The number of the window, and what was used in it and is settled.
    pub const fn settled(&self) -> (u64, u64) {
        (self.index, self.current.saturating_sub(self.held))
    }

    /// Goes on to the window of `now`. Time that runs backwards changes nothing.
    pub fn roll(&mut self, period: Period, now: Now) {
        if let Some(length) = slides(period) {
            let passed = now.steady.0.saturating_sub(self.index) / length;
            if 0 < passed {
                (self.previous, self.held_previous) =
                    if passed == 1 { (self.current, self.held) } else { (0, 0) };
                (self.current, self.held) = (0, 0);
                self.index += passed * length;
            }
            if self.is_idle() {
                self.index = self.index.max(now.steady.0);
            }
        } else if self.until_ms <= now.unix_ms {
            let Span { index, until_ms } = span(period, now.unix_ms);
            if self.index < index {
                (self.current, self.held, self.index) = (0, 0, index);
            }
            if self.index == index {
                self.until_ms = until_ms;
            }
        }
    }

    /// What counts as used at `now`, which the window has been rolled to.
    pub fn used(&self, period: Period, now: Now) -> u64 {
        self.carried(period, now).saturating_add(self.current)
    }

    /// What is reserved and not settled.
    pub const fn held(&self) -> u64 {
        self.held.saturating_add(self.held_previous)
    }

    /// Whether nothing is left that would ever count.
    pub const fn is_idle(&self) -> bool {
        self.current == 0 && self.previous == 0
    }

    /// The part of the window before that still counts, rounded up.
    fn carried(&self, period: Period, now: Now) -> u64 {
        match slides(period) {
            Some(length) if 0 < self.previous => {
                let left = length - self.elapsed(length, now);
                div_up(self.previous, left, length)
            }
            _ => 0,
        }
    }

    /// How far `now` is into the window; the window may be ahead of a reading made before.
    fn elapsed(&self, length: u64, now: Now) -> u64 {
        now.steady.0.saturating_sub(self.index).min(length - 1)
    }

    /// Why `ask` does not fit: the time until it would. `None` when it fits.
    pub fn refuses(&self, period: Period, (amount, ask): (u64, u64), now: Now) -> Option<Wait> {
        if self.used(period, now).saturating_add(ask) <= amount {
            return None;
        }
        let Some(room) = amount.checked_sub(ask) else { return Some(Wait::Never) };
        let Some(length) = slides(period) else {
            return Some(match period {
                Period::Lifetime => Wait::Never,
                _ => Wait::For(self.resets_in(period, now)),
            });
        };
        let elapsed = self.elapsed(length, now);
        // Either enough of the window before passes out, or all of it and some of this one.
        let wait = match room.checked_sub(self.current) {
            Some(room) => frees_at(self.previous, room, length).saturating_sub(elapsed),
            None => length - elapsed + frees_at(self.current, room, length),
        };
        Some(Wait::For(millis(wait.max(1))))
    }

    /// Time until nothing of what is used now counts any more.
    pub fn resets_in(&self, period: Period, now: Now) -> Duration {
        match slides(period) {
            Some(_) if self.is_idle() => Duration::ZERO,
            Some(length) => {
                let left = length - self.elapsed(length, now);
                millis(if self.current == 0 { left } else { left + length })
            }
            None => millis(self.until_ms.saturating_sub(now.unix_ms)),
        }
    }

    /// Sets `ask` aside, and says in which window.
    pub const fn take(&mut self, ask: u64) -> u64 {
        self.current = self.current.saturating_add(ask);
        self.held = self.held.saturating_add(ask);
        self.index
    }

    /// Puts what was `used` in the place of what was `reserved` in the window `index`.
    ///
    /// When that window is gone, what was reserved went with it. What was used beyond it counts
    /// where it slides, so that long requests cannot pass a short limit unseen.
    pub fn settle(&mut self, period: Period, index: u64, (reserved, used): (u64, u64), now: Now) {
        self.roll(period, now);
        let slides = slides(period);
        if index == self.index {
            self.current = self.current.saturating_sub(reserved).saturating_add(used);
            self.held = self.held.saturating_sub(reserved);
        } else if slides.is_some_and(|length| index + length == self.index) {
            self.previous = self.previous.saturating_sub(reserved).saturating_add(used);
            self.held_previous = self.held_previous.saturating_sub(reserved);
        } else if slides.is_some() {
            self.current = self.current.saturating_add(used.saturating_sub(reserved));
        }
    }
}

/// `part × left / length`, rounded up.
fn div_up(part: u64, left: u64, length: u64) -> u64 {
    match part.checked_mul(left) {
        Some(product) => product.div_ceil(length),
        // `left` is not more than `length`, so the quotient is not more than `part`.
        None => u64::try_from((u128::from(part) * u128::from(left)).div_ceil(length.into()))
            .unwrap_or(u64::MAX),
    }
}

/// How far into the next window no more than `room` is left of `part`.
fn frees_at(part: u64, room: u64, length: u64) -> u64 {
    if part <= room {
        return 0;
    }
    let kept = u128::from(room) * u128::from(length) / u128::from(part);
    length - u64::try_from(kept).unwrap_or(length)
}
