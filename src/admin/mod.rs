//! The admin listener: health, readiness, metrics, and a guarded API to look at what goes on.
//!
//! The router knows nothing of the data path: what it shows comes through the closures of
//! [`AdminState`].
//!
//! ```text
//! token    who may: one bearer token, compared by its digest
//! problem  the errors, as problem+json
//! usage    usage, asked and looked at row by row
//! listen   a listener whose connections are few and cannot be held by waiting
//! ```

mod listen;
mod problem;
pub mod token;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

pub use problem::AdminError;
use token::TokenDigest;
pub use usage::{SeenBy, UsageApi};

/// How long one call may look for its answer.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Calls that look for their answer at once: one that hangs keeps its place.
const CALLS_MAX: usize = 8;
/// Scrapes at once, with places of their own: they go on while a store hangs.
const SCRAPES_MAX: usize = 2;
/// How long connections may take to end once the listener stops.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 1 << 20;

/// `None` is for what does not exist.
pub type Answer = Result<Option<Value>, AdminError>;
type DeploymentHealth = dyn Fn(&str, &str, &str) -> Answer + Send + Sync;
type LimitUsage = dyn Fn(&str, (&str, &str, &str)) -> Answer + Send + Sync;

/// What the admin listener shows. The closures that may wait for a store are called where they may
/// block.
#[derive(Clone)]
pub struct AdminState {
    pub token: TokenDigest,
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Must not block.
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// By workspace, environment and deployment.
    pub deployment_health: Arc<DeploymentHealth>,
    /// By kind of owner, and by workspace, environment and name.
    pub limit_usage: Arc<LimitUsage>,
    pub usage: UsageApi,
}

/// Whether this process wants requests, and why not.
#[derive(Debug, Clone)]
pub struct Readiness {
    pub status: ReadyStatus,
    pub checks: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyStatus {
    Ready,
    Draining,
    /// The state has never been loaded.
    Loading,
}

impl ReadyStatus {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Loading => "loading",
        }
    }
}

/// Every route of the admin listener.
pub fn router(state: AdminState) -> Router {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    let scrapes = Arc::new(Semaphore::new(SCRAPES_MAX));
    let shared = Shared { state, calls, scrapes };
    let guarded = Router::new()
        .route(
            "/api/v1/workspaces/{workspace}/environments/{environment}/deployments/{name}/health",
            get(deployment_health),
        )
        .route(
            "/api/v1/workspaces/{workspace}/environments/{environment}/{kind}/{name}/usage",
            get(limit_usage),
        )
        .merge(usage::routes())
        .route_layer(middleware::from_fn_with_state(shared.clone(), require_token));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/version", get(version))
        .merge(guarded)
        .fallback(async || AdminError::NotFound)
        .method_not_allowed_fallback(async || AdminError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

/// Serves until the shutdown signal, then lets calls that run end, for at most 5 s.
pub async fn serve(listener: TcpListener, router: Router, shutdown: watch::Receiver<bool>) {
    let served = axum::serve(listen::Bounded::new(listener), router)
        .with_graceful_shutdown(signalled(shutdown.clone()));
    let cut = async {
        signalled(shutdown).await;
        tokio::time::sleep(SHUTDOWN_MAX).await;
    };
    tokio::select! {
        ended = served => {
            if let Err(error) = ended {
                tracing::error!(%error, "admin listener ended");
            }
        }
        () = cut => tracing::warn!("admin connections cut at the end of their time"),
    }
}

/// Ends at the signal, or when nobody is left to give it.
async fn signalled(mut shutdown: watch::Receiver<bool>) {
    if shutdown.wait_for(|is_set| *is_set).await.is_err() {
        tracing::debug!("shutdown signal's sender is gone");
    }
}

#[derive(Clone)]
struct Shared {
    state: AdminState,
    calls: Arc<Semaphore>,
    scrapes: Arc<Semaphore>,
}

impl Shared {
    async fn call<T, F>(&self, look: F) -> Result<T, AdminError>
    where
        T: Send + 'static,
        F: FnOnce(&AdminState) -> Result<T, AdminError> + Send + 'static,
    {
        self.call_within(&self.calls, look).await
    }

    /// Runs `look` where it may block, once one of `places` is free, and not for ever.
    async fn call_within<T, F>(&self, places: &Arc<Semaphore>, look: F) -> Result<T, AdminError>
    where
        T: Send + 'static,
        F: FnOnce(&AdminState) -> Result<T, AdminError> + Send + 'static,
    {
        let state = self.state.clone();
        let places = Arc::clone(places);
        let called = async {
            let place = places.acquire_owned().await.map_err(|_closed| AdminError::Unavailable)?;
            let looked = tokio::task::spawn_blocking(move || {
                let _place = place; // Kept until it is over, even when nobody waits any more.
                look(&state)
            });
            looked.await.unwrap_or(Err(AdminError::Internal))
        };
        timeout(CALL_MAX, called).await.unwrap_or(Err(AdminError::Unavailable))
    }
}

async fn require_token(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    let token = given.and_then(token::bearer);
    if token.is_some_and(|token| shared.state.token.matches(token)) {
        request.extensions_mut().insert(SeenBy::everything());
        next.run(request).await
    } else {
        AdminError::Unauthorized.into_response()
    }
}

async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let Readiness { status, checks } = (shared.state.readiness)();
    let code = match status {
        ReadyStatus::Ready => StatusCode::OK,
        ReadyStatus::Draining | ReadyStatus::Loading => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(json!({ "status": status.name(), "checks": checks }))).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Result<Response, AdminError> {
    let page = shared.call_within(&shared.scrapes, |state| Ok((state.metrics)())).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response())
}

async fn version() -> Json<Value> {
    Json(json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }))
}

async fn deployment_health(
    State(shared): State<Shared>,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<Json<Value>, AdminError> {
    let Path((workspace, environment, name)) = path.map_err(|_path| AdminError::NotFound)?;
    let health = move |state: &AdminState| {
        (state.deployment_health)(&workspace, &environment, &name)?.ok_or(AdminError::NotFound)
    };
    shared.call(health).await.map(Json)
}

/// The live counters of an owner against each of its limits.
async fn limit_usage(
    State(shared): State<Shared>,
    path: Result<Path<[String; 4]>, PathRejection>,
) -> Result<Json<Value>, AdminError> {
    let Path([workspace, environment, kind, name]) = path.map_err(|_path| AdminError::NotFound)?;
    let usage = move |state: &AdminState| {
        let place = (&*workspace, &*environment, &*name);
        (state.limit_usage)(&kind, place)?.ok_or(AdminError::NotFound)
    };
    shared.call(usage).await.map(Json)
}

#[cfg(test)]
mod tests;
