//! TOML, YAML and JSON as one tree in which every key and every value knows its line.

use super::problem::{Problem, Problems};

mod json;
mod toml;
mod value;
mod yaml;

/// Deeper documents are refused, so that everything that walks a tree may use the stack. (For TOML
/// the parser's own bound of 80 holds.)
const DEPTH_MAX: usize = 64;

/// A value and the line it stands in, from 1. Line 0 means that an env var set it.
///
/// No `Debug`: the text may be a credential.
#[derive(Clone)]
pub struct Node {
    pub line: u32,
    pub value: Value,
}

#[derive(Clone)]
pub enum Value {
    Null,
    Flag(bool),
    /// The digits as written, without underscores and in base ten: prices must stay exact.
    Number(String),
    Text(String),
    /// A date of TOML that is not in quotes.
    Date(String),
    List(Vec<Node>),
    Table(Table),
    /// Has a problem that is reported already.
    Refused,
}

/// Its keys are unique.
#[derive(Clone, Default)]
pub struct Table {
    pub entries: Vec<Entry>,
}

#[derive(Clone)]
pub struct Entry {
    pub key: String,
    pub line: u32,
    pub node: Node,
}

/// Reads `text` as what the ending of `file` says. The root is a table.
pub fn parse(file: &str, text: &str) -> Result<Node, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let ending = file.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    let parsed = match ending.as_deref() {
        Some("toml") => toml::parse(text),
        Some("yaml" | "yml") => yaml::parse(text),
        Some("json") => json::parse(text),
        _ => Err(vec![Fault::new(0, "the file's name must end in .toml, .yaml, .yml or .json")]),
    };
    let root = parsed.and_then(|root| match root.value {
        Value::Table(_) => Ok(root),
        // An empty YAML file.
        Value::Null => Ok(Node { line: 1, value: Value::Table(Table::default()) }),
        _ => Err(vec![Fault::new(root.line, "the document must be a table of fields")]),
    });
    root.map_err(|faults| Problems(faults.into_iter().map(|fault| fault.problem(file)).collect()))
}

/// Why a text is no document.
struct Fault {
    line: u32,
    key: String,
    text: String,
}

impl Fault {
    fn new(line: u32, text: impl Into<String>) -> Self {
        Self { line, key: String::new(), text: text.into() }
    }

    fn duplicate(line: u32, key: &str, first: u32) -> Self {
        let text = format!("is given twice in the same table, first in line {first}");
        Self { line, key: key.to_owned(), text }
    }

    fn problem(self, file: &str) -> Problem {
        Problem { file: file.to_owned(), line: self.line, field: self.key, text: self.text }
    }
}

impl Value {
    /// What it is, for a message that says what was found.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Flag(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Date(_) => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Refused => "a refused value",
        }
    }
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == key)
    }
}

/// A line number from a count that starts at `usize`.
fn line_number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
