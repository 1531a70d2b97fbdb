//! What one request holds of its limits: all of them or none.

use std::sync::Arc;
use std::time::Duration;

use super::counter::Counter;
use super::owner::{Counted, Limits, Subject};
use crate::limit::{Amounts, Level, Limit, Metric, Mode, Now, OnError, Standing, Tightest, Wait};

/// When to come back for a slot.
const SLOT_WAIT: Duration = Duration::from_secs(1);

/// What a request has set aside, until it is settled. Dropped without that, it gives everything
/// back but the request itself, which has been let in.
#[derive(Debug, Default)]
pub struct Reservation {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    counter: Arc<Counter>,
    metric: Metric,
    /// The window in which it was taken.
    index: u64,
    amount: u64,
    limit: u64,
    remaining: u64,
    resets_in: Duration,
}

/// The limit that said no, and when the request would pass all of its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub level: Level,
    pub owner: Arc<str>,
    pub limit: Limit,
    /// What the request asked of it.
    pub asked: u64,
    pub wait: Wait,
    pub at: Now,
}

/// How this node counts limits that are shared by all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The shared store decides. Here they are counted along, for the time when it cannot.
    Elsewhere,
    /// There is no shared store: this node is the only one.
    Alone,
    /// The shared store is down: this node has its share.
    OneOf { nodes: u64 },
}

/// Takes `ask` from every limit of `owners`, in the order of levels, or from none.
pub fn reserve<'a>(
    owners: impl Iterator<Item = &'a Limits> + Clone,
    ask: &Amounts,
    subject: &Subject<'_>,
    (sharing, now): (Sharing, Now),
) -> Result<Reservation, Box<Refused>> {
    let mut parts = Vec::with_capacity(owners.clone().map(|owner| owner.counted.len()).sum());
    for (n, counted) in owners.clone().flat_map(|owner| &owner.counted).enumerate() {
        if sharing.denies(&counted.limit) {
            return Err(Box::new(refused(owners, n, ask, (Wait::For(SLOT_WAIT), now))));
        }
        parts.push(Part {
            counter: counted.meter.counter(subject, now),
            metric: counted.limit.metric,
            index: 0,
            amount: ask.of_reserved(counted.limit.metric),
            limit: sharing.amount(&counted.limit),
            remaining: 0,
            resets_in: Duration::ZERO,
        });
    }
    let mut refusal = None;
    if take(&mut parts, 0, &mut refusal, now) {
        return Ok(Reservation { parts });
    }
    let (n, wait) = refusal.unwrap_or((0, Wait::Never));
    Err(Box::new(refused(owners, n, ask, (wait, now))))
}

/// Locks the counters one in the other, asks them all, and takes from all when none refuses.
fn take(parts: &mut [Part], n: usize, refusal: &mut Option<(usize, Wait)>, now: Now) -> bool {
    let Some((part, rest)) = parts.split_first_mut() else { return refusal.is_none() };
    let period = part.counter.period();
    let mut window = part.counter.lock();
    window.roll(period, now);
    let refuses = window.refuses(period, (part.limit, part.amount), now);
    if let Some(wait) = refuses.map(|wait| wait_for(part.metric, part.limit, wait)) {
        // The first is named; the request passes when the last one lets it.
        let (first, longest) = refusal.unwrap_or((n, wait));
        *refusal = Some((first, longest.max(wait)));
    }
    let is_taken = take(rest, n + 1, refusal, now);
    if is_taken {
        part.index = window.take(part.amount);
        part.remaining = part.limit.saturating_sub(window.used(period, now));
        part.resets_in = window.resets_in(period, now);
    }
    is_taken
}

/// Nobody knows when a request that runs will end: soon enough.
const fn wait_for(metric: Metric, limit: u64, wait: Wait) -> Wait {
    match metric {
        Metric::Concurrent if 0 < limit => Wait::For(SLOT_WAIT),
        _ => wait,
    }
}

