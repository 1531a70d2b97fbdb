//! The form -> a `Converse` request.

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::translate::chat::request_write::titled;
use crate::translate::fields::put;
use crate::translate::form::{
    Effort, Format, Function, Media, MediaKind, Part, Piece, Reasoning, Request, Role, Source,
    Tool, ToolChoice, ToolResult, Turn,
};
use crate::translate::messages::words::tool_id;
use crate::translate::names::{
    Field, check_function_rest, foreign_tool, piece_path, refuse_tuning, rest_of, unsupported,
};
use crate::translate::{Refused, Upstream, json_tool};

/// Whose model it is, which decides what is said beside the common fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Anthropic,
    Nova,
    OpenAi,
    Other,
}

impl Maker {
    fn of(model: &str) -> Self {
        let has = |word: &str| model.contains(word);
        if has("anthropic.") || has("claude") {
            Self::Anthropic
        } else if has("amazon.nova") {
            Self::Nova
        } else if has("openai.") {
            Self::OpenAi
        } else {
            Self::Other
        }
    }

    const fn takes_cache_points(self) -> bool {
        matches!(self, Self::Anthropic | Self::Nova)
    }
}

/// The body, and the name of the tool that stands for a format, if there is one.
pub(in crate::translate) fn write(
    request: &Request,
    upstream: &Upstream<'_>,
) -> Result<(Value, Option<String>), Refused> {
    rest_of(request, Dialect::Converse)?;
    let writer = Writer { request, maker: Maker::of(upstream.model) };
    let mut body = Map::new();
    let system = writer.system()?;
    if !system.is_empty() {
        body.insert("system".to_owned(), system.into());
    }
    body.insert("messages".to_owned(), writer.messages()?.into());
    let mut more = Map::new();
    let config = writer.config(&mut more)?;
    if !config.is_empty() {
        body.insert("inferenceConfig".to_owned(), config.into());
    }
    let json_tool = writer.tools(&mut body)?;
    if let Some(reasoning) = &request.reasoning {
        writer.think(reasoning, &mut more)?;
    }
    if !more.is_empty() {
        body.insert("additionalModelRequestFields".to_owned(), more.into());
    }
    Ok((Value::Object(body), json_tool))
}

struct Writer<'a> {
    request: &'a Request,
    maker: Maker,
}

