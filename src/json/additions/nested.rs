//! Additions to the bodies of dialects that have their parameters one level deeper, and under names
//! of their own. These bodies are translated or short, and a tree of one does no harm.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Additions, ScanError};

/// Where a dialect has what is added.
#[derive(Debug)]
pub struct Nested {
    /// The member that holds the parameters below.
    section: &'static str,
    /// The name of a parameter as configured, and as it is here.
    names: &'static [(&'static str, &'static str)],
    instruct: fn(&mut Map<String, Value>, &str),
}

/// `generateContent`.
pub static GOOGLE: Nested = Nested {
    section: "generationConfig",
    names: &[
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("top_k", "topK"),
        ("max_tokens", "maxOutputTokens"),
        ("max_completion_tokens", "maxOutputTokens"),
        ("max_output_tokens", "maxOutputTokens"),
        ("stop", "stopSequences"),
        ("seed", "seed"),
        ("presence_penalty", "presencePenalty"),
        ("frequency_penalty", "frequencyPenalty"),
    ],
    instruct: instruct_google,
};

/// `/api/chat` and `/api/generate`.
pub static OLLAMA: Nested = Nested {
    section: "options",
    names: &[
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("top_k", "top_k"),
        ("max_tokens", "num_predict"),
        ("max_completion_tokens", "num_predict"),
        ("max_output_tokens", "num_predict"),
        ("stop", "stop"),
        ("seed", "seed"),
        ("presence_penalty", "presence_penalty"),
        ("frequency_penalty", "frequency_penalty"),
    ],
    instruct: instruct_ollama,
};

impl Additions {
    /// `body` with all additions. A parameter that the dialect has no other name for stands at the
    /// top level.
    pub fn apply_nested(&self, body: &Bytes, nested: &Nested) -> Result<Bytes, ScanError> {
        let Ok(Value::Object(mut map)) = serde_json::from_slice::<Value>(body) else {
            return Err(ScanError::NotAnObject);
        };
        for param in &self.params {
            let Ok(mut value) = serde_json::from_str::<Value>(param.value()) else { continue };
            let name = nested.names.iter().find(|(configured, _)| *configured == &*param.key);
            let (place, name) = match name {
                Some((_, name)) => {
                    if *name == "stopSequences" && value.is_string() {
                        value = json!([value]);
                    }
                    (section(&mut map, nested.section), *name)
                }
                None => (Some(&mut map), &*param.key),
            };
            if let Some(place) = place
                && (param.is_override || !place.contains_key(name))
            {
                place.insert(name.to_owned(), value);
            }
        }
        if !self.instructions.is_empty() {
            let text = serde_json::from_str::<String>(&format!("\"{}\"", self.instructions));
            (nested.instruct)(&mut map, &text.unwrap_or_default());
        }
        Ok(Value::Object(map).to_string().into())
    }
}

/// The object `name`; `None` where a client has something else under that name.
fn section<'a>(map: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    map.entry(name).or_insert_with(|| json!({})).as_object_mut()
}

/// A part before those of the client.
fn instruct_google(map: &mut Map<String, Value>, text: &str) {
    let name = if map.contains_key("system_instruction") {
        "system_instruction"
    } else {
        "systemInstruction"
    };
    let own = match map.shift_remove(name) {
        Some(Value::String(text)) => vec![json!({"text": text})],
        Some(Value::Object(mut own)) => match own.shift_remove("parts") {
            Some(Value::Array(parts)) => parts,
            Some(part) => vec![part],
            None => Vec::new(),
        },
        _ => Vec::new(),
    };
    let mut parts = vec![json!({"text": text})];
    parts.extend(own);
    map.insert(name.to_owned(), json!({"parts": parts}));
}

/// A message before those of the client, or lines before its `system`.
fn instruct_ollama(map: &mut Map<String, Value>, text: &str) {
    if let Some(Value::Array(messages)) = map.get_mut("messages") {
        messages.insert(0, json!({"role": "system", "content": text}));
        return;
    }
    let own = map.get("system").and_then(Value::as_str).filter(|own| !own.is_empty());
    let whole = own.map_or_else(|| text.to_owned(), |own| format!("{text}\n\n{own}"));
    map.insert("system".to_owned(), whole.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(nested: &Nested, body: &Value) -> Value {
        let defaults = [("temperature", "0.2"), ("stop", "\"x\""), ("safetySettings", "[]")];
        let overrides = [("max_tokens", "9")];
        let additions = Additions::new(defaults, overrides, "be \"kind\"").unwrap();
        let body = additions.apply_nested(&body.to_string().into(), nested).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn parameters_go_where_google_has_them() {
        let body = json!({
            "contents": [], "generationConfig": {"temperature": 1, "maxOutputTokens": 100},
            "system_instruction": {"parts": [{"text": "own"}]},
        });
        let expected = json!({
            "contents": [], "safetySettings": [],
            "generationConfig": {"temperature": 1, "maxOutputTokens": 9, "stopSequences": ["x"]},
            "system_instruction": {"parts": [{"text": "be \"kind\""}, {"text": "own"}]},
        });
        assert_eq!(added(&GOOGLE, &body), expected);
    }

    #[test]
    fn parameters_go_where_ollama_has_them() {
        let config = json!({"temperature": 0.2, "stop": "x", "num_predict": 9});
        let system = json!({"role": "system", "content": "be \"kind\""});
        assert_eq!(
            added(&OLLAMA, &json!({"messages": []})),
            json!({"messages": [system], "options": config, "safetySettings": []})
        );
        assert_eq!(
            added(&OLLAMA, &json!({"prompt": "p", "system": "own"})),
            json!({
                "prompt": "p", "system": "be \"kind\"\n\nown", "options": config,
                "safetySettings": [],
            })
        );
    }
}
