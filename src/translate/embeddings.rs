//! Embeddings of `OpenAI`'s dialect, from providers that have their own.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fields::{Fields, put};
use super::form::Usage;
use super::{Refused, Whole, base64};

/// Whose embeddings are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedder {
    /// `batchEmbedContents`.
    Gemini,
    /// Version 2 of `embed`.
    Cohere,
    /// Amazon's own, with Amazon: one text at a time.
    Titan,
    /// Cohere's, with Amazon.
    BedrockCohere,
}

/// How the answer comes back.
#[derive(Debug, Clone)]
pub(super) struct Embeddings {
    embedder: Embedder,
    model: String,
    is_base64: bool,
}

/// What the client asks for.
struct Asked {
    texts: Vec<String>,
    dimensions: Option<u64>,
    /// What the texts are for, which Cohere wants to know.
    input_type: Option<String>,
    is_base64: bool,
}

impl Asked {
    fn read(body: &[u8]) -> Result<Self, Refused> {
        let body: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|_| Refused::invalid("body", "is no JSON object"))?;
        let mut fields = Fields::new(body, "");
        fields.skip(&["model", "sluice", "user"]);
        let texts = match fields.take("input") {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) => list
                .into_iter()
                .map(|value| {
                    let text = if let Value::String(text) = value { Some(text) } else { None };
                    text.ok_or_else(|| {
                        let reason = "the tokens of one provider are not another's; send text";
                        Refused::unsupported("input", reason)
                    })
                })
                .collect::<Result<_, _>>()?,
            _ => return Err(Refused::invalid("input", "must be a string or a list of strings")),
        };
        let is_base64 = match fields.text("encoding_format")?.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(Refused::invalid("encoding_format", "must be float or base64")),
        };
        let asked = Self {
            texts,
            dimensions: fields.count("dimensions")?,
            input_type: fields.text("input_type")?,
            is_base64,
        };
        match fields.rest().keys().next() {
            None => Ok(asked),
            Some(name) => {
                let reason = "the provider of this model has nothing like it";
                Err(Refused::unsupported(name.clone(), reason))
            }
        }
    }
}

/// The body for `embedder`, and how its answer comes back.
pub(super) fn write(
    embedder: Embedder,
    model: &str,
    body: &[u8],
) -> Result<(Value, Embeddings), Refused> {
    let asked = Asked::read(body)?;
    let mut body = Map::new();
    match embedder {
        Embedder::Gemini => {
            let request = |text: &String| {
                let mut one = Map::new();
                one.insert("model".to_owned(), format!("models/{model}").into());
                one.insert("content".to_owned(), json!({"parts": [{"text": text}]}));
                put(&mut one, "outputDimensionality", asked.dimensions);
                Value::Object(one)
            };
            let requests: Vec<Value> = asked.texts.iter().map(request).collect();
            body.insert("requests".to_owned(), requests.into());
        }
        Embedder::Cohere | Embedder::BedrockCohere => {
            if embedder == Embedder::Cohere {
                body.insert("model".to_owned(), model.into());
            }
            let input_type = asked.input_type.as_deref().unwrap_or("search_document");
            body.insert("texts".to_owned(), asked.texts.clone().into());
            body.insert("input_type".to_owned(), input_type.into());
            body.insert("embedding_types".to_owned(), json!(["float"]));
            put(&mut body, "output_dimension", asked.dimensions);
        }
        Embedder::Titan => {
            let [text] = asked.texts.as_slice() else {
                let reason = "this model embeds one text at a time; send one";
                return Err(Refused::unsupported("input", reason));
            };
            body.insert("inputText".to_owned(), text.as_str().into());
            put(&mut body, "dimensions", asked.dimensions);
        }
    }
    let answer = Embeddings { embedder, model: model.to_owned(), is_base64: asked.is_base64 };
    Ok((Value::Object(body), answer))
}

type Vector = Vec<f64>;

#[derive(Deserialize)]
struct GeminiAnswer {
    embeddings: Vec<GeminiVector>,
}

#[derive(Deserialize)]
struct GeminiVector {
    values: Vector,
}

#[derive(Deserialize)]
struct CohereAnswer {
    embeddings: CohereVectors,
    meta: Option<CohereMeta>,
}

/// By type when types were asked for, and bare from older models.
#[derive(Deserialize)]
#[serde(untagged)]
enum CohereVectors {
    ByType { float: Vec<Vector> },
    Bare(Vec<Vector>),
}

#[derive(Deserialize)]
struct CohereMeta {
    billed_units: Option<CohereUnits>,
}

