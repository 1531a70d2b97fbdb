//! The admin listener over real sockets.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::token::AdminToken;
use super::*;
use crate::clock::Clock;
use crate::config::server::StateUrl;
use crate::control::State as Resources;
use crate::control::follow::Follower;
use crate::control::limits::Registry;
use crate::control::seal::Vault;
use crate::control::store::Store;
use crate::secret::Secret;

const TOKEN: &str = "a-token-of-at-least-32-characters";
const DEADLINE: Duration = Duration::from_secs(20);

struct TestAdmin {
    address: SocketAddr,
    status: Arc<Mutex<ReadyStatus>>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl TestAdmin {
    async fn start() -> Self {
        let status = Arc::new(Mutex::new(ReadyStatus::Loading));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, signal) = watch::channel(false);
        let dir = tempfile::tempdir().unwrap();
        let router = router(state(dir.path(), Arc::clone(&status)));
        let task = tokio::spawn(serve(listener, router, signal));
        Self { address, status, shutdown, task, _dir: dir }
    }

    /// Sends `head` (without its last empty line); status, head and body of the answer.
    async fn send(&self, head: &str) -> (u16, String, String) {
        let text = format!("{head}\r\nhost: admin\r\nconnection: close\r\n\r\n");
        let answered = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = timeout(DEADLINE, answered).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let auth = format!("authorization: Bearer {TOKEN}");
        let (status, _, body) = self.send(&format!("GET {path} HTTP/1.1\r\n{auth}")).await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

/// An empty state, and nothing that follows it.
fn desk(dir: &std::path::Path) -> Desk {
    let url = StateUrl::Sqlite(dir.join("state.db"));
    let store = Store::open(&url, Clock::default()).unwrap();
    let vault = Vault::new([1; 32]);
    Desk {
        follower: Arc::new(Follower::new(
            (store, vault),
            Arc::new(Resources::default()),
            Arc::new(Registry::new(1)),
        )),
        follow: Arc::new(|| Ok(())),
        allow_networks: Arc::default(),
        operator: Some(AdminToken::new(Some(Secret::new(TOKEN.to_owned()))).unwrap().digest()),
    }
}

fn state(dir: &std::path::Path, status: Arc<Mutex<ReadyStatus>>) -> AdminState {
    AdminState {
        desk: desk(dir),
        metrics: Arc::new(|| "sluice_ready 1\n".to_owned()),
        readiness: Arc::new(move || Readiness {
            status: *status.lock().unwrap(),
            checks: Map::from_iter([("state".to_owned(), json!("ok"))]),
        }),
        deployment_health: Arc::new(|workspace, environment, name| match name {
            "down" => Err(AdminError::Unavailable),
            "faulty" => panic!("a fault"),
            "none" => Ok(None),
            name => Ok(Some(json!([workspace, environment, name]))),
        }),
        limit_usage: Arc::new(|kind, (workspace, environment, name)| {
            Ok((kind == "keys").then(|| json!([workspace, environment, name])))
        }),
        cache_purge: Arc::new(|_, _| Ok(None)),
        rules_trial: Arc::new(|_, _| Ok(None)),
        probe: Arc::new(|_, _| Ok(None)),
        sign_on: None,
        usage: UsageApi {
            reading: None,
            sink: None,
            workspace: Arc::new(|_| None),
            clock: Clock::fixed(0),
        },
    }
}

#[tokio::test]
async fn health_readiness_version_and_metrics_need_no_token() {
    let admin = TestAdmin::start().await;
    let (status, _, body) = admin.send("GET /healthz HTTP/1.1").await;
    assert_eq!((status, body.as_str()), (200, "{\"status\":\"ok\"}"));

    for (ready, code) in
        [(ReadyStatus::Loading, 503), (ReadyStatus::Ready, 200), (ReadyStatus::Draining, 503)]
    {
        *admin.status.lock().unwrap() = ready;
        let (status, _, body) = admin.send("GET /readyz HTTP/1.1").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, code);
        assert_eq!(body, json!({ "status": ready.name(), "checks": { "state": "ok" } }));
    }

    let (status, head, body) = admin.send("GET /metrics HTTP/1.1").await;
    assert_eq!((status, body.as_str()), (200, "sluice_ready 1\n"));
    assert!(head.contains("content-type: text/plain; version=0.0.4"));
    let (status, _, body) = admin.send("GET /api/v1/version HTTP/1.1").await;
    assert!(status == 200 && body.contains(env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn api_needs_the_token() {
    let admin = TestAdmin::start().await;
    for auth in [
        "x: y".to_owned(),
        format!("authorization: Bearer {TOKEN}x"),
        format!("authorization: Basic {TOKEN}"),
        "authorization: Bearer ".to_owned(),
        format!("x-api-key: {TOKEN}"),
    ] {
        for path in ["/api/v1/requests", "/api/v1/requests/7?limit=0"] {
            let (status, head, body) = admin.send(&format!("GET {path} HTTP/1.1\r\n{auth}")).await;
            assert_eq!(status, 401, "{auth}");
            assert!(head.contains("content-type: application/problem+json"));
            assert!(head.contains("www-authenticate: bearer"));
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((&body["code"], &body["status"]), (&"unauthorized".into(), &401.into()));
        }
    }
}

#[tokio::test]
async fn api_answers_what_the_closures_know() {
    let admin = TestAdmin::start().await;
    let health = "/api/v1/workspaces/acme/environments/prod/deployments";
    for (path, status, member, value) in [
        (&*format!("{health}/chat%20a/health"), 404, "/code", json!("not_found")),
        (&*format!("{health}/%ff/health"), 404, "/code", json!("not_found")),
        ("/api/v1/requests/nonsense", 404, "/code", json!("not_found")),
        ("/api/v1/requests", 503, "/code", json!("unavailable")),
        ("/api/v1/requests?limit=1001", 400, "/code", json!("invalid_query")),
        ("/api/v1/requests?limits=10", 400, "/field", json!("limits")),
        ("/api/v1/nothing", 404, "/code", json!("not_found")),
        ("/", 404, "/code", json!("not_found")),
    ] {
        let (code, body) = admin.get(path).await;
        assert_eq!((code, body.pointer(member)), (status, Some(&value)), "{path}: {body}");
    }
    let (status, _, body) = admin.send("POST /healthz HTTP/1.1\r\ncontent-length: 0").await;
    assert!(status == 405 && body.contains("method_not_allowed"), "{body}");
}

#[tokio::test]
async fn shutdown_ends_the_listener_although_a_connection_is_idle() {
    let admin = TestAdmin::start().await;
    let _idle = TcpStream::connect(admin.address).await.unwrap();
    admin.send("GET /healthz HTTP/1.1").await;
    admin.shutdown.send(true).unwrap();
    timeout(DEADLINE, admin.task).await.unwrap().unwrap();
}
