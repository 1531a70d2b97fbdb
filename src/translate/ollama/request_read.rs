//! A request of `/api/chat` or `/api/generate` -> the form.

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::translate::Refused;
use crate::translate::calls::Calls;
use crate::translate::fields::Fields;
use crate::translate::form::{
    Effort, Format, Function, Media, MediaKind, Part, Piece, Reasoning, Request, Role, Sampling,
    Source, Thinking, Tool, ToolCall, ToolResult, Turn,
};

/// How a model is loaded and kept, which is nobody's business but the server's.
const OF_THE_SERVER: [&str; 14] = [
    "num_ctx",
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "numa",
    "low_vram",
    "f16_kv",
    "vocab_only",
    "use_mmap",
    "use_mlock",
    "repeat_last_n",
    "penalize_newline",
];

pub(in crate::translate) fn read(body: Map<String, Value>) -> Result<Request, Refused> {
    let mut fields = Fields::new(body, "");
    let mut request = Request::new(Dialect::Ollama);
    fields.skip(&["model", "sluice", "keep_alive", "context"]);
    if let Some(messages) = fields.list("messages")? {
        let mut calls = Calls::default();
        for (at, message) in messages.into_iter().enumerate() {
            request.turns.push(turn(message, at, &mut calls)?);
        }
    } else {
        prompt(&mut fields, &mut request)?;
    }
    for (at, tool) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        request.tools.push(tool_of(tool, &format!("tools[{at}]"))?);
    }
    request.format = match fields.take("format") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) if text == "json" => Some(Format::JsonObject),
        Some(schema @ Value::Object(_)) => {
            Some(Format::JsonSchema { name: None, description: None, schema, is_strict: None })
        }
        Some(_) => return Err(Refused::invalid("format", "must be `json` or a JSON schema")),
    };
    request.reasoning = reasoning(&mut fields)?;
    let mut rest = Map::new();
    if let Some(options) = fields.object("options")? {
        let named = |(name, value)| (format!("options.{name}"), value);
        rest.extend(read_options(options, &mut request)?.into_iter().map(named));
    }
    request.is_stream = fields.flag("stream")?.unwrap_or(true);
    for (name, default) in [
        ("raw", json!(false)),
        ("suffix", json!("")),
        ("template", json!("")),
        ("truncate", json!(true)),
        ("shift", json!(true)),
        ("logprobs", json!(false)),
        ("top_logprobs", json!(0)),
    ] {
        fields.skip_default(name, &default);
    }
    rest.extend(fields.rest());
    request.rest = rest;
    Ok(request)
}

/// Of `/api/generate`.
fn prompt(fields: &mut Fields, request: &mut Request) -> Result<(), Refused> {
    if let Some(text) = fields.text("system")?.filter(|text| !text.is_empty()) {
        let pieces = vec![Part::text(text).into()];
        request.turns.push(Turn { role: Role::System, name: None, pieces, at: usize::MAX });
    }
    let mut pieces: Vec<Piece> =
        vec![Part::text(fields.text("prompt")?.unwrap_or_default()).into()];
    pieces.extend(images(fields)?);
    request.turns.push(Turn { role: Role::User, name: None, pieces, at: 0 });
    Ok(())
}

fn reasoning(fields: &mut Fields) -> Result<Option<Reasoning>, Refused> {
    match fields.take("think") {
        None => Ok(None),
        Some(Value::Bool(false)) => Ok(Some(Reasoning { is_off: true, ..Reasoning::default() })),
        Some(Value::Bool(true)) => {
            Ok(Some(Reasoning { effort: Some(Effort::Medium), ..Reasoning::default() }))
        }
        Some(value) => {
            let effort = value.as_str().and_then(Effort::from_name).ok_or_else(|| {
                Refused::invalid("think", "must be true, false, or low, medium or high")
            })?;
            Ok(Some(Reasoning { effort: Some(effort), ..Reasoning::default() }))
        }
    }
}

/// Returns what has not been read.
fn read_options(mut options: Fields, request: &mut Request) -> Result<Map<String, Value>, Refused> {
    request.sampling = Sampling {
        temperature: options.number("temperature")?,
        top_p: options.number("top_p")?,
        top_k: options.number("top_k")?,
        frequency_penalty: options.number("frequency_penalty")?,
        presence_penalty: options.number("presence_penalty")?,
        seed: options.number("seed")?,
    };
    // A negative one means no limit.
    request.max_tokens = options.number("num_predict")?.and_then(|limit| limit.as_u64());
    request.stop = options.texts("stop")?;
    options.skip(&OF_THE_SERVER);
    for (name, default) in [
        ("repeat_penalty", json!(1.1)),
        ("repeat_penalty", json!(1.0)),
        ("repeat_penalty", json!(1)),
        ("min_p", json!(0.0)),
        ("min_p", json!(0)),
        ("typical_p", json!(1.0)),
        ("tfs_z", json!(1.0)),
        ("mirostat", json!(0)),
    ] {
        options.skip_default(name, &default);
    }
    Ok(options.rest())
}

