//! The form -> a messages request.

use serde_json::{Map, Value, json};

use super::cache_control;
use super::model::Generation;
use super::schema::without_bounds;
use super::words::tool_id;
use crate::dialect::Dialect;
use crate::translate::chat::request_write::titled;
use crate::translate::fields::put;
use crate::translate::form::{
    Effort, Format, Function, Media, MediaKind, Part, Piece, Reasoning, Request, Role, Source,
    Tool, ToolChoice, Turn, WebSearch,
};
use crate::translate::names::{
    Field, check_function_rest, foreign_tool, piece_path, refuse_tuning, rest_of, unsupported,
};
use crate::translate::{Refused, Upstream, base64, json_tool};

/// The smallest budget that is taken.
const BUDGET_MIN: u64 = 1_024;

pub(in crate::translate) fn write(
    request: &Request,
    upstream: &Upstream<'_>,
) -> Result<(Value, Option<String>), Refused> {
    let generation = Generation::of(upstream.model);
    let mut body = Map::new();
    body.insert("model".to_owned(), upstream.model.into());
    let system = system(request)?;
    if !system.is_null() {
        body.insert("system".to_owned(), system);
    }
    body.insert("messages".to_owned(), messages(request)?.into());
    let mut max_tokens = request.max_tokens.unwrap_or(generation.max_tokens());
    sampling(request, &mut body)?;
    let json_tool = tools(request, generation, &mut body)?;
    let mut config = Map::new();
    if json_tool.is_none()
        && let Some(Format::JsonSchema { schema, .. }) = &request.format
    {
        let schema = without_bounds(schema);
        config.insert("format".to_owned(), json!({"type": "json_schema", "schema": schema}));
    }
    if let Some(reasoning) = &request.reasoning {
        let is_forced = body
            .get("tool_choice")
            .and_then(|choice| choice.get("type")?.as_str())
            .is_some_and(|kind| kind == "any" || kind == "tool");
        think(
            request,
            (reasoning, is_forced),
            generation,
            (&mut body, &mut config, &mut max_tokens),
        );
    }
    body.insert("max_tokens".to_owned(), max_tokens.into());
    let mut rest = rest_of(request, Dialect::Messages)?;
    if let Some(Value::Object(own)) = rest.shift_remove("output_config") {
        config.extend(own);
    }
    if !config.is_empty() {
        body.insert("output_config".to_owned(), config.into());
    }
    if let Some(user) = &request.user {
        body.insert("metadata".to_owned(), json!({"user_id": user}));
    }
    body.extend(rest);
    if request.is_stream {
        body.insert("stream".to_owned(), true.into());
    }
    Ok((Value::Object(body), json_tool))
}

fn sampling(request: &Request, body: &mut Map<String, Value>) -> Result<(), Refused> {
    let sampling = &request.sampling;
    refuse_tuning(request, "Anthropic has nothing like it")?;
    if sampling.temperature.as_ref().and_then(serde_json::Number::as_f64).is_some_and(|t| 1.0 < t) {
        let reason = "Anthropic takes temperatures from 0 to 1";
        return Err(unsupported(request, Field::Temperature, reason));
    }
    put(body, "temperature", sampling.temperature.clone());
    put(body, "top_p", sampling.top_p.clone());
    put(body, "top_k", sampling.top_k.clone());
    if !request.stop.is_empty() {
        if request.stop.iter().any(|stop| stop.trim().is_empty()) {
            let reason = "Anthropic takes no stop sequence of white space alone";
            return Err(unsupported(request, Field::Stop, reason));
        }
        body.insert("stop_sequences".to_owned(), request.stop.clone().into());
    }
    Ok(())
}

// === reasoning ===

