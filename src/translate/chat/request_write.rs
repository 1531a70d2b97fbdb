//! The form -> a chat request.

use serde_json::{Map, Value, json};

use super::words;
use crate::dialect::Dialect;
use crate::translate::fields::put;
use crate::translate::form::{
    Effort, Format, Function, Media, MediaKind, Part, Piece, Reasoning, Request, Role, Source,
    Tool, ToolCall, ToolChoice, ToolResult, Turn, WebSearch,
};
use crate::translate::names::{Field, check_function_rest, piece_path, rest_of, unsupported};
use crate::translate::quirks::{EffortField, Quirks};
use crate::translate::{Refused, Upstream};

pub(in crate::translate) fn write(
    request: &Request,
    upstream: &Upstream<'_>,
) -> Result<Value, Refused> {
    let quirks = upstream.quirks;
    let mut body = Map::new();
    body.insert("model".to_owned(), upstream.model.into());
    body.insert("messages".to_owned(), messages(request, quirks)?.into());
    if let Some(max_tokens) = request.max_tokens {
        let name =
            if quirks.takes_max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
        body.insert(name.to_owned(), max_tokens.into());
    }
    sampling(request, quirks, &mut body)?;
    tools(request, quirks, &mut body)?;
    if let Some(reasoning) = &request.reasoning {
        effort(request, reasoning, quirks, &mut body);
    }
    if let Some(format) = &request.format {
        body.insert("response_format".to_owned(), response_format(request, format, quirks)?);
    }
    put(&mut body, "verbosity", request.verbosity.clone());
    put(&mut body, "user", request.user.clone());
    body.extend(rest_of(request, Dialect::Chat)?);
    if request.is_stream {
        body.insert("stream".to_owned(), true.into());
        if quirks.takes_stream_options {
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
    }
    Ok(Value::Object(body))
}

fn sampling(
    request: &Request,
    quirks: &Quirks,
    body: &mut Map<String, Value>,
) -> Result<(), Refused> {
    let sampling = &request.sampling;
    for (name, field, value, is_taken) in [
        ("temperature", Field::Temperature, &sampling.temperature, true),
        ("top_p", Field::TopP, &sampling.top_p, true),
        ("top_k", Field::TopK, &sampling.top_k, quirks.takes_top_k),
        (
            "frequency_penalty",
            Field::FrequencyPenalty,
            &sampling.frequency_penalty,
            quirks.takes_penalties,
        ),
        (
            "presence_penalty",
            Field::PresencePenalty,
            &sampling.presence_penalty,
            quirks.takes_penalties,
        ),
        ("seed", Field::Seed, &sampling.seed, quirks.takes_seed),
    ] {
        let Some(value) = value else { continue };
        if !is_taken {
            return Err(unsupported(request, field, "the provider has nothing like it"));
        }
        body.insert(name.to_owned(), value.clone().into());
    }
    if !request.stop.is_empty() {
        body.insert("stop".to_owned(), request.stop.clone().into());
    }
    Ok(())
}

fn effort(
    request: &Request,
    reasoning: &Reasoning,
    quirks: &Quirks,
    body: &mut Map<String, Value>,
) {
    let is_openai = matches!(request.source, Dialect::Chat | Dialect::Responses);
    let name = match reasoning.effort() {
        _ if reasoning.is_off => is_openai.then_some("none"),
        Some(Effort::Max) => Some("xhigh"),
        effort => effort.map(Effort::name),
    };
    match quirks.effort {
        EffortField::Flat => put(body, "reasoning_effort", name),
        EffortField::Nested => {
            put(body, "reasoning", name.map(|name| json!({"effort": name})));
        }
        EffortField::Thinking => {
            let kind = if reasoning.is_off { "disabled" } else { "enabled" };
            body.insert("thinking".to_owned(), json!({"type": kind}));
        }
        EffortField::EnableThinking => {
            body.insert("enable_thinking".to_owned(), (!reasoning.is_off).into());
        }
        EffortField::Absent => {}
    }
}

fn response_format(request: &Request, format: &Format, quirks: &Quirks) -> Result<Value, Refused> {
    match format {
        Format::JsonObject => Ok(json!({"type": "json_object"})),
        Format::JsonSchema { .. } if !quirks.takes_json_schema => {
            Err(unsupported(request, Field::Format, "the provider takes no JSON schema"))
        }
        Format::JsonSchema { name, description, schema, is_strict } => {
            let mut inner = Map::new();
            inner.insert("name".to_owned(), name.as_deref().unwrap_or("answer").into());
            put(&mut inner, "description", description.clone());
            inner.insert("schema".to_owned(), schema.clone());
            put(&mut inner, "strict", *is_strict);
            Ok(json!({"type": "json_schema", "json_schema": inner}))
        }
    }
}

// === tools ===

fn tools(request: &Request, quirks: &Quirks, body: &mut Map<String, Value>) -> Result<(), Refused> {
    let mut list = Vec::new();
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => list.push(tool_of(request, function, quirks)?),
            Tool::WebSearch(search) => {
                body.insert("web_search_options".to_owned(), search_options(request, search)?);
            }
            Tool::Only(tool) if request.source == Dialect::Chat => list.push(tool.clone()),
            Tool::Only(tool) => return Err(crate::translate::names::foreign_tool(tool)),
        }
    }
    let has_tools = !list.is_empty();
    if has_tools {
        body.insert("tools".to_owned(), list.into());
        if let Some(is_parallel) = request.parallel_tool_calls {
            if quirks.takes_parallel_tool_calls {
                body.insert("parallel_tool_calls".to_owned(), is_parallel.into());
            } else if !is_parallel {
                return Err(unsupported(
                    request,
                    Field::ParallelToolCalls,
                    "the provider cannot be kept from parallel calls",
                ));
            }
        }
    }
    if let Some(choice) = request.tool_choice.as_ref().filter(|_| has_tools) {
        body.insert("tool_choice".to_owned(), tool_choice(choice, quirks));
    }
    Ok(())
}

