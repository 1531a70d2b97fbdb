//! Why the gateway answered itself, and how that looks from outside: one table.
//!
//! `Display` is what the client reads: it says what to do and names nothing internal.

use std::time::Duration;

use serde_json::json;

use crate::dialect::{Envelope, google_status};
use crate::limit::Standing;

/// The gateway's own answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error(
        "no API key was provided; send a virtual key as `Authorization: Bearer vk_…` or `x-api-key`"
    )]
    KeyMissing,
    #[error("the API key is not valid; check that it is complete, enabled and not expired")]
    KeyRefused,
    #[error("this key may not call `{endpoint}`; ask its owner to add the endpoint to its scopes")]
    EndpointForbidden { endpoint: &'static str },
    #[error("the path names another workspace or environment than the key's own")]
    EnvironmentMismatch,
    #[error(
        "the model `{model}` does not exist or this key may not use it; list what it may use with GET /v1/models"
    )]
    ModelNotFound { model: String },
    #[error("there is nothing at this path; see the documentation for the routes")]
    NotFound,
    #[error("{message}")]
    BadRequest { code: BadRequest, message: String, param: Option<String> },
    /// A rule says so; the message is its operator's.
    #[error("{message}")]
    Blocked { message: Box<str> },
    #[error("the request took too long to arrive; send it again")]
    RequestTimeout,
    #[error("the request body is larger than {bytes_max} bytes; send a smaller one")]
    TooLarge { bytes_max: usize },
    #[error("{}", .0.message)]
    Limited(Box<Limited>),
    #[error("too many requests at once; try again in a moment")]
    Overloaded { retry_after: Duration },
    #[error(
        "the gateway has no room left to record what requests cost, and serves none; try again later"
    )]
    UsageStoreFull,
    #[error("no target of `{model}` is available at the moment; try again later")]
    NoHealthyTarget { model: String, retry_after: Option<Duration> },
    #[error("the gateway is shutting down; send the request again")]
    Draining,
    #[error("{message}")]
    Upstream { status: UpstreamStatus, message: &'static str, retry_after: Option<Duration> },
    #[error("something went wrong in the gateway; the request id helps its operator to find it")]
    Internal,
}

/// A limit refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    pub code: LimitCode,
    pub message: String,
    pub retry_after: Duration,
    pub should_retry: bool,
    pub standing: Standing,
}

/// The codes of a 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitCode {
    Rate,
    Budget,
    Concurrency,
}

/// The codes of a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRequest {
    InvalidJson,
    MissingModel,
    InvalidRequest,
    UnsupportedParameter,
}

/// What became of the attempts when no provider's own answer can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamStatus {
    /// 502 `upstream_error`
    Failed,
    /// 502 `upstream_auth_failed`
    AuthFailed,
    /// 504 `upstream_timeout`
    TimedOut,
}

/// How a rejection looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    pub status: u16,
    /// `error.code` of the `OpenAI` envelope, `error_class` of the row, label of the metric.
    pub code: &'static str,
    /// `error.type` of the `OpenAI` envelope.
    pub openai: &'static str,
    /// `error.type` of the Anthropic envelope.
    pub anthropic: &'static str,
}

// === impl Rejection ===

impl Rejection {
    /// The one table.
    pub fn wire(&self) -> Wire {
        const INVALID: &str = "invalid_request_error";
        let (status, code, openai, anthropic) = match self {
            Self::KeyMissing | Self::KeyRefused => {
                (401, "invalid_api_key", INVALID, "authentication_error")
            }
            Self::EndpointForbidden { .. } => {
                (403, "endpoint_not_allowed", INVALID, "permission_error")
            }
            Self::EnvironmentMismatch => (403, "environment_mismatch", INVALID, "permission_error"),
            Self::ModelNotFound { .. } => (404, "model_not_found", INVALID, "not_found_error"),
            Self::NotFound => (404, "not_found", INVALID, "not_found_error"),
            Self::BadRequest { code, .. } => (400, code.name(), INVALID, INVALID),
            Self::Blocked { .. } => (400, "blocked", INVALID, INVALID),
            Self::RequestTimeout => (408, "request_timeout", INVALID, INVALID),
            Self::TooLarge { .. } => (413, "request_too_large", INVALID, "request_too_large"),
            Self::Limited(limited) => {
                (429, limited.code.name(), "rate_limit_error", "rate_limit_error")
            }
            Self::Overloaded { .. } => (503, "overloaded", "server_error", "overloaded_error"),
            Self::UsageStoreFull => (503, "usage_store_full", "server_error", "overloaded_error"),
            Self::NoHealthyTarget { .. } => {
                (503, "no_healthy_target", "server_error", "overloaded_error")
            }
            Self::Draining => (503, "draining", "server_error", "overloaded_error"),
            Self::Upstream { status, .. } => match status {
                UpstreamStatus::Failed => (502, "upstream_error", "server_error", "api_error"),
                UpstreamStatus::AuthFailed => {
                    (502, "upstream_auth_failed", "server_error", "api_error")
                }
                UpstreamStatus::TimedOut => {
                    (504, "upstream_timeout", "server_error", "timeout_error")
                }
            },
            Self::Internal => (500, "internal_error", "server_error", "api_error"),
        };
        Wire { status, code, openai, anthropic }
    }

