//! The OpenAPI document, made from the table of routes.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::call::{Call, Reply};
use super::principal::Permission;
use super::routes::{PREFIX, Route, routes};
use super::{AdminError, AdminState};

pub(super) fn document(_state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    Ok(Reply::ok(build()))
}

/// The whole document.
pub fn build() -> Json {
    let mut paths: BTreeMap<&str, Map<String, Json>> = BTreeMap::new();
    for route in routes() {
        let methods = paths.entry(&route.path).or_default();
        methods.insert(route.method.as_str().to_ascii_lowercase(), operation(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Sluice admin API", "version": env!("CARGO_PKG_VERSION") },
        "servers": [{ "url": PREFIX }],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": super::session::COOKIE },
            },
        },
    })
}

fn operation(route: &Route) -> Json {
    let mut operation = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "x-permission": route.needs.name(),
        "parameters": parameters(route),
        "responses": responses(route),
    });
    if route.needs != Permission::Open {
        operation["security"] = json!([{ "token": [] }, { "session": [] }]);
    }
    if let Some(body) = route.body {
        let schema = match route.method.as_str() {
            // A patch says only what changes.
            "PATCH" => json!({ "type": "object" }),
            _ => reference(body),
        };
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn reference(schema: &str) -> Json {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn parameters(route: &Route) -> Vec<Json> {
    let text = json!({ "type": "string" });
    let in_path = route.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({ "name": name, "in": "path", "required": true, "schema": text }))
    });
    let in_query = route.query.iter().map(|name| {
        let schema = match *name {
            "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 1000 }),
            "dry_run" => json!({ "type": "boolean" }),
            _ => text.clone(),
        };
        json!({ "name": name, "in": "query", "schema": schema })
    });
    let mut all: Vec<Json> = in_path.chain(in_query).collect();
    let header = |name: &str| json!({ "name": name, "in": "header", "schema": text });
    match route.method.as_str() {
        "POST" => all.push(header("Idempotency-Key")),
        "PATCH" | "PUT" | "DELETE" => all.push(header("If-Match")),
        _ => {}
    }
    all
}

fn responses(route: &Route) -> Json {
    let problem = json!({
        "description": "a problem (RFC 9457)",
        "content": { "application/problem+json": { "schema": reference("Problem") } },
    });
    let schema = route.answer.map(reference);
    let found = match schema {
        Some(schema) => json!({
            "description": "done",
            "content": { "application/json": { "schema": schema } },
        }),
        None => json!({ "description": "done" }),
    };
    let is_made = route.method == "POST" && route.operation.starts_with("create_");
    let status = match route.answer {
        None => "204",
        Some(_) if is_made => "201",
        Some(_) => "200",
    };
    json!({ status: found, "default": problem })
}

/// An object of these properties, each a name and a type, and of no others in a body.
fn object(properties: &[(&str, &str)]) -> Json {
    let properties: Map<String, Json> =
        properties.iter().map(|(name, kind)| ((*name).to_owned(), property(kind))).collect();
    json!({ "type": "object", "properties": properties })
}

fn property(kind: &str) -> Json {
    match kind {
        "any" => json!({}),
        "text?" => json!({ "type": ["string", "null"] }),
        "number?" => json!({ "type": ["integer", "null"] }),
        "texts" => json!({ "type": "array", "items": { "type": "string" } }),
        "objects" => json!({ "type": "array", "items": { "type": "object" } }),
        kind => match kind.strip_prefix('#') {
            Some(schema) => reference(schema),
            None => json!({ "type": kind }),
        },
    }
}

const STAMPS: [(&str, &str); 5] = [
    ("id", "string"),
    ("created_at", "string"),
    ("created_by", "string"),
    ("updated_at", "string"),
    ("updated_by", "string"),
];
const DESCRIBED: [(&str, &str); 4] = [
    ("description", "string"),
    ("labels", "object"),
    ("limits", "objects"),
    ("enabled", "boolean"),
];
const PLACED: [(&str, &str); 2] = [("workspace_id", "string"), ("environment_id", "string")];

type Properties = &'static [(&'static str, &'static str)];

const WORKSPACE: Properties = &[
    ("slug", "string"),
    ("name", "string"),
    ("status", "string"),
    ("default", "boolean"),
    ("settings", "object"),
    ("environments", "objects"),
];
const ENVIRONMENT: Properties = &[
    ("slug", "string"),
    ("name", "string"),
    ("instructions", "string"),
    ("rules", "objects"),
    ("priority_pools", "objects"),
];
const CONNECTION: Properties = &[
    ("name", "string"),
    ("provider", "string"),
    ("base_url", "string"),
    ("credential", "string"),
    ("credential_hint", "text?"),
    ("auth", "string"),
    ("dialects", "texts"),
    ("settings", "object"),
    ("health_check", "object"),
];
const MODEL: Properties = &[
    ("alias", "string"),
    ("connection", "string"),
    ("upstream_model", "string"),
    ("kind", "string"),
    ("capabilities", "texts"),
    ("context_window", "integer"),
    ("max_output_tokens", "integer"),
    ("price", "object"),
    ("price_source", "string"),
];
const DEPLOYMENT: Properties = &[
    ("name", "string"),
    ("strategy", "string"),
    ("hash_on", "string"),
    ("targets", "objects"),
    ("timeouts", "object"),
    ("failover", "object"),
    ("breaker", "object"),
    ("on_disconnect", "string"),
    ("heartbeat_s", "number"),
    ("cache", "object"),
    ("default_params", "object"),
    ("override_params", "object"),
    ("instructions", "string"),
    ("rules", "objects"),
    ("guards", "objects"),
];
const KEY: Properties = &[
    ("name", "string"),
    ("secret", "string"),
    ("hint", "text?"),
    ("secrets", "objects"),
    ("status", "string"),
    ("scopes", "object"),
    ("expires_at", "string"),
    ("metadata_defaults", "object"),
    ("last_used_at", "text?"),
];

