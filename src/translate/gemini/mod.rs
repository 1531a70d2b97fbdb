//! Google's `generateContent`.

pub(super) mod answer_read;
pub(super) mod answer_write;
pub(super) mod request_read;
pub(super) mod request_write;
mod schema;
pub(super) mod sealed;
pub(super) mod stream_read;
pub(super) mod stream_write;
mod words;
