//! How much of a limit is used, for rules that ask.

use super::owner::{Limits, Subject};
use crate::limit::{Metric, Now, Period};

/// The use of those of `limits` that count `metric` in `period`, in percent: of the tightest one, for
/// this request. What is reserved counts as used; a limit of all nodes is seen from this one.
pub fn percent_used(
    limits: &Limits,
    (metric, period): (Metric, Period),
    subject: &Subject<'_>,
    now: Now,
) -> Option<f64> {
    let of_kind = limits
        .counted
        .iter()
        .filter(|counted| counted.limit.metric == metric && counted.limit.period == period);
    let percents = of_kind.map(|counted| {
        let counter = counted.meter.counter(subject, now);
        percent(counter.at(now).used(period, now), counted.limit.amount)
    });
    percents.reduce(f64::max)
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn percent(used: u64, amount: u64) -> f64 {
    if amount == 0 { 100.0 } else { used as f64 / amount as f64 * 100.0 }
}
