//! Secrets that must be nowhere, and headers that must not pass.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use loadtest::mock::Mock;
use sluice::key;

use crate::binary::sluice;
use crate::client::{Client, request, within};
use crate::harness::{ADMIN_TOKEN, Builder, TestGateway, chat_body, deployment, document, target};

const CHAT: &str = "/v1/chat/completions";

/// The program itself, with its log in a file.
pub(crate) struct Process {
    child: Option<Child>,
    dir: tempfile::TempDir,
    data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Process {
    pub(crate) async fn start(resources: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("resources.toml"), resources).unwrap();
        let config = format!(
            "resources = \"{}\"\n[data]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[usage]\nurl = \"sqlite://{}\"\n\
             batch_interval_ms = 50\n[upstream]\nallow_networks = [\"127.0.0.0/8\"]\n\
             [telemetry]\nlog = \"trace\"\n[drain]\ndelay_s = 0\n",
            path("resources.toml").display(),
            path("usage.db").display(),
        );
        std::fs::write(path("sluice.toml"), config).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let config = path("sluice.toml");
        let mut child = sluice(dir.path(), &["serve", "--config", config.to_str().unwrap()])
            .env("KEY", key)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let announced = tokio::task::spawn_blocking(move || addresses(stdout));
        let (data, admin) = within(announced).await.unwrap();
        Self { child: Some(child), dir, data, admin }
    }

    pub(crate) async fn call(&self, bytes: &[u8]) -> Option<crate::client::Answer> {
        let mut client = Client::connect(self.data).await;
        drop(client.try_write(bytes).await);
        client.next_answer().await
    }

    async fn admin_call(&self, path: &str, token: &str) -> Vec<u8> {
        let authorization = format!("Bearer {token}");
        let bytes = request("GET", path, &[("authorization", &authorization)], b"");
        let answer = Client::connect(self.admin).await.call(&bytes).await;
        [format!("{:?}", answer.headers).into_bytes(), answer.body].concat()
    }

    /// Lets it end in peace, and returns everything it has written.
    pub(crate) async fn end(mut self) -> Vec<(String, Vec<u8>)> {
        let mut child = self.child.take().unwrap();
        let id = child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        let ended = tokio::task::spawn_blocking(move || child.wait());
        assert!(within(ended).await.unwrap().unwrap().success());
        let mut written = Vec::new();
        files(self.dir.path(), &mut written);
        // What the operator wrote, and the one file that is a secret.
        let own = ["resources.toml", "sluice.toml", "master.key"];
        written
            .into_iter()
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
            .filter(|(name, _)| !own.contains(&name.as_str()))
            .map(|(name, path)| (name, std::fs::read(path).unwrap()))
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
        }
    }
}

/// Every file in a folder, however deep.
fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else {
            all.push(path);
        }
    }
}

/// The addresses that the program announces.
fn addresses(stdout: impl Read) -> (SocketAddr, SocketAddr) {
    let (mut data, mut admin) = (None, None);
    for line in BufReader::new(stdout).lines() {
        let line = line.unwrap();
        let find = |prefix: &str| line.strip_prefix(prefix)?.trim().parse().ok();
        data = data.or_else(|| find("data plane:"));
        admin = admin.or_else(|| find("admin plane:"));
        if let (Some(data), Some(admin)) = (data, admin) {
            return (data, admin);
        }
    }
    panic!("the program ended before it had said where it listens");
}

pub(crate) fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Requests of every kind, with a secret wherever one can be put.
fn requests(key: &str, unknown: &str, own: &str) -> Vec<Vec<u8>> {
    let bearer = format!("Bearer {key}");
    let of_unknown = format!("Bearer {unknown}");
    let of_own = format!("Bearer {own}");
    let basic = format!("Basic {own}");
    let in_query = format!("{CHAT}?key={own}&api_key={key}");
    let cookie = format!("session={own}");
    let mut all = Vec::new();
    for path in [CHAT, "/v1/messages", "/v1/responses", "/v1/embeddings", &in_query] {
        for model in ["m0", "m1", "m2", "m3", "chat", "nothing"] {
            for stream in ["true", "false"] {
                let body = format!(
                    r#"{{"model":"{model}","stream":{stream},"max_tokens":9,"input":"a","messages":[]}}"#
                );
                let headers = [("authorization", bearer.as_str()), ("cookie", &cookie)];
                all.push(request("POST", path, &headers, body.as_bytes()));
            }
        }
        for (name, value) in [
            ("authorization", &of_unknown),
            ("authorization", &of_own),
            ("authorization", &basic),
            ("x-api-key", &unknown.to_owned()),
            ("api-key", &own.to_owned()),
            ("x-goog-api-key", &own.to_owned()),
        ] {
            all.push(request("POST", path, &[(name, value)], b"{}"));
        }
        // Heads that are refused before they are requests.
        let both = [("authorization", bearer.as_str()), ("transfer-encoding", "chunked")];
        all.push(request("POST", path, &both, b"{}"));
        let underscore = [("x_secret", own), ("authorization", &bearer)];
        all.push(request("POST", path, &underscore, b"{}"));
        all.push(request("POST", path, &[("authorization", &bearer)], own.as_bytes()));
    }
    all.push(request("GET", &format!("/v1/models?key={own}"), &[("x-api-key", key)], b""));
    all.push(request("GET", &format!("/nowhere?token={own}"), &[("x-api-key", own)], b""));
    all.push(request("GET", "/v1/responses/resp_none", &[("x-api-key", key)], b""));
    all.push(format!("{own} {key}\r\n\r\n").into_bytes());
    all
}

