//! A responses request -> the form.

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::translate::Refused;
use crate::translate::fields::Fields;
use crate::translate::form::{
    Effort, Format, Function, Media, MediaKind, Part, Piece, Reasoning, Request, Role, Sampling,
    Source, Thinking, Tool, ToolCall, ToolChoice, ToolResult, Turn, WebSearch,
};

pub(in crate::translate) fn read(body: Map<String, Value>) -> Result<Request, Refused> {
    let mut fields = Fields::new(body, "");
    let mut request = Request::new(Dialect::Responses);
    fields.skip(&["model", "sluice", "stream_options"]);
    if let Some(text) = fields.text("instructions")? {
        let pieces = vec![Part::text(text).into()];
        request.turns.push(Turn { role: Role::System, name: None, pieces, at: usize::MAX });
    }
    match fields.take("input") {
        None => {}
        Some(Value::String(text)) => {
            let pieces = vec![Part::text(text).into()];
            request.turns.push(Turn { role: Role::User, name: None, pieces, at: 0 });
        }
        Some(Value::Array(items)) => {
            for (at, item) in items.into_iter().enumerate() {
                read_item(item, at, &mut request.turns)?;
            }
        }
        Some(_) => return Err(Refused::invalid("input", "must be a string or a list of items")),
    }
    for (at, tool) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        request.tools.push(tool_of(tool, &format!("tools[{at}]"))?);
    }
    if let [.., Tool::WebSearch(search)] | [Tool::WebSearch(search), ..] =
        request.tools.as_mut_slice()
    {
        // Searches are the only calls that a provider makes by itself here.
        search.max_uses = fields.count("max_tool_calls")?;
    }
    if let Some(choice) = fields.take("tool_choice") {
        request.tool_choice = Some(tool_choice(choice)?);
    }
    request.parallel_tool_calls = fields.flag("parallel_tool_calls")?;
    request.sampling = Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        ..Sampling::default()
    };
    request.max_tokens = fields.count("max_output_tokens")?;
    request.reasoning = fields.object("reasoning")?.map(reasoning).transpose()?;
    if let Some(mut text) = fields.object("text")? {
        request.verbosity = text.text("verbosity")?;
        request.format = text.object("format")?.map(format).transpose()?.flatten();
    }
    request.user = fields.text("user")?;
    request.is_stream = fields.flag("stream")?.unwrap_or(false);
    for (name, default) in [
        ("background", json!(false)),
        ("truncation", json!("disabled")),
        ("top_logprobs", json!(0)),
        ("include", json!([])),
        ("include", json!(["reasoning.encrypted_content"])),
    ] {
        fields.skip_default(name, &default);
    }
    request.rest = fields.rest();
    Ok(request)
}

fn reasoning(mut fields: Fields) -> Result<Reasoning, Refused> {
    let summary = fields.text("summary")?.or(fields.text("generate_summary")?);
    let Some(effort) = fields.text("effort")? else {
        return Ok(Reasoning { summary, ..Reasoning::default() });
    };
    if effort == "none" {
        return Ok(Reasoning { is_off: true, summary, ..Reasoning::default() });
    }
    let effort = Effort::from_name(&effort).ok_or_else(|| {
        Refused::invalid("reasoning.effort", "must be none, minimal, low, medium, high or xhigh")
    })?;
    Ok(Reasoning { effort: Some(effort), summary, ..Reasoning::default() })
}

fn format(mut format: Fields) -> Result<Option<Format>, Refused> {
    match format.required_text("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::JsonObject)),
        "json_schema" => Ok(Some(Format::JsonSchema {
            name: format.text("name")?,
            description: format.text("description")?,
            schema: format.take("schema").unwrap_or_else(|| json!({"type": "object"})),
            is_strict: format.flag("strict")?,
        })),
        _ => Err(Refused::invalid("text.format.type", "must be text, json_object or json_schema")),
    }
}

// === tools ===

