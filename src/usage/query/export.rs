//! Rows as a file: CSV with a line of names, or one JSON object a line.

use serde_json::{Map, Value};

use super::ask::{QueryError, error};
use super::row::FIELDS;

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Csv,
    Ndjson,
}

impl Format {
    pub fn read(name: &str) -> Result<Self, QueryError> {
        match name {
            "csv" => Ok(Self::Csv),
            "ndjson" => Ok(Self::Ndjson),
            _ => error("format", "must be `csv` or `ndjson`"),
        }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// What stands before the first row.
    pub fn head(self) -> String {
        match self {
            Self::Csv => format!("{}\r\n", FIELDS.join(",")),
            Self::Ndjson => String::new(),
        }
    }

    pub(crate) fn line(self, row: Map<String, Value>) -> String {
        match self {
            Self::Csv => {
                let cells =
                    FIELDS.iter().map(|field| row.get(*field).map_or_else(String::new, cell));
                let cells: Vec<String> = cells.collect();
                format!("{}\r\n", cells.join(","))
            }
            Self::Ndjson => format!("{}\n", Value::Object(row)),
        }
    }
}

/// Quoted where it must be. A text that a spreadsheet would take for a formula gets an apostrophe
/// before it.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::Number(number) => return number.to_string(),
        Value::Bool(flag) => return flag.to_string(),
        Value::String(text) => text.clone(),
        nested => nested.to_string(),
    };
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if is_formula { format!("'{text}") } else { text };
    if text.contains(['"', ',', '\r', '\n', '\t']) || is_formula {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_quoted_and_no_formula_begins_one() {
        for (value, expected) in [
            (json!("plain"), "plain"),
            (json!(null), ""),
            (json!(-1.5), "-1.5"),
            (json!("a,b"), "\"a,b\""),
            (json!("say \"hi\"\n"), "\"say \"\"hi\"\"\n\""),
            (json!("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\""),
            (json!("@SUM(A1)"), "\"'@SUM(A1)\""),
            (json!("-2+3"), "\"'-2+3\""),
            (json!({ "a": "b" }), "\"{\"\"a\"\":\"\"b\"\"}\""),
        ] {
            assert_eq!(cell(&value), expected, "{value}");
        }
    }

    #[test]
    fn lines_have_a_cell_for_each_name() {
        let row = Map::from_iter([("status".to_owned(), json!(200))]);
        let n_commas = |text: &str| text.matches(',').count();
        let (head, line) = (Format::Csv.head(), Format::Csv.line(row.clone()));
        assert_eq!(n_commas(&head), n_commas(&line));
        assert_eq!(Format::Ndjson.line(row), "{\"status\":200}\n");
    }
}
