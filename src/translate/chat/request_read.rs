//! A chat request -> the form.

use serde_json::{Map, Value, json};

use super::words::sealed_thinking;
use crate::dialect::Dialect;
use crate::translate::Refused;
use crate::translate::fields::Fields;
use crate::translate::form::{
    Cache, Effort, Format, Function, Media, MediaKind, Part, Piece, Reasoning, Request, Role,
    Sampling, Source, Tool, ToolCall, ToolChoice, ToolResult, Turn, WebSearch,
};

pub(in crate::translate) fn read(body: Map<String, Value>) -> Result<Request, Refused> {
    let mut fields = Fields::new(body, "");
    let mut request = Request::new(Dialect::Chat);
    fields.skip(&["model", "sluice"]);
    let messages = fields.list("messages")?.unwrap_or_default();
    for (at, message) in messages.into_iter().enumerate() {
        request.turns.push(turn(message, at)?);
    }
    for (at, tool) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        request.tools.push(tool_of(tool, &format!("tools[{at}]"))?);
    }
    if let Some(search) = fields.object("web_search_options")? {
        request.tools.push(Tool::WebSearch(web_search(search)?));
    }
    legacy_functions(&mut fields, &mut request)?;
    if let Some(choice) = fields.take("tool_choice") {
        request.tool_choice = Some(tool_choice(choice)?);
    }
    request.parallel_tool_calls = fields.flag("parallel_tool_calls")?;
    request.sampling = Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.number("top_k")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        seed: fields.number("seed")?,
    };
    let (older, newer) = (fields.count("max_tokens")?, fields.count("max_completion_tokens")?);
    request.max_tokens = newer.or(older);
    request.stop = fields.texts("stop")?;
    request.reasoning =
        fields.text("reasoning_effort")?.map(|effort| reasoning(&effort)).transpose()?;
    request.format = format(&mut fields)?;
    request.verbosity = fields.text("verbosity")?;
    request.user = fields.text("user")?;
    request.is_stream = fields.flag("stream")?.unwrap_or(false);
    if let Some(mut options) = fields.object("stream_options")? {
        request.wants_usage = options.flag("include_usage")?.unwrap_or(false);
    }
    for (name, default) in [
        ("n", json!(1)),
        ("logprobs", json!(false)),
        ("top_logprobs", json!(0)),
        ("logit_bias", json!({})),
        ("modalities", json!(["text"])),
    ] {
        fields.skip_default(name, &default);
    }
    request.rest = fields.rest();
    Ok(request)
}

fn reasoning(effort: &str) -> Result<Reasoning, Refused> {
    if effort == "none" {
        return Ok(Reasoning { is_off: true, ..Reasoning::default() });
    }
    let effort = Effort::from_name(effort).ok_or_else(|| {
        Refused::invalid("reasoning_effort", "must be none, minimal, low, medium, high or xhigh")
    })?;
    Ok(Reasoning { effort: Some(effort), ..Reasoning::default() })
}

fn format(fields: &mut Fields) -> Result<Option<Format>, Refused> {
    let Some(mut format) = fields.object("response_format")? else { return Ok(None) };
    match format.required_text("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::JsonObject)),
        "json_schema" => {
            let mut schema = format
                .object("json_schema")?
                .ok_or_else(|| Refused::invalid("response_format.json_schema", "is missing"))?;
            Ok(Some(Format::JsonSchema {
                name: schema.text("name")?,
                description: schema.text("description")?,
                schema: schema.take("schema").unwrap_or_else(|| json!({"type": "object"})),
                is_strict: schema.flag("strict")?,
            }))
        }
        _ => Err(Refused::invalid(
            "response_format.type",
            "must be text, json_object or json_schema",
        )),
    }
}

// === tools ===

fn tool_of(tool: Value, path: &str) -> Result<Tool, Refused> {
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return Ok(Tool::Only(tool));
    }
    let mut fields = Fields::of(tool, path)?;
    fields.skip(&["type"]);
    let cache = cache(&mut fields)?;
    let inner = fields.object("function")?;
    let inner = inner.ok_or_else(|| Refused::invalid(format!("{path}.function"), "is missing"))?;
    let mut function = function(inner)?;
    function.cache = cache;
    Ok(Tool::Function(function))
}

fn function(mut fields: Fields) -> Result<Function, Refused> {
    Ok(Function {
        name: fields.required_text("name")?,
        description: fields.text("description")?,
        parameters: fields.take("parameters"),
        is_strict: fields.flag("strict")?,
        cache: None,
        rest: fields.rest(),
    })
}

