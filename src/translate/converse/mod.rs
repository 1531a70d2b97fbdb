//! `Converse` of Amazon Bedrock, as the provider speaks it.

pub(super) mod answer_read;
pub(super) mod request_write;
pub(super) mod stream_read;
mod words;
