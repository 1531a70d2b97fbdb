//! Answers of Anthropic Messages.

use super::chat::Make;
use super::content::{REASONING, SIGNATURE, Tokens, argument_pieces, text_pieces};
use super::errors;
use super::events::Events;
use super::json::{NULL, Raw, object};
use super::reply::{Body, Part};

pub(super) fn message(make: &Make<'_>) -> Body {
    let mut content = Vec::new();
    if make.behaviour.reasoning > 0 {
        content.push(object! {
            "type": "thinking", "thinking": REASONING, "signature": SIGNATURE,
        });
    }
    if make.behaviour.tools > 0 {
        let input = Raw(argument_pieces(make.behaviour).concat());
        content.extend((0..make.behaviour.tools).map(|index| tool_use(make, index, &input)));
    } else {
        let text = text_pieces(make.behaviour).concat();
        content.push(object! { "type": "text", "text": text });
    }
    Body::json(envelope(make, &content, Some(stop_reason(make)), None))
}

pub(super) fn message_stream(make: &Make<'_>) -> Body {
    let mut events = Events::new(make.behaviour, |_| errors::messages_event(make.behaviour));
    let start = object! {
        "type": "message_start",
        "message": envelope(make, &[], None, Some(1)),
    };
    events.push(Part::Opening, (Some("message_start"), start));

    let mut block = 0;
    if make.behaviour.reasoning > 0 {
        let empty = object! { "type": "thinking", "thinking": "", "signature": "" };
        let deltas = [
            object! { "type": "thinking_delta", "thinking": REASONING },
            object! { "type": "signature_delta", "signature": SIGNATURE },
        ];
        push_block(&mut events, block, &empty, &deltas);
        block += 1;
    }
    if make.behaviour.tools > 0 {
        for index in 0..make.behaviour.tools {
            let deltas: Vec<Raw> = argument_pieces(make.behaviour)
                .iter()
                .map(|piece| object! { "type": "input_json_delta", "partial_json": piece })
                .collect();
            let empty = tool_use(make, index, &Raw("{}".to_owned()));
            push_block(&mut events, block, &empty, &deltas);
            block += 1;
        }
    } else {
        let deltas: Vec<Raw> = text_pieces(make.behaviour)
            .iter()
            .map(|piece| object! { "type": "text_delta", "text": piece })
            .collect();
        push_block(&mut events, block, &object! { "type": "text", "text": "" }, &deltas);
    }

    let delta = object! { "stop_reason": stop_reason(make), "stop_sequence": NULL };
    let end = object! { "type": "message_delta", "delta": delta }
        .with("usage", Tokens::of(make.behaviour).message_delta());
    events.push(Part::Closing, (Some("message_delta"), end));
    events.push(Part::Closing, (Some("message_stop"), object! { "type": "message_stop" }));
    events.finish()
}

fn push_block(events: &mut Events<'_>, index: usize, empty: &Raw, deltas: &[Raw]) {
    let start = object! { "type": "content_block_start", "index": index, "content_block": empty };
    events.push(Part::Opening, (Some("content_block_start"), start));
    if index == 0 {
        events.push(Part::Opening, (Some("ping"), object! { "type": "ping" }));
    }
    for delta in deltas {
        let delta = object! { "type": "content_block_delta", "index": index, "delta": delta };
        events.push(Part::Content, (Some("content_block_delta"), delta));
    }
    let stop = object! { "type": "content_block_stop", "index": index };
    events.push(Part::Closing, (Some("content_block_stop"), stop));
}

fn envelope(
    make: &Make<'_>,
    content: &[Raw],
    stop_reason: Option<&str>,
    output_tokens: Option<u64>,
) -> Raw {
    let message = object! {
        "id": format!("msg_{}", make.id),
        "type": "message",
        "role": "assistant",
        "model": make.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": NULL,
    };
    message.with("usage", Tokens::of(make.behaviour).message(output_tokens))
}

fn tool_use(make: &Make<'_>, index: usize, input: &Raw) -> Raw {
    object! {
        "type": "tool_use",
        "id": format!("toolu_{}{index:02}", make.id),
        "name": make.tool,
        "input": input,
    }
}

fn stop_reason(make: &Make<'_>) -> &'static str {
    if make.behaviour.tools > 0 { "tool_use" } else { "end_turn" }
}
