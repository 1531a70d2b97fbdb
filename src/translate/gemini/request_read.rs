//! A `generateContent` request -> the form.
//!
//! Google takes names in camel case and with underscores.

use serde_json::{Map, Value, json};

use super::schema::json_schema;
use super::sealed;
use crate::dialect::Dialect;
use crate::translate::Refused;
use crate::translate::calls::Calls;
use crate::translate::fields::Fields;
use crate::translate::form::{
    Effort, Format, Function, Media, MediaKind, Part, Piece, Reasoning, Request, Role, Sampling,
    Source, Thinking, Tool, ToolCall, ToolChoice, ToolResult, Turn, WebSearch,
};

pub(in crate::translate) fn read(body: Map<String, Value>) -> Result<Request, Refused> {
    let mut fields = Fields::new(camel(body), "");
    let mut request = Request::new(Dialect::Gemini);
    fields.skip(&["model", "sluice"]);
    if let Some(instruction) = fields.take("systemInstruction") {
        let pieces = instruction_pieces(instruction)?;
        request.turns.push(Turn { role: Role::System, name: None, pieces, at: usize::MAX });
    }
    let mut calls = Calls::default();
    for (at, content) in fields.list("contents")?.unwrap_or_default().into_iter().enumerate() {
        request.turns.push(turn(content, at, &mut calls)?);
    }
    for (at, tool) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        read_tool(object(tool, format!("tools[{at}]"))?, &mut request.tools)?;
    }
    if let Some(config) = fields.take("toolConfig") {
        request.tool_choice = tool_choice(object(config, "toolConfig")?)?;
    }
    let mut rest = Map::new();
    if let Some(config) = fields.take("generationConfig") {
        let config = config_of(object(config, "generationConfig")?, &mut request)?;
        let named = |(name, value)| (format!("generationConfig.{name}"), value);
        rest.extend(config.into_iter().map(named));
    }
    rest.extend(fields.rest());
    request.rest = rest;
    Ok(request)
}

/// The members of an object, in camel case.
fn object(value: Value, path: impl Into<String>) -> Result<Fields, Refused> {
    let path = path.into();
    match value {
        Value::Object(map) => Ok(Fields::new(camel(map), path)),
        _ => Err(Refused::invalid(path, "must be an object")),
    }
}

fn camel(map: Map<String, Value>) -> Map<String, Value> {
    let name = |name: String| {
        if !name.contains('_') {
            return name;
        }
        let mut words = name.split('_');
        let mut whole = words.next().unwrap_or_default().to_owned();
        for word in words {
            let mut chars = word.chars();
            whole.extend(chars.next().map(|first| first.to_ascii_uppercase()));
            whole.push_str(chars.as_str());
        }
        whole
    };
    map.into_iter().map(|(key, value)| (name(key), value)).collect()
}

// === generationConfig ===

/// Returns what has not been read.
fn config_of(mut config: Fields, request: &mut Request) -> Result<Map<String, Value>, Refused> {
    request.sampling = Sampling {
        temperature: config.number("temperature")?,
        top_p: config.number("topP")?,
        top_k: config.number("topK")?,
        frequency_penalty: config.number("frequencyPenalty")?,
        presence_penalty: config.number("presencePenalty")?,
        seed: config.number("seed")?,
    };
    request.max_tokens = config.count("maxOutputTokens")?;
    request.stop = config.texts("stopSequences")?;
    request.format = format(&mut config)?;
    if let Some(thinking) = config.take("thinkingConfig") {
        request.reasoning = Some(reasoning(object(thinking, "generationConfig.thinkingConfig")?)?);
    }
    for (name, default) in [
        ("candidateCount", json!(1)),
        ("responseLogprobs", json!(false)),
        ("responseModalities", json!(["TEXT"])),
        ("mediaResolution", json!("MEDIA_RESOLUTION_UNSPECIFIED")),
    ] {
        config.skip_default(name, &default);
    }
    Ok(config.rest())
}

fn format(config: &mut Fields) -> Result<Option<Format>, Refused> {
    let written = config.take("responseJsonSchema").or_else(|| config.take("responseSchema"));
    let schema = written.map(json_schema);
    let mime = config.text("responseMimeType")?;
    match (mime.as_deref(), schema) {
        (None | Some("text/plain"), None) => Ok(None),
        (Some("application/json"), None) => Ok(Some(Format::JsonObject)),
        (Some("application/json"), Some(schema)) => {
            Ok(Some(Format::JsonSchema { name: None, description: None, schema, is_strict: None }))
        }
        _ => {
            let reason = "must be text/plain, or application/json with or without a schema";
            Err(Refused::invalid(config.at("responseMimeType"), reason))
        }
    }
}

