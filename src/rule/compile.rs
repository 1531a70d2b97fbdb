//! From the text of an expression to a checked tree.

use cel::parser::{ParseErrors, Parser};

use super::check::Checker;
use super::node::{Node, Type};
use super::run::{Facts, Stopped, run};
use super::value::Value;

/// A longer text is refused.
const TEXT_BYTES_MAX: usize = 4096;
/// Brackets that may be open at once.
const BRACKETS_MAX: usize = 24;
/// Operators that could nest without brackets (`!`, `-`, `?`), all together.
const PREFIXES_MAX: usize = 64;
const RECURSION_MAX: u16 = 48;

/// A condition, ready to run.
#[derive(Debug, Clone)]
pub struct Expression(Node);

/// Why an expression is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {text}")]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub text: String,
}

impl Expression {
    /// Compiles an expression that says yes or no.
    pub fn compile(text: &str) -> Result<Self, Mistake> {
        guard(text)?;
        let parser = Parser::new().max_recursion_depth(RECURSION_MAX);
        let (tree, source) =
            parser.parse_with_source_info(text).map_err(|errors| first(text, &errors))?;
        let mut checker = Checker::default();
        checker
            .node(&tree)
            .and_then(|(node, of_type)| {
                if of_type.meets(Type::Flag) {
                    return Ok(Self(node));
                }
                Err(super::check::Fault {
                    id: tree.id,
                    text: format!("the condition is of type {}, not bool", of_type.name()),
                })
            })
            .map_err(|fault| {
                let start = source.offset_for(fault.id).map_or(0, |(start, _)| start);
                let (line, column) = place(text, start as usize);
                Mistake { line, column, text: fault.text }
            })
    }

    /// Whether the condition holds, or why that cannot be told.
    pub fn run(&self, facts: &dyn Facts) -> Result<bool, Stopped> {
        match run(&self.0, facts)? {
            Value::Flag(flag) => Ok(flag),
            _ => Err(Stopped::Type),
        }
    }
}

/// Refuses what the parser would need a deep stack for.
fn guard(text: &str) -> Result<(), Mistake> {
    let mistake = |at: usize, what: String| {
        let (line, column) = place(text, at);
        Err(Mistake { line, column, text: what })
    };
    if TEXT_BYTES_MAX < text.len() {
        return mistake(0, format!("is longer than {TEXT_BYTES_MAX} bytes"));
    }
    let (mut n_open, mut n_prefixes) = (0_usize, 0_usize);
    for (at, char) in text.chars().enumerate() {
        match char {
            '(' | '[' | '{' => n_open += 1,
            ')' | ']' | '}' => n_open = n_open.saturating_sub(1),
            '!' | '-' | '?' => n_prefixes += 1,
            _ => {}
        }
        if BRACKETS_MAX < n_open {
            return mistake(at, format!("opens more than {BRACKETS_MAX} brackets at once"));
        }
        if PREFIXES_MAX < n_prefixes {
            return mistake(at, format!("has more than {PREFIXES_MAX} of `!`, `-` and `?`"));
        }
    }
    Ok(())
}

fn first(text: &str, errors: &ParseErrors) -> Mistake {
    let Some(error) = errors.errors.first() else {
        return Mistake { line: 1, column: 1, text: "is not an expression".to_owned() };
    };
    let (line, column) = error.pos;
    // At the end of the text the parser has no position.
    let (last_line, last_column) = place(text, text.chars().count());
    let line = usize::try_from(line).ok().filter(|line| 0 < *line);
    let column = usize::try_from(column).ok().filter(|column| 0 < *column);
    Mistake {
        line: line.unwrap_or(last_line),
        column: column.unwrap_or(last_column),
        text: error.msg.chars().take(200).collect(),
    }
}

/// Line and column of the character `at`.
fn place(text: &str, at: usize) -> (usize, usize) {
    let (mut line, mut column) = (1, 1);
    for char in text.chars().take(at) {
        column += 1;
        if char == '\n' {
            (line, column) = (line + 1, 1);
        }
    }
    (line, column)
}
