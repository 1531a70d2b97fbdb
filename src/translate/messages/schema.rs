//! JSON schemas as Anthropic takes them for answers.

use serde_json::{Map, Value};

/// Bounds that are not enforced; they are told in the description instead.
const BOUNDS: [&str; 11] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
];

/// `schema` with its bounds in words.
pub(super) fn without_bounds(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut told = Vec::new();
            let mut kept = Map::new();
            for (name, value) in map {
                if BOUNDS.contains(&name.as_str()) && value.is_number() {
                    told.push(format!("{name}: {value}"));
                } else {
                    kept.insert(name.clone(), without_bounds(value));
                }
            }
            if !told.is_empty() {
                let told = told.join(", ");
                let text = match kept.get("description").and_then(Value::as_str) {
                    Some(text) => format!("{text} ({told})"),
                    None => told,
                };
                kept.insert("description".to_owned(), text.into());
            }
            Value::Object(kept)
        }
        Value::Array(list) => list.iter().map(without_bounds).collect(),
        other => other.clone(),
    }
}
