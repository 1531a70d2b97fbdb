//! What answers are made of: text, tool calls, token counts.

use super::behaviour::{Behaviour, Weird};
use super::json::{Raw, object};

/// When everything was made: answers are the same every time.
pub(super) const CREATED: u64 = 1_750_000_000;

const WORDS: [&str; 16] = [
    "Hello",
    "from",
    "the",
    "simulated",
    "provider.",
    "It",
    "answers",
    "quickly,",
    "says",
    "little",
    "and",
    "does",
    "exactly",
    "what",
    "its",
    "script",
];
const FILLER: &str = "A simulated answer has as many bytes as it was asked for, and no meaning. ";

/// The text of an answer, a piece for each content event.
pub fn text_pieces(behaviour: &Behaviour) -> Vec<String> {
    let events_n = behaviour.events_n();
    let mut pieces: Vec<String> = match behaviour.bytes {
        None => WORDS.iter().cycle().take(events_n).enumerate().map(spaced).collect(),
        Some(bytes) => {
            let filler: String = FILLER.chars().cycle().take(bytes).collect();
            let mut rest = filler.as_str();
            (0..events_n)
                .map(|index| {
                    let (piece, after) = rest.split_at(rest.len() / (events_n - index));
                    rest = after;
                    piece.to_owned()
                })
                .collect()
        }
    };
    if let (Some(first), Some(bytes)) = (pieces.first_mut(), behaviour.huge_event) {
        *first = "a".repeat(bytes);
    }
    pieces
}

fn spaced((index, word): (usize, &&str)) -> String {
    if index == 0 { (*word).to_owned() } else { format!(" {word}") }
}

pub(super) const REASONING: &str = "The script asks for some reasoning.";
pub(super) const SIGNATURE: &str = "c2ltdWxhdGVkIHNpZ25hdHVyZQ==";

/// The arguments of a tool call, a piece for each content event.
pub(super) fn argument_pieces(behaviour: &Behaviour) -> Vec<String> {
    let arguments = r#"{"location":"Paris, France","unit":"celsius"}"#;
    let pieces_n = behaviour.events_n().max(1);
    let mut rest = arguments;
    (0..pieces_n)
        .map(|index| {
            let (piece, after) = rest.split_at(rest.len() / (pieces_n - index));
            rest = after;
            piece.to_owned()
        })
        .collect()
}

/// Token counts, as both vendors report them.
pub(super) struct Tokens<'a> {
    behaviour: &'a Behaviour,
    uncached: u64,
    output: u64,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(behaviour: &'a Behaviour) -> Self {
        let events_n = behaviour.events_n() as u64;
        Self {
            behaviour,
            uncached: behaviour.input_tokens.unwrap_or(20),
            output: behaviour.output_tokens.unwrap_or(events_n + behaviour.reasoning),
        }
    }

    /// A count, or what the behaviour puts in its place.
    fn number(&self, count: u64) -> Raw {
        Raw(match self.behaviour.usage_weird {
            None => count.to_string(),
            Some(Weird::Negative) => "-5".to_owned(),
            Some(Weird::Huge) => "1e18".to_owned(),
            Some(Weird::Float) => format!("{count}.5"),
            Some(Weird::String) => format!("\"{count}\""),
        })
    }

    fn is_reported(&self) -> bool {
        !self.behaviour.no_usage
    }

    /// `None` when usage is left out; `null` when it is null.
    fn reported(&self, usage: Raw) -> Option<Raw> {
        self.is_reported()
            .then(|| if self.behaviour.null_usage { Raw("null".to_owned()) } else { usage })
    }

    fn input(&self) -> u64 {
        self.uncached + self.behaviour.cache_read
    }

    pub(super) fn input_reported(&self) -> Raw {
        self.number(self.input())
    }

    /// As in Chat Completions and Completions.
    pub(super) fn chat(&self) -> Option<Raw> {
        self.reported(object! {
            "prompt_tokens": self.number(self.input()),
            "completion_tokens": self.number(self.output),
            "total_tokens": self.number(self.input() + self.output),
            "prompt_tokens_details": object! {
                "cached_tokens": self.number(self.behaviour.cache_read),
                "audio_tokens": self.number(0),
            },
            "completion_tokens_details": object! {
                "reasoning_tokens": self.number(self.behaviour.reasoning),
                "audio_tokens": self.number(0),
                "accepted_prediction_tokens": self.number(0),
                "rejected_prediction_tokens": self.number(0),
            },
        })
    }

    /// As in Responses.
    pub(super) fn responses(&self) -> Option<Raw> {
        self.reported(object! {
            "input_tokens": self.number(self.input()),
            "input_tokens_details": object! {
                "cached_tokens": self.number(self.behaviour.cache_read),
            },
            "output_tokens": self.number(self.output),
            "output_tokens_details": object! {
                "reasoning_tokens": self.number(self.behaviour.reasoning),
            },
            "total_tokens": self.number(self.input() + self.output),
        })
    }

    /// As in an Anthropic message, with this count of output tokens so far.
    pub(super) fn message(&self, output: Option<u64>) -> Option<Raw> {
        let behaviour = self.behaviour;
        self.reported(object! {
            "input_tokens": self.number(self.uncached),
            "cache_creation_input_tokens":
                self.number(behaviour.cache_write + behaviour.cache_write_1h),
            "cache_read_input_tokens": self.number(behaviour.cache_read),
            "cache_creation": object! {
                "ephemeral_5m_input_tokens": self.number(behaviour.cache_write),
                "ephemeral_1h_input_tokens": self.number(behaviour.cache_write_1h),
            },
            "output_tokens": self.number(output.unwrap_or(self.output)),
            "service_tier": "standard",
        })
    }

    /// As in a `message_delta` event.
    pub(super) fn message_delta(&self) -> Option<Raw> {
        self.reported(object! { "output_tokens": self.number(self.output) })
    }

    /// As in embeddings.
    pub(super) fn embeddings(&self) -> Option<Raw> {
        self.reported(object! {
            "prompt_tokens": self.number(self.input()),
            "total_tokens": self.number(self.input()),
        })
    }

    /// As in images and transcriptions.
    pub(super) fn media(&self) -> Option<Raw> {
        self.reported(object! {
            "type": "tokens",
            "input_tokens": self.number(self.input()),
            "input_tokens_details": object! {
                "text_tokens": self.number(self.input()),
                "image_tokens": self.number(0),
            },
            "output_tokens": self.number(self.output),
            "total_tokens": self.number(self.input() + self.output),
        })
    }
}