    /// The body in the caller's dialect.
    pub fn body(&self, envelope: Envelope, request_id: &str) -> Vec<u8> {
        let wire = self.wire();
        let message = self.to_string();
        let body = match envelope {
            Envelope::OpenAi => json!({"error": {
                "message": message,
                "type": wire.openai,
                "param": self.param(),
                "code": wire.code,
            }}),
            Envelope::Anthropic => json!({
                "type": "error",
                "error": {"type": wire.anthropic, "message": message},
                "request_id": request_id,
            }),
            Envelope::Google => json!({"error": {
                "code": wire.status,
                "message": message,
                "status": google_status(wire.status),
                "details": [{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": wire.code.to_ascii_uppercase(),
                    "domain": "sluice",
                }],
            }}),
            Envelope::Ollama => json!({"error": message}),
        };
        body.to_string().into_bytes()
    }

    /// The field of the request that is to blame.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::BadRequest { param, .. } => param.as_deref(),
            Self::ModelNotFound { .. } => Some("model"),
            _ => None,
        }
    }

    /// When trying again makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(limited) => Some(limited.retry_after),
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::NoHealthyTarget { retry_after, .. } | Self::Upstream { retry_after, .. } => {
                *retry_after
            }
            Self::Draining => Some(Duration::from_secs(1)),
            Self::UsageStoreFull => Some(Duration::from_secs(10)),
            _ => None,
        }
    }

    /// `x-should-retry`: the attempts are spent, and the SDKs obey this header.
    pub fn should_retry(&self) -> Option<bool> {
        match self {
            Self::Limited(limited) => Some(limited.should_retry),
            Self::NoHealthyTarget { .. } | Self::Upstream { .. } => Some(false),
            Self::Overloaded { .. } | Self::Draining => Some(true),
            _ => None,
        }
    }

    /// How the request stands with the limit that refused it.
    pub fn standing(&self) -> Option<Standing> {
        match self {
            Self::Limited(limited) => Some(limited.standing),
            _ => None,
        }
    }

    pub fn invalid_request(message: impl Into<String>, param: Option<&str>) -> Self {
        Self::BadRequest {
            code: BadRequest::InvalidRequest,
            message: message.into(),
            param: param.map(str::to_owned),
        }
    }
}

// === impl LimitCode ===

impl LimitCode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate_limit_exceeded",
            Self::Budget => "budget_exceeded",
            Self::Concurrency => "concurrency_exceeded",
        }
    }
}

// === impl BadRequest ===

impl BadRequest {
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::MissingModel => "missing_model",
            Self::InvalidRequest => "invalid_request",
            Self::UnsupportedParameter => "unsupported_parameter",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn examples() -> Vec<Rejection> {
        let bad = |code| Rejection::BadRequest { code, message: "…".to_owned(), param: None };
        let upstream = |status| Rejection::Upstream {
            status,
            message: "no provider could answer",
            retry_after: None,
        };
        let limited = |code, message: &str| {
            Rejection::Limited(Box::new(Limited {
                code,
                message: message.to_owned(),
                retry_after: Duration::from_secs(1),
                should_retry: true,
                standing: Standing::default(),
            }))
        };
        vec![
            Rejection::KeyMissing,
            Rejection::KeyRefused,
            Rejection::Blocked { message: "no source code here".into() },
            Rejection::EndpointForbidden { endpoint: "embeddings" },
            Rejection::EnvironmentMismatch,
            Rejection::ModelNotFound { model: "gpt-4o".to_owned() },
            Rejection::NotFound,
            bad(BadRequest::InvalidJson),
            bad(BadRequest::MissingModel),
            bad(BadRequest::InvalidRequest),
            bad(BadRequest::UnsupportedParameter),
            Rejection::RequestTimeout,
            Rejection::TooLarge { bytes_max: 1024 },
            limited(LimitCode::Rate, "key `ci-bot`: 60 requests per minute"),
            limited(LimitCode::Budget, "key `ci-bot`: $50.00 per month"),
            limited(LimitCode::Concurrency, "key `ci-bot`: 5 requests at once"),
            Rejection::Overloaded { retry_after: Duration::from_secs(1) },
            Rejection::NoHealthyTarget { model: "chat".to_owned(), retry_after: None },
            Rejection::Draining,
            upstream(UpstreamStatus::Failed),
            upstream(UpstreamStatus::AuthFailed),
            upstream(UpstreamStatus::TimedOut),
            Rejection::Internal,
        ]
    }

    #[test]
    fn every_rejection_as_the_client_sees_it() {
        let mut table = String::new();
        for rejection in examples() {
            let Wire { status, code, openai, anthropic } = rejection.wire();
            writeln!(table, "{status} {code} {openai} {anthropic}: {rejection}").unwrap();
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn body_is_in_the_callers_envelope() {
        let rejection = Rejection::ModelNotFound { model: "a\"b".to_owned() };
        let openai: serde_json::Value =
            serde_json::from_slice(&rejection.body(Envelope::OpenAi, "r")).unwrap();
        assert_eq!(openai["error"]["code"], "model_not_found");
        assert_eq!(openai["error"]["param"], "model");
        let anthropic: serde_json::Value =
            serde_json::from_slice(&rejection.body(Envelope::Anthropic, "r")).unwrap();
        assert_eq!(anthropic["error"]["type"], "not_found_error");
        assert_eq!(anthropic["request_id"], "r");
    }
}