fn tool_of(tool: Value, path: &str) -> Result<Tool, Refused> {
    let mut fields = Fields::of(tool, path)?;
    let inner = fields.object("function")?;
    let mut inner =
        inner.ok_or_else(|| Refused::invalid(format!("{path}.function"), "is missing"))?;
    Ok(Tool::Function(Function {
        name: inner.required_text("name")?,
        description: inner.text("description")?,
        parameters: inner.take("parameters"),
        is_strict: None,
        cache: None,
        rest: inner.rest(),
    }))
}

// === messages ===

fn turn(message: Value, at: usize, calls: &mut Calls) -> Result<Turn, Refused> {
    let path = format!("messages[{at}]");
    let mut fields = Fields::of(message, path.clone())?;
    let role = fields.required_text("role")?;
    let text = fields.text("content")?.unwrap_or_default();
    let (role, pieces) = match role.as_str() {
        "system" => (Role::System, vec![Part::text(text).into()]),
        "user" => {
            let mut pieces: Vec<Piece> = vec![Part::text(text).into()];
            pieces.extend(images(&mut fields)?);
            (Role::User, pieces)
        }
        "assistant" => (Role::Assistant, assistant(text, &mut fields, calls)?),
        "tool" => {
            let name = fields.text("tool_name")?.or(fields.text("name")?);
            let id = fields.text("tool_call_id")?.filter(|id| !id.is_empty());
            let id = calls.answered(id, name.as_deref());
            let mut pieces: Vec<Piece> = vec![Part::text(text).into()];
            pieces.extend(images(&mut fields)?);
            let result = ToolResult { id, pieces, is_error: false, is_custom: false };
            (Role::User, vec![Part::ToolResult(result).into()])
        }
        _ => return Err(Refused::invalid(format!("{path}.role"), "is not a known role")),
    };
    Ok(Turn { role, name: None, pieces, at })
}

fn assistant(text: String, fields: &mut Fields, calls: &mut Calls) -> Result<Vec<Piece>, Refused> {
    let mut pieces = Vec::new();
    if let Some(text) = fields.text("thinking")?.filter(|text| !text.is_empty()) {
        pieces.push(Part::Thinking(Thinking { text, ..Thinking::default() }).into());
    }
    if !text.is_empty() {
        pieces.push(Part::text(text).into());
    }
    let path = fields.at("tool_calls");
    for (at, call) in fields.list("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
        let path = format!("{path}[{at}]");
        let mut call = Fields::of(call, path.clone())?;
        let id = call.text("id")?.filter(|id| !id.is_empty());
        let function = call.object("function")?;
        let mut function =
            function.ok_or_else(|| Refused::invalid(format!("{path}.function"), "is missing"))?;
        let name = function.required_text("name")?;
        let arguments = match function.take("arguments") {
            None => "{}".to_owned(),
            Some(Value::String(text)) => text,
            Some(value) => value.to_string(),
        };
        let id = calls.id_of(id, &name);
        let call = ToolCall { id, name, arguments, is_custom: false, seal: None };
        pieces.push(Part::ToolCall(call).into());
    }
    Ok(pieces)
}

/// Images are base64 alone; what they are is told by how they begin.
fn images(fields: &mut Fields) -> Result<Vec<Piece>, Refused> {
    let path = fields.at("images");
    let mut pieces = Vec::new();
    for data in fields.texts("images")? {
        let source = if data.starts_with("data:") {
            Source::of_url(&data)
        } else {
            let mime = match data.get(..4) {
                Some("iVBO") => "image/png",
                Some("/9j/") => "image/jpeg",
                Some("R0lG") => "image/gif",
                Some("UklG") => "image/webp",
                _ => {
                    return Err(Refused::invalid(path, "must be PNG, JPEG, GIF or WebP in base64"));
                }
            };
            Source::Base64 { mime: mime.to_owned(), data }
        };
        pieces.push(Part::Media(Media::new(MediaKind::Image, source)).into());
    }
    Ok(pieces)
}
