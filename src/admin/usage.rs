//! The routes that read usage. docs/usage-api.md describes them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use super::routes::{PREFIX, find};
use super::{AdminError, CALL_MAX, Shared, problem};
use crate::clock::Clock;
use crate::usage::query::{
    self, Export, Extent, Format, QueryError, ReadError, Reading, RowQuery, Visible,
};
use crate::usage::record::UsageRow;
use crate::usage::store::UsageSink;
use crate::usage::tail::Seen as Passed;

type WorkspaceOf = dyn Fn(&str) -> Option<Uuid> + Send + Sync;

/// What the routes read from.
#[derive(Clone)]
pub struct UsageApi {
    /// `None` when the store cannot be read.
    pub reading: Option<Reading>,
    /// Where rows pass; `None` shows nothing live.
    pub sink: Option<UsageSink>,
    /// The workspace of a slug or an id.
    pub workspace: Arc<WorkspaceOf>,
    pub clock: Clock,
}

/// Between two rows of a live view: longer than this nothing is silent.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What the asker may see. Whoever guards the routes puts it into the request.
#[derive(Debug, Clone)]
pub struct SeenBy {
    pub rows: Visible,
    /// Where they may see the bodies of requests and answers, too.
    pub payloads: Visible,
}

/// Pairs of a query string, in their order.
type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) fn routes() -> Router<Shared> {
    let handlers = [
        (Method::POST, "/usage/query", post(usage)),
        (Method::GET, "/requests", get(requests)),
        (Method::GET, "/requests/export", get(export)),
        (Method::GET, "/requests/{request_id}", get(request)),
        (Method::GET, "/workspaces/{workspace}/usage/live", get(live)),
    ];
    handlers.into_iter().fold(Router::new(), |router, (method, path, handler)| {
        let path = format!("{PREFIX}{path}");
        assert!(find(&method, &path).is_some(), "{method} {path} does not stand in the table");
        router.route(&path, handler)
    })
}

impl SeenBy {
    pub const fn everything() -> Self {
        Self { rows: None, payloads: None }
    }
}

impl UsageApi {
    fn reading(&self) -> Result<Reading, UsageError> {
        self.reading.clone().ok_or(UsageError(ReadError::Unavailable("not readable".to_owned())))
    }
}

async fn usage(
    State(shared): State<Shared>,
    Extension(seen): Extension<SeenBy>,
    body: Bytes,
) -> Result<Json<Value>, UsageError> {
    let body: Value = serde_json::from_slice(&body).map_err(|error| QueryError {
        field: "body".to_owned(),
        text: format!("is no JSON: line {}, column {}", error.line(), error.column()),
    })?;
    let query = query::Query::read(&body)?;
    let api = &shared.state.usage;
    let (reading, now_us) = (api.reading()?, api.clock.unix_micros());
    within(reading.usage(query, seen.rows, now_us)).await.map(Json)
}

async fn requests(
    State(shared): State<Shared>,
    Extension(seen): Extension<SeenBy>,
    pairs: Pairs,
) -> Result<Json<Value>, UsageError> {
    let query = row_query(pairs)?;
    let page = within(shared.state.usage.reading()?.requests(query, seen.rows)).await?;
    Ok(Json(page.json()))
}

async fn request(
    State(shared): State<Shared>,
    Extension(seen): Extension<SeenBy>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Response> {
    let not_found = || AdminError::NotFound.into_response();
    let id = path.ok().and_then(|Path(id)| Uuid::parse_str(&id).ok()).ok_or_else(not_found)?;
    let found = async {
        let reading = shared.state.usage.reading()?;
        within(reading.request(id, seen.rows, &seen.payloads)).await
    };
    let found = found.await.map_err(IntoResponse::into_response)?;
    found.map(Json).ok_or_else(not_found)
}

/// The first piece is read before the answer begins, so that a question that cannot be answered gets
/// an error; when a later one cannot be read, the answer is cut.
async fn export(
    State(shared): State<Shared>,
    Extension(seen): Extension<SeenBy>,
    pairs: Pairs,
) -> Result<Response, UsageError> {
    let mut format = Format::Ndjson;
    let Query(mut pairs) = pairs.map_err(|_unreadable| unreadable())?;
    if let Some(index) = pairs.iter().position(|(name, _)| name == "format") {
        format = Format::read(&pairs.swap_remove(index).1)?;
    }
    let query = RowQuery::read(pairs.into_iter())?;
    let api = &shared.state.usage;
    let now_us = api.clock.unix_micros();
    let mut export = Export::new(api.reading()?, query, seen.rows, format, now_us);
    let first = within(export.next()).await?;
    let pieces = futures_util::stream::try_unfold((first, export), async |(first, mut export)| {
        let piece = match first {
            Some(piece) => Some(piece),
            None => within(export.next()).await.map_err(|UsageError(error)| {
                tracing::warn!(%error, "an export of usage rows is cut");
                io::Error::other("the usage store failed")
            })?,
        };
        Ok::<_, io::Error>(piece.map(|piece| (Bytes::from(piece), (None, export))))
    });
    let headers = [(header::CONTENT_TYPE, format.content_type())];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Requests of a workspace as they finish, until the client leaves.
async fn live(
    State(shared): State<Shared>,
    Extension(seen): Extension<SeenBy>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, AdminError> {
    let api = &shared.state.usage;
    let id = path.ok().and_then(|Path(name)| (api.workspace)(&name));
    let id = id.ok_or(AdminError::NotFound)?;
    let visible: Vec<Extent> = match seen.rows {
        None => vec![Extent::whole(id)],
        Some(extents) => extents.into_iter().filter(|extent| extent.workspace == id).collect(),
    };
    if visible.is_empty() {
        return Err(AdminError::NotFound);
    }
    let sink = api.sink.clone().ok_or(AdminError::Unavailable)?;
    let watcher = sink.watch().ok_or(AdminError::Unavailable)?;
    let stamp = sink.stamp().clone();
    drop(sink); // A watcher does not keep the store open.
    let start = (watcher, stamp, visible);
    let events = futures_util::stream::unfold(start, async |(mut watcher, stamp, visible)| {
        loop {
            let is_seen = |row: &UsageRow| {
                let (workspace, environment) = (row.caller.workspace.0, row.caller.environment.0);
                visible.iter().any(|extent| extent.covers(workspace, environment))
            };
            let event = match watcher.next().await? {
                Passed::Row(row) if !is_seen(&row) => continue,
                Passed::Row(row) => Event::default()
                    .event("request")
                    .id(row.request_id.to_string())
                    .data(Value::Object(query::of_record(&row, &stamp)).to_string()),
                Passed::Lagged(n) => {
                    Event::default().event("lagged").data(json!({ "count": n }).to_string())
                }
            };
            return Some((Ok::<_, Infallible>(event), (watcher, stamp, visible)));
        }
    });
    let heartbeat = KeepAlive::new().interval(HEARTBEAT);
    Ok(Sse::new(events).keep_alive(heartbeat).into_response())
}

fn unreadable() -> QueryError {
    QueryError { field: "query".to_owned(), text: "cannot be read".to_owned() }
}

fn row_query(pairs: Pairs) -> Result<RowQuery, UsageError> {
    let Query(pairs) = pairs.map_err(|_unreadable| unreadable())?;
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
