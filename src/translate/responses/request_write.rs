//! The form -> a responses request.

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::translate::chat::request_write::{result_text, titled};
use crate::translate::fields::put;
use crate::translate::form::{
    Effort, Format, Function, Media, MediaKind, Part, Piece, Reasoning, Request, Role, Source,
    Tool, ToolCall, ToolChoice, ToolResult, Turn, WebSearch,
};
use crate::translate::names::{
    Field, check_function_rest, foreign_tool, piece_path, rest_of, unsupported,
};
use crate::translate::{Refused, Upstream};

/// Less is refused.
const MAX_OUTPUT_TOKENS_MIN: u64 = 16;

pub(in crate::translate) fn write(
    request: &Request,
    upstream: &Upstream<'_>,
) -> Result<Value, Refused> {
    let mut body = Map::new();
    body.insert("model".to_owned(), upstream.model.into());
    let (instructions, input) = input(request)?;
    put(&mut body, "instructions", instructions);
    body.insert("input".to_owned(), input.into());
    sampling(request, &mut body)?;
    tools(request, &mut body)?;
    let mut text = Map::new();
    put(&mut text, "format", request.format.as_ref().map(format));
    put(&mut text, "verbosity", request.verbosity.clone());
    if !text.is_empty() {
        body.insert("text".to_owned(), text.into());
    }
    if let Some(reasoning) = &request.reasoning {
        think(request, reasoning, &mut body);
    }
    put(&mut body, "user", request.user.clone());
    body.extend(rest_of(request, Dialect::Responses)?);
    // What another dialect's client asks for is kept nowhere unless it says so.
    if request.source != Dialect::Responses && !body.contains_key("store") {
        body.insert("store".to_owned(), false.into());
    }
    if request.is_stream {
        body.insert("stream".to_owned(), true.into());
    }
    Ok(Value::Object(body))
}

fn sampling(request: &Request, body: &mut Map<String, Value>) -> Result<(), Refused> {
    let sampling = &request.sampling;
    for (field, value) in [
        (Field::TopK, &sampling.top_k),
        (Field::FrequencyPenalty, &sampling.frequency_penalty),
        (Field::PresencePenalty, &sampling.presence_penalty),
        (Field::Seed, &sampling.seed),
    ] {
        let is_zero = value.as_ref().is_some_and(|value| value.as_f64() == Some(0.0));
        if value.is_some() && !(is_zero && field != Field::Seed) {
            return Err(unsupported(request, field, "`responses` has nothing like it"));
        }
    }
    if !request.stop.is_empty() {
        return Err(unsupported(request, Field::Stop, "`responses` takes no stop sequences"));
    }
    if request.max_tokens.is_some_and(|tokens| tokens < MAX_OUTPUT_TOKENS_MIN) {
        return Err(Refused::unsupported("max_tokens", "`responses` takes 16 at least"));
    }
    put(body, "temperature", sampling.temperature.clone());
    put(body, "top_p", sampling.top_p.clone());
    put(body, "max_output_tokens", request.max_tokens);
    Ok(())
}

fn format(format: &Format) -> Value {
    match format {
        Format::JsonObject => json!({"type": "json_object"}),
        Format::JsonSchema { name, description, schema, is_strict } => {
            let mut map = Map::new();
            map.insert("type".to_owned(), "json_schema".into());
            map.insert("name".to_owned(), name.as_deref().unwrap_or("answer").into());
            put(&mut map, "description", description.clone());
            map.insert("schema".to_owned(), schema.clone());
            put(&mut map, "strict", *is_strict);
            Value::Object(map)
        }
    }
}

fn think(request: &Request, reasoning: &Reasoning, body: &mut Map<String, Value>) {
    let is_openai = matches!(request.source, Dialect::Chat | Dialect::Responses);
    let effort = match reasoning.effort() {
        _ if reasoning.is_off => is_openai.then_some("none"),
        Some(Effort::Max) => Some("xhigh"),
        effort => effort.map(Effort::name),
    };
    let mut map = Map::new();
    put(&mut map, "effort", effort);
    put(&mut map, "summary", reasoning.summary.clone());
    if !map.is_empty() {
        body.insert("reasoning".to_owned(), map.into());
    }
    if !reasoning.is_off {
        // So that the thoughts can come back with the next turn.
        body.insert("include".to_owned(), json!(["reasoning.encrypted_content"]));
    }
}

// === tools ===

