//! Clients of Google's and of Ollama's own dialects.

use loadtest::mock::Mock;
use serde_json::{Value, json};

use crate::client::{Answer, End, request};
use crate::harness::{Builder, TestGateway};
use crate::providers;
use crate::wire::{Exchange, Wire};

const GENERATE: &str = "/v1beta/models/m:generateContent";
const STREAM: &str = "/v1beta/models/m:streamGenerateContent?alt=sse";
const CREDENTIAL: &str = "credential = \"sk-provider\"";

/// As Google prints it, with its spaces.
const CONTENTS: &str = r#"{ "contents": [ {"parts":[{"text":"hello"}], "role":"user"} ],
  "futureField": 1 }"#;
const ANSWER: &str = r#"{
  "candidates": [ { "content": { "parts": [ { "text": "hi" } ], "role": "model" }, "finishReason": "STOP" } ],
  "usageMetadata": { "promptTokenCount": 9, "cachedContentTokenCount": 2, "candidatesTokenCount": 3,
    "thoughtsTokenCount": 4, "totalTokenCount": 16 }, "modelVersion": "gemini-x", "futureField": [1]
}"#;

/// The request with the key where Google's clients have it.
fn google(gateway: &TestGateway, path: &str, body: &str) -> Vec<u8> {
    gateway.expect_rows(1);
    let key = gateway.key.clone();
    let headers = [("x-goog-api-key", key.as_str()), ("content-type", "application/json")];
    request("POST", path, &headers, body.as_bytes())
}

async fn passed(
    gateway: &TestGateway,
    wire: &mut Wire,
    (path, body): (&str, &str),
    respond: impl AsyncFnOnce(Exchange),
) -> (String, Vec<u8>, Answer) {
    let request = google(gateway, path, body);
    let client = gateway.client().await;
    wire.exchange(client, &request, respond).await
}

/// A client of Google's and Google: byte for byte, and the usage is read in passing.
#[tokio::test]
async fn own_dialect_of_google_passes_byte_for_byte() {
    let mut wire = Wire::start().await;
    let gateway = providers::gateway(&wire, "/v1beta", "gemini", CREDENTIAL).await;
    let (head, body, answer) =
        passed(&gateway, &mut wire, (GENERATE, CONTENTS), async |mut exchange| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=UTF-8\r\n";
            exchange.send(format!("{head}content-length: {}\r\n\r\n{ANSWER}", ANSWER.len())).await;
        })
        .await;
    assert!(head.starts_with("POST /v1beta/models/a%2Fb:generateContent HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-goog-api-key: sk-provider\r\n"), "{head}");
    assert!(!head.contains(&gateway.key), "{head}");
    assert_eq!(body, CONTENTS.as_bytes());
    assert_eq!((answer.status, answer.text()), (200, ANSWER.to_owned()));
    let row = gateway.row().await;
    assert_eq!(row["input_uncached"], 7, "{row:#}");
    assert_eq!(row["input_cache_read"], 2, "{row:#}");
    assert_eq!((&row["output"], &row["reasoning"]), (&json!(3), &json!(4)), "{row:#}");
    assert_eq!(row["endpoint"], "generateContent");
    gateway.stop().await;
}

fn chunk(text: &str, more: &str) -> String {
    format!(
        "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{{\"text\": \"{text}\"}}],\"role\": \"model\"}}{more}}}],\
         \"usageMetadata\": {{\"promptTokenCount\": 9,\"candidatesTokenCount\": 3,\"totalTokenCount\": 12}}}}\r\n\r\n"
    )
}

