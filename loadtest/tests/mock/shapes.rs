//! Shapes of the answers, dialect by dialect.

use loadtest::mock::{Behaviour, Mock};
use serde_json::{Value, json};

use crate::client::{Answer, Client};

async fn ask(path: &str, body: Value) -> Answer {
    let mock = Mock::start().await.unwrap();
    Client::connect(&mock).await.post(path, body).await
}

fn names(answer: &Answer) -> Vec<String> {
    let mut names: Vec<String> = answer.events().into_iter().map(|(name, _)| name).collect();
    names.dedup();
    names
}

#[tokio::test]
async fn chat_answer() {
    let answer = ask("/v1/chat/completions", json!({ "model": "sim?bytes=2048" })).await;
    assert_eq!(answer.status(), 200);
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "sim?bytes=2048");
    let message = &body["choices"][0]["message"];
    assert_eq!(message["content"].as_str().unwrap().len(), 2048);
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    let usage = &body["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["total_tokens"]), (&json!(20), &json!(28)));
    let id = answer.header("x-request-id").unwrap().strip_prefix("req_").unwrap();
    assert_eq!(body["id"], format!("chatcmpl-{id}"));
}

#[tokio::test]
async fn chat_stream_reports_usage_only_when_asked() {
    let path = "/v1/chat/completions";
    let plain = ask(path, json!({ "model": "sim", "stream": true })).await;
    assert!(plain.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(plain.events().len(), 1 + 8 + 1);
    assert!(plain.events().iter().all(|(_, chunk)| chunk.get("usage").is_none()));

    let body = json!({ "model": "sim", "stream": true, "stream_options": {"include_usage": true} });
    let counted = ask(path, body).await;
    let events = counted.events();
    assert_eq!(events.len(), 11);
    let (_, last) = events.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 8);
    assert!(events[..10].iter().all(|(_, chunk)| chunk["usage"].is_null()));
    assert_eq!(events[0].1["choices"][0]["delta"]["role"], "assistant");
}