#[tokio::test]
async fn secrets_are_in_no_log_answer_metric_or_file() {
    let mock = Mock::start().await.unwrap();
    let url = mock.base_url();
    let closed = format!("http://{}/v1", crate::harness::closed());
    let text = document(
        &[
            (&url, "sim", ""),
            (&url, "sim?status=401", ""),
            (&url, "sim?cut_at_event=1", ""),
            (&closed, "sim", ""),
        ],
        "",
    );
    let key = key::generate().expose().to_owned();
    let unknown = key::generate().expose().to_owned();
    let own = "sk-canary-5f1b7c0e9d3a4e61b2";
    let bad_token = "at_canary_0000000000000000000000000000000000000000";
    let process = Process::start(&text, &key).await;
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    let mut statuses = BTreeSet::new();
    for bytes in requests(&key, &unknown, own) {
        if let Some(answer) = process.call(&bytes).await {
            statuses.insert(answer.status);
            let headers = format!("{:?}", answer.headers).into_bytes();
            seen.push(("an answer".to_owned(), [headers, answer.body].concat()));
        }
    }
    assert!(
        [200, 400, 401, 404, 502].iter().all(|status| statuses.contains(status)),
        "the mixture is too thin: {statuses:?}"
    );
    for path in
        ["/metrics", "/healthz", "/readyz", "/api/v1/requests", "/nowhere", "/metrics?token=x"]
    {
        for token in [ADMIN_TOKEN, bad_token, &key] {
            seen.push((format!("admin {path}"), process.admin_call(path, token).await));
        }
    }
    seen.extend(process.end().await);
    let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"usage.db") && names.contains(&"log"), "{names:?}");
    let log = seen.iter().find(|(name, _)| name == "log").unwrap();
    assert!(10 < log.1.split(|byte| *byte == b'\n').count(), "the log says nothing");

    for secret in [
        key.as_str(),
        &unknown,
        own,
        bad_token,
        ADMIN_TOKEN,
        "sk-provider-credential-0",
        "sk-provider-credential-1",
        "sk-provider-credential-2",
        "sk-provider-credential-3",
    ] {
        // Of a secret, not even the part without its prefix and checksum.
        let core = secret.get(6..secret.len() - 6).unwrap();
        for (name, bytes) in &seen {
            assert!(!contains(bytes, core), "{secret} in {name}");
        }
    }
    // The providers got their credentials, and nothing of the callers'.
    for entry in mock.journal() {
        let text = format!("{:?} {}", entry.headers, entry.path);
        assert!(text.contains("sk-provider-credential-"), "{text}");
        assert!(!text.contains(&key) && !text.contains(own), "{text}");
    }
}

