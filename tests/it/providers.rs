//! How each provider is addressed, and how the gateway shows it its credential.

use serde_json::json;

use crate::client::request;
use crate::harness::{Builder, TestGateway};
use crate::wire::{Exchange, Wire};

const CHAT: &str = r#"{"choices":[{"index":0,"finish_reason":"stop",
    "message":{"role":"assistant","content":"hi"}}]}"#;
const GEMINI: &str = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"hi"}]},"finishReason":"STOP"}]}"#;
const COHERE: &str = r#"{"id":"1","finish_reason":"COMPLETE",
    "message":{"role":"assistant","content":[{"type":"text","text":"hi"}]}}"#;
const RESPONSE: &str = r#"{"id":"resp_1","object":"response","status":"completed","model":"m",
    "output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"hi"}]}]}"#;
const MESSAGES: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m",
    "content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn",
    "usage":{"input_tokens":1,"output_tokens":1}}"#;

/// A gateway whose one model, `m`, is `upstream_model` on a connection to `wire`.
pub(crate) async fn gateway(wire: &Wire, base: &str, provider: &str, more: &str) -> TestGateway {
    let address = wire.base_url();
    let address = address.strip_suffix("/v1").unwrap();
    let document = format!(
        "[[workspaces]]\nslug = \"acme\"\n[[workspaces.environments]]\nslug = \"production\"\n\
         [[workspaces.environments.connections]]\nname = \"c\"\nprovider = \"{provider}\"\n\
         base_url = \"{address}{base}\"\n{more}\n\
         [[workspaces.environments.models]]\nalias = \"m\"\nconnection = \"c\"\n\
         upstream_model = \"a/b\"\n\
         [[workspaces.environments.keys]]\nname = \"app\"\nsecret = \"${{KEY}}\"\n\
         scopes = {{ endpoints = \"all\", models = \"all\", deployments = \"all\" }}\n"
    );
    Builder::new(&document).start().await
}

/// Asks `m` over `path`; the head that the provider gets, and the status that the client gets.
async fn asked(
    (gateway, wire): (&TestGateway, &mut Wire),
    (path, more): (&str, &[(&str, &str)]),
    body: &str,
) -> (String, u16) {
    gateway.expect_rows(1);
    let authorization = gateway.authorization();
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend_from_slice(more);
    let messages = json!([{"role": "user", "content": "hello"}]);
    let question = if path.ends_with("embeddings") {
        json!({"model": "m", "input": ["hello"]})
    } else if path.ends_with("responses") {
        json!({"model": "m", "max_output_tokens": 50, "input": messages})
    } else {
        json!({"model": "m", "max_tokens": 50, "messages": messages})
    };
    let request = request("POST", path, &headers, question.to_string().as_bytes());
    let client = gateway.client().await;
    let told = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    let respond = async |mut exchange: Exchange| {
        exchange.send(format!("{told}{}\r\n\r\n{body}", body.len())).await;
    };
    let (head, _, answer) = wire.exchange(client, &request, respond).await;
    assert!(!head.contains(authorization.as_str()), "the virtual key went out: {head}");
    (head, answer.status)
}

fn credentials(head: &str) -> Vec<&str> {
    const NAMES: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
    let is_credential =
        |line: &&str| line.split_once(": ").is_some_and(|(name, _)| NAMES.contains(&name));
    head.lines().filter(is_credential).collect()
}

/// Provider, path of its base URL, API version, what the client asks, what the provider is asked.
const WAYS: &str = "
openai       /v1        -          chat/completions /v1/chat/completions
anthropic    /v1        -          messages         /v1/messages
anthropic    /v1        -          chat/completions /v1/messages
azure_openai /openai/v1 -          chat/completions /openai/v1/chat/completions
azure_openai /openai/v1 -          responses        /openai/v1/responses
azure_openai /openai    2024-10-21 chat/completions /openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21
azure_openai /openai    2024-10-21 messages         /openai/responses?api-version=2024-10-21
azure_openai /openai    2024-10-21 embeddings       /openai/deployments/a%2Fb/embeddings?api-version=2024-10-21
gemini       /v1beta    -          chat/completions /v1beta/models/a%2Fb:generateContent
gemini       /v1beta    -          responses        /v1beta/models/a%2Fb:generateContent
gemini       /v1beta    -          embeddings       /v1beta/models/a%2Fb:batchEmbedContents
cohere       /v2        -          chat/completions /v2/chat
cohere       /v2        -          messages         /v2/chat
cohere       /v2        -          embeddings       /v2/embed
cohere       /v2        -          rerank           /v2/rerank
groq         /openai/v1 -          messages         /openai/v1/chat/completions
";

