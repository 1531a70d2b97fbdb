//! Answers of the endpoints that never stream.

use serde_json::Value;

use super::behaviour::Behaviour;
use super::content::{CREATED, Tokens, text_pieces};
use super::json::{Raw, object};
use super::reply::Body;

/// Numbers in an embedding.
const DIMENSIONS: u16 = 8;
const SPEECH_BYTES: usize = 4096;
/// A picture of one pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

pub(super) fn embeddings(behaviour: &Behaviour, model: &str, asked: &Value) -> Body {
    let is_base64 = asked.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let data: Vec<Raw> = (0..inputs_n(asked))
        .map(|index| {
            let embedding = if is_base64 { base64_of(index) } else { floats_of(index) };
            object! { "object": "embedding", "index": index, "embedding": embedding }
        })
        .collect();
    let answer = object! { "object": "list", "data": data, "model": model };
    Body::json(answer.with("usage", Tokens::of(behaviour).embeddings()))
}

/// One text, one list of tokens, or a list of either.
fn inputs_n(asked: &Value) -> usize {
    match asked.get("input") {
        Some(Value::Array(list)) if !list.first().is_some_and(Value::is_number) => list.len(),
        _ => 1,
    }
}

/// Small numbers that a 32-bit float holds exactly, different for each input.
fn numbers(index: usize) -> impl Iterator<Item = f32> {
    let shift = u16::try_from(index % 16).unwrap_or(0);
    (0..DIMENSIONS).map(move |dimension| f32::from(dimension + shift) / 32.0 - 0.25)
}

fn floats_of(index: usize) -> Raw {
    let floats: Vec<String> = numbers(index).map(|number| number.to_string()).collect();
    Raw(format!("[{}]", floats.join(",")))
}

fn base64_of(index: usize) -> Raw {
    let bytes: Vec<u8> = numbers(index).flat_map(f32::to_le_bytes).collect();
    Raw(format!("\"{}\"", base64(&bytes)))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let sextet = bits >> (18 - 6 * place) & 63;
            let letter = ALPHABET.get(sextet).copied().unwrap_or(b'=');
            out.push(if place > group.len() { '=' } else { char::from(letter) });
        }
    }
    out
}

pub(super) fn moderations(model: &str, id: &str) -> Body {
    const CATEGORIES: [&str; 13] = [
        "harassment",
        "harassment/threatening",
        "hate",
        "hate/threatening",
        "illicit",
        "illicit/violent",
        "self-harm",
        "self-harm/instructions",
        "self-harm/intent",
        "sexual",
        "sexual/minors",
        "violence",
        "violence/graphic",
    ];
    let each = |value: &str| {
        let members: Vec<String> =
            CATEGORIES.iter().map(|name| format!("\"{name}\":{value}")).collect();
        Raw(format!("{{{}}}", members.join(",")))
    };
    Body::json(object! {
        "id": format!("modr-{id}"),
        "model": model,
        "results": [object! {
            "flagged": false,
            "categories": each("false"),
            "category_scores": each("0.0001"),
            "category_applied_input_types": each("[\"text\"]"),
        }],
    })
}

pub(super) fn rerank(behaviour: &Behaviour, model: &str, id: &str, asked: &Value) -> Body {
    let documents_n = asked.get("documents").and_then(Value::as_array).map_or(0, Vec::len);
    let top_n = asked.get("top_n").and_then(Value::as_u64);
    let top_n = top_n.and_then(|top_n| usize::try_from(top_n).ok()).unwrap_or(documents_n);
    let results: Vec<Raw> = (0..documents_n.min(top_n))
        .map(|index| {
            let rank = u32::try_from(index).unwrap_or(u32::MAX);
            object! { "index": index, "relevance_score": 1.0 / (f64::from(rank) + 1.0) }
        })
        .collect();
    let answer = object! {
        "id": id,
        "model": model,
        "results": results,
        "meta": object! {
            "api_version": object! { "version": "2" },
            "billed_units": object! { "search_units": 1_u64 },
        },
    };
    Body::json(answer.with("usage", Tokens::of(behaviour).embeddings()))
}

pub(super) fn images(behaviour: &Behaviour, asked: &Value) -> Body {
    let images_n = asked.get("n").and_then(Value::as_u64).unwrap_or(1).min(10);
    let data: Vec<Raw> = (0..images_n).map(|_| object! { "b64_json": PNG }).collect();
    let answer = object! { "created": CREATED, "data": data };
    Body::json(answer.with("usage", Tokens::of(behaviour).media()))
}

pub(super) fn speech(behaviour: &Behaviour) -> Body {
    let bytes_n = behaviour.bytes.unwrap_or(SPEECH_BYTES);
    let bytes = (0..=u8::MAX).cycle().take(bytes_n).collect();
    Body::Whole { bytes, content_type: "audio/mpeg" }
}

pub(super) fn transcription(behaviour: &Behaviour) -> Body {
    let answer = object! { "text": text_pieces(behaviour).concat() };
    Body::json(answer.with("usage", Tokens::of(behaviour).media()))
}

pub(super) fn count_tokens(behaviour: &Behaviour) -> Body {
    Body::json(object! { "input_tokens": Tokens::of(behaviour).input_reported() })
}

/// The list of models, or the one that the path names, in either vendor's shape.
pub(super) fn models(path: &str, is_anthropic: bool) -> Body {
    let name = path.split_once("/models/").map(|(_, name)| name);
    let id = name.unwrap_or("sim");
    let model = if is_anthropic {
        object! {
            "type": "model",
            "id": id,
            "display_name": "Simulated",
            "created_at": "2025-06-15T15:06:40Z",
        }
    } else {
        object! { "id": id, "object": "model", "created": CREATED, "owned_by": "simulated" }
    };
    Body::json(match (name, is_anthropic) {
        (Some(_), _) => model,
        (None, false) => object! { "object": "list", "data": [model] },
        (None, true) => {
            object! { "data": [model], "has_more": false, "first_id": id, "last_id": id }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_standard_says() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
