//! One call of the admin API: what it brings, and what it is answered.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::AdminError;
use super::principal::Principal;
use super::routes::Route;
use crate::control::edit::EditError;
use crate::control::store::resources::{Page, Place, ResourceRow};

const PAGE_ROWS_DEFAULT: i64 = 50;
const PAGE_ROWS_MAX: i64 = 1000;

/// A call whose caller may make it.
#[derive(Debug)]
pub struct Call {
    pub route: &'static Route,
    pub path: String,
    pub params: BTreeMap<String, String>,
    pub query: BTreeMap<String, String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub principal: Principal,
    /// What the path names.
    pub workspace: Option<ResourceRow>,
    pub environment: Option<ResourceRow>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub body: Option<Json>,
    pub headers: Vec<(HeaderName, String)>,
}

impl Call {
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Where the resources of the path stand.
    pub fn place(&self) -> Place {
        match (&self.workspace, &self.environment) {
            (Some(workspace), Some(environment)) => {
                Place::in_environment(workspace.id, environment.id)
            }
            (Some(workspace), None) => Place::in_workspace(workspace.id),
            _ => Place::default(),
        }
    }

    pub fn workspace_id(&self) -> Result<Uuid, AdminError> {
        self.workspace.as_ref().map(|row| row.id).ok_or(AdminError::NotFound)
    }

    /// The body, which must be a JSON object.
    pub fn object(&self) -> Result<Map<String, Json>, AdminError> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        let kind = self.header("content-type").unwrap_or("application/json");
        if !kind.starts_with("application/json")
            && !kind.starts_with("application/merge-patch+json")
        {
            return Err(AdminError::UnsupportedBody);
        }
        let text = std::str::from_utf8(&self.body)
            .map_err(|_| AdminError::BadBody("the body must be UTF-8".to_owned()))?;
        let node = crate::config::document::parse("body.json", text)
            .map_err(|problems| AdminError::BadBody(first_line(&problems.to_string())))?;
        match node.to_json_with_nulls() {
            Json::Object(fields) => Ok(fields),
            _ => Err(AdminError::BadBody("the body must be a JSON object".to_owned())),
        }
    }

    /// The part of a list that is wanted.
    pub fn page(&self, others: &[&'static str]) -> Result<Page, AdminError> {
        self.known_query(&[&["limit", "cursor"], others].concat())?;
        let limit = match self.query.get("limit") {
            None => PAGE_ROWS_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=PAGE_ROWS_MAX).contains(limit))
                .ok_or(AdminError::InvalidQuery("limit must be a number from 1 to 1000"))?,
        };
        let after = match self.query.get("cursor") {
            None => None,
            Some(text) => Some(
                Uuid::try_parse(text)
                    .map_err(|_| AdminError::InvalidQuery("cursor must be a `next_cursor`"))?,
            ),
        };
        Ok(Page { after, limit })
    }

    /// Refuses parameters that mean nothing.
    pub fn known_query(&self, known: &[&str]) -> Result<(), AdminError> {
        if self.query.keys().all(|name| known.contains(&name.as_str())) {
            return Ok(());
        }
        Err(AdminError::InvalidQuery("there is a query parameter that this route does not know"))
    }

    pub fn flag(&self, name: &str) -> Result<bool, AdminError> {
        match self.query.get(name).map(String::as_str) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(AdminError::InvalidQuery("a flag must be true or false")),
        }
    }

    /// Refuses a change of what is not as the caller knew it.
    pub fn check_version(&self, version: i64) -> Result<(), EditError> {
        let Some(wanted) = self.header("if-match") else { return Ok(()) };
        let current = etag(version);
        let is_current =
            |tag: &str| tag.trim() == "*" || tag.trim().trim_start_matches("W/") == current;
        if wanted.split(',').any(is_current) { Ok(()) } else { Err(EditError::Stale) }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

pub(super) fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// A part of a list, with the cursor of the next one if this one is full.
pub(super) fn list(rows: &[Json], limit: i64, last: Option<String>) -> Reply {
    let is_full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= limit;
    let next = last.filter(|_| is_full);
    Reply::ok(serde_json::json!({ "data": rows, "next_cursor": next }))
}

impl Reply {
    pub fn ok(body: Json) -> Self {
        Self { status: StatusCode::OK, body: Some(body), headers: Vec::new() }
    }

    pub fn created(body: Json) -> Self {
        Self { status: StatusCode::CREATED, body: Some(body), headers: Vec::new() }
    }

    pub fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None, headers: Vec::new() }
    }

    #[must_use]
    pub fn with_version(self, version: i64) -> Self {
        self.with_header(header::ETAG, etag(version))
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(body) => (self.status, axum::Json(body)).into_response(),
            None => self.status.into_response(),
        };
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().append(name, value);
            }
        }
        // An answer may hold a secret that is shown once.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
