//! The usage object of each dialect, and what it means in our token convention.
//!
//! Providers put some numbers inside of others: `OpenAI`'s `prompt_tokens` holds the cached ones,
//! Anthropic's `input_tokens` does not. Here no number is inside of another. A number that cannot
//! be one (negative, fractional, beyond `COUNT_MAX`, or a part larger than its whole) counts as not
//! reported.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::dialect::Dialect;
use crate::usage::record::Tokens;

const COUNT_MAX: u64 = 1_000_000_000_000;

/// One number of a usage object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Count {
    #[default]
    Absent,
    Of(u64),
    Absurd,
}

/// A usage object of any dialect.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    #[serde(alias = "promptTokenCount")]
    prompt_tokens: Count,
    #[serde(alias = "candidatesTokenCount")]
    completion_tokens: Count,
    total_tokens: Count,
    /// Of Google, what its tools have read.
    #[serde(alias = "toolUsePromptTokenCount")]
    input_tokens: Count,
    /// Of Google, what was thought.
    #[serde(alias = "thoughtsTokenCount")]
    output_tokens: Count,
    #[serde(alias = "input_tokens_details", alias = "input_token_details")]
    prompt_tokens_details: Option<InputDetails>,
    #[serde(alias = "output_tokens_details", alias = "output_token_details")]
    completion_tokens_details: Option<OutputDetails>,
    #[serde(alias = "cachedContentTokenCount")]
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    cache_creation: Option<CacheCreation>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Count,
    audio_tokens: Count,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Count,
    audio_tokens: Count,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Count,
    ephemeral_1h_input_tokens: Count,
}

/// Tokens in our convention, and whether something of what was said cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Converted {
    pub(super) tokens: Tokens,
    pub(super) is_absurd: bool,
}

impl Usage {
    /// What `self` said, with what `later` says on top: a stream's numbers are cumulative.
    pub(super) fn updated(self, later: Self) -> Self {
        Self {
            prompt_tokens: later.prompt_tokens.or(self.prompt_tokens),
            completion_tokens: later.completion_tokens.or(self.completion_tokens),
            total_tokens: later.total_tokens.or(self.total_tokens),
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            prompt_tokens_details: later.prompt_tokens_details.or(self.prompt_tokens_details),
            completion_tokens_details: later
                .completion_tokens_details
                .or(self.completion_tokens_details),
            cache_read_input_tokens: later.cache_read_input_tokens.or(self.cache_read_input_tokens),
            cache_creation_input_tokens: later
                .cache_creation_input_tokens
                .or(self.cache_creation_input_tokens),
            cache_creation: later.cache_creation.or(self.cache_creation),
        }
    }

    pub(super) fn convert(&self, dialect: Dialect) -> Converted {
        let mut converted = Converted::default();
        match dialect {
            Dialect::Messages => self.messages(&mut converted),
            Dialect::Gemini => self.google(&mut converted),
            Dialect::Chat
            | Dialect::Responses
            | Dialect::Embeddings
            | Dialect::Completions
            | Dialect::Moderations
            | Dialect::Converse
            | Dialect::Cohere
            | Dialect::Ollama
            | Dialect::Rerank
            | Dialect::Images
            | Dialect::Audio => self.open_ai(&mut converted),
        }
        converted
    }

    /// Input without the cached part; writes by how long they are kept, or all of them short.
    fn messages(&self, converted: &mut Converted) {
        let mut take = |count: Count| count.take(&mut converted.is_absurd);
        let (short, long) = match &self.cache_creation {
            Some(creation) => {
                (take(creation.ephemeral_5m_input_tokens), take(creation.ephemeral_1h_input_tokens))
            }
            None => (take(self.cache_creation_input_tokens), None),
        };
        converted.tokens = Tokens {
            input_uncached: take(self.input_tokens),
            input_cache_read: take(self.cache_read_input_tokens),
            input_cache_write_5m: short,
            input_cache_write_1h: long,
            output: take(self.output_tokens),
            ..Tokens::default()
        };
    }

