//! The admin API asked by schemathesis: everything that its document allows, and much that it does not.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{ADMIN_TOKEN, Builder};

/// Operations that have no end of their own.
const ENDLESS: &str = "watch_usage";
/// Examples of each operation, besides those that follow from its schema.
const EXAMPLES: &str = "3";

#[tokio::test]
async fn every_route_answers_as_the_document_says_whatever_it_is_asked() {
    let sdk = std::env::var_os("SLUICE_SDK_DIR").expect("tests/run sets SLUICE_SDK_DIR");
    let program = PathBuf::from(sdk).join("schemathesis/bin/schemathesis");
    assert!(program.exists(), "tests/schemathesis/install puts it there");
    let gateway = Builder::new("").start().await;
    let mut command = Command::new(program);
    command
        .current_dir(gateway.dir.path())
        .arg("run")
        .arg(format!("http://{}/api/v1/openapi.json", gateway.admin))
        .args(["--header", &format!("Authorization: Bearer {ADMIN_TOKEN}")])
        .args(["--phases", "coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", "1"])
        .args(["--exclude-operation-id", ENDLESS, "--continue-on-failure", "--no-color"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,\
             response_headers_conformance,response_schema_conformance",
        ]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Fuzzing"), "{said}");
    gateway.stop().await;
}
