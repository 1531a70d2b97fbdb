//! THE PATH OF ONE REQUEST. Read the files in this order:
//!
//! ```text
//! front     a connection: strict heads under a deadline, one request after the other
//! client    where a request comes from and its answer goes to
//! incoming  a body as it arrives, from either side
//! shell     the ways in: a request of our own, and the gateway as Pingora sees it
//! serve     the path itself: admit -> route -> attempt* -> relay -> record
//! routes    method and path -> what is asked
//! admit     who calls, what for, and may they?            -> Admitted | Rejection
//! call      the body, and what it asks for                -> Call | Rejection
//! options   x-sluice-* headers and the `sluice` field     -> Options
//! rules     which deployment, where rules say so         -> Routed | Rejection
//! limits    what a request may still use               -> Governed | Rejection
//! select    deployment -> targets in order                -> Selected | Rejection
//! cached    an answer that is kept, or will be         -> Looked
//! convert   what a target of another dialect is asked     -> Conversion | Rejection
//! forward   targets in turn until one answers             -> Answer | Rejection
//! attempt   one try on one target                         -> Answer | Failed
//! refused   an answer that is an error, and what it is about
//! upstream  the connection of an attempt
//! relay     the answer, read by read, through the tap     -> Relayed
//! respond   heads of answers, and rejections as bytes
//! stored    header-routed requests on Pingora's own upstream path
//! models    GET /v1/models
//! probe     what an operator asks of a connection: does it answer, which models has it
//! fetch     one request to a server that the operator named
//! payload   what is kept of the bodies, where they are
//! record    the guard that writes the usage row
//! flow      how many requests are in flight
//! headers   what passes, both ways
//! ```
//!
//! After the first content byte has gone to the client there is no second attempt.

pub mod admit;
pub mod attempt;
mod cached;
pub mod call;
pub mod client;
pub mod convert;
pub mod fetch;
pub mod flow;
pub mod forward;
pub mod front;
pub mod headers;
pub mod incoming;
pub mod limits;
pub mod models;
pub mod options;
mod payload;
pub mod probe;
pub mod record;
mod refused;
pub mod relay;
pub mod respond;
pub mod routes;
mod rules;
pub mod select;
pub mod serve;
mod shell;
pub use self::shell::Shell;
pub mod stored;
pub mod upstream;
