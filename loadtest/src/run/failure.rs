//! Why an answer does not count.

use std::fmt;
use std::io;

/// What was wrong with a request or its answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    Connect(io::ErrorKind),
    /// The connection failed before there was anything of the answer.
    Broken(io::ErrorKind),
    Status(u16),
    /// A stream that says it failed.
    ErrorEvent,
    Late,
    /// More requests were due than may wait.
    NotSent,
    Truncated(&'static str),
    /// No HTTP.
    Malformed(&'static str),
    /// Something other than what must come.
    Wrong(&'static str),
}

/// The kinds of failure that limits tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Error,
    Truncated,
    Wrong,
}

impl Failure {
    pub fn class(&self) -> Class {
        match self {
            Self::Connect(_)
            | Self::Broken(_)
            | Self::Status(_)
            | Self::ErrorEvent
            | Self::Late
            | Self::NotSent => Class::Error,
            Self::Truncated(_) => Class::Truncated,
            Self::Malformed(_) | Self::Wrong(_) => Class::Wrong,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(kind) => write!(out, "no connection: {kind}"),
            Self::Broken(kind) => write!(out, "connection broke before the answer: {kind}"),
            Self::Status(status) => write!(out, "status {status}"),
            Self::ErrorEvent => out.write_str("an error event in the stream"),
            Self::Late => out.write_str("no whole answer in time"),
            Self::NotSent => out.write_str("not sent: too many were waiting"),
            Self::Truncated(what) => write!(out, "truncated: {what}"),
            Self::Malformed(what) => write!(out, "malformed: {what}"),
            Self::Wrong(what) => write!(out, "wrong: {what}"),
        }
    }
}
