//! Reads the head of a request, and refuses what could be read in two ways.

mod host;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::error::HeadError;
use super::fields;
use super::table::{NAME, TARGET, TOKEN, value_span};

/// A head, its last empty line included, is not longer than this.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
pub const HEADERS_MAX: usize = 100;
/// Path and query together, or the whole URL when the client sends one.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// More digits than the largest length has are a mistake or an attack.
const LENGTH_DIGITS_MAX: usize = 19;

/// Headers that a `Connection` header must not name: dropped on the way, they would change what the
/// request is or who makes it.
const KEPT: [&[u8]; 12] = [
    b"content-length",
    b"transfer-encoding",
    b"content-type",
    b"content-encoding",
    b"host",
    b"expect",
    b"connection",
    b"authorization",
    b"x-api-key",
    b"api-key",
    b"x-goog-api-key",
    b"cookie",
];

/// A head that has one reading only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    pub method: &'a str,
    /// Path and query as they were sent, or `*`; of an absolute URL what follows the authority.
    pub target: &'a str,
    pub version: Version,
    /// With its port, as sent; only HTTP/1.0 may come without.
    pub host: Option<&'a str>,
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub is_expect_continue: bool,
    /// The client takes one answer on this connection.
    pub wants_close: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Where the head at the beginning of `buf` ends, or `None` while it may still go on.
///
/// Bytes before `from` have been searched before. A line that ends without a carriage return ends
/// the head: [`check`] refuses it, and nobody waits for an end that another parser has seen already.
pub fn find_end(buf: &[u8], from: usize) -> Option<usize> {
    for found in memchr::memchr_iter(b'\n', buf.get(from..)?) {
        let end = from + found + 1;
        let line = buf.get(..end)?;
        if !line.ends_with(b"\r\n") || line.ends_with(b"\r\n\r\n") {
            return Some(end);
        }
    }
    None
}

/// The refusal of a head that has not ended within [`HEAD_BYTES_MAX`] bytes.
pub fn oversized(buf: &[u8]) -> HeadError {
    let line_bytes = memchr::memchr(b'\n', buf).unwrap_or(buf.len());
    // The rest of a request line, beside its target, is short.
    if TARGET_BYTES_MAX + 64 < line_bytes {
        HeadError::TARGET_TOO_LONG
    } else {
        HeadError::TOO_LARGE
    }
}

/// Checks a head that [`find_end`] has found the end of.
pub fn check(head: &[u8]) -> Result<Head<'_>, HeadError> {
    if HEAD_BYTES_MAX < head.len() {
        return Err(oversized(head));
    }
    let (line, mut rest) = next_line(head)?;
    let request_line = RequestLine::parse(line)?;
    let mut fields = Fields::default();
    let mut n_headers = 0;
    loop {
        if rest == b"\r\n" {
            return fields.finish(&request_line);
        }
        n_headers += 1;
        if HEADERS_MAX < n_headers {
            return Err(HeadError::TOO_MANY);
        }
        let Some((header, after)) = next_header(rest) else {
            return Err(bad_header(rest));
        };
        fields.take_in(&header)?;
        rest = after;
    }
}

/// The headers of a head that has passed [`check`]. The values are slices of it.
pub fn headers(head: &Bytes) -> fields::Fields {
    let mut headers = fields::Fields::with_capacity(16);
    let line_end = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    let mut rest = head.get(line_end..).unwrap_or_default();
    while let Some((Header { name, value }, after)) = next_header(rest) {
        let value = HeaderValue::from_maybe_shared(head.slice_ref(value));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            headers.append(name, value);
        }
        rest = after;
    }
    headers
}

/// Splits off a line that ends with CRLF and has no other CR in it.
fn next_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let end = memchr::memchr(b'\n', bytes).ok_or(HeadError::INCOMPLETE)?;
    let (line, rest) = bytes.split_at_checked(end).ok_or(HeadError::INCOMPLETE)?;
    let line = line.strip_suffix(b"\r").ok_or(HeadError::BARE_LF)?;
    Ok((line, rest.strip_prefix(b"\n").unwrap_or(rest)))
}

