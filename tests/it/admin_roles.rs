//! Who may do what: every route, by every role, in their own workspace and in another.

use serde_json::{Value, json};
use sluice::admin::principal::Permission;
use sluice::admin::routes::{Route, routes};

use crate::client::{Answer, Client, request};
use crate::harness::{ADMIN_TOKEN, Builder, TestGateway};

const PASSWORD: &str = "a long enough password";

/// What each role may do, written down apart from the code.
const PLATFORM_ADMIN: &[&str] = &["users.manage", "global.read", "global.manage", "audit.read"];
const EVERYBODY: &[&str] = &["open", "signed_in", "global.read", "workspaces.create", "usage.read"];
const VIEWER: &[&str] = &["workspace.see", "usage.read"];
const MEMBER: &[&str] = &["workspace.see", "usage.read", "workspace.read"];
const ADMIN: &[&str] =
    &["workspace.see", "usage.read", "workspace.read", "workspace.manage", "members.manage"];
const OWNER: &[&str] = &[
    "workspace.see",
    "usage.read",
    "workspace.read",
    "workspace.manage",
    "members.manage",
    "workspace.own",
];

struct Role {
    name: &'static str,
    token: String,
    platform: &'static [&'static str],
    /// In `acme`; none is an outsider.
    workspace: Option<&'static [&'static str]>,
}

async fn call(
    gateway: &TestGateway,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &Value,
) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let path = format!("/api/v1{path}");
    let request = request(method, &path, &all, body.to_string().as_bytes());
    Client::connect(gateway.admin).await.call(&request).await
}

