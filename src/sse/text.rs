//! How much text an answer has, for estimates where no usage is reported.
//!
//! The text is found by searching for the keys that hold it, without parsing: a quote inside of a
//! JSON string is escaped, so an unescaped key is a key.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr2, memmem};

use crate::dialect::Dialect;

struct Keys {
    content: Finder<'static>,
    arguments: Finder<'static>,
    reasoning_content: Finder<'static>,
    reasoning: Finder<'static>,
    text: Finder<'static>,
    partial_json: Finder<'static>,
    thinking: Finder<'static>,
    delta: Finder<'static>,
}

/// Built once, because building a searcher costs more than a search.
static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    content: Finder::new("\"content\":"),
    arguments: Finder::new("\"arguments\":"),
    reasoning_content: Finder::new("\"reasoning_content\":"),
    reasoning: Finder::new("\"reasoning\":"),
    text: Finder::new("\"text\":"),
    partial_json: Finder::new("\"partial_json\":"),
    thinking: Finder::new("\"thinking\":"),
    delta: Finder::new("\"delta\":"),
});

/// The bytes of text, reasoning or tool arguments that one event of a stream brings.
pub fn event_text_bytes(dialect: Dialect, data: &[u8]) -> usize {
    let keys = &*KEYS;
    let first = |finders: &[&Finder<'static>]| {
        finders.iter().map(|finder| first_text_bytes(finder, data)).find(|&n| n > 0).unwrap_or(0)
    };
    match dialect {
        Dialect::Chat => {
            first(&[&keys.content, &keys.arguments, &keys.reasoning_content, &keys.reasoning])
        }
        Dialect::Completions | Dialect::Gemini => first(&[&keys.text]),
        Dialect::Messages => first(&[&keys.text, &keys.partial_json, &keys.thinking]),
        Dialect::Responses => first(&[&keys.delta]),
        Dialect::Embeddings
        | Dialect::Moderations
        | Dialect::Converse
        | Dialect::Cohere
        | Dialect::Ollama
        | Dialect::Rerank
        | Dialect::Images
        | Dialect::Audio => 0,
    }
}

/// The bytes of text, reasoning and tool arguments that a whole answer has.
pub fn answer_text_bytes(dialect: Dialect, body: &[u8]) -> usize {
    let keys = &*KEYS;
    let all = |finders: &[&Finder<'static>]| {
        finders.iter().map(|finder| all_text_bytes(finder, body)).sum()
    };
    match dialect {
        Dialect::Chat => {
            all(&[&keys.content, &keys.arguments, &keys.reasoning_content, &keys.reasoning])
        }
        Dialect::Completions | Dialect::Gemini => all(&[&keys.text]),
        Dialect::Messages => all(&[&keys.text, &keys.thinking]),
        Dialect::Responses => all(&[&keys.text, &keys.arguments]),
        Dialect::Embeddings
        | Dialect::Moderations
        | Dialect::Converse
        | Dialect::Cohere
        | Dialect::Ollama
        | Dialect::Rerank
        | Dialect::Images
        | Dialect::Audio => 0,
    }
}

fn first_text_bytes(key: &Finder<'_>, json: &[u8]) -> usize {
    key.find(json).and_then(|at| json.get(at + key.needle().len()..)).map_or(0, string_bytes)
}

fn all_text_bytes(key: &Finder<'_>, json: &[u8]) -> usize {
    let after = |at: usize| json.get(at + key.needle().len()..).unwrap_or_default();
    memmem::find_iter(json, key.needle()).map(|at| string_bytes(after(at))).sum()
}

/// The length of the string that `json` begins with, without its quotes; 0 for other values.
fn string_bytes(json: &[u8]) -> usize {
    let Some(inner) = json.trim_ascii_start().strip_prefix(b"\"") else {
        return 0;
    };
    let mut at = 0;
    loop {
        let rest = inner.get(at..).unwrap_or_default();
        match memchr2(b'"', b'\\', rest) {
            Some(end) if rest.get(end) == Some(&b'\\') => at += end + 2,
            Some(end) => return at + end,
            None => return inner.len(),
        }
    }
}
