//! The form -> a request of Cohere's chat, which is like `OpenAI`'s in its messages and tools, and
//! unlike it in its parameters.

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::translate::chat;
use crate::translate::form::{
    Format, Media, MediaKind, Part, Reasoning, Request, Source, Tool, ToolChoice,
};
use crate::translate::names::{Field, foreign_tool, piece_path, rest_of, unsupported};
use crate::translate::quirks::{EffortField, Quirks};
use crate::translate::{Refused, Upstream};

static QUIRKS: Quirks = Quirks {
    takes_max_completion_tokens: false,
    takes_stream_options: false,
    takes_developer: false,
    effort: EffortField::Absent,
    takes_top_k: true,
    takes_parallel_tool_calls: false,
    ..Quirks::OPENAI
};

pub(in crate::translate) fn write(
    request: &Request,
    upstream: &Upstream<'_>,
) -> Result<Value, Refused> {
    rest_of(request, Dialect::Cohere)?;
    check(request)?;
    let plain = Request {
        // What is Cohere's own way of saying is said below.
        rest: Map::new(),
        user: None,
        verbosity: None,
        format: None,
        tool_choice: None,
        ..request.clone()
    };
    let upstream = Upstream { dialect: Dialect::Chat, quirks: &QUIRKS, ..*upstream };
    let mut body = match chat::request_write::write(&plain, &upstream)? {
        Value::Object(body) => body,
        _ => Map::new(),
    };
    for (name, own) in [("top_p", "p"), ("top_k", "k"), ("stop", "stop_sequences")] {
        if let Some(value) = body.shift_remove(name) {
            body.insert(own.to_owned(), value);
        }
    }
    for message in body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(message) = message.as_object_mut() {
            message.shift_remove("name");
            message.retain(|_, value| !value.is_null());
        }
    }
    if body.contains_key("tools")
        && let Some(choice) = tool_choice(request)?
    {
        body.insert("tool_choice".to_owned(), choice.into());
    }
    match &request.format {
        None => {}
        Some(Format::JsonObject) => {
            body.insert("response_format".to_owned(), json!({"type": "json_object"}));
        }
        Some(Format::JsonSchema { schema, .. }) => {
            let format = json!({"type": "json_object", "json_schema": schema});
            body.insert("response_format".to_owned(), format);
        }
    }
    if let Some(reasoning) = &request.reasoning {
        body.insert("thinking".to_owned(), thinking(reasoning));
    }
    Ok(Value::Object(body))
}

fn thinking(reasoning: &Reasoning) -> Value {
    if reasoning.is_off {
        return json!({"type": "disabled"});
    }
    let told = reasoning.effort.map(crate::translate::form::Effort::budget_tokens);
    match reasoning.budget_tokens.or(told) {
        Some(budget) => json!({"type": "enabled", "token_budget": budget}),
        None => json!({"type": "enabled"}),
    }
}

fn tool_choice(request: &Request) -> Result<Option<&'static str>, Refused> {
    match &request.tool_choice {
        None | Some(ToolChoice::Auto | ToolChoice::WebSearch) => Ok(None),
        Some(ToolChoice::None) => Ok(Some("NONE")),
        Some(ToolChoice::Required) => Ok(Some("REQUIRED")),
        Some(ToolChoice::Named(_) | ToolChoice::Allowed { .. }) => {
            Err(unsupported(request, Field::ToolChoice, "Cohere cannot be told which tool to call"))
        }
    }
}

/// What would pass unseen because it is written as `OpenAI` writes it.
fn check(request: &Request) -> Result<(), Refused> {
    if request.verbosity.as_deref().is_some_and(|verbosity| verbosity != "medium") {
        return Err(unsupported(request, Field::Verbosity, "Cohere has nothing like it"));
    }
    for tool in &request.tools {
        match tool {
            Tool::Function(_) => {}
            Tool::WebSearch(_) => {
                return Err(Refused::unsupported("tools", "Cohere does not search the web"));
            }
            Tool::Only(tool) => return Err(foreign_tool(tool)),
        }
    }
    for turn in &request.turns {
        for piece in &turn.pieces {
            let is_taken = match &piece.part {
                Part::Only(_) => false,
                Part::Media(Media { source: Source::Text(_), .. }) => true,
                Part::Media(media) => media.kind == MediaKind::Image,
                _ => true,
            };
            if !is_taken {
                let path = piece_path(request, turn);
                return Err(Refused::unsupported(path, "Cohere takes texts and images"));
            }
        }
    }
    Ok(())
}
