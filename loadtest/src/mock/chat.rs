//! Answers of Chat Completions and of the older Completions.

use super::behaviour::Behaviour;
use super::content::{CREATED, REASONING, Tokens, argument_pieces, text_pieces};
use super::errors;
use super::events::Events;
use super::json::{NULL, Raw, object};
use super::reply::{Body, Part};

/// What the dialects' answers are made from.
pub(super) struct Make<'a> {
    pub(super) behaviour: &'a Behaviour,
    pub(super) model: &'a str,
    pub(super) id: &'a str,
    /// Name of the tool that is called.
    pub(super) tool: &'a str,
    pub(super) is_usage_included: bool,
}

impl Make<'_> {
    fn chat_id(&self) -> String {
        format!("chatcmpl-{}", self.id)
    }

    pub(super) fn call_id(&self, index: usize) -> String {
        format!("call_{}{index:02}", self.id)
    }

    fn finish_reason(&self) -> &'static str {
        if self.behaviour.tools > 0 { "tool_calls" } else { "stop" }
    }
}

pub(super) fn chat(make: &Make<'_>) -> Body {
    let message = object! { "role": "assistant" };
    let message = if make.behaviour.tools > 0 {
        let arguments = argument_pieces(make.behaviour).concat();
        let calls: Vec<Raw> = (0..make.behaviour.tools)
            .map(|index| {
                object! {
                    "id": make.call_id(index),
                    "type": "function",
                    "function": object! { "name": make.tool, "arguments": arguments },
                }
            })
            .collect();
        message
            .with("content", Some(Raw("null".to_owned())))
            .with("tool_calls", Some(object_list(&calls)))
    } else {
        let text = text_pieces(make.behaviour).concat();
        message.with("content", Some(quoted(&text)))
    };
    let reasoning = (make.behaviour.reasoning > 0).then(|| quoted(REASONING));
    let message = message
        .with("reasoning_content", reasoning)
        .with("refusal", Some(Raw("null".to_owned())))
        .with("annotations", Some(Raw("[]".to_owned())));
    let answer = object! {
        "id": make.chat_id(),
        "object": "chat.completion",
        "created": CREATED,
        "model": make.model,
        "choices": [object! {
            "index": 0_u64,
            "message": message,
            "logprobs": NULL,
            "finish_reason": make.finish_reason(),
        }],
    };
    let answer = answer
        .with("usage", Tokens::of(make.behaviour).chat())
        .with("service_tier", Some(quoted("default")))
        .with("system_fingerprint", Some(quoted("fp_simulated")));
    Body::json(answer)
}

pub(super) fn chat_stream(make: &Make<'_>) -> Body {
    let mut events = Events::new(make.behaviour, |_| errors::chat_event(make.behaviour));
    let delta = |delta: Raw| (None, chunk(make, &[choice(&delta, None)], None));

    let opening = object! { "role": "assistant", "content": "", "refusal": NULL };
    events.push(Part::Opening, delta(opening));
    if make.behaviour.reasoning > 0 {
        events.push(Part::Content, delta(object! { "reasoning_content": REASONING }));
    }
    if make.behaviour.tools > 0 {
        for index in 0..make.behaviour.tools {
            let function = object! { "name": make.tool, "arguments": "" };
            let call = object! {
                "index": index,
                "id": make.call_id(index),
                "type": "function",
                "function": function,
            };
            events.push(Part::Content, delta(object! { "tool_calls": [call] }));
            for piece in argument_pieces(make.behaviour) {
                let function = object! { "arguments": piece };
                let call = object! { "index": index, "function": function };
                events.push(Part::Content, delta(object! { "tool_calls": [call] }));
            }
        }
    } else {
        for piece in text_pieces(make.behaviour) {
            events.push(Part::Content, delta(object! { "content": piece }));
        }
    }
    let last = choice(&object! {}, Some(make.finish_reason()));
    events.push(Part::Closing, (None, chunk(make, &[last], None)));
    if make.is_usage_included
        && let Some(usage) = Tokens::of(make.behaviour).chat()
    {
        events.push(Part::Closing, (None, chunk(make, &[], Some(usage))));
    }
    events.done()
}

fn choice(delta: &Raw, finish_reason: Option<&str>) -> Raw {
    object! {
        "index": 0_u64,
        "delta": delta,
        "logprobs": NULL,
        "finish_reason": finish_reason,
    }
}

/// Where usage is asked for, every chunk has the member, and all but the last a null.
fn chunk(make: &Make<'_>, choices: &[Raw], usage: Option<Raw>) -> Raw {
    let usage = usage.unwrap_or_else(|| Raw("null".to_owned()));
    let chunk = object! {
        "id": make.chat_id(),
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": make.model,
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
        "choices": choices,
    };
    chunk.with("usage", make.is_usage_included.then_some(usage))
}

pub(super) fn completion(make: &Make<'_>) -> Body {
    let text = text_pieces(make.behaviour).concat();
    let answer = text_completion(make, &[text_choice(&text, Some("stop"))]);
    Body::json(answer.with("usage", Tokens::of(make.behaviour).chat()))
}

pub(super) fn completion_stream(make: &Make<'_>) -> Body {
    let mut events = Events::new(make.behaviour, |_| errors::chat_event(make.behaviour));
    let null = || make.is_usage_included.then(|| Raw("null".to_owned()));
    for piece in text_pieces(make.behaviour) {
        let chunk = text_completion(make, &[text_choice(&piece, None)]);
        events.push(Part::Content, (None, chunk.with("usage", null())));
    }
    let last = text_completion(make, &[text_choice("", Some("stop"))]).with("usage", null());
    events.push(Part::Closing, (None, last));
    if make.is_usage_included
        && let Some(usage) = Tokens::of(make.behaviour).chat()
    {
        let usage = text_completion(make, &[]).with("usage", Some(usage));
        events.push(Part::Closing, (None, usage));
    }
    events.done()
}

fn text_choice(text: &str, finish_reason: Option<&str>) -> Raw {
    object! {
        "text": text,
        "index": 0_u64,
        "logprobs": NULL,
        "finish_reason": finish_reason,
    }
}

fn text_completion(make: &Make<'_>, choices: &[Raw]) -> Raw {
    object! {
        "id": format!("cmpl-{}", make.id),
        "object": "text_completion",
        "created": CREATED,
        "model": make.model,
        "choices": choices,
    }
}

/// A string as JSON text.
pub(super) fn quoted(text: &str) -> Raw {
    let mut out = String::with_capacity(text.len() + 2);
    super::json::Put::put(text, &mut out);
    Raw(out)
}

fn object_list(list: &[Raw]) -> Raw {
    let mut out = String::new();
    super::json::Put::put(list, &mut out);
    Raw(out)
}
