//! An answer other than 2xx: what it is about, and whether the client gets it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, header};
use pingora_timeout::tokio_timeout as timeout;

use crate::head::fields::Fields;
use crate::provider::errors::Said;
use crate::proxy::attempt::{NoAnswer, Try};
use crate::proxy::forward::LastAnswer;
use crate::proxy::relay::Body;
use crate::proxy::upstream::Sent;
use crate::route::failure::{Answer, Failure, Reason};
use crate::usage::inflate::{Encoding, Inflater};
use crate::usage::record::AttemptRow;

/// Of an error's body, this much is read before it is judged, and kept for the client.
const BODY_BYTES_MAX: usize = 64 * 1024;
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// Where AWS names its errors.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

impl Try<'_> {
    /// Passed on when it is about the caller's own request, else a failure.
    pub(super) async fn refused(
        &self,
        (status, headers): (u16, Fields),
        mut sent: Sent,
        row: &mut AttemptRow,
    ) -> Result<(u16, Fields, Box<Body>), NoAnswer> {
        let retry_after = self.retry_after(&headers);
        // What will not be shown is not waited for.
        if !(400..600).contains(&status) {
            return Err(Failure::Status { status, reason: None, retry_after }.into());
        }
        let mut begun = BytesMut::new();
        let is_whole = timeout(BODY_TIME_MAX, read_short(&mut sent, &mut begun)).await;
        let is_whole = is_whole.unwrap_or(false);
        let begun = begun.freeze();
        let reason = self.reason(status, &headers, &begun);
        let failure = Failure::Status { status, reason, retry_after };
        let verdict = self.judge(&failure);
        let is_passed = !verdict.fails_over && verdict.answer == Answer::Upstreams;
        if is_passed {
            row.error_class = Some(verdict.class);
        }
        if is_passed && self.conversion.is_none() {
            let body = Body::opaque(self.request, &headers, (sent, begun))?;
            return Ok((status, headers, Box::new(body)));
        }
        let mut answer = None;
        if is_whole {
            sent.release(&self.gateway.pool);
            answer = Some(LastAnswer { status, headers, body: begun });
        }
        if let (Some(conversion), Some(answer)) = (self.conversion, &mut answer) {
            conversion.translate_error(answer, reason);
        }
        match answer {
            Some(LastAnswer { status, headers, body }) if is_passed => {
                let client = self.request.call.endpoint.dialect();
                let body = Body::translated_error(client, body);
                Ok((status, headers, Box::new(body)))
            }
            answer => Err(NoAnswer { failure, answer }),
        }
    }

    fn reason(&self, status: u16, headers: &Fields, body: &Bytes) -> Option<Reason> {
        let error_type = headers.get(&ERROR_TYPE).and_then(|kind| kind.to_str().ok());
        let said = Said::in_body(error_type, &plain(headers, body));
        self.target.connection.provider.reason(Some(status), &said)
    }
}

/// Reads a short body, and says whether that is all of it.
async fn read_short(sent: &mut Sent, begun: &mut BytesMut) -> bool {
    while begun.len() <= BODY_BYTES_MAX {
        match sent.read().await {
            Ok(Some(part)) => begun.extend_from_slice(&part),
            Ok(None) => return begun.len() <= BODY_BYTES_MAX,
            Err(_broken) => return false,
        }
    }
    false
}

/// A body without its compression; nothing of one that cannot be unpacked.
fn plain(headers: &Fields, body: &Bytes) -> Bytes {
    let name = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    match name.map_or(Some(Encoding::Identity), Encoding::from_header) {
        Some(Encoding::Identity) => body.clone(),
        Some(encoding) => {
            let mut plain = BytesMut::new();
            let unpacked = Inflater::new(encoding)
                .is_some_and(|mut inflater| inflater.push(body, |part| plain.extend(part)).is_ok());
            if unpacked { plain.freeze() } else { Bytes::new() }
        }
        None => Bytes::new(),
    }
}
