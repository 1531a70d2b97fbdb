//! The form -> a `generateContent` request.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::translate::chat::request_write::{result_text, titled};
use crate::translate::fields::put;
use crate::translate::form::{
    Effort, Format, Function, Media, MediaKind, Part, Piece, Reasoning, Request, Role, Source,
    Tool, ToolCall, ToolChoice, ToolResult, Turn,
};
use crate::translate::names::{
    Field, check_function_rest, foreign_tool, piece_path, rest_of, unsupported,
};
use crate::translate::{Refused, Upstream, json_tool};

/// Stands for the seal of a call that this provider did not make, or that a client lost: newer
/// models refuse calls without one.
const NO_SEAL: &str = "skip_thought_signature_validator";

pub(in crate::translate) fn write(
    request: &Request,
    upstream: &Upstream<'_>,
) -> Result<Value, Refused> {
    let rest = rest_of(request, Dialect::Gemini)?;
    let mut body = Map::new();
    let system = system(request)?;
    if !system.is_empty() {
        body.insert("systemInstruction".to_owned(), json!({"parts": system}));
    }
    let contents = Writer::new(request, upstream.model).contents()?;
    body.insert("contents".to_owned(), contents.into());
    tools(request, &mut body)?;
    let mut config = config(request, upstream.model)?;
    for (name, value) in rest {
        match name.strip_prefix("generationConfig.") {
            Some(name) => config.insert(name.to_owned(), value),
            None => body.insert(name, value),
        };
    }
    if !config.is_empty() {
        body.insert("generationConfig".to_owned(), config.into());
    }
    Ok(Value::Object(body))
}

/// Models of the third generation take levels of thinking, those before budgets.
fn takes_levels(model: &str) -> bool {
    let generation =
        model.rsplit_once("gemini-").and_then(|(_, rest)| rest.split(['.', '-']).next());
    generation.and_then(|number| number.parse::<u32>().ok()).is_none_or(|number| 3 <= number)
}

fn config(request: &Request, model: &str) -> Result<Map<String, Value>, Refused> {
    let sampling = &request.sampling;
    let mut config = Map::new();
    put(&mut config, "temperature", sampling.temperature.clone());
    put(&mut config, "topP", sampling.top_p.clone());
    put(&mut config, "topK", sampling.top_k.clone());
    put(&mut config, "presencePenalty", sampling.presence_penalty.clone());
    put(&mut config, "frequencyPenalty", sampling.frequency_penalty.clone());
    put(&mut config, "seed", sampling.seed.clone());
    put(&mut config, "maxOutputTokens", request.max_tokens);
    if !request.stop.is_empty() {
        config.insert("stopSequences".to_owned(), request.stop.clone().into());
    }
    if request.verbosity.as_deref().is_some_and(|verbosity| verbosity != "medium") {
        return Err(unsupported(request, Field::Verbosity, "Gemini has nothing like it"));
    }
    match &request.format {
        None => {}
        Some(Format::JsonObject) => {
            config.insert("responseMimeType".to_owned(), "application/json".into());
        }
        Some(Format::JsonSchema { schema, .. }) => {
            config.insert("responseMimeType".to_owned(), "application/json".into());
            config.insert("responseJsonSchema".to_owned(), schema.clone());
        }
    }
    if let Some(reasoning) = &request.reasoning {
        let thinking = thinking(reasoning, takes_levels(model));
        config.insert("thinkingConfig".to_owned(), thinking.into());
    }
    Ok(config)
}

fn thinking(reasoning: &Reasoning, has_levels: bool) -> Map<String, Value> {
    let mut thinking = Map::new();
    if reasoning.is_off {
        // A level of nothing is not known; the least is.
        if has_levels {
            thinking.insert("thinkingLevel".to_owned(), "minimal".into());
        } else {
            thinking.insert("thinkingBudget".to_owned(), 0.into());
        }
        return thinking;
    }
    if has_levels {
        let level = match reasoning.effort() {
            Some(Effort::XHigh | Effort::Max) => Some(Effort::High),
            effort => effort,
        };
        put(&mut thinking, "thinkingLevel", level.map(Effort::name));
    } else {
        let budget = reasoning.budget_tokens.or(reasoning.effort.map(Effort::budget_tokens));
        put(&mut thinking, "thinkingBudget", budget.map(|budget| budget.min(24_576)));
    }
    thinking.insert("includeThoughts".to_owned(), true.into());
    thinking
}

// === tools ===

