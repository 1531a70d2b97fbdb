//! The head of an upstream's answer, and how long its body is.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, header};

use super::fields::Fields;

/// Beyond this no provider's head goes.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;
const HEADERS_MAX: usize = 256;

/// A head that says how its body is framed in one way only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerHead {
    pub status: u16,
    pub headers: Fields,
    pub framing: Framing,
    /// The upstream takes another request on this connection.
    pub is_kept: bool,
}

/// How long the body of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// The body ends where the connection ends.
    UntilClose,
}

/// Bytes that are no head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the head of the answer is malformed")]
pub struct Malformed;

/// Takes the head off the beginning of `read`; `None` while it goes on. Bytes before `from` have been
/// searched for its end before.
pub fn take_head(read: &mut BytesMut, from: usize) -> Result<Option<AnswerHead>, Malformed> {
    let Some(end) = super::check::find_end(read, from) else {
        return if HEAD_BYTES_MAX < read.len() { Err(Malformed) } else { Ok(None) };
    };
    parse(&read.split_to(end).freeze()).map(Some)
}

fn parse(head: &Bytes) -> Result<AnswerHead, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        head,
        &mut lines,
    );
    if !parsed.is_ok_and(|parsed| parsed.is_complete()) {
        return Err(Malformed);
    }
    let mut headers = Fields::with_capacity(response.headers.len());
    let (mut has_encoding, mut has_connection) = (false, false);
    for line in &*response.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed)?;
        has_encoding |= name == header::TRANSFER_ENCODING;
        has_connection |= name == header::CONNECTION;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value));
        headers.append(name, value.map_err(|_| Malformed)?);
    }
    let status = response.code.ok_or(Malformed)?;
    let is_old = response.version == Some(0);
    let framing = framing(status, &headers)?;
    if has_encoding {
        headers.remove(header::CONTENT_LENGTH); // It counts no more than the other says.
    }
    let is_kept = framing != Framing::UntilClose
        && !(is_old && framing == Framing::Chunked)
        && if has_connection { keeps_open(&headers, !is_old) } else { !is_old };
    Ok(AnswerHead { status, headers, framing, is_kept })
}

fn framing(status: u16, headers: &Fields) -> Result<Framing, Malformed> {
    if matches!(status, 100..200 | 204 | 304) {
        return Ok(Framing::None);
    }
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING);
    if let Some(encoding) = encodings.next() {
        let is_chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
        let is_alone = encodings.next().is_none();
        return if is_chunked && is_alone { Ok(Framing::Chunked) } else { Err(Malformed) };
    }
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        // The same length twice is the same length.
        for said in value.as_bytes().split(|byte| *byte == b',') {
            let said = number(said.trim_ascii()).ok_or(Malformed)?;
            if length.replace(said).is_some_and(|before| before != said) {
                return Err(Malformed);
            }
        }
    }
    Ok(length.map_or(Framing::UntilClose, |length| match length {
        0 => Framing::None,
        length => Framing::Length(length),
    }))
}

