//! The command line: what it prints, and the exit codes.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use loadtest::mock::Mock;
use serde_json::Value;
use tokio::time::Instant;

use crate::binary::{Process, configure, sluice};
use crate::client::{Client, DEADLINE, request};
use crate::harness::{ADMIN_TOKEN, chat_body, closed, document};

fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = sluice(dir, arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn run_anywhere(arguments: &[&str]) -> (i32, String, String) {
    run(tempfile::tempdir().unwrap().path(), arguments)
}

#[test]
fn help_and_version_are_printed() {
    let (code, out, _) = run_anywhere(&["--version"]);
    assert_eq!((code, out.trim()), (0, concat!("sluice ", env!("CARGO_PKG_VERSION"))));
    let (code, help, _) = run_anywhere(&["--help"]);
    assert_eq!(code, 0);
    for command in ["serve", "demo", "check", "generate", "completions"] {
        assert!(help.contains(command), "{help}");
    }
    let (code, help, _) = run_anywhere(&["help", "serve"]);
    assert_eq!(code, 0);
    assert!(help.contains("--config"), "{help}");
}

#[test]
fn wrong_command_line_exits_with_2() {
    for arguments in [&["nonsense"][..], &[], &["serve", "--nonsense"], &["generate"]] {
        let (code, out, err) = run_anywhere(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains("Usage"), "{arguments:?}: {err}");
    }
}

#[test]
fn completions_are_a_script_that_bash_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (code, script, _) = run(dir.path(), &["completions", "bash"]);
    assert_eq!(code, 0);
    std::fs::write(dir.path().join("completions"), script).unwrap();
    let read = "source ./completions && complete -p sluice";
    let output = bash(dir.path(), read);
    assert!(output.contains("sluice"), "{output}");
}

#[test]
fn generated_secrets_are_valid_and_different() {
    let (code, key, _) = run_anywhere(&["generate", "key"]);
    assert_eq!(code, 0);
    sluice::key::check(key.trim().as_bytes()).unwrap();
    assert_ne!(key, run_anywhere(&["generate", "key"]).1);
    let (code, master, _) = run_anywhere(&["generate", "master-key"]);
    assert_eq!(code, 0);
    assert_eq!(master.trim().len(), 44, "256 bits in base64: {master}");
    assert_ne!(master, run_anywhere(&["generate", "master-key"]).1);
}

#[test]
fn check_accepts_what_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let resources = document(&[("http://127.0.0.1:1/v1", "sim", "")], "")
        .replace("${KEY}", sluice::key::generate().expose());
    configure(dir.path(), &resources, "");

    let (code, out, err) = run(dir.path(), &["check", "--config", "sluice.toml"]);

    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("sluice.toml") && out.contains("resources.toml"), "{out}");
}

/// What the README and the example document promise is accepted as it stands.
#[test]
fn documents_of_the_repository_pass_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let readme = include_str!("../../README.md");
    let document = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    std::fs::write(dir.path().join("readme.toml"), document).unwrap();
    let example = include_str!("../../conf/resources.example.toml");
    std::fs::write(dir.path().join("example.toml"), example).unwrap();
    std::fs::write(dir.path().join("sluice.toml"), include_str!("../../conf/sluice.toml")).unwrap();
    for document in ["readme.toml", "example.toml"] {
        let arguments = ["check", "--config", "sluice.toml", "--resources", document];
        let mut command = sluice(dir.path(), &arguments);
        for name in ["WEB_APP_KEY", "INDEXER_KEY"] {
            command.env(name, sluice::key::generate().expose());
        }
        command.env("OPENAI_API_KEY", "sk-one").env("ANTHROPIC_API_KEY", "sk-two");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn check_shows_every_problem_of_both_files() {
    let dir = tempfile::tempdir().unwrap();
    let server = "[data]\nthreads = \"many\"\nlistn = []\n";
    std::fs::write(dir.path().join("sluice.toml"), server).unwrap();
    let resources = "[[workspaces]]\nslug = \"acme\"\n[[workspaces.environments]]\n\
         slug = \"production\"\n[[workspaces.environments.deployments]]\nname = \"chat\"\n\
         targets = [{ model = \"nothing\" }]\n";
    std::fs::write(dir.path().join("resources.toml"), resources).unwrap();
    let arguments = ["check", "--config", "sluice.toml", "--resources", "resources.toml"];

    let (code, out, err) = run(dir.path(), &arguments);

    assert_eq!((code, out.as_str()), (2, ""));
    for (place, field) in [
        ("sluice.toml:2", "data.threads"),
        ("sluice.toml:3", "data.listn"),
        ("resources.toml:7", "targets"),
    ] {
        let found = err.lines().any(|line| line.contains(place) && line.contains(field));
        assert!(found, "{place} {field} is missing in:\n{err}");
    }
}

#[test]
fn serve_does_not_start_on_what_check_refuses() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sluice.toml"), "[data]\nthreads = \"many\"\n").unwrap();
    let (code, _, err) = run(dir.path(), &["serve", "--config", "sluice.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("sluice.toml:2") && err.contains("data.threads"), "{err}");
}

#[test]
fn port_in_use_is_said_and_exits_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = sluice(dir.path(), &["serve"]);
    command
        .env("SLUICE_DATA__LISTEN", address.to_string())
        .env("SLUICE_ADMIN__LISTEN", "127.0.0.1:0");

    let output = command.output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains(&format!("cannot listen on {address}")), "{err}");
}

