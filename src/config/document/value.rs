//! The tree as JSON, and back: how a resource lies in the state store.

use serde_json::{Map, Number, Value as Json};

use super::{Entry, Node, Table, Value};

/// Digits up to here survive a floating-point number.
const DIGITS_EXACT: usize = 15;

impl Node {
    /// What `json` holds, as if it stood in one line.
    pub fn from_json(json: &Json) -> Self {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Flag(*flag),
            Json::Number(number) => Value::Number(number.to_string()),
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(fields) => Value::Table(Table::from_json(fields)),
        };
        Self { line: 1, value }
    }

    /// Without the fields that are null. A number that JSON could not keep exactly is a text, which
    /// every reader of exact numbers takes as well.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null | Value::Refused => Json::Null,
            Value::Flag(flag) => Json::Bool(*flag),
            Value::Number(digits) => number(digits),
            Value::Text(text) | Value::Date(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Table(table) => Json::Object(table.to_json()),
        }
    }
}

impl Node {
    /// The first value in it that is something else in JSON: a date, or a number that only a text
    /// keeps exactly.
    pub fn unlike_json(&self) -> Option<&Self> {
        match &self.value {
            Value::Null | Value::Flag(_) | Value::Text(_) => None,
            Value::Number(digits) => matches!(number(digits), Json::String(_)).then_some(self),
            Value::Date(_) | Value::Refused => Some(self),
            Value::List(items) => items.iter().find_map(Self::unlike_json),
            Value::Table(table) => table.entries.iter().find_map(|entry| entry.node.unlike_json()),
        }
    }

    /// As [`Self::to_json`], with the fields that are null: a patch removes by them.
    pub fn to_json_with_nulls(&self) -> Json {
        match &self.value {
            Value::List(items) => Json::Array(items.iter().map(Self::to_json_with_nulls).collect()),
            Value::Table(table) => {
                let entries = table.entries.iter();
                let field = |entry: &Entry| (entry.key.clone(), entry.node.to_json_with_nulls());
                Json::Object(entries.map(field).collect())
            }
            _ => self.to_json(),
        }
    }
}

impl Table {
    pub fn from_json(fields: &Map<String, Json>) -> Self {
        let entry = |(key, value): (&String, &Json)| Entry {
            key: key.clone(),
            line: 1,
            node: Node::from_json(value),
        };
        Self { entries: fields.iter().map(entry).collect() }
    }

    pub fn to_json(&self) -> Map<String, Json> {
        let fields = self.entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json()));
        fields.filter(|(_, value)| !value.is_null()).collect()
    }

    /// Adds or replaces the text `key`.
    pub fn set_text(&mut self, key: &str, text: &str) {
        self.set(key, Value::Text(text.to_owned()));
    }

    pub fn set(&mut self, key: &str, value: Value) {
        let node = Node { line: 1, value };
        match self.get_mut(key) {
            Some(entry) => entry.node = node,
            None => self.entries.push(Entry { key: key.to_owned(), line: 1, node }),
        }
    }
}

fn number(digits: &str) -> Json {
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.into();
    }
    if let Ok(whole) = digits.parse::<i64>() {
        return whole.into();
    }
    let n_digits = digits.bytes().filter(u8::is_ascii_digit).count();
    let float = digits.parse().ok().filter(|_| n_digits <= DIGITS_EXACT).and_then(Number::from_f64);
    float.map_or_else(|| Json::String(digits.to_owned()), Json::Number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn exact_numbers_stay_exact() {
        for (digits, kept) in [
            ("2.50", json!(2.5)),
            ("0.000000001", json!(1e-9)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-3", json!(-3)),
            ("999999.123456789", json!(999_999.123_456_789)),
            ("1000000.1234567891", json!("1000000.1234567891")),
            (
                "340282366920938463463374607431768211455",
                json!("340282366920938463463374607431768211455"),
            ),
        ] {
            assert_eq!(number(digits), kept);
        }
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|fields| Json::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_comes_back(json in json()) {
            prop_assert_eq!(Node::from_json(&json).to_json(), json);
        }
    }
}
