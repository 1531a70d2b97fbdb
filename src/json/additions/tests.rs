//! Tests of what is added to bodies.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const NOTHING: Taken = Taken { params: true, instructions: None };

fn at(place: Place) -> Taken {
    Taken { params: true, instructions: Some(place) }
}

fn applied(additions: &Additions, taken: Taken, body: &str) -> Result<String, ScanError> {
    let body = additions.apply(&Bytes::copy_from_slice(body.as_bytes()), taken)?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

fn instructed(place: Place, body: &str) -> Result<String, ScanError> {
    let additions = Additions::new([], [], "say \"hi\"").unwrap();
    applied(&additions, at(place), body)
}

fn with_params(body: &str) -> String {
    let defaults = [("temperature", "0.5"), ("top_p", "1"), ("seed", "1")];
    let overrides = [("seed", "[2]"), ("a\"b", "{\"c\":null}")];
    let additions = Additions::new(defaults, overrides, "").unwrap();
    applied(&additions, NOTHING, body).unwrap()
}

#[test]
fn defaults_yield_and_overrides_do_not() {
    let mut table = String::new();
    for body in [
        r#"{"model":"m"}"#,
        "{}",
        r#"{ "temperature" : 0.1 , "model":"m"}"#,
        r#"{"seed": 7,"model":"m","temperature":null}"#,
        r#"{"seed":7,"s\u0065ed":{"seed":8},"a\"b":"x","top_p":0,"temperature":1}"#,
        r#"{"messages":[{"seed":7}],"model":"m"}"#,
    ] {
        table += &format!("{body}\n    {}\n", with_params(body));
    }
    insta::assert_snapshot!(table, @r#"
    {"model":"m"}
        {"seed":[2],"a\"b":{"c":null},"temperature":0.5,"top_p":1,"model":"m"}
    {}
        {"seed":[2],"a\"b":{"c":null},"temperature":0.5,"top_p":1}
    { "temperature" : 0.1 , "model":"m"}
        {"seed":[2],"a\"b":{"c":null},"top_p":1, "temperature" : 0.1 , "model":"m"}
    {"seed": 7,"model":"m","temperature":null}
        {"a\"b":{"c":null},"top_p":1,"seed": [2],"model":"m","temperature":null}
    {"seed":7,"s\u0065ed":{"seed":8},"a\"b":"x","top_p":0,"temperature":1}
        {"seed":[2],"s\u0065ed":[2],"a\"b":{"c":null},"top_p":0,"temperature":1}
    {"messages":[{"seed":7}],"model":"m"}
        {"seed":[2],"a\"b":{"c":null},"temperature":0.5,"top_p":1,"messages":[{"seed":7}],"model":"m"}
    "#);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn instructions_stand_before_the_clients_own() {
    let mut table = String::new();
    for (place, body) in [
        (Place::Messages, r#"{"messages":[{"role":"user","content":"x"}]}"#),
        (Place::Messages, r#"{"messages":[{"role":"system","content":"x"},{"role":"user"}]}"#),
        (Place::Messages, r#"{"messages":[ {"content" : "" , "role":"developer"}]}"#),
        (Place::Messages, r#"{"messages":[{"role":"system","content":[{"type":"text"}]}]}"#),
        (Place::Messages, r#"{"messages":[{"role":"system","content":[ ]}]}"#),
        (Place::Messages, r#"{"messages":[{"role":"user"},{"role":"developer","content":"x"}]}"#),
        (Place::Messages, r#"{"messages":[{"role":"system","content":"a","content":"b"}]}"#),
        (Place::Messages, r#"{"messages":[{"role":"system","role":"user","content":"b"}]}"#),
        (Place::Messages, r#"{"messages":[{"role":"system","content":null}]}"#),
        (Place::Messages, r#"{"messages":["system"]}"#),
        (Place::Messages, r#"{"messages":[ ]}"#),
        (Place::Messages, r#"{"messages":{}}"#),
        (Place::Messages, r#"{"model":"m"}"#),
        (Place::Instructions, r#"{"input":"x"}"#),
        (Place::Instructions, r#"{"instructions":"x","input":"x"}"#),
        (Place::Instructions, r#"{"instructions": null ,"input":"x"}"#),
        (Place::Instructions, r#"{"instructions":["x"]}"#),
        (Place::Instructions, r#"{"instructions":"x","instr\u0075ctions":"y"}"#),
        (Place::System, r#"{"messages":[]}"#),
        (Place::System, r#"{"system":"x"}"#),
        (Place::System, r#"{"system":[{"type":"text","text":"x"}]}"#),
        (Place::System, r#"{"system":[]}"#),
        (Place::System, r#"{"system":7}"#),
    ] {
        let shown = match instructed(place, body) {
            Ok(body) => body,
            Err(error) => format!("refused: {error}"),
        };
        table += &format!("{body}\n    {shown}\n");
    }
    insta::assert_snapshot!(table, @r#"
    {"messages":[{"role":"user","content":"x"}]}
        {"messages":[{"role":"system","content":"say \"hi\""},{"role":"user","content":"x"}]}
    {"messages":[{"role":"system","content":"x"},{"role":"user"}]}
        {"messages":[{"role":"system","content":"say \"hi\"\n\nx"},{"role":"user"}]}
    {"messages":[ {"content" : "" , "role":"developer"}]}
        {"messages":[ {"content" : "say \"hi\"" , "role":"developer"}]}
    {"messages":[{"role":"system","content":[{"type":"text"}]}]}
        {"messages":[{"role":"system","content":[{"type":"text","text":"say \"hi\""},{"type":"text"}]}]}
    {"messages":[{"role":"system","content":[ ]}]}
        {"messages":[{"role":"system","content":[{"type":"text","text":"say \"hi\""} ]}]}
    {"messages":[{"role":"user"},{"role":"developer","content":"x"}]}
        {"messages":[{"role":"developer","content":"say \"hi\""},{"role":"user"},{"role":"developer","content":"x"}]}
    {"messages":[{"role":"system","content":"a","content":"b"}]}
        {"messages":[{"role":"system","content":"say \"hi\""},{"role":"system","content":"a","content":"b"}]}
    {"messages":[{"role":"system","role":"user","content":"b"}]}
        {"messages":[{"role":"system","content":"say \"hi\""},{"role":"system","role":"user","content":"b"}]}
    {"messages":[{"role":"system","content":null}]}
        {"messages":[{"role":"system","content":"say \"hi\""},{"role":"system","content":null}]}
    {"messages":["system"]}
        {"messages":[{"role":"system","content":"say \"hi\""},"system"]}
    {"messages":[ ]}
        {"messages":[{"role":"system","content":"say \"hi\""} ]}
    {"messages":{}}
        refused: `messages` must be an array
    {"model":"m"}
        {"model":"m"}
    {"input":"x"}
        {"instructions":"say \"hi\"","input":"x"}
    {"instructions":"x","input":"x"}
        {"instructions":"say \"hi\"\n\nx","input":"x"}
    {"instructions": null ,"input":"x"}
        {"instructions": "say \"hi\"" ,"input":"x"}
    {"instructions":["x"]}
        refused: `instructions` must be a string
    {"instructions":"x","instr\u0075ctions":"y"}
        refused: the request body has two `instructions` fields; send one
    {"messages":[]}
        {"system":"say \"hi\"","messages":[]}
    {"system":"x"}
        {"system":"say \"hi\"\n\nx"}
    {"system":[{"type":"text","text":"x"}]}
        {"system":[{"type":"text","text":"say \"hi\""},{"type":"text","text":"x"}]}
    {"system":[]}
        {"system":[{"type":"text","text":"say \"hi\""}]}
    {"system":7}
        refused: `system` must be a string or an array of blocks
    "#);
}

#[test]
fn code_to_be_filled_in_takes_no_instructions() {
    for text in [
        "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
        "<fim_prefix>a<fim_suffix>b",
        r"\u003c|fim_prefix|\u003ea\u003c|fim_suffix|\u003e",
        "<\u{ff5c}fim\u{2581}begin\u{ff5c}>a<\u{ff5c}fim\u{2581}hole\u{ff5c}>",
        r"<\uff5cfim\u2581begin\uff5c>a<\uff5cfim\u2581hole\uff5c>",
        "<|code_prefix|>a<|code_suffix|>",
        "<PRE> a <SUF> b <MID>",
        "[SUFFIX]b[PREFIX]a",
    ] {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        assert_eq!(instructed(Place::Messages, &body).as_deref(), Ok(body.as_str()));
    }
    for text in ["what are fim_prefix and fim_suffix?", "<fim_prefix>a", "<PRE> [SUFFIX]"] {
        assert!(!is_fim(text), "{text}");
    }
}

#[test]
fn without_additions_there_is_nothing() {
    assert_eq!(Additions::new([], [], ""), None);
    let body = Bytes::from_static(b"{\"model\":\"m\"}");
    let additions = Additions::new([("a", "1")], [], "x").unwrap();
    let taken = Taken { params: false, instructions: None };
    assert_eq!(additions.apply(&body, taken).unwrap().as_ptr(), body.as_ptr());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c\"\\\\\u{e9}\n]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            object(inner).prop_map(Value::from),
        ]
    })
}

/// Few keys, so that they meet.
fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[a-d\"]{1,2}", value, 0..5)
        .prop_map(|members| members.into_iter().collect())
}

fn texts(object: &Map<String, Value>) -> Vec<(String, String)> {
    object.iter().map(|(key, value)| (key.clone(), value.to_string())).collect()
}

fn refs(texts: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    texts.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

/// What stands in the system prompt of a chat, in order.
fn system_texts(body: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for message in body["messages"].as_array().unwrap() {
        if !["system", "developer"].contains(&message["role"].as_str().unwrap_or_default()) {
            continue;
        }
        match &message["content"] {
            Value::Array(parts) => {
                found.extend(
                    parts.iter().filter_map(|part| Some(part["text"].as_str()?.to_owned())),
                );
            }
            content => found.extend(content.as_str().map(str::to_owned)),
        }
    }
    found
}

fn message() -> impl Strategy<Value = Value> {
    let role = prop::sample::select(vec!["system", "developer", "user", "assistant"]);
    let part = "[a-c\"\\\\]{0,4}".prop_map(|text| json!({"type": "text", "text": text}));
    let content = prop_oneof![
        "[a-c\"\\\\]{0,4}".prop_map(Value::from),
        prop::collection::vec(part, 0..3).prop_map(Value::from),
        Just(Value::Null),
    ];
    (role, content, object(any_json())).prop_map(|(role, content, mut rest)| {
        rest.insert("role".to_owned(), role.into());
        rest.insert("content".to_owned(), content);
        rest.into()
    })
}

proptest! {
    /// As a merge of the parsed objects would have it.
    #[test]
    fn params_are_merged_at_the_top_level(
        body in object(any_json()),
        defaults in object(any_json()),
        overrides in object(any_json()),
    ) {
        let (default_texts, override_texts) = (texts(&defaults), texts(&overrides));
        let additions = Additions::new(refs(&default_texts), refs(&override_texts), "");
        let text = Value::from(body.clone()).to_string();
        let merged = match additions {
            Some(additions) => applied(&additions, NOTHING, &text).unwrap(),
            None => text,
        };
        let mut expected = defaults;
        expected.extend(body);
        expected.extend(overrides);
        prop_assert_eq!(serde_json::from_str::<Value>(&merged).unwrap(), Value::from(expected));
    }

    /// The operator's text comes first in the system prompt, and nothing else changes.
    #[test]
    fn instructions_come_first_and_change_nothing_else(
        messages in prop::collection::vec(message(), 0..4),
        text in "[a-z\"\\\\\n\u{e9}]{1,9}",
    ) {
        let before = json!({"model": "m", "messages": messages});
        let additions = Additions::new([], [], &text).unwrap();
        let after = applied(&additions, at(Place::Messages), &before.to_string()).unwrap();
        let after: Value = serde_json::from_str(&after).unwrap();
        let (had, has) = (system_texts(&before).concat(), system_texts(&after).concat());
        let rest = has.strip_prefix(&text).unwrap();
        prop_assert_eq!(rest.strip_prefix("\n\n").unwrap_or(rest), had);
        let users = |body: &Value| -> Vec<Value> {
            let all = body["messages"].as_array().unwrap();
            all.iter().filter(|message| message["role"] != "system" && message["role"] != "developer")
                .cloned().collect()
        };
        prop_assert_eq!(users(&before), users(&after));
    }
}
