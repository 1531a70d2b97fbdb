//! The events of a stream, bent as the behaviour says.

use super::behaviour::{Behaviour, EarlyError};
use super::json::Raw;
use super::reply::{Body, Part};

/// An event's name (where the dialect names events) and its data.
pub(super) type Event = (Option<&'static str>, Raw);

/// Makes one letter of a text another: of its content, where it has some.
pub(super) fn change(text: &mut [u8]) {
    const BEFORE: [&[u8]; 3] = [b"\"content\":\"", b"\"text\":\"", b"\"delta\":\""];
    let place = |before: &&[u8]| memchr::memmem::find(text, before).map(|at| at + before.len());
    let from = BEFORE.iter().find_map(place).unwrap_or(0);
    let letter = text.iter_mut().skip(from).find(|byte| byte.is_ascii_lowercase());
    if let Some(letter) = letter {
        *letter = if *letter == b'x' { b'y' } else { b'x' };
    }
}

/// Collects a stream. What is pushed after the behaviour has ended the stream is dropped.
pub(super) struct Events<'a> {
    behaviour: &'a Behaviour,
    /// Makes the dialect's error event, from the number of events before it.
    error: Box<dyn Fn(usize) -> Event + 'a>,
    parts: Vec<(Vec<u8>, Part)>,
    count: usize,
    contents_n: usize,
    is_ended: bool,
}

impl<'a> Events<'a> {
    pub(super) fn new(behaviour: &'a Behaviour, error: impl Fn(usize) -> Event + 'a) -> Self {
        let mut events = Self {
            behaviour,
            error: Box::new(error),
            parts: Vec::new(),
            count: 0,
            contents_n: 0,
            is_ended: false,
        };
        if behaviour.early_error == Some(EarlyError::Bare) {
            events.end_with_error();
        }
        events
    }

    /// How many events there are so far: the next one's `sequence_number`.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn push(&mut self, part: Part, (name, data): Event) {
        if self.is_ended || (part != Part::Opening && self.is_ended_here()) {
            return;
        }
        let mut data = data.0;
        if part == Part::Content {
            let index = self.contents_n;
            self.contents_n += 1;
            if self.behaviour.malformed_event == Some(index) {
                let half = data.floor_char_boundary(data.len() / 2);
                data.truncate(half);
            }
            if self.behaviour.comment_every.is_some_and(|every| index.is_multiple_of(every.max(1)))
            {
                let comment = format!(": ping{0}{0}", self.line_end());
                self.parts.push((comment.into_bytes(), Part::Opening));
            }
        }
        self.write(name, &data, part);
    }

    /// The end that is no JSON.
    pub(super) fn done(mut self) -> Body {
        if !self.is_ended {
            self.write(None, "[DONE]", Part::Closing);
        }
        self.finish()
    }

    pub(super) fn finish(mut self) -> Body {
        if self.behaviour.no_terminal && !self.is_ended {
            self.parts.pop();
        }
        if self.behaviour.bom
            && let Some((first, _)) = self.parts.first_mut()
        {
            first.splice(..0, *b"\xef\xbb\xbf");
        }
        self.bend();
        Body::Stream(self.parts)
    }

    /// Changes, moves, repeats or leaves out content events, when all are there.
    fn bend(&mut self) {
        let place = |parts: &[(Vec<u8>, Part)], number: usize| {
            let contents = parts.iter().enumerate().filter(|(_, (_, part))| *part == Part::Content);
            contents.map(|(index, _)| index).nth(number)
        };
        let Behaviour { change_event, swap_at_event, repeat_event, drop_event, .. } =
            self.behaviour;
        if let Some(at) = change_event.and_then(|number| place(&self.parts, number))
            && let Some((text, _)) = self.parts.get_mut(at)
        {
            change(text);
        }
        if let Some(number) = *swap_at_event
            && let Some(at) = place(&self.parts, number)
            && let Some(next) = place(&self.parts, number + 1)
        {
            self.parts.swap(at, next);
        }
        if let Some(at) = repeat_event.and_then(|number| place(&self.parts, number))
            && let Some(event) = self.parts.get(at).cloned()
        {
            self.parts.insert(at, event);
        }
        if let Some(at) = drop_event.and_then(|number| place(&self.parts, number)) {
            self.parts.remove(at);
        }
    }

    /// Whether the behaviour has something else in the place of what comes after so many
    /// content events.
    fn is_ended_here(&mut self) -> bool {
        let here = Some(self.contents_n);
        let is_early = self.behaviour.early_error.is_some() && self.contents_n == 0;
        if is_early || self.behaviour.error_at_event == here {
            self.end_with_error();
        }
        self.is_ended |= self.behaviour.clean_end_at_event == here;
        self.is_ended
    }

    fn end_with_error(&mut self) {
        let (name, data) = (self.error)(self.count);
        self.write(name, &data.0, Part::Content);
        self.is_ended = true;
    }

    fn write(&mut self, name: Option<&str>, data: &str, part: Part) {
        let end = self.line_end();
        let mut text = String::with_capacity(data.len() + 64);
        if let Some(name) = name {
            text.push_str(&format!("event: {name}{end}"));
        }
        text.push_str(&format!("data: {data}{end}{end}"));
        self.parts.push((text.into_bytes(), part));
        self.count += 1;
    }

    fn line_end(&self) -> &'static str {
        if self.behaviour.crlf { "\r\n" } else { "\n" }
    }
}
