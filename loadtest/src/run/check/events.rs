//! Splits streams into events.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The events of a piece of a stream, their ends included; the last one may be unfinished.
pub(super) fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let end = end_of(bytes).unwrap_or(bytes.len());
        let (event, rest) = bytes.split_at(end);
        events.push(event);
        bytes = rest;
    }
    events
}

/// Where the first event ends, its blank line included.
pub(super) fn end_of(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let line_end = from + memchr::memchr(b'\n', bytes.get(from..)?)?;
        match bytes.get(line_end + 1..)? {
            [b'\n', ..] => return Some(line_end + 2),
            [b'\r', b'\n', ..] => return Some(line_end + 3),
            _ => from = line_end + 1,
        }
    }
}

/// The text behind `data:`; `None` for comments and the like. Where there are several lines, the
/// first one.
pub(super) fn data(event: &[u8]) -> Option<&[u8]> {
    event
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"data:"))
        .map(<[u8]>::trim_ascii)
}

/// The text behind `event:`.
pub(super) fn name(event: &[u8]) -> Option<&[u8]> {
    event
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"event:"))
        .map(<[u8]>::trim_ascii)
}

/// Whether an event of any dialect reports an error.
pub(super) fn is_error(event: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Outside {
        error: Option<IgnoredAny>,
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    data(event).and_then(|data| serde_json::from_slice::<Outside>(data).ok()).is_some_and(
        |outside| {
            outside.error.is_some()
                || matches!(outside.kind.as_deref(), Some("error" | "response.failed"))
        },
    )
}

/// Gathers a stream, and hands out its events whole.
#[derive(Debug, Default)]
pub(super) struct Gather {
    bytes: Vec<u8>,
    from: usize,
}

impl Gather {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.from == self.bytes.len() {
            self.bytes.clear();
            self.from = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.from..)?;
        let end = end_of(rest)?;
        self.from += end;
        rest.get(..end)
    }

    /// Bytes that are no whole event.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let stream = b"event: a\ndata: 1\n\n: ping\r\n\r\ndata:2\r\n\r\ndata: 3\n";
        let wanted = [("a", "1"), ("", ""), ("", "2")];
        for at in 0..stream.len() {
            let mut gather = Gather::default();
            let mut found = Vec::new();
            for part in [&stream[..at], &stream[at..]] {
                gather.push(part);
                while let Some(event) = gather.next() {
                    let text = |part: Option<&[u8]>| {
                        String::from_utf8(part.unwrap_or_default().to_vec()).unwrap()
                    };
                    found.push((text(name(event)), text(data(event))));
                }
            }
            let found: Vec<_> = found.iter().map(|(n, d)| (n.as_str(), d.as_str())).collect();
            assert_eq!(found, wanted, "cut at {at}");
            assert_eq!(gather.rest(), b"data: 3\n");
        }
        assert!(is_error(b"data: {\"error\":{}}\n\n"));
        assert!(is_error(b"event: error\ndata: {\"type\":\"error\"}\n\n"));
        assert!(!is_error(b"data: {\"error\":null}\n\n"));
    }
}