#[tokio::test]
async fn streams_of_google_pass_and_are_cut_when_they_break() {
    let mut wire = Wire::start().await;
    let gateway = providers::gateway(&wire, "/v1beta", "gemini", CREDENTIAL).await;
    let whole = [chunk("Hel", ""), chunk("lo", ",\"finishReason\": \"STOP\"")].concat();
    let (head, _, answer) =
        passed(&gateway, &mut wire, (STREAM, CONTENTS), async |mut exchange| {
            exchange.chunked("text/event-stream").await;
            exchange.chunk(&whole).await;
            exchange.chunk("").await;
        })
        .await;
    let asked = "POST /v1beta/models/a%2Fb:streamGenerateContent?alt=sse HTTP/1.1\r\n";
    assert!(head.starts_with(asked), "{head}");
    assert_eq!((answer.text(), answer.end), (whole, End::Whole));
    let row = gateway.row().await;
    assert_eq!(row["output"], 3, "{row:#}");
    assert_eq!(row["outcome"], "success", "{row:#}");

    // Without a reason to stop there was no end.
    let (_, _, answer) = passed(&gateway, &mut wire, (STREAM, CONTENTS), async |mut exchange| {
        exchange.chunked("text/event-stream").await;
        exchange.chunk(chunk("Hel", "")).await;
        exchange.chunk("").await;
    })
    .await;
    let text = answer.text();
    assert!(text.starts_with(&chunk("Hel", "")), "{text}");
    assert!(text.contains(r#"data: {"error":{"code":500,"#), "{text}");
    assert_eq!(answer.end, End::Cut, "{text}");
    gateway.stop().await;
}

/// Deployments `m` on providers of three dialects, with what the configuration adds.
fn document(mock: &Mock, additions: &str) -> String {
    let mut text = String::from(
        "[[workspaces]]\nslug = \"acme\"\n[[workspaces.environments]]\nslug = \"production\"\n",
    );
    for (name, provider) in [("chat", "openai_compatible"), ("messages", "anthropic")] {
        text += &format!(
            "[[workspaces.environments.connections]]\nname = \"{name}\"\nprovider = \"{provider}\"\n\
             base_url = \"{}\"\ncredential = \"sk-provider\"\n\
             [[workspaces.environments.models]]\nalias = \"{name}-model\"\nconnection = \"{name}\"\n\
             upstream_model = \"sim\"\n\
             [[workspaces.environments.deployments]]\nname = \"{name}/one\"\n\
             targets = [{{ model = \"{name}-model\" }}]\n{additions}\n",
            mock.base_url()
        );
    }
    text + "[[workspaces.environments.keys]]\nname = \"app\"\nsecret = \"${KEY}\"\n\
            scopes = { endpoints = \"all\", models = \"all\", deployments = \"all\" }\n"
}

/// What the configuration adds stands where each dialect has it.
#[tokio::test]
async fn additions_reach_providers_of_other_dialects() {
    let mock = Mock::start().await.unwrap();
    let additions = "default_params = { temperature = 0.25, stop = \"END\" }\n\
                     override_params = { max_tokens = 77 }\ninstructions = \"Be kind.\"\n";
    let gateway = Builder::new(&document(&mock, additions)).start().await;
    let contents =
        r#"{"contents":[{"parts":[{"text":"hello"}]}],"generationConfig":{"maxOutputTokens":9}}"#;
    // The name has a slash, which some clients encode.
    for path in
        ["/v1beta/models/chat/one:generateContent", "/v1beta/models/chat%2Fone:generateContent"]
    {
        let answer = gateway.client().await.call(&google(&gateway, path, contents)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.json()["candidates"][0]["content"]["parts"][0]["text"].is_string());
    }
    let chat =
        r#"{"model":"chat/one","messages":[{"role":"user","content":"hello"}],"stream":false}"#;
    let answer = gateway.post("/api/chat", chat).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for entry in mock.wait_for(3).await {
        let body: Value = serde_json::from_slice(&entry.body).unwrap();
        assert_eq!(body["temperature"], 0.25, "{body}");
        assert_eq!(body["max_tokens"], 77, "{body}");
        assert_eq!(body["messages"][0]["content"], "Be kind.", "{body}");
        assert!(body["stop"] == "END" || body["stop"] == json!(["END"]), "{body}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn ollama_streams_lines_unless_told_not_to() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&document(&mock, "")).start().await;
    for model in ["chat/one", "messages/one"] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
        let answer = gateway.post("/api/chat", &body.to_string()).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole), "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        let text = answer.text();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (last, before) = lines.split_last().unwrap();
        assert!(1 < before.len(), "{text}");
        assert!(before.iter().all(|line| line["done"] == false), "{text}");
        assert_eq!(last["done"], true, "{text}");
        assert!(0 < last["eval_count"].as_u64().unwrap(), "{text}");

        let body = json!({"model": model, "prompt": "hello", "stream": false});
        let answer = gateway.post("/api/generate", &body.to_string()).await;
        assert!(answer.header("content-type").unwrap().starts_with("application/json"));
        let answer = answer.json();
        assert!(!answer["response"].as_str().unwrap().is_empty(), "{answer}");
        assert_eq!(answer["done"], true);
    }
    let row = &gateway.rows().await[0];
    assert_eq!(row["stream"], true, "{row:#}");
    assert_eq!(row["endpoint"], "api/chat", "{row:#}");
    gateway.stop().await;
}

/// Each in the shape that its clients read.
#[tokio::test]
async fn rejections_are_in_the_clients_shape() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&document(&mock, "")).start().await;
    let ask = async |path: &str, body: &str| {
        gateway.client().await.call(&google(&gateway, path, body)).await
    };
    let missing = ask("/v1beta/models/nothing:generateContent", "{\"contents\":[]}").await;
    let error = missing.json()["error"].clone();
    assert_eq!((missing.status, &error["code"]), (404, &json!(404)), "{error}");
    assert_eq!(error["status"], "NOT_FOUND", "{error}");
    assert_eq!(error["details"][0]["reason"], "MODEL_NOT_FOUND", "{error}");

    let path = "/v1beta/models/chat/one:streamGenerateContent";
    let unasked = ask(path, "{\"contents\":[]}").await;
    assert_eq!(unasked.status, 400, "{}", unasked.text());
    assert!(unasked.text().contains("alt=sse"), "{}", unasked.text());

    let path = "/v1beta/models/messages/one:generateContent";
    let seed = r#"{"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"seed":1}}"#;
    let refused = ask(path, seed).await;
    assert_eq!(refused.json()["error"]["status"], "INVALID_ARGUMENT", "{}", refused.text());
    assert!(refused.text().contains("generationConfig.seed"), "{}", refused.text());

    let body = r#"{"model":"nothing","messages":[]}"#;
    let missing = gateway.client().await.call(&gateway.request("/api/chat", body)).await;
    assert_eq!(missing.status, 404);
    assert!(missing.json()["error"].is_string(), "{}", missing.text());

    // A key in the query is none.
    let path = format!("/v1beta/models/chat/one:generateContent?key={}", gateway.key);
    let json = [("content-type", "application/json")];
    let unknown = gateway.client().await.call(&request("POST", &path, &json, b"{}")).await;
    assert_eq!(unknown.json()["error"]["status"], "UNAUTHENTICATED", "{}", unknown.text());
    gateway.stop().await;
}

