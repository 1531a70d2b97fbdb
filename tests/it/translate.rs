//! A client of one dialect, providers of others: the whole path.

use loadtest::mock::Mock;
use serde_json::{Value, json};

use crate::client::{Answer, End, request};
use crate::harness::{Builder, TestGateway};

const FRONTS: [&str; 3] = ["chat", "responses", "messages"];

/// (name of the target, provider, dialects it is told to speak)
const TARGETS: [(&str, &str, &str); 3] = [
    ("chat", "openai_compatible", "[]"),
    ("responses", "vertex", "[\"responses\"]"),
    ("messages", "anthropic", "[]"),
];

fn path(front: &str) -> &'static str {
    match front {
        "chat" => "/v1/chat/completions",
        "responses" => "/v1/responses",
        _ => "/v1/messages",
    }
}

/// One model for each dialect of a provider, under the dialect's name, and `deployments`.
fn document(mock: &Mock, script: &str, deployments: &str) -> String {
    let mut text = String::from(
        "[[workspaces]]\nslug = \"acme\"\n[[workspaces.environments]]\nslug = \"production\"\n",
    );
    for (name, provider, dialects) in TARGETS {
        text += &format!(
            "[[workspaces.environments.connections]]\nname = \"{name}\"\nprovider = \"{provider}\"\n\
             base_url = \"{}\"\ncredential = \"sk-provider-credential\"\n\
             dialects = {dialects}\n[[workspaces.environments.models]]\nalias = \"{name}\"\nconnection = \"{name}\"\n\
             upstream_model = \"sim{script}\"\nprice = {{ input = \"1\", output = \"2\" }}\n",
            mock.base_url()
        );
    }
    text + deployments
        + "[[workspaces.environments.keys]]\nname = \"app\"\nsecret = \"${KEY}\"\n\
           scopes = { endpoints = \"all\", models = \"all\", deployments = \"all\" }\n"
}

fn body(front: &str, model: &str, is_stream: bool) -> Value {
    let tool = |name: &str| {
        let schema = json!({
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        });
        match front {
            "chat" => json!({
                "type": "function",
                "function": {"name": name, "description": "d", "parameters": schema},
            }),
            "responses" => json!({
                "type": "function", "name": name, "description": "d", "parameters": schema,
            }),
            _ => json!({"name": name, "description": "d", "input_schema": schema}),
        }
    };
    let mut body = json!({"model": model, "stream": is_stream, "tools": [tool("get_weather")]});
    let messages = json!([{"role": "user", "content": "hello there"}]);
    match front {
        "responses" => body["input"] = messages,
        _ => body["messages"] = messages,
    }
    if front == "messages" {
        body["max_tokens"] = 1000.into();
    }
    if front == "chat" && is_stream {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

/// The text, the calls as `name(arguments)`, why it stopped, and the output tokens, of whichever
/// dialect.
#[derive(Debug, Default, Clone, PartialEq)]
struct Said {
    text: String,
    thoughts: String,
    calls: Vec<String>,
    stop: String,
    input_tokens: u64,
    output_tokens: u64,
}

fn said(front: &str, answer: &Value) -> Said {
    let mut said = Said::default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match front {
        "chat" => {
            let message = &answer["choices"][0]["message"];
            said.text = text(&message["content"]);
            said.thoughts = text(&message["reasoning_content"]);
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                assert_eq!(call["type"], "function");
                assert!(call["id"].is_string());
                let function = &call["function"];
                said.calls.push(format!(
                    "{}{}",
                    text(&function["name"]),
                    text(&function["arguments"])
                ));
            }
            said.stop = text(&answer["choices"][0]["finish_reason"]);
            said.input_tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap();
            said.output_tokens = answer["usage"]["completion_tokens"].as_u64().unwrap();
        }
        "responses" => {
            for item in answer["output"].as_array().unwrap() {
                match item["type"].as_str().unwrap() {
                    "message" => said.text += &text(&item["content"][0]["text"]),
                    "reasoning" => said.thoughts += &text(&item["summary"][0]["text"]),
                    "function_call" => {
                        let call = format!("{}{}", text(&item["name"]), text(&item["arguments"]));
                        said.calls.push(call);
                    }
                    kind => panic!("{kind}"),
                }
            }
            said.stop = text(&answer["status"]);
            said.input_tokens = answer["usage"]["input_tokens"].as_u64().unwrap();
            said.output_tokens = answer["usage"]["output_tokens"].as_u64().unwrap();
        }
        _ => {
            for block in answer["content"].as_array().unwrap() {
                match block["type"].as_str().unwrap() {
                    "text" => said.text += &text(&block["text"]),
                    "thinking" => said.thoughts += &text(&block["thinking"]),
                    "tool_use" => {
                        said.calls.push(format!("{}{}", text(&block["name"]), block["input"]));
                    }
                    kind => panic!("{kind}"),
                }
            }
            said.stop = text(&answer["stop_reason"]);
            let usage = &answer["usage"];
            said.input_tokens = usage["input_tokens"].as_u64().unwrap()
                + usage["cache_read_input_tokens"].as_u64().unwrap();
            said.output_tokens = usage["output_tokens"].as_u64().unwrap();
        }
    }
    said
}

/// The events of a stream: name and data.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let mut events = Vec::new();
    for event in text.split("\n\n").filter(|event| !event.is_empty()) {
        let mut name = String::new();
        for line in event.lines() {
            if let Some(told) = line.strip_prefix("event: ") {
                told.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(data).unwrap_or_else(|_| data.into());
                events.push((name.clone(), data));
            }
        }
    }
    events
}

