//! Requests that are HTTP and still wrong: the right status, code and shape, and never a hang.

use loadtest::mock::Mock;
use serde_json::Value;
use sluice::key;

use crate::client::{Answer, End, request, within};
use crate::harness::{Builder, TestGateway, chat_body, closed, deployment, document, target};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const MIB: usize = 1024 * 1024;

/// Checks an error in the shape of its path. Messages have no codes: `code` is then not looked at.
fn assert_error(answer: &Answer, path: &str, (status, code): (u16, &str), what: &str) {
    assert_eq!((answer.status, answer.end), (status, End::Whole), "{what}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    let body = answer.json();
    let message = body["error"]["message"].as_str().unwrap();
    assert!(!message.is_empty() && !message.contains("vk_live"), "{what}: {message}");
    if path.contains("/messages") {
        assert_eq!(body["type"], "error", "{what}");
        let kind = match status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            503 => "overloaded_error",
            _ => "invalid_request_error",
        };
        assert_eq!(body["error"]["type"], kind, "{what}");
        assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"), "{what}");
        assert_eq!(answer.header("request-id"), answer.header("x-request-id"), "{what}");
    } else {
        assert_eq!(body["error"]["code"], code, "{what}");
        assert!(body["error"]["type"].is_string(), "{what}");
        assert!(body["error"].get("param").is_some(), "{what}");
    }
    assert!(answer.header("x-request-id").is_some(), "{what}");
}

