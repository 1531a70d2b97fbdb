//! Runs the program as its users do.

use std::process::Command;

use serde_json::Value;

/// What a run of the program left behind.
pub struct Done {
    pub code: i32,
    pub report: Value,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn outcome(&self) -> &str {
        self.report["outcome"].as_str().unwrap()
    }

    /// The limit of this name: its measured value, and whether it was kept.
    pub fn limit(&self, name: &str) -> (Option<f64>, bool) {
        let limits = self.report["limits"].as_array().unwrap();
        let found = limits.iter().find(|limit| limit["limit"].as_str().unwrap().starts_with(name));
        let found = found.unwrap_or(&Value::Null);
        (found["measured"].as_f64(), found["is_met"].as_bool().unwrap())
    }

    /// How often a failure with this in its name came.
    pub fn failures(&self, part: &str) -> u64 {
        let failures = self.report["failures"].as_object().unwrap().iter();
        failures.filter(|(name, _)| name.contains(part)).map(|(_, n)| n.as_u64().unwrap()).sum()
    }
}

/// `loadtest` with these arguments, in the repository's folder.
pub fn loadtest(arguments: &[&str]) -> Done {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(arguments);
    if arguments.first() == Some(&"run") {
        command.arg("--report").arg(&report);
    }
    let output = command.output().unwrap();
    let report = std::fs::read(&report).unwrap_or_else(|_| b"null".to_vec());
    Done {
        code: output.status.code().unwrap(),
        report: serde_json::from_slice(&report).unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a scenario's text, with a mock inside the program.
pub fn scenario(text: &str, arguments: &[&str]) -> Done {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.toml");
    std::fs::write(&path, text).unwrap();
    let arguments = [&["run", path.to_str().unwrap(), "--with-mock"], arguments].concat();
    loadtest(&arguments)
}
