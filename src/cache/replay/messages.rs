//! Anthropic's messages.

use serde_json::{Value, json};

use super::{add_text, event};

pub(super) fn put_together(events: Vec<Value>) -> Option<Value> {
    let mut message = Value::Null;
    let mut inputs: Vec<String> = Vec::new();
    let mut is_over = false;
    for mut event in events {
        match event.get("type")?.as_str()? {
            "message_start" => message = event.get_mut("message")?.take(),
            "content_block_start" => {
                let block = event.get_mut("content_block")?.take();
                message.get_mut("content")?.as_array_mut()?.push(block);
                inputs.push(String::new());
            }
            "content_block_delta" => {
                let index = usize::try_from(event.get("index")?.as_u64()?).ok()?;
                let block = message.get_mut("content")?.get_mut(index)?;
                add(block, inputs.get_mut(index)?, event.get("delta")?)?;
            }
            "message_delta" => {
                for (name, value) in event.get("delta")?.as_object()? {
                    message.as_object_mut()?.insert(name.clone(), value.clone());
                }
                let usage = event.get("usage").and_then(Value::as_object);
                for (name, value) in usage.into_iter().flatten().filter(|(_, it)| !it.is_null()) {
                    message.get_mut("usage")?.as_object_mut()?.insert(name.clone(), value.clone());
                }
            }
            "message_stop" => is_over = true,
            "content_block_stop" | "ping" => {}
            _ => return None,
        }
    }
    let blocks = message.get_mut("content")?.as_array_mut()?;
    for (block, input) in blocks.iter_mut().zip(inputs) {
        if !input.is_empty() {
            let input = serde_json::from_str(&input).ok()?;
            block.as_object_mut()?.insert("input".to_owned(), input);
        }
    }
    is_over.then_some(message)
}

fn add(block: &mut Value, input: &mut String, delta: &Value) -> Option<()> {
    let text = |field: &str| delta.get(field).and_then(Value::as_str);
    match delta.get("type")?.as_str()? {
        "text_delta" => add_text(block, "text", text("text")?),
        "thinking_delta" => add_text(block, "thinking", text("thinking")?),
        "signature_delta" => add_text(block, "signature", text("signature")?),
        "input_json_delta" => {
            input.push_str(text("partial_json")?);
            Some(())
        }
        "citations_delta" => {
            let citation = delta.get("citation")?.clone();
            let slot = block.as_object_mut()?.entry("citations").or_insert(Value::Null);
            if !slot.is_array() {
                *slot = json!([]);
            }
            slot.as_array_mut()?.push(citation);
            Some(())
        }
        _ => None,
    }
}

pub(super) fn spelled(mut message: Value) -> Option<String> {
    let Value::Array(blocks) = message.get_mut("content")?.take() else { return None };
    let object = message.as_object_mut()?;
    object.insert("content".to_owned(), json!([]));
    let mut end = serde_json::Map::new();
    for name in ["stop_reason", "stop_sequence"] {
        let value = object.insert(name.to_owned(), Value::Null).unwrap_or_default();
        end.insert(name.to_owned(), value);
    }
    let usage = message.get("usage")?.clone();
    let mut text = String::new();
    event("message_start", &json!({"type": "message_start", "message": message}), &mut text);
    for (index, block) in blocks.into_iter().enumerate() {
        let (start, deltas) = pieces(block)?;
        let kind = "content_block_start";
        let data = json!({"type": kind, "index": index, "content_block": start});
        event(kind, &data, &mut text);
        for delta in deltas {
            let kind = "content_block_delta";
            event(kind, &json!({"type": kind, "index": index, "delta": delta}), &mut text);
        }
        let kind = "content_block_stop";
        event(kind, &json!({"type": kind, "index": index}), &mut text);
    }
    let data = json!({"type": "message_delta", "delta": end, "usage": usage});
    event("message_delta", &data, &mut text);
    event("message_stop", &json!({"type": "message_stop"}), &mut text);
    Some(text)
}

/// A block as it begins, and what comes to it.
fn pieces(mut block: Value) -> Option<(Value, Vec<Value>)> {
    let kind = block.get("type")?.as_str()?.to_owned();
    let object = block.as_object_mut()?;
    let mut deltas = Vec::new();
    match kind.as_str() {
        "text" => {
            for citation in object.remove("citations").iter().filter_map(Value::as_array).flatten()
            {
                deltas.push(json!({"type": "citations_delta", "citation": citation}));
            }
            let text = object.insert("text".to_owned(), json!(""))?;
            deltas.insert(0, json!({"type": "text_delta", "text": text}));
        }
        "thinking" => {
            let text = object.insert("thinking".to_owned(), json!(""))?;
            deltas.push(json!({"type": "thinking_delta", "thinking": text}));
            if let Some(signature) = object.insert("signature".to_owned(), json!("")) {
                deltas.push(json!({"type": "signature_delta", "signature": signature}));
            }
        }
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            let input = object.insert("input".to_owned(), json!({}))?.to_string();
            deltas.push(json!({"type": "input_json_delta", "partial_json": input}));
        }
        // Others come whole.
        _ => {}
    }
    Some((block, deltas))
}
