//! The OpenAPI document, made from the table of routes.

mod schemas;

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

/// What the listener answers besides the API, to anybody.
const OUTSIDE: [(&str, &str); 3] = [
    ("/healthz", "whether the process runs"),
    ("/readyz", "whether it wants requests, and why not"),
    ("/metrics", "metrics, as Prometheus reads them"),
];

/// The whole document.
pub fn build() -> Json {
    let mut paths: BTreeMap<&str, Map<String, Json>> = BTreeMap::new();
    for route in routes() {
        let methods = paths.entry(&route.path).or_default();
        methods.insert(route.method.as_str().to_ascii_lowercase(), operation(route));
    }
    for (path, summary) in OUTSIDE {
        let answered = json!({ "200": { "description": summary } });
        let operation = json!({ "operationId": path, "summary": summary, "responses": answered });
        let methods = Map::from_iter([
            // They do not stand below the prefix.
            ("servers".to_owned(), json!([{ "url": "/" }])),
            ("get".to_owned(), operation),
        ]);
        paths.insert(path, methods);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Sluice admin API", "version": env!("CARGO_PKG_VERSION") },
        "servers": [{ "url": PREFIX }],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": super::session::COOKIE },
            },
        },
    })
}

fn operation(route: &Route) -> Json {
    let mut operation = Map::from_iter([
        ("operationId".to_owned(), json!(route.operation)),
        ("summary".to_owned(), json!(route.summary)),
        ("x-permission".to_owned(), json!(route.needs.name())),
        ("parameters".to_owned(), json!(parameters(route))),
        ("responses".to_owned(), responses(route)),
    ]);
    if route.needs != Permission::Open {
        operation.insert("security".to_owned(), json!([{ "token": [] }, { "session": [] }]));
    }
    if let Some(body) = route.body {
        let schema = match route.method.as_str() {
            // A patch says only what changes.
            "PATCH" => json!({ "type": "object" }),
            _ => reference(body),
        };
        let body =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        operation.insert("requestBody".to_owned(), body);
    }
    Json::Object(operation)
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
    let found = match route.answer {
        Some(answer) => {
            let content = |media: &&str| {
                // What is no JSON is a text, line by line.
                let is_json = *media == "application/json";
                let schema = if is_json { reference(answer) } else { json!({ "type": "string" }) };
                ((*media).to_owned(), json!({ "schema": schema }))
            };
            let content: Map<String, Json> = route.media.iter().map(content).collect();
            json!({ "description": "done", "content": content })
        }
        None => json!({ "description": "done" }),
    };
    let is_made = route.method == "POST" && route.operation.starts_with("create_");
    let status = match route.answer {
        None if route.operation == "begin_sign_on" => "302",
        None => "204",
        Some(_) if is_made => "201",
        Some(_) => "200",
    };
    json!({ status: found, "default": problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::query::{Dimension, RowQuery};

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
        assert_eq!(n, routes().len() + 2 * OUTSIDE.len(), "two routes with one method and path");
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

    #[test]
    fn rows_are_narrowed_by_every_parameter_that_the_document_names() {
        for operation in ["list_requests", "export_requests"] {
            let route = routes().iter().find(|route| route.operation == operation).unwrap();
            for name in Dimension::names() {
                assert!(route.query.contains(&name), "{operation} {name}");
            }
            for name in route.query.iter().filter(|name| **name != "format") {
                let read = RowQuery::read(std::iter::once(((*name).to_owned(), "x".to_owned())));
                let is_known = read.err().is_none_or(|error| !error.text.contains("not known"));
                assert!(is_known, "{operation} {name}");
            }
        }
    }
}
