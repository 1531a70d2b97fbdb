//! The commands that manage the state: apply and export, audit verify, admin reset.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::admin_roles::call;
use crate::binary::{configure, sluice};
use crate::client::within;
use crate::harness::{Builder, TestGateway, closed};

const DOCUMENT: &str = r#"
[[workspaces]]
slug = "acme"
[[workspaces.environments]]
slug = "production"
[[workspaces.environments.connections]]
name = "c"
provider = "simulated"
credential = "${CREDENTIAL}"
[[workspaces.environments.models]]
alias = "m"
connection = "c"
[[workspaces.environments.keys]]
name = "app"
expires_at = 2100-01-01T00:00:00Z
"#;
const PLAN: [&str; 5] = [
    "+ create workspace acme",
    "+ create environment acme/production",
    "+ create connection acme/production/c",
    "+ create model acme/production/m",
    "+ create key acme/production/app",
];

/// Exit code, stdout, stderr; the command runs beside the test's gateway.
async fn run(dir: &Path, admin: Option<SocketAddr>, arguments: &[&str]) -> (i32, String, String) {
    let mut command = sluice(dir, arguments);
    command.env("CREDENTIAL", "sk-provider-credential-0");
    command.env("SLUICE_ACME_PRODUCTION_C", "sk-provider-credential-0");
    if let Some(admin) = admin {
        command.env("SLUICE_ADMIN_URL", format!("http://{admin}"));
    }
    let output = within(tokio::task::spawn_blocking(move || command.output())).await;
    let Output { status, stdout, stderr } = output.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The configuration of commands that work on the store of a gateway.
fn configure_beside(gateway: &TestGateway) {
    let dir = gateway.dir.path();
    let text = "state.url = \"sqlite://state.db\"\nsecrets.master_key_file = \"master.key\"\n";
    std::fs::write(dir.join("sluice.toml"), text).unwrap();
}

#[tokio::test]
async fn document_is_planned_applied_and_exported_over_the_admin_api() {
    let gateway = Builder::new("").start().await;
    let (dir, at) = (gateway.dir.path(), Some(gateway.admin));
    std::fs::write(dir.join("acme.toml"), DOCUMENT).unwrap();

    let (code, plan, err) = run(dir, at, &["apply", "-f", "acme.toml", "--dry-run"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(plan.lines().take(5).collect::<Vec<_>>(), PLAN);
    assert!(plan.contains("5 change(s), none made") && !plan.contains("vk_"), "{plan}");
    assert_eq!(gateway.admin("GET", "/workspaces/acme", None).await.status, 404);

    let (code, done, err) = run(dir, at, &["apply", "-f", "acme.toml"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(done.contains("secret of acme/production/app: vk_"), "{done}");
    assert!(!format!("{done}{err}").contains("sk-provider"), "{done}{err}");

    // What is exported is what is there: applied again, it changes nothing.
    for (format, file) in [("toml", "export.toml"), ("json", "export.json")] {
        let (code, text, err) = run(dir, at, &["export", "--format", format]).await;
        assert_eq!(code, 0, "{err}");
        assert!(text.contains("${SLUICE_ACME_PRODUCTION_C}") && !text.contains("vk_"), "{text}");
        std::fs::write(dir.join(file), text).unwrap();
        let (code, plan, err) = run(dir, at, &["apply", "-f", file]).await;
        assert_eq!((code, plan.trim()), (0, "0 change(s)"), "{err}");
    }
    let (code, text, _) = run(dir, at, &["export", "--workspace", "default"]).await;
    assert!(code == 0 && !text.contains("acme"), "{text}");
    assert_eq!(run(dir, at, &["export", "--workspace", "none"]).await.0, 1);
    gateway.stop().await;
}

#[tokio::test]
async fn wrong_document_or_gateway_changes_nothing_and_says_why() {
    let gateway = Builder::new("").start().await;
    let (dir, at) = (gateway.dir.path(), Some(gateway.admin));
    let apply = ["apply", "-f", "acme.toml"];
    for (from, to, place) in [
        ("connection = \"c\"", "connection = \"d\"", "acme.toml:12:"),
        ("name = \"app\"", "nam = \"app\"", "acme.toml:14:"),
        ("${CREDENTIAL}", "${NOT_SET}", "acme.toml:9:"),
        ("[[workspaces]]", "[[workspaces]", "acme.toml:2:"),
    ] {
        std::fs::write(dir.join("acme.toml"), DOCUMENT.replace(from, to)).unwrap();
        let (code, out, err) = run(dir, at, &apply).await;
        assert_eq!((code, out.as_str()), (2, ""), "{to}: {err}");
        assert!(err.contains(place), "{to}: {err}");
    }
    assert_eq!(gateway.admin("GET", "/workspaces/acme", None).await.status, 404);

    std::fs::write(dir.join("acme.toml"), DOCUMENT).unwrap();
    let (code, _, err) = run(dir, Some(closed()), &apply).await;
    assert!(code == 1 && err.contains("does not answer"), "{err}");
    let mut command = sluice(dir, &apply);
    command.env("CREDENTIAL", "x").env("SLUICE_ADMIN_URL", format!("http://{}", gateway.admin));
    command.env("SLUICE_ADMIN_TOKEN", "at_this-is-not-the-token-of-the-gateway");
    let refused = within(tokio::task::spawn_blocking(move || command.output())).await;
    let refused = refused.unwrap().unwrap();
    let err = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{err}");
    assert!(!err.contains("at_this"), "{err}");
    let (code, _, err) = run(dir, at, &["apply", "-f", "nothing.toml"]).await;
    assert!(code == 2 && err.contains("nothing.toml"), "{err}");
    gateway.stop().await;
}

#[tokio::test]
async fn document_is_applied_to_the_store_itself_without_a_gateway() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "", "state.url = \"sqlite://state.db\"");
    std::fs::write(dir.path().join("acme.toml"), DOCUMENT).unwrap();
    let local = ["--local", "--config", "sluice.toml"];
    let apply = [&["apply", "-f", "acme.toml"][..], &local].concat();
    let dry = [&apply[..], &["--dry-run"]].concat();
    let (code, plan, err) = run(dir.path(), None, &dry).await;
    assert_eq!((code, plan.lines().take(5).collect::<Vec<_>>()), (0, PLAN.to_vec()), "{err}");
    let (code, done, err) = run(dir.path(), None, &apply).await;
    assert!(code == 0 && done.contains("vk_"), "{err}");
    let (code, done, err) = run(dir.path(), None, &apply).await;
    assert_eq!((code, done.trim()), (0, "0 change(s)"), "{err}");
    let export = [&["export"][..], &local].concat();
    let (code, text, err) = run(dir.path(), None, &export).await;
    assert!(code == 0 && text.contains("${SLUICE_ACME_PRODUCTION_C}"), "{err}");
}

#[tokio::test]
async fn audit_verify_names_the_row_that_was_tampered_with() {
    let gateway = Builder::new("").start().await;
    configure_beside(&gateway);
    let dir = gateway.dir.path().to_owned();
    for slug in ["one", "two", "three"] {
        let body = json!({ "slug": slug });
        assert_eq!(gateway.admin("POST", "/workspaces", Some(&body)).await.status, 201);
    }
    let verify = ["audit", "verify", "--config", "sluice.toml"];
    let (code, out, err) = run(&dir, None, &verify).await;
    assert!(code == 0 && out.contains("intact"), "{err}");

    let state = rusqlite::Connection::open(dir.join("state.db")).unwrap();
    let (seq, id): (i64, String) = state
        .query_row("SELECT seq, id FROM audit_events WHERE resource_name = 'two'", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let tamper = |sql: &str| assert_eq!(state.execute(sql, [seq]).unwrap(), 1);
    tamper("UPDATE audit_events SET actor_name = actor_name || 'x' WHERE seq = ?1");
    let (code, out, err) = run(&dir, None, &verify).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains(&id) && err.contains(&seq.to_string()), "{err}");

    tamper("DELETE FROM audit_events WHERE seq = ?1");
    let (code, _, err) = run(&dir, None, &verify).await;
    assert!(code == 1 && err.contains(&seq.to_string()), "{err}");
    gateway.stop().await;
}

#[tokio::test]
async fn admin_reset_lets_the_first_superadmin_in_again() {
    let gateway = Builder::new("").start().await;
    configure_beside(&gateway);
    let dir = gateway.dir.path().to_owned();
    let (code, out, err) = run(&dir, None, &["admin", "reset", "--config", "sluice.toml"]).await;
    assert_eq!(code, 0, "{err}");
    let word = |label: &str| {
        let line = out.lines().find(|line| line.starts_with(label)).unwrap();
        line[label.len()..].split_whitespace().next().unwrap().to_owned()
    };
    let (password, token) = (word("password:"), word("admin token:"));
    assert_eq!(gateway.admin_as(&token, ("GET", "/users", None), &[]).await.status, 200);
    let login = json!({ "email": word("user:"), "password": password });
    let session = call(&gateway, ("POST", "/auth/login"), &[], &login).await;
    assert_eq!(session.status, 200, "{}", session.text());
    assert_eq!(session.json()["user"]["must_change_password"], json!(true));
    let events = gateway.admin("GET", "/audit-events?action=reset", None).await;
    assert_eq!(events.json()["data"].as_array().unwrap().len(), 1);
    assert!(!events.text().contains(&password) && !events.text().contains(&token));
    gateway.stop().await;
}