struct RequestLine<'a> {
    method: &'a str,
    target: &'a str,
    /// Of an absolute URL.
    authority: Option<&'a str>,
    version: Version,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, HeadError> {
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad_line(line, HeadError::REQUEST_LINE));
        };
        if method.is_empty() || target.is_empty() || version.is_empty() {
            return Err(bad_line(line, HeadError::REQUEST_LINE));
        }
        if !TOKEN.has_all(method) {
            return Err(bad_line(line, HeadError::METHOD));
        }
        if TARGET_BYTES_MAX < target.len() {
            return Err(HeadError::TARGET_TOO_LONG);
        }
        if !TARGET.has_all(target) {
            return Err(bad_line(line, HeadError::TARGET));
        }
        let version = parse_version(version)?;
        let method = text(method, HeadError::METHOD)?;
        let target = text(target, HeadError::TARGET)?;
        if ["CONNECT", "TRACE"].iter().any(|refused| method.eq_ignore_ascii_case(refused)) {
            return Err(HeadError::METHOD_REFUSED);
        }
        let (authority, target) = split_target(method, target)?;
        Ok(Self { method, target, authority, version })
    }
}

/// A carriage return inside a line is the worse mistake, and is named first.
fn bad_line(line: &[u8], error: HeadError) -> HeadError {
    if line.contains(&b'\r') { HeadError::BARE_CR } else { error }
}

fn parse_version(version: &[u8]) -> Result<Version, HeadError> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() && *major != b'1' =>
        {
            Err(HeadError::VERSION_REFUSED)
        }
        _ => Err(bad_line(version, HeadError::VERSION)),
    }
}

/// Splits a target into the authority, if it names one, and the path with its query.
fn split_target<'a>(
    method: &str,
    target: &'a str,
) -> Result<(Option<&'a str>, &'a str), HeadError> {
    if target.starts_with('/') {
        return Ok((None, target));
    }
    if target == "*" {
        return if method == "OPTIONS" { Ok((None, target)) } else { Err(HeadError::TARGET) };
    }
    let (scheme, rest) = target.split_once("://").ok_or(HeadError::TARGET)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(HeadError::TARGET);
    }
    match rest.find(['/', '?']).map(|at| rest.split_at(at)) {
        None => Ok((Some(rest), "/")),
        Some((authority, path)) if path.starts_with('/') => Ok((Some(authority), path)),
        Some(_query_without_path) => Err(HeadError::TARGET),
    }
}

struct Header<'a> {
    name: &'a [u8],
    /// Without the space around it.
    value: &'a [u8],
}

/// Splits off a header line; `None` when something is wrong with it.
fn next_header(bytes: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let (name, rest) = bytes.split_at_checked(NAME.span(bytes))?;
    let rest = rest.strip_prefix(b":")?;
    let (value, rest) = rest.split_at_checked(value_span(rest))?;
    let header = Header { name, value: value.trim_ascii() };
    if name.is_empty() { None } else { Some((header, rest.strip_prefix(b"\r\n")?)) }
}

/// What is wrong with the header line at the beginning of `bytes`.
fn bad_header(bytes: &[u8]) -> HeadError {
    let line = match next_line(bytes) {
        // The head ends before the bytes do: somebody else's idea of where it ends.
        Ok(([], _)) => return HeadError::INCOMPLETE,
        Ok((line, _)) => line,
        Err(error) => return error,
    };
    let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
    let is_name_good = !name.is_empty() && name.len() < line.len() && NAME.has_all(name);
    bad_line(line, if is_name_good { HeadError::HEADER_VALUE } else { bad_name(name) })
}