#[test]
fn short_admin_token_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = sluice(dir.path(), &["serve"]);
    command
        .env("SLUICE_DATA__LISTEN", "127.0.0.1:0")
        .env("SLUICE_ADMIN__LISTEN", "127.0.0.1:0")
        .env("SLUICE_ADMIN_TOKEN", "short-and-secret");

    let output = command.output().unwrap();

    assert_eq!(output.status.code(), Some(2));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("SLUICE_ADMIN_TOKEN") && !err.contains("short-and-secret"), "{err}");
}

#[tokio::test]
async fn serve_listens_where_env_vars_say_and_logs_json() {
    let mock = Mock::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let resources = document(&[(&mock.base_url(), "sim", "")], "");
    configure(dir.path(), &resources, "");
    let wanted = closed();
    let key = sluice::key::generate();
    let mut command = sluice(dir.path(), &["serve", "--config", "sluice.toml"]);
    command
        .env("KEY", key.expose())
        .env("SLUICE_DATA__LISTEN", wanted.to_string())
        .env("SLUICE_TELEMETRY__LOG", "debug");
    let mut process = Process::start(command);
    assert_eq!(process.address("data plane:").await, wanted);
    let admin = process.address("admin plane:").await;

    let answer = chat(wanted, key.expose()).await;
    assert_eq!(answer, 200);
    assert_eq!(admin_requests(admin, "no-such-token").await, 401);
    assert_eq!(admin_requests(admin, ADMIN_TOKEN).await, 200);

    process.signal("INT");
    assert_eq!(process.exit().await.code(), Some(0));
    let lines = process.stderr().rest().await;
    assert!(!lines.is_empty());
    for line in &lines {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        for member in ["time", "level", "target", "message"] {
            assert!(event[member].is_string(), "{line}");
        }
        assert!(!line.contains(key.expose()) && !line.contains(ADMIN_TOKEN), "{line}");
    }
}

#[tokio::test]
async fn made_admin_token_is_printed_once_and_works() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "", "");
    let mut command = sluice(dir.path(), &["serve", "--config", "sluice.toml"]);
    command.env_remove("SLUICE_ADMIN_TOKEN");
    let mut process = Process::start(command);
    let admin = process.address("admin plane:").await;
    let line = process.stdout().next_with("admin token:").await;
    let token = line.split_whitespace().nth(2).unwrap();
    assert_eq!(admin_requests(admin, token).await, 200);
}

#[tokio::test]
async fn gateway_serves_when_stdout_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "", "drain.delay_s = 0");
    let program = sluice(dir.path(), &[]).get_program().to_owned();
    let mut command = Command::new("bash");
    command.args(["-c", "exec \"$0\" serve --config sluice.toml > /dev/full"]).arg(program);
    command.current_dir(dir.path()).env("SLUICE_ADMIN_TOKEN", ADMIN_TOKEN);
    let mut process = Process::start(command);
    let line = process.stderr().next_with("\"listening\"").await;
    let event: Value = serde_json::from_str(&line).unwrap();
    let admin = event["admin"].as_str().unwrap().parse().unwrap();
    assert_eq!(admin_requests(admin, ADMIN_TOKEN).await, 200);
    process.signal("TERM");
    assert_eq!(process.exit().await.code(), Some(0));
}

#[tokio::test]
async fn demo_prints_calls_that_work_when_pasted() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut command = sluice(dir.path(), &arguments);
    command.env_remove("SLUICE_ADMIN_TOKEN");
    let mut process = Process::start(command);
    let data = process.address("data plane").await;
    let key = process.stdout().next_with("virtual key").await;
    let key = key.split_whitespace().nth(2).unwrap().to_owned();
    let token = process.stdout().next_with("admin token").await;
    assert!(token.split_whitespace().nth(2).unwrap().starts_with("at_"), "{token}");
    let mut calls: Vec<(String, String)> = Vec::new();
    loop {
        let line = process.stdout().next_with("").await;
        if line.starts_with("Press Ctrl-C") {
            break;
        }
        if let Some(name) = line.strip_prefix("  # ") {
            calls.push((name.to_owned(), String::new()));
        } else if let Some((_, call)) = calls.last_mut() {
            *call += &format!("{line}\n");
        }
    }
    let answer = |name: &str| {
        let (_, call) = calls.iter().find(|(known, _)| known.starts_with(name)).unwrap();
        bash(dir.path(), call)
    };
    let json = |name: &str| serde_json::from_str::<Value>(&answer(name)).unwrap();

    assert_eq!(json("chat")["object"], "chat.completion");
    let stream = answer("streaming chat");
    assert!(stream.trim_end().ends_with("data: [DONE]"), "{stream}");
    assert_eq!(json("responses")["object"], "response");
    assert_eq!(json("messages")["type"], "message");
    let began = Instant::now();
    while json("what was used")["data"].as_array().unwrap().len() < 4 {
        assert!(began.elapsed() < DEADLINE, "no rows");
    }
    assert_eq!(chat(data, &key).await, 200);

    process.signal("TERM");
    let began = Instant::now();
    assert_eq!(process.exit().await.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

fn bash(dir: &Path, script: &str) -> String {
    let mut command = Command::new("bash");
    command.current_dir(dir).args(["-c", script]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn chat(address: std::net::SocketAddr, key: &str) -> u16 {
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str())];
    let request = request("POST", "/v1/chat/completions", &headers, chat_body("").as_bytes());
    Client::connect(address).await.call(&request).await.status
}

async fn admin_requests(address: std::net::SocketAddr, token: &str) -> u16 {
    let authorization = format!("Bearer {token}");
    let request =
        request("GET", "/api/v1/requests?limit=5", &[("authorization", &authorization)], b"");
    Client::connect(address).await.call(&request).await.status
}
