//! The page, read as Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::names::{ALL, Kind};
use super::*;
use crate::provider::Provider;

/// A page taken apart: each sample's value by its name and labels as written.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Fails on anything that the format does not allow.
    fn of(metrics: &Metrics) -> Self {
        let page = metrics.render();
        assert!(page.ends_with('\n'));
        let mut samples = BTreeMap::new();
        let mut helped = BTreeSet::new();
        let mut family = ("", "");
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                assert!(helped.insert(help.split(' ').next().unwrap()), "twice: {help}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                family = kind.split_once(' ').unwrap();
                assert!(helped.contains(family.0));
            } else {
                let (key, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
                let suffix = name.strip_prefix(family.0).expect(line);
                let is_histogram = ["_bucket", "_sum", "_count"].contains(&suffix);
                assert_eq!(is_histogram, family.1 == "histogram", "{line}");
                assert_labels(labels);
                let value = value.parse().unwrap();
                assert!(samples.insert(key.to_owned(), value).is_none(), "twice: {line}");
            }
        }
        Self(samples)
    }

    fn get(&self, key: &str) -> f64 {
        *self.0.get(key).unwrap_or_else(|| panic!("no {key}"))
    }
}

fn assert_labels(text: &str) {
    let mut rest = text.strip_suffix('}').unwrap();
    while !rest.is_empty() {
        let (name, quoted) = rest.split_once("=\"").expect(text);
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{text}");
        let mut is_escaped = false;
        let end = quoted.find(|c| {
            let is_end = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        });
        rest = quoted.split_at(end.unwrap() + 1).1;
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn metrics_with_sources() -> Metrics {
    let metrics = Metrics::default();
    metrics.set_sources(Sources {
        breakers: Some(Box::new(|| {
            vec![BreakerSample {
                workspace: "acme".into(),
                environment: "production".into(),
                deployment: "a \"quoted\\\n name".into(),
                target: "gpt".into(),
                state: BreakerState::Open,
            }]
        })),
        usage: Some(Box::new(|| UsageTotals {
            rows: vec![
                ("accepted", 7),
                ("recovered", 0),
                ("inserted", 0),
                ("unmetered", 0),
                ("dead", 0),
                ("dropped", 0),
            ],
            queue_rows: 2,
            ..Default::default()
        })),
        log_lines_dropped: Some(Box::new(|| 4)),
        limit_values_shared: Some(Box::new(|| 3)),
        cache: Some(Box::new(|| [4, 5])),
        is_ready: Some(Box::new(|| true)),
        is_state_read: Some(Box::new(|| false)),
    });
    metrics
}

#[test]
fn what_is_counted_is_on_the_page() {
    let metrics = metrics_with_sources();
    metrics.requests.inc(Dialect::Messages, Outcome::Timeout);
    let groq = ProviderLabel::from(Provider::from_name("groq").unwrap());
    metrics.attempts.inc(groq, AttemptResult::RateLimited);
    metrics.connection_benched.inc(groq);
    metrics.refused_keys.add(RefusedKey::Unknown, 3);
    let page = Scrape::of(&metrics);
    for (key, value) in [
        ("sluice_requests_total{dialect=\"messages\",outcome=\"timeout\"}", 1.0),
        ("sluice_requests_total{dialect=\"chat\",outcome=\"timeout\"}", 0.0),
        ("sluice_attempts_total{provider=\"groq\",result=\"rate_limited\"}", 1.0),
        ("sluice_connection_benched_total{provider=\"groq\"}", 1.0),
        ("sluice_refused_keys_total{reason=\"unknown\"}", 3.0),
        ("sluice_usage_rows_total{result=\"accepted\"}", 7.0),
        ("sluice_usage_queue_rows", 2.0),
        ("sluice_log_lines_dropped_total", 4.0),
        ("sluice_ready", 1.0),
        ("sluice_state_store_up", 0.0),
        (
            "sluice_breaker_state{workspace=\"acme\",environment=\"production\",\
             deployment=\"a \\\"quoted\\\\\\n name\",target=\"gpt\"}",
            2.0,
        ),
    ] {
        assert!((page.get(key) - value).abs() < f64::EPSILON, "{key}");
    }
    assert!(page.get("process_resident_memory_bytes") > 1e6);
}

#[test]
fn buckets_hold_their_bound_and_everything_below() {
    let metrics = Metrics::default();
    for us in [1, 20, 21, 100_000, 100_001] {
        metrics.overhead.observe(Duration::from_micros(us));
    }
    let page = Scrape::of(&metrics);
    for (key, value) in [
        ("sluice_overhead_seconds_bucket{le=\"0.00002\"}", 2.0),
        ("sluice_overhead_seconds_bucket{le=\"0.00003\"}", 3.0),
        ("sluice_overhead_seconds_bucket{le=\"0.1\"}", 4.0),
        ("sluice_overhead_seconds_bucket{le=\"+Inf\"}", 5.0),
        ("sluice_overhead_seconds_count", 5.0),
        ("sluice_overhead_seconds_sum", 0.200_043),
    ] {
        assert!((page.get(key) - value).abs() < 1e-9, "{key} {}", page.get(key));
    }
}

#[test]
fn gauge_is_back_when_its_holder_is_gone() {
    let metrics = Arc::new(Metrics::default());
    let held = Held::new(&metrics, |metrics| &metrics.in_flight);
    assert_eq!(metrics.in_flight.get(), 1);
    drop(held);
    assert_eq!(metrics.in_flight.get(), 0);
}

#[test]
fn every_metric_is_on_the_page_and_in_the_document() {
    let metrics = metrics_with_sources();
    metrics.attempts.inc(Provider::OpenAi.into(), AttemptResult::Ok);
    let page = metrics.render();
    let document = include_str!("../../../docs/metrics.md");
    for metric in ALL {
        assert!(page.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
        let row = document.lines().find(|line| line.contains(&format!("`{}`", metric.name)));
        let row = row.unwrap_or_else(|| panic!("{} is not documented", metric.name));
        assert!(metric.labels.iter().all(|label| row.contains(&format!("`{label}`"))), "{row}");
        let kind = format!("{:?}", metric.kind).to_lowercase();
        assert!(row.contains(&kind), "{row}");
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"));
    }
    assert_eq!(page.matches("# TYPE ").count(), ALL.len());
    let documented = document.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(documented, ALL.len());
}

#[test]
fn every_label_value_is_in_the_document() {
    let document = include_str!("../../../docs/metrics.md");
    let names = AttemptResult::all()
        .map(Label::name)
        .chain(Malformed::all().map(Label::name))
        .chain(RefusedKey::all().map(Label::name))
        .chain(RefusedConnection::all().map(Label::name))
        .chain(Outcome::ALL.map(Outcome::name));
    for name in names {
        assert!(document.contains(&format!("`{name}`")), "{name}");
    }
}