/// What a stream comes to, put together as an SDK does it, strictly.
fn collected(front: &str, events: &[(String, Value)]) -> Value {
    match front {
        "chat" => collected_chat(events),
        "responses" => collected_responses(events),
        _ => collected_messages(events),
    }
}

fn collected_chat(events: &[(String, Value)]) -> Value {
    let (last, events) = events.split_last().unwrap();
    assert_eq!(last.1, "[DONE]");
    let mut message = json!({"content": "", "reasoning_content": "", "tool_calls": []});
    let mut finish = Value::Null;
    let mut usage = Value::Null;
    for (name, event) in events {
        assert!(name.is_empty());
        assert_eq!(event["object"], "chat.completion.chunk");
        if let Some(told) = event["usage"].as_object() {
            assert_eq!(event["choices"], json!([]));
            usage = Value::Object(told.clone());
            continue;
        }
        let choice = &event["choices"][0];
        let delta = &choice["delta"];
        for field in ["content", "reasoning_content"] {
            if let Some(text) = delta[field].as_str() {
                message[field] = format!("{}{text}", message[field].as_str().unwrap()).into();
            }
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            let calls = message["tool_calls"].as_array_mut().unwrap();
            if index == calls.len() {
                assert!(call["id"].is_string() && call["type"] == "function", "{call}");
                calls.push(call.clone());
            } else {
                assert_eq!(index + 1, calls.len(), "indexes are contiguous");
                assert!(call.get("id").is_none() && call.get("type").is_none(), "{call}");
                assert!(call["function"].get("name").is_none(), "{call}");
                let more = call["function"]["arguments"].as_str().unwrap();
                let arguments = &mut calls[index]["function"]["arguments"];
                *arguments = format!("{}{more}", arguments.as_str().unwrap()).into();
            }
        }
        if !choice["finish_reason"].is_null() {
            assert!(finish.is_null(), "two finish reasons");
            finish = choice["finish_reason"].clone();
        }
    }
    json!({"choices": [{"message": message, "finish_reason": finish}], "usage": usage})
}

fn collected_responses(events: &[(String, Value)]) -> Value {
    for (index, (name, event)) in events.iter().enumerate() {
        assert_eq!(*name, event["type"]);
        assert_eq!(event["sequence_number"], index, "{event}");
    }
    assert_eq!(events[0].0, "response.created");
    let mut texts = String::new();
    let mut items = Vec::new();
    for (name, event) in events {
        match name.as_str() {
            "response.output_item.added" => assert_eq!(event["output_index"], items.len()),
            "response.output_item.done" => items.push(event["item"].clone()),
            "response.output_text.delta" => texts += event["delta"].as_str().unwrap(),
            _ => {}
        }
    }
    let (name, last) = events.last().unwrap();
    assert_eq!(name, "response.completed");
    assert_eq!(last["response"]["output"], json!(items));
    let said = said("responses", &last["response"]);
    assert_eq!(said.text, texts);
    last["response"].clone()
}

