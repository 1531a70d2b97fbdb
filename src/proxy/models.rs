//! `GET /v1/models` and its kin: what a key may call, in the shape of each dialect.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::control::snapshot::Deployment;
use crate::dialect::Envelope;

/// All of them, sorted by name. The list is short and comes as one page.
pub fn list(visible: &[&Arc<Deployment>], envelope: Envelope) -> Value {
    let data: Vec<Value> = visible.iter().map(|deployment| entry(deployment, envelope)).collect();
    match envelope {
        Envelope::OpenAi => json!({"object": "list", "data": data}),
        Envelope::Anthropic => json!({
            "data": data,
            "has_more": false,
            "first_id": visible.first().map(|deployment| &*deployment.name),
            "last_id": visible.last().map(|deployment| &*deployment.name),
        }),
        Envelope::Google | Envelope::Ollama => json!({"models": data}),
    }
}

/// One of them by name; `None` for what the key may not see, too.
pub fn one(visible: &[&Arc<Deployment>], id: &str, envelope: Envelope) -> Option<Value> {
    visible
        .iter()
        .find(|deployment| *deployment.name == *id)
        .map(|deployment| entry(deployment, envelope))
}

/// Names have no time of making here; most shapes want one.
fn entry(deployment: &Deployment, envelope: Envelope) -> Value {
    let id = &*deployment.name;
    match envelope {
        Envelope::OpenAi => json!({
            "id": id, "object": "model", "created": 0, "owned_by": "sluice",
        }),
        Envelope::Anthropic => json!({
            "type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z",
        }),
        Envelope::Google => json!({
            "name": format!("models/{id}"),
            "version": "1",
            "displayName": id,
            "supportedGenerationMethods": ["generateContent"],
        }),
        Envelope::Ollama => json!({
            "name": id, "model": id, "modified_at": "1970-01-01T00:00:00Z", "size": 0, "digest": "",
            "details": {
                "parent_model": "", "format": "", "family": "", "families": [],
                "parameter_size": "", "quantization_level": "",
            },
        }),
    }
}
