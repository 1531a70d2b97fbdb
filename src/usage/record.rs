//! The usage row: who asked, what for, where it went, what it used, how it ended.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::dialect::{Dialect, Endpoint};
use crate::id::{
    ConnectionId, DeploymentId, EnvironmentId, ModelId, TargetId, VirtualKeyId, WorkspaceId,
};
pub use crate::price::Tokens;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Success,
    ClientError,
    UpstreamError,
    Timeout,
    ClientClosed,
    StreamBroken,
    RateLimited,
    BudgetExceeded,
    Blocked,
    Unauthorized,
    CacheHit,
    /// The gateway itself failed: a panic on the path.
    GatewayError,
    /// The process ended while the request was in flight.
    GatewayCrashed,
}

impl Outcome {
    pub const ALL: [Self; 13] = [
        Self::Success,
        Self::ClientError,
        Self::UpstreamError,
        Self::Timeout,
        Self::ClientClosed,
        Self::StreamBroken,
        Self::RateLimited,
        Self::BudgetExceeded,
        Self::Blocked,
        Self::Unauthorized,
        Self::CacheHit,
        Self::GatewayError,
        Self::GatewayCrashed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client_error",
            Self::UpstreamError => "upstream_error",
            Self::Timeout => "timeout",
            Self::ClientClosed => "client_closed",
            Self::StreamBroken => "stream_broken",
            Self::RateLimited => "rate_limited",
            Self::BudgetExceeded => "budget_exceeded",
            Self::Blocked => "blocked",
            Self::Unauthorized => "unauthorized",
            Self::CacheHit => "cache_hit",
            Self::GatewayError => "gateway_error",
            Self::GatewayCrashed => "gateway_crashed",
        }
    }
}

/// What the response cache did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    Hit,
    Miss,
    /// The caller did not want it.
    Bypass,
}

impl CacheUse {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

/// Where the token counts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsageSource {
    Reported,
    Estimated,
    #[default]
    None,
}

impl UsageSource {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}

/// One try of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    pub target: Arc<RowTarget>,
    /// The upstream's status, when there was one.
    pub status: Option<u16>,
    /// `None` for an attempt that counted.
    pub error_class: Option<&'static str>,
    /// The request left and no answer came: the provider may have billed it.
    pub is_maybe_billed: bool,
    /// Microseconds after the request began.
    pub started_us: u64,
    pub headers_us: Option<u64>,
    pub first_token_us: Option<u64>,
    pub total_us: u64,
}

/// Who is calling, as names and ids that the key's record shares with every row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowCaller {
    pub workspace: WorkspaceId,
    pub workspace_slug: Arc<str>,
    pub environment: EnvironmentId,
    pub environment_slug: Arc<str>,
    pub key: Option<VirtualKeyId>,
    pub key_name: Option<Arc<str>>,
}

/// Where the answer came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowTarget {
    pub target: TargetId,
    pub model: ModelId,
    pub model_alias: Arc<str>,
    pub upstream_model: Arc<str>,
    pub connection: ConnectionId,
    pub connection_name: Arc<str>,
    pub provider: &'static str,
}

/// Times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    pub total_us: u64,
    /// The gateway's own processing: total less what was spent waiting for client or provider.
    pub overhead_us: u64,
    pub queue_us: u64,
    pub headers_us: Option<u64>,
    pub first_token_us: Option<u64>,
}

/// One row per request.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageRow {
    pub request_id: Uuid,
    pub client_request_id: Option<Box<str>>,
    pub upstream_request_id: Option<Box<str>>,
    pub correlation_id: Option<Box<str>>,
    /// When the head of the request had arrived, in microseconds since 1970 UTC.
    pub started_at_us: i64,
    pub caller: Arc<RowCaller>,
    pub endpoint: Endpoint,
    pub dialect: Dialect,
    /// The `model` of the request, as the client wrote it.
    pub requested_model: Box<str>,
    pub deployment: Option<(DeploymentId, Arc<str>)>,
    /// The target of the last attempt.
    pub target: Option<Arc<RowTarget>>,
    pub is_stream: bool,
    /// What the client saw; 499 when it left before.
    pub status: u16,
    pub outcome: Outcome,
    pub error_class: Option<&'static str>,
    /// Something was wrong with the provider's answer that did not stop it.
    pub is_degraded: bool,
    /// `None` where no cache is configured.
    pub cache: Option<CacheUse>,
    pub usage_source: UsageSource,
    pub tokens: Tokens,
    /// Nano-dollars; `None` when the model has no price.
    pub cost_nanousd: Option<u64>,
    /// What a hit of the response cache has saved.
    pub saved_nanousd: u64,
    pub price_version: Option<Arc<str>>,
    pub timings: Timings,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub source_ip: Option<IpAddr>,
    pub end_user: Option<Box<str>>,
    /// Sorted by key.
    pub metadata: Vec<(Box<str>, Box<str>)>,
    pub attempts: Vec<AttemptRow>,
    /// What the workspace says of how long rows are kept; `None` leaves it to the process.
    pub retention_days: Option<u16>,
}

/// Requests with keys that nobody knows, counted instead of kept: a flood of bad keys must not
/// flood the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// The minute, in minutes since 1970 UTC.
    pub unix_minute: i64,
    pub source_ip: Option<IpAddr>,
    pub count: u64,
}
