//! What holds for any split, any order and any request.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::golden::{by_dialect, inputs, read};
use super::{FRONTS, UPSTREAMS, translation, written};
use crate::dialect::Dialect;
use crate::translate::{Asked, StreamEnd};

/// All golden streams: the dialect, and the bytes.
fn streams() -> Vec<(Dialect, Vec<u8>)> {
    let paths = inputs("streams", "sse");
    let stream = |path: &std::path::PathBuf| {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let dialect = Dialect::from_name(stem.rsplit_once('.').unwrap().1).unwrap();
        (dialect, fs::read(path).unwrap())
    };
    paths.iter().map(stream).collect()
}

fn translated(client: Dialect, upstream: Dialect, parts: &[&[u8]]) -> (String, StreamEnd) {
    let mut events = translation(client, upstream).events();
    let mut out = String::new();
    for part in parts {
        events.push(part, &mut out);
    }
    events.finish(&mut out);
    (out, events.progress().end.clone())
}

/// Lone events of all dialects, in any order.
fn any_events() -> impl Strategy<Value = (Dialect, Vec<u8>)> {
    let all = streams();
    let of = move |dialect: Dialect| {
        let events: Vec<Vec<u8>> = all
            .iter()
            .filter(|(of, _)| *of == dialect)
            .flat_map(|(_, bytes)| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                text.split_inclusive("\n\n")
                    .map(|event| event.as_bytes().to_vec())
                    .collect::<Vec<_>>()
            })
            .collect();
        prop::collection::vec(prop::sample::select(events), 0..40)
            .prop_map(move |events| (dialect, events.concat()))
    };
    prop::sample::select(UPSTREAMS.to_vec()).prop_flat_map(of)
}

/// A secret thought has no text: what a provider sends as one opens no block.
#[test]
fn text_of_a_secret_thought_is_left_out() {
    let stream = concat!(
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,",
        "\"content_block\":{\"type\":\"redacted_thinking\",\"data\":\"RED\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,",
        "\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
    );
    let (out, _) = translated(Dialect::Messages, Dialect::Messages, &[stream.as_bytes()]);
    assert!(!out.contains("Hi"), "{out}");
    assert!(out.contains(r#""data":"RED""#), "{out}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_split_gives_the_same_events(
        stream in prop::sample::select(streams()),
        client in prop::sample::select(FRONTS.to_vec()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let (upstream, bytes) = stream;
        let whole = translated(client, upstream, &[&bytes]);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let parts: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(translated(client, upstream, &parts), whole);
    }

    #[test]
    fn any_order_of_events_is_well_formed(
        events in any_events(),
        client in prop::sample::select(FRONTS.to_vec()),
    ) {
        let (upstream, bytes) = events;
        let (out, _) = translated(client, upstream, &[&bytes]);
        if client == Dialect::Ollama {
            for line in out.lines() {
                prop_assert!(serde_json::from_str::<Value>(line).is_ok(), "{}", line);
            }
            return Ok(());
        }
        let mut open: Option<Value> = None;
        let mut next_index = 0;
        for event in out.split("\n\n").filter(|event| !event.is_empty()) {
            let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else {
                prop_assert!(event.starts_with(": "));
                continue;
            };
            if data == "[DONE]" {
                continue;
            }
            let data: Value = serde_json::from_str(data).unwrap();
            match data["type"].as_str() {
                Some("content_block_start") => {
                    prop_assert!(open.is_none());
                    prop_assert_eq!(&data["index"], &json!(next_index));
                    next_index += 1;
                    open = Some(data["index"].clone());
                }
                Some("content_block_delta") => prop_assert_eq!(open.as_ref(), Some(&data["index"])),
                Some("content_block_stop") => prop_assert_eq!(open.take(), Some(data["index"].clone())),
                _ => {}
            }
        }
    }

    #[test]
    fn noise_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        client in prop::sample::select(FRONTS.to_vec()),
        upstream in prop::sample::select(UPSTREAMS.to_vec()),
    ) {
        let mut event = b"data: ".to_vec();
        event.extend_from_slice(&bytes);
        event.extend_from_slice(b"\n\n");
        translated(client, upstream, &[&event]);
        let way = translation(client, upstream);
        way.whole(&bytes);
        way.error(400, None, &bytes);
        drop(Asked::read(client, &bytes, (0, "")));
    }

    /// JSON that is like a request, with wrong types in places.
    #[test]
    fn odd_requests_never_panic(
        path in prop::sample::select(inputs("requests", "json")),
        cut in any::<prop::sample::Index>(),
        odd in prop::sample::select(vec![json!(null), json!(7), json!("x"), json!([]), json!({}), json!([{}]), json!(true)]),
    ) {
        for (client, body) in by_dialect(&read(&path)) {
            let mut body = body.clone();
            let mut places = Vec::new();
            pointers(&body, String::new(), &mut places);
            if let Some(place) = body.pointer_mut(&places[cut.index(places.len())]) {
                *place = odd.clone();
            }
            if !body.is_object() {
                continue;
            }
            for upstream in UPSTREAMS {
                drop(written(client, &body, (upstream, "claude-sonnet-4-5")));
            }
        }
    }
}

fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                pointers(value, format!("{at}/{name}"), all);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                pointers(value, format!("{at}/{index}"), all);
            }
        }
        _ => {}
    }
    all.push(at);
}