/// The `n`th limit of `owners` as the one that refuses.
fn refused<'a>(
    owners: impl Iterator<Item = &'a Limits>,
    n: usize,
    ask: &Amounts,
    (wait, at): (Wait, Now),
) -> Refused {
    let mut all =
        owners.flat_map(|owner| owner.counted.iter().map(move |counted| (owner, counted)));
    let (owner, counted) = all.nth(n).expect("a counted that refused is there");
    refusal(owner, counted, ask, (wait, at))
}

fn refusal(owner: &Limits, counted: &Counted, ask: &Amounts, (wait, at): (Wait, Now)) -> Refused {
    Refused {
        level: owner.owner.level,
        owner: Arc::clone(&owner.name),
        limit: counted.limit.clone(),
        asked: ask.of_reserved(counted.limit.metric),
        wait,
        at,
    }
}

/// Whether a limit of `owners` would refuse `ask`, without taking anything. A look, no promise.
pub fn would_refuse<'a>(
    owners: impl Iterator<Item = &'a Limits>,
    ask: &Amounts,
    subject: &Subject<'_>,
    (sharing, now): (Sharing, Now),
) -> Option<Box<Refused>> {
    let mut found: Option<Box<Refused>> = None;
    for owner in owners {
        for counted in &owner.counted {
            let counter = counted.meter.counter(subject, now);
            let asked = ask.of_reserved(counted.limit.metric);
            let window = counter.at(now);
            let amounts = (sharing.amount(&counted.limit), asked);
            let Some(wait) = window.refuses(counter.period(), amounts, now) else { continue };
            let wait = wait_for(counted.limit.metric, counted.limit.amount, wait);
            match &mut found {
                Some(first) => first.wait = first.wait.max(wait),
                None => found = Some(Box::new(refusal(owner, counted, ask, (wait, now)))),
            }
        }
    }
    found
}

// === impl Sharing ===

impl Sharing {
    /// What this node may let in of `limit` by itself.
    const fn amount(self, limit: &Limit) -> u64 {
        match (limit.mode, self) {
            (Mode::Local, _) | (Mode::Shared, Self::Alone) => limit.amount,
            (Mode::Shared, Self::Elsewhere) => u64::MAX,
            (Mode::Shared, Self::OneOf { nodes }) => match limit.amount.checked_div(nodes) {
                Some(share) if 0 < share || limit.amount == 0 => share,
                // Less than one for each: one, so that nobody is shut out.
                _ => 1,
            },
        }
    }

    fn denies(self, limit: &Limit) -> bool {
        let is_down = matches!(self, Self::OneOf { .. });
        is_down && limit.mode == Mode::Shared && limit.on_error == OnError::Deny
    }
}

// === impl Reservation ===

impl Reservation {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Puts what was used in the place of what was reserved.
    pub fn settle(mut self, used: &Amounts, now: Now) {
        self.end(used, now);
    }

    /// The request did not take place: nothing of it counts.
    pub fn cancel(self, now: Now) {
        self.settle(&Amounts::default(), now);
    }

    fn end(&mut self, used: &Amounts, now: Now) {
        for part in self.parts.drain(..) {
            let used = used.of_used(part.metric);
            part.counter.settle(part.index, (part.amount, used), now);
        }
    }

    /// The tightest limits of this reservation.
    pub fn standing(&self, now: Now) -> Standing {
        let mut standing = Standing { unix_ms: now.unix_ms, ..Standing::default() };
        for part in &self.parts {
            let kind = match part.metric {
                _ if part.limit == u64::MAX => continue, // Somebody else knows.
                Metric::Requests => &mut standing.requests,
                Metric::Tokens | Metric::InputTokens | Metric::OutputTokens => &mut standing.tokens,
                Metric::Concurrent | Metric::Cost => continue,
            };
            let found = Tightest {
                limit: part.limit,
                remaining: part.remaining,
                resets_in: part.resets_in,
            };
            *kind = Tightest::of(*kind, Some(found));
        }
        standing
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.parts.is_empty() {
            // Only a panic comes here. The window of that time is not known any more: the counter's
            // own is as late as any.
            let now = Now { steady: crate::clock::Millis::now(), unix_ms: 0 };
            self.end(&Amounts { requests: 1, ..Amounts::default() }, now);
        }
    }
}
