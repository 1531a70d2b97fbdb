//! Keys that change under load: many that come, one whose secret is replaced, and how soon one that is
//! revoked stops, on every node.
//!
//! Small by default; `SLUICE_TEST_KEYS=1000000` makes so many keys by a document, and a tenth of them
//! by the API. docs/testing.md says how to read what it prints.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loadtest::mock::Mock;
use serde_json::{Value, json};
use sluice::key;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{Client, request};
use crate::harness::{ADMIN_TOKEN, Builder, TestGateway, chat_body};
use crate::postgres_server::Postgres;

const ENVIRONMENT: &str = "/workspaces/acme/environments/production";

fn keys_wanted() -> usize {
    let given = std::env::var("SLUICE_TEST_KEYS").ok();
    given.map_or(2_000, |text| text.parse().expect("SLUICE_TEST_KEYS is a number"))
}

async fn made(gateway: &TestGateway, path: &str, body: Value) -> Value {
    let answer = gateway.admin("POST", path, Some(&body)).await;
    assert!([200, 201].contains(&answer.status), "{path}: {}", answer.text());
    answer.json()
}

/// A workspace whose deployment is the mock; the secret of a key in it.
async fn workspace(gateway: &TestGateway, mock: &Mock) -> String {
    made(gateway, "/workspaces", json!({ "slug": "acme" })).await;
    let at = |list: &str| format!("{ENVIRONMENT}/{list}");
    let connection = json!({ "name": "c", "provider": "simulated", "base_url": mock.base_url(),
        "credential": "sk-provider-credential-0" });
    made(gateway, &at("connections"), connection).await;
    let model = json!({ "alias": "m", "connection": "c", "upstream_model": "sim" });
    made(gateway, &at("models"), model).await;
    let deployment = json!({ "name": "chat", "targets": [{ "model": "m" }] });
    made(gateway, &at("deployments"), deployment).await;
    let key = made(gateway, &at("keys"), json!({ "name": "app" })).await;
    key["secret"].as_str().unwrap().to_owned()
}

fn ask(secret: &str) -> Vec<u8> {
    let headers = [("x-api-key", secret), ("content-type", "application/json")];
    request("POST", "/v1/chat/completions", &headers, chat_body("").as_bytes())
}

/// Requests with one key, one after the other, until told to stop: how long each took.
async fn requests(
    address: std::net::SocketAddr,
    secret: String,
    stop: Arc<AtomicBool>,
) -> Vec<Duration> {
    let mut client = Client::connect(address).await;
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = client.call(&ask(&secret)).await;
        took.push(began.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text());
        if answer.header("connection") == Some("close") {
            client = Client::connect(address).await;
        }
    }
    took
}

/// Of every hundred, the one that took longer than all but one.
fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

/// What `work` returns, and how long the requests took meanwhile.
async fn under_load<T>(
    gateway: &TestGateway,
    secret: &str,
    work: impl Future<Output = T>,
) -> (T, Vec<Duration>) {
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(requests(gateway.address, secret.to_owned(), Arc::clone(&stop)));
    let done = work.await;
    stop.store(true, Ordering::Relaxed);
    let took = load.await.unwrap();
    gateway.expect_rows(took.len() as u64);
    (done, took)
}