fn collected_messages(events: &[(String, Value)]) -> Value {
    let mut message = Value::Null;
    let mut open = None;
    let mut json = String::new();
    for (name, event) in events {
        assert_eq!(*name, event["type"]);
        match name.as_str() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                assert!(open.is_none(), "one block at a time");
                let index = message["content"].as_array().unwrap().len();
                assert_eq!(event["index"], index, "indexes are contiguous");
                open = Some(index);
                message["content"].as_array_mut().unwrap().push(event["content_block"].clone());
                json.clear();
            }
            "content_block_delta" => {
                assert_eq!(event["index"], open.unwrap());
                let block = &mut message["content"][open.unwrap()];
                let delta = &event["delta"];
                for field in ["text", "thinking", "signature"] {
                    if let Some(text) = delta[field].as_str() {
                        block[field] = format!("{}{text}", block[field].as_str().unwrap()).into();
                    }
                }
                json += delta["partial_json"].as_str().unwrap_or_default();
            }
            "content_block_stop" => {
                let block = &mut message["content"][open.take().unwrap()];
                if block["type"] == "tool_use" {
                    block["input"] = serde_json::from_str(&json).unwrap();
                }
            }
            "message_delta" => {
                for (name, value) in event["usage"].as_object().unwrap() {
                    message["usage"][name] = value.clone();
                }
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
            }
            "ping" | "message_stop" => {}
            name => panic!("{name}"),
        }
    }
    assert!(open.is_none());
    assert_eq!(events.last().unwrap().0, "message_stop");
    message
}

async fn post(gateway: &TestGateway, front: &str, body: &Value) -> Answer {
    gateway.post(path(front), &body.to_string()).await
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// For every pair: whole and streamed, text and parallel calls with thoughts, all say the same.
#[tokio::test]
async fn every_client_reaches_every_provider() {
    for script in ["?reasoning=3", "?tools=2&reasoning=3"] {
        let mock = Mock::start().await.unwrap();
        let gateway = Builder::new(&document(&mock, script, "")).start().await;
        for front in FRONTS {
            let mut reference = None::<Said>;
            for (target, provider, _) in TARGETS {
                for is_stream in [false, true] {
                    let answer = post(&gateway, front, &body(front, target, is_stream)).await;
                    let at = format!("{front} -> {target}, stream: {is_stream}");
                    let shown = String::from_utf8_lossy(&answer.body).into_owned();
                    assert_eq!((answer.status, answer.end), (200, End::Whole), "{at}: {shown}");
                    let whole = if is_stream {
                        collected(front, &events(&answer))
                    } else {
                        json_of(&answer)
                    };
                    let said = said(front, &whole);
                    assert_eq!(said.text.is_empty(), script.contains("tools"), "{at}: {shown}");
                    let reference = reference.get_or_insert_with(|| said.clone());
                    assert_eq!(said, *reference, "{at}: {shown}");
                    let rows = gateway.rows().await;
                    let row = rows.last().unwrap();
                    assert_eq!(row["outcome"], "success", "{at}: {row:#}");
                    assert_eq!(row["dialect"], front, "{at}");
                    assert_eq!(row["provider"], provider, "{at}");
                    assert_eq!(row["usage_source"], "reported", "{at}");
                }
            }
        }
        gateway.stop().await;
    }
}

/// The provider of the first target fails, each in its own dialect; the last one answers.
#[tokio::test]
async fn request_fails_over_between_dialects() {
    let mock = Mock::start().await.unwrap();
    let deployments = "[[workspaces.environments.deployments]]\nname = \"mixed\"\n\
        targets = [{ model = \"chat\" }, { model = \"messages\", tier = 1 }, \
        { model = \"responses\", tier = 2 }]\n";
    let text = document(&mock, "", deployments);
    for front in FRONTS {
        for is_stream in [false, true] {
            let gateway = Builder::new(&text).start().await;
            mock.clear_journal();
            mock.script(vec![
                crate::harness::behaviour("status=503"),
                crate::harness::behaviour(if is_stream {
                    "early_error=true"
                } else {
                    "status=529"
                }),
            ]);
            let answer = post(&gateway, front, &body(front, "mixed", is_stream)).await;
            let shown = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.status, 200, "{front} {is_stream}: {shown}");
            let row = gateway.row().await;
            assert_eq!(row["attempts"].as_array().unwrap().len(), 3, "{row:#}");
            let paths: Vec<String> =
                mock.wait_for(3).await.iter().map(|e| e.path.clone()).collect();
            assert_eq!(paths, ["/v1/chat/completions", "/v1/messages", "/v1/responses"]);
            gateway.stop().await;
        }
    }
}

