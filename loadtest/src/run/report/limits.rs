//! Holds what was measured against the scenario's limits.

use std::time::Duration;

use serde::Serialize;

use super::{Outcome, Server, at, elapsed, per_second, share};
use crate::run::failure::Class;
use crate::run::stats::{Counts, Times};
use crate::scenario::{Limits, Percentiles, quantile};

/// One limit, and what came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    pub limit: String,
    pub bound: f64,
    /// `None` where nothing was measured that it could be held against.
    pub measured: Option<f64>,
    pub is_met: bool,
    #[serde(skip)]
    subject: Subject,
}

/// What a limit is on; a broken one decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Performance,
    Answers,
    Generator,
}

fn at_most(limit: String, subject: Subject, bound: f64, measured: Option<f64>) -> Verdict {
    // What was not measured has not been kept to.
    let is_met = measured.is_some_and(|measured| measured <= bound);
    Verdict { limit, bound, measured, is_met, subject }
}

fn at_least(limit: &str, bound: f64, measured: f64) -> Verdict {
    let measured = Some(measured);
    let is_met = measured >= Some(bound);
    Verdict { limit: limit.to_owned(), bound, measured, is_met, subject: Subject::Performance }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests fit")]
pub(super) fn verdicts(
    limits: &Limits,
    sum: &Counts,
    lag: &Times,
    server: Option<&Server>,
) -> Vec<Verdict> {
    use Subject::{Answers, Generator, Performance};

    let mut verdicts = Vec::new();
    let mut add = |limit: &str, subject, bound: f64, measured| {
        verdicts.push(at_most(limit.to_owned(), subject, bound, measured));
    };
    let error_rate = share(sum.failures_of(Class::Error), sum.requests());
    add("error_rate_max", Performance, limits.error_rate_max, Some(error_rate));
    let wrong = sum.failures_of(Class::Wrong) as f64;
    add("wrong_max", Answers, limits.wrong_max as f64, Some(wrong));
    let truncated = sum.failures_of(Class::Truncated) as f64;
    add("truncated_max", Answers, limits.truncated_max as f64, Some(truncated));
    if let Some(bound) = limits.coalesced_rate_max {
        let rate = (sum.paced > 0).then(|| share(sum.together, sum.paced));
        add("coalesced_rate_max", Answers, bound, rate);
    }
    if let Some(slow) = limits.slow {
        let over = sum.latency.over(Duration::from_secs_f64(slow.over_ms.max(0.0) / 1000.0));
        let limit = format!("slow.share_max (over {} ms)", slow.over_ms);
        add(&limit, Performance, slow.share_max, Some(share(over, sum.successes)));
    }
    if let Some(bound) = limits.rss_mib_max {
        let max = server.map(|server| server.rss_kib_max as f64 / 1024.0);
        add("rss_mib_max", Performance, bound, max);
    }
    if let Some(bound) = limits.rss_mib_per_hour_max {
        let slope = server.and_then(|server| server.rss_mib_per_hour);
        add("rss_mib_per_hour_max", Performance, bound, slope);
    }
    for (name, bounds, times, subject) in [
        ("latency_ms", &limits.latency_ms, &sum.latency, Performance),
        ("first_event_ms", &limits.first_event_ms, &sum.first_event, Performance),
        ("gap_ms", &limits.gap_ms, &sum.gap, Performance),
        ("gap_added_ms", &limits.gap_added_ms, &sum.gap_added, Performance),
        ("lag_ms", &limits.lag_ms, lag, Generator),
    ] {
        verdicts.extend(of_percentiles(name, bounds, times, subject));
    }
    verdicts.push(at_least("requests_min", limits.requests_min as f64, sum.successes as f64));
    if let Some(bound) = limits.throughput_min {
        let measured = per_second(sum.successes, elapsed(sum));
        verdicts.push(at_least("throughput_min", bound, measured));
    }
    verdicts
}

fn of_percentiles(
    name: &str,
    bounds: &Percentiles,
    times: &Times,
    subject: Subject,
) -> Vec<Verdict> {
    let histogram = times.histogram().filter(|histogram| !histogram.is_empty());
    bounds
        .iter()
        .map(|(percentile, bound)| {
            let measured = histogram
                .zip(quantile(percentile))
                .map(|(histogram, quantile)| at(histogram, quantile) / 1000.0);
            at_most(format!("{name}.{percentile}"), subject, *bound, measured)
        })
        .collect()
}

/// The worst of what happened.
pub(super) fn outcome(verdicts: &[Verdict], is_interrupted: bool) -> Outcome {
    let is_broken =
        |subject| verdicts.iter().any(|verdict| !verdict.is_met && verdict.subject == subject);
    if is_broken(Subject::Answers) {
        Outcome::WrongAnswers
    } else if is_broken(Subject::Generator) {
        Outcome::GeneratorLate
    } else if is_broken(Subject::Performance) {
        Outcome::LimitBroken
    } else if is_interrupted {
        Outcome::Interrupted
    } else {
        Outcome::Passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worst_verdict_decides() {
        let verdict = |subject, measured| at_most(String::new(), subject, 1.0, measured);
        let good = verdict(Subject::Answers, Some(1.0));
        let slow = verdict(Subject::Performance, Some(1.1));
        let late = verdict(Subject::Generator, None);
        let wrong = verdict(Subject::Answers, Some(2.0));
        assert_eq!(outcome(&[], false), Outcome::Passed);
        assert_eq!(outcome(std::slice::from_ref(&good), true), Outcome::Interrupted);
        assert_eq!(outcome(&[good, slow.clone()], true), Outcome::LimitBroken);
        assert_eq!(outcome(&[slow.clone(), late.clone()], false), Outcome::GeneratorLate);
        assert_eq!(outcome(&[slow, late, wrong], false), Outcome::WrongAnswers);
    }
}