fn tools(request: &Request, body: &mut Map<String, Value>) -> Result<(), Refused> {
    let mut functions = Vec::new();
    let mut list = Vec::new();
    for tool in &request.tools {
        match tool {
            Tool::Function(function) if json_tool::is_allowed(request, &function.name) => {
                functions.push(function_of(request, function)?);
            }
            Tool::Function(_) => {}
            Tool::WebSearch(search) => {
                if search.allowed_domains.is_some() || search.blocked_domains.is_some() {
                    let reason = "Google searches everywhere";
                    return Err(unsupported(request, Field::SearchDomains, reason));
                }
                list.push(json!({"googleSearch": {}}));
            }
            Tool::Only(tool) if request.source == Dialect::Gemini => {
                let mut tool = tool.clone();
                if let Some(map) = tool.as_object_mut() {
                    map.shift_remove("type");
                }
                list.push(tool);
            }
            Tool::Only(tool) => return Err(foreign_tool(tool)),
        }
    }
    if functions.is_empty() && list.is_empty() {
        return Ok(());
    }
    let has_functions = !functions.is_empty();
    if has_functions {
        if request.parallel_tool_calls == Some(false) {
            let reason = "Gemini cannot be kept from parallel calls";
            return Err(unsupported(request, Field::ParallelToolCalls, reason));
        }
        list.insert(0, json!({"functionDeclarations": functions}));
    }
    body.insert("tools".to_owned(), list.into());
    let calling = match &request.tool_choice {
        None | Some(ToolChoice::WebSearch) => None,
        Some(ToolChoice::Auto | ToolChoice::Allowed { is_required: false, .. }) => {
            Some(json!({"mode": "AUTO"}))
        }
        Some(ToolChoice::None) => Some(json!({"mode": "NONE"})),
        Some(ToolChoice::Required | ToolChoice::Allowed { is_required: true, .. }) => {
            Some(json!({"mode": "ANY"}))
        }
        Some(ToolChoice::Named(name)) => {
            Some(json!({"mode": "ANY", "allowedFunctionNames": [name]}))
        }
    };
    if let Some(calling) = calling.filter(|_| has_functions) {
        body.insert("toolConfig".to_owned(), json!({"functionCallingConfig": calling}));
    }
    Ok(())
}

fn function_of(request: &Request, function: &Function) -> Result<Value, Refused> {
    check_function_rest(request, function, Dialect::Gemini)?;
    let mut map = Map::new();
    map.insert("name".to_owned(), function.name.as_str().into());
    put(&mut map, "description", function.description.clone());
    put(&mut map, "parametersJsonSchema", function.parameters.clone());
    Ok(Value::Object(map))
}

// === contents ===

fn system(request: &Request) -> Result<Vec<Value>, Refused> {
    let mut parts = Vec::new();
    for turn in request.turns.iter().filter(|turn| turn.role.is_instruction()) {
        for piece in &turn.pieces {
            let Part::Text { text, .. } = &piece.part else {
                let path = piece_path(request, turn);
                return Err(Refused::unsupported(path, "instructions are text for Gemini"));
            };
            parts.push(json!({"text": text}));
        }
    }
    Ok(parts)
}

/// Writes the turns of one request.
struct Writer<'a> {
    request: &'a Request,
    needs_seals: bool,
    /// The names of calls, by id: a result is told with its name here.
    names: HashMap<&'a str, &'a str>,
}

impl<'a> Writer<'a> {
    fn new(request: &'a Request, model: &str) -> Self {
        let calls = request.turns.iter().flat_map(|turn| &turn.pieces);
        let calls = calls.filter_map(|piece| match &piece.part {
            Part::ToolCall(call) => Some((call.id.as_str(), call.name.as_str())),
            _ => None,
        });
        Self { request, needs_seals: takes_levels(model), names: calls.collect() }
    }

    /// Turns of one side after another are one.
    fn contents(&self) -> Result<Vec<Value>, Refused> {
        let mut contents: Vec<(Role, Vec<Value>)> = Vec::new();
        for turn in self.request.turns.iter().filter(|turn| !turn.role.is_instruction()) {
            let parts = self.turn(turn)?;
            match contents.last_mut() {
                Some((role, all)) if *role == turn.role => all.extend(parts),
                _ => contents.push((turn.role, parts)),
            }
        }
        let content = |(role, parts): (Role, Vec<Value>)| {
            let role = if role == Role::Assistant { "model" } else { "user" };
            json!({"role": role, "parts": parts})
        };
        Ok(contents.into_iter().map(content).collect())
    }

