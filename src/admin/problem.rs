//! Errors of the admin listener, as RFC 9457 writes them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Why a call to the admin listener has no answer. `Display` is what the caller reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    #[error("{0}")]
    InvalidQuery(&'static str),
    #[error("send the admin token as `Authorization: Bearer …`")]
    Unauthorized,
    /// Also what may not be seen.
    #[error("there is no such resource")]
    NotFound,
    #[error("the resource does not take this method")]
    MethodNotAllowed,
    /// A store did not answer, or not in time.
    #[error("the answer could not be had in time; try again")]
    Unavailable,
    #[error("the gateway failed; its log says how")]
    Internal,
}

impl AdminError {
    /// Status, code and title. The code never changes.
    const fn table(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidQuery(_) => (StatusCode::BAD_REQUEST, "invalid_query", "Invalid query"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "Not found"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
            }
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service unavailable")
            }
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal server error")
            }
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let (status, code, title) = self.table();
        let mut response = problem(
            status,
            &json!({
                "type": "about:blank",
                "title": title,
                "status": status.as_u16(),
                "code": code,
                "detail": self.to_string(),
            }),
        );
        if self == Self::Unauthorized {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// A query of which one field is wrong.
pub(super) fn invalid_field(field: &str, detail: &str) -> Response {
    let (status, code, title) = AdminError::InvalidQuery("").table();
    problem(
        status,
        &json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "code": code,
            "detail": detail,
            "field": field,
        }),
    )
}

fn problem(status: StatusCode, body: &Value) -> Response {
    let mut response = (status, body.to_string()).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
