//! Parameters and instructions of the configuration, as a provider receives them.

use loadtest::mock::Mock;
use serde_json::{Value, json};

use crate::client::within;
use crate::harness::{Builder, TestGateway, deployment, target};

/// Instructions on every level, and parameters.
const ADDED: &str = r#"instructions = "third"
default_params = { temperature = 0.5, top_p = 1 }
override_params = { user = "operator", max_tokens = 7 }"#;

/// A document with instructions on every level over [`ADDED`].
fn document(mock: &Mock) -> String {
    let text = deployment(&[target(mock, "sim")], ADDED);
    let (workspace, environment) = ("slug = \"acme\"\n", "slug = \"production\"\n");
    text.replacen(workspace, &format!("{workspace}settings.instructions = \"first\"\n"), 1)
        .replacen(environment, &format!("{environment}instructions = \"second\"\n"), 1)
}

async fn start(mock: &Mock) -> TestGateway {
    Builder::new(&document(mock)).start().await
}

/// Posts `body` and returns what the provider received.
async fn sent(gateway: &TestGateway, mock: &Mock, path: &str, body: &Value) -> Value {
    mock.clear_journal();
    let answer = gateway.post(path, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&within(mock.wait_for(1)).await.remove(0).body).unwrap()
}

#[tokio::test]
async fn chat_gets_instructions_in_order_and_parameters() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock).await;
    let body = json!({
        "model": "chat", "temperature": 0.1, "user": "client", "max_tokens": 100,
        "messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "hi"}],
    });
    let expected = json!({
        "model": "sim", "temperature": 0.1, "user": "operator", "max_tokens": 7, "top_p": 1,
        "messages": [
            {"role": "system", "content": "first\n\nsecond\n\nthird\n\nown"},
            {"role": "user", "content": "hi"},
        ],
    });
    assert_eq!(sent(&gateway, &mock, "/v1/chat/completions", &body).await, expected);
    gateway.stop().await;
}

#[tokio::test]
async fn responses_and_messages_have_places_of_their_own() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock).await;
    let body = json!({"model": "chat", "input": "hi"});
    let got = sent(&gateway, &mock, "/v1/responses", &body).await;
    assert_eq!(got["instructions"], "first\n\nsecond\n\nthird");
    assert_eq!((&got["input"], &got["top_p"]), (&json!("hi"), &json!(1)));

    let turn = json!([{"role": "user", "content": "hi"}]);
    let system = json!([{"type": "text", "text": "own", "cache_control": {"type": "ephemeral"}}]);
    let body = json!({"model": "chat", "max_tokens": 9, "messages": turn, "system": system});
    let got = sent(&gateway, &mock, "/v1/messages", &body).await;
    let added = json!({"type": "text", "text": "first\n\nsecond\n\nthird"});
    assert_eq!(got["system"], json!([added, system[0]]));
    assert_eq!((&got["messages"], &got["max_tokens"]), (&turn, &json!(7)));
    gateway.stop().await;
}

#[tokio::test]
async fn what_has_no_system_prompt_gets_parameters_alone() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock).await;
    let text = "<|fim_prefix|>fn a() {<|fim_suffix|>}<|fim_middle|>";
    let turn = json!([{"role": "user", "content": text}]);
    let body = json!({"model": "chat", "messages": turn});
    let got = sent(&gateway, &mock, "/v1/chat/completions", &body).await;
    assert_eq!((&got["messages"], &got["temperature"]), (&turn, &json!(0.5)));

    let body = json!({"model": "chat", "prompt": "fn a() {", "suffix": "}"});
    let got = sent(&gateway, &mock, "/v1/completions", &body).await;
    let expected = json!({
        "model": "sim", "prompt": "fn a() {", "suffix": "}", "temperature": 0.5, "top_p": 1,
        "user": "operator", "max_tokens": 7,
    });
    assert_eq!(got, expected);
    gateway.stop().await;
}

#[tokio::test]
async fn model_called_directly_gets_the_instructions_above_it() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock).await;
    for model in ["m0", "c0/other"] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let got = sent(&gateway, &mock, "/v1/chat/completions", &body).await;
        let system = json!({"role": "system", "content": "first\n\nsecond"});
        assert_eq!(got["messages"][0], system, "{model}");
        assert_eq!(got.get("temperature"), None);
    }
    gateway.stop().await;
}

/// The other dialect is written from the body with its additions.
#[tokio::test]
async fn target_of_another_dialect_is_asked_with_the_additions() {
    let mock = Mock::start().await.unwrap();
    let text = document(&mock).replace("provider = \"simulated\"", "provider = \"anthropic\"");
    let gateway = Builder::new(&text).start().await;
    let body = json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}]});
    let got = sent(&gateway, &mock, "/v1/chat/completions", &body).await;
    assert_eq!(got["max_tokens"], 7);
    assert_eq!(got["temperature"], 0.5);
    assert!(got["system"].to_string().contains("first\\n\\nsecond\\n\\nthird"), "{got}");
    gateway.stop().await;
}

/// What a limit sets aside is what the provider is asked for, not what the client asked.
#[tokio::test]
async fn limits_read_the_overridden_body() {
    let mock = Mock::start().await.unwrap();
    let limits = r#"limits = [{ metric = "output_tokens", period = "day", amount = 50 }]"#;
    let text = format!("{}{limits}\n", document(&mock));
    let gateway = Builder::new(&text).start().await;
    let turn = json!([{"role": "user", "content": "hi"}]);
    let body = json!({"model": "chat", "messages": turn, "max_tokens": 1000});
    assert_eq!(sent(&gateway, &mock, "/v1/chat/completions", &body).await["max_tokens"], 7);
    gateway.stop().await;
}

/// Nothing that a client writes takes the place of the instructions.
#[tokio::test]
async fn instructions_cannot_be_written_away() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock).await;
    let twice = r#"{"model":"chat","max_tokens":5,"messages":[],"system":"a","syst\u0065m":"b"}"#;
    let answer = gateway.post("/v1/messages", twice).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("two `system` fields"), "{}", answer.text());
    let answer = gateway.post("/v1/responses", r#"{"model":"chat","instructions":[]}"#).await;
    assert_eq!(answer.json()["error"]["message"], "`instructions` must be a string");
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

/// By the admin API: refused with the field that is wrong, else in force for the next request.
#[tokio::test]
async fn admin_api_checks_and_applies() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock).await;
    let path = "/workspaces/acme/environments/production/deployments/chat";
    let change = async |body: Value| gateway.admin("PATCH", path, Some(&body)).await;
    let refused = change(json!({"default_params": {"stream": true}})).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("default_params.stream"), "{}", refused.text());
    let changed = change(json!({"default_params": {"seed": 4}, "instructions": null})).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["default_params"], json!({"seed": 4}));
    let body = json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}]});
    let got = sent(&gateway, &mock, "/v1/chat/completions", &body).await;
    assert_eq!((&got["seed"], got.get("top_p")), (&json!(4), None));
    assert_eq!(got["messages"][0]["content"], "first\n\nsecond");
    gateway.stop().await;
}
