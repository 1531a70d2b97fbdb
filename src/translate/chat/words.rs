//! Words of the chat dialect that both directions share.
//!
//! Chat has no place for thoughts. Their text goes into `reasoning_content`, as most providers of the
//! dialect have it; what seals them goes into `reasoning_details`, as `OpenRouter` has it. A client
//! that sends the message back as it came sends both back.

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::translate::Refused;
use crate::translate::fields::Fields;
use crate::translate::form::{Part, Piece, Seal, Stop, Thinking, Usage};

const TEXT: &str = "reasoning.text";
const ENCRYPTED: &str = "reasoning.encrypted";

/// The thoughts of a message of the assistant.
pub(super) fn sealed_thinking(fields: &mut Fields) -> Result<Vec<Piece>, Refused> {
    let text = fields.text("reasoning_content")?.or(fields.text("reasoning")?);
    let Some(details) = fields.list("reasoning_details")? else {
        let thinking = |text| Part::Thinking(Thinking { text, ..Thinking::default() }).into();
        return Ok(text.filter(|text| !text.is_empty()).map(thinking).into_iter().collect());
    };
    let path = fields.at("reasoning_details");
    let mut pieces = Vec::new();
    for (at, detail) in details.into_iter().enumerate() {
        let mut detail = Fields::of(detail, format!("{path}[{at}]"))?;
        let kind = detail.text("type")?.unwrap_or_default();
        let id = detail.text("id")?;
        let (text, sealed) = match kind.as_str() {
            ENCRYPTED => (String::new(), detail.text("data")?),
            "reasoning.summary" => (detail.text("summary")?.unwrap_or_default(), None),
            _ => (detail.text("text")?.unwrap_or_default(), detail.text("signature")?),
        };
        let mut thinking = Thinking::sealed(text, sealed, Dialect::Chat);
        thinking.id = thinking.id.or(id);
        pieces.push(Part::Thinking(thinking).into());
    }
    Ok(pieces)
}

/// One entry of `reasoning_details`.
pub(super) fn detail(thinking: &Thinking, index: usize) -> Value {
    let mut entry = Map::new();
    let seal = thinking.sealed_text(Dialect::Chat);
    if thinking.text.is_empty() && seal.is_some() {
        entry.insert("type".to_owned(), ENCRYPTED.into());
        entry.insert("data".to_owned(), seal.into());
    } else {
        entry.insert("type".to_owned(), TEXT.into());
        entry.insert("text".to_owned(), thinking.text.as_str().into());
        if let Some(seal) = seal {
            entry.insert("signature".to_owned(), seal.into());
        }
    }
    entry.insert("index".to_owned(), index.into());
    Value::Object(entry)
}

/// The seal of a call, where Google's chat endpoint has it.
pub(super) fn call_seal(call: &mut Fields) -> Result<Option<Seal>, Refused> {
    let Some(mut extra) = call.object("extra_content")? else { return Ok(None) };
    let Some(mut google) = extra.object("google")? else { return Ok(None) };
    Ok(google.text("thought_signature")?.map(|text| Seal::read(&text, Dialect::Chat).0))
}

pub(super) fn extra_content(seal: &Seal) -> Value {
    json!({"google": {"thought_signature": seal.written(Dialect::Chat, None)}})
}

pub(super) fn stop(reason: &str) -> Stop {
    match reason {
        "length" => Stop::MaxTokens,
        "tool_calls" | "function_call" => Stop::ToolUse,
        "content_filter" => Stop::Filter,
        _ => Stop::End,
    }
}

pub(super) fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Sequence(_) | Stop::Failed(_) => "stop",
        // An unfinished turn is not a finished one.
        Stop::MaxTokens | Stop::Window | Stop::Pause | Stop::Cancelled => "length",
        Stop::ToolUse => "tool_calls",
        Stop::Refusal | Stop::Filter => "content_filter",
    }
}

pub(super) fn usage(usage: &Usage) -> Value {
    let mut input = Map::new();
    input.insert("cached_tokens".to_owned(), usage.cache_read.unwrap_or(0).into());
    input.insert("audio_tokens".to_owned(), usage.audio_in.unwrap_or(0).into());
    if let Some(written) = usage.cache_write.filter(|written| 0 < *written) {
        input.insert("cache_write_tokens".to_owned(), written.into());
    }
    json!({
        "prompt_tokens": usage.input.unwrap_or(0),
        "completion_tokens": usage.output.unwrap_or(0),
        "total_tokens": usage.total().unwrap_or(0),
        "prompt_tokens_details": input,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning.unwrap_or(0),
            "audio_tokens": usage.audio_out.unwrap_or(0),
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