/// A request of one dialect, written in another, read there and written back, asks the same: it is
/// written from there as it would have been at once.
#[test]
fn there_and_back_asks_the_same() {
    let mut n_checked = 0;
    let mut lossy = BTreeSet::new();
    let mut problems = String::new();
    for path in inputs("requests", "json") {
        let map = read(&path);
        if map.contains_key("upstream") {
            continue; // What an old model lacks is lost on the way.
        }
        for (client, body) in by_dialect(&map).into_iter().filter(|(it, _)| BOTH.contains(it)) {
            for between in BOTH.into_iter().filter(|between| *between != client) {
                let Ok(at_once) = written(client, body, (client, "m")) else { continue };
                let Ok(there) = written(client, body, (between, "claude-sonnet-5")) else {
                    continue;
                };
                let Ok(back) = written(between, &there, (client, "m")) else {
                    problems += &format!("{}: {there}\n", path.display());
                    continue;
                };
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                let (at_once, back) = (meaning(client, at_once), meaning(client, back));
                n_checked += 1;
                if at_once != back {
                    lossy.insert(name.clone());
                    if !LOSSY.contains(&name.as_str()) {
                        let way = format!("{name}: {} by {}", client.name(), between.name());
                        problems += &format!("{way}\n{at_once}\n{back}\n");
                    }
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems}");
    assert_eq!(lossy, LOSSY.map(str::to_owned).into(), "what is lossy, and what is said to be");
    assert!(60 < n_checked, "{n_checked}");
}

/// The dialects that clients and providers speak, with providers that say all that clients can.
const BOTH: [Dialect; 3] = [Dialect::Chat, Dialect::Responses, Dialect::Messages];

/// What one dialect says in another way than the other, each documented.
const LOSSY: [&str; 15] = [
    "cache_control",
    "document_text",
    "gemini_seals",
    "instructions",
    "json_object",
    "json_schema",
    "names",
    "reasoning",
    "reasoning_off",
    "refusal_turn",
    "thinking_turns",
    "tool_choice_allowed",
    "tool_turns",
    "user",
    "web_search",
];

/// A request without what a dialect must say and another need not.
fn meaning(client: Dialect, mut body: Value) -> Value {
    let map = body.as_object_mut().unwrap();
    for name in ["max_tokens", "max_output_tokens", "max_completion_tokens", "store", "include"] {
        map.shift_remove(name);
    }
    if client == Dialect::Messages {
        map.shift_remove("thinking");
    }
    plain(&mut body);
    body
}

/// One text for a list with one text, no defaults.
fn plain(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for name in ["strict", "description", "detail", "annotations"] {
                map.shift_remove(name);
            }
            for (name, default) in [
                ("tool_choice", json!("auto")),
                ("presence_penalty", json!(0)),
                ("parameters", json!({"type": "object"})),
                ("parameters", json!({"type": "object", "properties": {}})),
            ] {
                if map.get(name) == Some(&default) {
                    map.shift_remove(name);
                }
            }
            if map.get("type").is_some_and(|kind| kind == "message") {
                map.shift_remove("type");
            }
            map.values_mut().for_each(plain);
        }
        Value::Array(list) => {
            list.iter_mut().for_each(plain);
            if let [only] = list.as_slice()
                && let Some(text) = only.get("text")
            {
                *value = text.clone();
            }
        }
        _ => {}
    }
}