fn think(
    request: &Request,
    (reasoning, is_forced): (&Reasoning, bool),
    generation: Generation,
    (body, config, max_tokens): (&mut Map<String, Value>, &mut Map<String, Value>, &mut u64),
) {
    if reasoning.is_off {
        // Not to be said to models that know no `disabled`: thinking is off unless it is asked for.
        return;
    }
    if generation.is_adaptive() {
        let effort = match reasoning.effort() {
            Some(Effort::Minimal) => Some(Effort::Low),
            Some(Effort::XHigh) if !generation.takes_xhigh() => Some(Effort::High),
            effort => effort,
        };
        put(config, "effort", effort.map(Effort::name));
        if !is_forced {
            let thinking = json!({"type": "adaptive", "display": "summarized"});
            body.insert("thinking".to_owned(), thinking);
        }
        return;
    }
    // A call that is forced leaves no room for thoughts, and a turn that went without them goes on
    // without them.
    let asked = reasoning.budget_tokens.or(reasoning.effort.map(Effort::budget_tokens));
    let Some(budget) = asked.filter(|_| !is_forced && !is_unsealed(request)) else { return };
    if request.max_tokens.is_none() {
        *max_tokens = (*max_tokens).max(budget + BUDGET_MIN);
    }
    // The limit counts thoughts too: some of it is left for the answer.
    let budget = budget.min(*max_tokens / 5 * 4);
    if BUDGET_MIN <= budget {
        let thinking = json!({"type": "enabled", "budget_tokens": budget});
        body.insert("thinking".to_owned(), thinking);
        for name in ["temperature", "top_k"] {
            body.shift_remove(name);
        }
    }
}

/// Whether the turn to go on with has calls, but no thought that Anthropic would know again.
fn is_unsealed(request: &Request) -> bool {
    let last = request.turns.iter().rev().find(|turn| turn.role == Role::Assistant);
    last.is_some_and(|turn| {
        let has = |is: fn(&Part) -> bool| turn.pieces.iter().any(|piece| is(&piece.part));
        has(|part| matches!(part, Part::ToolCall(_)))
            && !has(|part| match part {
                Part::Thinking(thinking) => {
                    thinking.seal.as_ref().is_some_and(|seal| seal.origin == Dialect::Messages)
                }
                _ => false,
            })
    })
}

// === tools ===

/// Returns the name of the tool that stands for a format, if there is one.
fn tools(
    request: &Request,
    generation: Generation,
    body: &mut Map<String, Value>,
) -> Result<Option<String>, Refused> {
    let mut list = Vec::new();
    for tool in &request.tools {
        match tool {
            Tool::Function(function) if json_tool::is_allowed(request, &function.name) => {
                list.push(tool_of(request, function, generation)?);
            }
            Tool::Function(_) => {}
            Tool::WebSearch(search) => list.push(web_search(search)),
            Tool::Only(tool) if request.source == Dialect::Messages => list.push(tool.clone()),
            Tool::Only(tool) => return Err(foreign_tool(tool)),
        }
    }
    let is_native = match &request.format {
        None => true,
        Some(Format::JsonSchema { is_strict, .. }) => {
            *is_strict == Some(true) && generation.takes_schema()
        }
        Some(Format::JsonObject) => false,
    };
    let stand_in = if is_native { None } else { json_tool::of(request) };
    let has_tools = !list.is_empty();
    if let Some(function) = &stand_in {
        list.push(tool_of(request, function, generation)?);
    }
    if list.is_empty() {
        return Ok(None);
    }
    body.insert("tools".to_owned(), list.into());
    let choice = match &stand_in {
        Some(_) if has_tools && request.tool_choice != Some(ToolChoice::None) => {
            Some(ToolChoice::Required)
        }
        Some(function) => Some(ToolChoice::Named(function.name.clone())),
        None => request.tool_choice.clone(),
    };
    let choice = choice.or_else(|| request.parallel_tool_calls.map(|_| ToolChoice::Auto));
    if let Some(choice) = choice {
        let mut value = match choice {
            ToolChoice::Auto | ToolChoice::Allowed { is_required: false, .. } => {
                json!({"type": "auto"})
            }
            ToolChoice::None => json!({"type": "none"}),
            ToolChoice::Required | ToolChoice::Allowed { is_required: true, .. } => {
                json!({"type": "any"})
            }
            ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
            ToolChoice::WebSearch => json!({"type": "tool", "name": "web_search"}),
        };
        let is_none = value.get("type").is_some_and(|kind| kind == "none");
        if let (Some(is_parallel), Some(map), false) =
            (request.parallel_tool_calls, value.as_object_mut(), is_none)
        {
            map.insert("disable_parallel_tool_use".to_owned(), (!is_parallel).into());
        }
        body.insert("tool_choice".to_owned(), value);
    }
    Ok(stand_in.map(|function| function.name))
}

