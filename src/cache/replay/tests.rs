//! Tests of answers in the other form.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const STREAM: Wanted = Wanted { is_stream: true, has_usage: true };
const WHOLE: Wanted = Wanted { is_stream: false, has_usage: false };

/// The answer as a stream, and that stream as an answer.
fn there_and_back(dialect: Dialect, answer: &Value) -> Value {
    let body = Bytes::from(answer.to_string());
    let tokens = Tokens::default();
    let events = replay(dialect, (Form::Json, &body), &tokens, STREAM).expect("events");
    let form = Form::Events { has_usage: true };
    let back = replay(dialect, (form, &events), &tokens, WHOLE).expect("an answer");
    serde_json::from_slice(&back).unwrap()
}

fn chat(content: &str, arguments: &str) -> Value {
    json!({
        "id": "c1", "object": "chat.completion", "created": 7, "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content, "refusal": null,
                "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "f", "arguments": arguments}},
                    {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ]},
             "logprobs": {"content": [{"token": "a", "logprob": -0.5}], "refusal": null},
             "finish_reason": "tool_calls"},
            {"index": 1, "message": {"role": "assistant", "content": "other"}, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    })
}

fn message(text: &str, input: &Value) -> Value {
    json!({
        "id": "m1", "type": "message", "role": "assistant", "model": "m",
        "content": [
            {"type": "thinking", "thinking": text, "signature": "s"},
            {"type": "text", "text": text, "citations": [{"type": "char_location"}]},
            {"type": "tool_use", "id": "t", "name": "f", "input": input},
            {"type": "redacted_thinking", "data": "xyz"},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 3, "output_tokens": 4},
    })
}

fn response(text: &str) -> Value {
    json!({
        "id": "r1", "object": "response", "status": "completed", "model": "m",
        "output": [
            {"type": "reasoning", "id": "rs", "summary": []},
            {"type": "message", "id": "msg", "status": "completed", "role": "assistant",
             "content": [{"type": "output_text", "text": text, "annotations": []}]},
            {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}",
             "status": "completed"},
        ],
        "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
    })
}

/// As JSON without an order of members.
fn sorted(value: &Value) -> std::collections::BTreeMap<String, Value> {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

proptest! {
    #[test]
    fn answer_comes_back_from_its_events(text in ".{0,40}", key in "[a-z]{1,4}", number: i32) {
        let answer = chat(&text, &json!({ &key: number }).to_string());
        prop_assert_eq!(sorted(&there_and_back(Dialect::Chat, &answer)), sorted(&answer));
        let answer = message(&text, &json!({ key: [number, text] }));
        prop_assert_eq!(sorted(&there_and_back(Dialect::Messages, &answer)), sorted(&answer));
        let answer = response(&text);
        prop_assert_eq!(there_and_back(Dialect::Responses, &answer), answer);
        let answer = json!({
            "id": "c", "object": "text_completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1},
        });
        prop_assert_eq!(sorted(&there_and_back(Dialect::Completions, &answer)), sorted(&answer));
    }

    /// What is no answer is no hit, and nothing panics.
    #[test]
    fn any_bytes_are_replayed_or_not(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let body = Bytes::from(body);
        for dialect in Dialect::ALL {
            for form in [Form::Json, Form::Events { has_usage: false }] {
                drop(replay(dialect, (form, &body), &Tokens::default(), STREAM));
            }
        }
    }
}

/// Pieces as providers send them.
#[test]
fn pieces_are_put_together() {
    let piece = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "choices": [choice]})
        )
    };
    let call = |fields: Value| json!({ "tool_calls": [fields] });
    let events = [
        ": keep-alive\n\n".to_owned(),
        piece(json!({"role": "assistant", "content": ""}), Value::Null),
        piece(json!({"content": "a "}), Value::Null),
        piece(json!({"content": "b"}), Value::Null),
        piece(
            call(json!({"index": 0, "id": "t", "type": "function",
                "function": {"name": "f", "arguments": ""}})),
            Value::Null,
        ),
        piece(call(json!({"index": 0, "function": {"arguments": "{\"x\""}})), Value::Null),
        piece(
            call(json!({"index": 0, "type": "function", "function": {"arguments": ":1}"}})),
            Value::Null,
        ),
        piece(json!({}), json!("tool_calls")),
        "data: [DONE]\n\n".to_owned(),
    ];
    let body = Bytes::from(events.concat());
    let tokens = Tokens {
        input_uncached: Some(5),
        input_cache_read: Some(2),
        output: Some(3),
        ..Tokens::default()
    };
    let form = Form::Events { has_usage: false };
    let whole = replay(Dialect::Chat, (form, &body), &tokens, WHOLE).unwrap();
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(
        whole,
        json!({
            "id": "c", "object": "chat.completion",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a b", "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]},
                "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        })
    );
    // As it was kept, unless the request wants to hear what was used.
    let quiet = Wanted { is_stream: true, has_usage: false };
    assert_eq!(replay(Dialect::Chat, (form, &body), &tokens, quiet).unwrap(), body);
    let told = replay(Dialect::Chat, (form, &body), &tokens, STREAM).unwrap();
    assert!(has_usage(&told) && !has_usage(&body));
}

#[test]
fn stream_that_broke_is_no_answer() {
    let start = r#"data: {"type":"message_start","message":{"content":[],"usage":{}}}"#;
    let body = Bytes::from(format!("{start}\n\n"));
    let form = Form::Events { has_usage: true };
    assert_eq!(replay(Dialect::Messages, (form, &body), &Tokens::default(), WHOLE), None);
}