/// The provider's error, in the client's envelope and with the provider's words.
#[tokio::test]
async fn errors_of_the_provider_are_in_the_clients_dialect() {
    let mock = Mock::start().await.unwrap();
    let script = "?status=400&error_message=prompt%20is%20too%20long";
    let gateway = Builder::new(&document(&mock, script, "")).start().await;
    for front in FRONTS {
        for (target, ..) in TARGETS {
            let answer = post(&gateway, front, &body(front, target, true)).await;
            let error = json_of(&answer);
            assert_eq!(answer.status, 400, "{front} {target}: {error}");
            assert_eq!(
                error["error"]["message"], "prompt is too long",
                "{front} {target}: {error}"
            );
            if front == target {
                continue;
            }
            assert_eq!(error["error"]["type"], "invalid_request_error");
            match front {
                "messages" => assert_eq!(error["type"], "error"),
                _ => assert_eq!(error["error"]["code"], "context_length_exceeded"),
            }
        }
    }
    gateway.stop().await;
}

/// A stream that breaks after content: the error event of the client's dialect, and a cut.
#[tokio::test]
async fn broken_stream_ends_with_an_error_and_a_cut() {
    for script in ["?cut_at_event=3", "?clean_end_at_event=3"] {
        let mock = Mock::start().await.unwrap();
        let gateway = Builder::new(&document(&mock, script, "")).start().await;
        for front in FRONTS {
            for (target, ..) in TARGETS.into_iter().filter(|(target, ..)| *target != front) {
                let answer = post(&gateway, front, &body(front, target, true)).await;
                let at = format!("{front} -> {target}, {script}");
                assert_eq!((answer.status, answer.end), (200, End::Cut), "{at}");
                let events = events(&answer);
                let (name, last) = events.last().unwrap();
                if front == "chat" {
                    assert!(last["error"]["message"].is_string(), "{at}: {last}");
                } else {
                    assert_eq!((name.as_str(), &last["type"]), ("error", &json!("error")), "{at}");
                }
                if front == "responses" {
                    assert_eq!(last["sequence_number"], events.len() - 1, "{at}");
                }
            }
        }
        gateway.stop().await;
    }
}

/// An error that the provider reports in mid-stream, said by the client's dialect.
#[tokio::test]
async fn error_in_mid_stream_is_translated() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&document(&mock, "?error_at_event=3", "")).start().await;
    for front in FRONTS {
        for (target, ..) in TARGETS.into_iter().filter(|(target, ..)| *target != front) {
            let answer = post(&gateway, front, &body(front, target, true)).await;
            let events = events(&answer);
            let (name, last) = events.last().unwrap();
            let error = if front == "responses" { last } else { &last["error"] };
            assert!(error["message"].is_string(), "{front} {target}: {last}");
            assert_eq!(name, if front == "chat" { "" } else { "error" });
        }
    }
    gateway.stop().await;
}

