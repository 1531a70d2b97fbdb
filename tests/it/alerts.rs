//! The alert rules of `conf/prometheus`: each asks for metrics that exist, with labels and values
//! that they have. What exists is the table of `docs/metrics.md`, which another test holds to the code.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser};

const RULES: &str = include_str!("../../conf/prometheus/sluice.rules.yaml");
const METRICS: &str = include_str!("../../docs/metrics.md");

/// Made by Prometheus itself.
const OF_PROMETHEUS: [&str; 3] = ["job", "instance", "le"];

#[test]
fn rules_ask_for_what_there_is() {
    let metrics = documented();
    let expressions = expressions();
    assert!(expressions.len() > 15, "{}", expressions.len());
    for expression in &expressions {
        let asked = selectors(expression);
        assert!(!asked.is_empty(), "no metric in {expression}");
        for (name, matchers) in asked {
            if name == "up" {
                continue;
            }
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(&name);
            let labels =
                metrics.get(base).unwrap_or_else(|| panic!("no metric {name}: {expression}"));
            for (label, values) in matchers {
                let is_known = labels.contains(&label) || OF_PROMETHEUS.contains(&label.as_str());
                assert!(is_known, "{name} has no label {label}");
                if OF_PROMETHEUS.contains(&label.as_str()) {
                    continue;
                }
                for value in values.split('|') {
                    let is_documented = METRICS.contains(&format!("`{value}`"));
                    assert!(is_documented, "{name} has no {label} {value}");
                }
            }
        }
    }
}

#[test]
fn every_rule_has_its_parts() {
    let n_alerts = RULES.matches("- alert: Sluice").count();
    for part in ["expr: ", "labels: {severity: ", "summary: \"", "description: \""] {
        assert_eq!(RULES.matches(part).count(), n_alerts, "{part}");
    }
    assert_eq!(expressions().len(), n_alerts);
}

/// The texts under `expr`.
fn expressions() -> Vec<String> {
    let mut found = Vec::new();
    let mut is_expression = false;
    for event in Parser::new_from_str(RULES) {
        if let Event::Scalar(text, ..) = event.unwrap().0 {
            if is_expression {
                found.push(text.to_string());
            }
            is_expression = text == "expr";
        }
    }
    found
}

/// Metric → its labels.
fn documented() -> BTreeMap<String, Vec<String>> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    METRICS
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells = cells(line);
            let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
            (cells[1].trim_matches('`').to_owned(), labels.collect())
        })
        .collect()
}

/// A metric and the labels that it is selected by.
type Selector = (String, Vec<(String, String)>);

/// The metrics of an expression, each with its matchers: (label, value).
fn selectors(expression: &str) -> Vec<Selector> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_word) {
        rest = &rest[start..];
        let word = &rest[..rest.find(|letter| !is_word(letter)).unwrap_or(rest.len())];
        rest = &rest[word.len()..];
        if !word.starts_with("sluice_") && !word.starts_with("process_") && word != "up" {
            continue;
        }
        let mut matchers = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            let (inside, after) = inside.split_once('}').unwrap();
            for matcher in inside.split(',') {
                let (label, value) = matcher.split_once('=').unwrap();
                let value = value.trim_matches(['~', '"']);
                matchers.push((label.trim_end_matches('!').to_owned(), value.to_owned()));
            }
            rest = after;
        }
        found.push((word.to_owned(), matchers));
    }
    found
}
