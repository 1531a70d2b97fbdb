//! Chat completions, and completions of a prompt.

use serde_json::{Map, Value, json};

use super::add_text;
use crate::dialect::Dialect;
use crate::usage::record::Tokens;

/// Fields of a delta whose text comes in pieces; others come at once.
const IN_PIECES: [&str; 6] =
    ["content", "refusal", "reasoning_content", "reasoning", "arguments", "text"];

pub(super) fn put_together(dialect: Dialect, events: Vec<Value>, tokens: &Tokens) -> Option<Value> {
    let mut answer = Map::new();
    let mut choices: Vec<Value> = Vec::new();
    for event in events {
        let Value::Object(event) = event else { return None };
        for (name, value) in event {
            match (name.as_str(), value) {
                ("choices", Value::Array(list)) => {
                    for choice in list {
                        add_choice(&mut choices, choice)?;
                    }
                }
                ("object", _) | (_, Value::Null) => {}
                (_, value) => {
                    answer.insert(name, value);
                }
            }
        }
    }
    if choices.is_empty() {
        return None;
    }
    choices.sort_by_key(|choice| choice.get("index").and_then(Value::as_u64));
    let object = if dialect == Dialect::Chat { "chat.completion" } else { "text_completion" };
    answer.insert("object".to_owned(), json!(object));
    let usage = answer.remove("usage").unwrap_or_else(|| usage(tokens));
    answer.insert("choices".to_owned(), Value::Array(choices));
    answer.insert("usage".to_owned(), usage);
    Some(Value::Object(answer))
}

/// What was counted, where the stream did not say it to its client.
fn usage(tokens: &Tokens) -> Value {
    let input = [tokens.input_uncached, tokens.input_cache_read, tokens.input_cache_write_5m];
    let input: u64 = input.into_iter().flatten().sum();
    let output: u64 = [tokens.output, tokens.reasoning].into_iter().flatten().sum();
    json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
    })
}

fn add_choice(choices: &mut Vec<Value>, piece: Value) -> Option<()> {
    let Value::Object(piece) = piece else { return None };
    let index = piece.get("index").and_then(Value::as_u64).unwrap_or(0);
    let is_it = |choice: &&mut Value| choice.get("index").and_then(Value::as_u64) == Some(index);
    if choices.iter_mut().find(is_it).is_none() {
        choices.push(json!({ "index": index }));
    }
    let choice = choices.iter_mut().find(is_it)?;
    for (name, value) in piece {
        match (name.as_str(), value) {
            ("delta", Value::Object(delta)) => {
                let message = choice.as_object_mut()?.entry("message").or_insert_with(|| json!({}));
                add(message, delta)?;
            }
            ("text", Value::String(text)) => add_text(choice, "text", &text)?,
            ("logprobs", Value::Object(logprobs)) => {
                let all = choice.as_object_mut()?.entry("logprobs").or_insert(Value::Null);
                add_lists(all, logprobs)?;
            }
            (_, Value::Null) => {
                choice.as_object_mut()?.entry(name).or_insert(Value::Null);
            }
            (_, value) => {
                choice.as_object_mut()?.insert(name, value);
            }
        }
    }
    Some(())
}

/// Puts the pieces of `delta` at the end of what is there.
fn add(into: &mut Value, delta: Map<String, Value>) -> Option<()> {
    for (name, value) in delta {
        match value {
            Value::String(text) if IN_PIECES.contains(&name.as_str()) => {
                add_text(into, &name, &text)?;
            }
            Value::Object(inner) => {
                let slot = into.as_object_mut()?.entry(name).or_insert_with(|| json!({}));
                if !slot.is_object() {
                    *slot = json!({});
                }
                add(slot, inner)?;
            }
            Value::Array(items) => {
                let slot = into.as_object_mut()?.entry(name).or_insert_with(|| json!([]));
                add_items(slot, items)?;
            }
            Value::Null => {
                into.as_object_mut()?.entry(name).or_insert(Value::Null);
            }
            value => {
                into.as_object_mut()?.insert(name, value);
            }
        }
    }
    Some(())
}

/// Items with an `index` come in pieces; others one after the other.
fn add_items(into: &mut Value, items: Vec<Value>) -> Option<()> {
    if !into.is_array() {
        *into = json!([]);
    }
    let list = into.as_array_mut()?;
    for item in items {
        let index =
            item.get("index").and_then(Value::as_u64).and_then(|it| usize::try_from(it).ok());
        match (index, item) {
            // More than anybody calls at once: nothing is made for a hole.
            (Some(index), Value::Object(mut piece)) if index <= list.len() => {
                piece.remove("index");
                if index == list.len() {
                    list.push(json!({}));
                }
                add(list.get_mut(index)?, piece)?;
            }
            (None, item) => list.push(item),
            (Some(_), _) => return None,
        }
    }
    Some(())
}

/// Lists of logprobs, one after the other.
fn add_lists(into: &mut Value, lists: Map<String, Value>) -> Option<()> {
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in lists {
        let slot = into.as_object_mut()?.entry(name).or_insert(Value::Null);
        match (slot, value) {
            (Value::Array(all), Value::Array(more)) => all.extend(more),
            (slot, value) if !value.is_null() => *slot = value,
            _ => {}
        }
    }
    Some(())
}

pub(super) fn spelled(dialect: Dialect, answer: Value, has_usage: bool) -> Option<String> {
    let Value::Object(mut frame) = answer else { return None };
    let Some(Value::Array(choices)) = frame.remove("choices") else { return None };
    let usage = frame.remove("usage");
    let is_chat = dialect == Dialect::Chat;
    if is_chat {
        frame.insert("object".to_owned(), json!("chat.completion.chunk"));
    }
    let (mut pieces, mut ends) = (Vec::new(), Vec::new());
    for choice in choices {
        let Value::Object(mut choice) = choice else { return None };
        let mut end = Map::new();
        end.insert("index".to_owned(), choice.get("index").cloned().unwrap_or_else(|| json!(0)));
        if is_chat {
            let mut delta = choice.remove("message")?;
            if let Some(Value::Array(calls)) = delta.get_mut("tool_calls") {
                for (index, call) in calls.iter_mut().enumerate() {
                    call.as_object_mut()?.insert("index".to_owned(), json!(index));
                }
            }
            choice.insert("delta".to_owned(), delta);
            end.insert("delta".to_owned(), json!({}));
        } else {
            end.insert("text".to_owned(), json!(""));
        }
        let finish = choice.insert("finish_reason".to_owned(), Value::Null).unwrap_or_default();
        end.insert("finish_reason".to_owned(), finish);
        pieces.push(Value::Object(choice));
        ends.push(Value::Object(end));
    }
    let mut text = String::new();
    let mut chunk = |choices: Vec<Value>, usage: Option<Value>| {
        let mut chunk = frame.clone();
        chunk.insert("choices".to_owned(), Value::Array(choices));
        chunk.extend(usage.map(|usage| ("usage".to_owned(), usage)));
        text.push_str("data: ");
        text.push_str(&Value::Object(chunk).to_string());
        text.push_str("\n\n");
    };
    chunk(pieces, None);
    chunk(ends, None);
    if has_usage {
        chunk(Vec::new(), Some(usage?));
    }
    text.push_str("data: [DONE]\n\n");
    Some(text)
}
