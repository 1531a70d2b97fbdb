//! TOML into the tree.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Entry, Fault, Node, Table, Value, line_number};

/// One slip can make the parser complain many times; the first complaints say enough.
const FAULTS_MAX: usize = 5;

pub(super) fn parse(text: &str) -> Result<Node, Vec<Fault>> {
    let lines = Lines::of(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let table = lines.table(root.get_ref());
        return Ok(Node { line: 1, value: Value::Table(table) });
    }
    // `message` alone: the whole error quotes the line, and with it a credential.
    let fault = |error: &toml::de::Error| {
        let line = error.span().map_or(0, |span| lines.line(&span));
        Fault::new(line, format!("not valid TOML: {}", error.message()))
    };
    Err(errors.iter().take(FAULTS_MAX).map(fault).collect())
}

/// Where the lines of a text begin.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes());
        Self { starts: std::iter::once(0).chain(ends.map(|end| end + 1)).collect() }
    }

    fn line(&self, span: &Range<usize>) -> u32 {
        line_number(self.starts.partition_point(|&start| start <= span.start))
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let mut entries: Vec<(usize, Entry)> = table
            .iter()
            .map(|(key, value)| {
                let entry = Entry {
                    key: key.get_ref().to_string(),
                    line: self.line(&key.span()),
                    node: self.node(value),
                };
                (key.span().start, entry)
            })
            .collect();
        entries.sort_by_key(|(start, _)| *start); // The parser sorts by key.
        Table { entries: entries.into_iter().map(|(_, entry)| entry).collect() }
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let line = self.line(&value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(integer) => {
                let read = i128::from_str_radix(integer.as_str(), integer.radix());
                Value::Number(read.map_or_else(|_| integer.to_string(), |read| read.to_string()))
            }
            DeValue::Float(float) => Value::Number(float.as_str().to_owned()),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { line, value }
    }
}
