//! Error bodies and error events of each dialect.

use super::behaviour::{Behaviour, EarlyError};
use super::events::Event;
use super::json::{NULL, Raw, object};

/// Whose error envelope an endpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Envelope {
    OpenAi,
    Anthropic,
}

/// What an error says.
pub(super) struct Problem<'a> {
    kind: &'a str,
    code: Option<&'a str>,
    message: &'a str,
}

impl<'a> Problem<'a> {
    /// The error of this status, where the behaviour says nothing else.
    pub(super) fn of(behaviour: &'a Behaviour, envelope: Envelope, status: u16) -> Self {
        let (kind, code) = match envelope {
            Envelope::OpenAi => openai(status),
            Envelope::Anthropic => (anthropic(status), None),
        };
        Self {
            kind: behaviour.error_type.as_deref().unwrap_or(kind),
            code: behaviour.error_code.as_deref().or(code),
            message: behaviour
                .error_message
                .as_deref()
                .unwrap_or("The script asks for this error."),
        }
    }

    /// A request the mock cannot answer.
    pub(super) fn refused(envelope: Envelope, status: u16, message: &'a str) -> Self {
        let kind = match envelope {
            Envelope::OpenAi => openai(status).0,
            Envelope::Anthropic => anthropic(status),
        };
        Self { kind, code: None, message }
    }

    pub(super) fn body(&self, envelope: Envelope, id: &str) -> Raw {
        match envelope {
            Envelope::OpenAi => object! { "error": self.openai() },
            Envelope::Anthropic => {
                self.anthropic().with("request_id", Some(Raw(format!("\"req_{id}\""))))
            }
        }
    }

    fn openai(&self) -> Raw {
        object! {
            "message": self.message,
            "type": self.kind,
            "param": NULL,
            "code": self.code,
        }
    }

    fn anthropic(&self) -> Raw {
        object! {
            "type": "error",
            "error": object! { "type": self.kind, "message": self.message },
        }
    }
}

/// The error event of a chat or completions stream.
pub(super) fn chat_event(behaviour: &Behaviour) -> Event {
    let status = behaviour.status.unwrap_or(500);
    let problem = Problem::of(behaviour, Envelope::OpenAi, status);
    (None, object! { "error": problem.openai() })
}

pub(super) fn messages_event(behaviour: &Behaviour) -> Event {
    let status = behaviour.status.unwrap_or(529);
    let problem = Problem::of(behaviour, Envelope::Anthropic, status);
    (Some("error"), problem.anthropic())
}

/// `failed` makes the response object of a `response.failed`.
pub(super) fn responses_event(
    behaviour: &Behaviour,
    sequence_number: usize,
    failed: impl Fn(Raw) -> Raw,
) -> Event {
    let status = behaviour.status.unwrap_or(500);
    let problem = Problem::of(behaviour, Envelope::OpenAi, status);
    let code = problem.code.unwrap_or(problem.kind);
    if behaviour.early_error == Some(EarlyError::Failed) {
        let error = object! { "code": code, "message": problem.message };
        let data = object! {
            "type": "response.failed",
            "sequence_number": sequence_number,
            "response": failed(error),
        };
        return (Some("response.failed"), data);
    }
    let data = object! {
        "type": "error",
        "sequence_number": sequence_number,
        "code": code,
        "message": problem.message,
        "param": NULL,
    };
    (Some("error"), data)
}

fn openai(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        403 => ("invalid_request_error", Some("unsupported_country_region_territory")),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        400..=499 => ("invalid_request_error", None),
        _ => ("server_error", None),
    }
}

fn anthropic(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}