/// A document of so many keys beside what is there, and the secret of the last.
fn document(n: usize) -> (String, String) {
    let mut text = String::from(
        r#"{"workspaces":[{"slug":"many","environments":[{"slug":"production","keys":["#,
    );
    let mut secret = String::new();
    for number in 0..n {
        key::generate().expose().clone_into(&mut secret);
        let comma = if number == 0 { "" } else { "," };
        write!(text, r#"{comma}{{"name":"k{number}","secret":"{secret}"}}"#).unwrap();
    }
    text += "]}]}]}";
    (text, secret)
}

/// The answer to a document that may take longer than any other call of a test.
async fn applied(admin: std::net::SocketAddr, text: &str) -> String {
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("connection", "close"),
    ];
    let bytes = request("POST", "/api/v1/apply", &headers, text.as_bytes());
    let mut stream = TcpStream::connect(admin).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Keys in force.
async fn keys(gateway: &TestGateway) -> u64 {
    gateway.admin_get("/readyz").await.json()["checks"]["keys"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_come_and_requests_notice_nothing() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new("").start().await;
    let secret = workspace(&gateway, &mock).await;
    let n = keys_wanted();
    let before = keys(&gateway).await;

    let alone = async {
        let mut client = Client::connect(gateway.address).await;
        for _ in 0..200 {
            assert_eq!(client.call(&ask(&secret)).await.status, 200);
        }
        gateway.expect_rows(200);
    };
    let ((), took_before) = under_load(&gateway, &secret, alone).await;
    let (text, last) = document(n);
    let applied = async {
        let began = Instant::now();
        let answer = applied(gateway.admin, &text).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.300}");
        began.elapsed()
    };
    let (by_document, took_document) = under_load(&gateway, &secret, applied).await;
    let by_api = async {
        let began = Instant::now();
        for number in 0..n / 10 {
            made(&gateway, &format!("{ENVIRONMENT}/keys"), json!({ "name": format!("a{number}") }))
                .await;
        }
        began.elapsed()
    };
    let (by_api, took_api) = under_load(&gateway, &secret, by_api).await;
    assert_eq!(keys(&gateway).await - before, (n + n / 10) as u64);
    // The last of them is in force: it may not be refused as unknown.
    let answer = Client::connect(gateway.address).await.call(&ask(&last)).await;
    assert_ne!(answer.status, 401, "{}", answer.text());
    gateway.expect_rows(1);

    let [quiet, document, api] = [took_before, took_document, took_api].map(p99);
    println!(
        "{n} keys by a document: {by_document:?}; {} by the API: {by_api:?}; p99 of requests: \
         {quiet:?} before, {document:?} and {api:?} meanwhile",
        n / 10
    );
    // The machine of a test is shared: what is shown here is that no request waits for all keys.
    let bound = (quiet * 20).max(Duration::from_millis(500));
    assert!(document < bound && api < bound, "{quiet:?}, then {document:?} and {api:?}");
    gateway.stop().await;
}

/// A client that asks with the newest secret, again and again, and says which it used last.
async fn client(
    address: std::net::SocketAddr,
    newest: watch::Receiver<(usize, String)>,
    used: Arc<AtomicUsize>,
) -> u64 {
    let mut client = Client::connect(address).await;
    for sent in 1.. {
        // It may be replaced while the request is on its way.
        let (generation, secret) = newest.borrow().clone();
        let answer = client.call(&ask(&secret)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        used.store(generation, Ordering::Relaxed);
        if answer.header("connection") == Some("close") {
            client = Client::connect(address).await;
        }
        if generation == ROTATIONS {
            return sent;
        }
    }
    unreachable!("a client counts for ever")
}

const ROTATIONS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn secret_is_replaced_under_load_without_a_wrong_refusal() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new("").start().await;
    let first = workspace(&gateway, &mock).await;
    let (newest, seen) = watch::channel((0, first));
    let used: Vec<Arc<AtomicUsize>> = (0..4).map(|_| Arc::default()).collect();
    let of = |used: &Arc<AtomicUsize>| client(gateway.address, seen.clone(), Arc::clone(used));
    let clients: Vec<_> = used.iter().map(|used| tokio::spawn(of(used))).collect();
    let rotate = format!("{ENVIRONMENT}/keys/app/rotate");
    let mut old = Vec::new();
    for generation in 1..=ROTATIONS {
        let made = made(&gateway, &rotate, json!({ "grace_s": 60 })).await;
        let new = made["secret"].as_str().unwrap().to_owned();
        old.push(newest.send_replace((generation, new)).1);
        // A key has two secrets at most: the next rotation ends the one before this.
        while used.iter().any(|used| used.load(Ordering::Relaxed) < generation) {
            let ended = clients.iter().any(JoinHandle::is_finished);
            assert!(!ended || generation == ROTATIONS, "a client was refused");
            tokio::task::yield_now().await;
        }
    }
    let mut sent = 0;
    for client in clients {
        sent += client.await.unwrap();
    }
    gateway.expect_rows(sent);
    println!("{sent} requests, {ROTATIONS} rotations");
    // Without a grace the old secrets end with the answer.
    made(&gateway, &rotate, json!({})).await;
    old.push(newest.borrow().1.clone());
    for secret in old.iter().rev().take(3) {
        let answer = Client::connect(gateway.address).await.call(&ask(secret)).await;
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    gateway.stop().await;
}

/// A gateway on the server; all share one master key.
async fn node(postgres: &Postgres, key_file: &Path) -> TestGateway {
    let (url, key_file) = (postgres.url(), key_file.to_owned());
    let share = |config: &mut sluice::config::server::ServerConfig| {
        config.state.url = url;
        config.secrets.master_key_file = key_file;
    };
    Builder::new("").with(share).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_stops_on_both_nodes_soon() {
    const KEYS: usize = 20;
    let postgres = Postgres::start();
    let mock = Mock::start().await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("master.key");
    let one = node(&postgres, &key_file).await;
    let two = node(&postgres, &key_file).await;
    workspace(&one, &mock).await;
    let mut secrets = Vec::new();
    for number in 0..KEYS {
        let body = json!({ "name": format!("r{number}") });
        let key = made(&one, &format!("{ENVIRONMENT}/keys"), body).await;
        secrets.push(key["secret"].as_str().unwrap().to_owned());
    }
    // A refused key ends its connection.
    let status = async |address, secret: &str| {
        Client::connect(address).await.call(&ask(secret)).await.status
    };
    let last = secrets.last().unwrap();
    let began = Instant::now();
    while status(two.address, last).await == 401 {
        assert!(began.elapsed() < Duration::from_secs(20), "the second node does not follow");
    }
    two.expect_rows(1);
    let mut took = Vec::new();
    for (number, secret) in secrets.iter().enumerate() {
        let revoke = format!("{ENVIRONMENT}/keys/r{number}/revoke");
        let began = Instant::now();
        made(&one, &revoke, json!({})).await;
        assert_eq!(status(one.address, secret).await, 401, "on the node that took it");
        let mut passed = 0;
        while status(two.address, secret).await != 401 {
            passed += 1;
            assert!(began.elapsed() < Duration::from_secs(20), "{secret} goes on");
        }
        two.expect_rows(passed);
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let (median, longest) = (took[KEYS / 2], took[KEYS - 1]);
    println!("revoked on two nodes: median {median:?}, longest {longest:?} of {KEYS}");
    // The machine of a test is shared: one that waits for its turn may take longer than the second
    // that is promised.
    let is_soon = median <= Duration::from_secs(1) && longest <= Duration::from_secs(5);
    assert!(is_soon, "{took:?}");
    one.stop().await;
    two.stop().await;
}