fn tools(request: &Request, body: &mut Map<String, Value>) -> Result<(), Refused> {
    let mut list = Vec::new();
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => list.push(tool_of(request, function)?),
            Tool::WebSearch(search) => {
                list.push(web_search(request, search)?);
                put(body, "max_tool_calls", search.max_uses);
            }
            Tool::Only(tool) if request.source == Dialect::Responses => list.push(tool.clone()),
            Tool::Only(tool) => return Err(foreign_tool(tool)),
        }
    }
    if list.is_empty() {
        return Ok(());
    }
    body.insert("tools".to_owned(), list.into());
    put(body, "parallel_tool_calls", request.parallel_tool_calls);
    let named = |name: &String| json!({"type": "function", "name": name});
    let choice = request.tool_choice.as_ref().map(|choice| match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Named(name) => named(name),
        ToolChoice::Allowed { names, is_required } => json!({
            "type": "allowed_tools",
            "mode": if *is_required { "required" } else { "auto" },
            "tools": names.iter().map(named).collect::<Vec<_>>(),
        }),
        ToolChoice::WebSearch => json!({"type": "web_search"}),
    });
    put(body, "tool_choice", choice);
    Ok(())
}

fn tool_of(request: &Request, function: &Function) -> Result<Value, Refused> {
    let mut tool = Map::new();
    tool.insert("type".to_owned(), "function".into());
    tool.insert("name".to_owned(), function.name.as_str().into());
    put(&mut tool, "description", function.description.clone());
    let parameters = function.parameters.clone();
    let empty = || json!({"type": "object", "properties": {}});
    tool.insert("parameters".to_owned(), parameters.unwrap_or_else(empty));
    // Unsaid means strict here, and not strict everywhere else.
    let is_strict = function.is_strict.or((request.source != Dialect::Responses).then_some(false));
    put(&mut tool, "strict", is_strict);
    tool.extend(check_function_rest(request, function, Dialect::Responses)?);
    Ok(Value::Object(tool))
}

fn web_search(request: &Request, search: &WebSearch) -> Result<Value, Refused> {
    if search.blocked_domains.is_some() {
        let reason = "`responses` can allow domains, not block them";
        return Err(Refused::unsupported("tools.blocked_domains", reason));
    }
    let kind = search.kind.as_deref().filter(|_| request.source == Dialect::Responses);
    let mut tool = Map::new();
    tool.insert("type".to_owned(), kind.unwrap_or("web_search").into());
    if let Some(domains) = &search.allowed_domains {
        tool.insert("filters".to_owned(), json!({"allowed_domains": domains}));
    }
    if let Some(location) = &search.user_location {
        let mut location = location.clone();
        location.insert("type".to_owned(), "approximate".into());
        tool.insert("user_location".to_owned(), location.into());
    }
    put(&mut tool, "search_context_size", search.context_size.clone());
    Ok(Value::Object(tool))
}

// === items ===

/// The instructions that stood apart, and the items.
fn input(request: &Request) -> Result<(Option<String>, Vec<Value>), Refused> {
    let mut instructions = None::<String>;
    let mut items = Vec::new();
    for turn in &request.turns {
        match turn.role {
            Role::System if turn.at == usize::MAX => {
                for piece in &turn.pieces {
                    let Part::Text { text, .. } = &piece.part else { continue };
                    let all = instructions.get_or_insert_default();
                    if !all.is_empty() {
                        all.push_str("\n\n");
                    }
                    all.push_str(text);
                }
            }
            Role::System => message("system", request, turn, &mut items)?,
            Role::Developer => message("developer", request, turn, &mut items)?,
            Role::User => message("user", request, turn, &mut items)?,
            Role::Assistant => assistant(request, turn, &mut items)?,
        }
    }
    Ok((instructions, items))
}

/// Results are items of their own and come first.
fn message(
    role: &str,
    request: &Request,
    turn: &Turn,
    items: &mut Vec<Value>,
) -> Result<(), Refused> {
    let mut content = Vec::new();
    for piece in &turn.pieces {
        match &piece.part {
            Part::ToolResult(result) => items.push(output(request, turn, result)?),
            _ => content.push(part(request, turn, piece)?),
        }
    }
    if !content.is_empty() || turn.pieces.is_empty() {
        items.push(json!({"type": "message", "role": role, "content": content}));
    }
    Ok(())
}

fn output(request: &Request, turn: &Turn, result: &ToolResult) -> Result<Value, Refused> {
    let is_text = result.pieces.iter().all(|piece| matches!(piece.part, Part::Text { .. }));
    let output: Value = if is_text {
        result_text(result).into()
    } else {
        result.pieces.iter().map(|piece| part(request, turn, piece)).collect::<Result<_, _>>()?
    };
    Ok(json!({"type": "function_call_output", "call_id": result.id, "output": output}))
}

