//! Parts one after the other, however a provider interleaves them.

use std::collections::VecDeque;

use super::form::{Event, Open};

/// Lets the events of one part pass, and keeps those of others until it is closed.
#[derive(Debug, Default)]
pub(super) struct Sequencer {
    current: Option<u64>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    key: u64,
    events: Vec<Event>,
    is_closed: bool,
}

impl Sequencer {
    pub(super) fn current(&self) -> Option<u64> {
        self.current
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the part `key` is open, passing or waiting.
    pub(super) fn is_open(&self, key: u64) -> bool {
        self.current == Some(key)
            || self.waiting.iter().any(|part| part.key == key && !part.is_closed)
    }

    pub(super) fn open(&mut self, key: u64, open: Open, out: &mut Vec<Event>) {
        if self.current.is_none() {
            self.current = Some(key);
            out.push(Event::Open(open));
        } else {
            let events = vec![Event::Open(open)];
            self.waiting.push_back(Waiting { key, events, is_closed: false });
        }
    }

    /// An event of the part `key`; of one that is not open, nothing.
    pub(super) fn push(&mut self, key: u64, event: Event, out: &mut Vec<Event>) {
        if self.current == Some(key) {
            out.push(event);
        } else if let Some(part) = self.waiting(key) {
            part.events.push(event);
        }
    }

    pub(super) fn close(&mut self, key: u64, out: &mut Vec<Event>) {
        if self.current != Some(key) {
            if let Some(part) = self.waiting(key) {
                part.is_closed = true;
            }
            return;
        }
        self.current = None;
        out.push(Event::Close);
        while let Some(part) = self.waiting.pop_front() {
            out.extend(part.events);
            if !part.is_closed {
                self.current = Some(part.key);
                return;
            }
            out.push(Event::Close);
        }
    }

    /// Closes everything in its order.
    pub(super) fn finish(&mut self, out: &mut Vec<Event>) {
        while let Some(key) = self.current {
            self.close(key, out);
        }
    }

    fn waiting(&mut self, key: u64) -> Option<&mut Waiting> {
        self.waiting.iter_mut().rev().find(|part| part.key == key && !part.is_closed)
    }
}

/// Tells when a JSON text that comes in pieces is complete.
#[derive(Debug, Default, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "the state of a scanner")]
pub(super) struct JsonEnd {
    depth: u32,
    has_begun: bool,
    is_in_string: bool,
    is_escaped: bool,
}

impl JsonEnd {
    pub(super) fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.is_escaped {
                self.is_escaped = false;
            } else if self.is_in_string {
                match byte {
                    b'"' => self.is_in_string = false,
                    b'\\' => self.is_escaped = true,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.is_in_string = true,
                    b'{' | b'[' => {
                        self.depth = self.depth.saturating_add(1);
                        self.has_begun = true;
                    }
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn is_complete(self) -> bool {
        self.has_begun && self.depth == 0
    }
}
