//! Parameters and instructions that are added to requests.

use serde_json::Value as Json;

use super::Params;
use crate::config::fields::{Fields, Item};

const PARAMS_MAX: usize = 64;
const PARAMS_BYTES_MAX: usize = 64 * 1024;
const INSTRUCTIONS_BYTES_MAX: usize = 64 * 1024;
const DEPTH_MAX: usize = 32;

/// What a request says for itself, or what the gateway says.
const RESERVED: [&str; 10] = [
    "model",
    "messages",
    "input",
    "prompt",
    "system",
    "instructions",
    "stream",
    "stream_options",
    "previous_response_id",
    "sluice",
];

/// The table `name`, each value as JSON.
pub(super) fn params(fields: &Fields<'_>, name: &'static str) -> Params {
    let Some(table) = fields.get(name) else { return Params::new() };
    let Some(entries) = table.fields() else { return Params::new() };
    let params: Params = entries.entries().filter_map(|(key, item)| param(key, &item)).collect();
    if PARAMS_MAX < params.len() {
        table.problem(format!("must not hold more than {PARAMS_MAX} parameters"));
    }
    if PARAMS_BYTES_MAX < params.iter().map(|(key, value)| key.len() + value.len()).sum() {
        table.problem(format!("must not be longer than {PARAMS_BYTES_MAX} bytes as JSON"));
    }
    params
}

fn param(key: &str, item: &Item<'_>) -> Option<(String, String)> {
    if RESERVED.contains(&key) {
        item.problem(match key {
            "system" | "instructions" => "is set by `instructions` of the deployment",
            _ => "belongs to the request and cannot be set here",
        });
        return None;
    }
    let value = item.json()?;
    if is_deeper(&value, DEPTH_MAX) {
        item.problem(format!("is nested deeper than {DEPTH_MAX} levels"));
        return None;
    }
    // Null is as good as not there, as everywhere in a document.
    (!value.is_null()).then(|| (key.to_owned(), value.to_string()))
}

fn is_deeper(value: &Json, depth: usize) -> bool {
    match (value, depth.checked_sub(1)) {
        (_, None) => true,
        (Json::Array(items), Some(left)) => items.iter().any(|item| is_deeper(item, left)),
        (Json::Object(members), Some(left)) => {
            members.values().any(|member| is_deeper(member, left))
        }
        _ => false,
    }
}

/// The text `instructions`; none when it is empty.
pub(super) fn instructions(fields: &Fields<'_>) -> Option<String> {
    let item = fields.get("instructions")?;
    let text = item.text()?;
    if INSTRUCTIONS_BYTES_MAX < text.len() {
        item.problem(format!("must not be longer than {INSTRUCTIONS_BYTES_MAX} bytes"));
    }
    (!text.is_empty()).then(|| text.to_owned())
}
