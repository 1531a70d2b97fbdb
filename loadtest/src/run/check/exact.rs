//! Byte for byte what the mock's script makes.
//!
//! Comparing is all that is done while the bytes are right. At the first wrong one the rest is
//! kept, and at the end the events that came are held against those that should have come.

use std::time::Instant;

use super::{Failure, KEPT_BYTES_MAX, Seen, events};
use crate::mock::{SCRIPT_ID_LEN, Script};

pub(in crate::run) struct Exact<'a> {
    script: &'a Script,
    /// Bytes that were right.
    at: usize,
    ids_n: usize,
    id: [u8; SCRIPT_ID_LEN],
    events_n: usize,
    /// From the start of the event that is wrong.
    wrong: Option<Vec<u8>>,
}

impl<'a> Exact<'a> {
    pub(super) fn new(script: &'a Script) -> Self {
        Self { script, at: 0, ids_n: 0, id: [0; SCRIPT_ID_LEN], events_n: 0, wrong: None }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], now: Instant, seen: &mut Seen) {
        while !bytes.is_empty() && self.wrong.is_none() {
            match self.equal_n(bytes) {
                0 => {
                    let before = self.events_n.checked_sub(1);
                    let start = before.and_then(|n| self.script.events.get(n));
                    self.wrong = Some(self.rendered(start.map_or(0, |(end, _)| *end), self.at));
                }
                n => {
                    self.at += n;
                    bytes = bytes.get(n..).unwrap_or_default();
                    self.count(now, seen);
                }
            }
        }
        if let Some(wrong) = &mut self.wrong
            && wrong.len() < KEPT_BYTES_MAX
        {
            wrong.extend_from_slice(bytes);
        }
    }

    /// Counts the events that are whole.
    fn count(&mut self, now: Instant, seen: &mut Seen) {
        while let Some((end, is_content)) = self.script.events.get(self.events_n)
            && *end <= self.at
        {
            self.events_n += 1;
            if *is_content {
                seen.event(now);
            }
        }
    }

    /// How many of the first bytes are right, up to the next place where an id begins or ends.
    fn equal_n(&mut self, bytes: &[u8]) -> usize {
        let script = &self.script.bytes;
        let id_at = self.script.id_at.get(self.ids_n).copied().unwrap_or(script.len());
        if self.at < id_at {
            let wanted = script.get(self.at..id_at).unwrap_or_default();
            let n = wanted.len().min(bytes.len());
            if wanted.get(..n) == bytes.get(..n) {
                return n;
            }
            return wanted.iter().zip(bytes).take_while(|(wanted, is)| wanted == is).count();
        }
        if self.at >= script.len() {
            return 0;
        }
        let inside = self.at - id_at;
        let n = (SCRIPT_ID_LEN - inside).min(bytes.len());
        let (Some(place), Some(is)) = (self.id.get_mut(inside..inside + n), bytes.get(..n)) else {
            return 0;
        };
        if self.ids_n == 0 {
            if !is.iter().all(u8::is_ascii_alphanumeric) {
                return 0;
            }
            place.copy_from_slice(is);
        } else if place != is {
            return 0;
        }
        if inside + n == SCRIPT_ID_LEN {
            self.ids_n += 1;
        }
        n
    }

    /// A stretch of the script with the answer's id.
    fn rendered(&self, start: usize, end: usize) -> Vec<u8> {
        let mut bytes = self.script.bytes.get(start..end).unwrap_or_default().to_vec();
        for at in &self.script.id_at {
            for (offset, byte) in self.id.iter().enumerate() {
                if let Some(place) = (at + offset).checked_sub(start).and_then(|n| bytes.get_mut(n))
                {
                    *place = *byte;
                }
            }
        }
        bytes
    }

    pub(super) fn end(self) -> Result<(), Failure> {
        match &self.wrong {
            Some(wrong) => Err(self.diagnosis(wrong)),
            None if self.at < self.script.bytes.len() => {
                Err(Failure::Truncated("a proper end, but too early"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn cut(self, failure: Failure) -> Failure {
        match &self.wrong {
            Some(wrong) => self.diagnosis(wrong),
            None => failure,
        }
    }

    fn diagnosis(&self, came: &[u8]) -> Failure {
        if self.script.events.is_empty() {
            return Failure::Wrong("the body is not the provider's");
        }
        if self.events_n == self.script.events.len() {
            return Failure::Wrong("something after the last event");
        }
        let mut start = 0;
        let wanted: Vec<Vec<u8>> = self
            .script
            .events
            .iter()
            .map(|(end, _)| self.rendered(std::mem::replace(&mut start, *end), *end))
            .collect();
        let came = events::split(came);
        let Some((first, rest)) = came.split_first() else {
            return Failure::Truncated("in the middle of an event");
        };
        if events::is_error(first) {
            return Failure::ErrorEvent;
        }
        let place = |event: &[u8]| wanted.iter().position(|wanted| wanted.as_slice() == event);
        let due = wanted.get(self.events_n).map(Vec::as_slice).unwrap_or_default();
        match place(first) {
            Some(before) if before + 1 == self.events_n => Failure::Wrong("an event came twice"),
            Some(_) if rest.contains(&due) => Failure::Wrong("events are out of order"),
            Some(_) => Failure::Wrong("an event is missing"),
            None if first.ends_with(b"\n") => Failure::Wrong("an event is not the provider's"),
            None => Failure::Truncated("in the middle of an event"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn script(path: &str, model: &str, is_stream: bool) -> Script {
        let make = if is_stream { Script::stream } else { Script::whole };
        make(path, model).unwrap().unwrap()
    }

    fn with_id(script: &Script) -> Vec<u8> {
        let mut bytes = script.bytes.clone();
        for at in &script.id_at {
            bytes[*at..at + SCRIPT_ID_LEN].copy_from_slice(b"0123456789abcdef");
        }
        bytes
    }

    fn check(script: &Script, body: &[u8], split: usize) -> (Result<(), Failure>, usize) {
        let mut exact = Exact::new(script);
        let mut seen = Seen::default();
        for part in body.chunks(split.max(1)) {
            exact.feed(part, Instant::now(), &mut seen);
        }
        (exact.end(), seen.first.iter().count() + seen.gaps.len())
    }

    fn pieces(script: &Script, body: &[u8]) -> Vec<Vec<u8>> {
        let mut start = 0;
        script
            .events
            .iter()
            .map(|(end, _)| body[std::mem::replace(&mut start, *end)..*end].to_vec())
            .collect()
    }

    type Bend<'a> = &'a dyn Fn(&mut Vec<Vec<u8>>);

    #[test]
    fn every_fault_has_its_name() {
        let script = script("/chat/completions", "sim?events=6", true);
        let body = with_id(&script);
        let right = pieces(&script, &body);
        let bent = |bend: Bend<'_>| {
            let mut events = right.clone();
            bend(&mut events);
            check(&script, &events.concat(), 50).0
        };
        let wrong = |text| Err(Failure::Wrong(text));
        assert_eq!(bent(&|_| {}), Ok(()));
        assert_eq!(bent(&|events| events.swap(2, 3)), wrong("events are out of order"));
        assert_eq!(
            bent(&|events| events.insert(3, events[2].clone())),
            wrong("an event came twice")
        );
        assert_eq!(bent(&|events| drop(events.remove(3))), wrong("an event is missing"));
        let byte = |events: &mut Vec<Vec<u8>>| events[3][80] ^= 1;
        assert_eq!(bent(&byte), wrong("an event is not the provider's"));
        let after = |events: &mut Vec<Vec<u8>>| events.push(events[0].clone());
        assert_eq!(bent(&after), wrong("something after the last event"));
        let error = |events: &mut Vec<Vec<u8>>| {
            events.truncate(3);
            events.push(b"data: {\"error\":{\"message\":\"no\"}}\n\n".to_vec());
        };
        assert_eq!(bent(&error), Err(Failure::ErrorEvent));
        let short = bent(&|events| events.truncate(4));
        assert_eq!(short, Err(Failure::Truncated("a proper end, but too early")));
        let torn = bent(&|events| events.last_mut().unwrap().truncate(4));
        assert_eq!(torn, Err(Failure::Truncated("a proper end, but too early")));
    }

    #[test]
    fn another_id_in_one_place_is_wrong() {
        let script = script("/messages", "sim?events=3", false);
        let mut body = with_id(&script);
        assert_eq!(check(&script, &body, 7), (Ok(()), 0));
        body[script.id_at[0]] = b'"';
        assert_eq!(
            check(&script, &body, 7).0,
            Err(Failure::Wrong("the body is not the provider's"))
        );
    }

    proptest! {
        #[test]
        fn right_answers_are_right_and_changed_ones_wrong_however_they_come(
            path in prop::sample::select(vec!["/chat/completions", "/responses", "/messages"]),
            events in 1..8_usize, is_stream: bool, split in 1..200_usize, at: prop::sample::Index,
        ) {
            let script = script(path, &format!("sim?events={events}"), is_stream);
            let body = with_id(&script);
            let events_n = if is_stream { events } else { 0 };
            prop_assert_eq!(check(&script, &body, split), (Ok(()), events_n));
            let mut changed = body.clone();
            let at = at.index(body.len());
            changed[at] ^= 0x20;
            let is_id = script.id_at.iter().any(|id| (*id..id + SCRIPT_ID_LEN).contains(&at));
            if !is_id {
                prop_assert!(check(&script, &changed, split).0.is_err());
            }
            prop_assert!(check(&script, &body[..at], split).0.is_err());
        }
    }
}