fn reasoning(mut thinking: Fields) -> Result<Reasoning, Refused> {
    let summary = thinking.flag("includeThoughts")?.filter(|is_shown| *is_shown);
    let mut reasoning =
        Reasoning { summary: summary.map(|_| "auto".to_owned()), ..Reasoning::default() };
    match thinking.number("thinkingBudget")?.and_then(|budget| budget.as_i64()) {
        None => {}
        Some(0) => reasoning.is_off = true,
        Some(budget) => match u64::try_from(budget) {
            Ok(budget) => reasoning.budget_tokens = Some(budget),
            Err(_negative) => reasoning.is_adaptive = true,
        },
    }
    if let Some(level) = thinking.text("thinkingLevel")? {
        let level = level.to_ascii_lowercase();
        let effort = Effort::from_name(&level).ok_or_else(|| {
            Refused::invalid(thinking.at("thinkingLevel"), "must be MINIMAL, LOW, MEDIUM or HIGH")
        })?;
        reasoning.effort = Some(effort);
    }
    Ok(reasoning)
}

// === tools ===

fn read_tool(mut tool: Fields, tools: &mut Vec<Tool>) -> Result<(), Refused> {
    let path = tool.at("functionDeclarations");
    let functions = tool.list("functionDeclarations")?.unwrap_or_default();
    for (at, function) in functions.into_iter().enumerate() {
        let mut fields = object(function, format!("{path}[{at}]"))?;
        let parameters = fields.take("parametersJsonSchema").or_else(|| fields.take("parameters"));
        // How a result looks is told to the model by the result.
        fields.skip(&["response", "responseJsonSchema"]);
        fields.skip_default("behavior", &json!("BLOCKING"));
        tools.push(Tool::Function(Function {
            name: fields.required_text("name")?,
            description: fields.text("description")?,
            parameters: parameters.map(json_schema),
            is_strict: None,
            cache: None,
            rest: fields.rest(),
        }));
    }
    if tool.take("googleSearch").is_some() {
        tools.push(Tool::WebSearch(WebSearch::default()));
    }
    for (name, value) in tool.rest() {
        let mut only = Map::new();
        // Tools are told apart by their type elsewhere, and by their name here.
        only.insert("type".to_owned(), name.as_str().into());
        only.insert(name, value);
        tools.push(Tool::Only(Value::Object(only)));
    }
    Ok(())
}

fn tool_choice(mut config: Fields) -> Result<Option<ToolChoice>, Refused> {
    let Some(calling) = config.take("functionCallingConfig") else { return Ok(None) };
    let mut calling = object(calling, config.at("functionCallingConfig"))?;
    let names = calling.texts("allowedFunctionNames")?;
    let mode = calling.text("mode")?.unwrap_or_default().to_ascii_uppercase();
    Ok(Some(match (mode.as_str(), names.as_slice()) {
        ("NONE", _) => ToolChoice::None,
        ("ANY", []) => ToolChoice::Required,
        ("ANY", [only]) => ToolChoice::Named(only.clone()),
        ("ANY", _) => ToolChoice::Allowed { names, is_required: true },
        (_, []) => ToolChoice::Auto,
        _ => ToolChoice::Allowed { names, is_required: false },
    }))
}

// === contents ===

fn instruction_pieces(instruction: Value) -> Result<Vec<Piece>, Refused> {
    if let Value::String(text) = instruction {
        return Ok(vec![Part::text(text).into()]);
    }
    let mut content = object(instruction, "systemInstruction")?;
    pieces(&mut content, &mut Calls::default())
}

fn turn(content: Value, at: usize, calls: &mut Calls) -> Result<Turn, Refused> {
    let path = format!("contents[{at}]");
    let mut content = object(content, path.clone())?;
    let role = match content.text("role")?.as_deref() {
        None | Some("user" | "function") => Role::User,
        Some("model") => Role::Assistant,
        Some(_) => return Err(Refused::invalid(format!("{path}.role"), "must be user or model")),
    };
    Ok(Turn { role, name: None, pieces: pieces(&mut content, calls)?, at })
}

