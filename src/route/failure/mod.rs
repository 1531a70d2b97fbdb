//! What a failed attempt means: another try or not, whose fault it is, what the client hears.
//!
//! One table for the whole path. [`judge`] says what is so; acting on it is the caller's.

use std::time::Duration;

mod reason;

pub use self::reason::Reason;
use super::breaker::Outcome;

/// A connection whose credential was refused is left alone for this long.
pub const BENCH: Duration = Duration::from_mins(1);

/// Why an attempt did not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No address for the upstream's name.
    Dns,
    /// Every address of the upstream is in a network that connections may not reach.
    Forbidden,
    /// Refused, unreachable, or the connection's own limits were reached.
    Connect,
    ConnectTimeout,
    Tls,
    /// The connection broke before the whole request had been sent.
    Unsent,
    /// The request was sent, and the connection broke or ended before the answer was complete.
    Reset,
    /// The answer is not HTTP, or its head is too large.
    MalformedHead,
    HeadersTimeout,
    FirstTokenTimeout,
    IdleTimeout,
    /// The deadline of the whole request, of which this attempt may have had little.
    TotalTimeout,
    /// The gateway itself ends.
    Shutdown,
    /// A whole answer that cannot be read: broken JSON, a compression that does not unpack.
    BadBody,
    /// One event is larger than what is held in memory.
    EventTooLarge,
    /// An answer other than 2xx.
    Status {
        status: u16,
        reason: Option<Reason>,
        retry_after: Option<Duration>,
    },
    /// An error event inside a 200 stream, before content; with the status that its type stands for.
    EarlyError {
        status: Option<u16>,
        reason: Option<Reason>,
        retry_after: Option<Duration>,
    },
}

impl Failure {
    /// The status of an answer or an error event, or the one that its reason stands for.
    pub const fn meant_status(&self) -> Option<u16> {
        match *self {
            Self::Status { reason: Some(reason), .. }
            | Self::EarlyError { reason: Some(reason), .. } => Some(reason.status()),
            Self::Status { status, reason: None, .. } => Some(status),
            Self::EarlyError { status, reason: None, .. } => status,
            _ => None,
        }
    }
}

/// How far the answer had come when the attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No content has gone to the client: everything can still be taken back.
    Held,
    /// Content has gone to the client: nothing is tried again.
    Committed,
}

/// Whose credential the attempt carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// The connection's, or none.
    Connections,
    /// The one that the client sent for the provider: refusing it is the caller's business, and must
    /// not take the connection away from others.
    Callers,
}

/// What the client gets when the failed attempt is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The upstream's own: status and body, or the frames that were held back.
    Upstreams,
    /// An error of the gateway with this status.
    Own(u16),
    /// An error event and then a cut, because content has gone out.
    Cut,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Counts for the target's breaker.
    Target {
        retry_after: Option<Duration>,
    },
    /// The target asks to be left alone, which is no failure of its own.
    Limit {
        retry_after: Option<Duration>,
    },
    /// The credential was refused: the whole connection is left alone for [`BENCH`].
    Connection,
    /// The request itself is wrong, and would be anywhere.
    Caller,
    Nobody,
}

/// The meaning of one failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether another attempt is made, if plan, budget and deadline allow.
    pub fails_over: bool,
    pub answer: Answer,
    pub blame: Blame,
    /// The request left and no answer came: the provider may have billed it.
    pub is_maybe_billed: bool,
    /// The error class in rows and metrics.
    pub class: &'static str,
}

impl Verdict {
    /// What the target's breaker is told.
    pub const fn outcome(&self) -> Outcome {
        match self.blame {
            Blame::Target { retry_after } => Outcome::Failure { retry_after },
            Blame::Limit { retry_after } => Outcome::Limited { retry_after },
            Blame::Connection | Blame::Caller | Blame::Nobody => Outcome::Uncounted,
        }
    }
}

/// A kind of failure that a deployment can fail over on, besides statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Name lookup, connecting, TLS.
    Connect,
    /// Any of the timeouts but the total one.
    Timeout,
    /// A broken connection or a malformed head.
    Reset,
    EarlyError,
}

/// The failures after which a deployment tries the next target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverOn {
    causes: u8,
    /// Sorted.
    statuses: Vec<u16>,
}

impl FailoverOn {
    pub fn new(causes: &[Cause], statuses: &[u16]) -> Self {
        let mut statuses = statuses.to_vec();
        statuses.sort_unstable();
        let causes = causes.iter().fold(0, |bits, cause| bits | bit(*cause));
        Self { causes, statuses }
    }

    fn has(&self, cause: Cause) -> bool {
        self.causes & bit(cause) != 0
    }

    fn has_status(&self, status: u16) -> bool {
        self.statuses.binary_search(&status).is_ok()
    }
}

impl Default for FailoverOn {
    fn default() -> Self {
        Self::new(
            &[Cause::Connect, Cause::Timeout, Cause::Reset, Cause::EarlyError],
            &[408, 429, 500, 502, 503, 504, 529],
        )
    }
}

const fn bit(cause: Cause) -> u8 {
    1 << cause as u8
}

