//! Random JSON as text: every way of writing it that the grammar allows.

use proptest::prelude::*;

/// White space between tokens.
pub(crate) fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(""), 2 => Just(" "), 1 => Just("\n  "), 1 => Just("\t\r\n")]
}

/// A string with its quotes: plain, escaped, outside the basic plane.
pub(crate) fn string() -> impl Strategy<Value = String> {
    let plain = any::<char>().prop_map(|char| match char {
        '"' | '\\' | '\u{0}'..='\u{1f}' => format!("\\u{:04X}", u32::from(char)),
        char => char.to_string(),
    });
    let piece = prop_oneof![
        4 => "[a-z {}\\[\\]:,]{1,6}",
        3 => plain,
        1 => prop::sample::select(vec!["\\\"", "\\\\", "\\/", "\\n", "\\b", "\\f", "\\t"])
            .prop_map(str::to_owned),
        1 => prop::sample::select(vec!["\\u00e9", "\\uD83D\\uDE00", "\\u0000", "\\u007f"])
            .prop_map(str::to_owned),
        1 => prop::sample::select(vec!["\\\"model\\\":\\\"x\\\"", "data: [DONE]\\n\\n"])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// Any value.
pub(crate) fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0.0",
            "1e5",
            "12345678901234567890",
            "1.50",
            "2E-3",
        ])
        .prop_map(str::to_owned),
        string(),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..4), space()).prop_map(
                |(items, space)| format!("[{space}{}]", items.join(&format!(",{space}")))
            ),
            prop::collection::vec(member(string(), inner), 0..4)
                .prop_map(|members| object(&members)),
        ]
    })
}

/// `"key": value` with white space around the colon.
pub(crate) fn member(
    key: impl Strategy<Value = String>,
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    (key, space(), space(), value)
        .prop_map(|(key, left, right, value)| format!("{key}{left}:{right}{value}"))
}

/// An object of members.
pub(crate) fn object(members: &[String]) -> String {
    format!("{{{}}}", members.join(", "))
}

/// Members that mean nothing to the gateway, whatever they are called.
pub(crate) fn unknown_members() -> impl Strategy<Value = Vec<String>> {
    let key = string().prop_map(|text| format!("\"x-{}", text.strip_prefix('"').unwrap()));
    let key = prop_oneof![
        3 => key,
        1 => prop::sample::select(vec!["\"cache_control\"", "\"Model\"", "\"MODEL\"", "\"mod\\u0065\""])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(member(key, value()), 0..5)
}
