//! The client of a request, whichever way it is connected.

mod exchange;

use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{BError, ErrorType};
use pingora_http::ResponseHeader;

pub use self::exchange::Exchange;
use crate::head::fields::Fields;

/// Where requests come from, and answers go to.
pub enum Client<'a> {
    /// HTTP/1.1, which is read and written here.
    Exchange(&'a mut Exchange),
    /// HTTP/2, and requests that Pingora's own upstream path may answer.
    Session(&'a mut ServerSession, Fields),
}

/// The head of an answer in the making.
pub struct Head {
    status: StatusCode,
    form: Form,
}

enum Form {
    /// Lines as they go over the wire.
    Lines(BytesMut),
    Fields(Box<ResponseHeader>),
}

/// How the length of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Known(usize),
    Unknown,
}

// === impl Head ===

impl Head {
    pub fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        match &mut self.form {
            Form::Lines(lines) => line(name, value.as_bytes(), lines),
            // Fails for more fields than an answer can have.
            Form::Fields(fields) => drop(fields.append_header(name, value)),
        }
    }

    pub fn put_number(&mut self, name: &HeaderName, number: u64) {
        match &mut self.form {
            Form::Lines(lines) => {
                line(name, itoa::Buffer::new().format(number).as_bytes(), lines);
            }
            Form::Fields(_) => self.put(name, &HeaderValue::from(number)),
        }
    }

    /// A text as a header value; what a header cannot hold is percent-encoded.
    pub fn put_text(&mut self, name: &HeaderName, text: &str) {
        match &mut self.form {
            Form::Lines(lines) if text.bytes().all(is_plain) => line(name, text.as_bytes(), lines),
            _ => {
                let encoded: String = text.bytes().map(encoded).collect();
                if let Ok(value) = HeaderValue::try_from(encoded) {
                    self.put(name, &value);
                }
            }
        }
    }
}

fn line(name: &HeaderName, value: &[u8], lines: &mut BytesMut) {
    lines.put_slice(name.as_str().as_bytes());
    lines.put_slice(b": ");
    lines.put_slice(value);
    lines.put_slice(b"\r\n");
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'%'
}