    fn turn(&self, turn: &Turn) -> Result<Vec<Value>, Refused> {
        let mut parts = Vec::with_capacity(turn.pieces.len());
        let mut seal: Option<&str> = None;
        let mut has_calls = false;
        for Piece { part, .. } in &turn.pieces {
            match part {
                Part::Text { text, .. } if text.is_empty() => {}
                Part::Text { text, .. } | Part::Refusal(text) => parts.push(json!({"text": text})),
                Part::Media(media) => parts.push(self.media(turn, media)?),
                Part::ToolCall(call) => {
                    // Of parallel calls only the first is sealed.
                    let missing = (self.needs_seals && !has_calls).then_some(NO_SEAL);
                    parts.push(call_part(call, seal.take().or(missing)));
                    has_calls = true;
                }
                Part::ToolResult(result) => self.result(turn, result, &mut parts)?,
                Part::Thinking(thinking) => {
                    // It stands before the call that it seals.
                    let own = thinking.seal.as_ref().filter(|seal| seal.origin == Dialect::Gemini);
                    seal = own.map(|seal| seal.value.as_str()).or(seal);
                }
                Part::Search { .. } => {}
                Part::Only(part) if self.request.source == Dialect::Gemini => {
                    parts.push(part.clone());
                }
                Part::Only(_) => {
                    let path = piece_path(self.request, turn);
                    return Err(Refused::unsupported(path, "Gemini has no part of that type"));
                }
            }
        }
        Ok(parts)
    }

    fn result(
        &self,
        turn: &Turn,
        result: &ToolResult,
        parts: &mut Vec<Value>,
    ) -> Result<(), Refused> {
        let Some(name) = self.names.get(result.id.as_str()) else {
            let path = piece_path(self.request, turn);
            return Err(Refused::invalid(path, "is the result of a call that was not made"));
        };
        let text = result_text(&ToolResult { is_error: false, ..result.clone() });
        let response = match serde_json::from_str::<Value>(&text) {
            _ if result.is_error => json!({"error": text}),
            Ok(value) if value.is_object() => value,
            _ => json!({"result": text}),
        };
        let told = json!({"id": result.id, "name": name, "response": response});
        parts.push(json!({"functionResponse": told}));
        for piece in &result.pieces {
            if let Part::Media(media) = &piece.part {
                parts.push(self.media(turn, media)?);
            }
        }
        Ok(())
    }

    fn media(&self, turn: &Turn, media: &Media) -> Result<Value, Refused> {
        let refused =
            |reason: &str| Err(Refused::unsupported(piece_path(self.request, turn), reason));
        if let Some(name) = media.rest.keys().next() {
            return refused(&format!("Gemini has no `{name}` for a {}", media.kind_name()));
        }
        match &media.source {
            Source::Base64 { mime, data } => {
                Ok(json!({"inlineData": {"mimeType": mime, "data": data}}))
            }
            Source::Text(text) => Ok(json!({"text": titled(media.name.as_deref(), text)})),
            Source::Url { url, mime } => {
                let known = mime.as_deref().or_else(|| mime_of(url, media.kind));
                match known {
                    Some(mime) => Ok(json!({"fileData": {"mimeType": mime, "fileUri": url}})),
                    None => refused("Gemini must be told the type of what is at a URL; send data"),
                }
            }
            Source::File { id, mime } if self.request.source == Dialect::Gemini => {
                Ok(json!({"fileData": {"mimeType": mime, "fileUri": id}}))
            }
            Source::File { .. } => {
                refused("a file uploaded to one provider is unknown to another; send its data")
            }
        }
    }
}

fn call_part(call: &ToolCall, seal: Option<&str>) -> Value {
    let args = serde_json::from_str::<Value>(&call.arguments).ok().filter(Value::is_object);
    let args = args.unwrap_or_else(|| json!({}));
    let mut part = Map::new();
    let told = json!({"id": call.id, "name": call.name, "args": args});
    part.insert("functionCall".to_owned(), told);
    put(&mut part, "thoughtSignature", seal);
    Value::Object(part)
}

/// What the end of a URL says of its type.
fn mime_of(url: &str, kind: MediaKind) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let extension = path.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    Some(match (extension.as_deref(), kind) {
        (Some("png"), _) => "image/png",
        (Some("jpg" | "jpeg"), _) => "image/jpeg",
        (Some("webp"), _) => "image/webp",
        (Some("gif"), _) => "image/gif",
        (Some("heic"), _) => "image/heic",
        (Some("pdf"), _) | (_, MediaKind::Document) => "application/pdf",
        (Some("mp3"), _) => "audio/mpeg",
        (Some("wav"), _) => "audio/wav",
        (Some("mp4"), _) => "video/mp4",
        _ => return None,
    })
}
