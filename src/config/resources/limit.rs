//! Limits and budgets, on anything that can have them.

use super::model::parse_decimal;
use super::names::is_metadata_key;
use crate::config::fields::{Fields, Item};
use crate::limit::{Dimension, Limit, Metric, Mode, OnError, Period};

/// Each request meets all limits of its owners, so their number is bounded.
const LIMITS_MAX: usize = 16;

/// The field `limits`.
pub(super) fn limits(fields: &Fields<'_>) -> Vec<Limit> {
    let Some(item) = fields.get("limits") else { return Vec::new() };
    let items = item.list().unwrap_or_default();
    if LIMITS_MAX < items.len() {
        item.problem(format!("must not have more than {LIMITS_MAX} limits"));
    }
    let mut limits: Vec<Limit> = Vec::with_capacity(items.len());
    for item in &items {
        let Some(limit) = item.fields().and_then(limit) else { continue };
        if limits.iter().any(|other| other.key() == limit.key()) {
            item.problem("a limit with this metric, period and dimension stands here already");
        }
        limits.push(limit);
    }
    limits
}

fn limit(fields: Fields<'_>) -> Option<Limit> {
    let metrics = Metric::ALL.map(|metric| (metric.name(), metric));
    let periods = Period::ALL.map(|period| (period.name(), period));
    let metric = fields.require("metric").and_then(|item| item.choice(&metrics));
    let period = if metric == Some(Metric::Concurrent) {
        // What runs at once has no period; one that is given says nothing.
        fields
            .get("period")
            .map_or(Some(Period::Lifetime), |item| item.choice(&periods).map(|_| Period::Lifetime))
    } else {
        fields.require("period").and_then(|item| item.choice(&periods))
    };
    let amount = fields.require("amount").and_then(|item| amount(&item, metric));
    let dimension = fields.get("dimension").map(|item| dimension(&item));
    let mode =
        fields.choice("mode", &[("local", Mode::Local), ("shared", Mode::Shared)], Mode::Local);
    let on_error = fields.choice(
        "on_error",
        &[("allow_local", OnError::AllowLocal), ("deny", OnError::Deny)],
        OnError::AllowLocal,
    );
    fields.finish();
    let dimension = dimension.map_or(Some(None), |dimension| dimension.map(Some))?;
    Some(Limit { metric: metric?, period: period?, dimension, amount: amount?, mode, on_error })
}

/// A whole number, or dollars.
fn amount(item: &Item<'_>, metric: Option<Metric>) -> Option<u64> {
    let text = item.decimal()?;
    let amount = match metric {
        Some(Metric::Cost) => parse_decimal(text).ok(),
        _ => text.parse().ok(),
    };
    if amount.is_none() {
        item.problem("must be a whole number, or dollars as a decimal for `cost_usd`");
    }
    amount
}

fn dimension(item: &Item<'_>) -> Option<Dimension> {
    let text = item.text()?;
    let is_key = text.strip_prefix("metadata.").is_none_or(is_metadata_key);
    let dimension = Dimension::from_name(text).filter(|_| is_key);
    if dimension.is_none() {
        item.problem("must be `source_ip`, `end_user` or `metadata.<key>`");
    }
    dimension
}
