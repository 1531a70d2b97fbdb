//! What every right answer of a dialect has, whatever it says: for real providers.

use std::borrow::Cow;
use std::time::Instant;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::events::{self, Gather};
use super::{Failure, KEPT_BYTES_MAX, Seen};
use crate::scenario::Dialect;

#[expect(clippy::struct_excessive_bools, reason = "each is something that has been seen")]
pub(in crate::run) struct Shape {
    dialect: Dialect,
    is_stream: bool,
    gather: Gather,
    body: Vec<u8>,
    /// Number of the last event, where events have one.
    sequence: Option<u64>,
    is_started: bool,
    has_reason: bool,
    is_ended: bool,
}

/// The members of the dialects' events that are looked at.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    error: Option<IgnoredAny>,
    sequence_number: Option<u64>,
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<Filled>,
    reasoning_content: Option<Filled>,
    tool_calls: Option<IgnoredAny>,
}

/// Whether a text has anything in it.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Filled(bool);

impl From<String> for Filled {
    fn from(text: String) -> Self {
        Self(!text.is_empty())
    }
}

#[derive(Deserialize)]
struct Whole {
    error: Option<IgnoredAny>,
    choices: Option<Vec<IgnoredAny>>,
    content: Option<Vec<IgnoredAny>>,
    output: Option<Vec<IgnoredAny>>,
    data: Option<Vec<IgnoredAny>>,
}

