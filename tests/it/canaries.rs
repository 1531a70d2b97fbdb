//! Nine kinds of secrets, given wherever one can be given to the admin API and the data plane: afterwards
//! none is in a log, an answer, a metric, a row, an event, an export or a file.

use serde_json::{Value, json};
use sluice::key;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::client::{Answer, Client, request};
use crate::harness::ADMIN_TOKEN;
use crate::leaks::{Process, contains};

const ENVIRONMENT: &str = "/workspaces/acme/environments/production";
const CREDENTIAL: &str = "canary-credential/51c3+9a7e=0b";
const PASSTHROUGH: &str = "sk-canary-own-7b20c4f81de94a";
const PASSWORD: &str = "canary password 8e4f 1a6c 33d0";

/// A run, and everything that was answered in it.
struct Run {
    process: Process,
    seen: Vec<(String, Vec<u8>)>,
}

impl Run {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let path = format!("/api/v1{path}");
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        let request = request(method, &path, &all, body.as_bytes());
        Client::connect(self.process.admin).await.call(&request).await
    }

    /// A call whose answer must show no secret.
    async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> u16 {
        let answer = self.ask(method, path, headers, body).await;
        let bytes = [format!("{:?}", answer.headers).into_bytes(), answer.body].concat();
        self.seen.push((format!("the answer to {method} {path}"), bytes));
        answer.status
    }

    /// A call of the operator whose answer shows a secret, once.
    async fn made(&self, path: &str, body: &Value) -> Value {
        let authorization = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("authorization", authorization.as_str())];
        let answer = self.ask("POST", path, &headers, &body.to_string()).await;
        assert!([200, 201].contains(&answer.status), "{path}: {}", answer.text());
        answer.json()
    }
}

/// Refuses every request with an error that quotes its whole head.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 8192];
            let n = stream.read(&mut head).await.unwrap();
            let text = String::from_utf8_lossy(&head[..n]).into_owned();
            let body = json!({ "error": { "message": text } }).to_string();
            let head = format!("HTTP/1.1 401 No\r\ncontent-length: {}\r\n\r\n", body.len());
            drop(stream.write_all((head + &body).as_bytes()).await);
        }
    });
    url
}

/// Where secrets are given: a route, and its field.
const FIELDS: [(&str, &str, &str); 7] = [
    ("POST", "/workspaces/acme/environments/production/connections", "credential"),
    ("PATCH", "/workspaces/acme/environments/production/connections/main", "credential"),
    ("PUT", "/workspaces/acme/environments/production/connections/own", "credential"),
    ("POST", "/workspaces/acme/environments/production/keys", "secret"),
    ("POST", "/users", "password"),
    ("POST", "/auth/accept-invite", "token"),
    ("POST", "/apply?dry_run=true", "credential"),
];

/// Bodies with a secret in a field, in each wrong way, so that none is taken.
fn bodies(field: &str, secret: &str) -> Vec<String> {
    let mut all = Vec::new();
    for value in
        [json!(secret), json!([secret]), json!({ "a": secret }), json!(format!("{secret}\n"))]
    {
        all.push(json!({ field: value, "name": "x", "unknown": 1 }).to_string());
        all.push(json!({ field: value, "name": 7 }).to_string());
    }
    // Cut off, doubled, of another kind, and nothing but the secret.
    all.push(format!("{{\"{field}\": \"{secret}\", "));
    all.push(format!("{{\"{field}\": \"{secret}\", \"{field}\": \"{secret}\"}}"));
    all.push(format!("[{{\"{field}\": \"{secret}\"}}]"));
    all.push(secret.to_owned());
    for url in [
        format!("https://u:{secret}@api.example/v1"),
        format!("https://api.example/v1?key={secret}"),
    ] {
        all.push(json!({ "name": "x", "provider": "openai", "base_url": url }).to_string());
    }
    all
}

async fn plant(run: &mut Run, secrets: &[&str]) {
    let operator = format!("Bearer {ADMIN_TOKEN}");
    let operator = [("authorization", operator.as_str())];
    for secret in secrets {
        for (method, path, field) in FIELDS {
            for body in bodies(field, secret) {
                run.call(method, path, &operator, &body).await;
            }
        }
        let document = json!({ "workspaces": [{ "slug": "other", "environments": [{ "slug": "production",
            "connections": [{ "name": "c", "provider": "openai", "credential": secret }],
            "keys": [{ "name": "k", "secret": secret }, { "nome": "k", "secret": secret }] }] }] });
        for path in ["/apply", "/workspaces/import"] {
            run.call("POST", path, &operator, &document.to_string()).await;
        }
        for (name, value) in [
            ("authorization", format!("Bearer {secret}")),
            ("authorization", format!("Basic {secret}")),
            ("cookie", format!("sluice_session={secret}; sluice_sign_on={secret}")),
            ("x-csrf-token", (*secret).to_owned()),
            ("x-api-key", (*secret).to_owned()),
        ] {
            run.call("GET", "/auth/me", &[(name, &value)], "").await;
            run.call("POST", "/workspaces", &[(name, &value)], "{}").await;
        }
        let code = secret.replace([' ', '+', '/', '='], "-");
        run.call("GET", &format!("/auth/oidc/callback?code={code}&state={code}"), &[], "").await;
    }
}

