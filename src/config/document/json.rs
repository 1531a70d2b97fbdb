//! JSON into the tree.
//!
//! `serde_json` says whether the text is JSON, and what is wrong if not; it keeps no lines and lets
//! a key stand twice. So a valid text is read once more here, by a reader that relies on its
//! validity.

use std::collections::HashMap;

use super::{DEPTH_MAX, Entry, Fault, Node, Table, Value};

pub(super) fn parse(text: &str) -> Result<Node, Vec<Fault>> {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        let line = super::line_number(error.line());
        return Err(vec![Fault::new(line, format!("not valid JSON: {error}"))]);
    }
    let mut reader = Reader { text, at: 0, line: 1, depth: 0, faults: Vec::new() };
    let node = reader.node();
    match node {
        Some(node) if reader.faults.is_empty() => Ok(node),
        _ if reader.faults.is_empty() => Err(vec![Fault::new(reader.line, "not valid JSON")]),
        _ => Err(reader.faults),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    depth: usize,
    faults: Vec<Fault>,
}

/// Every method answers `None` where the text is not JSON.
impl<'a> Reader<'a> {
    fn node(&mut self) -> Option<Node> {
        let first = self.peek()?;
        let line = self.line;
        let value = match first {
            b'{' | b'[' if self.depth == DEPTH_MAX => {
                self.faults.push(Fault::new(line, "tables and lists are nested too deep"));
                return None;
            }
            b'{' => Value::Table(self.table()?),
            b'[' => Value::List(self.list()?),
            b'"' => Value::Text(self.string()?),
            _ => match self.word() {
                "null" => Value::Null,
                "true" => Value::Flag(true),
                "false" => Value::Flag(false),
                number => Value::Number(number.to_owned()),
            },
        };
        Some(Node { line, value })
    }

    fn table(&mut self) -> Option<Table> {
        self.at += 1;
        self.depth += 1;
        let mut entries = Vec::new();
        let mut first_lines = HashMap::new();
        while self.peek()? != b'}' {
            let line = self.line;
            let key = self.string()?;
            if let Some(first) = first_lines.insert(key.clone(), line) {
                self.faults.push(Fault::duplicate(line, &key, first));
            }
            self.skip(b':')?;
            let node = self.node()?;
            entries.push(Entry { key, line, node });
            if self.peek()? == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        self.depth -= 1;
        Some(Table { entries })
    }

    fn list(&mut self) -> Option<Vec<Node>> {
        self.at += 1;
        self.depth += 1;
        let mut items = Vec::new();
        while self.peek()? != b']' {
            items.push(self.node()?);
            if self.peek()? == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        self.depth -= 1;
        Some(items)
    }

    /// The text of a string, whose escapes `serde_json` decodes.
    fn string(&mut self) -> Option<String> {
        self.peek()?;
        let rest = self.text.get(self.at..)?;
        let mut is_escaped = false;
        let mut bytes = rest.bytes().skip(1);
        let inner_len = bytes.position(|byte| {
            let is_end = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            is_end
        })?;
        let quoted = rest.get(..inner_len + 2)?;
        self.at += quoted.len();
        serde_json::from_str(quoted).ok()
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_end = |letter: char| letter.is_ascii_whitespace() || ",]}".contains(letter);
        let word = rest.split(is_end).next().unwrap_or_default();
        self.at += word.len();
        word
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        let is_there = self.peek()? == byte;
        self.at += 1;
        is_there.then_some(())
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                _ => return Some(byte),
            }
            self.at += 1;
        }
    }
}
