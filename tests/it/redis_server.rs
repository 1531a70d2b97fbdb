//! A Redis of its own for a test, on a free port, that can be frozen, killed and started again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::within;

pub(crate) struct RedisServer {
    child: Option<Child>,
    port: u16,
    dir: TempDir,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        // The port is free when it is chosen; should somebody else take it first, another is.
        loop {
            let port = crate::harness::closed().port();
            let mut server = Self { child: None, port, dir: tempfile::tempdir().unwrap() };
            server.restart().await;
            if server.child.is_some() {
                return server;
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts the server on its port, empty.
    pub(crate) async fn restart(&mut self) {
        let log: PathBuf = self.dir.path().join("log");
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--logfile", log.to_str().unwrap()])
            .arg("--dir")
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("redis-server: {error}; tests/run installs it"));
        let is_ready = within(async {
            loop {
                if child.try_wait().unwrap().is_some() {
                    return false;
                }
                if self.command("PING").await.is_some_and(|reply| reply.contains("PONG")) {
                    return true;
                }
                tokio::task::yield_now().await;
            }
        });
        if is_ready.await {
            self.child = Some(child);
        }
    }

    /// The reply to an inline command, as it comes; `None` when there is none.
    pub(crate) async fn command(&self, line: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        stream.write_all(format!("{line}\r\n").as_bytes()).await.ok()?;
        let mut reply = vec![0; 64 * 1024];
        let n = stream.read(&mut reply).await.ok()?;
        Some(String::from_utf8_lossy(reply.get(..n)?).into_owned())
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