fn web_search(mut fields: Fields) -> Result<WebSearch, Refused> {
    let location = fields.object("user_location")?.map(|mut location| {
        let approximate = location.take("approximate");
        match approximate {
            Some(Value::Object(approximate)) => approximate,
            _ => location.rest(),
        }
    });
    Ok(WebSearch {
        user_location: location,
        context_size: fields.text("search_context_size")?,
        ..WebSearch::default()
    })
}

/// `functions` and `function_call`, which came before tools.
fn legacy_functions(fields: &mut Fields, request: &mut Request) -> Result<(), Refused> {
    for (at, one) in fields.list("functions")?.unwrap_or_default().into_iter().enumerate() {
        let fields = Fields::of(one, format!("functions[{at}]"))?;
        request.tools.push(Tool::Function(function(fields)?));
    }
    match fields.take("function_call") {
        None => {}
        Some(Value::String(mode)) if mode == "none" => {
            request.tool_choice = Some(ToolChoice::None);
        }
        Some(Value::String(_)) => request.tool_choice = Some(ToolChoice::Auto),
        Some(named) => {
            let name = Fields::of(named, "function_call")?.required_text("name")?;
            request.tool_choice = Some(ToolChoice::Named(name));
        }
    }
    Ok(())
}

fn tool_choice(choice: Value) -> Result<ToolChoice, Refused> {
    let wrong = || Refused::invalid("tool_choice", "must be none, auto, required or name a tool");
    if let Value::String(mode) = &choice {
        return match mode.as_str() {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            "required" | "any" => Ok(ToolChoice::Required),
            _ => Err(wrong()),
        };
    }
    let mut fields = Fields::of(choice, "tool_choice")?;
    match fields.required_text("type")?.as_str() {
        "function" => {
            let mut function = fields.object("function")?.ok_or_else(wrong)?;
            Ok(ToolChoice::Named(function.required_text("name")?))
        }
        "allowed_tools" => {
            let mut allowed = fields.object("allowed_tools")?.ok_or_else(wrong)?;
            let is_required = allowed.text("mode")?.as_deref() == Some("required");
            let names = allowed.list("tools")?.unwrap_or_default();
            let name = |tool: &Value| Some(tool.pointer("/function/name")?.as_str()?.to_owned());
            let names: Option<Vec<String>> = names.iter().map(name).collect();
            Ok(ToolChoice::Allowed { names: names.ok_or_else(wrong)?, is_required })
        }
        _ => Err(Refused::unsupported("tool_choice", "only functions can be named")),
    }
}

// === messages ===

fn turn(message: Value, at: usize) -> Result<Turn, Refused> {
    let path = format!("messages[{at}]");
    let mut fields = Fields::of(message, path.clone())?;
    let role = fields.required_text("role")?;
    let name = fields.text("name")?;
    let (role, pieces) = match role.as_str() {
        "system" => (Role::System, content(&mut fields)?),
        "developer" => (Role::Developer, content(&mut fields)?),
        "user" => (Role::User, content(&mut fields)?),
        "assistant" => (Role::Assistant, assistant(&mut fields)?),
        "tool" => {
            let result = ToolResult {
                id: fields.required_text("tool_call_id")?,
                pieces: content(&mut fields)?,
                is_error: false,
                is_custom: false,
            };
            let cache = cache(&mut fields)?;
            (Role::User, vec![Piece { part: Part::ToolResult(result), cache }])
        }
        "function" => {
            let result = ToolResult {
                id: name.clone().unwrap_or_default(),
                pieces: content(&mut fields)?,
                is_error: false,
                is_custom: false,
            };
            (Role::User, vec![Part::ToolResult(result).into()])
        }
        _ => return Err(Refused::invalid(format!("{path}.role"), "is not a known role")),
    };
    Ok(Turn { role, name, pieces, at })
}

fn content(fields: &mut Fields) -> Result<Vec<Piece>, Refused> {
    let path = fields.at("content");
    match fields.take("content") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text).into()]),
        Some(Value::Array(parts)) => parts
            .into_iter()
            .enumerate()
            .map(|(at, part)| piece(part, &format!("{path}[{at}]")))
            .collect(),
        Some(_) => Err(Refused::invalid(path, "must be a string or a list of parts")),
    }
}

