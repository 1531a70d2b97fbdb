//! The examples of `docs/admin-api.md`, run as they are printed there.

use std::process::{Command, Output};

use loadtest::mock::Mock;

use crate::client::within;
use crate::harness::{ADMIN_TOKEN, Builder, TestGateway};

fn blocks(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string("docs/admin-api.md").unwrap();
    let start = format!("```{language}\n");
    text.split(&start)
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .map(str::to_owned)
        .collect()
}

async fn run(gateway: &TestGateway, program: &str, script: String) -> Output {
    let mut command = Command::new(program);
    command
        .args(["-c", &script])
        .env("SLUICE_ADMIN_URL", format!("http://{}", gateway.admin))
        .env("SLUICE_ADMIN_TOKEN", ADMIN_TOKEN);
    within(tokio::task::spawn_blocking(move || command.output())).await.unwrap().unwrap()
}

#[tokio::test]
async fn examples_of_the_documentation_work() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new("").start().await;
    let shell = blocks("sh");
    assert!(shell.len() >= 3, "{shell:?}");
    // One script, because each block goes on from the one before. What stands for something that only
    // the reader has is put in its place.
    let invited = r#"'"$(echo "$invited" | sed 's/.*"invite_token":"\([^"]*\).*/\1/')"'"#;
    let credential =
        format!(r#""credential": "sk-0123456789abcdef", "base_url": "{}""#, mock.base_url());
    let script = format!("set -e\n{}", shell.join("\n"))
        .replace("export SLUICE_ADMIN_URL=http://127.0.0.1:8081 SLUICE_ADMIN_TOKEN=at_…", "")
        .replace("curl -sS", "curl -sS --fail-with-body --max-time 15")
        .replace(r#""credential": "sk-…""#, &credential)
        .replace("gpt-4o", "sim")
        .replace("2027-01-01", "2999-01-01")
        .replace(
            "call POST /users '{\"email\": \"ada@example.org\"}'",
            "invited=$(call POST /users '{\"email\": \"ada@example.org\"}')",
        )
        .replace("inv_…", invited);
    assert!(!script.contains('…'), "{script}");
    let output = run(&gateway, "bash", script.clone()).await;
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}\n{error}");
    assert!(said.contains(r#""ok":true"#) && said.contains("\"secret\":\"vk_"), "{said}");

    let python = blocks("python");
    assert_eq!(python.len(), 1);
    let output = run(&gateway, "python3", python.concat()).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("vk_") && said.contains("\nfrom-python vk_"), "{said}");
    gateway.stop().await;
}
