//! Requests and answers of a chat, as benches read them.

/// A request of about `bytes`.
pub(crate) fn chat(bytes: usize) -> String {
    let head = r#"{"model":"chat","messages":[{"role":"system","content":"You are brief."},{"role":"user","content":""#;
    let tail = r#""}],"temperature":0.2,"max_tokens":400,"stream":true,"user":"user-1931"}"#;
    let room = bytes.saturating_sub(head.len() + tail.len());
    [head, &text(room), tail].concat()
}

/// An answer of about `bytes`.
pub(crate) fn answer(bytes: usize) -> String {
    let head = r#"{"id":"chatcmpl-C7mYkGq1","object":"chat.completion","created":1764200000,"model":"gpt-5.2","choices":[{"index":0,"message":{"role":"assistant","content":""#;
    let tail = r#"","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":812,"completion_tokens":97,"total_tokens":909,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"service_tier":"default"}"#;
    let room = bytes.saturating_sub(head.len() + tail.len());
    [head, &text(room), tail].concat()
}

/// A stream of `n` events and the two at its end.
pub(crate) fn events(n: usize) -> Vec<String> {
    let event = |rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-C7mYkGq1\",\"object\":\"chat.completion.chunk\",\
             \"created\":1764200000,\"model\":\"gpt-5.2\",{rest}}}\n\n"
        )
    };
    let mut events: Vec<String> = (0..n)
        .map(|n| {
            event(&format!(
                r#""choices":[{{"index":0,"delta":{{"content":" word{n}"}},"finish_reason":null}}],"usage":null"#
            ))
        })
        .collect();
    events.push(event(
        r#""choices":[],"usage":{"prompt_tokens":812,"completion_tokens":100,"total_tokens":912}"#,
    ));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn text(bytes: usize) -> String {
    "A river finds its way around the stone, and says so. ".chars().cycle().take(bytes).collect()
}
