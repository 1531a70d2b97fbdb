//! Answers of Responses.

use super::chat::Make;
use super::content::{CREATED, REASONING, Tokens, argument_pieces, text_pieces};
use super::errors;
use super::events::Events;
use super::json::{NULL, Raw, object};
use super::reply::{Body, Part};

pub(super) fn response(make: &Make<'_>, status: &str) -> Raw {
    object_of(make, status, &items(make), None)
}

/// A response's items in the order they are made.
fn items(make: &Make<'_>) -> Vec<Raw> {
    let mut items = Vec::new();
    if make.behaviour.reasoning > 0 {
        items.push(reasoning_item(make, &[summary(REASONING)]));
    }
    if make.behaviour.tools > 0 {
        let arguments = argument_pieces(make.behaviour).concat();
        items.extend(
            (0..make.behaviour.tools).map(|index| call_item(make, index, "completed", &arguments)),
        );
    } else {
        let text = text_pieces(make.behaviour).concat();
        items.push(message_item(make, "completed", &[text_part(&text)]));
    }
    items
}

/// Pushes events with their type and number in front.
struct Typed<'a> {
    events: Events<'a>,
}

impl Typed<'_> {
    /// `members` is an object with what the event has besides.
    fn push(&mut self, part: Part, name: &'static str, members: &Raw) {
        let start = object! { "type": name, "sequence_number": self.events.len() };
        let start = start.0.trim_end_matches('}');
        let rest = members.0.trim_start_matches('{');
        self.events.push(part, (Some(name), Raw(format!("{start},{rest}"))));
    }
}

pub(super) fn response_stream(make: &Make<'_>) -> Body {
    let events = Events::new(make.behaviour, |n| {
        errors::responses_event(make.behaviour, n, |error| {
            object_of(make, "failed", &[], Some(&error))
        })
    });
    let mut typed = Typed { events };
    let started = object! { "response": object_of(make, "in_progress", &[], None) };
    typed.push(Part::Opening, "response.created", &started);
    typed.push(Part::Opening, "response.in_progress", &started);

    let mut output = 0;
    if make.behaviour.reasoning > 0 {
        push_reasoning(&mut typed, make);
        output += 1;
    }
    if make.behaviour.tools > 0 {
        for index in 0..make.behaviour.tools {
            push_call(&mut typed, make, index, output);
            output += 1;
        }
    } else {
        push_message(&mut typed, make, output);
    }
    let completed = object! { "response": response(make, "completed") };
    typed.push(Part::Closing, "response.completed", &completed);
    typed.events.finish()
}

fn push_message(typed: &mut Typed<'_>, make: &Make<'_>, output: usize) {
    let item_id = format!("msg_{}", make.id);
    let pieces = text_pieces(make.behaviour);
    let text = pieces.concat();

    let added = object! { "output_index": output, "item": message_item(make, "in_progress", &[]) };
    typed.push(Part::Opening, "response.output_item.added", &added);
    let part = |text: &str| {
        object! {
            "item_id": item_id,
            "output_index": output,
            "content_index": 0_u64,
            "part": text_part(text),
        }
    };
    typed.push(Part::Opening, "response.content_part.added", &part(""));
    for piece in pieces {
        let delta = object! {
            "item_id": item_id,
            "output_index": output,
            "content_index": 0_u64,
            "delta": piece,
            "logprobs": Vec::<Raw>::new(),
        };
        typed.push(Part::Content, "response.output_text.delta", &delta);
    }
    let done = object! {
        "item_id": item_id,
        "output_index": output,
        "content_index": 0_u64,
        "text": text,
        "logprobs": Vec::<Raw>::new(),
    };
    typed.push(Part::Closing, "response.output_text.done", &done);
    typed.push(Part::Closing, "response.content_part.done", &part(&text));
    let item = message_item(make, "completed", &[text_part(&text)]);
    let done = object! { "output_index": output, "item": item };
    typed.push(Part::Closing, "response.output_item.done", &done);
}

