//! OpenAI's responses: the last event of a stream holds the whole answer.

use serde_json::{Value, json};

use super::event;

pub(super) fn put_together(events: Vec<Value>) -> Option<Value> {
    let mut last = events.into_iter().rev().find(|event| {
        let kind = event.get("type").and_then(Value::as_str);
        matches!(kind, Some("response.completed" | "response.incomplete"))
    })?;
    last.get_mut("response").map(Value::take)
}

/// Events, numbered one after the other.
struct Writer {
    text: String,
    n: u64,
}

impl Writer {
    fn put(&mut self, kind: &str, fields: Value) {
        let Value::Object(mut data) = json!({"type": kind, "sequence_number": self.n}) else {
            return;
        };
        if let Value::Object(fields) = fields {
            data.extend(fields);
        }
        self.n += 1;
        event(kind, &Value::Object(data), &mut self.text);
    }
}

pub(super) fn spelled(answer: &Value) -> Option<String> {
    let items = answer.get("output")?.as_array()?.clone();
    let mut begun = answer.clone();
    let object = begun.as_object_mut()?;
    object.insert("status".to_owned(), json!("in_progress"));
    object.insert("output".to_owned(), json!([]));
    object.insert("usage".to_owned(), Value::Null);
    let mut writer = Writer { text: String::new(), n: 0 };
    writer.put("response.created", json!({ "response": begun }));
    writer.put("response.in_progress", json!({ "response": begun }));
    for (index, item) in items.iter().enumerate() {
        put_item(&mut writer, index, item)?;
    }
    let is_whole = answer.get("status").and_then(Value::as_str) != Some("incomplete");
    let kind = if is_whole { "response.completed" } else { "response.incomplete" };
    writer.put(kind, json!({ "response": answer }));
    Some(writer.text)
}

fn put_item(writer: &mut Writer, index: usize, item: &Value) -> Option<()> {
    let id = item.get("id").cloned().unwrap_or_default();
    let mut begun = item.clone();
    let object = begun.as_object_mut()?;
    object.insert("status".to_owned(), json!("in_progress"));
    let kind = item.get("type")?.as_str()?;
    match kind {
        "message" => drop(object.insert("content".to_owned(), json!([]))),
        "function_call" => drop(object.insert("arguments".to_owned(), json!(""))),
        _ => {}
    }
    writer.put("response.output_item.added", json!({"output_index": index, "item": begun}));
    match kind {
        "message" => {
            for (part_index, part) in item.get("content")?.as_array()?.iter().enumerate() {
                let at = json!({
                    "item_id": id, "output_index": index, "content_index": part_index,
                });
                put_part(writer, &at, part)?;
            }
        }
        "function_call" => {
            let arguments = item.get("arguments")?;
            let delta = json!({"item_id": id, "output_index": index, "delta": arguments});
            writer.put("response.function_call_arguments.delta", delta);
            let done = json!({"item_id": id, "output_index": index, "arguments": arguments});
            writer.put("response.function_call_arguments.done", done);
        }
        _ => {}
    }
    writer.put("response.output_item.done", json!({"output_index": index, "item": item}));
    Some(())
}

fn put_part(writer: &mut Writer, at: &Value, part: &Value) -> Option<()> {
    let with = |name: &str, value: Value| {
        let mut fields = at.clone();
        if let Value::Object(fields) = &mut fields {
            fields.insert(name.to_owned(), value);
        }
        fields
    };
    let field = match part.get("type")?.as_str()? {
        "output_text" => "text",
        "refusal" => "refusal",
        _ => return None,
    };
    let kind = if field == "text" { "response.output_text" } else { "response.refusal" };
    let mut begun = part.clone();
    let whole = begun.as_object_mut()?.insert(field.to_owned(), json!(""))?;
    writer.put("response.content_part.added", with("part", begun));
    writer.put(&format!("{kind}.delta"), with("delta", whole.clone()));
    writer.put(&format!("{kind}.done"), with(field, whole));
    writer.put("response.content_part.done", with("part", part.clone()));
    Some(())
}
