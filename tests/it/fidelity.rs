//! Request bytes: what leaves is what came, but for the named splices.

use std::cell::RefCell;

use loadtest::mock::{Entry, Mock, fnv1a};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::client::{Client, request, within};
use crate::documents::{object, space, unknown_members, value};
use crate::harness::{Builder, TestGateway, deployment, target};

const INCLUDE_USAGE: &str = "\"stream_options\":{\"include_usage\":true}";

/// Calls at one gateway, over one connection.
struct Rig {
    gateway: TestGateway,
    mock: Mock,
    client: RefCell<Option<Client>>,
}

/// A gateway whose model `m0` is called `sim` upstream, and `sim` is called `sim`.
async fn rig() -> Rig {
    let mock = Mock::start().await.unwrap();
    let own = "[[workspaces.environments.models]]\nalias = \"sim\"\nconnection = \"c0\"\n";
    let text = format!("{}{own}", deployment(&[target(&mock, "sim")], ""));
    let gateway = Builder::new(&text).start().await;
    Rig { gateway, mock, client: RefCell::default() }
}

impl Rig {
    /// Posts `body`, and returns what the provider received.
    async fn received(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Entry {
        self.mock.clear_journal();
        let authorization = self.gateway.authorization();
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        let kept = self.client.borrow_mut().take();
        let mut client = match kept {
            Some(client) => client,
            None => self.gateway.client().await,
        };
        self.gateway.expect_rows(1);
        let answer = client.call(&request("POST", path, &all, body)).await;
        assert_eq!(answer.status, 200, "{}: {}", answer.text(), String::from_utf8_lossy(body));
        *self.client.borrow_mut() = Some(client);
        within(self.mock.wait_for(1)).await.remove(0)
    }

    async fn received_json(&self, path: &str, body: &str) -> String {
        let headers = [("content-type", "application/json")];
        let entry = self.received(path, &headers, body.as_bytes()).await;
        String::from_utf8(entry.body.to_vec()).unwrap()
    }

    /// Runs `check` for many random cases.
    fn for_all<S: Strategy>(
        &self,
        cases: u32,
        strategy: &S,
        check: &impl AsyncFn(&Self, S::Value) -> Result<(), TestCaseError>,
    ) {
        let mut runner =
            TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let run = |case| block_in_place(|| Handle::current().block_on(check(self, case)));
        runner.run(strategy, run).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// A body with these members and random others in any order, as it is and with `model` replaced.
fn body_of(model: &'static str, fixed: Vec<String>) -> impl Strategy<Value = (String, String)> {
    (unknown_members(), (space(), space(), space()), any::<u64>()).prop_map(
        move |(mut members, (before, left, after), seed)| {
            members.extend(fixed.iter().cloned());
            let at = usize::try_from(seed % (members.len() as u64 + 1)).unwrap();
            members.rotate_left(at / 2);
            let with = |model: &str| {
                let mut members = members.clone();
                members.insert(at, format!("\"model\"{left}:{after}\"{model}\""));
                format!("{before}{}{after}", object(&members))
            };
            (with(model), with("sim"))
        },
    )
}

fn messages() -> String {
    r#""messages": [ {"role":"user","content":"h\u0069 there"} ]"#.to_owned()
}

const PLAIN: [(&str, &str); 4] = [
    ("/v1/chat/completions", r#""messages": [ {"role":"user","content":"h\u0069 there"} ]"#),
    ("/v1/responses", r#""input" : "hi""#),
    (
        "/v1/messages",
        r#""max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}]"#,
    ),
    ("/v1/embeddings", r#""input":["a", "b"]"#),
];

#[tokio::test(flavor = "multi_thread")]
async fn body_with_the_upstreams_model_name_leaves_as_it_came() {
    let rig = rig().await;
    for (path, fixed) in PLAIN {
        let bodies = body_of("sim", vec![fixed.to_owned()]);
        rig.for_all(40, &bodies, &async |rig, (body, _)| {
            let headers = [("content-type", "application/json")];
            let entry = rig.received(path, &headers, body.as_bytes()).await;
            prop_assert_eq!(entry.body_fnv, fnv1a(body.as_bytes()), "{}", body);
            prop_assert_eq!(entry.body_bytes, body.len() as u64);
            Ok(())
        });
    }
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_value_of_model_is_replaced() {
    let rig = rig().await;
    for (path, fixed) in PLAIN {
        let bodies = body_of("m0", vec![fixed.to_owned()]);
        rig.for_all(40, &bodies, &async |rig, (body, expected)| {
            prop_assert_eq!(rig.received_json(path, &body).await, expected);
            Ok(())
        });
    }
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streamed_chat_gains_include_usage_and_nothing_else() {
    let rig = rig().await;
    let bodies = body_of("m0", vec![messages(), "\"stream\" : true".to_owned()]);
    rig.for_all(60, &bodies, &async |rig, (body, expected)| {
        let received = rig.received_json("/v1/chat/completions", &body).await;
        prop_assert_eq!(received.matches(INCLUDE_USAGE).count(), 1, "{}", received);
        let without = [format!("{INCLUDE_USAGE},"), format!(",{INCLUDE_USAGE}")]
            .map(|inserted| received.replacen(&inserted, "", 1));
        prop_assert!(without.contains(&expected), "{} is not {}", received, expected);
        let parsed = serde_json::from_str::<serde_json::Value>(&received);
        prop_assert!(parsed.is_ok(), "{}", received);
        Ok(())
    });
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sluice_field_is_cut_and_nothing_else() {
    let rig = rig().await;
    let ours = r#""sluice":{"correlation_id":"c","metadata":{"a":"b"}}"#.to_owned();
    let bodies = (body_of("sim", vec![messages()]), any::<prop::sample::Index>());
    rig.for_all(60, &bodies, &async |rig, ((body, _), at)| {
        // After `{` or before `}`, with a comma of its own.
        let (start, end) = (body.find('{').unwrap() + 1, body.rfind('}').unwrap());
        let mut with = body.clone();
        if at.index(2) == 0 {
            with.insert_str(start, &format!("{ours},"));
        } else {
            with.insert_str(end, &format!(",{ours}"));
        }
        prop_assert_eq!(rig.received_json("/v1/chat/completions", &with).await, body);
        Ok(())
    });
    let rows = rig.gateway.rows().await;
    assert!(rows.iter().all(|row| row["correlation_id"] == "c" && row["metadata"]["a"] == "b"));
    rig.gateway.stop().await;
}

#[tokio::test]
async fn each_way_to_say_stream_options_has_its_splice() {
    let rig = rig().await;
    let head = r#"{"model":"sim","messages":[],"stream":true"#;
    for (said, leaves) in [
        (r#","stream_options":null}"#, r#","stream_options":{"include_usage":true}}"#),
        (r#","stream_options":{}}"#, r#","stream_options":{"include_usage":true}}"#),
        (r#","stream_options":{ }}"#, r#","stream_options":{"include_usage":true }}"#),
        (
            r#","stream_options":{"include_obfuscation":false}}"#,
            r#","stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
        ),
        (
            r#","stream_options":{"include_usage":null}}"#,
            r#","stream_options":{"include_usage":true}}"#,
        ),
        // The client has said what it wants.
        (
            r#","stream_options":{"include_usage":false}}"#,
            r#","stream_options":{"include_usage":false}}"#,
        ),
        (
            r#","stream_options":{"include_usage":true}}"#,
            r#","stream_options":{"include_usage":true}}"#,
        ),
    ] {
        let received = rig.received_json("/v1/chat/completions", &format!("{head}{said}")).await;
        assert_eq!(received, format!("{head}{leaves}"));
    }
    for (path, body) in [
        ("/v1/chat/completions", r#"{"model":"sim","messages":[],"stream":false}"#),
        ("/v1/chat/completions", r#"{"model":"sim","messages":[],"stream":null}"#),
        ("/v1/responses", r#"{"model":"sim","input":"x","stream":true}"#),
        ("/v1/messages", r#"{"model":"sim","max_tokens":5,"messages":[],"stream":true}"#),
    ] {
        assert_eq!(rig.received_json(path, body).await, body);
    }
    rig.gateway.stop().await;
}

#[tokio::test]
async fn forms_keep_their_bytes_but_for_the_model() {
    let rig = rig().await;
    let file: Vec<u8> = (0..=255_u8).cycle().take(100_000).collect();
    let form = |model: &str| {
        let head = "--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".wav\"\r\n\
             Content-Type: audio/wav\r\n\r\n";
        let rest = format!(
            "\r\n--XyZ\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--XyZ\r\n\
             Content-Disposition: form-data; name=\"prompt\"\r\n\r\nmodel=m0 \u{e9}\r\n--XyZ--\r\n"
        );
        [head.as_bytes(), &file, rest.as_bytes()].concat()
    };
    let headers = [("content-type", "multipart/form-data; boundary=XyZ")];
    for path in [
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/images/edits",
        "/v1/images/variations",
    ] {
        for model in ["m0", "sim"] {
            let entry = rig.received(path, &headers, &form(model)).await;
            assert_eq!(entry.body_fnv, fnv1a(&form("sim")), "{path} {model}");
            assert_eq!(entry.header("content-type"), Some("multipart/form-data; boundary=XyZ"));
        }
    }
    rig.gateway.stop().await;
}

#[tokio::test]
async fn large_and_chunked_bodies_arrive_whole() {
    let rig = rig().await;
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"{}"}}],"model":"sim"}}"#,
        "0123456789abcdef".repeat(5 * 64 * 1024)
    );
    let headers = [("content-type", "application/json")];
    let entry = rig.received("/v1/chat/completions", &headers, body.as_bytes()).await;
    assert_eq!((entry.body_bytes, entry.body_fnv), (body.len() as u64, fnv1a(body.as_bytes())));

    rig.mock.clear_journal();
    rig.gateway.expect_rows(1);
    let mut client = rig.gateway.client().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: {}\r\n\
         transfer-encoding: chunked\r\n\r\n",
        rig.gateway.authorization()
    );
    client.write(head.as_bytes()).await;
    for part in body.as_bytes().chunks(99_991) {
        let chunk = [format!("{:X}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        client.write(&chunk).await;
    }
    client.write(b"0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    let entry = &within(rig.mock.wait_for(1)).await[0];
    assert_eq!((entry.body_bytes, entry.body_fnv), (body.len() as u64, fnv1a(body.as_bytes())));
    assert_eq!(entry.header("content-length"), Some(&*body.len().to_string()));
    assert!(!entry.is_chunked);
    rig.gateway.stop().await;
}

#[tokio::test]
async fn only_listed_request_headers_leave() {
    let rig = rig().await;
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("x-api-key", "sk-somebody"),
        ("cookie", "session=1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-sluice-end-user", "ann"),
        ("x-request-id", "mine"),
        ("openai-organization", "org-1"),
        ("anthropic-beta", "a,b"),
        ("idempotency-key", "i-1"),
        ("user-agent", "OpenAI/Python 2"),
        ("accept", "application/json"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let entry = rig.received("/v1/chat/completions", &headers, PLAIN_CHAT.as_bytes()).await;
    let mut names: Vec<&str> = entry.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "anthropic-beta",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "idempotency-key",
            "openai-organization",
            "traceparent",
            "user-agent",
        ]
    );
    assert_eq!(entry.header("authorization"), Some("Bearer sk-provider-credential-0"));
    assert_eq!(entry.header("content-type"), Some("application/json; charset=utf-8"));
    assert!(entry.header("user-agent").unwrap().starts_with("OpenAI/Python 2 sluice/"));
    let parent = entry.header("traceparent").unwrap();
    assert!(
        parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
            && !parent.contains("00f067aa0ba902b7")
    );
    assert_eq!(rig.gateway.row().await["client_request_id"], "mine");
    rig.gateway.stop().await;
}

const PLAIN_CHAT: &str = r#"{"model":"sim","messages":[]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn random_documents_that_are_no_object_are_refused_and_never_sent() {
    let rig = rig().await;
    let not_objects = value().prop_filter("an object may be fine", |text| !text.starts_with('{'));
    rig.for_all(40, &not_objects, &async |rig, body| {
        let answer = rig.gateway.post("/v1/chat/completions", &body).await;
        prop_assert_eq!((answer.status, answer.code()), (400, "invalid_json".to_owned()));
        Ok(())
    });
    assert!(rig.mock.journal().is_empty());
    let twice = object(&["\"model\":\"sim\"".to_owned(), "\"model\":\"sim\"".to_owned()]);
    let escaped = r#"{"m\u006fdel":"sim","messages":[]}"#;
    for body in [twice.as_str(), escaped] {
        let answer = rig.gateway.post("/v1/chat/completions", body).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".to_owned()));
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    assert!(rig.mock.journal().is_empty());
    rig.gateway.stop().await;
}
