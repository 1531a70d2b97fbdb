//! A reply before it is sent: its head, and its body in pieces.
//!
//! Ids stand in it as [`MARKER`]; where they stand is noted once, so that a reply can be kept and
//! sent again with another id.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::behaviour::Behaviour;
use super::json::Raw;

/// Stands for the id of the request.
pub(super) const MARKER: &str = "mockid0000000000";
pub(super) const ID_LEN: usize = MARKER.len();

/// Bytes with ids in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    id_at: Vec<usize>,
}

impl Text {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let id_at = memchr::memmem::find_iter(&bytes, MARKER).collect();
        Self { bytes, id_at }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the first `len_max` bytes with `id` in its places.
    pub(super) fn put(&self, out: &mut Vec<u8>, id: &[u8; ID_LEN], len_max: usize) -> usize {
        let start = out.len();
        out.extend_from_slice(self.bytes.get(..len_max).unwrap_or(&self.bytes));
        for at in &self.id_at {
            if let Some(place) = out.get_mut(start + at..start + at + ID_LEN) {
                place.copy_from_slice(id);
            }
        }
        out.len() - start
    }
}

/// Where in a stream an event belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Before content, or between.
    Opening,
    Content,
    Closing,
}

/// A part of the body that is sent by itself.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) text: Text,
    pub(super) part: Part,
}

/// How the end of the body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    /// The end of the connection is the end of the body.
    Close,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: Text,
    pub(super) pieces: Vec<Piece>,
    pub(super) framing: Framing,
    pub(super) is_stream: bool,
    /// What follows the last piece.
    pub(super) end: &'static [u8],
    /// The connection ends after this reply.
    pub(super) is_last: bool,
}

/// A body as a dialect makes it.
#[derive(Debug)]
pub(super) enum Body {
    Whole {
        bytes: Vec<u8>,
        content_type: &'static str,
    },
    /// Events, and where each belongs.
    Stream(Vec<(Vec<u8>, Part)>),
    None,
}

impl Body {
    pub(super) fn json(text: Raw) -> Self {
        Self::Whole { bytes: text.0.into_bytes(), content_type: "application/json" }
    }

    fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Whole { content_type, .. } => Some(content_type),
            Self::Stream(_) => Some("text/event-stream; charset=utf-8"),
            Self::None => None,
        }
    }

    fn into_parts(self) -> Vec<(Vec<u8>, Part)> {
        match self {
            Self::Whole { bytes, .. } => vec![(bytes, Part::Content)],
            Self::Stream(parts) => parts,
            Self::None => Vec::new(),
        }
    }
}

// === impl Reply ===

impl Reply {
    /// Puts head and body together. `request_id` is the name of the header with the id.
    pub(super) fn new(
        behaviour: &Behaviour,
        status: u16,
        request_id: &str,
        id: &str,
        body: Body,
    ) -> Self {
        let is_stream = body.is_stream();
        let is_gzip = !matches!(body, Body::None)
            && if is_stream { behaviour.gzip_stream } else { behaviour.gzip };
        let content_type = body.content_type();
        let mut parts = body.into_parts();
        if !is_stream && behaviour.malformed_event.is_some() {
            for (bytes, _) in &mut parts {
                bytes.truncate(bytes.len() / 2);
            }
        }
        if !is_stream && behaviour.change_event.is_some() {
            for (bytes, _) in &mut parts {
                super::events::change(bytes);
            }
        }
        if is_gzip {
            parts = gzipped(parts);
        }
        let framing = framing(behaviour, is_stream);

        let version = if behaviour.http10 { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} {status} {}\r\n", reason(status));
        let is_given = |name: &str| {
            behaviour.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name))
        };
        if let Some(content_type) = content_type.filter(|_| !is_given("content-type")) {
            head.push_str(&format!("content-type: {content_type}\r\n"));
        }
        if is_stream {
            head.push_str("cache-control: no-cache\r\n");
        }
        head.push_str(&format!("{request_id}: req_{id}\r\nserver: simulated\r\n"));
        if is_gzip {
            head.push_str("content-encoding: gzip\r\n");
        }
        if let Some(url) = &behaviour.redirect {
            head.push_str(&format!("location: {url}\r\n"));
        }
        if let Some(seconds) = behaviour.retry_after {
            head.push_str(&format!("retry-after: {seconds}\r\n"));
        }
        if let Some(milliseconds) = behaviour.retry_after_ms {
            head.push_str(&format!("retry-after-ms: {milliseconds}\r\n"));
        }
        for (name, value) in &behaviour.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let body_len = parts.iter().map(|(bytes, _)| bytes.len()).sum();
        head.push_str(&framing_fields(behaviour, framing, status, body_len));
        let is_last = framing == Framing::Close || behaviour.close || behaviour.content_length_long;
        if behaviour.close {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");

        let pieces =
            parts.into_iter().map(|(bytes, part)| Piece { text: Text::new(bytes), part }).collect();
        Self {
            head: Text::new(head.into_bytes()),
            pieces,
            framing,
            is_stream,
            end: match framing {
                Framing::Chunked if behaviour.trailers => b"0\r\nx-simulated-trailer: end\r\n\r\n",
                Framing::Chunked => b"0\r\n\r\n",
                Framing::Length | Framing::Close => b"",
            },
            is_last,
        }
    }
}

fn framing(behaviour: &Behaviour, is_stream: bool) -> Framing {
    if behaviour.http10 || behaviour.close_delimited {
        Framing::Close
    } else if behaviour.content_length_short || behaviour.content_length_long {
        Framing::Length
    } else if is_stream || behaviour.chunked || behaviour.trailers {
        Framing::Chunked
    } else {
        Framing::Length
    }
}

fn framing_fields(behaviour: &Behaviour, framing: Framing, status: u16, body_len: usize) -> String {
    /// By how much a wrong length is wrong.
    const WRONG_BYTES: usize = 10;

    match framing {
        Framing::Length if status == 204 => String::new(),
        Framing::Length => {
            let declared = if behaviour.content_length_short {
                body_len.saturating_sub(WRONG_BYTES)
            } else if behaviour.content_length_long {
                body_len + WRONG_BYTES
            } else {
                body_len
            };
            format!("content-length: {declared}\r\n")
        }
        Framing::Chunked if behaviour.trailers => {
            "trailer: x-simulated-trailer\r\ntransfer-encoding: chunked\r\n".to_owned()
        }
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Framing::Close => String::new(),
    }
}

/// Compresses the parts as one gzip stream that is flushed after each of them.
fn gzipped(parts: Vec<(Vec<u8>, Part)>) -> Vec<(Vec<u8>, Part)> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut out: Vec<(Vec<u8>, Part)> = parts
        .into_iter()
        .map(|(bytes, part)| {
            encoder
                .write_all(&bytes)
                .and_then(|()| encoder.flush())
                .expect("writing to memory does not fail");
            (std::mem::take(encoder.get_mut()), part)
        })
        .collect();
    let end = encoder.finish().expect("writing to memory does not fail");
    match out.last_mut() {
        Some((bytes, _)) => bytes.extend(end),
        None => out.push((end, Part::Closing)),
    }
    out
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Overloaded",
        _ => "Status",
    }
}
