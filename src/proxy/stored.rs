//! Requests about a response that a provider keeps: `GET|DELETE /v1/responses/{id}` and its kin.
//!
//! The target follows from the id, so these go over Pingora's own upstream path; the heads are built
//! by list all the same.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, header};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{BError, Error, ErrorSource, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, Session};

use crate::clock::Millis;
use crate::config::resources::Auth;
use crate::control::live::lock;
use crate::control::snapshot::{Connection, Target};
use crate::dialect::Dialect;
use crate::head::fields::Fields;
use crate::id::{ConnectionId, EnvironmentId};
use crate::net::resolve::{Addresses, NoAddress};
use crate::proxy::admit::Known;
use crate::proxy::client::Client;
use crate::proxy::record::Ending;
use crate::proxy::serve::{Gateway, RequestCtx, asked};
use crate::proxy::{headers, respond};
use crate::rejection::{Rejection, UpstreamStatus};
use crate::secret::Secret;
use crate::usage::record::Outcome;

/// Response ids that are remembered; the oldest is forgotten first.
const REMEMBERED_MAX: usize = 100_000;

/// Which connection made which response.
#[derive(Debug, Default)]
pub struct StoredResponses(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    by_id: HashMap<(EnvironmentId, Box<str>), ConnectionId>,
    order: VecDeque<(EnvironmentId, Box<str>)>,
}

/// Where a request about a stored response goes.
pub struct StoredTarget {
    target: Arc<Target>,
    passthrough: Option<Secret>,
    /// Of the provider's answer, once its head has come.
    status: Option<u16>,
    body_bytes: u64,
}

impl StoredResponses {
    /// Remembers that `connection` made the response `id`.
    pub fn remember(&self, environment: EnvironmentId, id: Box<str>, connection: ConnectionId) {
        let mut remembered = lock(&self.0);
        let key = (environment, id);
        if remembered.by_id.insert(key.clone(), connection).is_none() {
            remembered.order.push_back(key);
        }
        if REMEMBERED_MAX < remembered.order.len()
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.by_id.remove(&oldest);
        }
    }

    /// The connection that made `id`, if that is remembered.
    pub fn made_by(&self, environment: EnvironmentId, id: &str) -> Option<ConnectionId> {
        lock(&self.0).by_id.get(&(environment, Box::from(id))).copied()
    }

    /// The connection that made `id`; one that is not remembered can only be of the environment's
    /// one connection for responses.
    pub fn find(&self, known: &Known, id: &str) -> Result<StoredTarget, Rejection> {
        let environment = &known.environment;
        let made_by = self.made_by(environment.id, id);
        let mut speakers = environment
            .reachable
            .values()
            .filter(|target| target.connection.dialects.contains(Dialect::Responses));
        let target = match made_by {
            Some(connection) => environment.reachable.get(&connection),
            None => speakers.next().filter(|_| speakers.next().is_none()),
        };
        let target = target.map(Arc::clone).ok_or(Rejection::NotFound)?;
        let passthrough = known.passthrough.clone();
        Ok(StoredTarget { target, passthrough, status: None, body_bytes: 0 })
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "Pingora passes its errors boxed")]
fn lost() -> BError {
    Error::explain(ErrorType::InternalError, "the target of the request is not known")
}

impl Gateway {
    pub(super) async fn stored_peer(&self, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>, BError> {
        let stored = ctx.stored.as_ref().ok_or_else(lost)?;
        if let Some(recorder) = &mut ctx.recorder {
            let started_us = recorder.micros_at(Instant::now());
            recorder.begin(&stored.target.row, started_us);
        }
        let connection = &*stored.target.connection;
        let name = &connection.upstream_name;
        let found = name.addresses(Millis::now());
        if matches!(found, Addresses::Unusable(NoAddress::Unresolved)) {
            name.resolved(Duration::from_secs(1)).await;
        }
        let address = match name.addresses(Millis::now()) {
            Addresses::Known(addresses) => addresses.first().copied(),
            Addresses::Unusable(_) => None,
        };
        let address = address.ok_or_else(|| {
            Error::explain(ErrorType::ConnectNoRoute, "no address of the upstream can be used")
        })?;
        let mut peer = connection.live.peer(address, &connection.base_url).to_http_peer();
        let timeouts = stored.target.timeouts;
        peer.options.total_connection_timeout = Some(timeouts.connect);
        peer.options.read_timeout = Some(timeouts.headers);
        peer.options.write_timeout = Some(timeouts.headers);
        Ok(Box::new(peer))
    }

    /// The head that leaves, built from nothing.
    pub(super) fn stored_request(
        session: &Session,
        upstream: &mut RequestHeader,
        ctx: &RequestCtx,
    ) -> Result<(), BError> {
        let stored = ctx.stored.as_ref().ok_or_else(lost)?;
        let connection = &*stored.target.connection;
        let client = session.req_header();
        let below = client.uri.path().strip_prefix("/v1").unwrap_or_default();
        let mut path = format!("{}{below}", connection.base_url.path);
        let version = connection.api_version.as_ref().map(|it| format!("api-version={it}"));
        let query = client.uri.query().unwrap_or_default().split('&').filter(|it| is_passed(it));
        for (n, part) in query.chain(version.as_deref()).enumerate() {
            path.push(if n == 0 { '?' } else { '&' });
            path += part;
        }
        let mut lines = BytesMut::from(&connection.head.0[..]);
        headers::forward(&Fields::from(&client.headers), &mut lines);
        passthrough_line(connection, stored.passthrough.as_ref(), &mut lines);
        let mut head = RequestHeader::build(client.method.clone(), path.as_bytes(), Some(16))?;
        for line in <[u8]>::split(&lines, |byte| *byte == b'\n') {
            let mut parts = line.trim_ascii().splitn(2, |byte| *byte == b':');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
            let name = HeaderName::from_bytes(name);
            let value = HeaderValue::from_bytes(value.trim_ascii());
            if let (Ok(name), Ok(value)) = (name, value) {
                head.append_header(name, value)?;
            }
        }
        for framing in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            if let Some(value) = upstream.headers.get(&framing) {
                head.insert_header(framing, value)?;
            }
        }
        *upstream = head;
        Ok(())
    }

