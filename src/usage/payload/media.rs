//! Images, audio and the like in a body, replaced by `{"mime", "bytes", "sha256"}`. Pure.
//!
//! In a text, a media is a JSON string: a `data:` URL, or nothing but base64 and long. The text is
//! read string by string and never as a tree, so that a body which is cut, or a stream of events,
//! loses its media as well.

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// Shorter strings are names, ids and signatures.
const BASE64_BYTES_MIN: usize = 512;
/// A `data:` URL says what it is within this.
const DATA_HEAD_BYTES_MAX: usize = 256;

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

const ENGINES: [GeneralPurpose; 2] = [engine(&STANDARD), engine(&URL_SAFE)];

/// Whether a body of this type is text: else all of it is media.
pub(super) fn is_text(content_type: &str) -> bool {
    let mime = mime_of(content_type);
    mime.starts_with("text/")
        || mime == "application/json"
        || mime.ends_with("+json")
        || mime == "application/x-ndjson"
        || mime == "application/x-www-form-urlencoded"
}

fn mime_of(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// What a whole body was.
pub(super) fn described(content_type: &str, bytes: &[u8], is_cut: bool) -> String {
    let mime = Some(mime_of(content_type)).filter(|mime| !mime.is_empty());
    shown(mime.as_deref(), (!is_cut).then_some(bytes)).to_string()
}

/// `None` for bytes that are not all there, or that cannot be told.
fn shown(mime: Option<&str>, bytes: Option<&[u8]>) -> Value {
    let sum = bytes.map(|bytes| {
        let sum = digest(&SHA256, bytes);
        sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    });
    json!({ "mime": mime, "bytes": bytes.map(<[u8]>::len), "sha256": sum })
}

/// `text` without the media in its strings.
pub(super) fn replaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(1 << 16));
    let mut names = Names::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('"') {
        out.push_str(before);
        let (content, behind) = string(after);
        if let Some(media) = media(content, behind.is_some(), &names) {
            out.push_str(&media.to_string());
        } else {
            out.push('"');
            out.push_str(content);
            if behind.is_some() {
                out.push('"');
            }
        }
        names.see(content);
        rest = behind.unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// A string up to its closing quote, and what stands behind; `None` for one that does not end.
fn string(text: &str) -> (&str, Option<&str>) {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => {
                return (text.get(..at).unwrap_or_default(), text.get(at + 1..));
            }
            _ => {}
        }
    }
    (text, None)
}

/// What the fields before a string say of it.
#[derive(Debug, Default)]
struct Names {
    mime: Option<String>,
    last: String,
}

impl Names {
    fn see(&mut self, content: &str) {
        let is_word = content.len() <= 64;
        if is_word && matches!(&*self.last, "media_type" | "mime_type" | "mimeType") {
            self.mime = Some(content.replace('\\', ""));
        }
        self.last.clear();
        if is_word {
            self.last.push_str(content);
        }
    }
}

fn media(content: &str, is_whole: bool, names: &Names) -> Option<Value> {
    if let Some(url) = content.strip_prefix("data:") {
        let head_end = url.floor_char_boundary(DATA_HEAD_BYTES_MAX);
        let (head, _) = url.get(..head_end)?.split_once(',')?;
        let data = url.get(head.len() + 1..)?;
        let kind = head.strip_suffix(";base64")?;
        let mime = mime_of(&kind.replace('\\', ""));
        let mime = Some(mime).filter(|mime| !mime.is_empty());
        let bytes = if is_whole { decoded(data) } else { None };
        return Some(shown(mime.as_deref(), bytes.as_deref()));
    }
    let is_base64 = content.len() >= BASE64_BYTES_MIN
        && content.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(&byte));
    is_base64.then(|| {
        let bytes = if is_whole { decoded(content) } else { None };
        shown(names.mime.as_deref(), bytes.as_deref())
    })
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    // A slash may be escaped in JSON.
    let text = text.replace("\\/", "/");
    ENGINES.iter().find_map(|engine| engine.decode(&text).ok())
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn sum(bytes: &[u8]) -> String {
        let sum = digest(&SHA256, bytes);
        sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn media_of_each_dialect_is_replaced() {
        let bytes: Vec<u8> = (0..=255).cycle().take(600).collect();
        let data = BASE64_STANDARD.encode(&bytes);
        let of = |mime: Value| json!({ "mime": mime, "bytes": 600, "sha256": sum(&bytes) });
        for (body, expected) in [
            (
                json!({"image_url": {"url": format!("data:image/png;base64,{data}")}}),
                json!({"image_url": {"url": of(json!("image/png"))}}),
            ),
            (
                json!({"source": {"media_type": "image/jpeg", "type": "base64", "zdata": data}}),
                json!({"source": {"media_type": "image/jpeg", "type": "base64", "zdata": of(json!("image/jpeg"))}}),
            ),
            (json!({"b64_json": data}), json!({"b64_json": of(Value::Null)})),
            (json!({"url": "https://a/b.png"}), json!({"url": "https://a/b.png"})),
        ] {
            let found: Value = serde_json::from_str(&replaced(&body.to_string())).unwrap();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn media_that_is_cut_is_gone_as_well() {
        let data = "QUJD".repeat(400);
        let found = replaced(&format!(r#"{{"text":"a","url":"data:image/png;base64,{data}"#));
        assert_eq!(found, r#"{"text":"a","url":{"mime":"image/png","bytes":null,"sha256":null}"#);
    }

    #[test]
    fn body_that_is_no_text_is_described() {
        assert!(is_text("Application/JSON; charset=utf-8") && is_text("text/event-stream"));
        assert!(!is_text("audio/mpeg") && !is_text("multipart/form-data; boundary=x"));
        let shown: Value = serde_json::from_str(&described("audio/mpeg", b"abc", false)).unwrap();
        assert_eq!(shown, json!({"mime": "audio/mpeg", "bytes": 3, "sha256": sum(b"abc")}));
        let cut: Value = serde_json::from_str(&described("audio/mpeg", b"abc", true)).unwrap();
        assert_eq!(cut["sha256"], Value::Null);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,40}".prop_map(Value::from),
            "data:image/[a-z]{1,5};base64,[A-Za-z0-9]{0,90}".prop_map(Value::from),
            "[A-Za-z0-9+/]{500,530}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::hash_map("\\PC{0,9}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The same by walking the tree.
    fn without(value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(without).collect(),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(k, v)| (k.clone(), without(v))).collect())
            }
            Value::String(text) if media(text, true, &Names::default()).is_some() => json!("MEDIA"),
            other => other.clone(),
        }
    }

    /// Objects that stand in the place of media.
    fn marked(value: &Value) -> Value {
        match value {
            Value::Object(map) if map.len() == 3 && map.contains_key("sha256") => json!("MEDIA"),
            Value::Array(items) => items.iter().map(marked).collect(),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(k, v)| (k.clone(), marked(v))).collect())
            }
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn json_stays_json_and_loses_its_media_alone(value in json_value()) {
            let found: Value = serde_json::from_str(&replaced(&value.to_string())).unwrap();
            prop_assert_eq!(marked(&found), without(&value));
        }

        #[test]
        fn any_text_can_be_read(text in "\\PC{0,400}") {
            replaced(&text);
            replaced(&format!("{{\"a\":\"data:{text}"));
        }
    }
}
