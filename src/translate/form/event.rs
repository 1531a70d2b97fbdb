//! An answer in the making, event by event.
//!
//! Readers put parts one after the other: between [`Event::Open`] and [`Event::Close`] every delta
//! belongs to the part that is open, whatever the provider interleaves.

use super::answer::{Stop, WireError};
use super::part::{Citation, Seal};
use super::usage::Usage;

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Start(Start),
    Open(Open),
    /// More of a text, a refusal, a thought or a call's arguments, whichever is open.
    Delta(String),
    /// The seal of the open thought or call.
    Seal(Seal),
    Citation(Box<Citation>),
    Close,
    Usage(Usage),
    Stop(Stop),
    /// The provider reports an error; nothing follows.
    Error(Box<WireError>),
    Ping,
    /// The stream has ended as it should.
    End,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Start {
    pub id: String,
    pub model: String,
    pub created: Option<u64>,
}

/// What begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Open {
    Text,
    Refusal,
    Thinking { id: Option<String>, is_redacted: bool },
    ToolCall { id: String, name: String, is_custom: bool },
    Search { id: String, query: String },
}