fn piece(part: Value, path: &str) -> Result<Piece, Refused> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut fields = Fields::of(part, path)?;
    let cache = cache(&mut fields)?;
    let inner = |fields: &mut Fields, name: &str| {
        let missing = Refused::invalid(fields.at(name), "is missing");
        fields.object(name)?.ok_or(missing)
    };
    let part = match kind.as_str() {
        "text" => Part::text(fields.required_text("text")?),
        "refusal" => Part::Refusal(fields.required_text("refusal")?),
        "image_url" => {
            let mut image = match fields.take("image_url") {
                Some(Value::String(url)) => Fields::of(json!({"url": url}), path)?,
                Some(value) => Fields::of(value, format!("{path}.image_url"))?,
                None => return Err(Refused::invalid(format!("{path}.image_url"), "is missing")),
            };
            let source = Source::of_url(&image.required_text("url")?);
            let detail = image.text("detail")?;
            Part::Media(Media { detail, ..Media::new(MediaKind::Image, source) })
        }
        "input_audio" => {
            let mut audio = inner(&mut fields, "input_audio")?;
            let data = audio.required_text("data")?;
            let mime = audio_mime(&audio.text("format")?.unwrap_or_else(|| "wav".to_owned()));
            Part::Media(Media::new(MediaKind::Audio, Source::Base64 { mime, data }))
        }
        "file" => {
            let mut file = inner(&mut fields, "file")?;
            let name = file.text("filename")?;
            let source = if let Some(id) = file.text("file_id")? {
                Source::File { id, mime: None }
            } else {
                file_source(&file.required_text("file_data")?, name.as_deref())
            };
            Part::Media(Media { name, ..Media::new(MediaKind::Document, source) })
        }
        _ => Part::Only(put_back(kind, fields)),
    };
    Ok(Piece { part, cache })
}

fn put_back(kind: String, fields: Fields) -> Value {
    let mut map = fields.rest();
    map.insert("type".to_owned(), kind.into());
    Value::Object(map)
}

/// A data URL, or base64 alone.
fn file_source(data: &str, name: Option<&str>) -> Source {
    if data.starts_with("data:") {
        return Source::of_url(data);
    }
    let extension = name.and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension);
    let is_text = matches!(extension, Some("txt" | "TXT" | "md"));
    let mime = if is_text { "text/plain" } else { "application/pdf" };
    Source::Base64 { mime: mime.to_owned(), data: data.to_owned() }
}

fn audio_mime(format: &str) -> String {
    match format {
        "mp3" => "audio/mpeg".to_owned(),
        format => format!("audio/{format}"),
    }
}

fn assistant(fields: &mut Fields) -> Result<Vec<Piece>, Refused> {
    let mut pieces = sealed_thinking(fields)?;
    pieces.extend(content(fields)?);
    if let Some(refusal) = fields.text("refusal")? {
        pieces.push(Part::Refusal(refusal).into());
    }
    if fields.take("audio").is_some() {
        let path = fields.at("audio");
        return Err(Refused::unsupported(path, "earlier spoken answers stay with their provider"));
    }
    if let Some(mut call) = fields.object("function_call")? {
        let name = call.required_text("name")?;
        let arguments = call.text("arguments")?.unwrap_or_default();
        let call = ToolCall { id: name.clone(), name, arguments, is_custom: false, seal: None };
        pieces.push(Part::ToolCall(call).into());
    }
    let path = fields.at("tool_calls");
    for (at, call) in fields.list("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
        let path = format!("{path}[{at}]");
        let mut call = Fields::of(call, path.clone())?;
        let id = call.required_text("id")?;
        let seal = super::words::call_seal(&mut call)?;
        if call.text("type")?.as_deref() == Some("custom") {
            return Err(Refused::unsupported(format!("{path}.type"), "custom tools are OpenAI's"));
        }
        let cache = cache(&mut call)?;
        let mut function = call
            .object("function")?
            .ok_or_else(|| Refused::invalid(format!("{path}.function"), "is missing"))?;
        let name = function.required_text("name")?;
        let arguments = function.text("arguments")?.unwrap_or_default();
        let call = ToolCall { id, name, arguments, is_custom: false, seal };
        pieces.push(Piece { part: Part::ToolCall(call), cache });
    }
    Ok(pieces)
}

/// `cache_control`, which several providers take in chat requests as Anthropic does.
fn cache(fields: &mut Fields) -> Result<Option<Cache>, Refused> {
    let Some(mut control) = fields.object("cache_control")? else { return Ok(None) };
    Ok(Some(Cache { is_long: control.text("ttl")?.as_deref() == Some("1h") }))
}