    /// Cached tokens inside of the input, thoughts beside the output.
    fn google(&self, converted: &mut Converted) {
        let is_absurd = &mut converted.is_absurd;
        let input = [self.prompt_tokens, self.input_tokens].map(|count| count.take(is_absurd));
        let input = input.into_iter().flatten().reduce(u64::saturating_add);
        let cached = self.cache_read_input_tokens.take(is_absurd);
        let parts = Parts::of(input, [cached, None], is_absurd);
        converted.tokens = Tokens {
            input_uncached: parts.rest,
            input_cache_read: parts.parts[0],
            output: self.completion_tokens.take(is_absurd),
            reasoning: self.output_tokens.take(is_absurd),
            ..Tokens::default()
        };
    }

    /// Both sides as wholes with parts inside.
    fn open_ai(&self, converted: &mut Converted) {
        let is_absurd = &mut converted.is_absurd;
        let mut input = self.prompt_tokens.or(self.input_tokens).take(is_absurd);
        let output = self.completion_tokens.or(self.output_tokens).take(is_absurd);
        let total = self.total_tokens.take(is_absurd);
        if input.is_none() && output.is_none() {
            input = total; // All that some rerankers and embedders say.
        }
        let tokens = &mut converted.tokens;

        let details = self.prompt_tokens_details.clone().unwrap_or_default();
        let cached = details.cached_tokens.take(is_absurd);
        let audio = details.audio_tokens.take(is_absurd);
        let parts = Parts::of(input, [cached, audio], is_absurd);
        tokens.input_uncached = parts.rest;
        [tokens.input_cache_read, tokens.audio_in] = parts.parts;

        let details = self.completion_tokens_details.clone().unwrap_or_default();
        let reasoning = details.reasoning_tokens.take(is_absurd);
        let audio = details.audio_tokens.take(is_absurd);
        // Some count reasoning beside the output instead of inside; then only the sum of all three
        // is the total.
        let sum = [input, output, reasoning].into_iter().flatten().sum();
        let is_beside = reasoning.is_some_and(|n| n > 0) && total == Some(sum);
        let parts = if is_beside {
            let inner = Parts::of(output, [None, audio], is_absurd);
            Parts { rest: inner.rest, parts: [reasoning, inner.parts[1]] }
        } else {
            Parts::of(output, [reasoning, audio], is_absurd)
        };
        tokens.output = parts.rest;
        [tokens.reasoning, tokens.audio_out] = parts.parts;
    }
}

/// A whole without its parts, and the parts.
struct Parts {
    rest: Option<u64>,
    parts: [Option<u64>; 2],
}

impl Parts {
    /// Parts that are more than the whole count as not reported.
    fn of(whole: Option<u64>, parts: [Option<u64>; 2], is_absurd: &mut bool) -> Self {
        let inside = parts.iter().flatten().sum();
        match whole.map(|whole| whole.checked_sub(inside)) {
            Some(Some(rest)) => Self { rest: Some(rest), parts },
            None if inside == 0 => Self { rest: None, parts },
            Some(None) | None => {
                *is_absurd = true;
                Self { rest: whole, parts: [None; 2] }
            }
        }
    }
}

impl Count {
    fn or(self, other: Self) -> Self {
        if self == Self::Absent { other } else { self }
    }

    fn take(self, is_absurd: &mut bool) -> Option<u64> {
        match self {
            Self::Of(count) => Some(count),
            Self::Absent => None,
            Self::Absurd => {
                *is_absurd = true;
                None
            }
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

/// Takes any value, because one odd number must not hide the others.
struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of tokens")
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count::Absent)
    }

    fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
        Ok(if count <= COUNT_MAX { Count::Of(count) } else { Count::Absurd })
    }

    fn visit_i64<E>(self, _negative: i64) -> Result<Count, E> {
        Ok(Count::Absurd)
    }

    fn visit_f64<E>(self, _fraction: f64) -> Result<Count, E> {
        Ok(Count::Absurd)
    }

    fn visit_bool<E>(self, _flag: bool) -> Result<Count, E> {
        Ok(Count::Absurd)
    }

    fn visit_str<E>(self, _text: &str) -> Result<Count, E> {
        Ok(Count::Absurd)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Count, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count::Absurd)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Count, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count::Absurd)
    }
}
