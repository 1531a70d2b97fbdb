//! One request to a server that the operator named, as an identity provider: a connection of its own,
//! bounded in time and bytes. It follows nothing and keeps nothing.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pingora_core::connectors::TransportConnector;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::config::resources::BaseUrl;
use crate::config::url::{Url, base_url};
use crate::json::Spliced;
use crate::net::peer::UpstreamPeer;
use crate::proxy::headers;
use crate::proxy::upstream::{Link, NoHead};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 3;

/// A whole answer.
#[derive(Debug)]
pub struct Whole {
    pub status: u16,
    pub body: Bytes,
    pub head_at: Instant,
}

/// Why there is no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("the address is no URL as https://host/path")]
    Address,
    #[error("the host cannot be reached")]
    Unreachable,
    #[error("it did not answer in time")]
    Late,
    #[error("it closed the connection")]
    Closed,
    #[error("what came back is no answer of HTTP")]
    Malformed,
    #[error("the answer is too large")]
    TooLarge,
    #[error("the answer broke off")]
    BrokeOff,
}

/// What is sent.
#[derive(Debug)]
pub struct Ask<'a> {
    pub method: &'static str,
    /// With a query, if it has any.
    pub url: &'a str,
    pub headers: &'a [(&'static str, String)],
    pub body: String,
}

/// Sends a request and reads its whole answer.
pub async fn fetch(
    connector: &TransportConnector,
    ask: &Ask<'_>,
    (time_max, bytes_max): (Duration, usize),
) -> Result<Whole, NoAnswer> {
    let (before, query) = match ask.url.split_once('?') {
        Some((before, query)) => (before, format!("?{query}")),
        None => (ask.url, String::new()),
    };
    let mut url = base_url(before).map_err(|_fault| NoAnswer::Address)?;
    // To the letter: a slash at the end means something to some.
    url.path = Url::parse(before).map_err(|_fault| NoAnswer::Address)?.path;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !query.bytes().all(is_plain) {
        return Err(NoAnswer::Address);
    }
    let asked = async {
        let link = connect(connector, &url).await?;
        let head = head(ask, &url, &query);
        whole(link, &head, &Bytes::from(ask.body.clone()), bytes_max).await
    };
    timeout(time_max, asked).await.unwrap_or(Err(NoAnswer::Late))
}

async fn connect(connector: &TransportConnector, url: &BaseUrl) -> Result<Link, NoAnswer> {
    let found = lookup_host((url.host.as_str(), url.port)).await;
    for address in found.map_err(|_error| NoAnswer::Unreachable)?.take(ADDRESSES_MAX) {
        let peer = UpstreamPeer::new(address, url.is_tls, &url.host);
        match Box::pin(connector.new_stream(&peer)).await {
            Ok(stream) => return Ok(Link::over(stream, peer)),
            Err(error) => tracing::debug!(%address, %error, "cannot connect"),
        }
    }
    Err(NoAnswer::Unreachable)
}

fn head(ask: &Ask<'_>, url: &BaseUrl, query: &str) -> BytesMut {
    let path = if url.path.is_empty() { "/" } else { &url.path };
    let mut head = BytesMut::from(&*format!("{} {path}{query} HTTP/1.1\r\n", ask.method));
    headers::line("host", url.authority().as_bytes(), &mut head);
    headers::line("accept", b"application/json", &mut head);
    headers::line("accept-encoding", b"identity", &mut head);
    headers::line("user-agent", headers::AGENT.as_bytes(), &mut head);
    headers::line("connection", b"close", &mut head);
    for (name, value) in ask.headers {
        headers::line(name, value.as_bytes(), &mut head);
    }
    if ask.method == "POST" {
        headers::line("content-length", ask.body.len().to_string().as_bytes(), &mut head);
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Sends a request on `link` and reads its whole answer.
pub(super) async fn whole(
    link: Link,
    head: &[u8],
    body: &Bytes,
    bytes_max: usize,
) -> Result<Whole, NoAnswer> {
    // An error of the write may hide an answer.
    let (unanswered, _written) = link.send(head, &Spliced::same(body)).await;
    let mut sent = unanswered.read_head().await.map_err(|error| match error {
        NoHead::Malformed => NoAnswer::Malformed,
        NoHead::Closed => NoAnswer::Closed,
    })?;
    let head_at = Instant::now();
    let mut body = BytesMut::new();
    loop {
        match sent.read().await {
            Ok(Some(part)) if bytes_max < body.len() + part.len() => {
                return Err(NoAnswer::TooLarge);
            }
            Ok(Some(part)) => body.extend_from_slice(&part),
            Ok(None) => break,
            Err(_) => return Err(NoAnswer::BrokeOff),
        }
    }
    Ok(Whole { status: sent.head.status, body: body.freeze(), head_at })
}