impl Shape {
    pub(super) fn new(dialect: Dialect, is_stream: bool) -> Self {
        Self {
            dialect,
            is_stream,
            gather: Gather::default(),
            body: Vec::new(),
            sequence: None,
            is_started: false,
            has_reason: false,
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
        let mut gather = std::mem::take(&mut self.gather);
        gather.push(bytes);
        while let Some(event) = gather.next() {
            self.event(event, now, seen)?;
        }
        self.gather = gather;
        Ok(())
    }

    fn event(&mut self, event: &[u8], now: Instant, seen: &mut Seen) -> Result<(), Failure> {
        let Some(data) = events::data(event) else { return Ok(()) };
        if self.is_ended {
            return Err(Failure::Wrong("something after the last event"));
        }
        if data == b"[DONE]" {
            self.is_ended = self.dialect == Dialect::Chat;
            return if self.is_ended { Ok(()) } else { Err(Failure::Wrong("a [DONE]")) };
        }
        let parsed: Event<'_> =
            serde_json::from_slice(data).map_err(|_| Failure::Wrong("an event is no JSON"))?;
        if parsed.error.is_some() || parsed.kind.as_deref() == Some("error") {
            return Err(Failure::ErrorEvent);
        }
        if let (Some(name), Some(kind)) = (events::name(event), parsed.kind.as_deref())
            && name != kind.as_bytes()
        {
            return Err(Failure::Wrong("an event's name is not its type"));
        }
        let is_content = match self.dialect {
            Dialect::Chat | Dialect::Embeddings => self.chat(&parsed),
            Dialect::Messages => self.messages(parsed.kind.as_deref().unwrap_or_default())?,
            Dialect::Responses => self.responses(&parsed)?,
        };
        if is_content {
            seen.event(now);
        }
        Ok(())
    }

    fn chat(&mut self, event: &Event<'_>) -> bool {
        self.is_started = true;
        let is_filled = |text: &Option<Filled>| text.as_ref().is_some_and(|filled| filled.0);
        self.has_reason |= event.choices.iter().any(|choice| choice.finish_reason.is_some());
        event.choices.iter().filter_map(|choice| choice.delta.as_ref()).any(|delta| {
            is_filled(&delta.content)
                || is_filled(&delta.reasoning_content)
                || delta.tool_calls.is_some()
        })
    }

    fn messages(&mut self, kind: &str) -> Result<bool, Failure> {
        if kind == "ping" {
            return Ok(false);
        }
        if (kind == "message_start") == self.is_started {
            return Err(Failure::Wrong("events are out of order"));
        }
        self.is_started = true;
        match kind {
            "message_delta" => self.has_reason = true,
            "message_stop" => self.is_ended = true,
            "content_block_start" | "content_block_delta" if self.has_reason => {
                return Err(Failure::Wrong("events are out of order"));
            }
            _ => {}
        }
        Ok(kind == "content_block_delta")
    }

    fn responses(&mut self, event: &Event<'_>) -> Result<bool, Failure> {
        if let Some(number) = event.sequence_number {
            match self.sequence.replace(number) {
                Some(last) if number == last => return Err(Failure::Wrong("an event came twice")),
                Some(last) if number != last + 1 => {
                    return Err(Failure::Wrong("events are missing or out of order"));
                }
                _ => {}
            }
        }
        let kind = event.kind.as_deref().unwrap_or_default();
        self.is_started = true;
        match kind {
            "response.failed" => return Err(Failure::ErrorEvent),
            "response.completed" | "response.incomplete" => {
                self.has_reason = true;
                self.is_ended = true;
            }
            _ => {}
        }
        Ok(kind.rsplit('.').next() == Some("delta"))
    }

    pub(super) fn end(self) -> Result<(), Failure> {
        if self.is_stream {
            return if !self.gather.rest().trim_ascii().is_empty() {
                Err(Failure::Truncated("in the middle of an event"))
            } else if !self.is_ended {
                Err(Failure::Truncated("a proper end, but too early"))
            } else if !self.has_reason {
                Err(Failure::Wrong("no event says why it ended"))
            } else {
                Ok(())
            };
        }
        let whole: Whole = serde_json::from_slice(&self.body).map_err(|error| {
            if error.is_eof() || self.body.trim_ascii_end().last() != Some(&b'}') {
                Failure::Truncated("in the middle of the object")
            } else {
                Failure::Wrong("the body is not as the dialect has it")
            }
        })?;
        if whole.error.is_some() && self.dialect != Dialect::Responses {
            return Err(Failure::Wrong("an error with status 200"));
        }
        let list = match self.dialect {
            Dialect::Chat => whole.choices,
            Dialect::Messages => whole.content,
            Dialect::Responses => whole.output,
            Dialect::Embeddings => whole.data,
        };
        match list {
            Some(list) if !list.is_empty() => Ok(()),
            _ => Err(Failure::Wrong("the answer has nothing in it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Script;

    const DIALECTS: [Dialect; 4] =
        [Dialect::Chat, Dialect::Responses, Dialect::Messages, Dialect::Embeddings];

    fn script(dialect: Dialect, is_stream: bool) -> Option<Script> {
        super::super::script(dialect, "sim?events=5&reasoning=2", is_stream)
    }

    fn check(dialect: Dialect, is_stream: bool, body: &[u8]) -> Result<Seen, Failure> {
        let mut seen = Seen::default();
        let mut shape = Shape::new(dialect, is_stream);
        for part in body.chunks(61) {
            shape.feed(part, Instant::now(), &mut seen)?;
        }
        shape.end().map(|()| seen)
    }

    #[test]
    fn healthy_answers_pass_and_short_ones_do_not() {
        for dialect in DIALECTS {
            for is_stream in [true, false] {
                let Some(script) = script(dialect, is_stream) else { continue };
                let seen = check(dialect, is_stream, &script.bytes).unwrap();
                assert_eq!(seen.first.is_some(), is_stream, "{dialect:?}");
                for end in (0..script.bytes.len() - 1).step_by(7) {
                    let cut = check(dialect, is_stream, &script.bytes[..end]);
                    assert!(matches!(cut, Err(Failure::Truncated(_))), "{dialect:?} {end} {cut:?}");
                }
            }
        }
    }

    #[test]
    fn order_is_checked_where_the_dialect_has_one() {
        for (dialect, wrong) in
            [(Dialect::Responses, "out of order"), (Dialect::Messages, "out of order")]
        {
            let script = script(dialect, true).unwrap();
            let mut events = events::split(&script.bytes);
            let last = events.len() - 1;
            events.swap(last - 1, 3);
            let failure = check(dialect, true, &events.concat()).err().unwrap().to_string();
            assert!(failure.contains(wrong), "{dialect:?}: {failure}");
        }
        let error = b"data: {\"error\":{\"message\":\"x\"}}\n\n";
        assert_eq!(check(Dialect::Chat, true, error).err(), Some(Failure::ErrorEvent));
        assert!(check(Dialect::Chat, false, b"{\"choices\":[]}").is_err());
        assert!(check(Dialect::Chat, false, b"<html>").is_err());
    }
}
