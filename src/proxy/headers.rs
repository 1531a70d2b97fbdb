//! Headers by list, both ways.
//!
//! What goes to a provider is built from nothing: only what [`is_forwarded`] names leaves, so that no
//! byte of a client's head can mean something to an upstream that it did not mean to us.

use bytes::{BufMut as _, BytesMut};
use http::header::{self, HeaderName, HeaderValue};

use crate::dialect::Envelope;
use crate::head::fields::Fields;

/// Where a key can be, in the order in which it is looked for.
pub const KEY_HEADERS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

pub const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's SDKs look.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Added to the client's `user-agent`.
pub(super) const AGENT: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));

/// The keys that a request presents.
#[derive(Debug, Clone, Copy, Default)]
pub struct PresentedKeys<'a> {
    /// The first that looks like a virtual key, else the first of all.
    pub virtual_key: Option<&'a [u8]>,
    /// The caller's own key at a provider, for connections that pass it through.
    pub passthrough: Option<&'a [u8]>,
}

pub fn presented_keys(headers: &Fields) -> PresentedKeys<'_> {
    // The places of the first of each, in one pass over all headers.
    let (mut own, mut other) = (None, None);
    for (name, value) in headers {
        let Some(place) = KEY_HEADERS.iter().position(|one| one == name) else { continue };
        let key = without_bearer(value.as_bytes());
        let found = if key.starts_with(crate::key::PREFIX) { &mut own } else { &mut other };
        if !key.is_empty() && found.is_none_or(|(before, _): (usize, &[u8])| place < before) {
            *found = Some((place, key));
        }
    }
    let [own, other] = [own, other].map(|found| found.map(|(_, key)| key));
    match own {
        Some(_) => PresentedKeys { virtual_key: own, passthrough: other },
        None => PresentedKeys { virtual_key: other, passthrough: None },
    }
}

fn without_bearer(value: &[u8]) -> &[u8] {
    match value.split_at_checked(7) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => key.trim_ascii(),
        _ => value.trim_ascii(),
    }
}

/// Whether a request header goes to the provider as it came.
fn is_forwarded(name: &str) -> bool {
    matches!(
        name,
        "accept" | "content-type" | "idempotency-key" | "tracestate" | "x-client-request-id"
    ) || name.starts_with("openai-")
        || name.starts_with("anthropic-")
}

/// Writes the client's forwarded headers as lines of a head.
pub fn forward(headers: &Fields, out: &mut BytesMut) {
    let (mut agent, mut parent) = (None, None);
    for (name, value) in headers {
        if is_forwarded(name.as_str()) {
            line(name.as_str(), value.as_bytes(), out);
        } else if *name == header::USER_AGENT {
            agent.get_or_insert(value);
        } else if *name == TRACEPARENT {
            parent.get_or_insert(value);
        }
    }
    out.put_slice(b"user-agent: ");
    if let Some(agent) = agent {
        out.put_slice(agent.as_bytes());
        out.put_u8(b' ');
    }
    out.put_slice(AGENT.as_bytes());
    out.put_slice(b"\r\n");
    if let Some(parent) = parent.and_then(continued) {
        line("traceparent", parent.as_bytes(), out);
    }
}

/// Whose shapes a client reads, where its headers tell.
pub fn told_envelope(headers: &Fields) -> Option<Envelope> {
    if headers.contains(&ANTHROPIC_VERSION) {
        Some(Envelope::Anthropic)
    } else if headers.contains(&X_GOOG_API_KEY) {
        Some(Envelope::Google)
    } else {
        None
    }
}

/// One header line.
pub fn line(name: &str, value: &[u8], out: &mut BytesMut) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// The caller's trace goes on with a span of ours (W3C Trace Context).
fn continued(parent: &HeaderValue) -> Option<String> {
    let parent = parent.to_str().ok()?;
    let mut parts = parent.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_valid = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    is_valid.then(|| format!("{version}-{trace}-{:016x}-{flags}", rand::random::<u64>() | 1))
}

