//! What a model answers, whole.

use super::part::Piece;
use super::usage::Usage;
use crate::route::failure::Reason;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    pub id: String,
    pub model: String,
    /// Seconds since 1970, where the dialect says it.
    pub created: Option<u64>,
    pub pieces: Vec<Piece>,
    pub stop: Stop,
    pub usage: Option<Usage>,
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stop {
    #[default]
    End,
    MaxTokens,
    /// The context window is full.
    Window,
    Sequence(Option<String>),
    ToolUse,
    /// The model will not answer.
    Refusal,
    /// A filter of the provider.
    Filter,
    /// A long turn of server tools, to be continued.
    Pause,
    Cancelled,
    Failed(Box<WireError>),
}

/// An error as a provider tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WireError {
    pub status: Option<u16>,
    /// What it is about, where that has been found out.
    pub reason: Option<Reason>,
    pub kind: Option<String>,
    pub code: Option<String>,
    pub message: String,
    pub param: Option<String>,
}
