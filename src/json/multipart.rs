//! The fields of a `multipart/form-data` body (RFC 7578), found without copying a part.
//!
//! Parsers disagree about sloppy forms, and what is checked here is what is sent. So the form must
//! be strict: it begins with its boundary, lines end in CRLF, a boundary line holds nothing else,
//! every part has one name, and nothing follows the end. Work is linear in the body.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

use super::scan::{Model, ScanError};

/// The longest boundary of RFC 2046.
const BOUNDARY_BYTES_MAX: usize = 70;
/// The longest header of one part.
const PART_HEADER_BYTES_MAX: usize = 8 * 1024;

/// What the gateway reads of a form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MultipartScan {
    pub model: Option<Model>,
    pub is_stream: bool,
    /// The field `user`.
    pub end_user: Option<Box<str>>,
}

fn form(reason: &'static str) -> ScanError {
    ScanError::Form { reason }
}

/// Walks over the parts of `body`, whose `content-type` is `content_type`.
pub fn scan_multipart(content_type: &str, body: &[u8]) -> Result<MultipartScan, ScanError> {
    let delimiter = delimiter(content_type)?;
    let begins = delimiter.get(2..).unwrap_or_default();
    let mut at = match body {
        _ if body.starts_with(begins) => begins.len(),
        _ if body.starts_with(&delimiter) => delimiter.len(),
        _ => return Err(form("it does not begin with its boundary")),
    };

    let finder = memmem::Finder::new(&delimiter);
    let mut fields = Fields::default();
    loop {
        let rest = body.get(at..).unwrap_or_default();
        if let Some(epilogue) = rest.strip_prefix(b"--") {
            if epilogue.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Err(form("something follows its end"));
            }
            return Ok(fields.scan);
        }
        if !rest.starts_with(b"\r\n") {
            return Err(form("a boundary line has something after the boundary"));
        }
        // The line break stays: an empty header is then `CRLF CRLF` like any other.
        let part_bytes = finder.find(rest).ok_or_else(|| form("it has no end"))?;
        let part = rest.get(..part_bytes).unwrap_or_default();
        fields.part(part, at)?;
        at += part_bytes + delimiter.len();
    }
}

/// `CRLF--boundary`, from the content type.
fn delimiter(content_type: &str) -> Result<Vec<u8>, ScanError> {
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !media_type.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(form("the content type is not multipart/form-data"));
    }
    let mut boundary = None;
    for parameter in Parameters(parameters.as_bytes()) {
        let Parameter { name, value } = parameter?;
        if name.eq_ignore_ascii_case(b"boundary") && boundary.replace(value).is_some() {
            return Err(form("the content type has two boundaries"));
        }
    }
    let boundary = boundary.ok_or_else(|| form("the content type has no boundary"))?;
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~');
    let is_fine = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())
        && boundary.iter().all(is_plain)
        && !boundary.ends_with(b" ");
    if !is_fine {
        return Err(form("the boundary must be 1 to 70 printable ASCII characters"));
    }
    Ok([b"\r\n--", &*boundary].concat())
}

#[derive(Default)]
struct Fields {
    scan: MultipartScan,
    has_stream: bool,
    has_user: bool,
}

/// What the header of a part says.
struct Disposition<'a> {
    name: Cow<'a, [u8]>,
    /// Neither a file nor in a transfer encoding.
    is_plain: bool,
}

impl Fields {
    /// Reads the part that begins at `start` of the body with the line break before its header.
    fn part(&mut self, part: &[u8], start: usize) -> Result<(), ScanError> {
        let head = part.get(..part.len().min(PART_HEADER_BYTES_MAX)).unwrap_or_default();
        let header_bytes = memmem::find(head, b"\r\n\r\n")
            .ok_or_else(|| form("a part has no header, or a very long one"))?;
        let header = part.get(2..header_bytes).unwrap_or_default();
        let disposition = disposition(header)?;
        let key = match &*disposition.name {
            b"model" => "model",
            b"stream" => "stream",
            b"user" => "user",
            _ => return Ok(()),
        };
        if let Cow::Owned(_unescaped) = disposition.name {
            return Err(ScanError::EscapedKey { key });
        }
        let wrong_type = ScanError::WrongType { field: key, expected: "plain text" };
        if !disposition.is_plain {
            return Err(wrong_type);
        }
        let value_start = header_bytes + 4;
        let value = part.get(value_start..).unwrap_or_default();
        let text = std::str::from_utf8(value).map_err(|_not_utf8| wrong_type)?;
        let range = start + value_start..start + part.len();
        self.field(key, text, range)
    }

    fn field(
        &mut self,
        key: &'static str,
        text: &str,
        range: Range<usize>,
    ) -> Result<(), ScanError> {
        let was_there = match key {
            "model" => self.scan.model.replace(Model { name: text.into(), range }).is_some(),
            "stream" => {
                self.scan.is_stream = match text {
                    "true" | "True" | "1" => true,
                    "false" | "False" | "0" | "" => false,
                    _ => {
                        return Err(ScanError::WrongType { field: key, expected: "true or false" });
                    }
                };
                std::mem::replace(&mut self.has_stream, true)
            }
            _ => {
                self.scan.end_user = Some(text.into());
                std::mem::replace(&mut self.has_user, true)
            }
        };
        if was_there { Err(ScanError::DuplicateKey { key }) } else { Ok(()) }
    }
}

