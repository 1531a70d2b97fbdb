//! Conditions without an expression: a field, how to compare it, and with what. Each is written as
//! an expression and then is one.

use serde_json::Value as Json;

/// What a form compares by, and the name of each.
pub const COMPARATORS: [(&str, Comparison); 14] = [
    ("equal", Comparison::Equal),
    ("not_equal", Comparison::NotEqual),
    ("contains", Comparison::Contains),
    ("not_contains", Comparison::NotContains),
    ("starts_with", Comparison::StartsWith),
    ("ends_with", Comparison::EndsWith),
    ("matches", Comparison::Matches),
    ("in", Comparison::In),
    ("not_in", Comparison::NotIn),
    ("less", Comparison::Less),
    ("less_or_equal", Comparison::LessOrEqual),
    ("greater", Comparison::Greater),
    ("greater_or_equal", Comparison::GreaterOrEqual),
    ("exists", Comparison::Exists),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Contains,
    NotContains,
    StartsWith,
    EndsWith,
    Matches,
    In,
    NotIn,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Exists,
}

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Simple {
    Field {
        field: String,
        by: Comparison,
        value: Option<Json>,
    },
    HasTools(bool),
    /// A file that the request is about, and of which kind the request is.
    FileName {
        glob: String,
        kind: Option<String>,
    },
    Kind(String),
    /// A part from 0 to 1.
    ErrorRate {
        target: String,
        minutes: u32,
        by: Comparison,
        value: Json,
    },
    UsagePercent {
        limit: String,
        by: Comparison,
        value: Json,
    },
}

/// What a field is, for what can be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Number,
    Flag,
    Text,
    Names,
    /// It may be missing, and may be anything.
    Open,
}

impl Simple {
    /// The same as an expression.
    pub fn expression(&self) -> Result<String, String> {
        match self {
            Self::Field { field, by, value } => of_field(field, *by, value.as_ref()),
            Self::HasTools(true) => Ok("request.tools_count > 0".to_owned()),
            Self::HasTools(false) => Ok("request.tools_count == 0".to_owned()),
            Self::FileName { glob, kind } => {
                let glob = format!("request.filenames.glob({})", quoted(glob));
                Ok(match kind {
                    None => glob,
                    Some(kind) => format!("{glob} && request.kind == {}", quoted(kind)),
                })
            }
            Self::Kind(kind) => Ok(format!("request.kind == {}", quoted(kind))),
            Self::ErrorRate { target, minutes, by, value } => {
                let rate = format!("error_rate({}, {minutes})", quoted(target));
                compared(&rate, Sort::Number, *by, Some(value))
            }
            Self::UsagePercent { limit, by, value } => {
                let percent = format!("usage_percent({})", quoted(limit));
                compared(&percent, Sort::Number, *by, Some(value))
            }
        }
    }
}

fn of_field(field: &str, by: Comparison, value: Option<&Json>) -> Result<String, String> {
    let (sort, access, presence) = match field {
        "input_tokens" | "messages_count" | "tools_count" => (Sort::Number, request(field), None),
        "stream" => (Sort::Flag, request(field), None),
        "dialect" | "model" | "first_message" | "last_message" | "text" | "kind" => {
            (Sort::Text, request(field), None)
        }
        "end_user" | "key" | "client" | "source_ip" => (Sort::Text, field.to_owned(), None),
        "filenames" => (Sort::Names, request(field), None),
        _ => {
            let (access, presence) = of_path(field)?;
            (Sort::Open, access, Some(presence))
        }
    };
    let Some(presence) = presence else { return compared(&access, sort, by, value) };
    // What is missing is not equal to anything, and contains nothing.
    let (positive, is_negated) = match by {
        Comparison::NotEqual => (Comparison::Equal, true),
        Comparison::NotContains => (Comparison::Contains, true),
        Comparison::NotIn => (Comparison::In, true),
        Comparison::Exists => return Ok(presence),
        by => (by, false),
    };
    let both = format!("{presence} && {}", compared(&access, sort, positive, value)?);
    Ok(if is_negated { format!("!({both})") } else { both })
}

fn request(field: &str) -> String {
    format!("request.{field}")
}