/// What the provider's dialect lacks is refused by the client's name for it, before any attempt;
/// another target of the deployment that has it is asked instead.
#[tokio::test]
async fn what_cannot_be_expressed_is_refused_by_name() {
    let mock = Mock::start().await.unwrap();
    let deployments = "[[workspaces.environments.deployments]]\nname = \"mixed\"\n\
        targets = [{ model = \"messages\" }, { model = \"chat\", tier = 1 }]\n";
    let gateway = Builder::new(&document(&mock, "", deployments)).start().await;
    for (front, target, field, value) in [
        ("chat", "messages", "seed", json!(7)),
        ("chat", "messages", "n", json!(2)),
        ("chat", "messages", "logprobs", json!(true)),
        ("chat", "messages", "logit_bias", json!({"50256": -100})),
        ("chat", "messages", "not_yet_invented", json!(1)),
        ("responses", "messages", "previous_response_id", json!("resp_1")),
        ("responses", "chat", "background", json!(true)),
        ("messages", "responses", "container", json!("c")),
    ] {
        let mut body = body(front, target, false);
        body[field] = value;
        let answer = post(&gateway, front, &body).await;
        let error = json_of(&answer);
        assert_eq!(answer.status, 400, "{field}: {error}");
        if front == "messages" {
            assert!(error["error"]["message"].as_str().unwrap().contains(field), "{error}");
        } else {
            assert_eq!(error["error"]["code"], "unsupported_parameter", "{error}");
            assert_eq!(error["error"]["param"], field, "{error}");
        }
    }
    assert!(mock.journal().is_empty(), "nothing was asked");
    let mut asked = body("chat", "mixed", false);
    asked["seed"] = 7.into();
    assert_eq!(post(&gateway, "chat", &asked).await.status, 200);
    assert_eq!(mock.wait_for(1).await[0].path, "/v1/chat/completions");
    gateway.stop().await;
}

/// Headers that only the client's dialect means stay behind; those of the provider's are there.
#[tokio::test]
async fn provider_gets_headers_of_its_own_dialect() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&document(&mock, "", "")).start().await;
    let authorization = gateway.authorization();
    for (front, target) in [("messages", "chat"), ("chat", "messages")] {
        gateway.expect_rows(1);
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("accept-encoding", "gzip, br"),
            ("anthropic-beta", "a"),
            ("openai-beta", "b"),
        ];
        let body = body(front, target, false).to_string();
        let request = request("POST", path(front), &headers, body.as_bytes());
        assert_eq!(gateway.client().await.call(&request).await.status, 200);
    }
    let entries = mock.wait_for(2).await;
    assert_eq!(entries[0].header("anthropic-beta"), None);
    assert_eq!(entries[0].header("anthropic-version"), None);
    assert_eq!(entries[0].header("authorization"), Some("Bearer sk-provider-credential"));
    assert_eq!(entries[0].header("accept-encoding"), Some("identity"));
    assert_eq!(entries[1].header("openai-beta"), None);
    assert_eq!(entries[1].header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(entries[1].header("x-api-key"), Some("sk-provider-credential"));
    gateway.stop().await;
}

/// What is none of the provider's dialect is no answer: another target would be asked.
#[tokio::test]
async fn malformed_answer_does_not_count() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&document(&mock, "?malformed_event=0", "")).start().await;
    for front in FRONTS {
        for (target, ..) in TARGETS.into_iter().filter(|(target, ..)| *target != front) {
            for is_stream in [false, true] {
                let answer = post(&gateway, front, &body(front, target, is_stream)).await;
                let shown = String::from_utf8_lossy(&answer.body).into_owned();
                assert_eq!(answer.status, 502, "{front} -> {target}, {is_stream}: {shown}");
            }
        }
    }
    gateway.stop().await;
}

/// The official SDKs of one dialect, and the Vercel AI SDK, on providers of another.
#[tokio::test]
async fn sdks_reach_providers_of_other_dialects() {
    for script in [
        "translate_openai.py",
        "translate_anthropic.py",
        "translate_ai_sdk.mjs",
        "google_genai.py",
        "ollama_py.py",
    ] {
        let mock = Mock::start().await.unwrap();
        let document = include_str!("../sdk/translate.toml").replace("${SLUICE_KEY}", "${KEY}");
        let gateway = Builder::new(&document).env("MOCK_URL", &mock.base_url()).start().await;
        let output = crate::sdk::scenarios(&gateway, script).await;
        assert!(output.lines().any(|line| line.starts_with("ok ")), "no scenario ran: {output}");
        gateway.idle().await;
        let rows = gateway.rows().await;
        for row in &rows {
            assert_ne!(row["outcome"], "gateway_error", "{row:#}");
        }
        gateway.expect_rows(rows.len() as u64);
        gateway.stop().await;
    }
}

