//! The `sluice` binary as a process of its own.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use tokio::sync::mpsc;

use crate::client::within;
use crate::harness::ADMIN_TOKEN;

/// Lines of a test's process fit in here.
const LINES_MAX: usize = 10_000;

/// A running process. It is killed when the test ends first.
pub(crate) struct Process {
    child: Option<Child>,
    id: u32,
    stdout: Lines,
    stderr: Lines,
}

/// The output of a process, as it comes.
pub(crate) struct Lines(mpsc::Receiver<String>);

/// The binary, in `dir`, with nothing of the environment that could configure it.
pub(crate) fn sluice(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SLUICE_")) {
        command.env_remove(name);
    }
    command.current_dir(dir).args(arguments).env("SLUICE_ADMIN_TOKEN", ADMIN_TOKEN);
    command
}

/// Writes `sluice.toml` for a gateway of `resources.toml` on free ports; `more` are keys of their
/// sections, as `drain.max_s = 1`.
pub(crate) fn configure(dir: &Path, resources: &str, more: &str) {
    std::fs::write(dir.join("resources.toml"), resources).unwrap();
    let store = if more.contains("usage.url") { "" } else { "usage.url = \"sqlite://usage.db\"\n" };
    let text = format!(
        "resources = \"resources.toml\"\ndata.listen = [\"127.0.0.1:0\"]\ndata.threads = 2\n\
         admin.listen = \"127.0.0.1:0\"\n{store}\
         usage.spool_dir = \"spool\"\nusage.spool_segment_bytes = 1048576\n\
         upstream.allow_networks = [\"127.0.0.0/8\"]\n{more}\n"
    );
    std::fs::write(dir.join("sluice.toml"), text).unwrap();
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { id: child.id(), child: Some(child), stdout, stderr }
    }

    /// `sluice serve` on what [`configure`] has written; `key` is `${KEY}` of the document.
    pub(crate) fn serve(dir: &Path, key: &str) -> Self {
        let mut command = sluice(dir, &["serve", "--config", "sluice.toml"]);
        command.env("KEY", key);
        Self::start(command)
    }

    /// The address that stdout announces after `label`.
    pub(crate) async fn address(&mut self, label: &str) -> SocketAddr {
        let line = self.stdout.next_with(label).await;
        let address = line.split(label).nth(1).unwrap().trim();
        address.trim_start_matches("http://").parse().unwrap()
    }

    pub(crate) fn stdout(&mut self) -> &mut Lines {
        &mut self.stdout
    }

    pub(crate) fn stderr(&mut self) -> &mut Lines {
        &mut self.stderr
    }

    pub(crate) fn write_line(&mut self, line: &str) {
        let stdin = self.child.as_mut().unwrap().stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// Sends a signal, as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.id);
        let status = Command::new("bash").args(["-c", &command]).status().unwrap();
        assert!(status.success(), "{command}");
    }

    /// Waits for the end of the process.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let waited = tokio::task::spawn_blocking(move || child.wait().unwrap());
        // A process that stays would keep the thread, and the test with it.
        let ended = tokio::time::timeout(crate::client::DEADLINE, waited).await;
        ended
            .unwrap_or_else(|_| {
                self.signal("KILL");
                panic!("the process does not end")
            })
            .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Lines {
    pub(crate) fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// The next line with `text` in it; those before it are gone.
    pub(crate) async fn next_with(&mut self, text: &str) -> String {
        let mut before = String::new();
        loop {
            let Some(line) = within(self.0.recv()).await else {
                panic!("the process ended before {text:?}: {before}");
            };
            if line.contains(text) {
                return line;
            }
            before += &line;
            before.push('\n');
        }
    }

    /// Everything until the process closes its end.
    pub(crate) async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = within(self.0.recv()).await {
            lines.push(line);
        }
        lines
    }
}
