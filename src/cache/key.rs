//! What makes two requests the same.
//!
//! A digest over where a request goes and what it asks: environment, deployment and its targets,
//! endpoint, the headers that go to a provider, and the body without white space, its members in
//! order of their names. Two requests of different environments never have one key.

use ring::digest::{Context, SHA256};

use crate::dialect::{Dialect, Endpoint};
use crate::id::EnvironmentId;
use crate::json::cursor::Cursor;

pub type Key = [u8; 32];

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub environment: EnvironmentId,
    pub deployment: &'a str,
    /// Of its targets: another model behind the same name gives other answers.
    pub targets: &'a [u8],
    /// The one target that is asked for.
    pub target: Option<&'a str>,
    pub endpoint: Endpoint,
    pub query: Option<&'a str>,
}

/// A request that can have an answer from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyed {
    pub key: Key,
    /// Temperature 0, or nothing that could differ.
    pub is_deterministic: bool,
    /// A stream shall say what it used.
    pub wants_usage: bool,
}

/// Fields that say how the answer is carried, or for whom.
const CARRIED: [&str; 4] = ["model", "sluice", "stream", "stream_options"];
/// The same, but where the answer repeats them.
const WHOM: [&str; 3] = ["metadata", "safety_identifier", "user"];
/// With one of these an answer depends on what happened before.
const STATEFUL: [&str; 3] = ["previous_response_id", "conversation", "background"];

/// Whether answers of `endpoint` can be kept at all.
pub const fn is_kept(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::Completions
            | Endpoint::Embeddings
    )
}

/// The key of a request, whose `headers` are those that change what a provider answers. `None` for
/// one whose answer depends on more than what it says.
pub fn key(
    place: &Place<'_>,
    headers: impl Iterator<Item = (impl AsRef<str>, impl AsRef<[u8]>)>,
    body: &[u8],
) -> Option<Keyed> {
    if !is_kept(place.endpoint) {
        return None;
    }
    let text = std::str::from_utf8(body).ok()?;
    let mut digest = Digest(Context::new(&SHA256));
    digest.part(place.environment.0.as_bytes());
    digest.part(place.deployment.as_bytes());
    digest.part(place.targets);
    digest.part(place.target.unwrap_or_default().as_bytes());
    digest.part(place.endpoint.name().as_bytes());
    digest.part(place.query.unwrap_or_default().as_bytes());
    for (name, value) in headers {
        digest.part(name.as_ref().as_bytes());
        digest.part(value.as_ref());
    }
    digest.part(b"");
    let mut members = members(text)?;
    members.sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut keyed = Keyed {
        key: Key::default(),
        is_deterministic: place.endpoint == Endpoint::Embeddings,
        wants_usage: false,
    };
    let repeats = place.endpoint.dialect() == Dialect::Responses;
    let mut plain = Vec::with_capacity(body.len());
    for (name, value) in &members {
        let name = name.as_ref();
        if STATEFUL.contains(&name) && !matches!(*value, "null" | "false") {
            return None;
        }
        match name {
            "stream_options" => keyed.wants_usage = wants_usage(value),
            "temperature" => {
                keyed.is_deterministic |= value.parse().is_ok_and(|it: f64| it == 0.0);
            }
            _ => {}
        }
        if CARRIED.contains(&name) || WHOM.contains(&name) && !repeats {
            continue;
        }
        digest.part(name.as_bytes());
        plain.clear();
        without_blanks(value.as_bytes(), &mut plain);
        digest.part(&plain);
    }
    keyed.key.copy_from_slice(digest.0.finish().as_ref());
    Some(keyed)
}

struct Digest(Context);

impl Digest {
    /// With its length, so that no two lists of parts look the same.
    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

type Members<'a> = Vec<(std::borrow::Cow<'a, str>, &'a str)>;

/// Names and values of the top level.
fn members(text: &str) -> Option<Members<'_>> {
    let mut cursor = Cursor::new(text);
    cursor.enter_object(0).ok()?;
    let mut members = Members::new();
    while let Some(member) = cursor.member(members.is_empty()).ok()? {
        let name = cursor.decode(&member.key)?;
        cursor.peek_token();
        let start = cursor.at();
        cursor.skip_value(1).ok()?;
        members.push((name, cursor.slice(start..cursor.at())));
    }
    Some(members)
}

fn wants_usage(options: &str) -> bool {
    let options: serde_json::Value = serde_json::from_str(options).unwrap_or_default();
    options.get("include_usage").and_then(serde_json::Value::as_bool) == Some(true)
}

/// Copies JSON, but the white space between its parts.
fn without_blanks(json: &[u8], into: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        let (outside, from) = rest.split_at(quote);
        into.extend(outside.iter().filter(|byte| !byte.is_ascii_whitespace()));
        let end = end_of_string(from);
        let (string, after) = from.split_at(end);
        into.extend_from_slice(string);
        rest = after;
    }
    into.extend(rest.iter().filter(|byte| !byte.is_ascii_whitespace()));
}