/// Makes a user, logs them in, lets them choose a password, and gives them a token.
async fn user(gateway: &TestGateway, name: &str, platform_role: &str) -> (String, String) {
    let email = format!("{name}@example.org");
    let body = json!({ "email": email, "password": PASSWORD, "platform_role": platform_role });
    let made = gateway.admin("POST", "/users", Some(&body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();

    let login = json!({ "email": email, "password": PASSWORD });
    let session = call(gateway, ("POST", "/auth/login"), &[], &login).await;
    assert_eq!(session.status, 200, "{}", session.text());
    let cookie = session.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let csrf = session.json()["csrf_token"].as_str().unwrap().to_owned();
    let headers = [("cookie", cookie.as_str()), ("x-csrf-token", csrf.as_str())];

    let early = call(gateway, ("POST", "/admin-tokens"), &headers, &json!({ "name": "t" })).await;
    assert_eq!(early.json()["code"], json!("password_change_needed"));
    let change = json!({ "current": PASSWORD, "password": "another password, their own" });
    let changed = call(gateway, ("POST", "/auth/password"), &headers, &change).await;
    assert_eq!(changed.status, 204, "{}", changed.text());
    let forged = call(gateway, ("POST", "/admin-tokens"), &headers[..1], &json!({ "name": "t" }));
    assert_eq!(forged.await.json()["code"], json!("csrf"));
    let made = call(gateway, ("POST", "/admin-tokens"), &headers, &json!({ "name": "t" })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let token = made.json()["token"].as_str().unwrap().to_owned();

    let out = call(gateway, ("POST", "/auth/logout"), &headers, &json!({})).await;
    assert_eq!(out.status, 204);
    assert_eq!(call(gateway, ("GET", "/auth/me"), &headers, &json!({})).await.status, 401);
    (id, token)
}

async fn roles(gateway: &TestGateway) -> Vec<Role> {
    for slug in ["acme", "beta"] {
        gateway.admin("POST", "/workspaces", Some(&json!({ "slug": slug }))).await;
    }
    let (_, admin) = user(gateway, "platform-admin", "admin").await;
    let (_, outsider) = user(gateway, "outsider", "member").await;
    let mut roles = vec![
        Role { name: "platform admin", token: admin, platform: PLATFORM_ADMIN, workspace: None },
        Role { name: "outsider", token: outsider, platform: &[], workspace: None },
    ];
    for (name, workspace) in
        [("owner", OWNER), ("admin", ADMIN), ("member", MEMBER), ("viewer", VIEWER)]
    {
        let (id, token) = user(gateway, name, "member").await;
        let path = format!("/workspaces/acme/members/{id}");
        let put = gateway.admin("PUT", &path, Some(&json!({ "role": name }))).await;
        assert_eq!(put.status, 200, "{}", put.text());
        roles.push(Role { name, token, platform: &[], workspace: Some(workspace) });
    }
    roles
}

/// The path of a route with something in its parameters.
fn path(route: &Route, workspace: &str) -> String {
    route
        .path
        .replace("{workspace}", workspace)
        .replace("{environment}", "production")
        .replace("{user}", "01890000-0000-7000-8000-000000000000")
        .replace("{request_id}", "01890000-0000-7000-8000-000000000000")
        .replace("{id}", "none")
}

/// Calls a route in such a way that it changes nothing even if it is allowed.
async fn harmless(gateway: &TestGateway, token: &str, route: &Route, workspace: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("if-match", "\"0\"")];
    let at = path(route, workspace);
    call(gateway, (route.method.as_str(), &at), &headers, &json!({})).await
}

#[tokio::test]
async fn every_route_is_open_to_those_who_may_and_to_nobody_else() {
    let gateway = Builder::new("").start().await;
    let roles = roles(&gateway).await;
    let mut n = 0;
    for route in routes() {
        let needs = route.needs.name();
        let is_of_workspace = route.path.contains("{workspace}");
        for role in &roles {
            for workspace in if is_of_workspace { &["acme", "beta"][..] } else { &[""] } {
                let answer = harmless(&gateway, &role.token, route, workspace).await;
                let what = format!(
                    "{} {} {} in {workspace}: {} {}",
                    role.name,
                    route.method,
                    route.path,
                    answer.status,
                    answer.text()
                );
                let is_granted = match (is_of_workspace, *workspace) {
                    (false, _) => role.platform.contains(&needs) || EVERYBODY.contains(&needs),
                    (true, "acme") if role.workspace.is_some() => {
                        role.workspace.unwrap().contains(&needs)
                    }
                    (true, _) => {
                        // Outside: as if it were not there.
                        assert_eq!(answer.status, 404, "{what}");
                        assert_eq!(answer.json()["code"], json!("not_found"), "{what}");
                        n += 1;
                        continue;
                    }
                };
                let is_refused = answer.status == 403 || answer.status == 401;
                let may_refuse = ["login", "change_password"].contains(&route.operation.as_str());
                assert!(answer.status < 500 || route.call.is_none(), "{what}");
                if !may_refuse {
                    assert_eq!(is_refused, !is_granted, "{what}");
                }
                n += 1;
            }
        }
        let anonymous = call(
            &gateway,
            (route.method.as_str(), &path(route, "acme")),
            &[("authorization", "Bearer nobody")],
            &json!({}),
        );
        let is_refused = anonymous.await.status == 401;
        let is_login = route.operation == "login";
        assert!(is_login || is_refused == (route.needs != Permission::Open), "{}", route.path);
    }
    assert!(n > 700, "{n} calls");
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_have() {
    let gateway = Builder::new("").start().await;
    let roles = roles(&gateway).await;
    let token = |name: &str| roles.iter().find(|role| role.name == name).unwrap().token.as_str();
    let (outsider, _) = user(&gateway, "newcomer", "member").await;
    let member = format!("/workspaces/acme/members/{outsider}");
    for (who, call, body, status) in [
        ("admin", ("PUT", member.as_str()), json!({ "role": "owner" }), 403),
        ("admin", ("PUT", member.as_str()), json!({ "role": "admin" }), 200),
        ("member", ("PUT", member.as_str()), json!({ "role": "viewer" }), 403),
        ("owner", ("PUT", member.as_str()), json!({ "role": "owner" }), 200),
        ("admin", ("DELETE", member.as_str()), json!({}), 403),
        (
            "platform admin",
            ("POST", "/users"),
            json!({ "email": "x@y", "platform_role": "admin" }),
            403,
        ),
        ("platform admin", ("POST", "/users"), json!({ "email": "x@y" }), 201),
        ("outsider", ("POST", "/users"), json!({ "email": "z@y" }), 403),
        (
            "viewer",
            ("POST", "/admin-tokens"),
            json!({ "name": "t", "permissions": ["workspace.manage"] }),
            403,
        ),
        (
            "viewer",
            ("POST", "/admin-tokens"),
            json!({ "name": "t", "permissions": ["usage.read"] }),
            201,
        ),
        ("viewer", ("POST", "/admin-tokens"), json!({ "name": "t", "workspaces": ["beta"] }), 422),
        ("viewer", ("POST", "/admin-tokens"), json!({ "name": "t", "is_admin": true }), 422),
    ] {
        let (method, path) = call;
        let answer = gateway.admin_as(token(who), (method, path, Some(&body)), &[]).await;
        assert_eq!(answer.status, status, "{who} {method} {path} {body}: {}", answer.text());
    }
    // Their own place, upwards or not.
    let me = gateway.admin_as(token("admin"), ("GET", "/auth/me", None), &[]).await.json();
    let own = format!("/workspaces/acme/members/{}", me["user"]["id"].as_str().unwrap());
    let raised = json!({ "role": "owner" });
    let answer = gateway.admin_as(token("admin"), ("PUT", &own, Some(&raised)), &[]).await;
    assert_eq!(answer.status, 403);
    gateway.stop().await;
}

#[tokio::test]
async fn narrowed_token_does_not_outgrow_its_list_nor_a_disabled_user() {
    let gateway = Builder::new("").start().await;
    let roles = roles(&gateway).await;
    let owner = roles.iter().find(|role| role.name == "owner").unwrap();
    let body =
        json!({ "name": "reader", "permissions": ["workspace.read"], "workspaces": ["acme"] });
    let made = gateway.admin_as(&owner.token, ("POST", "/admin-tokens", Some(&body)), &[]).await;
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let keys = "/workspaces/acme/environments/production/keys";
    let status = async |call: (&'static str, &str), body: Option<Value>| {
        gateway.admin_as(&token, (call.0, call.1, body.as_ref()), &[]).await.status
    };
    assert_eq!(status(("GET", keys), None).await, 200);
    assert_eq!(status(("POST", keys), Some(json!({ "name": "k" }))).await, 403);
    assert_eq!(status(("POST", "/workspaces"), Some(json!({ "slug": "gamma" }))).await, 403);
    let wider = json!({ "name": "more", "permissions": ["workspace.manage"] });
    assert_eq!(status(("POST", "/admin-tokens"), Some(wider)).await, 403);

    let me = gateway.admin_as(&owner.token, ("GET", "/auth/me", None), &[]).await.json();
    let disable = format!("/users/{}/disable", me["user"]["id"].as_str().unwrap());
    assert_eq!(gateway.admin("POST", &disable, None).await.status, 200);
    assert_eq!(status(("GET", keys), None).await, 401);
    gateway.stop().await;
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
    assert!(!ADMIN_TOKEN.is_empty());
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
