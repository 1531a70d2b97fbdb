//! The text of the mock's script, in whatever wrapping.

use std::time::Instant;

use memchr::memmem::{self, Finder};

use super::events::{self, Gather};
use super::{Failure, KEPT_BYTES_MAX, Seen};
use crate::scenario::Dialect;

pub(in crate::run) struct Text<'a> {
    pieces: &'a [String],
    all: &'a Finder<'static>,
    dialect: Dialect,
    is_stream: bool,
    gather: Gather,
    body: Vec<u8>,
    /// Bytes of the text that have come.
    at: usize,
    is_ended: bool,
}

impl<'a> Text<'a> {
    pub(super) fn new(
        pieces: &'a [String],
        all: &'a Finder<'static>,
        dialect: Dialect,
        is_stream: bool,
    ) -> Self {
        Self {
            pieces,
            all,
            dialect,
            is_stream,
            gather: Gather::default(),
            body: Vec::new(),
            at: 0,
            is_ended: false,
        }
    }

    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        now: Instant,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        if !self.is_stream {
            if self.body.len() + bytes.len() > KEPT_BYTES_MAX {
                return Err(Failure::Wrong("the body is too large"));
            }
            self.body.extend_from_slice(bytes);
            return Ok(());
        }
        self.gather.push(bytes);
        while let Some(event) = self.gather.next() {
            let Some(data) = events::data(event) else { continue };
            if self.is_ended {
                return Err(Failure::Wrong("something after the last event"));
            }
            if is_end(self.dialect, data) {
                self.is_ended = true;
                continue;
            }
            match text_of(self.dialect, data) {
                Some(text) if !text.is_empty() => {
                    let wanted = self.all.needle();
                    if wanted.get(self.at..self.at + text.len()) != Some(text) {
                        return Err(misplaced(self.pieces, wanted, self.at, text));
                    }
                    self.at += text.len();
                    seen.event(now);
                }
                None if events::is_error(event) => return Err(Failure::ErrorEvent),
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    pub(super) fn end(self) -> Result<(), Failure> {
        if !self.is_stream {
            if self.all.find(&self.body).is_none() {
                return Err(Failure::Wrong("the text is not there"));
            }
            let is_object = self.body.trim_ascii_end().last() == Some(&b'}');
            return if is_object {
                Ok(())
            } else {
                Err(Failure::Truncated("no end of the object"))
            };
        }
        if !self.is_ended || self.at < self.all.needle().len() {
            // The end without all of the text is no truncation: something has been left out.
            return Err(if self.is_ended {
                Failure::Wrong("an event is missing")
            } else {
                Failure::Truncated("a proper end, but too early")
            });
        }
        Ok(())
    }
}

fn misplaced(pieces: &[String], wanted: &[u8], at: usize, text: &[u8]) -> Failure {
    let before = wanted.get(at.saturating_sub(text.len())..at);
    if before == Some(text) {
        Failure::Wrong("an event came twice")
    } else if pieces.iter().any(|piece| piece.as_bytes() == text) {
        Failure::Wrong("events are missing or out of order")
    } else {
        Failure::Wrong("an event is not the provider's")
    }
}

fn is_end(dialect: Dialect, data: &[u8]) -> bool {
    let has_type = |kind: &[u8]| memmem::find(data, kind).is_some();
    match dialect {
        Dialect::Chat | Dialect::Embeddings => data == b"[DONE]",
        Dialect::Messages => has_type(b"\"message_stop\""),
        Dialect::Responses => has_type(b"\"response.completed\""),
    }
}

/// The piece of text that an event brings. The mock's texts need no escapes.
fn text_of(dialect: Dialect, data: &[u8]) -> Option<&[u8]> {
    let key: &[u8] = match dialect {
        Dialect::Chat | Dialect::Embeddings => b"\"content\"",
        Dialect::Messages => {
            memmem::find(data, b"\"text_delta\"")?;
            b"\"text\""
        }
        Dialect::Responses => {
            memmem::find(data, b"\"response.output_text.delta\"")?;
            b"\"delta\""
        }
    };
    let after = data.get(memmem::find(data, key)? + key.len()..)?;
    let value = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let text = value.strip_prefix(b"\"")?;
    text.get(..memchr::memchr(b'"', text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::text_pieces;

    fn check(dialect: Dialect, body: &str) -> Result<(), Failure> {
        let pieces = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let all = Finder::new("abc");
        let mut text = Text::new(&pieces, &all, dialect, true);
        text.feed(body.as_bytes(), Instant::now(), &mut Seen::default())?;
        text.end()
    }

    #[test]
    fn text_must_be_whole_and_in_order() {
        let [role, a, b, c, bc, d] = ["", "a", "b", "c", "bc", "d"]
            .map(|text| format!("data: {{\"content\": \"{text}\"}}\n\n"));
        let done = "data: [DONE]\n\n";
        let chat = |body: &str| check(Dialect::Chat, body);
        assert_eq!(chat(&format!("{role}{a}: ping\n\n{b}{c}{done}")), Ok(()));
        assert_eq!(chat(&format!("{a}{bc}{done}")), Ok(()));
        for (body, part) in [
            (format!("{a}{b}{c}"), "too early"),
            (format!("{a}{c}{b}{done}"), "out of order"),
            (format!("{a}{a}{b}{c}{done}"), "twice"),
            (format!("{a}{b}{done}"), "missing"),
            (format!("{a}{d}{done}"), "not the provider's"),
            (format!("{a}{b}{c}{done}{a}"), "after the last"),
            (String::new(), "too early"),
        ] {
            let failure = chat(&body).unwrap_err().to_string();
            assert!(failure.contains(part), "{body}: {failure}");
        }
    }

    #[test]
    fn mock_is_understood_in_every_dialect() {
        let pieces = text_pieces(&"events=5".parse().unwrap());
        let all = Finder::new(&pieces.concat()).into_owned();
        for dialect in [Dialect::Chat, Dialect::Responses, Dialect::Messages] {
            for is_stream in [true, false] {
                let script = super::super::script(dialect, "sim?events=5", is_stream).unwrap();
                let mut text = Text::new(&pieces, &all, dialect, is_stream);
                let mut seen = Seen::default();
                text.feed(&script.bytes, Instant::now(), &mut seen).unwrap();
                assert_eq!(text.end(), Ok(()));
                assert_eq!(seen.gaps.len(), if is_stream { 4 } else { 0 });
            }
        }
    }
}