#[tokio::test]
async fn models_are_listed_in_every_shape() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&document(&mock, "")).start().await;
    let authorization = gateway.authorization();
    let get = async |path: &str| {
        gateway.expect_rows(1);
        let headers = [("authorization", authorization.as_str())];
        gateway.client().await.call(&request("GET", path, &headers, b"")).await.json()
    };
    let names = |list: &Value, of: &str, name: &str| -> Vec<String> {
        let all = list[of].as_array().unwrap_or_else(|| panic!("{list}"));
        all.iter().map(|model| model[name].as_str().unwrap().to_owned()).collect()
    };
    let openai = names(&get("/v1/models").await, "data", "id");
    assert!(openai.contains(&"chat/one".to_owned()), "{openai:?}");
    let google = names(&get("/v1beta/models").await, "models", "name");
    let expected: Vec<String> = openai.iter().map(|name| format!("models/{name}")).collect();
    assert_eq!(google, expected);
    // On the path that they share, the header with the key tells.
    gateway.expect_rows(1);
    let key = [("x-goog-api-key", gateway.key.as_str())];
    let shared = gateway.client().await.call(&request("GET", "/v1/models", &key, b"")).await;
    assert_eq!(names(&shared.json(), "models", "name"), expected);
    assert_eq!(names(&get("/api/tags").await, "models", "model"), openai);
    assert_eq!(get("/v1beta/models/chat/one").await["name"], "models/chat/one");
    let version = request("GET", "/api/version", &[], b"");
    assert!(gateway.client().await.call(&version).await.json()["version"].is_string());
    gateway.stop().await;
}
