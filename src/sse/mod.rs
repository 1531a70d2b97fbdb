//! Server-sent events: bytes to events, what an event means, and events of our own.

mod hold;
mod own;
mod splitter;
mod strip;
mod text;

pub use hold::{Class, StreamError, classify, is_stream_end};
pub(crate) use hold::{event_type, status_of};
pub use own::{OwnError, error_event};
pub use splitter::{EVENT_BYTES_MAX, Event, Splitter};
pub use strip::UsageStripper;
pub use text::{answer_text_bytes, event_text_bytes};

#[cfg(test)]
mod tests;
