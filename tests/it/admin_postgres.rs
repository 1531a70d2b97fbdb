//! The state in PostgreSQL: a real server of the test's own, and two gateways on it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use loadtest::mock::Mock;
use serde_json::{Value, json};
use sluice::config::server::StateUrl;
use sluice::secret::Secret;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::{Client, DEADLINE, request};
use crate::harness::{Builder, TestGateway, chat_body, deployment, target};

/// A server in a temporary folder, reached by a socket in it.
pub(crate) struct Postgres {
    dir: TempDir,
    server: Option<Child>,
}

fn program(name: &str) -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").ok();
    let versions = installed.into_iter().flatten().flatten();
    let found =
        versions.map(|version| version.path().join("bin").join(name)).find(|it| it.exists());
    found.expect("the tests need PostgreSQL's server; tests/run installs it")
}

/// The server refuses to run as root.
fn command(name: &str) -> Command {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !is_root {
        return Command::new(program(name));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program(name));
    command
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let made = command("initdb")
            .current_dir(dir.path())
            .args(["-N", "-A", "trust", "-U", "sluice", "-D"])
            .arg(dir.path().join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = Self { dir, server: None };
        postgres.serve();
        postgres
    }

    pub(crate) fn serve(&mut self) {
        let mut server = command("postgres")
            .current_dir(self.dir.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(self.dir.path())
            .arg("-D")
            .arg(self.dir.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let is_ready = |line: String| line.contains("ready to accept connections");
        assert!(lines.any(is_ready), "the server does not start");
        // Read on, so that it never waits for its log.
        std::thread::spawn(move || lines.for_each(drop));
        self.server = Some(server);
    }

    pub(crate) fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let id = server.id().to_string();
        let stopped = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(stopped.success());
        server.wait().unwrap();
    }

    fn url(&self) -> StateUrl {
        let Self { dir, .. } = self;
        StateUrl::Postgres(Secret::new(format!(
            "host={} user=sluice dbname=postgres",
            dir.path().display()
        )))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A gateway on the server; all share one master key.
async fn gateway(postgres: &Postgres, key_file: &Path, resources: &str) -> TestGateway {
    let (url, key_file) = (postgres.url(), key_file.to_owned());
    Builder::new(resources)
        .with(|config| {
            config.state.url = url;
            config.secrets.master_key_file = key_file;
        })
        .start()
        .await
}

async fn chat(gateway: &TestGateway, secret: &str) -> u16 {
    let headers = [("x-api-key", secret), ("content-type", "application/json")];
    let request = request("POST", "/v1/chat/completions", &headers, chat_body("").as_bytes());
    let status = Client::connect(gateway.address).await.call(&request).await.status;
    if status == 200 {
        gateway.expect_rows(1);
    }
    status
}

/// Waits until the other node has heard.
async fn until(gateway: &TestGateway, secret: &str, wanted: u16) {
    let began = Instant::now();
    while chat(gateway, secret).await != wanted {
        assert!(began.elapsed() < DEADLINE, "the change does not come");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_follow_each_other_and_outlive_their_store() {
    let mut postgres = Postgres::start();
    let mock = Mock::start().await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("master.key");
    let one = gateway(&postgres, &key_file, "").await;
    let two = gateway(&postgres, &key_file, "").await;
    let at = "/workspaces/acme/environments/production";
    let made = async |path: &str, body: Value| {
        let answer = one.admin("POST", path, Some(&body)).await;
        assert_eq!(answer.status, 201, "{path}: {}", answer.text());
        answer.json()
    };
    made("/workspaces", json!({ "slug": "acme" })).await;
    let connection = json!({ "name": "c", "provider": "simulated", "base_url": mock.base_url(),
        "credential": "sk-provider-credential-0" });
    made(&format!("{at}/connections"), connection).await;
    let model = json!({ "alias": "m", "connection": "c", "upstream_model": "sim" });
    made(&format!("{at}/models"), model).await;
    made(&format!("{at}/deployments"), json!({ "name": "chat", "targets": [{ "model": "m" }] }))
        .await;
    let key = made(&format!("{at}/keys"), json!({ "name": "app" })).await;
    let secret = key["secret"].as_str().unwrap().to_owned();

    assert_eq!(chat(&one, &secret).await, 200);
    until(&two, &secret, 200).await;
    let verdict = two.admin("GET", "/audit-events/verify", None).await.json();
    assert_eq!(verdict["intact"], json!(true), "{verdict}");

    postgres.stop();
    assert_eq!((chat(&one, &secret).await, chat(&two, &secret).await), (200, 200));
    let refused = one.admin("POST", &format!("{at}/keys"), Some(&json!({ "name": "b" }))).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    postgres.serve();

    let began = Instant::now();
    let revoke = format!("{at}/keys/app/revoke");
    while one.admin("POST", &revoke, None).await.status != 200 {
        assert!(began.elapsed() < DEADLINE);
    }
    assert_eq!(chat(&one, &secret).await, 401);
    until(&two, &secret, 401).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boot_document_and_documents_of_the_api_are_the_same_there() {
    let postgres = Postgres::start();
    let mock = Mock::start().await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("master.key");
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway = gateway(&postgres, &key_file, &text).await;
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.reload(&text).unwrap();
    gateway.reload(&text.replace("name = \"app\"", "name = \"app2\"")).unwrap();
    assert_eq!(gateway.chat("").await.status, 200);
    let exported = gateway.admin("GET", "/workspaces/acme/export", None).await;
    assert_eq!(exported.status, 200);
    assert!(exported.text().contains("app2") && !exported.text().contains("sk-provider"));
    gateway.reload("").unwrap();
    assert_eq!(gateway.admin("GET", "/workspaces/acme", None).await.status, 404);
    gateway.stop().await;
}