/// A mock of somebody else's, in a process of its own that ends with its input.
struct OtherMock {
    process: std::process::Child,
    url: String,
}

impl OtherMock {
    fn start() -> Self {
        use std::io::BufRead as _;
        let node = std::fs::canonicalize(crate::sdk::sdk_dir().join("node"))
            .unwrap_or_else(|error| panic!("{error}: run tests/sdk/install"));
        let mut process = std::process::Command::new("node")
            .arg("tests/sdk/aimock.mjs")
            .env("SLUICE_NODE_DIR", node)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        std::io::BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http://"), "run tests/sdk/install: {url}");
        Self { process, url: url.trim().to_owned() }
    }
}

impl Drop for OtherMock {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        drop(self.process.wait());
    }
}

/// Against a mock that is not ours: every client on Anthropic, Gemini, Azure by deployment and an
/// `OpenAI`-compatible provider says the same, whole and streamed, and can go on with the results.
#[tokio::test]
async fn independent_mock_is_understood() {
    let mock = tokio::task::spawn_blocking(OtherMock::start).await.unwrap();
    let url = &mock.url;
    let mut text = String::from(
        "[[workspaces]]\nslug = \"acme\"\n[[workspaces.environments]]\nslug = \"production\"\n",
    );
    let targets = [
        ("anthropic", format!("{url}/v1"), ""),
        ("gemini", format!("{url}/v1beta"), ""),
        ("azure_openai", format!("{url}/openai"), "settings = { api_version = \"2024-10-21\" }\n"),
        ("openai_compatible", format!("{url}/v1"), ""),
    ];
    for (provider, url, more) in &targets {
        text += &format!(
            "[[workspaces.environments.connections]]\nname = \"{provider}\"\nprovider = \"{provider}\"\n\
             base_url = \"{url}\"\ncredential = \"sk-provider\"\n{more}\
             [[workspaces.environments.models]]\nalias = \"{provider}\"\n\
             connection = \"{provider}\"\nupstream_model = \"some-model\"\n"
        );
    }
    text += "[[workspaces.environments.keys]]\nname = \"app\"\nsecret = \"${KEY}\"\n\
             scopes = { endpoints = \"all\", models = \"all\", deployments = \"all\" }\n";
    let gateway = Builder::new(&text).start().await;
    for asked in ["hello", "the weather"] {
        for front in FRONTS {
            let mut reference = None::<Said>;
            // What passes byte for byte is the mock's own, and leaves fields away that others send.
            let is_translated = |provider: &str| match front {
                "chat" => matches!(provider, "anthropic" | "gemini"),
                "responses" => provider != "azure_openai",
                _ => provider != "anthropic",
            };
            for (provider, ..) in targets.iter().filter(|(provider, ..)| is_translated(provider)) {
                for is_stream in [false, true] {
                    let mut body = body(front, provider, is_stream);
                    let field = if front == "responses" { "input" } else { "messages" };
                    body[field] = json!([{"role": "user", "content": asked}]);
                    let answer = post(&gateway, front, &body).await;
                    let shown = String::from_utf8_lossy(&answer.body).into_owned();
                    let at = format!("{front} -> {provider}, stream: {is_stream}: {shown}");
                    assert_eq!((answer.status, answer.end), (200, End::Whole), "{at}");
                    let whole = if is_stream {
                        collected(front, &events(&answer))
                    } else {
                        json_of(&answer)
                    };
                    let said = said(front, &whole);
                    let said = Said { input_tokens: 0, output_tokens: 0, ..said };
                    let reference = reference.get_or_insert_with(|| said.clone());
                    assert_eq!(said, *reference, "{at}");
                    assert_eq!(said.calls.len(), if asked == "hello" { 0 } else { 2 }, "{at}");
                }
            }
        }
    }
    gateway.stop().await;
}