fn pieces(content: &mut Fields, calls: &mut Calls) -> Result<Vec<Piece>, Refused> {
    let path = content.at("parts");
    let mut pieces = Vec::new();
    for (at, part) in content.list("parts")?.unwrap_or_default().into_iter().enumerate() {
        read_part(object(part, format!("{path}[{at}]"))?, calls, &mut pieces)?;
    }
    Ok(pieces)
}

fn read_part(mut part: Fields, calls: &mut Calls, pieces: &mut Vec<Piece>) -> Result<(), Refused> {
    let seal = part.text("thoughtSignature")?.map(|text| sealed::read(&text));
    let is_thought = part.flag("thought")?.unwrap_or(false);
    let text = part.text("text")?;
    if is_thought {
        let (seal, id) = seal.map_or((None, None), |(seal, id)| (Some(seal), id));
        let is_redacted = id.as_deref() == Some(sealed::REDACTED);
        let id = id.filter(|_| !is_redacted);
        let text = text.unwrap_or_default();
        pieces.push(Part::Thinking(Thinking { id, text, seal, is_redacted }).into());
        return Ok(());
    }
    if let Some(text) = text {
        pieces.push(Part::text(text).into());
    } else if let Some(data) = part.take("inlineData") {
        let mut data = object(data, part.at("inlineData"))?;
        let mime = data.required_text("mimeType")?;
        let name = data.text("displayName")?;
        let kind = kind_of(&mime);
        let source = Source::Base64 { mime, data: data.required_text("data")? };
        pieces.push(Part::Media(Media { name, ..Media::new(kind, source) }).into());
    } else if let Some(file) = part.take("fileData") {
        let mut file = object(file, part.at("fileData"))?;
        let mime = file.text("mimeType")?;
        let kind = mime.as_deref().map_or(MediaKind::Document, kind_of);
        let uri = file.required_text("fileUri")?;
        // What was uploaded lies with Google.
        let source = if uri.contains("generativelanguage.googleapis.com") {
            Source::File { id: uri, mime }
        } else {
            Source::Url { url: uri, mime }
        };
        pieces.push(Part::Media(Media::new(kind, source)).into());
    } else if let Some(call) = part.take("functionCall") {
        let mut call = object(call, part.at("functionCall"))?;
        let name = call.required_text("name")?;
        let id = call.text("id")?;
        let id = calls.id_of(id.filter(|id| !id.is_empty()), &name);
        let arguments = call.take("args").map_or_else(|| "{}".to_owned(), |args| args.to_string());
        if let Some((seal, _)) = seal {
            let thinking =
                Thinking { id: Some(id.clone()), seal: Some(seal), ..Thinking::default() };
            pieces.push(Part::Thinking(thinking).into());
        }
        let call = ToolCall { id, name, arguments, is_custom: false, seal: None };
        pieces.push(Part::ToolCall(call).into());
    } else if let Some(response) = part.take("functionResponse") {
        let response = object(response, part.at("functionResponse"))?;
        pieces.push(Part::ToolResult(result(response, calls)?).into());
    } else {
        let rest = part.rest();
        if !rest.is_empty() {
            pieces.push(Part::Only(Value::Object(rest)).into());
        }
    }
    Ok(())
}

fn result(mut response: Fields, calls: &mut Calls) -> Result<ToolResult, Refused> {
    let name = response.required_text("name")?;
    let id = response.text("id")?;
    let id = calls.answered(id.filter(|id| !id.is_empty()), Some(&name));
    let said = response.take("response").unwrap_or_else(|| json!({}));
    // One text under a name that says no more is the text.
    let only = said.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
    let is_error = only.is_some_and(|(name, _)| name == "error");
    let text = match only {
        Some((name, Value::String(text)))
            if matches!(name.as_str(), "result" | "output" | "error") =>
        {
            text.clone()
        }
        Some((name, value)) if matches!(name.as_str(), "result" | "output") => value.to_string(),
        _ => said.to_string(),
    };
    let mut pieces = vec![Part::text(text).into()];
    let path = response.at("parts");
    for (at, part) in response.list("parts")?.unwrap_or_default().into_iter().enumerate() {
        read_part(object(part, format!("{path}[{at}]"))?, &mut Calls::default(), &mut pieces)?;
    }
    Ok(ToolResult { id, pieces, is_error, is_custom: false })
}

fn kind_of(mime: &str) -> MediaKind {
    match mime.split('/').next() {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => MediaKind::Document,
    }
}
