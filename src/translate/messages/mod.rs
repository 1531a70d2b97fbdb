//! Anthropic Messages.

pub(super) mod answer_read;
pub(super) mod answer_write;
pub(super) mod model;
pub(super) mod request_read;
pub(super) mod request_write;
mod schema;
pub(super) mod stream_read;
pub(super) mod stream_write;
pub(super) mod words;

use serde_json::{Value, json};

use super::form::Cache;

/// A cache point as this dialect, and those who copied it, write it.
pub(super) fn cache_control(cache: Cache) -> Value {
    if cache.is_long {
        json!({"type": "ephemeral", "ttl": "1h"})
    } else {
        json!({"type": "ephemeral"})
    }
}
