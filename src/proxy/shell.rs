//! The gateway as Pingora sees it: which of its hooks lead where.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{BError, Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use pingora_timeout::timeout;

use crate::dialect::Envelope;
use crate::id::new_request_id;
use crate::proxy::record::Ending;
use crate::proxy::respond;
use crate::proxy::serve::{Gateway, RequestCtx, Served, asked};
use crate::rejection::Rejection;
use crate::usage::record::Outcome;

impl Gateway {
    /// Closes the connection after what has been written; a client that does not take that is not
    /// waited for.
    async fn shut(&self, client: &mut ServerSession) {
        drop(timeout(self.limits.write_timeout, client.shutdown()).await);
    }

    /// A panic ends this request alone: its client gets a 500, its row says so.
    async fn after_panic(
        &self,
        client: &mut ServerSession,
        ctx: &mut RequestCtx,
    ) -> Result<bool, BError> {
        self.metrics.panics.inc();
        tracing::error!(request_id = %ctx.request_id, "a request panicked");
        let has_begun = client.response_written().is_some();
        let request = asked(ctx);
        Self::end(
            ctx,
            Ending {
                outcome: Outcome::GatewayError,
                status: 500,
                error_class: Some("internal_error"),
            },
        );
        if has_begun {
            self.shut(client).await;
            return Err(cut());
        }
        client.set_keepalive(None);
        respond::reject(client, &Rejection::Internal, &request, respond::DISCARD_BYTES_MAX).await?;
        Ok(true)
    }
}

/// The error that makes Pingora drop a connection without ending the body.
#[expect(clippy::unnecessary_box_returns, reason = "Pingora passes its errors boxed")]
fn cut() -> BError {
    Error::explain(ErrorType::InternalError, "the answer was cut")
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = RequestCtx;

    fn new_ctx(&self) -> RequestCtx {
        RequestCtx {
            request_id: new_request_id(),
            began: Instant::now(),
            envelope: Envelope::OpenAi,
            recorder: None,
            stored: None,
            _entered: self.flow.enter(&self.metrics),
        }
    }

    /// None of Pingora's modules: nothing compresses or rewrites.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<bool, BError> {
        let client = session.as_downstream_mut();
        let served = AssertUnwindSafe(self.serve(client, ctx)).catch_unwind().await;
        match served {
            Ok(Ok(Served::Answered)) => Ok(true),
            Ok(Ok(Served::Upstream)) => Ok(false),
            Ok(Ok(Served::Cut)) => {
                // What was written goes out, and then the connection closes in mid-body.
                self.shut(client).await;
                Err(cut())
            }
            Ok(Err(error)) => Err(error),
            Err(_panic) => self.after_panic(client, ctx).await,
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<Box<HttpPeer>, BError> {
        self.stored_peer(ctx).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), BError> {
        Self::stored_request(session, upstream, ctx)
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        upstream: &mut ResponseHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), BError>
    where
        Self::CTX: Send + Sync,
    {
        Self::stored_response(upstream, ctx)
    }

    /// The last of a header-routed answer: its row is written before the client has it.
    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Option<Duration>, BError>
    where
        Self::CTX: Send + Sync,
    {
        Self::stored_part(session, body.as_ref().map_or(0, Bytes::len), is_end, ctx);
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestCtx,
    ) -> FailToProxy
    where
        Self::CTX: Send + Sync,
    {
        self.stored_failed(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut RequestCtx)
    where
        Self::CTX: Send + Sync,
    {
        Self::stored_logged(session, error, ctx);
    }

    /// Failures are counted and logged where they are handled, without query strings.
    fn suppress_error_log(&self, _: &Session, _: &RequestCtx, _: &Error) -> bool {
        true
    }

    fn request_summary(&self, _session: &Session, ctx: &RequestCtx) -> String {
        format!("request {}", ctx.request_id)
    }
}
