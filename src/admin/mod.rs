//! The admin listener: health, readiness, metrics, and the API over everything that can be changed.
//!
//! The router knows nothing of the data path: what it shows comes through the closures of
//! [`AdminState`], and what it changes lies in the state store.
//!
//! ```text
//! routes      the table: method, path, what it needs, who answers
//! desk        who calls, may they, was it answered before; changes in one transaction
//! principal   roles and permissions
//! session     cookies of browsers
//! oidc        single sign-on
//! token       bearer tokens, compared by their digests
//! call        what a call brings, and what it is answered
//! body        bodies of a few fields
//! first       the first superadmin
//! resources   …and workspaces, documents, audit, state, users, members, tokens, auth, connections: the answers
//! rules       rules tried out
//! usage       usage, asked and looked at row by row
//! openapi     the table as a document
//! problem     the errors, as problem+json
//! listen      a listener whose connections are few and cannot be held by waiting
//! ```

mod audit;
mod auth;
mod body;
mod call;
mod connections;
mod desk;
mod documents;
pub mod first;
mod listen;
mod members;
pub mod oidc;
pub mod openapi;
pub mod principal;
mod problem;
mod resources;
pub mod routes;
mod rules;
mod session;
mod state;
pub mod token;
mod tokens;
mod usage;
mod users;
mod workspaces;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};
use axum::{Json, RequestPartsExt as _, Router};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use uuid::Uuid;

pub use desk::Desk;
pub use problem::AdminError;
use routes::Route;
pub use usage::{SeenBy, UsageApi};

use crate::control::rules::Trial;

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
type CachePurge = dyn Fn((&str, &str), Option<&str>) -> Answer + Send + Sync;
type RulesTrial = dyn Fn((&str, &str), &Trial) -> Answer + Send + Sync;
type LimitUsage = dyn Fn(&str, (&str, &str, &str)) -> Answer + Send + Sync;
type Probing = dyn Fn(Uuid, Probe<'_>) -> Answer + Send + Sync;

/// How a connection is tried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe<'a> {
    /// Does the provider answer: its list of models, or a few tokens of this model?
    Test { model: Option<&'a str> },
    /// Which models has it?
    Models,
}

/// What the admin listener shows. The closures that may wait for a store are called where they may
/// block.
#[derive(Clone)]
pub struct AdminState {
    pub desk: Desk,
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Must not block.
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// By workspace, environment and deployment.
    pub deployment_health: Arc<DeploymentHealth>,
    /// By kind of owner, and by workspace, environment and name.
    pub limit_usage: Arc<LimitUsage>,
    /// By workspace and environment, and a deployment of it: drops the answers that are kept.
    pub cache_purge: Arc<CachePurge>,
    /// By workspace and environment: which rules a request would meet.
    pub rules_trial: Arc<RulesTrial>,
    /// By the id of a connection.
    pub probe: Arc<Probing>,
    /// There when single sign-on is configured.
    pub sign_on: Option<Arc<oidc::SignOn>>,
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
        .merge(usage::routes())
        .route_layer(middleware::from_fn_with_state(shared.clone(), require_permission));
    let mut api = Router::new();
    for route in routes::routes().iter().filter(|route| route.call.is_some()) {
        let method = MethodFilter::try_from(route.method.clone()).expect("a method of HTTP");
        let answer = move |shared, request| answer(route, shared, request);
        api = api.route(&route.full_path(), on(method, answer));
    }
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(api)
        .merge(guarded)
        .fallback(async || AdminError::NotFound)
        .method_not_allowed_fallback(async || AdminError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

/// Serves until the shutdown signal, then lets calls that run end, for at most 5 s.
pub async fn serve(listener: TcpListener, router: Router, shutdown: watch::Receiver<bool>) {
    let served = axum::serve(listen::Bounded::new(listener), with_peers(router))
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

fn with_peers(router: Router) -> IntoMakeServiceWithConnectInfo<Router, listen::Peer> {
    router.into_make_service_with_connect_info()
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
        self.call_within(&self.calls, CALL_MAX, look).await
    }

    /// Runs `look` where it may block, once one of `places` is free, and not for ever.
    async fn call_within<T, F>(
        &self,
        places: &Arc<Semaphore>,
        time_max: Duration,
        look: F,
    ) -> Result<T, AdminError>
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
        timeout(time_max, called).await.unwrap_or(Err(AdminError::Unavailable))
    }
}

/// Answers a call of the table.
async fn answer(route: &'static Route, State(shared): State<Shared>, request: Request) -> Response {
    match answered(route, shared, request).await {
        Ok(reply) => reply.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn answered(
    route: &'static Route,
    shared: Shared,
    request: Request,
) -> Result<call::Reply, AdminError> {
    let (mut parts, body) = request.into_parts();
    let params = parts.extract::<Path<Vec<(String, String)>>>().await;
    let Path(params) = params.map_err(|_path| AdminError::NotFound)?;
    let query = parts.extract::<Query<Vec<(String, String)>>>().await;
    let Query(query) =
        query.map_err(|_query| AdminError::InvalidQuery("the query cannot be read"))?;
    let body = axum::body::to_bytes(body, route.body_bytes_max).await.map_err(|_body| {
        AdminError::BadBody("the body is too large, or it did not come whole".to_owned())
    })?;
    let incoming = desk::Incoming {
        route,
        path: parts.uri.path().to_owned(),
        params,
        query,
        source_ip: source_ip(&parts.extensions),
        headers: parts.headers,
        body,
    };
    let look = move |state: &AdminState| desk::answer(state, incoming);
    shared.call_within(&shared.calls, route.time_max, look).await
}

fn source_ip(extensions: &http::Extensions) -> String {
    let peer = extensions.get::<ConnectInfo<listen::Peer>>();
    peer.map(|ConnectInfo(listen::Peer(address))| address.ip().to_string()).unwrap_or_default()
}

/// For routes that another part serves: what the table says they need.
async fn require_permission(
    State(shared): State<Shared>,
    matched: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(route) = routes::find(request.method(), matched.as_str()) else {
        return AdminError::NotFound.into_response();
    };
    let headers = request.headers().clone();
    let is_write = request.method() != http::Method::GET;
    let principal = shared
        .call(move |state| {
            let principal = state.desk.authenticate(&headers, is_write)?;
            desk::check_password_is_own(&principal, route)?;
            let access = principal.access(route.needs, None);
            if access == principal::Access::Granted {
                Ok(principal)
            } else {
                Err(AdminError::Forbidden)
            }
        })
        .await;
    match principal {
        Ok(principal) => {
            let seen = SeenBy { rows: principal.usage_seen(), payloads: principal.payloads_seen() };
            request.extensions_mut().insert(seen);
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(error) => error.into_response(),
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
    let page = shared.call_within(&shared.scrapes, CALL_MAX, |state| Ok((state.metrics)())).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response())
}

#[cfg(test)]
mod tests;