impl Writer<'_> {
    fn config(&self, more: &mut Map<String, Value>) -> Result<Map<String, Value>, Refused> {
        let request = self.request;
        let sampling = &request.sampling;
        refuse_tuning(request, "Bedrock has nothing like it")?;
        let temperature = sampling.temperature.as_ref().and_then(serde_json::Number::as_f64);
        if temperature.is_some_and(|temperature| 1.0 < temperature) {
            let reason = "Bedrock takes temperatures from 0 to 1";
            return Err(unsupported(request, Field::Temperature, reason));
        }
        if let Some(top_k) = &sampling.top_k {
            match self.maker {
                Maker::Anthropic => drop(more.insert("top_k".to_owned(), top_k.clone().into())),
                Maker::Nova => {
                    more.insert("inferenceConfig".to_owned(), json!({"topK": top_k}));
                }
                Maker::OpenAi | Maker::Other => {
                    let reason = "this model of Bedrock has nothing like it";
                    return Err(unsupported(request, Field::TopK, reason));
                }
            }
        }
        let mut config = Map::new();
        put(&mut config, "maxTokens", request.max_tokens);
        put(&mut config, "temperature", sampling.temperature.clone());
        put(&mut config, "topP", sampling.top_p.clone());
        if !request.stop.is_empty() {
            config.insert("stopSequences".to_owned(), request.stop.clone().into());
        }
        Ok(config)
    }

    /// There is no common way to ask for it: each maker has its own.
    fn think(&self, reasoning: &Reasoning, more: &mut Map<String, Value>) -> Result<(), Refused> {
        if reasoning.is_off {
            return Ok(());
        }
        let effort = reasoning.effort().unwrap_or(Effort::Medium);
        match self.maker {
            Maker::Anthropic => {
                let budget = reasoning.budget_tokens.unwrap_or(effort.budget_tokens());
                let most = self.request.max_tokens.map_or(budget, |max| budget.min(max / 5 * 4));
                if 1_024 <= most {
                    let thinking = json!({"type": "enabled", "budget_tokens": most});
                    more.insert("thinking".to_owned(), thinking);
                }
            }
            Maker::Nova => {
                let level = level(effort);
                let config = json!({"type": "enabled", "maxReasoningEffort": level});
                more.insert("reasoningConfig".to_owned(), config);
            }
            Maker::OpenAi => drop(more.insert("reasoning_effort".to_owned(), level(effort).into())),
            Maker::Other => {
                let reason = "this model of Bedrock thinks as it does, or not at all";
                return Err(unsupported(self.request, Field::Reasoning, reason));
            }
        }
        Ok(())
    }

    // === tools ===

    /// Returns the name of the tool that stands for a format, if there is one.
    fn tools(&self, body: &mut Map<String, Value>) -> Result<Option<String>, Refused> {
        let request = self.request;
        let mut list = Vec::new();
        for tool in &request.tools {
            match tool {
                Tool::Function(function) if json_tool::is_allowed(request, &function.name) => {
                    list.push(tool_of(request, function)?);
                    if let Some(cache) = function.cache.filter(|_| self.maker.takes_cache_points())
                    {
                        list.push(cache_point(cache.is_long));
                    }
                }
                Tool::Function(_) => {}
                Tool::WebSearch(_) => {
                    return Err(Refused::unsupported("tools", "Bedrock does not search the web"));
                }
                Tool::Only(tool) => return Err(foreign_tool(tool)),
            }
        }
        let stand_in = match &request.format {
            None => None,
            Some(Format::JsonObject | Format::JsonSchema { .. }) => json_tool::of(request),
        };
        let has_tools = !list.is_empty();
        if let Some(function) = &stand_in {
            list.push(tool_of(request, function)?);
        }
        let is_told_none = stand_in.is_none() && request.tool_choice == Some(ToolChoice::None);
        if is_told_none {
            // What is not offered is not called; but calls of earlier turns want their tools.
            if has_tools && self.has_calls() {
                let reason = "Bedrock cannot be kept from calling tools that were called before";
                return Err(unsupported(request, Field::ToolChoice, reason));
            }
            return Ok(None);
        }
        if list.is_empty() {
            return Ok(None);
        }
        if has_tools && request.parallel_tool_calls == Some(false) {
            let reason = "Bedrock cannot be kept from parallel calls";
            return Err(unsupported(request, Field::ParallelToolCalls, reason));
        }
        let mut config = Map::new();
        config.insert("tools".to_owned(), list.into());
        let choice = match &stand_in {
            Some(_) if has_tools && request.tool_choice != Some(ToolChoice::None) => {
                Some(json!({"any": {}}))
            }
            Some(function) => Some(json!({"tool": {"name": function.name}})),
            None => match &request.tool_choice {
                None | Some(ToolChoice::None | ToolChoice::WebSearch) => None,
                Some(ToolChoice::Auto | ToolChoice::Allowed { is_required: false, .. }) => {
                    Some(json!({"auto": {}}))
                }
                Some(ToolChoice::Required | ToolChoice::Allowed { is_required: true, .. }) => {
                    Some(json!({"any": {}}))
                }
                Some(ToolChoice::Named(name)) => Some(json!({"tool": {"name": name}})),
            },
        };
        put(&mut config, "toolChoice", choice);
        body.insert("toolConfig".to_owned(), config.into());
        Ok(stand_in.map(|function| function.name))
    }

    fn has_calls(&self) -> bool {
        let pieces = self.request.turns.iter().flat_map(|turn| &turn.pieces);
        pieces.into_iter().any(|piece| matches!(piece.part, Part::ToolCall(_)))
    }

    // === messages ===

    fn system(&self) -> Result<Vec<Value>, Refused> {
        let mut blocks = Vec::new();
        for turn in self.request.turns.iter().filter(|turn| turn.role.is_instruction()) {
            for piece in &turn.pieces {
                let Part::Text { text, .. } = &piece.part else {
                    let path = piece_path(self.request, turn);
                    return Err(Refused::unsupported(path, "instructions are text for Bedrock"));
                };
                if !text.is_empty() {
                    blocks.push(json!({"text": text}));
                    self.cache(piece, &mut blocks);
                }
            }
        }
        Ok(blocks)
    }

    /// Turns of one side after another are one.
    fn messages(&self) -> Result<Vec<Value>, Refused> {
        let mut messages: Vec<(Role, Vec<Value>)> = Vec::new();
        let mut n_documents = 0;
        for turn in self.request.turns.iter().filter(|turn| !turn.role.is_instruction()) {
            let mut blocks = Vec::with_capacity(turn.pieces.len());
            for piece in &turn.pieces {
                if let Some(block) = self.block(turn, piece, &mut n_documents)? {
                    blocks.push(block);
                    self.cache(piece, &mut blocks);
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

    fn cache(&self, piece: &Piece, blocks: &mut Vec<Value>) {
        if let Some(cache) = piece.cache.filter(|_| self.maker.takes_cache_points()) {
            blocks.push(cache_point(cache.is_long));
        }
    }

    fn block(
        &self,
        turn: &Turn,
        piece: &Piece,
        n_documents: &mut usize,
    ) -> Result<Option<Value>, Refused> {
        Ok(Some(match &piece.part {
            // An empty block is refused; it says nothing.
            Part::Text { text, .. } if text.is_empty() => return Ok(None),
            Part::Text { text, .. } | Part::Refusal(text) => json!({"text": text}),
            Part::Media(media) => self.media(turn, media, n_documents)?,
            Part::ToolCall(call) => {
                let input = serde_json::from_str::<Value>(&call.arguments).ok();
                let input = input.filter(Value::is_object).unwrap_or_else(|| json!({}));
                let id = tool_id(&call.id);
                json!({"toolUse": {"toolUseId": id, "name": call.name, "input": input}})
            }
            Part::ToolResult(result) => self.result(turn, result, n_documents)?,
            // A thought that another provider sealed means nothing to this one.
            Part::Thinking(thinking) => match &thinking.seal {
                Some(seal) if seal.origin != Dialect::Converse => return Ok(None),
                Some(seal) if thinking.is_redacted => {
                    json!({"reasoningContent": {"redactedContent": seal.value}})
                }
                Some(seal) => json!({"reasoningContent": {"reasoningText": {
                    "text": thinking.text, "signature": seal.value,
                }}}),
                None => return Ok(None),
            },
            Part::Search { .. } => return Ok(None),
            Part::Only(_) => {
                let path = piece_path(self.request, turn);
                return Err(Refused::unsupported(path, "Bedrock has no part of that type"));
            }
        }))
    }

    fn result(
        &self,
        turn: &Turn,
        result: &ToolResult,
        n_documents: &mut usize,
    ) -> Result<Value, Refused> {
        let mut content = Vec::with_capacity(result.pieces.len());
        for piece in &result.pieces {
            content.extend(self.block(turn, piece, n_documents)?);
        }
        if content.is_empty() {
            // A result wants a content.
            content.push(json!({"json": {}}));
        }
        let status = if result.is_error { "error" } else { "success" };
        let id = tool_id(&result.id);
        let told = json!({"toolUseId": id, "content": content, "status": status});
        Ok(json!({"toolResult": told}))
    }

    fn media(&self, turn: &Turn, media: &Media, n_documents: &mut usize) -> Result<Value, Refused> {
        let refused =
            |reason: &str| Err(Refused::unsupported(piece_path(self.request, turn), reason));
        if let Some(name) = media.rest.keys().next() {
            return refused(&format!("Bedrock has no `{name}` for a {}", media.kind_name()));
        }
        match (&media.source, media.kind) {
            (Source::Text(text), _) => Ok(json!({"text": titled(media.name.as_deref(), text)})),
            (Source::Base64 { mime, data }, MediaKind::Image) => match image_format(mime) {
                Some(format) => Ok(json!({"image": {"format": format, "source": {"bytes": data}}})),
                None => refused("Bedrock takes images as PNG, JPEG, GIF or WebP"),
            },
            (Source::Base64 { mime, data }, MediaKind::Document) => {
                *n_documents += 1;
                match document_format(mime) {
                    Some(format) => Ok(json!({"document": {
                        "format": format,
                        "name": document_name(media.name.as_deref(), *n_documents),
                        "source": {"bytes": data},
                    }})),
                    None => refused("Bedrock takes no documents of this type"),
                }
            }
            (_, MediaKind::Audio | MediaKind::Video) => {
                refused("Bedrock takes neither audio nor video")
            }
            (Source::Url { .. }, _) => refused("Bedrock fetches nothing; send the data itself"),
            (Source::File { .. }, _) => {
                refused("a file uploaded to one provider is unknown to another; send its data")
            }
        }
    }
}

const fn level(effort: Effort) -> &'static str {
    match effort {
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::XHigh | Effort::Max => "high",
    }
}

fn cache_point(is_long: bool) -> Value {
    if is_long {
        json!({"cachePoint": {"type": "default", "ttl": "1h"}})
    } else {
        json!({"cachePoint": {"type": "default"}})
    }
}

fn tool_of(request: &Request, function: &Function) -> Result<Value, Refused> {
    check_function_rest(request, function, Dialect::Converse)?;
    let mut tool = Map::new();
    tool.insert("name".to_owned(), function.name.as_str().into());
    put(&mut tool, "description", function.description.clone().filter(|text| !text.is_empty()));
    let mut schema = function.parameters.clone().unwrap_or_else(|| json!({}));
    if let Some(map) = schema.as_object_mut()
        && !map.contains_key("type")
    {
        map.insert("type".to_owned(), "object".into());
    }
    tool.insert("inputSchema".to_owned(), json!({"json": schema}));
    Ok(json!({"toolSpec": tool}))
}

fn image_format(mime: &str) -> Option<&'static str> {
    Some(match mime {
        "image/png" => "png",
        "image/jpeg" | "image/jpg" => "jpeg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        _ => return None,
    })
}

fn document_format(mime: &str) -> Option<&'static str> {
    Some(match mime {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/plain" => "txt",
        "text/markdown" => "md",
        _ => return None,
    })
}

/// Documents want a name of their own, of letters, digits and little else.
fn document_name(name: Option<&str>, n: usize) -> String {
    let kept = name.unwrap_or_default().chars().map(|char| match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '(' | ')' | '[' | ']' => char,
        _ => ' ',
    });
    let words = kept.collect::<String>();
    let words: Vec<&str> = words.split_whitespace().collect();
    let name: String = words.join(" ").chars().take(150).collect();
    if name.is_empty() { format!("document {n}") } else { format!("{n} {name}") }
}
