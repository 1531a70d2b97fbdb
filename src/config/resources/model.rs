//! Models: an alias for a provider's model, and its price.

use super::limit::limits;
use super::names::{Names, check_form, refer};
use super::workspace::{check_description, check_labels};
use super::{Model, ModelKind};
use crate::config::fields::{Fields, Item};
use crate::price::Price;

const TOKENS_MAX: u64 = 1_000_000_000;

/// A million dollars per million tokens.
const DOLLARS_MAX: u64 = 1_000_000;
const NANO: u64 = 1_000_000_000;

pub(super) fn read(fields: Fields<'_>, names: &mut Names, connections: &[&Names]) -> Model {
    let alias = names.declare(&fields, "alias");
    let connection = fields.require("connection");
    let connection = connection.map(|item| refer(&item, "connection", connections));
    let upstream_model = fields.get("upstream_model").and_then(|item| {
        let name = item.text()?;
        check_form(&item, name);
        Some(name.to_owned())
    });
    let kinds = [
        ("chat", ModelKind::Chat),
        ("embedding", ModelKind::Embedding),
        ("image", ModelKind::Image),
        ("audio", ModelKind::Audio),
        ("rerank", ModelKind::Rerank),
        ("moderation", ModelKind::Moderation),
    ];
    let kind = fields.choice("kind", &kinds, ModelKind::Chat);
    let capabilities = fields.items("capabilities");
    let tokens = |name| fields.get(name).and_then(|item| item.number(&(1..=TOKENS_MAX)));
    let model = Model {
        upstream_model: upstream_model.unwrap_or_else(|| alias.clone()),
        alias,
        connection: connection.unwrap_or_default(),
        kind,
        capabilities: capabilities.iter().filter_map(Item::text).map(str::to_owned).collect(),
        context_window: tokens("context_window"),
        output_tokens_max: tokens("max_output_tokens"),
        price: price(&fields, kind),
        limits: limits(&fields),
        enabled: fields.flag("enabled", true),
    };
    check_description(&fields);
    check_labels(&fields);
    fields.finish();
    model
}

fn price(fields: &Fields<'_>, kind: ModelKind) -> Option<Price> {
    let item = fields.get("price");
    if let Some(source) = fields.get("price_source") {
        let is_users = source.choice(&[("user", true), ("catalogue", false)]);
        match (is_users, &item) {
            (Some(true), None) => source.problem("`user` needs a `price`"),
            (Some(false), Some(_)) => source.problem("`catalogue` contradicts the `price` given"),
            _ => {}
        }
    }
    let fields = item?.fields()?;
    let dollars = |name| fields.get(name).and_then(|item| nano_dollars(&item));
    // Only what generates text has an output price of its own.
    let output =
        if kind == ModelKind::Chat { fields.require("output") } else { fields.get("output") };
    let price = Price {
        input: fields.require("input").and_then(|item| nano_dollars(&item)).unwrap_or(0),
        output: output.and_then(|item| nano_dollars(&item)).unwrap_or(0),
        cache_read: dollars("cache_read"),
        cache_write_5m: dollars("cache_write"),
        cache_write_1h: dollars("cache_write_1h"),
        reasoning: dollars("reasoning"),
        audio_in: dollars("audio_in"),
        audio_out: dollars("audio_out"),
    };
    fields.finish();
    Some(price)
}

fn nano_dollars(item: &Item<'_>) -> Option<u64> {
    let text = item.decimal()?;
    parse_decimal(text).map_err(|fault| item.problem(fault)).ok()
}

/// Decimal dollars in nano-dollars: `2.50` is 2 500 000 000.
pub(super) fn parse_decimal(text: &str) -> Result<u64, &'static str> {
    const FORM: &str = "must be dollars per million tokens as a decimal, as \"2.50\"";
    const TOO_HIGH: &str = "must not be more than 1000000 dollars";
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(FORM);
    }
    // Zeros at the end do not count: a generated document may hold "2.5000000000".
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("must not have more than 9 decimals");
    }
    let dollars: u64 = whole.parse().map_err(|_| TOO_HIGH)?;
    let nano: u64 = format!("{fraction:0<9}").parse().map_err(|_| FORM)?;
    if dollars > DOLLARS_MAX || (dollars == DOLLARS_MAX && nano != 0) {
        return Err(TOO_HIGH);
    }
    Ok(dollars * NANO + nano)
}
