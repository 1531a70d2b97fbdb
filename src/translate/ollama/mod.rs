//! Ollama's own dialect: `/api/chat`, and `/api/generate` without turns.

pub(super) mod answer_write;
pub(super) mod request_read;
pub(super) mod stream_write;
