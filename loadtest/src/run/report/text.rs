//! The report as text, for a terminal.

use std::fmt;

use super::{Kind, Outcome, Percentiles, Report, Summary};

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = &self.total;
        writeln!(
            out,
            "{} at {}: {} requests in {:.2} s, {} failures, {:.0} right answers a second",
            self.scenario.name,
            self.url,
            total.requests,
            self.elapsed_s,
            total.errors,
            total.requests_per_s
        )?;
        self.times(out)?;
        if let Some(rate) = total.coalesced_rate {
            writeln!(out, "{:.3} % of the paced events came with the one before", rate * 100.0)?;
        }
        for (failure, n) in &total.failures {
            writeln!(out, "{n} × {failure}")?;
        }
        for (failure, n) in &self.uncounted_failures {
            writeln!(out, "{n} × {failure} (in phases that do not count)")?;
        }
        self.machines(out)?;
        for verdict in &self.limits {
            let measured = verdict.measured.map_or("nothing measured".to_owned(), short);
            let is = if verdict.is_met { "kept  " } else { "BROKEN" };
            writeln!(out, "{is} {} = {}: {measured}", verdict.limit, short(verdict.bound))?;
        }
        writeln!(out, "{}", self.outcome.sentence())
    }
}

impl Report {
    fn times(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["ms", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        write!(out, "{:26}", head.first().copied().unwrap_or_default())?;
        for name in head.iter().skip(1) {
            write!(out, " {name:>9}")?;
        }
        writeln!(out)?;
        rows(out, "", &self.total)?;
        if self.kinds.len() > 1 {
            for Kind { name, summary } in &self.kinds {
                rows(out, &format!("{name}: "), summary)?;
            }
        }
        Ok(())
    }

    fn machines(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generator = &self.generator;
        write!(
            out,
            "generator: {:.1} µs of CPU a request, {} clients",
            generator.cpu_us_per_request, generator.clients
        )?;
        if let Some(lag) = &generator.lag_us {
            write!(out, ", late by p99 {:.2} ms", lag.p99 / 1000.0)?;
        }
        if generator.waiting_most > 0 {
            write!(out, ", up to {} requests waited for a client", generator.waiting_most)?;
        }
        writeln!(out)?;
        let Some(server) = &self.server else { return Ok(()) };
        #[expect(clippy::cast_precision_loss, reason = "memory fits")]
        let mib = |kib: u64| kib as f64 / 1024.0;
        write!(
            out,
            "server: {:.1} µs of CPU a request, memory {:.1} → {:.1} MiB (most {:.1})",
            server.cpu_us_per_request,
            mib(server.before.rss_kib),
            mib(server.after.rss_kib),
            mib(server.rss_kib_max)
        )?;
        if let Some(slope) = server.rss_mib_per_hour {
            write!(out, ", {slope:+.2} MiB/h")?;
        }
        writeln!(
            out,
            ", descriptors {} → {}, threads {} → {}",
            server.before.descriptors,
            server.after.descriptors,
            server.before.threads,
            server.after.threads
        )
    }
}

fn rows(out: &mut fmt::Formatter<'_>, of: &str, summary: &Summary) -> fmt::Result {
    for (name, percentiles) in [
        ("latency", &summary.latency_us),
        ("first event", &summary.first_event_us),
        ("gap", &summary.gap_us),
        ("gap added", &summary.gap_added_us),
    ] {
        let Some(Percentiles { p50, p90, p99, p99_9, p99_99, max, .. }) = percentiles else {
            continue;
        };
        write!(out, "{:26}", format!("{of}{name}"))?;
        for us in [p50, p90, p99, p99_9, p99_99, max] {
            write!(out, " {:>9.3}", us / 1000.0)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A number without digits that say nothing.
fn short(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Outcome {
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::LimitBroken => "FAILED: a limit is broken",
            Self::WrongAnswers => "FAILED: answers were not what they must be",
            Self::GeneratorLate => {
                "NO RESULT: the generator was late, so the figures are its own; give it more threads or a lower rate"
            }
            Self::Interrupted => "interrupted: the figures are of what ran until then",
        }
    }

    pub const fn code(self) -> u8 {
        self as u8
    }
}
