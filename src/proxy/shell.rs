//! The gateway as Pingora sees it: which of its hooks lead where.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{BError, Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use pingora_timeout::tokio_timeout as timeout;

use crate::dialect::Envelope;
use crate::id::new_request_id;
use crate::proxy::client::{Client, Exchange};
use crate::proxy::record::Ending;
use crate::proxy::respond;
use crate::proxy::serve::{Gateway, RequestCtx, Served, asked};
use crate::rejection::Rejection;
use crate::usage::record::Outcome;

/// The gateway behind Pingora's hooks.
pub struct Shell(pub Arc<Gateway>);

impl Gateway {
    fn new_request(&self) -> RequestCtx {
        RequestCtx {
            request_id: new_request_id(),
            began: Instant::now(),
            envelope: Envelope::OpenAi,
            recorder: None,
            stored: None,
            payload: None,
            keeping: None,
            _entered: self.flow.enter(&self.metrics),
        }
    }

    /// Answers a request of HTTP/1.1 whose target follows from its body, or that has none.
    pub async fn exchange(&self, exchange: &mut Exchange) {
        let mut ctx = self.new_request();
        let mut client = Client::Exchange(exchange);
        match self.serve_apart(&mut client, &mut ctx).await {
            Ok(Served::Answered) => {}
            // Without a target there is nothing that Pingora could do.
            Ok(Served::Cut | Served::Upstream) | Err(_) => client.cut().await,
        }
    }

    /// A panic ends this request alone: its client gets a 500, its row says so.
    async fn serve_apart(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
    ) -> Result<Served, BError> {
        let served = AssertUnwindSafe(self.serve(client, ctx)).catch_unwind().await;
        match served {
            Ok(served) => served,
            Err(_panic) => self.after_panic(client, ctx).await,
        }
    }

    async fn after_panic(
        &self,
        client: &mut Client<'_>,
        ctx: &mut RequestCtx,
    ) -> Result<Served, BError> {
        self.metrics.panics.inc();
        tracing::error!(request_id = %ctx.request_id, "a request panicked");
        let request = asked(ctx);
        Self::end(
            ctx,
            Ending {
                outcome: Outcome::GatewayError,
                status: 500,
                error_class: Some("internal_error"),
            },
        );
        if client.has_begun() {
            return Ok(Served::Cut);
        }
        client.close_after();
        respond::reject(client, &Rejection::Internal, &request, respond::DISCARD_BYTES_MAX).await?;
        Ok(Served::Answered)
    }
}

/// The error that makes Pingora drop a connection without ending the body.
#[expect(clippy::unnecessary_box_returns, reason = "Pingora passes its errors boxed")]
fn cut() -> BError {
    Error::explain(ErrorType::InternalError, "the answer was cut")
}

#[async_trait]
impl ProxyHttp for Shell {
    type CTX = RequestCtx;

    fn new_ctx(&self) -> RequestCtx {
        self.0.new_request()
    }

    /// None of Pingora's modules: nothing compresses or rewrites.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<bool, BError> {
        let gateway = &*self.0;
        let mut client = Client::session(session.as_downstream_mut());
        match gateway.serve_apart(&mut client, ctx).await? {
            Served::Answered => Ok(true),
            Served::Upstream => Ok(false),
            Served::Cut => {
                // What was written goes out, and then the connection closes in mid-body; a client
                // that does not take it is not waited for.
                drop(timeout(gateway.limits.write_timeout, client.cut()).await);
                Err(cut())
            }
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<Box<HttpPeer>, BError> {
        self.0.stored_peer(ctx).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), BError> {
        Gateway::stored_request(session, upstream, ctx)
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
        Gateway::stored_response(upstream, ctx)
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
        Gateway::stored_part(session, body.as_ref().map_or(0, Bytes::len), is_end, ctx);
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
        self.0.stored_failed(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut RequestCtx)
    where
        Self::CTX: Send + Sync,
    {
        Gateway::stored_logged(session, error, ctx);
    }

    /// Failures are counted and logged where they are handled, without query strings.
    fn suppress_error_log(&self, _: &Session, _: &RequestCtx, _: &Error) -> bool {
        true
    }

    fn request_summary(&self, _session: &Session, ctx: &RequestCtx) -> String {
        format!("request {}", ctx.request_id)
    }
}
