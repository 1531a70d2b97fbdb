//! The OpenAPI document against the running listener.

use std::collections::HashMap;

use serde_json::{Value, json};
use sluice::admin::routes::{Route, routes};

use crate::admin_roles::{call, furnish, user};
use crate::harness::{Builder, TestGateway};

async fn document(gateway: &TestGateway) -> Value {
    let answer = call(gateway, ("GET", "/openapi.json"), &[], &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// What a reference leads to.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// What of `answer` is not as the schema says: every field stands there, and has one of its types.
fn check(document: &Value, schema: &Value, answer: &Value, (at, wrong): (&str, &mut Vec<String>)) {
    let schema = resolved(document, schema);
    let kind = match answer {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_one = |wanted: &Value| wanted == kind || (wanted == "number" && kind == "integer");
    let is_right = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(is_one),
        wanted => is_one(wanted),
    };
    if !is_right {
        wrong.push(format!("{at}: {answer} is no {}", schema["type"]));
    }
    for item in answer.as_array().into_iter().flatten() {
        if schema["items"].is_object() {
            check(document, &schema["items"], item, (&format!("{at}[]"), wrong));
        }
    }
    let Some(properties) = schema["properties"].as_object() else { return };
    for (field, value) in answer.as_object().into_iter().flatten() {
        match properties.get(field) {
            Some(schema) => check(document, schema, value, (&format!("{at}.{field}"), wrong)),
            None => wrong.push(format!("{at}.{field} is not there: {value}")),
        }
    }
    for field in schema["required"].as_array().into_iter().flatten() {
        if answer.get(field.as_str().unwrap()).is_none() {
            wrong.push(format!("{at}.{field} is missing"));
        }
    }
}

#[tokio::test]
async fn document_is_the_table_of_routes() {
    let gateway = Builder::new("").start().await;
    let document = document(&gateway).await;
    let mut documented: Vec<String> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if method != "servers" {
                assert!(operation["responses"].is_object(), "{method} {path}");
                documented.push(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    let mut known: Vec<String> =
        routes().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    known.extend(["/healthz", "/readyz", "/metrics"].map(|path| format!("GET {path}")));
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
    gateway.stop().await;
}

/// The path of a route, to something that is there.
fn path(route: &Route, ids: &HashMap<(String, String), String>, user: &str, token: &str) -> String {
    let workspace = if route.path.contains("{workspace}") { "acme" } else { "" };
    let rest = route.path.rsplit_once("{environment}/").map_or(&*route.path, |(_, rest)| rest);
    let list = rest.trim_start_matches('/').split('/').next().unwrap();
    let id = match list {
        "users" => user,
        "admin-tokens" => token,
        list => ids.get(&(workspace.to_owned(), list.to_owned())).map_or("", |id| id),
    };
    let path = route.path.replace("{id}", id).replace("{workspace}", "acme");
    path.replace("{environment}", "production").replace("{user}", user)
}

#[tokio::test]
async fn answers_are_as_the_document_says() {
    let gateway = Builder::new("").start().await;
    let document = document(&gateway).await;
    for slug in ["acme", "beta"] {
        gateway.admin("POST", "/workspaces", Some(&json!({ "slug": slug }))).await;
    }
    let ids = furnish(&gateway).await;
    let (user, token) = user(&gateway, "somebody", "member").await;
    let member = format!("/workspaces/acme/members/{user}");
    assert_eq!(gateway.admin("PUT", &member, Some(&json!({ "role": "viewer" }))).await.status, 200);
    let tokens = gateway.admin_as(&token, ("GET", "/admin-tokens", None), &[]).await.json();
    let token = tokens["data"][0]["id"].as_str().unwrap();
    let (mut n, mut wrong) = (0, Vec::new());
    for route in routes().iter().filter(|route| route.method == "GET") {
        let of_its_own = ["get_request", "get_openapi", "begin_sign_on", "finish_sign_on"];
        if of_its_own.contains(&route.operation.as_str())
            || !route.media.contains(&"application/json")
        {
            continue;
        }
        let at = path(route, &ids, &user, token);
        let answer = gateway.admin("GET", &at, None).await;
        assert_eq!(answer.status, 200, "{at}: {}", answer.text());
        let method = &document["paths"][&route.path]["get"];
        let schema = &method["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{}", route.path);
        check(&document, schema, &answer.json(), (&route.path, &mut wrong));
        n += 1;
    }
    assert!(n > 30, "{n} routes");
    let missing = gateway.admin("GET", "/workspaces/none", None).await;
    let problem = json!({ "$ref": "#/components/schemas/Problem" });
    check(&document, &problem, &missing.json(), ("problem", &mut wrong));
    wrong.sort_unstable();
    wrong.dedup();
    assert_eq!(wrong, [] as [&str; 0]);
    gateway.stop().await;
}