/// How to read `metadata.NAME` or `body.NAME.NAME`, and whether it is there.
fn of_path(field: &str) -> Result<(String, String), String> {
    if let Some(name) = field.strip_prefix("metadata.").filter(|name| !name.is_empty()) {
        let name = quoted(name);
        return Ok((format!("metadata[{name}]"), format!("{name} in metadata")));
    }
    let path = field.strip_prefix("body.").unwrap_or_default();
    let names: Vec<&str> = path.split('.').collect();
    let is_name = |name: &&str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
    };
    if !names.iter().all(is_name) {
        return Err(format!(
            "there is no field `{field}`; there are input_tokens, messages_count, tools_count, \
             stream, dialect, model, first_message, last_message, text, kind, filenames, end_user, \
             key, client, source_ip, metadata.NAME and body.NAME"
        ));
    }
    let mut access = "request.body".to_owned();
    let mut presence = Vec::new();
    for name in names {
        let name = quoted(name);
        presence.push(format!("{name} in {access}"));
        access = format!("{access}[{name}]");
    }
    Ok((access, presence.join(" && ")))
}

fn compared(
    access: &str,
    sort: Sort,
    by: Comparison,
    value: Option<&Json>,
) -> Result<String, String> {
    if sort == Sort::Names {
        return of_names(access, by, value);
    }
    let scalar = || match value {
        Some(Json::String(text)) => Ok(quoted(text)),
        Some(value @ (Json::Number(_) | Json::Bool(_))) => Ok(value.to_string()),
        _ => Err("needs a `value` that is a text, a number, true or false".to_owned()),
    };
    let text = || match value {
        Some(Json::String(text)) => Ok(quoted(text)),
        _ => Err("needs a `value` that is a text".to_owned()),
    };
    let binary = |sign: &str| Ok(format!("{access} {sign} {}", scalar()?));
    let method = |name: &str| Ok(format!("{access}.{name}({})", text()?));
    match by {
        Comparison::Equal => binary("=="),
        Comparison::NotEqual => binary("!="),
        Comparison::Less => binary("<"),
        Comparison::LessOrEqual => binary("<="),
        Comparison::Greater => binary(">"),
        Comparison::GreaterOrEqual => binary(">="),
        Comparison::Contains => method("contains"),
        Comparison::NotContains => Ok(format!("!{}", method("contains")?)),
        Comparison::StartsWith => method("startsWith"),
        Comparison::EndsWith => method("endsWith"),
        Comparison::Matches => method("matches"),
        Comparison::In => Ok(format!("{access} in {}", listed(value)?)),
        Comparison::NotIn => Ok(format!("!({access} in {})", listed(value)?)),
        Comparison::Exists if value.is_some() => Err("`exists` takes no `value`".to_owned()),
        Comparison::Exists => Ok(match sort {
            Sort::Number => format!("{access} > 0"),
            Sort::Flag => access.to_owned(),
            Sort::Text | Sort::Names | Sort::Open => format!("size({access}) > 0"),
        }),
    }
}

/// One of the names decides; for the negations none may.
fn of_names(access: &str, by: Comparison, value: Option<&Json>) -> Result<String, String> {
    let one = |by| {
        compared("name", Sort::Text, by, value)
            .map(|condition| format!("{access}.exists(name, {condition})"))
    };
    match by {
        Comparison::NotEqual => Ok(format!("!{}", one(Comparison::Equal)?)),
        Comparison::NotContains => Ok(format!("!{}", one(Comparison::Contains)?)),
        Comparison::NotIn => Ok(format!("!{}", one(Comparison::In)?)),
        Comparison::Exists => compared(access, Sort::Text, by, value),
        Comparison::Equal
        | Comparison::Contains
        | Comparison::StartsWith
        | Comparison::EndsWith
        | Comparison::Matches
        | Comparison::In => one(by),
        Comparison::Less
        | Comparison::LessOrEqual
        | Comparison::Greater
        | Comparison::GreaterOrEqual => Err("names of files have no order".to_owned()),
    }
}

fn listed(value: Option<&Json>) -> Result<String, String> {
    let wrong = || "needs a `value` that is a list of texts or numbers".to_owned();
    let Some(Json::Array(items)) = value else { return Err(wrong()) };
    let item = |item: &Json| match item {
        Json::String(text) => Ok(quoted(text)),
        Json::Number(_) | Json::Bool(_) => Ok(item.to_string()),
        _ => Err(wrong()),
    };
    let items: Result<Vec<String>, String> = items.iter().map(item).collect();
    Ok(format!("[{}]", items?.join(", ")))
}

/// As a literal: the escapes of JSON are escapes of the language.
fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}