fn tool_of(tool: Value, path: &str) -> Result<Tool, Refused> {
    let kind = tool.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if kind.starts_with("web_search") {
        let mut fields = Fields::of(tool, path)?;
        let domains = fields.object("filters")?.and_then(|mut f| f.take("allowed_domains"));
        let location = fields.object("user_location")?.map(|location| {
            let mut location = location.rest();
            location.shift_remove("type");
            location
        });
        return Ok(Tool::WebSearch(WebSearch {
            allowed_domains: domains,
            user_location: location,
            context_size: fields.text("search_context_size")?,
            kind: Some(kind),
            ..WebSearch::default()
        }));
    }
    if kind != "function" {
        return Ok(Tool::Only(tool));
    }
    let mut fields = Fields::of(tool, path)?;
    fields.skip(&["type"]);
    Ok(Tool::Function(Function {
        name: fields.required_text("name")?,
        description: fields.text("description")?,
        parameters: fields.take("parameters"),
        is_strict: fields.flag("strict")?,
        cache: None,
        rest: fields.rest(),
    }))
}

fn tool_choice(choice: Value) -> Result<ToolChoice, Refused> {
    let wrong = || Refused::invalid("tool_choice", "must be none, auto, required or name a tool");
    if let Value::String(mode) = &choice {
        return match mode.as_str() {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            "required" => Ok(ToolChoice::Required),
            _ => Err(wrong()),
        };
    }
    let mut fields = Fields::of(choice, "tool_choice")?;
    let kind = fields.required_text("type")?;
    match kind.as_str() {
        "function" => Ok(ToolChoice::Named(fields.required_text("name")?)),
        "allowed_tools" => {
            let is_required = fields.text("mode")?.as_deref() == Some("required");
            let tools = fields.list("tools")?.unwrap_or_default();
            let name = |tool: &Value| Some(tool.get("name")?.as_str()?.to_owned());
            let names: Option<Vec<String>> = tools.iter().map(name).collect();
            Ok(ToolChoice::Allowed { names: names.ok_or_else(wrong)?, is_required })
        }
        kind if kind.starts_with("web_search") => Ok(ToolChoice::WebSearch),
        _ => Err(Refused::unsupported("tool_choice", "only functions can be named")),
    }
}

// === items ===

fn read_item(item: Value, at: usize, turns: &mut Vec<Turn>) -> Result<(), Refused> {
    let path = format!("input[{at}]");
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("message").to_owned();
    let mut fields = match kind.as_str() {
        "message" | "function_call" | "function_call_output" | "reasoning" | "web_search_call" => {
            Fields::of(item, path.clone())?
        }
        "item_reference" => {
            let reason = "the item is kept by the provider that made it; send the item itself";
            return Err(Refused::unsupported(path, reason));
        }
        _ => {
            add(turns, Role::Assistant, at, Part::Only(item).into());
            return Ok(());
        }
    };
    match kind.as_str() {
        "function_call" => {
            let call = ToolCall {
                id: fields.required_text("call_id")?,
                name: fields.required_text("name")?,
                arguments: fields.text("arguments")?.unwrap_or_default(),
                is_custom: false,
                seal: None,
            };
            add(turns, Role::Assistant, at, Part::ToolCall(call).into());
        }
        "function_call_output" => {
            let result = ToolResult {
                id: fields.required_text("call_id")?,
                pieces: content(&mut fields, "output")?,
                is_error: false,
                is_custom: false,
            };
            add(turns, Role::User, at, Part::ToolResult(result).into());
        }
        "reasoning" => {
            add(turns, Role::Assistant, at, Part::Thinking(thinking(&mut fields)?).into());
        }
        "web_search_call" => {
            let id = fields.text("id")?.unwrap_or_default();
            let query = fields.object("action")?.map(|mut action| action.text("query"));
            let query = query.transpose()?.flatten().unwrap_or_default();
            add(turns, Role::Assistant, at, Part::Search { id, query }.into());
        }
        _ => message(&mut fields, at, turns)?,
    }
    Ok(())
}

