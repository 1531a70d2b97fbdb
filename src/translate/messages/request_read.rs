//! A messages request -> the form.

use serde_json::{Map, Value};

use crate::dialect::Dialect;
use crate::translate::Refused;
use crate::translate::fields::Fields;
use crate::translate::form::{
    Cache, Effort, Format, Function, Media, MediaKind, Part, Piece, Reasoning, Request, Role,
    Sampling, Source, Thinking, Tool, ToolCall, ToolChoice, ToolResult, Turn, WebSearch,
};

pub(in crate::translate) fn read(body: Map<String, Value>) -> Result<Request, Refused> {
    let mut fields = Fields::new(body, "");
    let mut request = Request::new(Dialect::Messages);
    fields.skip(&["model", "sluice"]);
    let system = blocks(&mut fields, "system")?;
    if !system.is_empty() {
        let at = usize::MAX;
        request.turns.push(Turn { role: Role::System, name: None, pieces: system, at });
    }
    for (at, message) in fields.list("messages")?.unwrap_or_default().into_iter().enumerate() {
        request.turns.push(turn(message, at)?);
    }
    for (at, tool) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        request.tools.push(tool_of(tool, &format!("tools[{at}]"))?);
    }
    if let Some(choice) = fields.object("tool_choice")? {
        tool_choice(choice, &mut request)?;
    }
    request.max_tokens = fields.count("max_tokens")?;
    request.sampling = Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.number("top_k")?,
        ..Sampling::default()
    };
    request.stop = fields.texts("stop_sequences")?;
    request.is_stream = fields.flag("stream")?.unwrap_or(false);
    if let Some(mut metadata) = fields.object("metadata")? {
        request.user = metadata.text("user_id")?;
    }
    let thinking = fields.object("thinking")?.map(reasoning).transpose()?;
    let mut config = fields.object("output_config")?;
    let effort = config.as_mut().map(|config| config.text("effort")).transpose()?.flatten();
    request.reasoning = with_effort(thinking, effort.as_deref())?;
    let format = config.as_mut().map(|config| config.object("format")).transpose()?.flatten();
    let format = format.or(fields.object("output_format")?);
    request.format = format.map(format_of).transpose()?;
    if let Some(config) = config {
        let rest = config.rest();
        if !rest.is_empty() {
            request.rest.insert("output_config".to_owned(), Value::Object(rest));
        }
    }
    request.rest.extend(fields.rest());
    Ok(request)
}

fn reasoning(mut thinking: Fields) -> Result<Reasoning, Refused> {
    let mut reasoning = Reasoning::default();
    match thinking.required_text("type")?.as_str() {
        "enabled" => reasoning.budget_tokens = thinking.count("budget_tokens")?,
        "adaptive" => reasoning.is_adaptive = true,
        "disabled" => reasoning.is_off = true,
        _ => {
            let path = thinking.at("type");
            return Err(Refused::invalid(path, "must be enabled, adaptive or disabled"));
        }
    }
    let is_shown = thinking.text("display")?.as_deref() != Some("omitted");
    reasoning.summary = (is_shown && !reasoning.is_off).then(|| "auto".to_owned());
    Ok(reasoning)
}

fn with_effort(
    thinking: Option<Reasoning>,
    effort: Option<&str>,
) -> Result<Option<Reasoning>, Refused> {
    let Some(effort) = effort else { return Ok(thinking) };
    let effort = Effort::from_name(effort).ok_or_else(|| {
        Refused::invalid("output_config.effort", "must be low, medium, high, xhigh or max")
    })?;
    Ok(Some(Reasoning { effort: Some(effort), ..thinking.unwrap_or_default() }))
}

fn format_of(mut format: Fields) -> Result<Format, Refused> {
    match format.required_text("type")?.as_str() {
        "json_schema" => Ok(Format::JsonSchema {
            name: None,
            description: None,
            schema: format
                .take("schema")
                .ok_or_else(|| Refused::invalid(format.at("schema"), "is missing"))?,
            is_strict: Some(true),
        }),
        _ => Err(Refused::invalid(format.at("type"), "must be json_schema")),
    }
}

fn tool_choice(mut choice: Fields, request: &mut Request) -> Result<(), Refused> {
    let kind = choice.required_text("type")?;
    request.tool_choice = Some(match kind.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required_text("name")?),
        _ => return Err(Refused::invalid("tool_choice.type", "must be auto, any, tool or none")),
    });
    let is_single = choice.flag("disable_parallel_tool_use")?;
    request.parallel_tool_calls = is_single.map(|is_single| !is_single);
    Ok(())
}

fn tool_of(tool: Value, path: &str) -> Result<Tool, Refused> {
    let kind = tool.get("type").and_then(Value::as_str).unwrap_or("custom").to_owned();
    if kind.starts_with("web_search_") {
        let mut fields = Fields::of(tool, path)?;
        let location = fields.object("user_location")?;
        return Ok(Tool::WebSearch(WebSearch {
            allowed_domains: fields.take("allowed_domains"),
            blocked_domains: fields.take("blocked_domains"),
            user_location: location.map(|location| {
                let mut location = location.rest();
                location.shift_remove("type");
                location
            }),
            context_size: None,
            max_uses: fields.count("max_uses")?,
            kind: Some(kind),
        }));
    }
    if kind != "custom" {
        return Ok(Tool::Only(tool));
    }
    let mut fields = Fields::of(tool, path)?;
    fields.skip(&["type"]);
    fields.skip_default("defer_loading", &false.into());
    Ok(Tool::Function(Function {
        name: fields.required_text("name")?,
        description: fields.text("description")?,
        parameters: fields.take("input_schema"),
        is_strict: fields.flag("strict")?,
        cache: cache(&mut fields)?,
        rest: fields.rest(),
    }))
}

