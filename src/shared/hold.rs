//! What a request holds in the shared store.

use std::sync::Arc;
use std::time::Duration;

use super::keeper::Order;
use super::{Answer, Asked, Shared, lock};
use crate::limit::{Amounts, Metric, Period, Standing, Tightest, Wait};

/// Taken from the limits of one request. Dropped without being settled, it was not let in, and all
/// of it goes back.
pub struct Hold {
    shared: Arc<Shared>,
    lease: u64,
    parts: Vec<Part>,
}

/// What was taken from one limit.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) key: String,
    pub(super) metric: Metric,
    pub(super) period: Period,
    pub(super) window: i64,
    pub(super) reserved: u64,
    pub(super) used: u64,
    amount: u64,
    remaining: u64,
    resets_in: Duration,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = out.debug_struct("Hold");
        out.field("lease", &self.lease).field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl Hold {
    /// What the script has answered; `None` for what it never answers.
    pub(super) fn of_reply(
        shared: &Arc<Shared>,
        lease: u64,
        asked: Vec<Asked>,
        reply: &[i64],
    ) -> Option<Answer> {
        match reply {
            [0, which, wait] => {
                let which =
                    usize::try_from(*which - 1).ok().filter(|which| *which < asked.len())?;
                let wait = u64::try_from(*wait).ok();
                let wait = wait.map_or(Wait::Never, |wait| Wait::For(Duration::from_millis(wait)));
                Some(Answer::Refused(which, wait))
            }
            [1, rest @ ..] if rest.len() == asked.len() * 3 => {
                let parts = asked.into_iter().zip(rest.chunks(3)).filter_map(Part::of_reply);
                let hold = Self { shared: Arc::clone(shared), lease, parts: parts.collect() };
                hold.keep_slots();
                Some(Answer::Granted(hold))
            }
            _ => None,
        }
    }

    /// The keeper renews its slots from here on.
    fn keep_slots(&self) {
        let slots = self.parts.iter().filter(|part| part.metric == Metric::Concurrent);
        let keys: Arc<[String]> = slots.map(|part| part.key.clone()).collect();
        if !keys.is_empty() {
            lock(&self.shared.leases).insert(self.lease, keys);
        }
    }

    /// Puts what was used in the place of what was reserved, soon.
    pub fn settle(mut self, used: &Amounts) {
        self.give(Some(used));
    }

    fn give(&mut self, used: Option<&Amounts>) {
        let mut parts = std::mem::take(&mut self.parts);
        if parts.is_empty() {
            return;
        }
        for part in &mut parts {
            part.used = used.map_or(0, |used| used.of_used(part.metric));
        }
        lock(&self.shared.leases).remove(&self.lease);
        let order = Order::Settle { lease: self.lease, parts };
        if self.shared.orders.try_send(order).is_err() {
            // What was reserved stays until its window ends, a slot until its lease does.
            self.shared.metrics.shared_settlements_lost.inc();
        }
    }

    pub fn standing(&self) -> Standing {
        let mut standing = Standing {
            unix_ms: u64::try_from(self.shared.store_time()).unwrap_or(0),
            ..Standing::default()
        };
        for part in &self.parts {
            let kind = match part.metric {
                Metric::Requests => &mut standing.requests,
                Metric::Tokens | Metric::InputTokens | Metric::OutputTokens => &mut standing.tokens,
                Metric::Concurrent | Metric::Cost => continue,
            };
            let Part { amount: limit, remaining, resets_in, .. } = *part;
            *kind = Tightest::of(*kind, Some(Tightest { limit, remaining, resets_in }));
        }
        standing
    }
}

impl Part {
    fn of_reply((asked, reply): (Asked, &[i64])) -> Option<Self> {
        let [window, remaining, resets_in] = *reply else { return None };
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let Asked { key, metric, period, amount, ask } = asked;
        Some(Self {
            key,
            metric,
            period,
            window,
            reserved: ask,
            used: 0,
            amount,
            remaining: number(remaining),
            resets_in: Duration::from_millis(number(resets_in)),
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.give(None);
    }
}

impl Shared {
    /// Slots that requests of this node hold.
    pub fn slots(&self) -> usize {
        lock(&self.leases).len()
    }
}