fn push_call(typed: &mut Typed<'_>, make: &Make<'_>, index: usize, output: usize) {
    let item_id = format!("fc_{}{index:02}", make.id);
    let pieces = argument_pieces(make.behaviour);
    let arguments = pieces.concat();

    let item = call_item(make, index, "in_progress", "");
    let added = object! { "output_index": output, "item": item };
    typed.push(Part::Opening, "response.output_item.added", &added);
    for piece in pieces {
        let delta = object! { "item_id": item_id, "output_index": output, "delta": piece };
        typed.push(Part::Content, "response.function_call_arguments.delta", &delta);
    }
    let done = object! {
        "item_id": item_id,
        "output_index": output,
        "name": make.tool,
        "arguments": arguments,
    };
    typed.push(Part::Closing, "response.function_call_arguments.done", &done);
    let item = call_item(make, index, "completed", &arguments);
    let done = object! { "output_index": output, "item": item };
    typed.push(Part::Closing, "response.output_item.done", &done);
}

fn push_reasoning(typed: &mut Typed<'_>, make: &Make<'_>) {
    let item_id = format!("rs_{}", make.id);
    let of_part = |key: &str, value: Raw| {
        let part = object! {
            "item_id": item_id,
            "output_index": 0_u64,
            "summary_index": 0_u64,
        };
        part.with(key, Some(value))
    };
    let added = object! { "output_index": 0_u64, "item": reasoning_item(make, &[]) };
    typed.push(Part::Opening, "response.output_item.added", &added);
    let part = of_part("part", summary(""));
    typed.push(Part::Opening, "response.reasoning_summary_part.added", &part);
    let text = super::chat::quoted(REASONING);
    let delta = of_part("delta", text.clone());
    typed.push(Part::Content, "response.reasoning_summary_text.delta", &delta);
    let done = of_part("text", text);
    typed.push(Part::Closing, "response.reasoning_summary_text.done", &done);
    let part = of_part("part", summary(REASONING));
    typed.push(Part::Closing, "response.reasoning_summary_part.done", &part);
    let item = reasoning_item(make, &[summary(REASONING)]);
    let done = object! { "output_index": 0_u64, "item": item };
    typed.push(Part::Closing, "response.output_item.done", &done);
}

fn text_part(text: &str) -> Raw {
    object! {
        "type": "output_text",
        "annotations": Vec::<Raw>::new(),
        "logprobs": Vec::<Raw>::new(),
        "text": text,
    }
}

fn summary(text: &str) -> Raw {
    object! { "type": "summary_text", "text": text }
}

fn message_item(make: &Make<'_>, status: &str, content: &[Raw]) -> Raw {
    object! {
        "id": format!("msg_{}", make.id),
        "type": "message",
        "status": status,
        "content": content,
        "role": "assistant",
    }
}

fn call_item(make: &Make<'_>, index: usize, status: &str, arguments: &str) -> Raw {
    object! {
        "id": format!("fc_{}{index:02}", make.id),
        "type": "function_call",
        "status": status,
        "arguments": arguments,
        "call_id": make.call_id(index),
        "name": make.tool,
    }
}

fn reasoning_item(make: &Make<'_>, summary: &[Raw]) -> Raw {
    object! { "id": format!("rs_{}", make.id), "type": "reasoning", "summary": summary }
}

fn object_of(make: &Make<'_>, status: &str, output: &[Raw], error: Option<&Raw>) -> Raw {
    let usage = match status {
        "completed" | "cancelled" => Tokens::of(make.behaviour).responses(),
        _ => Some(Raw("null".to_owned())),
    };
    let response = object! {
        "id": format!("resp_{}", make.id),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": false,
        "error": error,
        "incomplete_details": NULL,
        "instructions": NULL,
        "max_output_tokens": NULL,
        "model": make.model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": NULL,
        "reasoning": object! { "effort": NULL, "summary": NULL },
        "service_tier": "default",
        "store": true,
        "temperature": 1.0_f64,
        "text": object! { "format": object! { "type": "text" } },
        "tool_choice": "auto",
        "tools": Vec::<Raw>::new(),
        "top_p": 1.0_f64,
        "truncation": "disabled",
    };
    response
        .with("usage", usage)
        .with("user", Some(Raw("null".to_owned())))
        .with("metadata", Some(object! {}))
}

/// The list of what a stored response was made from.
pub(super) fn input_items(id: &str) -> Raw {
    let item_id = format!("msg_in_{id}");
    let content = object! { "type": "input_text", "text": "The mock keeps no input." };
    object! {
        "object": "list",
        "data": [object! {
            "id": item_id,
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [content],
        }],
        "first_id": item_id,
        "last_id": item_id,
        "has_more": false,
    }
}