fn tool_of(
    request: &Request,
    function: &Function,
    generation: Generation,
) -> Result<Value, Refused> {
    let mut tool = Map::new();
    tool.insert("name".to_owned(), function.name.as_str().into());
    put(&mut tool, "description", function.description.clone());
    let mut schema = function.parameters.clone().unwrap_or_else(|| json!({}));
    if let Some(map) = schema.as_object_mut()
        && !map.contains_key("type")
    {
        map.insert("type".to_owned(), "object".into());
    }
    tool.insert("input_schema".to_owned(), schema);
    if function.is_strict == Some(true) && generation.takes_schema() {
        tool.insert("strict".to_owned(), true.into());
    }
    put(&mut tool, "cache_control", function.cache.map(cache_control));
    tool.extend(check_function_rest(request, function, Dialect::Messages)?);
    Ok(Value::Object(tool))
}

fn web_search(search: &WebSearch) -> Value {
    let kind = search.kind.as_deref().filter(|kind| kind.starts_with("web_search_2025"));
    let mut tool = Map::new();
    tool.insert("type".to_owned(), kind.unwrap_or("web_search_20250305").into());
    tool.insert("name".to_owned(), "web_search".into());
    put(&mut tool, "max_uses", search.max_uses);
    put(&mut tool, "allowed_domains", search.allowed_domains.clone());
    put(&mut tool, "blocked_domains", search.blocked_domains.clone());
    if let Some(location) = &search.user_location {
        let mut location = location.clone();
        location.insert("type".to_owned(), "approximate".into());
        tool.insert("user_location".to_owned(), location.into());
    }
    Value::Object(tool)
}

// === messages ===

/// All instructions in one, wherever they stood.
fn system(request: &Request) -> Result<Value, Refused> {
    let mut blocks = Vec::new();
    for turn in request.turns.iter().filter(|turn| turn.role.is_instruction()) {
        for piece in &turn.pieces {
            let Part::Text { text, .. } = &piece.part else {
                let path = piece_path(request, turn);
                return Err(Refused::unsupported(path, "instructions are text for Anthropic"));
            };
            if !text.is_empty() {
                blocks.push(with_cache(json!({"type": "text", "text": text}), piece));
            }
        }
    }
    Ok(match blocks.as_slice() {
        [] => Value::Null,
        [only] if only.get("cache_control").is_none() => {
            only.get("text").cloned().unwrap_or_default()
        }
        _ => blocks.into(),
    })
}

/// Turns of one side after another are one.
fn messages(request: &Request) -> Result<Vec<Value>, Refused> {
    let mut messages: Vec<(Role, Vec<Value>)> = Vec::new();
    for turn in request.turns.iter().filter(|turn| !turn.role.is_instruction()) {
        let mut blocks = Vec::with_capacity(turn.pieces.len());
        for piece in &turn.pieces {
            if let Some(block) = block(request, turn, piece)? {
                blocks.push(block);
            }
        }
        match messages.last_mut() {
            Some((role, all)) if *role == turn.role => all.extend(blocks),
            _ => messages.push((turn.role, blocks)),
        }
    }
    let message = |(role, blocks): (Role, Vec<Value>)| {
        let role = if role == Role::Assistant { "assistant" } else { "user" };
        json!({"role": role, "content": blocks})
    };
    Ok(messages.into_iter().map(message).collect())
}

fn with_cache(mut block: Value, piece: &Piece) -> Value {
    if let (Some(cache), Some(map)) = (piece.cache, block.as_object_mut()) {
        map.insert("cache_control".to_owned(), cache_control(cache));
    }
    block
}