fn bad_name(name: &[u8]) -> HeadError {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    if name.first().is_some_and(is_space) {
        HeadError::FOLDED
    } else if name.last().is_some_and(is_space) {
        HeadError::HEADER_NAME_SPACE
    } else if name.contains(&b'_') && TOKEN.has_all(name) {
        HeadError::HEADER_NAME_UNDERSCORE
    } else {
        HeadError::HEADER_NAME
    }
}

/// The headers that decide how the request is read.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    length: Option<u64>,
    encoding: Option<()>,
    expectation: Option<()>,
    connection: Connection,
}

#[derive(Default)]
struct Connection {
    has_close: bool,
    has_keep_alive: bool,
}

impl<'a> Fields<'a> {
    fn take_in(&mut self, &Header { name, value }: &Header<'a>) -> Result<(), HeadError> {
        // By length first: most headers are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let host = host::parse(value).ok_or(HeadError::HOST)?;
                once(&mut self.host, host, HeadError::HOST_TWICE)
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(HeadError::EXPECTATION);
                }
                self.expectation = Some(());
                Ok(())
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => Err(HeadError::UPGRADE),
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection.take_in(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                once(&mut self.length, parse_length(value)?, HeadError::LENGTH_TWICE)
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if value != b"chunked" {
                    return Err(HeadError::ENCODING);
                }
                once(&mut self.encoding, (), HeadError::ENCODING_TWICE)
            }
            _ => Ok(()),
        }
    }

    fn finish(self, line: &RequestLine<'a>) -> Result<Head<'a>, HeadError> {
        let is_old = line.version == Version::Http10;
        if self.host.is_none() && !is_old {
            return Err(HeadError::HOST_MISSING);
        }
        if let Some(authority) = line.authority {
            let authority = host::parse(authority.as_bytes()).ok_or(HeadError::TARGET)?;
            if self.host.is_some_and(|host| !host.eq_ignore_ascii_case(authority)) {
                return Err(HeadError::HOST_DIFFERS);
            }
        }
        let framing = match (self.length, self.encoding) {
            (Some(_), Some(())) => return Err(HeadError::LENGTH_AND_ENCODING),
            (None, Some(())) if is_old => return Err(HeadError::ENCODING_OLD),
            (None, Some(())) => Framing::Chunked,
            (Some(length), None) => Framing::Length(length),
            (None, None) => Framing::None,
        };
        Ok(Head {
            method: line.method,
            target: line.target,
            version: line.version,
            host: self.host.or(line.authority),
            framing,
            // HTTP/1.0 has no interim answers.
            is_expect_continue: self.expectation.is_some() && !is_old,
            wants_close: self.connection.has_close || (is_old && !self.connection.has_keep_alive),
        })
    }
}

impl Connection {
    fn take_in(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            if option.is_empty() || !TOKEN.has_all(option) {
                return Err(HeadError::CONNECTION);
            }
            if KEPT.iter().any(|name| option.eq_ignore_ascii_case(name)) {
                return Err(HeadError::CONNECTION);
            }
            self.has_close |= option.eq_ignore_ascii_case(b"close");
            self.has_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
        Ok(())
    }
}

fn once<T>(slot: &mut Option<T>, value: T, error: HeadError) -> Result<(), HeadError> {
    if slot.replace(value).is_some() { Err(error) } else { Ok(()) }
}

/// Digits alone; no zero before others, which some read as octal.
fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    let is_padded = 1 < value.len() && value.starts_with(b"0");
    if value.is_empty() || LENGTH_DIGITS_MAX < value.len() || is_padded {
        return Err(HeadError::LENGTH);
    }
    let mut length = 0_u64;
    for byte in value {
        if !byte.is_ascii_digit() {
            return Err(HeadError::LENGTH);
        }
        length = length * 10 + u64::from(byte - b'0'); // 19 digits fit.
    }
    Ok(length)
}

/// Bytes that were found to be ASCII, as text.
fn text(bytes: &[u8], error: HeadError) -> Result<&str, HeadError> {
    std::str::from_utf8(bytes).map_err(|_not_ascii| error)
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