fn message(fields: &mut Fields, at: usize, turns: &mut Vec<Turn>) -> Result<(), Refused> {
    let role = match fields.required_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        "developer" => Role::Developer,
        _ => return Err(Refused::invalid(fields.at("role"), "is not a known role")),
    };
    let pieces = content(fields, "content")?;
    if role == Role::Assistant {
        for piece in pieces {
            add(turns, role, at, piece);
        }
    } else {
        turns.push(Turn { role, name: None, pieces, at });
    }
    Ok(())
}

/// Items of the assistant one after the other are one turn, and so are results.
fn add(turns: &mut Vec<Turn>, role: Role, at: usize, piece: Piece) {
    let is_result = matches!(piece.part, Part::ToolResult(_));
    let has_results =
        |turn: &Turn| turn.pieces.iter().all(|piece| matches!(piece.part, Part::ToolResult(_)));
    match turns.last_mut() {
        Some(turn) if turn.role == role && (!is_result || has_results(turn)) => {
            turn.pieces.push(piece);
        }
        _ => turns.push(Turn { role, name: None, pieces: vec![piece], at }),
    }
}

fn thinking(fields: &mut Fields) -> Result<Thinking, Refused> {
    let mut texts = Vec::new();
    for name in ["summary", "content"] {
        for part in fields.list(name)?.unwrap_or_default() {
            if let Some(text) = part.get("text").and_then(Value::as_str) {
                texts.push(text.to_owned());
            }
        }
    }
    let sealed = fields.text("encrypted_content")?;
    let mut thinking = Thinking::sealed(texts.join("\n\n"), sealed, Dialect::Responses);
    let is_own = thinking.seal.as_ref().is_none_or(|seal| seal.origin == Dialect::Responses);
    if is_own {
        thinking.id = fields.text("id")?;
    }
    Ok(thinking)
}

fn content(fields: &mut Fields, name: &str) -> Result<Vec<Piece>, Refused> {
    let path = fields.at(name);
    match fields.take(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text).into()]),
        Some(Value::Array(parts)) => parts
            .into_iter()
            .enumerate()
            .map(|(at, part)| Ok(read_part(part, &format!("{path}[{at}]"))?.into()))
            .collect(),
        Some(_) => Err(Refused::invalid(path, "must be a string or a list of parts")),
    }
}

fn read_part(part: Value, path: &str) -> Result<Part, Refused> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !matches!(
        kind.as_str(),
        "input_text"
            | "output_text"
            | "text"
            | "refusal"
            | "input_image"
            | "input_file"
            | "input_audio"
    ) {
        return Ok(Part::Only(part));
    }
    let mut fields = Fields::of(part, path)?;
    Ok(match kind.as_str() {
        "refusal" => Part::Refusal(fields.required_text("refusal")?),
        "input_image" => {
            let source = match fields.text("file_id")? {
                Some(id) => Source::File { id, mime: None },
                None => Source::of_url(&fields.required_text("image_url")?),
            };
            let detail = fields.text("detail")?;
            Part::Media(Media { detail, ..Media::new(MediaKind::Image, source) })
        }
        "input_file" => {
            let name = fields.text("filename")?;
            let source = if let Some(id) = fields.text("file_id")? {
                Source::File { id, mime: None }
            } else if let Some(url) = fields.text("file_url")? {
                Source::of_url(&url)
            } else {
                let data = fields.required_text("file_data")?;
                match Source::of_url(&data) {
                    Source::Url { .. } => {
                        Source::Base64 { mime: "application/pdf".to_owned(), data }
                    }
                    source => source,
                }
            };
            Part::Media(Media { name, ..Media::new(MediaKind::Document, source) })
        }
        "input_audio" => {
            let path = fields.at("input_audio");
            let audio = fields.object("input_audio")?;
            let mut audio = audio.ok_or_else(|| Refused::invalid(path, "is missing"))?;
            let data = audio.required_text("data")?;
            let mime = match audio.text("format")?.as_deref() {
                Some("mp3") => "audio/mpeg".to_owned(),
                format => format!("audio/{}", format.unwrap_or("wav")),
            };
            Part::Media(Media::new(MediaKind::Audio, Source::Base64 { mime, data }))
        }
        _ => Part::text(fields.required_text("text")?),
    })
}