fn tool_of(request: &Request, function: &Function, quirks: &Quirks) -> Result<Value, Refused> {
    let mut inner = Map::new();
    inner.insert("name".to_owned(), function.name.as_str().into());
    put(&mut inner, "description", function.description.clone());
    put(&mut inner, "parameters", function.parameters.clone());
    put(&mut inner, "strict", function.is_strict);
    inner.extend(check_function_rest(request, function, Dialect::Chat)?);
    let mut tool = Map::new();
    tool.insert("type".to_owned(), "function".into());
    tool.insert("function".to_owned(), inner.into());
    if let Some(cache) = function.cache.filter(|_| quirks.takes_cache_control) {
        tool.insert("cache_control".to_owned(), crate::translate::messages::cache_control(cache));
    }
    Ok(Value::Object(tool))
}

fn search_options(request: &Request, search: &WebSearch) -> Result<Value, Refused> {
    if search.allowed_domains.is_some() || search.blocked_domains.is_some() {
        return Err(unsupported(request, Field::SearchDomains, "chat searches everywhere"));
    }
    if search.max_uses.is_some() {
        return Err(Refused::unsupported("tools.max_uses", "chat searches as often as it wants"));
    }
    let mut options = Map::new();
    if let Some(location) = &search.user_location {
        let mut location = location.clone();
        location.shift_remove("type");
        let location = json!({"type": "approximate", "approximate": location});
        options.insert("user_location".to_owned(), location);
    }
    put(&mut options, "search_context_size", search.context_size.clone());
    Ok(Value::Object(options))
}

fn tool_choice(choice: &ToolChoice, quirks: &Quirks) -> Value {
    let named = |name: &String| json!({"type": "function", "function": {"name": name}});
    match choice {
        ToolChoice::Auto | ToolChoice::WebSearch => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => quirks.required_choice.into(),
        ToolChoice::Named(name) => named(name),
        ToolChoice::Allowed { names, is_required } => json!({
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": if *is_required { "required" } else { "auto" },
                "tools": names.iter().map(named).collect::<Vec<_>>(),
            },
        }),
    }
}

// === messages ===

/// Writes the turns of one request.
struct Writer<'a> {
    request: &'a Request,
    quirks: &'a Quirks,
    messages: Vec<Value>,
}

fn messages(request: &Request, quirks: &Quirks) -> Result<Vec<Value>, Refused> {
    let mut writer = Writer { request, quirks, messages: Vec::new() };
    for turn in &request.turns {
        match turn.role {
            Role::Developer if quirks.takes_developer => writer.plain("developer", turn)?,
            Role::System | Role::Developer => writer.plain("system", turn)?,
            Role::User => writer.user(turn)?,
            Role::Assistant => writer.assistant(turn)?,
        }
    }
    Ok(writer.messages)
}