    pub(super) fn stored_response(
        upstream: &mut ResponseHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), BError> {
        if let Some(stored) = &mut ctx.stored {
            stored.status = Some(upstream.status.as_u16());
        }
        let id = upstream.headers.get("x-request-id").cloned();
        let dropped: Vec<HeaderName> = upstream
            .headers
            .keys()
            .filter(|name| !headers::is_passed_back(name))
            .filter(|name| {
                !matches!(
                    **name,
                    header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION
                )
            })
            .cloned()
            .collect();
        for name in dropped {
            upstream.remove_header(&name);
        }
        if let Some(id) = id {
            upstream.insert_header("x-upstream-request-id", id)?;
        }
        upstream.insert_header("x-request-id", ctx.request_id.as_hyphenated().to_string())?;
        if let Some(stored) = &ctx.stored {
            upstream.insert_header("x-sluice-provider", stored.target.row.provider)?;
        }
        Ok(())
    }

    /// Pingora could not get an answer, or not all of it.
    pub(super) async fn stored_failed(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestCtx,
    ) -> FailToProxy {
        let mut client = Client::session(session.as_downstream_mut());
        let is_ours = matches!(error.esource(), ErrorSource::Downstream);
        if ctx.stored.is_none() || is_ours || client.has_begun() {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let is_timeout = matches!(
            error.etype(),
            ErrorType::ReadTimedout | ErrorType::ConnectTimedout | ErrorType::WriteTimedout
        );
        let (status, message) = if is_timeout {
            (UpstreamStatus::TimedOut, "the provider did not answer in time")
        } else {
            (UpstreamStatus::Failed, "the provider could not answer")
        };
        let rejection = Rejection::Upstream { status, message, retry_after: None };
        let request = asked(ctx);
        let written = respond::reject(&mut client, &rejection, &request, 0).await;
        FailToProxy { error_code: written.unwrap_or(0), can_reuse_downstream: false }
    }

    /// A part of the answer on its way. The row is written before the client has the last one.
    pub(super) fn stored_part(session: &Session, bytes: usize, is_end: bool, ctx: &mut RequestCtx) {
        if let Some(stored) = &mut ctx.stored {
            stored.body_bytes += bytes as u64;
        }
        if is_end {
            Self::stored_logged(session, None, ctx);
        }
    }

    /// Writes the row of a header-routed request. All others have written theirs.
    pub(super) fn stored_logged(session: &Session, error: Option<&Error>, ctx: &mut RequestCtx) {
        let Some(stored) = &ctx.stored else { return };
        let row = Arc::clone(&stored.target.row);
        let is_client = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
        let written = || session.response_written().map(|head| head.status.as_u16());
        let status = stored.status.or_else(written).filter(|_| !is_client).unwrap_or(499);
        let body_bytes = stored.body_bytes;
        if let Some(recorder) = &mut ctx.recorder {
            recorder.note(|usage| {
                usage.target = Some(row);
                usage.response_bytes = body_bytes;
            });
        }
        let (outcome, error_class) = match (error, status) {
            (Some(_), _) if is_client => (Outcome::ClientClosed, Some("client_closed")),
            (Some(_), 504) => (Outcome::Timeout, Some("upstream_timeout")),
            (Some(_), _) | (None, 500..) => (Outcome::UpstreamError, Some("upstream_error")),
            (None, 400..) => (Outcome::ClientError, Some("client_error")),
            (None, _) => (Outcome::Success, None),
        };
        Self::end(ctx, Ending { outcome, status, error_class });
    }
}

/// Whether a parameter of a client's query goes on to the provider: by list, as headers do.
fn is_passed(parameter: &str) -> bool {
    const PASSED: [&str; 10] = [
        "after",
        "before",
        "include",
        "include[]",
        "include%5B%5D",
        "include_obfuscation",
        "limit",
        "order",
        "starting_after",
        "stream",
    ];
    PASSED.contains(&parameter.split('=').next().unwrap_or_default())
}

/// The caller's own key, for a connection that passes it on.
pub(super) fn passthrough_line(
    connection: &Connection,
    key: Option<&Secret>,
    lines: &mut BytesMut,
) {
    let (Auth::Passthrough, Some(key)) = (connection.auth, key) else { return };
    lines.extend_from_slice(connection.provider.credential_header().start().as_bytes());
    lines.extend_from_slice(key.expose().as_bytes());
    lines.extend_from_slice(b"\r\n");
}
