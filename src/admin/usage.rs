//! The routes that read usage. docs/usage-api.md describes them.

use std::future::Future;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use super::{AdminError, CALL_MAX, Shared, problem};
use crate::clock::Clock;
use crate::usage::query::{self, QueryError, ReadError, Reading, RowQuery, Visible};

/// What the routes read from.
#[derive(Clone)]
pub struct UsageApi {
    /// `None` when the store cannot be read.
    pub reading: Option<Reading>,
    pub clock: Clock,
}

/// What the asker may see. Whoever guards the routes puts it into the request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub workspaces: Visible,
    /// Bodies of requests and answers.
    pub payloads: bool,
}

/// Pairs of a query string, in their order.
type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/usage/query", post(usage))
        .route("/api/v1/requests", get(requests))
        .route("/api/v1/requests/{request_id}", get(request))
}

impl Seen {
    pub const fn everything() -> Self {
        Self { workspaces: None, payloads: true }
    }
}

impl UsageApi {
    fn reading(&self) -> Result<Reading, UsageError> {
        self.reading.clone().ok_or(UsageError(ReadError::Unavailable("not readable".to_owned())))
    }
}

async fn usage(
    State(shared): State<Shared>,
    Extension(seen): Extension<Seen>,
    body: Bytes,
) -> Result<Json<Value>, UsageError> {
    let body: Value = serde_json::from_slice(&body).map_err(|error| QueryError {
        field: "body".to_owned(),
        text: format!("is no JSON: line {}, column {}", error.line(), error.column()),
    })?;
    let query = query::Query::read(&body)?;
    let api = &shared.state.usage;
    let (reading, now_us) = (api.reading()?, api.clock.unix_micros());
    within(reading.usage(query, seen.workspaces, now_us)).await.map(Json)
}

async fn requests(
    State(shared): State<Shared>,
    Extension(seen): Extension<Seen>,
    pairs: Pairs,
) -> Result<Json<Value>, UsageError> {
    let query = row_query(pairs)?;
    let page = within(shared.state.usage.reading()?.requests(query, seen.workspaces)).await?;
    Ok(Json(page.json()))
}

async fn request(
    State(shared): State<Shared>,
    Extension(seen): Extension<Seen>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Response> {
    let not_found = || AdminError::NotFound.into_response();
    let id = path.ok().and_then(|Path(id)| Uuid::parse_str(&id).ok()).ok_or_else(not_found)?;
    let found = async {
        let reading = shared.state.usage.reading()?;
        within(reading.requests(RowQuery::of_id(id), seen.workspaces)).await
    };
    let page = found.await.map_err(IntoResponse::into_response)?;
    page.rows.into_iter().next().map(Json).ok_or_else(not_found)
}

fn row_query(pairs: Pairs) -> Result<RowQuery, UsageError> {
    let Ok(Query(pairs)) = pairs else {
        let text = "cannot be read".to_owned();
        return Err(QueryError { field: "query".to_owned(), text }.into());
    };
    Ok(RowQuery::read(pairs.into_iter())?)
}

/// Nobody waits for a store for ever.
async fn within<T>(read: impl Future<Output = Result<T, ReadError>>) -> Result<T, UsageError> {
    let late = || Err(ReadError::Unavailable("it did not answer in time".to_owned()));
    Ok(timeout(CALL_MAX, read).await.unwrap_or_else(|_elapsed| late())?)
}

/// A read that failed, as an answer.
pub(super) struct UsageError(ReadError);

impl<E: Into<ReadError>> From<E> for UsageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for UsageError {
    fn into_response(self) -> Response {
        match self.0 {
            ReadError::Query(error) => problem::invalid_field(&error.field, &error.to_string()),
            error @ ReadError::Unavailable(_) => {
                tracing::warn!(%error, "usage cannot be read");
                AdminError::Unavailable.into_response()
            }
        }
    }
}