async fn data_plane(run: &mut Run, key: &str, old: &str) {
    let bearer = format!("Bearer {PASSTHROUGH}");
    for (secret, model) in [(key, "m"), (key, "own"), (key, "none"), (old, "m")] {
        let text = format!("keep {key} and {PASSTHROUGH} to yourself");
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": text }] });
        for stream in [false, true] {
            let mut body = body.clone();
            body["stream"] = json!(stream);
            let headers = [
                ("x-api-key", secret),
                ("authorization", bearer.as_str()),
                ("content-type", "application/json"),
            ];
            let request =
                request("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes());
            let answer = run.process.call(&request).await.unwrap();
            // The provider of `own` quotes the head: the caller's own key goes to the caller alone.
            if model == "m" {
                run.seen.push((format!("an answer of {model}"), answer.body));
            }
        }
    }
}

async fn look_around(run: &mut Run) {
    let operator = format!("Bearer {ADMIN_TOKEN}");
    let operator = [("authorization", operator.as_str())];
    let mut paths: Vec<String> = ["connections", "keys", "models", "deployments"]
        .iter()
        .map(|list| format!("{ENVIRONMENT}/{list}"))
        .collect();
    let others = [
        "/users",
        "/admin-tokens",
        "/audit-events?limit=1000",
        "/audit-events/export",
        "/audit-events/verify",
        "/export",
        "/workspaces/acme/export",
        "/workspaces/acme/members",
        "/requests?limit=1000",
        "/requests/export",
        "/connections",
        "/auth/me",
    ];
    paths.extend(others.map(str::to_owned));
    paths.push(format!("{ENVIRONMENT}/connections/echo/models"));
    for path in paths {
        let status = run.call("GET", &path, &operator, "").await;
        assert!([200, 502].contains(&status), "{path}: {status}");
    }
    for name in ["main", "echo"] {
        let path = format!("{ENVIRONMENT}/connections/{name}/test");
        assert_eq!(run.call("POST", &path, &operator, "{}").await, 200);
    }
    let metrics = request("GET", "/metrics", &[], b"");
    let metrics = Client::connect(run.process.admin).await.call(&metrics).await;
    run.seen.push(("the metrics".to_owned(), metrics.body));
}

/// A workspace with a provider, one that quotes what it gets, and one for the callers' own keys.
async fn furnish(run: &Run, provider: &str) {
    let workspace = json!({ "slug": "acme", "settings": { "payload_logging": "full" } });
    run.made("/workspaces", &workspace).await;
    let connections = [
        json!({ "name": "main", "provider": "simulated", "base_url": provider,
            "credential": CREDENTIAL }),
        json!({ "name": "echo", "provider": "openai", "base_url": echo().await,
            "credential": CREDENTIAL }),
        json!({ "name": "own", "provider": "openai", "base_url": echo().await,
            "auth": "passthrough" }),
    ];
    for connection in connections {
        run.made(&format!("{ENVIRONMENT}/connections"), &connection).await;
    }
    for (alias, connection) in [("m", "main"), ("own", "own")] {
        let model = json!({ "alias": alias, "connection": connection, "upstream_model": "sim" });
        run.made(&format!("{ENVIRONMENT}/models"), &model).await;
    }
}

/// Makes what is shown once: the old and the new secret of a key, a token, an invitation, the token and
/// the cookie of a session.
async fn shown_once(run: &Run) -> [String; 6] {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let made = run.made(&format!("{ENVIRONMENT}/keys"), &json!({ "name": "app" })).await;
    let rotate = format!("{ENVIRONMENT}/keys/app/rotate");
    let rotated = run.made(&rotate, &json!({ "grace_s": 600 })).await;
    let token = run.made("/admin-tokens", &json!({ "name": "ci" })).await;
    let invited = run.made("/users", &json!({ "email": "ada@example.org" })).await;
    let user = json!({ "email": "bob@example.org", "password": PASSWORD });
    run.made("/users", &user).await;
    let login = run.ask("POST", "/auth/login", &[], &user.to_string()).await;
    let cookie = login.header("set-cookie").unwrap().split(['=', ';']).nth(1).unwrap();
    [
        text(&made["secret"]),
        text(&rotated["secret"]),
        text(&token["token"]),
        text(&invited["invite_token"]),
        text(&login.json()["csrf_token"]),
        cookie.to_owned(),
    ]
}

#[tokio::test]
async fn no_secret_is_found_anywhere_after_a_broad_run() {
    let mock = loadtest::mock::Mock::start().await.unwrap();
    let document_key = key::generate().expose().to_owned();
    let boot = "[[workspaces]]\nslug = \"boot\"\n[[workspaces.environments]]\nslug = \"production\"\n\
                [[workspaces.environments.keys]]\nname = \"app\"\nsecret = \"${KEY}\"\n";
    let process = Process::start(boot, &document_key).await;
    let mut run = Run { process, seen: Vec::new() };
    furnish(&run, &mock.base_url()).await;
    let made = shown_once(&run).await;
    let mut secrets = vec![CREDENTIAL, PASSTHROUGH, PASSWORD, ADMIN_TOKEN, &document_key];
    secrets.extend(made.iter().map(String::as_str));
    plant(&mut run, &secrets).await;
    let [old_key, key, ..] = &made;
    data_plane(&mut run, key, old_key).await;
    look_around(&mut run).await;

    let Run { process, mut seen } = run;
    seen.extend(process.end().await);
    let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
    for file in ["log", "usage.db", "state.db"] {
        assert!(names.contains(&file), "{file} is not among {names:?}");
    }
    for secret in secrets {
        // Not even the part without its prefix and its end.
        let core = secret.get(7..secret.len() - 6).unwrap();
        for (name, bytes) in &seen {
            assert!(!contains(bytes, core), "{secret} in {name}: {}", quote(bytes, core));
        }
    }
}

/// What stands around a text.
fn quote(bytes: &[u8], text: &str) -> String {
    let at = bytes.windows(text.len()).position(|part| part == text.as_bytes()).unwrap_or(0);
    let around = bytes.get(at.saturating_sub(200)..).unwrap_or_default();
    String::from_utf8_lossy(&around[..around.len().min(400)]).into_owned()
}