impl Writer<'_> {
    fn push(&mut self, role: &str, turn: &Turn, members: Map<String, Value>) {
        let mut message = Map::new();
        message.insert("role".to_owned(), role.into());
        put(&mut message, "name", turn.name.clone());
        message.extend(members);
        self.messages.push(Value::Object(message));
    }

    fn plain(&mut self, role: &str, turn: &Turn) -> Result<(), Refused> {
        let content = self.content(turn, turn.pieces.iter())?;
        self.push(role, turn, Map::from_iter([("content".to_owned(), content)]));
        Ok(())
    }

    /// Results first: they must follow the calls. What a result cannot hold follows them.
    fn user(&mut self, turn: &Turn) -> Result<(), Refused> {
        let mut media = Vec::new();
        for piece in &turn.pieces {
            let Part::ToolResult(result) = &piece.part else { continue };
            let content = result_text(result);
            let members = json!({"role": "tool", "tool_call_id": result.id, "content": content});
            self.messages.push(members);
            media.extend(result.pieces.iter().filter(|piece| matches!(piece.part, Part::Media(_))));
        }
        let rest = turn.pieces.iter().filter(|piece| !matches!(piece.part, Part::ToolResult(_)));
        let rest: Vec<&Piece> = media.into_iter().chain(rest).collect();
        if rest.is_empty() && turn.pieces.iter().any(|p| matches!(p.part, Part::ToolResult(_))) {
            return Ok(());
        }
        let content = self.content(turn, rest.into_iter())?;
        self.push("user", turn, Map::from_iter([("content".to_owned(), content)]));
        Ok(())
    }

    fn assistant(&mut self, turn: &Turn) -> Result<(), Refused> {
        let mut members = Map::new();
        let texts: Vec<&Piece> = turn
            .pieces
            .iter()
            .filter(|piece| {
                matches!(piece.part, Part::Text { .. } | Part::Media(_) | Part::Only(_))
            })
            .collect();
        let content =
            if texts.is_empty() { Value::Null } else { self.content(turn, texts.into_iter())? };
        members.insert("content".to_owned(), content);
        let mut calls = Vec::new();
        let mut thoughts = String::new();
        let mut details = Vec::new();
        for piece in &turn.pieces {
            match &piece.part {
                Part::ToolCall(call) => calls.push(self.call(turn, call)?),
                Part::Refusal(refusal) => {
                    members.insert("refusal".to_owned(), refusal.as_str().into());
                }
                Part::Thinking(thinking) => {
                    thoughts.push_str(&thinking.text);
                    if thinking.seal.as_ref().is_some_and(|seal| seal.origin == Dialect::Chat) {
                        details.push(words::detail(thinking, details.len()));
                    }
                }
                // What a provider searched for by itself is in the text that followed.
                Part::Search { .. }
                | Part::Text { .. }
                | Part::Media(_)
                | Part::ToolResult(_)
                | Part::Only(_) => {}
            }
        }
        if let Some(field) = self.quirks.thoughts.filter(|_| !thoughts.is_empty()) {
            members.insert(field.to_owned(), thoughts.into());
        }
        if !details.is_empty() && self.quirks.thoughts.is_some() {
            members.insert("reasoning_details".to_owned(), details.into());
        }
        if !calls.is_empty() {
            members.insert("tool_calls".to_owned(), calls.into());
        }
        self.push("assistant", turn, members);
        Ok(())
    }

    fn call(&self, turn: &Turn, call: &ToolCall) -> Result<Value, Refused> {
        if call.is_custom {
            let path = piece_path(self.request, turn);
            return Err(Refused::unsupported(path, "calls of custom tools stay with `responses`"));
        }
        let mut value = json!({
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        });
        let own = call.seal.as_ref().filter(|seal| seal.origin == Dialect::Chat);
        if let (Some(seal), Some(map)) = (own, value.as_object_mut()) {
            map.insert("extra_content".to_owned(), words::extra_content(seal));
        }
        Ok(value)
    }

    /// One text as a string, anything else as a list.
    fn content<'p>(
        &self,
        turn: &Turn,
        pieces: impl Iterator<Item = &'p Piece>,
    ) -> Result<Value, Refused> {
        let pieces: Vec<&Piece> = pieces.collect();
        if let [Piece { part: Part::Text { text, .. }, cache }] = pieces.as_slice()
            && (cache.is_none() || !self.quirks.takes_cache_control)
        {
            return Ok(text.as_str().into());
        }
        pieces.iter().map(|piece| self.piece(turn, piece)).collect()
    }

    fn piece(&self, turn: &Turn, piece: &Piece) -> Result<Value, Refused> {
        let mut value = match &piece.part {
            Part::Text { text, .. } => json!({"type": "text", "text": text}),
            Part::Refusal(refusal) => json!({"type": "refusal", "refusal": refusal}),
            Part::Media(media) => self.media(turn, media)?,
            Part::Only(value) if self.request.source == Dialect::Chat => value.clone(),
            Part::Only(_)
            | Part::ToolCall(_)
            | Part::ToolResult(_)
            | Part::Thinking(_)
            | Part::Search { .. } => {
                let path = piece_path(self.request, turn);
                let reason = format!("chat has no {} there", piece.part.kind());
                return Err(Refused::unsupported(path, reason));
            }
        };
        if let (Some(cache), Some(map)) =
            (piece.cache.filter(|_| self.quirks.takes_cache_control), value.as_object_mut())
        {
            let control = crate::translate::messages::cache_control(cache);
            map.insert("cache_control".to_owned(), control);
        }
        Ok(value)
    }

    fn media(&self, turn: &Turn, media: &Media) -> Result<Value, Refused> {
        let refused =
            |reason: &str| Err(Refused::unsupported(piece_path(self.request, turn), reason));
        if !media.rest.is_empty() && self.request.source != Dialect::Chat {
            let name = media.rest.keys().next().map_or("", String::as_str);
            return refused(&format!("chat has no `{name}` for a {}", media.kind_name()));
        }
        match (media.kind, &media.source) {
            (MediaKind::Image, source) => match source.to_url() {
                Some(url) => {
                    let mut image = Map::from_iter([("url".to_owned(), url.into())]);
                    put(&mut image, "detail", media.detail.clone());
                    Ok(json!({"type": "image_url", "image_url": image}))
                }
                None => refused("chat takes images as data or URLs, not as uploaded files"),
            },
            (MediaKind::Audio, Source::Base64 { mime, data }) => {
                let format = match mime.as_str() {
                    "audio/mpeg" | "audio/mp3" => "mp3",
                    mime => mime.strip_prefix("audio/").unwrap_or(mime),
                };
                let audio = json!({"data": data, "format": format});
                Ok(json!({"type": "input_audio", "input_audio": audio}))
            }
            (MediaKind::Document, Source::Text(text)) => {
                Ok(json!({"type": "text", "text": titled(media.name.as_deref(), text)}))
            }
            (MediaKind::Document, Source::Base64 { mime, data }) => {
                let name = media.name.as_deref().unwrap_or("document.pdf");
                let data = format!("data:{mime};base64,{data}");
                Ok(json!({"type": "file", "file": {"filename": name, "file_data": data}}))
            }
            (MediaKind::Document, Source::File { id, .. })
                if matches!(self.request.source, Dialect::Chat | Dialect::Responses) =>
            {
                Ok(json!({"type": "file", "file": {"file_id": id}}))
            }
            (MediaKind::Document, Source::File { .. }) => {
                refused("a file uploaded to one provider is unknown to another; send its data")
            }
            (MediaKind::Document, Source::Url { .. }) => {
                refused("chat takes documents as data, not as URLs")
            }
            (MediaKind::Audio, _) => refused("chat takes audio as base64 data"),
            (MediaKind::Video, _) => refused("chat takes no video"),
        }
    }
}

/// A plain text document, for dialects without documents.
pub(in crate::translate) fn titled(title: Option<&str>, text: &str) -> String {
    match title {
        Some(title) => format!("<document title=\"{title}\">\n{text}\n</document>"),
        None => format!("<document>\n{text}\n</document>"),
    }
}

/// The texts of a result. Chat has no field that says that a tool failed.
pub(in crate::translate) fn result_text(result: &ToolResult) -> String {
    let text: String = result
        .pieces
        .iter()
        .filter_map(|piece| match &piece.part {
            Part::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    if result.is_error { format!("Error: {text}") } else { text }
}