/// The header in which a provider wants a credential, and an answer of its.
fn wants(provider: &str) -> (&'static str, &'static str) {
    match provider {
        "anthropic" => ("x-api-key: ", MESSAGES),
        "azure_openai" => ("api-key: ", CHAT),
        "gemini" => ("x-goog-api-key: ", GEMINI),
        "cohere" => ("authorization: Bearer ", COHERE),
        _ => ("authorization: Bearer ", CHAT),
    }
}

#[tokio::test]
async fn each_provider_is_asked_where_and_as_it_wants() {
    for way in WAYS.lines().filter(|way| !way.is_empty()) {
        let words: Vec<&str> = way.split_whitespace().collect();
        let [provider, base, version, asks, asked_for] = words[..] else { panic!("{way}") };
        let settings = match version {
            "-" => String::new(),
            version => format!("settings = {{ api_version = \"{version}\" }}"),
        };
        let (header, answer) = wants(provider);
        let answer = match asked_for.rsplit(['/', ':', '?']).next().unwrap_or_default() {
            "batchEmbedContents" => r#"{"embeddings":[{"values":[0.5,1]}]}"#,
            "embed" => r#"{"embeddings":{"float":[[0.5,1]]}}"#,
            _ if asked_for.contains("/responses") => RESPONSE,
            _ => answer,
        };
        let mut wire = Wire::start().await;
        let more = format!("credential = \"sk-provider\"\n{settings}");
        let gateway = gateway(&wire, base, provider, &more).await;
        let path = format!("/v1/{asks}");
        let (head, status) = asked((&gateway, &mut wire), (&path, &[]), answer).await;
        assert_eq!(status, 200, "{way}: {head}");
        assert_eq!(head.lines().next().unwrap(), format!("POST {asked_for} HTTP/1.1"), "{way}");
        assert_eq!(credentials(&head), [format!("{header}sk-provider")], "{way}");
        gateway.stop().await;
    }
}

/// With `passthrough` the client's own key goes to the provider, in the provider's header.
#[tokio::test]
async fn key_that_is_passed_through_is_shown_as_the_provider_wants_it() {
    for provider in ["openai", "anthropic", "azure_openai", "gemini"] {
        let (header, answer) = wants(provider);
        let mut wire = Wire::start().await;
        let gateway = gateway(&wire, "/v1", provider, "auth = \"passthrough\"").await;
        let own = [("x-api-key", "sk-own")];
        let (head, status) =
            asked((&gateway, &mut wire), ("/v1/chat/completions", &own), answer).await;
        assert_eq!(status, 200, "{provider}: {head}");
        assert_eq!(credentials(&head), [format!("{header}sk-own")], "{provider}");
        gateway.stop().await;
    }
}

/// What the admin API says of each provider is what a document may say.
#[tokio::test]
async fn settings_of_a_provider_are_told_as_a_schema() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    let answer = gateway.admin_get("/api/v1/providers").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let providers = answer.json();
    let settings = |name: &str| {
        let all = providers["data"].as_array().unwrap();
        all.iter().find(|provider| provider["name"] == name).unwrap()["settings"].clone()
    };
    assert_eq!(settings("openai"), json!({"type": "object"}));
    let azure = settings("azure_openai");
    let properties = azure["properties"].as_object().unwrap();
    assert_eq!(properties.keys().collect::<Vec<_>>(), ["resource", "api_version"]);
    assert_eq!(azure["additionalProperties"], false);
    gateway.stop().await;
}
