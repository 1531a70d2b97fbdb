//! YAML into the tree: the core schema of YAML 1.2, one document, with anchors.
//!
//! Built from events, so that depth and the growth by aliases have bounds.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::{DEPTH_MAX, Entry, Fault, Node, Table, Value, line_number};

/// How many nodes aliases may add: a few lines of nested aliases can stand for billions.
const ALIAS_NODES_MAX: usize = 100_000;

pub(super) fn parse(text: &str) -> Result<Node, Vec<Fault>> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let line = line_number(error.marker().line());
            vec![Fault::new(line, format!("not valid YAML: {}", error.info()))]
        })?;
        let line = line_number(span.start.line());
        builder.event(event, line).map_err(|fault| vec![fault])?;
    }
    if !builder.faults.is_empty() {
        return Err(builder.faults);
    }
    Ok(builder.root.unwrap_or(Node { line: 1, value: Value::Null }))
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    alias_nodes: usize,
    faults: Vec<Fault>,
}

/// A list or a table whose end has not come yet.
struct Open {
    line: u32,
    /// 0 = none.
    anchor: usize,
    collection: Collection,
}

enum Collection {
    List(Vec<Node>),
    Table {
        table: Table,
        first_lines: HashMap<String, u32>,
        /// The key whose value comes next.
        key: Option<(String, u32)>,
    },
}

impl Builder {
    fn event(&mut self, event: Event<'_>, line: u32) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(Fault::new(line, "a second document begins: a file holds one"))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(key) = self.awaited_key() {
                    *key = Some((text.into_owned(), line));
                    return Ok(());
                }
                let value = scalar(text, style, tag.as_deref(), line)?;
                self.put(Node { line, value }, anchor);
                Ok(())
            }
            Event::SequenceStart(anchor, _) => {
                self.open(line, anchor, Collection::List(Vec::new()))
            }
            Event::MappingStart(anchor, _) => {
                let table = Table::default();
                let first_lines = HashMap::new();
                self.open(line, anchor, Collection::Table { table, first_lines, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close();
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, line),
        }
    }

    /// The place for a key, where one comes next.
    fn awaited_key(&mut self) -> Option<&mut Option<(String, u32)>> {
        match &mut self.open.last_mut()?.collection {
            Collection::Table { key, .. } if key.is_none() => Some(key),
            Collection::Table { .. } | Collection::List(_) => None,
        }
    }

    fn open(&mut self, line: u32, anchor: usize, collection: Collection) -> Result<(), Fault> {
        if self.awaited_key().is_some() {
            return Err(Fault::new(line, "a key must be a text"));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(Fault::new(line, "tables and lists are nested too deep"));
        }
        self.open.push(Open { line, anchor, collection });
        Ok(())
    }

    fn close(&mut self) {
        let Some(Open { line, anchor, collection }) = self.open.pop() else { return };
        let value = match collection {
            Collection::List(items) => Value::List(items),
            Collection::Table { table, .. } => Value::Table(table),
        };
        self.put(Node { line, value }, anchor);
    }

    fn alias(&mut self, anchor: usize, line: u32) -> Result<(), Fault> {
        if self.awaited_key().is_some() {
            return Err(Fault::new(line, "a key must be a text"));
        }
        // An anchor inside itself is not known yet.
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Fault::new(line, "an alias names no anchor before it"));
        };
        let (nodes, depth) = size(node);
        self.alias_nodes += nodes;
        if self.alias_nodes > ALIAS_NODES_MAX {
            return Err(Fault::new(line, "aliases make this document too large"));
        }
        if self.open.len() + depth > DEPTH_MAX {
            return Err(Fault::new(line, "tables and lists are nested too deep"));
        }
        let node = node.clone();
        self.put(node, 0);
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn put(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut parent.collection {
            Collection::List(items) => items.push(node),
            Collection::Table { table, first_lines, key } => {
                let Some((key, line)) = key.take() else { return };
                if let Some(first) = first_lines.insert(key.clone(), line) {
                    self.faults.push(Fault::duplicate(line, &key, first));
                }
                table.entries.push(Entry { key, line, node });
            }
        }
    }
}

/// How many nodes, and how deep.
fn size(node: &Node) -> (usize, usize) {
    let join = |(nodes, depth): (usize, usize), below: &Node| {
        let (more, deeper) = size(below);
        (nodes + more, depth.max(deeper + 1))
    };
    match &node.value {
        Value::List(items) => items.iter().fold((1, 1), join),
        Value::Table(table) => table.entries.iter().map(|entry| &entry.node).fold((1, 1), join),
        _ => (1, 0),
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    line: u32,
) -> Result<Value, Fault> {
    let is_plain = style == ScalarStyle::Plain;
    match tag {
        None if is_plain => Ok(plain(text)),
        None => Ok(Value::Text(text.into_owned())),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
            Ok(Value::Text(text.into_owned()))
        }
        Some(tag) if tag.is_yaml_core_schema() && is_plain => Ok(plain(text)),
        Some(_) => Err(Fault::new(line, "tags other than those of YAML's core are not known")),
    }
}

/// A scalar without quotes.
fn plain(text: Cow<'_, str>) -> Value {
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Flag(true),
        "false" | "False" | "FALSE" => return Value::Flag(false),
        _ => {}
    }
    let radix = |prefix, radix| {
        let digits = text.strip_prefix(prefix)?;
        // `from_str_radix` takes a sign, YAML does not.
        let is_unsigned = digits.starts_with(|first: char| first.is_ascii_alphanumeric());
        is_unsigned.then(|| i128::from_str_radix(digits, radix).ok()).flatten()
    };
    if let Some(integer) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Value::Number(integer.to_string());
    }
    if is_decimal(&text) {
        let unsigned = text.strip_prefix('+').unwrap_or(&text);
        return Value::Number(unsigned.to_owned());
    }
    Value::Text(text.into_owned())
}

/// Whether this is `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`.
fn is_decimal(text: &str) -> bool {
    let unsigned = |text: &'_ str| text.strip_prefix(['-', '+']).unwrap_or(text).to_owned();
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = unsigned(mantissa).replacen('.', "", 1);
    is_digits(&digits) && exponent.is_none_or(|exponent| is_digits(&unsigned(exponent)))
}
