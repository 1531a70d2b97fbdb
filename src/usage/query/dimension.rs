//! What requests are told apart by, and what they are filtered by.

use std::net::IpAddr;

use serde_json::Value;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dimension {
    Workspace,
    Environment,
    Key,
    Deployment,
    Model,
    Provider,
    Connection,
    Target,
    Status,
    Outcome,
    ErrorClass,
    Dialect,
    EndUser,
    SourceIp,
    /// Of a key.
    Metadata(Box<str>),
}

/// A column of a usage row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Id,
    Number,
    Ip,
    /// The key of a map.
    Metadata,
}

/// Keeps requests of which `dimension` is one of `values`, or none of them. `None` means a request
/// that has no such thing. The values fit the dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub(crate) dimension: Dimension,
    pub(crate) values: Vec<Option<String>>,
    pub(crate) is_negated: bool,
}

const METADATA: &str = "metadata.";

impl Dimension {
    /// As parameters and fields call them; a key of `metadata` comes besides.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(name, _)| *name)
    }

    const NAMES: [(&str, Self); 14] = [
        ("workspace", Self::Workspace),
        ("environment", Self::Environment),
        ("key", Self::Key),
        ("deployment", Self::Deployment),
        ("model", Self::Model),
        ("provider", Self::Provider),
        ("connection", Self::Connection),
        ("target", Self::Target),
        ("status", Self::Status),
        ("outcome", Self::Outcome),
        ("error_class", Self::ErrorClass),
        ("dialect", Self::Dialect),
        ("end_user", Self::EndUser),
        ("source_ip", Self::SourceIp),
    ];

    /// Every dimension but the keys of the metadata.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::NAMES.into_iter().map(|(_, dimension)| dimension)
    }

    /// `metadata.<k>` takes the keys that a request can send: 1 to 64 of `a-z`, `0-9`, `-` and `_`.
    pub fn of_name(name: &str) -> Option<Self> {
        if let Some(key) = name.strip_prefix(METADATA) {
            let is_letter = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
            };
            let is_key = (1..=64).contains(&key.len()) && key.bytes().all(is_letter);
            return is_key.then(|| Self::Metadata(key.into()));
        }
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, dimension)| dimension)
    }

    pub fn name(&self) -> String {
        if let Self::Metadata(key) = self {
            return format!("{METADATA}{key}");
        }
        let known = Self::NAMES.into_iter().find(|(_, dimension)| dimension == self);
        known.map_or_else(String::new, |(name, _)| name.to_owned())
    }

    /// Whether roll-ups know it: those of `SQLite` more than those of `ClickHouse`.
    pub(crate) const fn is_rolled_up(&self, is_clickhouse: bool) -> bool {
        match self {
            Self::EndUser | Self::SourceIp | Self::Metadata(_) => false,
            Self::Key | Self::Target => !is_clickhouse,
            _ => true,
        }
    }

    /// The columns it is made of; an id stands before its name.
    pub(crate) fn columns(&self) -> Vec<Column<'_>> {
        let column = |name, kind| Column { name, kind };
        let named = |id, name| vec![column(id, Kind::Id), column(name, Kind::Text)];
        match self {
            Self::Workspace => named("workspace_id", "workspace"),
            Self::Environment => named("environment_id", "environment"),
            Self::Key => named("key_id", "key"),
            Self::Deployment => vec![column("deployment", Kind::Text)],
            Self::Model => vec![column("model", Kind::Text)],
            Self::Connection => vec![column("connection", Kind::Text)],
            Self::Target => vec![column("target_id", Kind::Id)],
            Self::Provider => vec![column("provider", Kind::Text)],
            Self::Status => vec![column("status", Kind::Number)],
            Self::Outcome => vec![column("outcome", Kind::Text)],
            Self::ErrorClass => vec![column("error_class", Kind::Text)],
            Self::Dialect => vec![column("dialect", Kind::Text)],
            Self::EndUser => vec![column("end_user", Kind::Text)],
            Self::SourceIp => vec![column("source_ip", Kind::Ip)],
            Self::Metadata(key) => vec![column(key, Kind::Metadata)],
        }
    }

    /// The fields of an answer, in the order of the columns.
    pub(crate) fn fields(&self) -> Vec<String> {
        match self {
            Self::Target => vec!["target".to_owned()],
            Self::Metadata(_) => vec![self.name()],
            _ => self.columns().into_iter().map(|column| column.name.to_owned()).collect(),
        }
    }

    /// Whether a request can have `value`, and if not, what it would have to be.
    pub(crate) fn check(&self, value: &str) -> Result<(), &'static str> {
        let fits = match self {
            Self::Target => Uuid::parse_str(value).is_ok(),
            Self::Status => value.parse::<u16>().is_ok(),
            Self::SourceIp => value.parse::<IpAddr>().is_ok(),
            _ => !value.is_empty(),
        };
        match self {
            _ if fits => Ok(()),
            Self::Target => Err("must be an id"),
            Self::Status => Err("must be a status from 0 to 65535"),
            Self::SourceIp => Err("must be an IP address"),
            _ => Err("must not be empty; null stands for requests without"),
        }
    }
}

impl Kind {
    /// What a store's cell means: both stores write the same thing in their own way.
    pub(crate) fn shown(self, cell: &Value) -> Value {
        match (self, cell) {
            (_, Value::String(text)) if text.is_empty() => Value::Null,
            (Self::Ip, Value::String(text)) => shown_ip(text),
            _ => cell.clone(),
        }
    }
}

/// The unspecified address stands for one that is not known.
pub(crate) fn shown_ip(text: &str) -> Value {
    match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if ip.is_unspecified() => Value::Null,
        Ok(ip) => ip.to_string().into(),
        Err(_) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_lead_to_dimensions_and_back() {
        for dimension in Dimension::all().chain([Dimension::Metadata("team-a_1".into())]) {
            assert_eq!(Dimension::of_name(&dimension.name()), Some(dimension));
        }
        for name in ["", "metadata", "metadata.", "metadata.A", "metadata.a'b", "Model", "ts"] {
            assert_eq!(Dimension::of_name(name), None, "{name}");
        }
    }

    #[test]
    fn addresses_of_both_stores_look_the_same() {
        for (cell, shown) in [
            ("::ffff:10.0.0.1", json!("10.0.0.1")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("2001:DB8:0:0::1", json!("2001:db8::1")),
            ("::", Value::Null),
            ("", Value::Null),
        ] {
            assert_eq!(Kind::Ip.shown(&cell.into()), shown, "{cell}");
        }
    }
}