fn assistant(request: &Request, turn: &Turn, items: &mut Vec<Value>) -> Result<(), Refused> {
    let mut content: Vec<Value> = Vec::new();
    let flush = |content: &mut Vec<Value>, items: &mut Vec<Value>| {
        if !content.is_empty() {
            let content = std::mem::take(content);
            items.push(json!({"type": "message", "role": "assistant", "content": content}));
        }
    };
    for piece in &turn.pieces {
        match &piece.part {
            Part::Text { text, .. } => {
                content.push(json!({"type": "output_text", "text": text, "annotations": []}));
            }
            Part::Refusal(text) => content.push(json!({"type": "refusal", "refusal": text})),
            Part::ToolCall(call) => {
                flush(&mut content, items);
                items.push(call_item(call));
            }
            Part::Thinking(thinking) => {
                // A thought that another provider sealed means nothing to this one.
                let own = thinking.seal.as_ref().filter(|seal| seal.origin == Dialect::Responses);
                if let Some(seal) = own {
                    flush(&mut content, items);
                    let mut item = Map::new();
                    item.insert("type".to_owned(), "reasoning".into());
                    put(&mut item, "id", thinking.id.clone());
                    let summary = match thinking.text.as_str() {
                        "" => json!([]),
                        text => json!([{"type": "summary_text", "text": text}]),
                    };
                    item.insert("summary".to_owned(), summary);
                    item.insert("encrypted_content".to_owned(), seal.value.as_str().into());
                    items.push(item.into());
                }
            }
            Part::Search { .. } => {}
            Part::Only(item) if request.source == Dialect::Responses => {
                flush(&mut content, items);
                items.push(item.clone());
            }
            Part::Media(_) | Part::ToolResult(_) | Part::Only(_) => {
                let path = piece_path(request, turn);
                let reason = format!("`responses` has no {} there", piece.part.kind());
                return Err(Refused::unsupported(path, reason));
            }
        }
    }
    flush(&mut content, items);
    Ok(())
}

fn call_item(call: &ToolCall) -> Value {
    json!({
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    })
}

fn part(request: &Request, turn: &Turn, piece: &Piece) -> Result<Value, Refused> {
    match &piece.part {
        Part::Text { text, .. } => Ok(json!({"type": "input_text", "text": text})),
        Part::Media(media) => media_part(request, turn, media),
        Part::Only(part) if request.source == Dialect::Responses => Ok(part.clone()),
        part => {
            let path = piece_path(request, turn);
            let reason = format!("`responses` has no {} there", part.kind());
            Err(Refused::unsupported(path, reason))
        }
    }
}

fn media_part(request: &Request, turn: &Turn, media: &Media) -> Result<Value, Refused> {
    let refused = |reason: &str| Err(Refused::unsupported(piece_path(request, turn), reason));
    if let Some(name) = media.rest.keys().next() {
        return refused(&format!("`responses` has no `{name}` for a {}", media.kind_name()));
    }
    let is_own_file = matches!(request.source, Dialect::Chat | Dialect::Responses);
    let mut map = Map::new();
    match (media.kind, &media.source) {
        (_, Source::File { .. }) if !is_own_file => {
            return refused("a file uploaded to one provider is unknown to another; send its data");
        }
        (MediaKind::Image, source) => {
            map.insert("type".to_owned(), "input_image".into());
            match source {
                Source::File { id, .. } => put(&mut map, "file_id", Some(id.clone())),
                source => put(&mut map, "image_url", source.to_url()),
            }
            let detail = media.detail.as_deref().unwrap_or("auto");
            map.insert("detail".to_owned(), detail.into());
        }
        (MediaKind::Document, Source::Text(text)) => {
            let text = titled(media.name.as_deref(), text);
            return Ok(json!({"type": "input_text", "text": text}));
        }
        (MediaKind::Document, source) => {
            map.insert("type".to_owned(), "input_file".into());
            match source {
                Source::File { id, .. } => put(&mut map, "file_id", Some(id.clone())),
                Source::Url { url, .. } => put(&mut map, "file_url", Some(url.clone())),
                source => {
                    let name = media.name.as_deref().unwrap_or("document.pdf");
                    map.insert("filename".to_owned(), name.into());
                    put(&mut map, "file_data", source.to_url());
                }
            }
        }
        (MediaKind::Audio, Source::Base64 { mime, data }) => {
            let format = match mime.as_str() {
                "audio/mpeg" | "audio/mp3" => "mp3",
                mime => mime.strip_prefix("audio/").unwrap_or(mime),
            };
            let audio = json!({"data": data, "format": format});
            return Ok(json!({"type": "input_audio", "input_audio": audio}));
        }
        (MediaKind::Audio, _) => return refused("`responses` takes audio as base64 data"),
        (MediaKind::Video, _) => return refused("`responses` takes no video"),
    }
    Ok(Value::Object(map))
}