/// Schemas of resources, and of a list of each.
fn schemas() -> Map<String, Json> {
    let mut all = Map::new();
    let resources: [(&str, Properties, bool); 7] = [
        ("Workspace", WORKSPACE, false),
        ("Environment", ENVIRONMENT, false),
        ("Connection", CONNECTION, true),
        ("Model", MODEL, true),
        ("ModelGrant", &[("model", "string")], true),
        ("Deployment", DEPLOYMENT, true),
        ("Key", KEY, true),
    ];
    for (name, own, is_placed) in resources {
        let placed = if is_placed { &PLACED[..] } else { &[("workspace_id", "string")][..] };
        all.insert(name.to_owned(), object(&[own, &STAMPS, &DESCRIBED, placed].concat()));
    }
    for (name, own) in OTHERS {
        all.insert((*name).to_owned(), object(own));
    }
    all.insert("Any".to_owned(), json!({ "type": "object" }));
    let lists: Vec<String> = routes()
        .iter()
        .filter_map(|route| route.answer)
        .filter_map(|answer| answer.strip_suffix("List").map(str::to_owned))
        .collect();
    for item in lists {
        let schema = if all.contains_key(&item) { &item } else { "Any" };
        let list = json!({
            "type": "object",
            "required": ["data", "next_cursor"],
            "properties": {
                "data": { "type": "array", "items": reference(schema) },
                "next_cursor": { "type": ["string", "null"] },
            },
        });
        all.insert(format!("{item}List"), list);
    }
    all
}

const OTHERS: &[(&str, Properties)] = &[
    (
        "Problem",
        &[
            ("type", "string"),
            ("title", "string"),
            ("status", "integer"),
            ("code", "string"),
            ("detail", "string"),
            ("errors", "objects"),
        ],
    ),
    ("Document", &[("connections", "objects"), ("models", "objects"), ("workspaces", "objects")]),
    ("Plan", &[("dry_run", "boolean"), ("changes", "objects"), ("secrets", "objects")]),
    ("Rotation", &[("grace_s", "integer")]),
    ("Active", &[("workspace", "text?"), ("environment", "text?")]),
    ("Verdict", &[("intact", "boolean"), ("events", "number?"), ("problem", "text?")]),
    ("Version", &[("name", "string"), ("version", "string")]),
    ("LimitUsage", &[("name", "string"), ("limits", "objects")]),
    ("DeploymentHealth", &[("id", "text?"), ("name", "string"), ("targets", "objects")]),
    (
        "AuditEvent",
        &[
            ("seq", "integer"),
            ("id", "string"),
            ("revision", "integer"),
            ("at", "string"),
            ("actor", "object"),
            ("source_ip", "text?"),
            ("action", "string"),
            ("resource", "object"),
            ("workspace_id", "text?"),
            ("environment_id", "text?"),
            ("before", "any"),
            ("after", "any"),
            ("hash", "string"),
        ],
    ),
    (
        "User",
        &[
            ("id", "string"),
            ("email", "string"),
            ("name", "string"),
            ("platform_role", "string"),
            ("status", "string"),
            ("password", "string"),
            ("must_change_password", "boolean"),
            ("last_login_at", "text?"),
            ("invite_token", "string"),
            ("invite_expires_at", "string"),
            ("created_at", "string"),
            ("created_by", "string"),
        ],
    ),
    (
        "Member",
        &[
            ("user_id", "string"),
            ("email", "text?"),
            ("name", "text?"),
            ("role", "string"),
            ("environments", "any"),
            ("created_at", "string"),
            ("created_by", "string"),
        ],
    ),
    (
        "AdminToken",
        &[
            ("id", "string"),
            ("user_id", "string"),
            ("name", "string"),
            ("token", "string"),
            ("hint", "string"),
            ("permissions", "any"),
            ("workspaces", "any"),
            ("expires_at", "text?"),
            ("last_used_at", "text?"),
            ("created_at", "string"),
            ("created_by", "string"),
        ],
    ),
    ("Login", &[("email", "string"), ("password", "string")]),
    ("Session", &[("user", "#User"), ("csrf_token", "string")]),
    ("PasswordChange", &[("current", "string"), ("password", "string")]),
    ("Acceptance", &[("token", "string"), ("password", "string"), ("name", "string")]),
    (
        "Me",
        &[
            ("kind", "string"),
            ("user", "any"),
            ("platform_role", "string"),
            ("permissions", "texts"),
            ("memberships", "objects"),
        ],
    ),
    ("Request", &[("request_id", "string")]),
    ("UsageQuery", &[("from", "string"), ("to", "string")]),
    ("UsageAnswer", &[("data", "objects")]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_stands_in_the_document_and_every_reference_leads_somewhere() {
        let document = build();
        for route in routes() {
            let method = route.method.as_str().to_ascii_lowercase();
            let operation = &document["paths"][&route.path][&method];
            assert_eq!(operation["operationId"], json!(route.operation));
        }
        let n: usize = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .map(|methods| methods.as_object().unwrap().len())
            .sum();
        assert_eq!(n, routes().len(), "two routes with one method and path");
        let text = document.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            let schema = &document["components"]["schemas"][name];
            assert!(schema.is_object(), "{name} is not there");
        }
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let mut names: Vec<&str> = routes().iter().map(|it| it.operation.as_str()).collect();
        let n = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n);
    }
}