/// After the closing quote of the string that `json` begins with.
fn end_of_string(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if json.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn place(environment: u128) -> Place<'static> {
        Place {
            environment: EnvironmentId(Uuid::from_u128(environment)),
            deployment: "chat",
            targets: b"t",
            target: None,
            endpoint: Endpoint::ChatCompletions,
            query: None,
        }
    }

    fn keyed(place: &Place<'_>, body: &str) -> Option<Keyed> {
        key(place, [("anthropic-beta", "b")].into_iter(), body.as_bytes())
    }

    fn key_of(body: &str) -> Key {
        keyed(&place(1), body).unwrap().key
    }

    #[test]
    fn what_carries_an_answer_does_not_count() {
        let plain = key_of(r#"{"messages":[{"role":"user","content":"a  b"}],"n":1}"#);
        for same in [
            r#"{ "n": 1, "messages" : [ {"role":"user", "content":"a  b"} ] }"#,
            r#"{"messages":[{"role":"user","content":"a  b"}],"n":1,"stream":true,"model":"x"}"#,
            r#"{"user":"ada","metadata":{"a":1},"messages":[{"role":"user","content":"a  b"}],"n":1}"#,
            r#"{"messages":[{"role":"user","content":"a  b"}],"n":1,"stream_options":{"include_usage":true}}"#,
        ] {
            assert_eq!(key_of(same), plain, "{same}");
        }
        for other in [
            r#"{"messages":[{"role":"user","content":"a b"}],"n":1}"#,
            r#"{"messages":[{"content":"a  b","role":"user"}],"n":1}"#,
            r#"{"messages":[{"role":"user","content":"a  b"}],"n":2}"#,
            r#"{"messages":[{"role":"user","content":"a  b"}]}"#,
            r#"{"messages":[{"role":"user","content":"a  b"}],"n":1,"temperature":0}"#,
        ] {
            assert_ne!(key_of(other), plain, "{other}");
        }
    }

    #[test]
    fn every_part_of_the_place_counts() {
        let body = r#"{"input":"a"}"#;
        let mut keys = Vec::new();
        for place in [
            place(1),
            place(2),
            Place { deployment: "other", ..place(1) },
            Place { targets: b"u", ..place(1) },
            Place { target: Some("t"), ..place(1) },
            Place { endpoint: Endpoint::Responses, ..place(1) },
            Place { query: Some("a=b"), ..place(1) },
        ] {
            keys.push(keyed(&place, body).unwrap().key);
        }
        keys.push(
            key(&place(1), [("anthropic-beta", "c")].into_iter(), body.as_bytes()).unwrap().key,
        );
        let n = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), n);
    }

    #[test]
    fn some_requests_have_no_key() {
        let none = |endpoint, body: &str| keyed(&Place { endpoint, ..place(1) }, body).is_none();
        assert!(none(Endpoint::Responses, r#"{"input":"a","previous_response_id":"r"}"#));
        assert!(none(Endpoint::Responses, r#"{"input":"a","background":true}"#));
        assert!(!none(Endpoint::Responses, r#"{"input":"a","background":false}"#));
        assert!(none(Endpoint::Speech, r#"{"input":"a"}"#));
        // An answer of this dialect repeats whom it is for.
        let responses = Place { endpoint: Endpoint::Responses, ..place(1) };
        let of = |user: &str| keyed(&responses, &format!(r#"{{"input":"a","user":"{user}"}}"#));
        assert_ne!(of("ada"), of("bob"));
    }

    #[test]
    fn temperature_says_whether_an_answer_repeats() {
        let is = |body: &str| keyed(&place(1), body).unwrap().is_deterministic;
        assert!(is(r#"{"temperature":0}"#) && is(r#"{"temperature": 0.0 }"#));
        assert!(!is(r#"{"temperature":1e-9}"#) && !is("{}") && !is(r#"{"temperature":null}"#));
    }

    fn bodies() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a \"\\\\{}:,]{0,8}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[ab\"]{1,2}", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[a-c]{1,2}", value, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        /// Equal requests have one key however they are written, and only within an environment.
        #[test]
        fn environments_share_no_key(body in bodies(), other in bodies(), one: u128, two: u128) {
            let (compact, pretty) = (body.to_string(), serde_json::to_string_pretty(&body).unwrap());
            let of = |environment, text: &str| keyed(&place(environment), text).unwrap().key;
            prop_assert_eq!(of(one, &compact), of(one, &pretty));
            prop_assert_eq!(one == two, of(one, &compact) == of(two, &compact));
            prop_assert_eq!(body == other, of(one, &compact) == of(one, &other.to_string()));
            let carried = json!({"stream": true, "user": "ada"});
            let mut with = body;
            with.as_object_mut().unwrap().extend(carried.as_object().unwrap().clone());
            prop_assert_eq!(of(one, &compact), of(one, &with.to_string()));
        }
    }
}
