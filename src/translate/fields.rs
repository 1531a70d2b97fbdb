//! Reading JSON objects member by member, so that what nobody has taken is known at the end.

use serde_json::{Map, Number, Value};

use super::Refused;

/// The members of an object that have not been read.
#[derive(Debug)]
pub(super) struct Fields {
    map: Map<String, Value>,
    /// Where the object is, as `messages[2].content[0]`; empty at the top.
    path: String,
}

impl Fields {
    pub(super) fn new(map: Map<String, Value>, path: impl Into<String>) -> Self {
        Self { map, path: path.into() }
    }

    /// `value` as an object.
    pub(super) fn of(value: Value, path: impl Into<String>) -> Result<Self, Refused> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            _ => Err(Refused::invalid(path, "must be an object")),
        }
    }

    /// The path of a member.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A member; null is the same as none.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Reads a member and throws it away.
    pub(super) fn skip(&mut self, names: &[&str]) {
        for name in names {
            self.map.shift_remove(*name);
        }
    }

    /// Throws a member away that says what would be done without it.
    pub(super) fn skip_default(&mut self, name: &str, default: &Value) {
        if self.map.get(name) == Some(default) {
            self.map.shift_remove(name);
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refused> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refused::invalid(self.at(name), "must be a string")),
        }
    }

    pub(super) fn required_text(&mut self, name: &str) -> Result<String, Refused> {
        self.text(name)?.ok_or_else(|| Refused::invalid(self.at(name), "is missing"))
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refused> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(Refused::invalid(self.at(name), "must be a boolean")),
        }
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<Number>, Refused> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(_) => Err(Refused::invalid(self.at(name), "must be a number")),
        }
    }

    pub(super) fn count(&mut self, name: &str) -> Result<Option<u64>, Refused> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| Refused::invalid(self.at(name), "must be a whole number")),
        }
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refused> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(Refused::invalid(self.at(name), "must be a list")),
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, Refused> {
        let path = self.at(name);
        self.take(name).map(|value| Self::of(value, path)).transpose()
    }

    /// One text, or several.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, Refused> {
        let wrong = |at: String| Refused::invalid(at, "must be a string or a list of strings");
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(list)) => list
                .into_iter()
                .map(|value| match value {
                    Value::String(text) => Ok(text),
                    _ => Err(wrong(self.at(name))),
                })
                .collect(),
            Some(_) => Err(wrong(self.at(name))),
        }
    }

    /// What has not been read.
    pub(super) fn rest(mut self) -> Map<String, Value> {
        self.map.retain(|_, value| !value.is_null());
        self.map
    }
}

/// Sets `name` when there is something to say.
pub(super) fn put<T: Into<Value>>(map: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        map.insert(name.to_owned(), value.into());
    }
}
