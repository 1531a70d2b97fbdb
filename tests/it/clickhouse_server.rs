//! A real ClickHouse server for a test: the launcher of `tests/clickhouse`, which can break it on
//! demand.
//!
//! A server takes a second to start and 250 MB: one for each test, and in it a database for each
//! case.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::client::{Answer, Client, request, within};

/// One or more servers, which end with this value.
pub(crate) struct ClickHouse {
    child: Child,
    /// `None` once the launcher is to end.
    commands: Arc<Mutex<Option<Commands>>>,
    servers: Vec<Server>,
}

/// The launcher's standard input and output.
type Commands = (ChildStdin, BufReader<ChildStdout>);

struct Server {
    /// Where faults strike.
    front: SocketAddr,
    /// The engine's HTTP listener.
    direct: SocketAddr,
}

/// Who asks, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat<'a> {
    pub(crate) server: usize,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
}

/// The first server's own user, who may do everything.
const OWNER: Seat<'_> = Seat { server: 0, user: "default", password: "" };

impl ClickHouse {
    pub(crate) async fn start() -> Self {
        Self::launch(1, None).await
    }

    /// With the users of `xml`, a file as of `users.d`, besides the owner.
    pub(crate) async fn with_users(xml: &str) -> Self {
        Self::launch(1, Some(xml.to_owned())).await
    }

    /// Servers that know each other as the shards of the cluster `test`.
    pub(crate) async fn cluster(n_servers: usize) -> Self {
        Self::launch(n_servers, None).await
    }

    async fn launch(n_servers: usize, users: Option<String>) -> Self {
        tokio::task::spawn_blocking(move || Self::launch_now(n_servers, users.as_deref()))
            .await
            .unwrap()
    }

    fn launch_now(n_servers: usize, users: Option<&str>) -> Self {
        let users_file = users.map(|xml| {
            let mut file = tempfile::Builder::new().suffix(".xml").tempfile().unwrap();
            file.write_all(xml.as_bytes()).unwrap();
            file
        });
        let mut command = Command::new("python3");
        command.arg("tests/clickhouse/server.py").arg("--lib").arg(engine());
        command.args(["--servers", &n_servers.to_string()]);
        if let Some(file) = &users_file {
            command.arg("--users").arg(file.path());
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("ClickHouse did not start: {line:?}, and see above"));
        let servers = ready["servers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|server| Server {
                front: address(&server["url"]),
                direct: address(&server["direct_url"]),
            })
            .collect();
        Self { child, commands: Arc::new(Mutex::new(Some((stdin, stdout)))), servers }
    }

    /// Makes a database and says its `usage.url`.
    pub(crate) async fn database(&self, name: &str) -> String {
        self.execute(&format!("CREATE DATABASE `{name}`")).await;
        self.url(name)
    }

    /// The `usage.url` of a database on the first server; faults strike there.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("http://default:@{}/{database}", self.servers[0].front)
    }

    /// What a query gives, an object for each row. It passes by the faults, as all below.
    pub(crate) async fn rows(&self, query: &str) -> Vec<Value> {
        self.rows_at(OWNER, query).await
    }

    /// The only value of the only row.
    pub(crate) async fn value(&self, query: &str) -> Value {
        let rows = self.rows(query).await;
        let [Value::Object(row)] = rows.as_slice() else { panic!("not one row: {rows:?}") };
        assert_eq!(row.len(), 1, "not one column: {row:?}");
        row.values().next().unwrap().clone()
    }

    pub(crate) async fn execute(&self, query: &str) {
        self.rows(query).await;
    }

    pub(crate) async fn rows_at(&self, seat: Seat<'_>, query: &str) -> Vec<Value> {
        let answer = self.ask(seat, query).await;
        assert_eq!(answer.status, 200, "{query}\n{}", answer.text());
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What the server answers to a query that may be wrong.
    pub(crate) async fn ask(&self, seat: Seat<'_>, query: &str) -> Answer {
        let mut client = Client::connect(self.servers[seat.server].direct).await;
        let headers = [("x-clickhouse-user", seat.user), ("x-clickhouse-key", seat.password)];
        let path = "/?default_format=JSONEachRow&output_format_json_quote_64bit_integers=0";
        client.call(&request("POST", path, &headers, query.as_bytes())).await
    }

    /// From here on these faults, as `tests/clickhouse/server.py` describes them, and no others.
    pub(crate) async fn faults(&self, faults: Value) {
        self.obey(json!({ "faults": faults })).await;
    }

    /// Kills a server; it is back, with all that was acknowledged, when this returns.
    pub(crate) async fn kill(&self, server: usize) {
        self.obey(json!({ "kill": server })).await;
    }

    /// How often faults of a kind have struck.
    pub(crate) async fn fired(&self, kind: &str) -> u64 {
        let state = self.obey(json!({ "state": true })).await;
        state["fired"][kind].as_u64().unwrap_or(0)
    }

    /// Returns when no request is under way, not even one whose client has given up.
    pub(crate) async fn settle(&self) {
        within(async { while self.obey(json!({ "state": true })).await["in_flight"] != 0 {} })
            .await;
    }

    async fn obey(&self, command: Value) -> Value {
        let commands = Arc::clone(&self.commands);
        let answer = tokio::task::spawn_blocking(move || {
            let mut commands = commands.lock();
            let (stdin, stdout) = commands.as_mut().unwrap();
            writeln!(stdin, "{command}").unwrap();
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            serde_json::from_str(&line).unwrap()
        });
        let answer: Value = within(answer).await.unwrap();
        assert_eq!(answer["error"], Value::Null);
        answer
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        // The launcher ends with its input, and the engines with the launcher.
        drop(self.commands.lock().take());
        let ended = self.child.wait();
        assert!(std::thread::panicking() || ended.is_ok_and(|status| status.success()));
    }
}

/// The folder of the engine; installs it when it is not there.
fn engine() -> PathBuf {
    let mut command = Command::new("tests/clickhouse/install");
    if std::env::var_os("SLUICE_CLICKHOUSE_DIR").is_none() {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_sluice"));
        let beside_the_build = binary.ancestors().nth(2).unwrap().join("clickhouse");
        command.env("SLUICE_CLICKHOUSE_DIR", beside_the_build);
    }
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "tests/clickhouse/install failed; see above");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

fn address(url: &Value) -> SocketAddr {
    url.as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
}