#[tokio::test]
async fn chat_stream_calls_the_tools_it_was_offered() {
    let tools = json!([{ "type": "function", "function": { "name": "look_up" } }]);
    let body = json!({ "model": "sim?tools=2&events=3", "stream": true, "tools": tools });
    let answer = ask("/v1/chat/completions", body).await;
    let mut arguments = [String::new(), String::new()];
    for (_, chunk) in answer.events() {
        for call in chunk["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            arguments[index] += call["function"]["arguments"].as_str().unwrap();
            if let Some(name) = call["function"].get("name") {
                assert_eq!(name, "look_up");
                assert!(call["id"].as_str().unwrap().starts_with("call_"));
            }
        }
    }
    for text in arguments {
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["unit"], "celsius");
    }
    assert!(answer.text().contains(r#""finish_reason":"tool_calls""#));
}

#[tokio::test]
async fn messages_stream() {
    let body = json!({ "model": "sim?reasoning=3&cache_read=7&cache_write=5", "stream": true });
    let answer = ask("/v1/messages", body).await;
    let wanted = [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names(&answer), wanted);
    let events = answer.events();
    assert!(events.iter().all(|(name, data)| data["type"] == name.as_str()));
    let usage = &events[0].1["message"]["usage"];
    assert_eq!(usage["cache_read_input_tokens"], 7);
    assert_eq!(usage["cache_creation"]["ephemeral_5m_input_tokens"], 5);
    assert_eq!(events[events.len() - 2].1["usage"]["output_tokens"], 11);
    assert!(answer.header("request-id").is_some());
}

#[tokio::test]
async fn messages_answer_and_count() {
    let message = ask("/v1/messages", json!({ "model": "sim?tools" })).await.json();
    assert_eq!(message["content"][0]["type"], "tool_use");
    assert_eq!(message["content"][0]["input"]["unit"], "celsius");
    assert_eq!(message["stop_reason"], "tool_use");
    let count = ask("/v1/messages/count_tokens", json!({ "model": "sim" })).await.json();
    assert_eq!(count, json!({ "input_tokens": 20 }));
}

#[tokio::test]
async fn responses_stream() {
    let answer = ask("/v1/responses", json!({ "model": "sim", "stream": true })).await;
    let wanted = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(names(&answer), wanted);
    let events = answer.events();
    for (number, (name, data)) in events.iter().enumerate() {
        assert_eq!(data["type"], name.as_str());
        assert_eq!(data["sequence_number"], number);
    }
    let (_, completed) = events.last().unwrap();
    let text = &completed["response"]["output"][0]["content"][0]["text"];
    assert!(text.as_str().unwrap().starts_with("Hello from the simulated provider."));
    assert_eq!(completed["response"]["usage"]["total_tokens"], 28);
}

#[tokio::test]
async fn responses_stream_of_tools_and_reasoning_is_json_throughout() {
    let body = json!({ "model": "sim?tools=2&reasoning=4", "stream": true });
    let answer = ask("/v1/responses", body).await;
    let (_, completed) = answer.events().pop().unwrap();
    let output = completed["response"]["output"].as_array().unwrap();
    let kinds: Vec<_> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reasoning", "function_call", "function_call"]);
    assert_eq!(names(&answer).len(), 2 + 6 + 2 * 4 + 1);
}

#[tokio::test]
async fn response_is_found_again_until_it_is_deleted() {
    let mock = Mock::start().await.unwrap();
    let mut client = Client::connect(&mock).await;
    let made = client.post("/v1/responses", json!({ "model": "sim?events=2" })).await.json();
    let path = format!("/v1/responses/{}", made["id"].as_str().unwrap());

    client.send("GET", &path, "").await;
    assert_eq!(client.answer().await.json()["output"], made["output"]);
    client.send("GET", &format!("{path}/input_items"), "").await;
    assert_eq!(client.answer().await.json()["object"], "list");
    client.send("POST", &format!("{path}/cancel"), "").await;
    assert_eq!(client.answer().await.json()["status"], "cancelled");
    client.send("DELETE", &path, "").await;
    assert_eq!(client.answer().await.json()["deleted"], true);
    client.send("GET", &path, "").await;
    let gone = client.answer().await;
    assert_eq!(gone.status(), 404);
    assert_eq!(gone.json()["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn embeddings_in_both_encodings() {
    let body = json!({ "model": "sim", "input": ["a", "b"] });
    let floats = ask("/v1/embeddings", body).await.json();
    assert_eq!(floats["data"][1]["embedding"].as_array().unwrap().len(), 8);
    let body = json!({ "model": "sim", "input": [1, 2, 3], "encoding_format": "base64" });
    let coded = ask("/v1/embeddings", body).await.json();
    assert_eq!(coded["data"].as_array().unwrap().len(), 1);
    assert_eq!(coded["data"][0]["embedding"].as_str().unwrap().len(), 44);
}

#[tokio::test]
async fn every_other_endpoint_answers_with_its_members() {
    let cases = [
        ("/v1/completions", json!({"model": "sim"}), "/choices/0/text"),
        ("/v1/moderations", json!({"model": "sim", "input": "x"}), "/results/0/categories/hate"),
        ("/v1/rerank", json!({"model": "sim", "documents": ["a"]}), "/results/0/relevance_score"),
        ("/v1/images/generations", json!({"model": "sim"}), "/data/0/b64_json"),
        ("/v1/audio/transcriptions", json!({"model": "sim"}), "/text"),
    ];
    for (path, body, member) in cases {
        let answer = ask(path, body).await;
        assert!(answer.json().pointer(member).is_some(), "{path}: {}", answer.text());
    }
    let speech = ask("/v1/audio/speech", json!({ "model": "sim" })).await;
    assert_eq!((speech.body.len(), speech.header("content-type")), (4096, Some("audio/mpeg")));
    let completions = ask("/v1/completions", json!({ "model": "sim", "stream": true })).await;
    assert_eq!(completions.events().len(), 9);
}

#[tokio::test]
async fn errors_wear_the_dialect_of_the_caller() {
    let model = "sim?status=429&retry_after=2&error_message=slow%20down";
    let openai = ask("/v1/chat/completions", json!({ "model": model })).await;
    assert_eq!((openai.status(), openai.header("retry-after")), (429, Some("2")));
    let body = openai.json();
    assert_eq!(body["error"]["code"], "rate_limit_exceeded");
    assert_eq!(body["error"]["message"], "slow down");
    let anthropic = ask("/v1/messages", json!({ "model": "sim?status=529" })).await.json();
    assert_eq!(anthropic["error"]["type"], "overloaded_error");
    assert_eq!(anthropic["type"], "error");
    let mistaken = ask("/v1/messages", json!({ "model": "sim?nonsense=1" })).await;
    assert_eq!(mistaken.status(), 400);
    assert!(mistaken.text().contains("nonsense"));
}

#[tokio::test]
async fn early_error_comes_after_the_opening_and_before_content() {
    let stream =
        |path, keys: &str| ask(path, json!({ "model": format!("sim?{keys}"), "stream": true }));
    let chat = stream("/v1/chat/completions", "early_error").await;
    assert_eq!(chat.events().len(), 2);
    assert!(chat.events()[1].1["error"]["message"].is_string());
    assert!(!chat.text().contains("[DONE]"));
    let responses = stream("/v1/responses", "early_error=failed").await;
    assert_eq!(names(&responses).last().unwrap(), "response.failed");
    let messages = stream("/v1/messages", "early_error=bare&status=500").await;
    assert_eq!(messages.status(), 200);
    assert_eq!(names(&messages), ["error"]);
    assert_eq!(messages.events()[0].1["error"]["type"], "api_error");
}

#[tokio::test]
async fn usage_can_be_missing_null_or_absurd() {
    let usage = async |keys: &str| {
        let body = json!({ "model": format!("sim?{keys}") });
        ask("/v1/chat/completions", body).await.json().get("usage").cloned()
    };
    assert_eq!(usage("no_usage").await, None);
    assert_eq!(usage("null_usage").await, Some(Value::Null));
    assert_eq!(usage("usage_weird=negative").await.unwrap()["prompt_tokens"], -5);
    assert_eq!(usage("usage_weird=huge").await.unwrap()["total_tokens"], 1e18);
    assert_eq!(usage("usage_weird=float").await.unwrap()["prompt_tokens"], 20.5);
}

#[tokio::test]
async fn every_request_has_an_id_of_its_own_in_kept_replies_too() {
    let mock = Mock::start().await.unwrap();
    mock.set_default(Behaviour { events: Some(2), ..Behaviour::default() });
    let mut client = Client::connect(&mock).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer =
            client.post("/v1/chat/completions", json!({ "model": "m", "stream": true })).await;
        ids.push(answer.events()[1].1["id"].as_str().unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}
