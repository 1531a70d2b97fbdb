//! Users: the first one, invitations, passwords, sessions, and what ends them.

use serde_json::{Value, json};
use sluice::clock::Clock;

use crate::admin_roles::{PASSWORD, call, user};
use crate::client::Answer;
use crate::harness::{Builder, TestGateway};

const MINUTE: i64 = 60_000_000;
/// In 2026.
const BEGIN: i64 = 1_790_000_000_000_000;

async fn login(gateway: &TestGateway, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "password": password });
    call(gateway, ("POST", "/auth/login"), &[], &body).await
}

/// The cookie of a session that has just begun.
fn cookie(session: &Answer) -> String {
    assert_eq!(session.status, 200, "{}", session.text());
    session.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

async fn me(gateway: &TestGateway, cookie: &str) -> u16 {
    call(gateway, ("GET", "/auth/me"), &[("cookie", cookie)], &Value::Null).await.status
}

#[tokio::test]
async fn failed_logins_are_throttled_by_account_and_address() {
    let gateway = Builder::new("").start().await;
    let wrong = json!({ "email": "admin@localhost", "password": "not the password" });
    for n in 0..5 {
        let answer = call(&gateway, ("POST", "/auth/login"), &[], &wrong).await;
        assert_eq!(answer.status, 401, "{n}: {}", answer.text());
        assert!(!answer.text().contains("not the password"));
    }
    let throttled = call(&gateway, ("POST", "/auth/login"), &[], &wrong).await;
    assert_eq!(throttled.status, 429, "{}", throttled.text());
    assert!(throttled.header("retry-after").is_some());
    assert_eq!(gateway.admin("GET", "/auth/me", None).await.status, 200, "tokens go on");
    gateway.stop().await;
}

#[tokio::test]
async fn invitation_counts_once() {
    let gateway = Builder::new("").start().await;
    let made = gateway.admin("POST", "/users", Some(&json!({ "email": "new@example.org" }))).await;
    let token = made.json()["invite_token"].as_str().unwrap().to_owned();
    let accept = json!({ "token": token, "password": PASSWORD, "name": "New" });
    let accepted = call(&gateway, ("POST", "/auth/accept-invite"), &[], &accept).await;
    assert_eq!((accepted.status, &accepted.json()["status"]), (200, &json!("active")));
    let again = call(&gateway, ("POST", "/auth/accept-invite"), &[], &accept).await;
    assert_eq!(again.status, 422, "{}", again.text());
    let login = json!({ "email": "new@example.org", "password": PASSWORD });
    assert_eq!(call(&gateway, ("POST", "/auth/login"), &[], &login).await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn invitation_ends_with_its_time_and_with_a_newer_one() {
    let clock = Clock::fixed(BEGIN);
    let gateway = Builder::new("").clock(&clock).start().await;
    let made = gateway.admin("POST", "/users", Some(&json!({ "email": "new@example.org" }))).await;
    let first = made.json()["invite_token"].as_str().unwrap().to_owned();
    let invite = format!("/users/{}/invite", made.json()["id"].as_str().unwrap());
    let again = gateway.admin("POST", &invite, None).await;
    let second = again.json()["invite_token"].as_str().unwrap().to_owned();
    let accept = async |token: &str| {
        let body = json!({ "token": token, "password": PASSWORD });
        call(&gateway, ("POST", "/auth/accept-invite"), &[], &body).await.status
    };
    assert_eq!(accept(&first).await, 422);
    clock.set(BEGIN + 7 * 24 * 60 * MINUTE);
    assert_eq!(accept(&second).await, 422);
    clock.set(BEGIN + 7 * 24 * 60 * MINUTE - 1);
    assert_eq!(accept(&second).await, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn session_ends_when_idle_and_after_twelve_hours_in_any_case() {
    let clock = Clock::fixed(BEGIN);
    let gateway = Builder::new("").clock(&clock).start().await;
    user(&gateway, "somebody", "member").await;
    let password = "another password, their own";
    let begin = async || cookie(&login(&gateway, "somebody@example.org", password).await);
    let session = begin().await;
    clock.set(BEGIN + 29 * MINUTE);
    assert_eq!(me(&gateway, &session).await, 200);
    clock.set(BEGIN + 59 * MINUTE);
    assert_eq!(me(&gateway, &session).await, 401);

    let session = begin().await;
    let start = BEGIN + 59 * MINUTE;
    for n in 1..36 {
        clock.set(start + n * 20 * MINUTE);
        assert_eq!(me(&gateway, &session).await, 200, "{n}");
    }
    clock.set(start + 12 * 60 * MINUTE);
    assert_eq!(me(&gateway, &session).await, 401);
    gateway.stop().await;
}

#[tokio::test]
async fn forged_requests_of_a_browser_change_nothing() {
    let gateway = Builder::new("").start().await;
    user(&gateway, "somebody", "member").await;
    let session = login(&gateway, "SOMEBODY@example.org", "another password, their own").await;
    let (cookie, csrf) = (cookie(&session), session.json()["csrf_token"].clone());
    let csrf = csrf.as_str().unwrap();
    let body = json!({ "slug": "mine" });
    for (headers, status) in [
        (vec![], 403),
        (vec![("x-csrf-token", "guessed")], 403),
        (vec![("x-csrf-token", csrf), ("origin", "http://elsewhere.example")], 403),
        (vec![("x-csrf-token", csrf), ("origin", "null")], 403),
        (vec![("x-csrf-token", csrf), ("origin", "http://gateway.test")], 201),
    ] {
        let headers = [vec![("cookie", cookie.as_str())], headers].concat();
        let answer = call(&gateway, ("POST", "/workspaces"), &headers, &body).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
    }
    assert_eq!(me(&gateway, &cookie).await, 200, "reading needs the cookie alone");
    gateway.stop().await;
}

#[tokio::test]
async fn disabling_and_deleting_end_sessions_and_tokens_at_once() {
    let gateway = Builder::new("").start().await;
    let (id, token) = user(&gateway, "somebody", "member").await;
    let password = "another password, their own";
    let session = cookie(&login(&gateway, "somebody@example.org", password).await);
    let by_token = async || gateway.admin_as(&token, ("GET", "/auth/me", None), &[]).await.status;
    let act = async |method: &str, path: &str| {
        gateway.admin(method, &format!("/users/{id}{path}"), None).await.status
    };
    assert_eq!((by_token().await, me(&gateway, &session).await), (200, 200));
    assert_eq!(act("POST", "/disable").await, 200);
    assert_eq!((by_token().await, me(&gateway, &session).await), (401, 401));
    assert_eq!(login(&gateway, "somebody@example.org", password).await.status, 401);
    assert_eq!(act("POST", "/enable").await, 200);
    assert_eq!((by_token().await, me(&gateway, &session).await), (200, 401));
    assert_eq!(act("POST", "/enable").await, 409);
    assert_eq!(act("DELETE", "").await, 204);
    assert_eq!(by_token().await, 401);
    assert_eq!(act("POST", "/enable").await, 404);
    // The address can be used again, by somebody else.
    let again = json!({ "email": "somebody@example.org" });
    assert_eq!(gateway.admin("POST", "/users", Some(&again)).await.status, 201);
    gateway.stop().await;
}

#[tokio::test]
async fn somebody_is_always_left_who_owns_and_manages() {
    let gateway = Builder::new("").start().await;
    let users = gateway.admin("GET", "/users", None).await.json();
    assert_eq!(users["data"].as_array().unwrap().len(), 1, "{users}");
    assert_eq!(users["data"][0]["platform_role"], json!("superadmin"));
    let first = users["data"][0]["id"].as_str().unwrap().to_owned();
    let (owner, token) = user(&gateway, "owner", "member").await;
    let body = json!({ "slug": "mine" });
    let made = gateway.admin_as(&token, ("POST", "/workspaces", Some(&body)), &[]).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let member = format!("/workspaces/mine/members/{owner}");
    let viewer = json!({ "role": "viewer" });
    for (method, path, body, code) in [
        ("POST", format!("/users/{first}/disable"), None, "last_superadmin"),
        ("DELETE", format!("/users/{first}"), None, "last_superadmin"),
        ("DELETE", format!("/users/{owner}"), None, "last_owner"),
        ("DELETE", member.clone(), None, "last_owner"),
        ("PUT", member.clone(), Some(&viewer), "last_owner"),
    ] {
        let answer = gateway.admin(method, &path, body).await;
        assert_eq!((answer.status, &answer.json()["code"]), (409, &json!(code)), "{method} {path}");
    }
    let (other, _) = user(&gateway, "other", "member").await;
    let put = format!("/workspaces/mine/members/{other}");
    assert_eq!(gateway.admin("PUT", &put, Some(&json!({ "role": "owner" }))).await.status, 200);
    assert_eq!(gateway.admin("DELETE", &format!("/users/{owner}"), None).await.status, 204);
    gateway.stop().await;
}

#[tokio::test]
async fn passwords_are_argon2id_in_the_file_and_shown_nowhere() {
    let gateway = Builder::new("").start().await;
    let (id, _) = user(&gateway, "somebody", "member").await;
    for path in ["/users", &format!("/users/{id}"), "/audit-events", "/export"] {
        let text = gateway.admin("GET", path, None).await.text();
        assert!(!text.contains("argon2id") && !text.contains(PASSWORD), "{path}");
    }
    let state = rusqlite::Connection::open(gateway.dir.path().join("state.db")).unwrap();
    let hash: String = state
        .query_row("SELECT password_hash FROM users WHERE id = ?1", [&id], |row| row.get(0))
        .unwrap();
    assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
    for file in ["state.db", "state.db-wal"] {
        let bytes = std::fs::read(gateway.dir.path().join(file)).unwrap_or_default();
        for text in [PASSWORD, "another password, their own"] {
            assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{file}");
        }
    }
    gateway.stop().await;
}