#[derive(Deserialize)]
struct CohereUnits {
    input_tokens: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TitanAnswer {
    embedding: Vector,
    input_text_token_count: Option<u64>,
}

impl Embeddings {
    /// Translates a whole answer; `None` for what is none.
    pub(super) fn whole(&self, body: &[u8]) -> Option<Whole> {
        let (vectors, tokens) = match self.embedder {
            Embedder::Gemini => {
                let answer: GeminiAnswer = serde_json::from_slice(body).ok()?;
                (answer.embeddings.into_iter().map(|vector| vector.values).collect(), None)
            }
            Embedder::Cohere | Embedder::BedrockCohere => {
                let answer: CohereAnswer = serde_json::from_slice(body).ok()?;
                let billed = answer.meta.and_then(|meta| meta.billed_units);
                let tokens = billed.and_then(|units| count(units.input_tokens?));
                let (CohereVectors::ByType { float: vectors } | CohereVectors::Bare(vectors)) =
                    answer.embeddings;
                (vectors, tokens)
            }
            Embedder::Titan => {
                let answer: TitanAnswer = serde_json::from_slice(body).ok()?;
                (vec![answer.embedding], answer.input_text_token_count)
            }
        };
        let entry = |(index, vector): (usize, &Vector)| json!({"object": "embedding", "index": index, "embedding": self.written(vector)});
        let data: Vec<Value> = vectors.iter().enumerate().map(entry).collect();
        let told = tokens.unwrap_or(0);
        let answer = json!({
            "object": "list",
            "data": data,
            "model": self.model,
            "usage": {"prompt_tokens": told, "total_tokens": told},
        });
        let usage = tokens.map(|input| Usage { input: Some(input), ..Usage::default() });
        Some(Whole::Answer { body: answer.to_string().into_bytes(), usage, text_bytes: 0 })
    }

    fn written(&self, vector: &Vector) -> Value {
        if !self.is_base64 {
            return vector.clone().into();
        }
        #[expect(clippy::cast_possible_truncation, reason = "this encoding has 32 bits of each")]
        let bytes: Vec<u8> =
            vector.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect();
        base64::encode(&bytes).into()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a count before"
)]
fn count(number: f64) -> Option<u64> {
    (0.0..1e15).contains(&number).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(embedder: Embedder, body: &Value) -> Result<(Value, Embeddings), String> {
        write(embedder, "m", body.to_string().as_bytes()).map_err(|refused| refused.to_string())
    }

    fn answered(answer: &Embeddings, body: &Value) -> Value {
        match answer.whole(body.to_string().as_bytes()) {
            Some(Whole::Answer { body, .. }) => serde_json::from_slice(&body).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_provider_is_asked_and_answers_in_its_own_way() {
        let two = json!({"model": "x", "input": ["a", "b"], "dimensions": 2});
        let cohere = json!({
            "texts": ["a", "b"], "input_type": "search_document", "embedding_types": ["float"],
            "output_dimension": 2,
        });
        let mut own = json!({"model": "m"});
        own.as_object_mut().unwrap().extend(cohere.as_object().unwrap().clone());
        let one = |text: &str| json!({"model": "models/m", "content": {"parts": [{"text": text}]}, "outputDimensionality": 2});
        let vectors = json!([[0.5, 1.0], [0.25, 2.0]]);
        for (embedder, body, answer, tokens) in [
            (
                Embedder::Gemini,
                json!({"requests": [one("a"), one("b")]}),
                json!({"embeddings": [{"values": [0.5, 1.0]}, {"values": [0.25, 2.0]}]}),
                0,
            ),
            (
                Embedder::Cohere,
                own,
                json!({"embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": 4.0}}}),
                4,
            ),
            (Embedder::BedrockCohere, cohere, json!({"embeddings": vectors}), 0),
        ] {
            let (written, back) = asked(embedder, &two).unwrap();
            assert_eq!(written, body, "{embedder:?}");
            let got = answered(&back, &answer);
            let expected = json!({
                "object": "list", "model": "m",
                "data": [
                    {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]},
                    {"object": "embedding", "index": 1, "embedding": [0.25, 2.0]},
                ],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            });
            assert_eq!(got, expected, "{embedder:?}");
        }
    }

    #[test]
    fn titan_embeds_one_text_and_base64_is_what_it_is_with_openai() {
        let body = json!({"input": "a", "encoding_format": "base64"});
        let (written, back) = asked(Embedder::Titan, &body).unwrap();
        assert_eq!(written, json!({"inputText": "a"}));
        let got = answered(&back, &json!({"embedding": [1.0, -2.0], "inputTextTokenCount": 3}));
        assert_eq!(got["data"][0]["embedding"], "AACAPwAAAMA=");
        assert_eq!(got["usage"]["total_tokens"], 3);
        let two = json!({"input": ["a", "b"]});
        assert!(asked(Embedder::Titan, &two).unwrap_err().contains("`input`"));
    }

    #[test]
    fn what_another_provider_lacks_is_refused_by_name() {
        for (body, field) in [
            (json!({"input": [1, 2]}), "`input`"),
            (json!({"input": [[1, 2]]}), "`input`"),
            (json!({"input": "a", "encoding_format": "int8"}), "`encoding_format`"),
            (json!({"input": "a", "not_yet_invented": 1}), "`not_yet_invented`"),
            (json!({}), "`input`"),
        ] {
            let refused = asked(Embedder::Gemini, &body).unwrap_err();
            assert!(refused.contains(field), "{refused}");
        }
    }
}