fn nested(depth: usize) -> String {
    // The document itself is the first level.
    let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
    format!(r#"{{"model":"chat","max_tokens":9,"messages":[],"x":{open}{close}}}"#)
}

/// Bodies that are refused, with the code and the field to blame.
fn bodies() -> Vec<(&'static str, String, &'static str, Option<&'static str>)> {
    let bad = |name, body: &str, code, param| (name, body.to_owned(), code, param);
    vec![
        bad("an empty body", "", "invalid_json", None),
        bad("blanks", " \r\n\t", "invalid_json", None),
        bad("no JSON", "model=chat", "invalid_json", None),
        bad("an array", r#"[{"model":"chat"}]"#, "invalid_json", None),
        bad("a string", r#""chat""#, "invalid_json", None),
        bad("null", "null", "invalid_json", None),
        bad("half an object", r#"{"model":"chat","messages":[{"#, "invalid_json", None),
        bad("two objects", r#"{"model":"chat"}{"model":"chat"}"#, "invalid_json", None),
        bad("a comma too many", r#"{"model":"chat",}"#, "invalid_json", None),
        bad("NaN", r#"{"model":"chat","temperature":NaN}"#, "invalid_json", None),
        bad("a lone escape", r#"{"model":"chat","x":"\x"}"#, "invalid_json", None),
        bad(
            "a raw line feed in a string",
            "{\"model\":\"chat\",\"x\":\"a\nb\"}",
            "invalid_json",
            None,
        ),
        bad("no model", r#"{"messages":[]}"#, "missing_model", Some("model")),
        bad("another case of model", r#"{"Model":"chat"}"#, "missing_model", Some("model")),
        bad("two models", r#"{"model":"chat","model":"chat"}"#, "invalid_request", Some("model")),
        bad(
            "two models, one escaped",
            r#"{"model":"chat","m\u006fdel":"m0"}"#,
            "invalid_request",
            Some("model"),
        ),
        bad("an escaped key", r#"{"m\u006fdel":"chat"}"#, "invalid_request", Some("model")),
        bad("a model that is no string", r#"{"model":5}"#, "invalid_request", Some("model")),
        bad(
            "two streams",
            r#"{"model":"chat","stream":true,"stream":false}"#,
            "invalid_request",
            Some("stream"),
        ),
        bad(
            "two messages",
            r#"{"model":"chat","messages":[],"messages":[]}"#,
            "invalid_request",
            Some("messages"),
        ),
        ("nesting of 129", nested(129), "invalid_json", None),
        ("nesting of 100,000", nested(100_000), "invalid_json", None),
    ]
}

#[tokio::test]
async fn bad_bodies_are_refused_in_the_callers_shape() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let bodies = bodies();
    for path in [CHAT, MESSAGES] {
        for (what, body, code, param) in &bodies {
            let answer = gateway.post(path, body).await;
            assert_error(&answer, path, (400, code), what);
            if path == CHAT {
                assert_eq!(answer.json()["error"]["param"].as_str(), *param, "{what}");
            }
        }
    }
    let rows = gateway.rows().await;
    let codes = bodies.iter().chain(&bodies).map(|(_, _, code, _)| *code);
    for (row, code) in rows.iter().zip(codes) {
        assert_eq!(row["outcome"], "client_error");
        assert_eq!((&row["status"], &row["error_class"]), (&Value::from(400), &Value::from(code)));
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn nesting_of_128_is_taken() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    assert_eq!(gateway.post(CHAT, &nested(128)).await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn invalid_utf8_is_refused() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let authorization = gateway.authorization();
    let headers = [("authorization", authorization.as_str())];
    for body in [
        &b"{\"model\":\"ch\xff\"}"[..],
        b"\xff\xfe{\0}\0",
        b"{\"model\":\"chat\",\"x\":\"\xc0\x80\"}",
    ] {
        gateway.expect_rows(1);
        let answer = gateway.client().await.call(&request("POST", CHAT, &headers, body)).await;
        assert_error(&answer, CHAT, (400, "invalid_json"), "bytes");
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn post_without_a_length_has_an_empty_body() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    for path in [CHAT, MESSAGES] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\n\r\n",
            gateway.key
        );
        gateway.expect_rows(1);
        let answer = gateway.client().await.call(head.as_bytes()).await;
        assert_error(&answer, path, (400, "invalid_json"), "no body");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn bodies_in_another_form_are_refused() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let authorization = gateway.authorization();
    for path in [CHAT, MESSAGES] {
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-type", "application/jsonx"),
            ("content-type", "multipart/form-data; boundary=a"),
            ("content-type", ""),
            ("content-encoding", "gzip"),
            ("content-encoding", "identity"),
        ] {
            let headers = [("authorization", authorization.as_str()), (name, value)];
            let bytes = request("POST", path, &headers, chat_body("").as_bytes());
            gateway.expect_rows(1);
            let answer = gateway.client().await.call(&bytes).await;
            assert_error(&answer, path, (400, "invalid_request"), value);
            if path == CHAT {
                assert_eq!(answer.json()["error"]["param"], name);
            }
        }
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn body_of_33_mib_is_refused_before_it_is_read() {
    let (gateway, mock) = TestGateway::with_mock().await;
    for path in [CHAT, MESSAGES] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n",
            gateway.key,
            33 * MIB
        );
        gateway.expect_rows(1);
        let mut client = gateway.client().await;
        // Not one byte of the body is sent: the answer does not wait for it.
        let answer = client.call(head.as_bytes()).await;
        assert_error(&answer, path, (413, "request_too_large"), "declared");
        assert!(client.is_closed().await, "what follows would be read as a request");
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn client_that_sends_all_of_33_mib_reads_the_answer() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n",
        gateway.key,
        33 * MIB
    );
    gateway.expect_rows(1);
    let mut client = gateway.client().await;
    client.write(head.as_bytes()).await;
    client.write(&vec![b' '; 33 * MIB]).await;
    assert_error(&client.answer().await, CHAT, (413, "request_too_large"), "sent whole");
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn chunks_without_end_are_refused_at_the_limit() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway =
        Builder::new(&text).with(|config| config.data.body_bytes_max = 4 * MIB).start().await;
    for path in [CHAT, MESSAGES] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\n\
             transfer-encoding: chunked\r\n\r\n",
            gateway.key
        );
        gateway.expect_rows(1);
        let mut client = gateway.client().await;
        client.write(head.as_bytes()).await;
        let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
        let mut sent = 0;
        // Never ends by itself: somebody has to say no.
        while sent < 64 * MIB && client.try_write(&chunk).await.is_ok() {
            sent += 0x10000;
        }
        assert!(sent < 64 * MIB, "{sent} bytes were taken");
        let row_is_there = async {
            gateway.idle().await;
            gateway.rows().await
        };
        let rows = within(row_is_there).await;
        assert_eq!(rows.last().unwrap()["error_class"], "request_too_large");
        assert_eq!(rows.last().unwrap()["status"], 413);
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn chunked_body_over_the_limit_is_answered() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway =
        Builder::new(&text).with(|config| config.data.body_bytes_max = 64 * 1024).start().await;
    for path in [CHAT, MESSAGES] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\n\
             transfer-encoding: chunked\r\n\r\n",
            gateway.key
        );
        gateway.expect_rows(1);
        let mut client = gateway.client().await;
        let body = [b"10001\r\n".as_slice(), &vec![b' '; 0x10001], b"\r\n0\r\n\r\n"].concat();
        client.write(head.as_bytes()).await;
        client.write(&body).await;
        assert_error(&client.answer().await, path, (413, "request_too_large"), "chunked");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn expected_body_of_a_bad_key_is_never_asked_for() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    for path in [CHAT, MESSAGES] {
        for bad in [key::generate().expose(), "vk_short", "sk-other"] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {bad}\r\n\
                 content-length: 100\r\nexpect: 100-continue\r\n\r\n"
            );
            let mut client = gateway.client().await;
            client.write(head.as_bytes()).await;
            // The first head is the answer itself, not `100 Continue`.
            let (status, headers) = client.head().await;
            assert_eq!(status, 401, "{headers:?}");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn expected_body_that_is_too_large_is_never_asked_for() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        gateway.key,
        33 * MIB
    );
    gateway.expect_rows(1);
    let mut client = gateway.client().await;
    client.write(head.as_bytes()).await;
    assert_eq!(client.head().await.0, 413);
    gateway.stop().await;
}

#[tokio::test]
async fn expected_body_of_a_good_key_is_asked_for_and_served() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let body = chat_body("");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        gateway.key,
        body.len()
    );
    let mut client = gateway.client().await;
    // Twice: the connection stays usable.
    for _ in 0..2 {
        gateway.expect_rows(1);
        client.write(head.as_bytes()).await;
        assert_eq!(client.head().await.0, 100);
        let answer = client.call(body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for entry in mock.wait_for(2).await {
        assert_eq!(entry.header("expect"), None);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn unknown_routes_are_not_found_in_the_callers_shape() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let key = gateway.authorization();
    for (method, path) in [
        ("POST", "/v1/chat"),
        ("POST", "/v1/messages/nowhere"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/v1/messages"),
        ("PUT", "/v1/chat/completions"),
        ("DELETE", "/v1/models/chat"),
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/workspaces"),
        ("POST", "/v1/completion/acme/production/embeddings"),
        ("POST", "/v1/completion/acme/production/anthropic/messages/x"),
    ] {
        let headers = [("authorization", key.as_str())];
        let body: &[u8] = if method == "POST" { b"{}" } else { b"" };
        let answer = gateway.client().await.call(&request(method, path, &headers, body)).await;
        assert_error(&answer, path, (404, "not_found"), path);
        let versioned = [("authorization", key.as_str()), ("anthropic-version", "2023-06-01")];
        let answer = gateway.client().await.call(&request(method, path, &versioned, body)).await;
        assert_eq!(answer.status, 404);
        let is_anthropic = path.contains("/messages")
            || path.starts_with("/v1/models")
            || !path.starts_with("/v1/");
        assert_eq!(answer.json()["type"] == "error", is_anthropic, "{path}");
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

/// Two environments and two workspaces, each with a model of its own; the key is of the first.
fn neighbours(url: &str) -> String {
    let environment = |slug: &str, alias: &str| {
        format!(
            "[[workspaces.environments]]\nslug = \"{slug}\"\n\
             [[workspaces.environments.connections]]\nname = \"own-{alias}\"\n\
             provider = \"simulated\"\nbase_url = \"{url}\"\ncredential = \"sk-{alias}\"\n\
             [[workspaces.environments.models]]\nalias = \"{alias}\"\n\
             connection = \"own-{alias}\"\nupstream_model = \"sim\"\n"
        )
    };
    document(&[(url, "sim", "")], "")
        + &environment("staging", "of-staging")
        + "[[workspaces]]\nslug = \"globex\"\n"
        + &environment("production", "of-globex")
}

#[tokio::test]
async fn models_that_are_unknown_and_models_of_others_look_the_same() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&neighbours(&mock.base_url())).start().await;
    for path in [CHAT, MESSAGES] {
        let mut seen = Vec::new();
        for model in
            ["nothing", "of-staging", "of-globex", "own-of-staging/sim", "own-of-globex/sim"]
        {
            let answer =
                gateway.post(path, &format!(r#"{{"model":"{model}","messages":[]}}"#)).await;
            assert_error(&answer, path, (404, "model_not_found"), model);
            let id = answer.header("x-request-id").unwrap();
            seen.push(answer.text().replace(model, "MODEL").replace(id, "ID"));
        }
        assert!(seen.iter().all(|text| *text == seen[0]), "{seen:#?}");
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn path_of_another_workspace_is_refused_whether_or_not_it_exists() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&neighbours(&mock.base_url())).start().await;
    for (end, path) in [("chat/completions", CHAT), ("anthropic/messages", MESSAGES)] {
        let mut seen = Vec::new();
        for place in [
            "acme/staging",
            "globex/production",
            "nobody/production",
            "acme/nothing",
            "nobody/nothing",
            "acme%2f/production",
            "../acme",
            "/production",
            "acme/Production",
        ] {
            let scoped = format!("/v1/completion/{place}/{end}");
            let answer = gateway.post(&scoped, &chat_body("")).await;
            assert_error(&answer, path, (403, "environment_mismatch"), place);
            let id = answer.header("x-request-id").unwrap();
            seen.push(answer.text().replace(id, "ID"));
        }
        assert!(seen.iter().all(|text| *text == seen[0]), "{seen:#?}");
    }
    let own = gateway.post("/v1/completion/acme/production/chat/completions", &chat_body("")).await;
    assert_eq!(own.status, 200, "{}", own.text());
    gateway.stop().await;
}

#[tokio::test]
async fn key_in_the_url_opens_nothing() {
    let (gateway, mock) = TestGateway::with_mock().await;
    for path in [CHAT, MESSAGES] {
        for name in ["key", "api_key", "api-key", "access_token", "authorization"] {
            let target = format!("{path}?{name}={}", gateway.key);
            let bytes = request("POST", &target, &[], chat_body("").as_bytes());
            let answer = gateway.client().await.call(&bytes).await;
            assert_error(&answer, path, (401, "invalid_api_key"), &target);
            assert!(!answer.text().contains(&gateway.key));
        }
        // Nor does it do harm beside a good one: it goes nowhere.
        gateway.expect_rows(1);
        let authorization = gateway.authorization();
        let headers = [("authorization", authorization.as_str())];
        let target = format!("{path}?key={}", gateway.key);
        let bytes = request("POST", &target, &headers, chat_body(r#""max_tokens":9"#).as_bytes());
        assert_eq!(gateway.client().await.call(&bytes).await.status, 200);
    }
    for entry in mock.wait_for(2).await {
        assert!(!entry.path.contains('?'), "{}", entry.path);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn refused_keys_all_get_the_same_answer() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let mut last = gateway.key.clone();
    let flipped = if last.pop() == Some('a') { 'b' } else { 'a' };
    let unknown = key::generate().expose().to_owned();
    let injected = "' OR 1=1 --";
    let long = format!("vk_{}", "a".repeat(10_000));
    for path in [CHAT, MESSAGES] {
        let mut seen = Vec::new();
        for bad in [
            format!("{last}{flipped}"),
            last.clone(),
            unknown.clone(),
            injected.to_owned(),
            long.clone(),
            format!("{} {}", gateway.key, gateway.key),
            gateway.key.to_uppercase(),
        ] {
            let value = format!("Bearer {bad}");
            let headers = [("authorization", value.as_str())];
            let bytes = request("POST", path, &headers, chat_body("").as_bytes());
            let answer = gateway.client().await.call(&bytes).await;
            assert_error(&answer, path, (401, "invalid_api_key"), &bad);
            let id = answer.header("x-request-id").unwrap();
            seen.push(answer.text().replace(id, "ID"));
        }
        assert!(seen.iter().all(|text| *text == seen[0]), "{seen:#?}");
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn destination_is_never_taken_from_a_request() {
    let elsewhere = Mock::start().await.unwrap();
    let (gateway, mock) = TestGateway::with_mock().await;
    let url = elsewhere.base_url();
    let names =
        ["api_base", "base_url", "custom_host", "endpoint", "proxy", "x-portkey-custom-host"];
    let fields: Vec<String> = names.iter().map(|name| format!(r#""{name}":"{url}""#)).collect();
    let body = chat_body(&fields.join(","));
    let authorization = gateway.authorization();
    let mut headers = vec![("authorization", authorization.as_str())];
    for name in [
        "api-base",
        "base-url",
        "x-portkey-custom-host",
        "x-portkey-config",
        "x-litellm-api-base",
        "x-base-url",
        "x-forwarded-host",
        "x-original-url",
        "x-rewrite-url",
        "forwarded",
        "destination",
    ] {
        headers.push((name, &url));
    }
    for path in [CHAT, &format!("{CHAT}?api_base={url}&base_url={url}")] {
        gateway.expect_rows(1);
        let answer =
            gateway.client().await.call(&request("POST", path, &headers, body.as_bytes())).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(mock.wait_for(2).await.len(), 2);
    assert_eq!((elsewhere.open_connections(), elsewhere.journal().len()), (0, 0));
    gateway.stop().await;
}

#[tokio::test]
async fn model_that_was_authorised_is_the_one_that_the_provider_reads() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "allowed"), target(&mock, "forbidden")], "").replace(
        r#"models = "all", deployments = "all", pin = true, ad_hoc = true"#,
        r#"models = ["m0"], deployments = "none""#,
    );
    let gateway = Builder::new(&text).start().await;
    let mut n_passed = 0;
    for body in [
        r#"{"model":"m0","Model":"m1","messages":[]}"#,
        r#"{"Model":"m1","model":"m0","MODEL":"forbidden","messages":[]}"#,
        r#"{"model":"m0","messages":[],"metadata":{"model":"forbidden"}}"#,
        r#"{"messages":[{"role":"user","content":"\"model\":\"forbidden\""}],"model":"m0"}"#,
        r#"{"model":"m\u0030","messages":[]}"#,
        r#"{"model":"m0","mode\u006c":"forbidden","messages":[]}"#,
        r#"{"model":"m0","model ":"forbidden","messages":[]}"#,
        r#"{"model":"m0","messages":[],"model":"forbidden"}"#,
        r#"{"model":"m0\u0000","messages":[]}"#,
        r#"{"model":"forbidden","messages":[]}"#,
        r#"{"model":"m1","messages":[]}"#,
        r#"{"model":"c1/forbidden","messages":[]}"#,
        r#"{"model":"M0","messages":[]}"#,
    ] {
        let answer = gateway.post(CHAT, body).await;
        match answer.status {
            200 => n_passed += 1,
            400 | 404 => {}
            status => panic!("{status} for {body}"),
        }
    }
    assert_eq!(n_passed, 6, "what is unambiguous passes");
    for entry in mock.wait_for(n_passed).await {
        let read: Value = serde_json::from_slice(&entry.body).unwrap();
        assert_eq!(read["model"], "allowed", "{}", String::from_utf8_lossy(&entry.body));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn odd_names_do_not_break_out_of_an_answer() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    for model in [
        r"a\r\n\r\ndata: {}",
        r#"\"}}, \"x\": {"#,
        r"\u2028\u2029\u0000\u001b[31m",
        r"</script><b>",
        r"\ud83d\ude00",
    ] {
        for path in [CHAT, MESSAGES] {
            let answer =
                gateway.post(path, &format!(r#"{{"model":"{model}","messages":[]}}"#)).await;
            assert_error(&answer, path, (404, "model_not_found"), model);
            let decoded: String = serde_json::from_str(&format!("\"{model}\"")).unwrap();
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(&decoded), "{message:?}");
            assert!(answer.body.iter().all(|byte| !byte.is_ascii_control()), "{}", answer.text());
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn broken_stream_says_so_in_exactly_one_event_of_its_own() {
    let mock = Mock::start().await.unwrap();
    // The provider's id could carry anything that a header can.
    mock.set_default(
        serde_json::from_str(
            r#"{"cut_at_event":2,"headers":[["x-request-id","a data: {} event: b"]]}"#,
        )
        .unwrap(),
    );
    let gateway = TestGateway::start(&[target(&mock, "sim")]).await;
    let answer = gateway.chat(r#""stream":true"#).await;
    assert_eq!(answer.end, End::Cut);
    let events = answer.events();
    let errors: Vec<Value> = events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .filter(|event| event.get("error").is_some())
        .collect();
    assert_eq!(errors.len(), 1, "{events:?}");
    assert!(events.last().unwrap().contains("error"));
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_listening_is_a_502_without_an_address() {
    let address = closed();
    let gateway =
        Builder::new(&document(&[(&format!("http://{address}/v1"), "sim", "")], "")).start().await;
    for path in [CHAT, MESSAGES] {
        let answer = gateway.post(path, &chat_body("")).await;
        assert_eq!(answer.status, 502);
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
        assert!(!answer.text().contains(&address.port().to_string()), "{}", answer.text());
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    gateway.stop().await;
}
