//! A tool that stands for the format of an answer, where a provider knows tools but no formats: the
//! model calls it with its answer, and the client sees the answer.

use serde_json::{Map, json};

use super::form::{
    Answer, Event, Format, Function, Open, Part, Piece, Request, Stop, Tool, ToolChoice,
};

const NAME: &str = "json_answer";

/// Whether `tool_choice` lets the model call `name`.
pub(super) fn is_allowed(request: &Request, name: &str) -> bool {
    match &request.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) => names.iter().any(|allowed| allowed == name),
        _ => true,
    }
}

/// The tool for the request's format; `None` without a format.
pub(super) fn of(request: &Request) -> Option<Function> {
    let (name, description, parameters) = match request.format.as_ref()? {
        Format::JsonObject => (None, None, json!({"type": "object", "additionalProperties": true})),
        Format::JsonSchema { name, description, schema, .. } => {
            (name.clone(), description.clone(), schema.clone())
        }
    };
    let is_taken = |name: &str| {
        request.tools.iter().any(|tool| matches!(tool, Tool::Function(f) if f.name == name))
    };
    let name = name.filter(|name| !is_taken(name)).unwrap_or_else(|| NAME.to_owned());
    Some(Function {
        name,
        description: Some(description.unwrap_or_else(|| {
            "Gives the final answer: call it with all of the answer as its input.".to_owned()
        })),
        parameters: Some(parameters),
        is_strict: None,
        cache: None,
        rest: Map::new(),
    })
}

/// Turns a call of the tool `name` into the text of the answer.
pub(super) fn unwrap(answer: &mut Answer, name: &str) {
    let mut n_calls = 0;
    for Piece { part, .. } in &mut answer.pieces {
        if let Part::ToolCall(call) = part {
            if call.name == name {
                *part = Part::text(std::mem::take(&mut call.arguments));
            } else {
                n_calls += 1;
            }
        }
    }
    if n_calls == 0 && answer.stop == Stop::ToolUse {
        answer.stop = Stop::End;
    }
}

/// As [`unwrap`], event by event.
#[derive(Debug)]
pub(super) struct Unwrapper {
    name: String,
    n_calls: usize,
}

impl Unwrapper {
    pub(super) fn new(name: String) -> Self {
        Self { name, n_calls: 0 }
    }

    pub(super) fn push(&mut self, event: &mut Event) {
        match event {
            Event::Open(open) => {
                if let Open::ToolCall { name, .. } = open {
                    if *name == self.name {
                        *open = Open::Text;
                    } else {
                        self.n_calls += 1;
                    }
                }
            }
            Event::Stop(stop) if self.n_calls == 0 && *stop == Stop::ToolUse => *stop = Stop::End,
            _ => {}
        }
    }
}