/// Looks a failure up in the table.
pub fn judge(failure: &Failure, stage: Stage, credential: Credential, on: &FailoverOn) -> Verdict {
    // An error event of a type that nobody knows is the upstream's trouble.
    let meant = failure.meant_status().unwrap_or(500);
    let mut verdict = match *failure {
        Failure::Status { status, reason, retry_after } => {
            let (class, blame) = meaning(meant, retry_after, credential);
            let class = reason.and_then(Reason::callers_class).unwrap_or(class);
            answered((status, meant), (class, blame), on)
        }
        Failure::EarlyError { retry_after, .. } => {
            let (_, blame) = meaning(meant, retry_after, credential);
            early_error(blame, on)
        }
        _ => unanswered(failure, on),
    };
    if stage == Stage::Committed {
        verdict.fails_over = false;
        verdict.answer = Answer::Cut;
        // What came is in the row, as reported or as an estimate.
        verdict.is_maybe_billed = false;
    }
    verdict
}

/// Failures without an answer that could be passed on.
fn unanswered(failure: &Failure, on: &FailoverOn) -> Verdict {
    const TARGET: Blame = Blame::Target { retry_after: None };
    let connect = on.has(Cause::Connect);
    let timeout = on.has(Cause::Timeout);
    let reset = on.has(Cause::Reset);
    let (class, status, blame, fails_over, is_maybe_billed) = match failure {
        Failure::Dns => ("dns", 502, TARGET, connect, false),
        Failure::Forbidden => ("forbidden_address", 502, Blame::Nobody, connect, false),
        Failure::Connect => ("connect", 502, TARGET, connect, false),
        Failure::ConnectTimeout => ("connect_timeout", 504, TARGET, connect || timeout, false),
        Failure::Tls => ("tls", 502, TARGET, connect, false),
        Failure::Unsent => ("unsent", 502, TARGET, reset, false),
        Failure::Reset => ("reset", 502, TARGET, reset, true),
        Failure::MalformedHead => ("malformed_head", 502, TARGET, reset, true),
        Failure::HeadersTimeout => ("headers_timeout", 504, TARGET, timeout, true),
        Failure::FirstTokenTimeout => ("first_token_timeout", 504, TARGET, timeout, true),
        Failure::IdleTimeout => ("idle_timeout", 504, TARGET, timeout, true),
        // A client may shorten this deadline, so that it must not be able to blame a target with it.
        Failure::TotalTimeout => ("total_timeout", 504, Blame::Nobody, false, true),
        Failure::Shutdown => ("gateway_shutdown", 503, Blame::Nobody, false, true),
        Failure::BadBody => ("bad_body", 502, TARGET, false, true),
        // The same question would get an answer as large.
        Failure::EventTooLarge => ("event_too_large", 502, Blame::Nobody, false, true),
        // `judge` sends these two elsewhere.
        Failure::Status { .. } | Failure::EarlyError { .. } => {
            ("upstream_error", 502, Blame::Nobody, false, false)
        }
    };
    Verdict { fails_over, answer: Answer::Own(status), blame, is_maybe_billed, class }
}

fn answered(
    (status, meant): (u16, u16),
    (class, blame): (&'static str, Blame),
    on: &FailoverOn,
) -> Verdict {
    let is_about_us = blame == Blame::Connection;
    // A redirect is neither followed nor passed on.
    let is_passed_on = (400..600).contains(&status) && !is_about_us;
    let answer = if is_passed_on { Answer::Upstreams } else { Answer::Own(502) };
    let fails_over = is_about_us || on.has_status(meant);
    Verdict { fails_over, answer, blame, is_maybe_billed: false, class }
}

fn early_error(blame: Blame, on: &FailoverOn) -> Verdict {
    let (fails_over, answer) = match blame {
        Blame::Connection => (true, Answer::Own(502)),
        Blame::Caller => (false, Answer::Upstreams),
        Blame::Target { .. } | Blame::Limit { .. } | Blame::Nobody => {
            (on.has(Cause::EarlyError), Answer::Upstreams)
        }
    };
    Verdict { fails_over, answer, blame, is_maybe_billed: false, class: "early_error" }
}

/// The class of a status and whose fault it is.
fn meaning(
    status: u16,
    retry_after: Option<Duration>,
    credential: Credential,
) -> (&'static str, Blame) {
    match status {
        300..400 => ("redirect", Blame::Target { retry_after: None }),
        402 if credential == Credential::Connections => ("upstream_billing", Blame::Connection),
        401..=403 if credential == Credential::Connections => ("upstream_auth", Blame::Connection),
        408 | 504 => ("upstream_timeout", Blame::Target { retry_after }),
        429 => ("rate_limited", Blame::Limit { retry_after }),
        400..500 => ("client_error", Blame::Caller),
        // What the provider has not built is asked for by the caller.
        501 => ("not_implemented", Blame::Caller),
        529 => ("overloaded", Blame::Limit { retry_after }),
        500..600 => ("server_error", Blame::Target { retry_after }),
        _ => ("unexpected_status", Blame::Target { retry_after: None }),
    }
}

#[cfg(test)]
mod tests;