fn disposition(header: &[u8]) -> Result<Disposition<'_>, ScanError> {
    let mut found = None;
    let mut is_encoded = false;
    let mut at = 0;
    while at <= header.len() {
        let rest = header.get(at..).unwrap_or_default();
        let line_bytes = memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        at += line_bytes + 2;
        let line = rest.get(..line_bytes).unwrap_or_default();
        if line.starts_with(b" ") || line.iter().any(u8::is_ascii_control) {
            return Err(form("a part's header is folded or has control characters"));
        }
        let colon = memchr::memchr(b':', line);
        let Some((name, value)) = colon.and_then(|colon| line.split_at_checked(colon)) else {
            return Err(form("a line of a part's header has no colon"));
        };
        if !name.iter().all(u8::is_ascii_graphic) {
            return Err(form("a name in a part's header has spaces or other odd characters"));
        }
        let value = value.trim_ascii().strip_prefix(b":").unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-disposition") {
            if found.replace(value).is_some() {
                return Err(form("a part has two `content-disposition` lines"));
            }
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            is_encoded =
                !matches!(&*value.to_ascii_lowercase(), b"" | b"7bit" | b"8bit" | b"binary");
        }
    }
    let value = found.ok_or_else(|| form("a part has no `content-disposition`"))?;
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let (kind, parameters) = value.split_at(end);
    if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return Err(form("a part's `content-disposition` is not form-data"));
    }
    named(parameters.strip_prefix(b";").unwrap_or_default(), is_encoded)
}

fn named(parameters: &[u8], is_encoded: bool) -> Result<Disposition<'_>, ScanError> {
    let mut name = None;
    let mut is_plain = !is_encoded;
    for parameter in Parameters(parameters) {
        let Parameter { name: key, value } = parameter?;
        if key.eq_ignore_ascii_case(b"name") {
            if name.replace(value).is_some() {
                return Err(form("a part has two names"));
            }
        } else if key.eq_ignore_ascii_case(b"name*") {
            return Err(form("a part's name is encoded"));
        } else if key.eq_ignore_ascii_case(b"filename") || key.eq_ignore_ascii_case(b"filename*") {
            is_plain = false;
        }
    }
    let name = name.ok_or_else(|| form("a part has no name"))?;
    Ok(Disposition { name, is_plain })
}

/// `name=value; name="value"`, as in header fields. An unescaped value is borrowed.
struct Parameters<'a>(&'a [u8]);

struct Parameter<'a> {
    name: &'a [u8],
    value: Cow<'a, [u8]>,
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<Parameter<'a>, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.0 = self.0.trim_ascii_start();
            match self.0.strip_prefix(b";") {
                Some(rest) => self.0 = rest,
                None => break,
            }
        }
        if self.0.is_empty() {
            return None;
        }
        let parameter = self.parameter();
        if parameter.is_err() {
            self.0 = &[];
        }
        Some(parameter)
    }
}

impl<'a> Parameters<'a> {
    fn parameter(&mut self) -> Result<Parameter<'a>, ScanError> {
        let malformed = || form("a parameter of a header is malformed");
        let equals = memchr::memchr2(b'=', b';', self.0).ok_or_else(malformed)?;
        let (name, rest) = self.0.split_at(equals);
        let value = rest.strip_prefix(b"=").ok_or_else(malformed)?;
        let name = name.trim_ascii();
        let value = value.trim_ascii_start();
        let Some(quoted) = value.strip_prefix(b"\"") else {
            let end = memchr::memchr(b';', value).unwrap_or(value.len());
            let (token, rest) = value.split_at(end);
            self.0 = rest;
            return Ok(Parameter { name, value: Cow::Borrowed(token.trim_ascii_end()) });
        };
        self.0 = quoted;
        let value = self.quoted().ok_or_else(malformed)?;
        self.0 = self.0.trim_ascii_start();
        if !self.0.is_empty() && !self.0.starts_with(b";") {
            return Err(malformed());
        }
        Ok(Parameter { name, value })
    }

    /// The value up to the closing quote.
    fn quoted(&mut self) -> Option<Cow<'a, [u8]>> {
        let mut value = None::<Cow<'a, [u8]>>;
        loop {
            let end = memchr::memchr2(b'"', b'\\', self.0)?;
            let (plain, tail) = self.0.split_at(end);
            match &mut value {
                None => value = Some(Cow::Borrowed(plain)),
                Some(value) => value.to_mut().extend_from_slice(plain),
            }
            let (&mark, tail) = tail.split_first()?;
            self.0 = tail;
            if mark == b'"' {
                return value;
            }
            let (&escaped, tail) = tail.split_first()?;
            self.0 = tail;
            value.as_mut()?.to_mut().push(escaped);
        }
    }
}