/// Headers that a client may send besides its key.
const EVERYTHING: &[(&str, &str)] = &[
    ("x-api-key", "sk-own"),
    ("api-key", "sk-own"),
    ("x-goog-api-key", "sk-own"),
    ("proxy-authorization", "Basic abc"),
    ("cookie", "a=b"),
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, br"),
    ("accept-language", "en"),
    ("user-agent", "App/1"),
    ("referer", "http://a/"),
    ("origin", "http://a"),
    ("connection", "keep-alive, x-nominated"),
    ("x-nominated", "a"),
    ("keep-alive", "timeout=5"),
    ("te", "trailers"),
    ("trailer", "x-t"),
    ("x-forwarded-for", "1.2.3.4"),
    ("x-forwarded-host", "evil.test"),
    ("x-forwarded-proto", "https"),
    ("x-real-ip", "1.2.3.4"),
    ("forwarded", "for=1.2.3.4"),
    ("via", "1.1 a"),
    ("x-request-id", "mine"),
    ("x-client-request-id", "mine-too"),
    ("x-sluice-end-user", "u"),
    ("x-sluice-correlation-id", "c"),
    ("x-sluice-metadata-a", "b"),
    ("x-sluice-cache", "no-store"),
    ("openai-organization", "org"),
    ("openai-beta", "assistants=v2"),
    ("anthropic-beta", "a"),
    ("idempotency-key", "k"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("tracestate", "a=b"),
    ("x-stainless-lang", "python"),
    ("if-none-match", "a"),
    ("range", "bytes=0-1"),
    ("upgrade-insecure-requests", "1"),
    ("x-anything", "a"),
];

#[tokio::test]
async fn provider_receives_the_listed_headers_and_no_other() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let authorization = gateway.authorization();
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend(EVERYTHING);
    for (body, accept_encoding) in
        [(chat_body(""), "gzip, br"), (chat_body(r#""stream":true"#), "identity")]
    {
        mock.clear_journal();
        gateway.expect_rows(1);
        let bytes = request("POST", CHAT, &headers, body.as_bytes());
        assert_eq!(gateway.client().await.call(&bytes).await.status, 200);
        let entry = mock.wait_for(1).await.remove(0);
        let names: BTreeSet<&str> = entry.headers.iter().map(|(name, _)| name.as_str()).collect();
        let expected = BTreeSet::from([
            "accept",
            "accept-encoding",
            "anthropic-beta",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "idempotency-key",
            "openai-beta",
            "openai-organization",
            "traceparent",
            "tracestate",
            "user-agent",
            "x-client-request-id",
        ]);
        assert_eq!(names, expected);
        assert_eq!(names.len(), entry.headers.len(), "each comes once: {:?}", entry.headers);
        assert_eq!(entry.header("authorization"), Some("Bearer sk-provider-credential-0"));
        assert_eq!(entry.header("accept-encoding"), Some(accept_encoding));
        assert_eq!(entry.header("host"), Some(mock.addr().to_string().as_str()));
        assert!(entry.header("user-agent").unwrap().starts_with("App/1 sluice/"));
        assert_eq!(entry.path, CHAT);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn client_receives_nothing_of_the_providers_own_business() {
    let mock = Mock::start().await.unwrap();
    mock.set_default(
        serde_json::from_str(
            r#"{"headers":[
                ["set-cookie","a=b"],["server","provider"],["via","1.1 p"],["x-powered-by","p"],
                ["alt-svc","h3"],["connection","keep-alive, x-nominated"],["x-nominated","a"],
                ["keep-alive","timeout=5"],["proxy-authenticate","Basic"],["trailer","x-t"],
                ["upgrade","h2c"],["strict-transport-security","a"],["cf-ray","a"],
                ["access-control-allow-origin","*"],["x-sluice-deployment","forged"],
                ["x-sluice-attempts","9"],["x-should-retry","true"],
                ["x-upstream-request-id","forged"],["openai-processing-ms","5"],
                ["x-ratelimit-limit-requests","60"],["x-custom","a"]]}"#,
        )
        .unwrap(),
    );
    let gateway = Builder::new(&deployment(&[target(&mock, "sim")], "")).start().await;
    for fields in ["", r#""stream":true"#] {
        let answer = gateway.chat(fields).await;
        assert_eq!(answer.status, 200);
        let names: BTreeSet<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
        let framing = if fields.is_empty() { "content-length" } else { "transfer-encoding" };
        let mut expected = BTreeSet::from([
            "connection",
            "content-type",
            "date",
            framing,
            "openai-processing-ms",
            "x-custom",
            "x-ratelimit-limit-requests",
            "x-request-id",
            "x-sluice-attempts",
            "x-sluice-cache",
            "x-sluice-deployment",
            "x-sluice-model",
            "x-sluice-provider",
            "x-upstream-request-id",
        ]);
        if !fields.is_empty() {
            expected.insert("cache-control"); // The provider's own.
        }
        assert_eq!(names, expected);
        assert_eq!(names.len(), answer.headers.len(), "each comes once: {:?}", answer.headers);
        // The provider's ids begin so.
        assert!(answer.header("x-upstream-request-id").unwrap().starts_with("req_"));
        assert!(!answer.header("x-request-id").unwrap().starts_with("req_"));
        assert_eq!(answer.header("x-sluice-deployment"), Some("chat"));
        assert_eq!(answer.header("x-sluice-attempts"), Some("1"));
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    gateway.stop().await;
}