/// Whether a provider's response header reaches the client as it came.
///
/// Dropped are the hop-by-hop ones, cookies, what names the server, and what only the gateway may
/// say.
pub fn is_passed_back(name: &HeaderName) -> bool {
    let name = name.as_str();
    !matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
            | "date"
            | "set-cookie"
            | "set-cookie2"
            | "server"
            | "via"
            | "x-powered-by"
            | "alt-svc"
            | "strict-transport-security"
            | "server-timing"
            | "request-id"
            | "x-request-id"
            | "x-upstream-request-id"
            | "x-should-retry"
            | "retry-after"
            | "retry-after-ms"
    ) && !name.starts_with("cf-")
        && !name.starts_with("x-sluice-")
        && !name.starts_with("access-control-")
}

/// The names that a `Connection` header nominates as hop-by-hop.
pub fn is_nominated(connection: Option<&HeaderValue>, name: &HeaderName) -> bool {
    connection.and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(',').any(|nominated| nominated.trim().eq_ignore_ascii_case(name.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> Fields {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn virtual_key_is_found_in_each_place() {
        for (name, value) in [
            ("authorization", "Bearer vk_1"),
            ("authorization", "bearer  vk_1"),
            ("x-api-key", "vk_1"),
            ("api-key", "vk_1"),
            ("x-goog-api-key", "vk_1"),
        ] {
            let headers = map(&[(name, value)]);
            assert_eq!(presented_keys(&headers).virtual_key, Some(&b"vk_1"[..]), "{name}");
        }
    }

    #[test]
    fn callers_own_key_is_told_from_the_virtual_one() {
        let headers = map(&[("authorization", "Bearer sk-own"), ("x-api-key", "vk_1")]);
        let keys = presented_keys(&headers);
        assert_eq!(keys.virtual_key, Some(&b"vk_1"[..]));
        assert_eq!(keys.passthrough, Some(&b"sk-own"[..]));
    }

    #[test]
    fn place_decides_between_keys_and_not_the_order_of_the_headers() {
        let headers = map(&[
            ("api-key", "vk_2"),
            ("x-goog-api-key", "sk-3"),
            ("authorization", "Bearer vk_1"),
            ("x-api-key", "sk-4"),
        ]);
        let keys = presented_keys(&headers);
        assert_eq!(keys.virtual_key, Some(&b"vk_1"[..]));
        assert_eq!(keys.passthrough, Some(&b"sk-4"[..]));
        let headers = map(&[("x-goog-api-key", "sk-3"), ("api-key", " "), ("x-api-key", "sk-4")]);
        assert_eq!(presented_keys(&headers).virtual_key, Some(&b"sk-4"[..]));
    }

    #[test]
    fn only_listed_headers_leave() {
        let headers = map(&[
            ("authorization", "Bearer vk_1"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("connection", "x-secret"),
            ("x-secret", "1"),
            ("anthropic-version", "2023-06-01"),
            ("openai-beta", "assistants=v2"),
            ("idempotency-key", "k"),
            ("user-agent", "OpenAI/Python"),
            ("x-sluice-end-user", "u"),
        ]);
        let mut out = BytesMut::new();
        forward(&headers, &mut out);
        let mut lines: Vec<_> = std::str::from_utf8(&out).unwrap().lines().collect();
        lines.sort_unstable();
        let agent = format!("user-agent: OpenAI/Python {AGENT}");
        assert_eq!(
            lines,
            [
                "anthropic-version: 2023-06-01",
                "idempotency-key: k",
                "openai-beta: assistants=v2",
                agent.as_str(),
            ]
        );
    }

    #[test]
    fn trace_goes_on_with_another_span() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let next = continued(&HeaderValue::from_static(parent)).unwrap();
        assert!(next.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert!(next.ends_with("-01") && next != parent && next.len() == parent.len());
        assert_eq!(continued(&HeaderValue::from_static("00-zz-1-01")), None);
    }

    #[test]
    fn identity_of_the_server_stays_behind() {
        for name in ["server", "set-cookie", "x-request-id", "transfer-encoding", "x-sluice-model"]
        {
            assert!(!is_passed_back(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["content-type", "openai-processing-ms", "x-ratelimit-limit-requests"] {
            assert!(is_passed_back(&HeaderName::from_static(name)), "{name}");
        }
    }
}