/// Digits alone.
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// Whether `Connection` says that the connection stays open; `otherwise` when it says nothing.
fn keeps_open(headers: &Fields, otherwise: bool) -> bool {
    let has = |wanted: &[u8]| {
        headers.get_all(header::CONNECTION).any(|value| {
            let mut options = value.as_bytes().split(|byte| *byte == b',');
            options.any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted))
        })
    };
    !has(b"close") && (otherwise || has(b"keep-alive"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(lines: &str) -> Result<AnswerHead, Malformed> {
        let mut read = BytesMut::from(lines.replace('\n', "\r\n").as_bytes());
        let head = take_head(&mut read, 0);
        head.map(|head| head.expect("it is whole"))
    }

    #[test]
    fn body_is_as_long_as_the_head_says() {
        let framing = |lines: &str| head(lines).map(|head| (head.framing, head.is_kept));
        let old = "HTTP/1.0 200 OK\n";
        let plain = "HTTP/1.1 200 OK\n";
        for (begin, lines, expected) in [
            (plain, "content-length: 5\n", (Framing::Length(5), true)),
            (plain, "content-length: 5, 5\ncontent-length: 5\n", (Framing::Length(5), true)),
            (plain, "content-length: 0\n", (Framing::None, true)),
            (plain, "content-length: 5\nconnection: x, Close\n", (Framing::Length(5), false)),
            (plain, "content-length: 5\ntransfer-encoding: Chunked\n", (Framing::Chunked, true)),
            (plain, "", (Framing::UntilClose, false)),
            ("HTTP/1.1 204 No Content\n", "", (Framing::None, true)),
            ("HTTP/1.1 304 \n", "content-length: 9\n", (Framing::None, true)),
            (old, "content-length: 5\n", (Framing::Length(5), false)),
            (old, "content-length: 5\nconnection: keep-alive\n", (Framing::Length(5), true)),
            (
                old,
                "transfer-encoding: chunked\nconnection: keep-alive\n",
                (Framing::Chunked, false),
            ),
        ] {
            assert_eq!(framing(&format!("{begin}{lines}\n")), Ok(expected), "{begin}{lines}");
        }
    }

    #[test]
    fn head_with_two_readings_is_refused() {
        for lines in [
            "content-length: 5\ncontent-length: 6\n",
            "content-length: 5, 6\n",
            "content-length: +5\n",
            "content-length: \n",
            "content-length: 99999999999999999999999\n",
            "transfer-encoding: gzip, chunked\n",
            "transfer-encoding: chunked\ntransfer-encoding: chunked\n",
            "transfer-encoding: identity\n",
            "no colon\n",
        ] {
            assert_eq!(head(&format!("HTTP/1.1 200 OK\n{lines}\n")), Err(Malformed), "{lines}");
        }
        assert_eq!(head("ICY 200 OK\n\n"), Err(Malformed));
        let mut bare = BytesMut::from("HTTP/1.1 200 OK\ncontent-length: 5\r\n\r\n");
        assert_eq!(take_head(&mut bare, 0), Err(Malformed));
    }

    #[test]
    fn length_beside_chunks_is_not_passed_on() {
        let head = head("HTTP/1.1 200 OK\ncontent-length: 5\ntransfer-encoding: chunked\n\n");
        assert!(!head.unwrap().headers.contains(header::CONTENT_LENGTH));
    }

    #[test]
    fn head_without_end_is_given_up() {
        let mut read = BytesMut::from("HTTP/1.1 200 OK\r\n");
        while read.len() <= HEAD_BYTES_MAX {
            let from = read.len().saturating_sub(3);
            assert_eq!(take_head(&mut read, from), Ok(None));
            read.extend_from_slice(b"x: 123456789012345678901234567890\r\n");
        }
        assert_eq!(take_head(&mut read, 0), Err(Malformed));
    }

    proptest! {
        #[test]
        fn head_is_the_same_however_it_is_cut(cut in 0_usize..60, body in "[ -~]{0,9}") {
            let whole = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-A: b c\r\n\r\n";
            let (first, rest) = whole.split_at(cut.min(whole.len()));
            let mut read = BytesMut::from(first);
            let early = take_head(&mut read, 0);
            let head = match early {
                Ok(Some(head)) => head,
                early => {
                    prop_assert_eq!(early, Ok(None));
                    read.extend_from_slice(rest.as_bytes());
                    read.extend_from_slice(body.as_bytes());
                    let from = cut.saturating_sub(3);
                    let head = take_head(&mut read, from).unwrap().unwrap();
                    prop_assert_eq!(&read[..], body.as_bytes());
                    head
                }
            };
            prop_assert_eq!(head.framing, Framing::Length(9));
            prop_assert_eq!(head.headers.get(HeaderName::from_static("x-a")).unwrap(), "b c");
        }

        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut read = BytesMut::from("HTTP/1.1 200 OK\r\n");
            read.extend_from_slice(&bytes);
            read.extend_from_slice(b"\r\n\r\n");
            let _verdict = take_head(&mut read, 0);
        }
    }
}
