//! `OpenAI` Responses.

pub(super) mod answer_read;
pub(super) mod answer_write;
pub(super) mod request_read;
pub(super) mod request_write;
pub(super) mod stream_read;
pub(super) mod stream_write;