fn block(request: &Request, turn: &Turn, piece: &Piece) -> Result<Option<Value>, Refused> {
    let block = match &piece.part {
        // An empty block is refused; it says nothing.
        Part::Text { text, .. } if text.is_empty() => return Ok(None),
        Part::Text { text, .. } | Part::Refusal(text) => json!({"type": "text", "text": text}),
        Part::Media(media) => media_block(request, turn, media)?,
        Part::ToolCall(call) => {
            let input = serde_json::from_str::<Value>(&call.arguments)
                .ok()
                .filter(Value::is_object)
                .unwrap_or_else(|| match call.arguments.as_str() {
                    "" => json!({}),
                    text => json!({"input": text}),
                });
            json!({"type": "tool_use", "id": tool_id(&call.id), "name": call.name, "input": input})
        }
        Part::ToolResult(result) => {
            let mut content = Vec::with_capacity(result.pieces.len());
            for piece in &result.pieces {
                content.extend(block(request, turn, piece)?);
            }
            let mut block = Map::new();
            block.insert("type".to_owned(), "tool_result".into());
            block.insert("tool_use_id".to_owned(), tool_id(&result.id).into());
            block.insert("content".to_owned(), content.into());
            if result.is_error {
                block.insert("is_error".to_owned(), true.into());
            }
            Value::Object(block)
        }
        // A thought that another provider sealed means nothing to this one.
        Part::Thinking(thinking) => match &thinking.seal {
            Some(seal) if seal.origin != Dialect::Messages => return Ok(None),
            Some(seal) if thinking.is_redacted => {
                json!({"type": "redacted_thinking", "data": seal.value})
            }
            Some(seal) => json!({
                "type": "thinking", "thinking": thinking.text, "signature": seal.value,
            }),
            None => return Ok(None),
        },
        Part::Search { .. } => return Ok(None),
        Part::Only(block) if request.source == Dialect::Messages => block.clone(),
        Part::Only(_) => {
            let path = piece_path(request, turn);
            return Err(Refused::unsupported(path, "Anthropic has no part of that type"));
        }
    };
    Ok(Some(with_cache(block, piece)))
}

fn media_block(request: &Request, turn: &Turn, media: &Media) -> Result<Value, Refused> {
    let refused = |reason: &str| Err(Refused::unsupported(piece_path(request, turn), reason));
    let is_own = request.source == Dialect::Messages;
    let source = match (media.kind, &media.source) {
        (MediaKind::Audio | MediaKind::Video, _) => {
            return refused("Anthropic takes neither audio nor video");
        }
        (_, Source::File { id, .. }) if is_own => json!({"type": "file", "file_id": id}),
        (_, Source::File { .. }) => {
            return refused("a file uploaded to one provider is unknown to another; send its data");
        }
        (_, Source::Url { url, .. }) => json!({"type": "url", "url": url}),
        (MediaKind::Document, Source::Base64 { mime, data }) if mime.starts_with("text/") => {
            match base64::decode(data).and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(text) => json!({"type": "text", "media_type": "text/plain", "data": text}),
                None => return refused("the document is no base64 of a UTF-8 text"),
            }
        }
        (MediaKind::Document, Source::Base64 { mime, .. }) if mime != "application/pdf" => {
            return refused("Anthropic takes documents as PDF or plain text");
        }
        (_, Source::Base64 { mime, data }) => {
            json!({"type": "base64", "media_type": mime, "data": data})
        }
        (MediaKind::Document, Source::Text(text)) => {
            json!({"type": "text", "media_type": "text/plain", "data": text})
        }
        (MediaKind::Image, Source::Text(text)) => {
            return Ok(json!({"type": "text", "text": titled(media.name.as_deref(), text)}));
        }
    };
    let mut block = Map::new();
    let kind = if media.kind == MediaKind::Image { "image" } else { "document" };
    block.insert("type".to_owned(), kind.into());
    block.insert("source".to_owned(), source);
    if media.kind == MediaKind::Document {
        put(&mut block, "title", media.name.clone());
    }
    if is_own {
        block.extend(media.rest.clone());
    }
    Ok(Value::Object(block))
}