fn encoded(byte: u8) -> String {
    if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

// === impl Client ===

impl<'a> Client<'a> {
    pub fn session(session: &'a mut ServerSession) -> Self {
        let headers = Fields::from(&session.req_header().headers);
        Self::Session(session, headers)
    }
}

impl Client<'_> {
    pub fn method(&self) -> &Method {
        match self {
            Self::Exchange(exchange) => &exchange.method,
            Self::Session(session, _) => &session.req_header().method,
        }
    }

    /// Without the query.
    pub fn path(&self) -> &str {
        match self {
            Self::Exchange(exchange) => exchange.path_and_query().0,
            Self::Session(session, _) => session.req_header().uri.path(),
        }
    }

    pub fn query(&self) -> Option<&str> {
        match self {
            Self::Exchange(exchange) => exchange.path_and_query().1,
            Self::Session(session, _) => session.req_header().uri.query(),
        }
    }

    pub fn headers(&self) -> &Fields {
        match self {
            Self::Exchange(exchange) => &exchange.headers,
            Self::Session(_, headers) => headers,
        }
    }

    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Exchange(exchange) => exchange.ip,
            Self::Session(session, _) => Some(session.client_addr()?.as_inet()?.ip()),
        }
    }

    /// A client that does not read is given up after this time.
    pub fn set_write_timeout(&mut self, timeout: Duration) {
        match self {
            Self::Exchange(exchange) => exchange.write_timeout = timeout,
            Self::Session(session, _) => session.set_write_timeout(Some(timeout)),
        }
    }

    /// Lets a client that waits for it send its body.
    pub async fn send_continue(&mut self) -> Result<(), BError> {
        match self {
            Self::Exchange(exchange) => exchange.send_continue().await,
            Self::Session(session, _) => {
                session.write_continue_response().await?;
                // Pingora switches it off when the body is not there yet.
                session.set_keepalive(Some(60));
                Ok(())
            }
        }
    }

    /// The next part of the request's body; `None` at its end.
    pub async fn read(&mut self) -> Result<Option<Bytes>, BError> {
        match self {
            Self::Exchange(exchange) => exchange.read().await,
            Self::Session(session, _) => session.read_request_body().await,
        }
    }

    /// Whether the whole body of the request has been read.
    pub fn is_body_done(&mut self) -> bool {
        match self {
            Self::Exchange(exchange) => exchange.is_body_done(),
            Self::Session(session, _) => session.is_body_done(),
        }
    }

    /// Resolves when the client has left. One that sends more than its request is not watched any
    /// further, and its connection ends with the answer.
    pub async fn left(&mut self) -> BError {
        match self {
            Self::Exchange(exchange) => exchange.left().await,
            Self::Session(session, _) => match session.read_body_or_idle(true).await {
                Err(error) if *error.etype() != ErrorType::ConnectError => error,
                _ => {
                    session.set_keepalive(None);
                    std::future::pending().await
                }
            },
        }
    }

    /// The connection ends with this answer.
    pub fn close_after(&mut self) {
        match self {
            Self::Exchange(exchange) => exchange.close_after(),
            Self::Session(session, _) => session.set_keepalive(None),
        }
    }

    /// Whether the client may have seen the beginning of an answer.
    pub fn has_begun(&self) -> bool {
        match self {
            Self::Exchange(exchange) => exchange.has_begun(),
            Self::Session(session, _) => session.response_written().is_some(),
        }
    }

    /// Begins an answer. Its head is [written](Self::write_head) once it is complete.
    pub fn begin(&self, status: u16) -> Result<Head, BError> {
        let fields = || ResponseHeader::build_no_case(status, Some(16));
        Ok(Head {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
            form: match self {
                Self::Exchange(_) => Form::Lines(BytesMut::with_capacity(1024)),
                Self::Session(..) => Form::Fields(Box::new(fields()?)),
            },
        })
    }

    /// Writes the head of the answer. It may wait for the first part of the body.
    pub async fn write_head(&mut self, head: Head, length: Length) -> Result<(), BError> {
        match (self, head.form) {
            (Self::Exchange(exchange), Form::Lines(lines)) => {
                exchange.write_head(head.status, &lines, length);
            }
            (Self::Session(session, _), Form::Fields(mut fields)) => {
                match length {
                    Length::Known(bytes) => fields.set_content_length(bytes)?,
                    // There is no body to frame.
                    Length::Unknown if head.status == StatusCode::NO_CONTENT => {}
                    Length::Unknown if session.req_header().version == Version::HTTP_11 => {
                        fields.insert_header(header::TRANSFER_ENCODING, "chunked")?;
                    }
                    Length::Unknown => {}
                }
                session.write_response_header(fields).await?;
            }
            _ => unreachable!("a head is begun and written with the same client"),
        }
        Ok(())
    }

    /// Writes a part of the body. It may wait for the next [`Self::flush`].
    pub async fn write(&mut self, part: Bytes) -> Result<(), BError> {
        match self {
            Self::Exchange(exchange) => exchange.write(part).await,
            Self::Session(session, _) => session.write_response_body(part, false).await,
        }
    }

    /// Ends the body.
    pub async fn finish(&mut self) -> Result<(), BError> {
        match self {
            Self::Exchange(exchange) => exchange.finish().await,
            Self::Session(session, _) => session.write_response_body(Bytes::new(), true).await,
        }
    }

    /// Sends what has been written.
    pub async fn flush(&mut self) -> Result<(), BError> {
        match self {
            Self::Exchange(exchange) => exchange.flush().await,
            Self::Session(..) => Ok(()), // Pingora flushes what is not of a known length.
        }
    }

    /// Sends what has been written, and closes the connection in the middle of the body.
    pub async fn cut(&mut self) {
        match self {
            Self::Exchange(exchange) => exchange.shut().await,
            Self::Session(session, _) => session.shutdown().await,
        }
    }
}
