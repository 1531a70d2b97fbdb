//! Errors of the admin listener, as RFC 9457 writes them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::config::problem::{Problem, Problems};
use crate::control::apply::ApplyError;
use crate::control::edit::EditError;
use crate::control::load::LoadError;
use crate::control::store::StoreError;

/// Why a call to the admin listener has no answer. `Display` is what the caller reads.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("{0}")]
    InvalidQuery(&'static str),
    #[error("send the admin token as `Authorization: Bearer …`, or log in")]
    Unauthorized,
    #[error("your role, or your token, does not allow this")]
    Forbidden,
    #[error("send the session's CSRF token as `x-csrf-token`, from a page of this origin")]
    Csrf,
    #[error("change the one-time password first: POST /api/v1/auth/password")]
    PasswordChangeNeeded,
    #[error("single sign-on: {0}")]
    SignOn(&'static str),
    #[error("too many failed logins; try again later")]
    TooManyLogins { retry_after_s: i64 },
    /// Also what may not be seen.
    #[error("there is no such resource")]
    NotFound,
    #[error("the resource does not take this method")]
    MethodNotAllowed,
    #[error("{0}")]
    BadBody(String),
    #[error("send the body as application/json")]
    UnsupportedBody,
    #[error("this Idempotency-Key was used for another call")]
    IdempotencyKeyReused,
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A store did not answer, or not in time.
    #[error("the answer could not be had in time; try again")]
    Unavailable,
    /// What a provider said, or why it did not.
    #[error("{0}")]
    Provider(String),
    #[error("the gateway failed; its log says how")]
    Internal,
}

/// Status, code and title. The code never changes.
type Line = (StatusCode, &'static str, &'static str);

const CONFLICT: StatusCode = StatusCode::CONFLICT;
const INVALID: Line = (StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", "Invalid body");
const UNAVAILABLE: Line = (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service unavailable");
const INTERNAL: Line = (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal server error");
const NOT_FOUND: Line = (StatusCode::NOT_FOUND, "not_found", "Not found");

impl AdminError {
    pub(super) fn table(&self) -> Line {
        match self {
            Self::InvalidQuery(_) => (StatusCode::BAD_REQUEST, "invalid_query", "Invalid query"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "Forbidden"),
            Self::Csrf => (StatusCode::FORBIDDEN, "csrf", "Forbidden"),
            Self::PasswordChangeNeeded => {
                (StatusCode::FORBIDDEN, "password_change_needed", "Forbidden")
            }
            Self::SignOn(_) => (StatusCode::UNAUTHORIZED, "sign_on_failed", "Unauthorized"),
            Self::TooManyLogins { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_logins", "Too many requests")
            }
            Self::NotFound => NOT_FOUND,
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
            }
            Self::BadBody(_) => (StatusCode::BAD_REQUEST, "bad_body", "Bad body"),
            Self::UnsupportedBody => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_body", "Unsupported media type")
            }
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "Idempotency key reused",
            ),
            Self::Edit(error) | Self::Apply(ApplyError::Edit { error, .. }) => of_edit(error),
            Self::Apply(ApplyError::Problems(_) | ApplyError::Load(LoadError::Problems(_))) => {
                INVALID
            }
            Self::Apply(ApplyError::Store(error) | ApplyError::Load(LoadError::Store(error))) => {
                of_store(error)
            }
            Self::Apply(ApplyError::Load(LoadError::Sealed { .. })) | Self::Internal => INTERNAL,
            Self::Unavailable => UNAVAILABLE,
            Self::Provider(_) => (StatusCode::BAD_GATEWAY, "provider_error", "Bad gateway"),
        }
    }

    /// What the caller reads. How a store fails is for the log alone.
    fn detail(&self) -> String {
        let (status, ..) = self.table();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Self::Unavailable.to_string();
        }
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            return Self::Internal.to_string();
        }
        self.to_string()
    }

    fn problems(&self) -> &[Problem] {
        match self {
            Self::Edit(EditError::Invalid(problems))
            | Self::Apply(
                ApplyError::Edit { error: EditError::Invalid(problems), .. }
                | ApplyError::Problems(Problems(problems))
                | ApplyError::Load(LoadError::Problems(Problems(problems))),
            ) => problems,
            _ => &[],
        }
    }
}

fn of_edit(error: &EditError) -> Line {
    match error {
        EditError::Store(error) => of_store(error),
        EditError::NotFound => NOT_FOUND,
        EditError::Invalid(_) => INVALID,
        EditError::NameTaken { .. } => (CONFLICT, "name_taken", "Conflict"),
        EditError::InUse { .. } => (CONFLICT, "in_use", "Conflict"),
        EditError::Stale => {
            (StatusCode::PRECONDITION_FAILED, "precondition_failed", "Precondition failed")
        }
        EditError::Conflict { code, .. } => (CONFLICT, code, "Conflict"),
    }
}

fn of_store(error: &StoreError) -> Line {
    match error {
        StoreError::Unavailable(_) | StoreError::Open { .. } => UNAVAILABLE,
        StoreError::Refused(_)
        | StoreError::Corrupt(_)
        | StoreError::WrongMasterKey { .. }
        | StoreError::MasterKey(_) => INTERNAL,
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Edit(error.into())
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let (status, code, title) = self.table();
        if status.is_server_error() {
            tracing::warn!(error = %self, code, "an admin call failed");
        }
        let problems: Vec<Value> = self
            .problems()
            .iter()
            .map(|it| json!({ "field": it.field, "detail": it.text }))
            .collect();
        let mut body = json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "code": code,
            "detail": self.detail(),
        });
        if let (Value::Object(body), false) = (&mut body, problems.is_empty()) {
            body.insert("errors".to_owned(), problems.into());
        }
        let mut response = problem(status, &body);
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::TooManyLogins { retry_after_s } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
            }
            _ => {}
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
