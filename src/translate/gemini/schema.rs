//! Schemas as Google writes them -> JSON Schema.

use serde_json::{Map, Value, json};

/// Types are in capitals there, numbers of things are texts, and null is told by a member.
pub(super) fn json_schema(schema: Value) -> Value {
    let Value::Object(map) = schema else { return schema };
    let is_nullable = map.get("nullable") == Some(&Value::Bool(true));
    let mut out = Map::new();
    for (name, value) in map {
        let value = match name.as_str() {
            "nullable" | "propertyOrdering" | "property_ordering" => continue,
            "type" => kind(value, is_nullable),
            "properties" | "$defs" | "defs" => each(value),
            "items" | "additionalProperties" => json_schema(value),
            "anyOf" | "any_of" | "prefixItems" => match value {
                Value::Array(list) => list.into_iter().map(json_schema).collect(),
                value => value,
            },
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties"
            | "maxProperties" => number(value),
            _ => value,
        };
        let name = if name == "any_of" { "anyOf".to_owned() } else { name };
        out.insert(name, value);
    }
    Value::Object(out)
}

fn kind(value: Value, is_nullable: bool) -> Value {
    let Value::String(kind) = value else { return value };
    let kind = kind.to_ascii_lowercase();
    if is_nullable { json!([kind, "null"]) } else { kind.into() }
}

fn each(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().map(|(name, schema)| (name, json_schema(schema))).collect()
        }
        value => value,
    }
}

fn number(value: Value) -> Value {
    match &value {
        Value::String(text) => text.parse::<u64>().map_or(value, Value::from),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_of_google_is_one_of_json() {
        let schema = json!({
            "type": "OBJECT", "propertyOrdering": ["type", "n"], "required": ["type"],
            "properties": {
                "type": {"type": "STRING", "nullable": true, "enum": ["A"]},
                "n": {"type": "ARRAY", "minItems": "2", "items": {"type": "INTEGER"}},
                "either": {"anyOf": [{"type": "NUMBER"}, {"type": "BOOLEAN"}]},
            },
        });
        let expected = json!({
            "type": "object", "required": ["type"],
            "properties": {
                "type": {"type": ["string", "null"], "enum": ["A"]},
                "n": {"type": "array", "minItems": 2, "items": {"type": "integer"}},
                "either": {"anyOf": [{"type": "number"}, {"type": "boolean"}]},
            },
        });
        assert_eq!(json_schema(schema), expected);
        assert_eq!(json_schema(expected.clone()), expected);
    }
}
