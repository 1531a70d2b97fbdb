//! A walk over JSON text that checks its syntax (RFC 8259) and builds nothing.
//!
//! Lone surrogates in `\u` escapes and numbers that no machine can hold are within the grammar, so
//! they pass; whoever reads such a value decides.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// How many objects and arrays may be open at once.
pub(crate) const DEPTH_MAX: u32 = 128;

/// Strings up to this length are walked by words: starting a vectorised search costs more.
const SHORT_BYTES: usize = 32;

/// Why a text is not JSON that we accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Syntax { at: usize, expected: &'static str },
    TooDeep,
}

/// A position in JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// A string that was walked over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// With the quotes.
    pub(crate) range: Range<usize>,
    pub(crate) has_escapes: bool,
}

/// The key of an object's member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) key: Text,
    /// Where the comma before the key is; the first member has none.
    pub(crate) comma: Option<usize>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next byte, after white space.
    pub(crate) fn peek_token(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// The text of `range`; empty if there is none.
    pub(crate) fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// What `text` says, unless it holds half a surrogate pair, which no Rust string can.
    pub(crate) fn decode(&self, text: &Text) -> Option<Cow<'a, str>> {
        if text.has_escapes {
            return serde_json::from_str(self.slice(text.range.clone())).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(self.inner(text)))
    }

    /// What is between the quotes.
    fn inner(&self, text: &Text) -> &'a str {
        self.slice(text.range.start + 1..text.range.end - 1)
    }

    /// Enters the object that begins here, inside of `depth` others.
    pub(crate) fn enter_object(&mut self, depth: u32) -> Result<(), Broken> {
        self.enter(b'{', "`{`", depth)
    }

    /// Enters the array that begins here, inside of `depth` others.
    pub(crate) fn enter_array(&mut self, depth: u32) -> Result<(), Broken> {
        self.enter(b'[', "`[`", depth)
    }

    fn enter(&mut self, open: u8, expected: &'static str, depth: u32) -> Result<(), Broken> {
        if self.peek_token() != Some(open) {
            return Err(self.broken(expected));
        }
        if depth >= DEPTH_MAX {
            return Err(Broken::TooDeep);
        }
        self.at += 1;
        Ok(())
    }

    /// The next member of the object that is open, with the cursor before its value; `None` once
    /// the object is closed.
    pub(crate) fn member(&mut self, is_first: bool) -> Result<Option<Member>, Broken> {
        let comma = match self.peek_token() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !is_first => {
                self.at += 1;
                Some(self.at - 1)
            }
            _ if is_first => None,
            _ => return Err(self.broken("`,` or `}`")),
        };
        if self.peek_token() != Some(b'"') {
            return Err(self.broken("a key in double quotes"));
        }
        let key = self.string()?;
        if self.peek_token() != Some(b':') {
            return Err(self.broken("`:`"));
        }
        self.at += 1;
        Ok(Some(Member { key, comma }))
    }

    /// Goes to the next element of the array that is open; `false` once the array is closed.
    pub(crate) fn element(&mut self, is_first: bool) -> Result<bool, Broken> {
        match self.peek_token() {
            Some(b']') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !is_first => self.at += 1,
            _ if is_first => return Ok(true),
            _ => return Err(self.broken("`,` or `]`")),
        }
        Ok(true)
    }

    /// Walks over one value that is inside of `depth` objects and arrays.
    pub(crate) fn skip_value(&mut self, depth: u32) -> Result<(), Broken> {
        match self.peek_token() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.skip_object(depth),
            Some(b'[') => self.skip_array(depth),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            Some(b't') => self.skip_literal("true"),
            Some(b'f') => self.skip_literal("false"),
            Some(b'n') => self.skip_literal("null"),
            _ => Err(self.broken("a value")),
        }
    }

    fn skip_object(&mut self, depth: u32) -> Result<(), Broken> {
        self.enter_object(depth)?;
        let mut is_first = true;
        while self.member(is_first)?.is_some() {
            self.skip_value(depth + 1)?;
            is_first = false;
        }
        Ok(())
    }

    fn skip_array(&mut self, depth: u32) -> Result<(), Broken> {
        self.enter_array(depth)?;
        let mut is_first = true;
        while self.element(is_first)? {
            self.skip_value(depth + 1)?;
            is_first = false;
        }
        Ok(())
    }

    /// Walks over the string that begins here.
    pub(crate) fn string(&mut self) -> Result<Text, Broken> {
        let start = self.at;
        self.at += 1;
        let mut has_escapes = false;
        loop {
            // A look at one byte is predicted; where a run of plain text ends is computed.
            if !matches!(self.peek(), Some(b'"' | b'\\')) {
                self.skip_plain();
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text { range: start..self.at, has_escapes });
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.skip_escape()?;
                }
                Some(_control) => return Err(self.broken("an escape for a control character")),
                None => return Err(self.broken("the end of a string")),
            }
        }
    }

    /// Goes to the next quote, backslash or control character.
    fn skip_plain(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let (head, tail) = rest.split_at(rest.len().min(SHORT_BYTES));
        let (words, last) = head.as_chunks::<8>();
        for word in words {
            let special = special_bytes(u64::from_le_bytes(*word));
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        if let Some(end) = last.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
            self.at += end;
            return;
        }
        let plain_bytes = memchr2(b'"', b'\\', tail).unwrap_or(tail.len());
        let plain = tail.get(..plain_bytes).unwrap_or_default();
        // A minimum over everything is one vector instruction a step; an early exit is not.
        let is_clean = plain.iter().fold(u8::MAX, |least, &byte| least.min(byte)) >= 0x20;
        let end = if is_clean {
            plain_bytes
        } else {
            plain.iter().position(|&byte| byte < 0x20).unwrap_or(plain_bytes)
        };
        self.at += last.len() + end;
    }

    fn skip_escape(&mut self) -> Result<(), Broken> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.broken("four hexadecimal digits"));
                    }
                    self.at += 1;
                }
                Ok(())
            }
            _ => Err(self.broken("an escape that JSON knows")),
        }
    }

    fn skip_number(&mut self) -> Result<(), Broken> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.skip_digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    /// At least one digit.
    fn skip_digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.broken("a digit")) } else { Ok(()) }
    }

    fn skip_literal(&mut self, literal: &'static str) -> Result<(), Broken> {
        let end = self.at + literal.len();
        if self.text.get(self.at..end) != Some(literal) {
            return Err(self.broken("a value"));
        }
        self.at = end;
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(crate) fn broken(&self, expected: &'static str) -> Broken {
        Broken::Syntax { at: self.at, expected }
    }
}

/// Has the high bit of the lowest byte set that is a quote, a backslash or a control character; of
/// the bytes above that one it says nothing.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | equal(b'"') | equal(b'\\')
}

/// Calls `on_string` with each top-level string of the object `text`, as it is written, until
/// the object ends or its syntax breaks.
pub(crate) fn top_level_strings<'a>(text: &'a str, mut on_string: impl FnMut(&str, &'a str)) {
    let mut cursor = Cursor::new(text);
    let mut is_first = true;
    if cursor.enter_object(0).is_err() {
        return;
    }
    while let Ok(Some(member)) = cursor.member(is_first) {
        is_first = false;
        let is_string = cursor.peek_token() == Some(b'"');
        let start = cursor.at();
        if cursor.skip_value(1).is_err() {
            return;
        }
        let value = Text { range: start..cursor.at(), has_escapes: false };
        if is_string && !member.key.has_escapes {
            on_string(cursor.inner(&member.key), cursor.inner(&value));
        }
    }
}
