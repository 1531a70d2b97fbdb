//! A PostgreSQL of its own for a test, reached by a socket in a temporary folder, so that no port is
//! taken; it can be stopped and started again.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sluice::config::server::StateUrl;
use sluice::secret::Secret;
use tempfile::TempDir;

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

    pub(crate) fn url(&self) -> StateUrl {
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
