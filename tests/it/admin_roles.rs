//! Who may do what: every route, by every role, in their own workspace and in another.

use std::collections::HashMap;

use serde_json::{Value, json};
use sluice::admin::principal::Permission;
use sluice::admin::routes::{Route, routes};
use sluice::config::resources::Kind;

use crate::client::{Answer, Client, request};
use crate::harness::{Builder, TestGateway};

pub(crate) const PASSWORD: &str = "a long enough password";

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

const SUPERADMIN: &[&str] =
    &["users.manage", "global.read", "global.manage", "audit.read", "audit.export", "state.manage"];

struct Role {
    name: &'static str,
    token: String,
    platform: &'static [&'static str],
    /// In `acme`; none is an outsider.
    workspace: Option<&'static [&'static str]>,
    /// In `beta`.
    other: Option<&'static [&'static str]>,
}

/// A call of the admin API with these headers alone.
pub(crate) async fn call(
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
pub(crate) async fn user(
    gateway: &TestGateway,
    name: &str,
    platform_role: &str,
) -> (String, String) {
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
    let name = json!({ "name": "t" });
    let forged = call(gateway, ("POST", "/admin-tokens"), &headers[..1], &name).await;
    assert_eq!(forged.json()["code"], json!("csrf"));
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
    let (_, superadmin) = user(gateway, "superadmin", "superadmin").await;
    let role =
        |name, token, platform, workspace, other| Role { name, token, platform, workspace, other };
    let mut roles = vec![
        role("superadmin", superadmin, SUPERADMIN, Some(OWNER), Some(OWNER)),
        role("platform admin", admin, PLATFORM_ADMIN, None, None),
        role("outsider", outsider, &[], None, None),
    ];
    for (name, workspace) in
        [("owner", OWNER), ("admin", ADMIN), ("member", MEMBER), ("viewer", VIEWER)]
    {
        let (id, token) = user(gateway, name, "member").await;
        let path = format!("/workspaces/acme/members/{id}");
        let put = gateway.admin("PUT", &path, Some(&json!({ "role": name }))).await;
        assert_eq!(put.status, 200, "{}", put.text());
        roles.push(role(name, token, &[], Some(workspace), None));
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

impl Role {
    /// Whether they may: `None` if they must not even learn that the workspace is there.
    fn may(&self, route: &Route, workspace: &str) -> Option<bool> {
        let needs = route.needs.name();
        if !route.path.contains("{workspace}") {
            return Some(self.platform.contains(&needs) || EVERYBODY.contains(&needs));
        }
        if needs == "usage.read" && self.platform.contains(&"audit.read") {
            return Some(true); // They see the usage of all.
        }
        let theirs = if workspace == "acme" { self.workspace } else { self.other };
        theirs.map(|theirs| theirs.contains(&needs))
    }
}

/// Routes that answer 401 or 403 for a reason of their own.
const REFUSE: [&str; 2] = ["login", "change_password"];

async fn check(gateway: &TestGateway, role: &Role, route: &Route, workspace: &str) {
    let may = role.may(route, workspace);
    if route.operation == "watch_usage" && may == Some(true) {
        return; // It would go on for ever; the tests of usage read it.
    }
    let answer = harmless(gateway, &role.token, route, workspace).await;
    let what = format!(
        "{} {} {} in {workspace}: {} {}",
        role.name,
        route.method,
        route.path,
        answer.status,
        answer.text()
    );
    assert!(answer.status < 500, "{what}");
    match may {
        // Outside: as if it were not there.
        None => {
            assert_eq!(answer.status, 404, "{what}");
            assert_eq!(answer.json()["code"], json!("not_found"), "{what}");
        }
        Some(_) if REFUSE.contains(&route.operation.as_str()) => {}
        Some(may) => assert_eq!(![401, 403].contains(&answer.status), may, "{what}"),
    }
}

#[tokio::test]
async fn every_route_is_open_to_those_who_may_and_to_nobody_else() {
    let gateway = Builder::new("").start().await;
    let roles = roles(&gateway).await;
    let mut n = 0;
    for route in routes() {
        for role in &roles {
            let is_of_workspace = route.path.contains("{workspace}");
            for workspace in if is_of_workspace { &["acme", "beta"][..] } else { &[""] } {
                check(&gateway, role, route, workspace).await;
                n += 1;
            }
        }
        let headers = [("authorization", "Bearer nobody")];
        let at = path(route, "acme");
        let anonymous = call(&gateway, (route.method.as_str(), &at), &headers, &json!({})).await;
        let is_refused = anonymous.status == 401;
        let is_login = route.operation == "login";
        assert!(is_login || is_refused == (route.needs != Permission::Open), "{}", route.path);
    }
    assert!(n > 900, "{n} calls");
    gateway.stop().await;
}

/// Everything there is, in `acme` and the same again in `beta`; ids by workspace and list.
pub(crate) async fn furnish(gateway: &TestGateway) -> HashMap<(String, String), String> {
    let mut ids = HashMap::new();
    let mut made = async |at: &str, list: &str, body: Value| {
        let answer = gateway.admin("POST", &format!("{at}/{list}"), Some(&body)).await;
        assert_eq!(answer.status, 201, "{list}: {}", answer.text());
        let workspace = at.split('/').nth(2).unwrap_or_default().to_owned();
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        ids.insert((workspace, list.to_owned()), id);
    };
    let connection = json!({ "name": "c", "provider": "simulated", "credential": "sk-0123456789" });
    made("", "connections", connection.clone()).await;
    made("", "models", json!({ "alias": "global", "connection": "c" })).await;
    for workspace in ["acme", "beta"] {
        let at = format!("/workspaces/{workspace}/environments/production");
        made(&at, "connections", connection.clone()).await;
        made(&at, "models", json!({ "alias": "m", "connection": "c" })).await;
        made(&at, "model-grants", json!({ "model": "global" })).await;
        let deployment = json!({ "name": "chat", "targets": [{ "model": "m" }] });
        made(&at, "deployments", deployment).await;
        made(&at, "keys", json!({ "name": "app" })).await;
    }
    ids
}

#[tokio::test]
async fn ids_of_another_workspace_are_unknown_even_to_an_owner() {
    let gateway = Builder::new("").start().await;
    let roles = roles(&gateway).await;
    let owner = roles.iter().find(|role| role.name == "owner").unwrap();
    let ids = furnish(&gateway).await;
    let mut n = 0;
    for route in routes().iter().filter(|route| route.path.contains("{id}")) {
        let Some((before, after)) = route.path.split_once("{environment}/") else { continue };
        let list = after.split('/').next().unwrap();
        for workspace in ["acme", "beta"] {
            let id = &ids[&(workspace.to_owned(), list.to_owned())];
            let at = route.path.replace("{id}", id);
            let at = at.replace("{workspace}", "acme").replace("{environment}", "production");
            // Its own is there: the version is what is wrong.
            let headers = [("if-match", "\"0\"")];
            let call = (route.method.as_str(), at.as_str(), Some(&json!({})));
            let answer = gateway.admin_as(&owner.token, call, &headers).await;
            let what =
                format!("{} {before} {at}: {} {}", route.method, answer.status, answer.text());
            assert!(answer.status < 500, "{what}");
            assert_eq!(answer.status == 404, workspace == "beta", "{what}");
            n += 1;
        }
    }
    assert!(n >= 30, "{n} calls");
    gateway.stop().await;
}

#[tokio::test]
async fn fields_that_mean_nothing_are_refused_by_every_route() {
    let gateway = Builder::new("").start().await;
    roles(&gateway).await;
    let ids = furnish(&gateway).await;
    let me = gateway.admin("GET", "/users", None).await.json();
    let user = me["data"][0]["id"].as_str().unwrap();
    let mut n = 0;
    for route in routes().iter().filter(|route| route.body.is_some()) {
        let workspace = if route.path.contains("{workspace}") { "acme" } else { "" };
        let rest = route.path.rsplit_once("{environment}/").map_or(&*route.path, |(_, rest)| rest);
        let list = rest.trim_start_matches('/').split('/').next().unwrap();
        let id = ids.get(&(workspace.to_owned(), list.to_owned()));
        let at = path(route, "acme").replace("/none", &format!("/{}", id.map_or(user, |id| id)));
        let mut body = json!({ "no_such_field": 1 });
        if route.kind == Some(Kind::Connection) {
            body["credential"] = json!("sk-0123456789"); // It is asked for first.
        }
        let answer = gateway.admin(route.method.as_str(), &at, Some(&body)).await;
        let what = format!("{} {at}: {} {}", route.method, answer.status, answer.text());
        assert!([400, 422].contains(&answer.status), "{what}");
        assert!(answer.text().contains("no_such_field"), "{what}");
        n += 1;
    }
    assert!(n > 30, "{n} calls");
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
async fn token_grants_no_role_that_holds_more_than_the_token() {
    let gateway = Builder::new("").start().await;
    let roles = roles(&gateway).await;
    let token = |name: &str| roles.iter().find(|role| role.name == name).unwrap().token.clone();
    let (newcomer, _) = user(&gateway, "newcomer", "member").await;
    let made = async |of: &str, body: Value| {
        let answer = gateway.admin_as(of, ("POST", "/admin-tokens", Some(&body)), &[]).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["token"].as_str().unwrap().to_owned()
    };
    let owner =
        made(&token("owner"), json!({ "name": "t", "permissions": ["members.manage"] })).await;
    let member = format!("/workspaces/acme/members/{newcomer}");
    let users = made(
        &token("superadmin"),
        json!({ "name": "t", "permissions": ["users.manage", "members.manage"] }),
    )
    .await;
    let here = made(&token("superadmin"), json!({ "name": "t", "workspaces": ["acme"] })).await;
    let user_path = format!("/users/{newcomer}");
    let imported = json!({ "workspaces": [{ "slug": "acme", "name": "Taken" }] });
    for (who, (method, path), body, status) in [
        (&owner, ("PUT", &*member), json!({ "role": "owner" }), 403),
        (&owner, ("PUT", &*member), json!({ "role": "viewer" }), 403),
        (&users, ("PATCH", &*user_path), json!({ "platform_role": "superadmin" }), 403),
        (&users, ("PATCH", &*user_path), json!({ "name": "New" }), 200),
        (&users, ("POST", "/users"), json!({ "email": "s@y", "platform_role": "admin" }), 403),
        (&here, ("GET", "/workspaces/acme"), json!({}), 200),
        (&here, ("GET", "/workspaces/beta"), json!({}), 404),
        (&here, ("POST", "/apply"), json!({}), 403),
        (&here, ("GET", "/users"), json!({}), 403),
        (&here, ("POST", "/workspaces"), json!({ "slug": "gamma" }), 403),
        (&token("outsider"), ("POST", "/workspaces/import"), imported, 409),
    ] {
        let answer = gateway.admin_as(who, (method, path, Some(&body)), &[]).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text());
    }
    // One that is narrowed sees itself alone.
    let seen = gateway.admin_as(&owner, ("GET", "/admin-tokens", None), &[]).await.json();
    assert_eq!(seen["data"].as_array().unwrap().len(), 1, "{seen}");
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
