//! The official SDKs, unmodified but for base URL and key: the scripts of `tests/sdk` against a
//! gateway.

use std::path::PathBuf;
use std::process::Command;

use loadtest::mock::Mock;

use crate::client::within;
use crate::harness::{Builder, TestGateway};

#[tokio::test]
async fn openai_sdk_for_python_works() {
    run("openai_py.py").await;
}

#[tokio::test]
async fn anthropic_sdk_for_python_works() {
    run("anthropic_py.py").await;
}

#[tokio::test]
async fn openai_sdk_for_node_works() {
    run("openai_node.mjs").await;
}

#[tokio::test]
async fn anthropic_sdk_for_node_works() {
    run("anthropic_node.mjs").await;
}

#[tokio::test]
async fn vercel_ai_sdk_works() {
    run("ai_sdk.mjs").await;
}

#[tokio::test]
async fn plain_client_works_over_http1_and_http2() {
    run("httpx_py.py").await;
}

/// The first five minutes of the README, as they are printed there.
#[tokio::test]
async fn snippets_of_the_readme_run() {
    let mock = Mock::start().await.unwrap();
    let document =
        include_str!("../../src/cli/demo.toml").replace("${DEMO_KEY}", "${KEY}").replace(
            "provider = \"simulated\"",
            "provider = \"simulated\"\nbase_url = \"${MOCK_URL}\"",
        );
    let gateway = Builder::new(&document).env("MOCK_URL", &mock.base_url()).start().await;
    let dir = tempfile::tempdir().unwrap();
    let modules = sdk_dir().join("node/node_modules");
    std::os::unix::fs::symlink(modules, dir.path().join("node_modules")).unwrap();
    let python = sdk_dir().join("python/bin/python").display().to_string();
    let readme =
        include_str!("../../README.md").replace("127.0.0.1:8080", &gateway.address.to_string());

    for (language, command, file) in
        [("python", python.as_str(), "snippet.py"), ("js", "node", "snippet.mjs")]
    {
        let snippets: Vec<&str> = readme
            .split(&format!("```{language}\n"))
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap())
            .collect();
        assert_eq!(snippets.len(), 2);
        for snippet in snippets {
            gateway.expect_rows(1);
            std::fs::write(dir.path().join(file), snippet).unwrap();
            let mut command = Command::new(command);
            command.current_dir(dir.path()).arg(file).env("SLUICE_KEY", &gateway.key);
            for name in ["http_proxy", "https_proxy", "all_proxy"] {
                command.env_remove(name).env_remove(name.to_ascii_uppercase());
            }
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
            let output = output.unwrap_or_else(|error| panic!("{error}: run tests/sdk/install"));
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && !said.trim().is_empty(), "{snippet}\n{output:?}");
        }
    }
    gateway.stop().await;
}

/// Runs every scenario of a script, and settles the account between gateway and provider.
async fn run(script: &'static str) {
    let mock = Mock::start().await.unwrap();
    // The key of the document is the harness's.
    let document = include_str!("../sdk/resources.toml").replace("${SLUICE_KEY}", "${KEY}");
    let gateway = Builder::new(&document)
        .with(|config| config.data.h2c = true)
        .env("MOCK_URL", &mock.base_url())
        .start()
        .await;

    let output = scenarios(&gateway, script).await;

    assert!(output.lines().any(|line| line.starts_with("ok ")), "no scenario ran: {output}");
    assert!(!output.contains("skip "), "a scenario was left out:\n{output}");
    gateway.idle().await;
    let rows = gateway.rows().await;
    let attempts: usize =
        rows.iter().map(|row| row["attempts"].as_array().map_or(0, Vec::len)).sum();
    // `wait_for` counts those whose end the provider has seen.
    let entries = within(mock.wait_for(attempts)).await;
    assert_eq!(entries.len(), attempts, "what the provider saw, and what the rows say");
    assert_eq!(gateway.metric("sluice_attempts_total"), count(attempts));
    assert_eq!(gateway.metric("sluice_requests_total"), count(rows.len()));
    assert!(0.0 < gateway.metric("sluice_refused_keys_total"), "no scenario used the bad key");
    for row in &rows {
        assert_ne!(row["outcome"], "gateway_error", "{row:#}");
    }
    gateway.expect_rows(rows.len() as u64);
    gateway.stop().await;
}

/// What the script prints. Panics unless all its scenarios pass.
pub(crate) async fn scenarios(gateway: &TestGateway, script: &'static str) -> String {
    let mut command = Command::new("tests/sdk/run");
    command
        .args([script, "all"])
        .env("SLUICE_URL", format!("http://{}", gateway.address))
        .env("SLUICE_KEY", &gateway.key)
        .env("SLUICE_BAD_KEY", sluice::key::generate().expose())
        .env("SLUICE_SDK_DIR", sdk_dir());
    // The scripts have deadlines of their own.
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "tests/sdk/run {script} failed:\n{text}");
    text
}

/// Where `tests/sdk/install` puts the SDKs: beside the build, unless the environment says otherwise.
pub(crate) fn sdk_dir() -> PathBuf {
    let beside_the_build = || {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_sluice"));
        binary.ancestors().nth(2).unwrap().join("sdk")
    };
    std::env::var_os("SLUICE_SDK_DIR").map_or_else(beside_the_build, PathBuf::from)
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn count(n: usize) -> f64 {
    n as f64
}
