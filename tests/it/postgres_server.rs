//! A PostgreSQL of its own for a test, reached by a socket in a temporary folder, so that no port is
//! taken; it can be stopped and started again.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sluice::config::server::StateUrl;
use sluice::secret::Secret;
use tempfile::TempDir;

/// A server in a temporary folder, reached by a socket in it.
pub(crate) struct Postgres {
    dir: TempDir,
    server: Option<Child>,
    arguments: Vec<&'static str>,
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
        let mut postgres = Self { dir, server: None, arguments: vec!["-c", "listen_addresses="] };
        postgres.serve();
        postgres
    }

    /// A server that is reached by TCP too, with TLS and in no other way, and has this certificate.
    pub(crate) fn start_tls(certificate: &str) -> (Self, SocketAddr) {
        let mut postgres = Self::start();
        postgres.stop();
        let data = postgres.dir.path().join("data");
        let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/upstream/certs");
        let files =
            [(format!("{certificate}.pem"), "tls.pem"), ("server.key".to_owned(), "tls.key")];
        for (from, to) in files {
            std::fs::copy(certs.join(from), data.join(to)).unwrap();
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(data.join(to), mode).unwrap();
            let owner = std::fs::metadata(&data).unwrap();
            std::os::unix::fs::chown(data.join(to), Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let rules = "local all all trust\nhostssl all all 127.0.0.0/8 trust\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        // An address of its own, so that nobody takes the port in between.
        let [a, b, c] = std::array::from_fn(|_| rand::random_range(1..=254));
        let listener = TcpListener::bind(SocketAddr::from(([127, a, b, c], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let settings = format!(
            "listen_addresses = '{}'\nport = {}\nssl = on\nssl_cert_file = 'tls.pem'\n\
             ssl_key_file = 'tls.key'\n",
            address.ip(),
            address.port()
        );
        std::fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        postgres.arguments.clear();
        postgres.serve();
        (postgres, address)
    }

    pub(crate) fn serve(&mut self) {
        let mut server = command("postgres")
            .current_dir(self.dir.path())
            .args(&self.arguments)
            .args(["-c", "fsync=off", "-k"])
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
