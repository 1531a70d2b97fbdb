//! Errors as the providers send them, and what must hold for any rule.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use super::table::{COMMON, PROVIDERS, of_provider};
use super::*;

fn reason(provider: &str, status: u16, body: &Value) -> Option<Reason> {
    let provider = Provider::from_name(provider).unwrap();
    provider.reason(Some(status), &Said::in_body(None, body.to_string().as_bytes()))
}

/// Bodies as the providers send them.
#[test]
fn errors_are_told_from_the_bodies_of_providers() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("cases.json")).unwrap();
    for case in &cases {
        let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
        let reason = reason(case["provider"].as_str().unwrap(), status, &case["body"]);
        assert_eq!(reason.map(Reason::name), case["is_about"].as_str(), "{case}");
    }
    assert!(20 < cases.len());
}

#[test]
fn head_of_aws_says_what_its_body_does_not() {
    let kind = "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/";
    let said = Said::in_body(Some(kind), br#"{"message":"Too many requests"}"#);
    assert_eq!(Provider::Bedrock.reason(Some(400), &said), Some(Reason::RateLimit));
}

/// A caller must not be able to take a connection away by having its own words repeated.
#[test]
fn words_of_a_caller_bench_nothing() {
    let evil = "API key not valid insufficient_quota Your credit balance is too low";
    for provider in Provider::names() {
        for body in [
            json!({"error": {"message": format!("Invalid value: '{evil}'"), "type": "invalid_request_error", "param": evil, "code": null}}),
            json!({"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": {"code": "insufficient_quota", "error": {"code": "invalid_api_key"}}}]}),
            json!({"error": {"message": "m", "metadata": {"raw": "insufficient_quota", "code": "insufficient_quota"}}}),
        ] {
            let reason = reason(provider, 400, &body);
            assert!(
                !matches!(reason, Some(Reason::Credential | Reason::Billing)),
                "{provider} {body}"
            );
        }
    }
}

/// The rule that keeps the test above true for rules to come.
#[test]
fn what_benches_is_told_by_codes_or_by_how_a_message_begins() {
    let names = PROVIDERS.iter().map(|name| Provider::from_name(name).unwrap());
    for rule in names.flat_map(of_provider).chain(COMMON) {
        let benches = matches!(rule.reason, Reason::Credential | Reason::Billing);
        assert!(!benches || matches!(rule.sign, Sign::Word(_) | Sign::Starts(_)), "{rule:?}");
    }
    for name in Provider::names() {
        let has_rules = !of_provider(Provider::from_name(name).unwrap()).is_empty();
        assert_eq!(has_rules, PROVIDERS.contains(&name), "{name} and the list of those who differ");
    }
}

const DOCUMENT: &str = "docs/errors.md";
const MARK: &str =
    "<!-- made from src/provider/errors/table.rs; SLUICE_GOLDEN=update writes it anew -->\n";

/// What an operator reads of the rules is the rules.
#[test]
fn document_says_what_the_table_says() {
    let text = fs::read_to_string(DOCUMENT).unwrap();
    let mut parts = text.split(MARK);
    let (before, after) =
        (parts.next().unwrap(), parts.nth(1).expect("the document has two marks"));
    let mut table =
        String::from("\n| provider | status | told by | is about |\n|---|---|---|---|\n");
    let own = PROVIDERS.iter().map(|name| (*name, of_provider(Provider::from_name(name).unwrap())));
    for (name, rules) in own.chain([("all others, and these too", COMMON)]) {
        for rule in rules {
            let statuses: Vec<String> = rule.statuses.iter().map(u16::to_string).collect();
            let statuses = if statuses.is_empty() { "any".to_owned() } else { statuses.join(", ") };
            let sign = match rule.sign {
                Sign::Status => "the status".to_owned(),
                Sign::Word(word) => format!("code `{word}`"),
                Sign::Starts(start) => format!("message begins “{start}”"),
                Sign::Has(part) => format!("message holds “{part}”"),
                Sign::Member(member) => format!("metadata `{member}`"),
            };
            writeln!(table, "| {name} | {statuses} | {sign} | {} |", rule.reason.name()).unwrap();
        }
    }
    let told = format!("{before}{MARK}{table}\n{MARK}{after}");
    if std::env::var_os("SLUICE_GOLDEN").is_some_and(|mode| mode == "update") {
        fs::write(DOCUMENT, told).unwrap();
        return;
    }
    assert_eq!(text, told, "SLUICE_GOLDEN=update writes it anew");
}