// === messages ===

fn turn(message: Value, at: usize) -> Result<Turn, Refused> {
    let path = format!("messages[{at}]");
    let mut fields = Fields::of(message, path.clone())?;
    let role = match fields.required_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(Refused::invalid(format!("{path}.role"), "must be user or assistant")),
    };
    let pieces = blocks(&mut fields, "content")?;
    Ok(Turn { role, name: None, pieces, at })
}

/// A text, or a list of blocks.
fn blocks(fields: &mut Fields, name: &str) -> Result<Vec<Piece>, Refused> {
    let path = fields.at(name);
    match fields.take(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text).into()]),
        Some(Value::Array(list)) => list
            .into_iter()
            .enumerate()
            .map(|(at, block)| piece(block, &format!("{path}[{at}]")))
            .filter_map(Result::transpose)
            .collect(),
        Some(_) => Err(Refused::invalid(path, "must be a string or a list of blocks")),
    }
}

/// `None` for what a provider searched and found by itself: the text that followed says it.
fn piece(block: Value, path: &str) -> Result<Option<Piece>, Refused> {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    let part = match kind {
        "text" | "image" | "document" | "thinking" | "redacted_thinking" | "tool_use"
        | "tool_result" | "server_tool_use" => kind.to_owned(),
        "web_search_tool_result" => return Ok(None),
        _ => return Ok(Some(Part::Only(block).into())),
    };
    if part == "server_tool_use" && block.get("name").and_then(Value::as_str) != Some("web_search")
    {
        return Ok(Some(Part::Only(block).into()));
    }
    let mut fields = Fields::of(block, path)?;
    let cache = cache(&mut fields)?;
    let part = match part.as_str() {
        "text" => Part::text(fields.required_text("text")?),
        "image" => Part::Media(media(fields, MediaKind::Image)?),
        "document" => Part::Media(media(fields, MediaKind::Document)?),
        "thinking" | "redacted_thinking" => Part::Thinking(thinking(&mut fields, &part)?),
        "server_tool_use" => {
            let query = fields.object("input")?.map(|mut input| input.text("query")).transpose()?;
            let id = fields.required_text("id")?;
            Part::Search { id, query: query.flatten().unwrap_or_default() }
        }
        "tool_use" => Part::ToolCall(ToolCall {
            id: fields.required_text("id")?,
            name: fields.required_text("name")?,
            arguments: fields.take("input").map_or_else(|| "{}".to_owned(), |v| v.to_string()),
            is_custom: false,
            seal: None,
        }),
        _ => Part::ToolResult(ToolResult {
            id: fields.required_text("tool_use_id")?,
            pieces: blocks(&mut fields, "content")?,
            is_error: fields.flag("is_error")?.unwrap_or(false),
            is_custom: false,
        }),
    };
    Ok(Some(Piece { part, cache }))
}

fn thinking(fields: &mut Fields, kind: &str) -> Result<Thinking, Refused> {
    let is_redacted = kind == "redacted_thinking";
    let sealed = fields.text(if is_redacted { "data" } else { "signature" })?;
    let text = fields.text("thinking")?.unwrap_or_default();
    let mut thinking = Thinking::sealed(text, sealed, Dialect::Messages);
    thinking.is_redacted |= is_redacted;
    Ok(thinking)
}

fn media(mut fields: Fields, kind: MediaKind) -> Result<Media, Refused> {
    let path = fields.at("source");
    let source = fields.object("source")?;
    let mut source = source.ok_or_else(|| Refused::invalid(path, "is missing"))?;
    let mime = source.text("media_type")?;
    let source = match source.required_text("type")?.as_str() {
        "base64" => Source::Base64 {
            mime: mime.unwrap_or_else(|| "application/pdf".to_owned()),
            data: source.required_text("data")?,
        },
        "url" => Source::Url { url: source.required_text("url")?, mime },
        "file" => Source::File { id: source.required_text("file_id")?, mime },
        "text" => Source::Text(source.required_text("data")?),
        "content" => Source::Text(content_text(source.take("content"))),
        _ => return Err(Refused::invalid(source.at("type"), "is no known source")),
    };
    fields.skip(&["type"]);
    let name = fields.text("title")?;
    if let Some(mut citations) = fields.object("citations")?
        && citations.flag("enabled")? == Some(true)
    {
        return Ok(Media {
            name,
            rest: Map::from_iter([("citations".to_owned(), serde_json::json!({"enabled": true}))]),
            ..Media::new(kind, source)
        });
    }
    Ok(Media { name, rest: fields.rest(), ..Media::new(kind, source) })
}

fn content_text(content: Option<Value>) -> String {
    match content {
        Some(Value::String(text)) => text,
        Some(Value::Array(blocks)) => {
            let texts: Vec<&str> =
                blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

fn cache(fields: &mut Fields) -> Result<Option<Cache>, Refused> {
    let Some(mut control) = fields.object("cache_control")? else { return Ok(None) };
    Ok(Some(Cache { is_long: control.text("ttl")?.as_deref() == Some("1h") }))
}
