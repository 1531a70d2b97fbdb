//! What the configuration adds to a request body: parameters, and instructions before the client's.
//!
//! One walk over the body finds where things go; they are spliced between the bytes that came.
//! Parameters stand at the top level: a default where the client says nothing, an override whatever
//! it says. A client that writes a key twice, or with escapes, is overridden in every place.

mod fim;
mod instructions;
mod nested;

use bytes::Bytes;

pub use self::fim::is_fim;
pub use self::instructions::Place;
pub use self::nested::{GOOGLE, OLLAMA};
use super::cursor::{Cursor, Member};
use super::scan::ScanError;
use super::splice::{Edit, spliced};

/// Parameters and instructions, ready to be spliced in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Additions {
    params: Vec<Param>,
    /// Escaped, without quotes; empty when there are none.
    instructions: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Param {
    key: Box<str>,
    /// `"key":value`.
    member: Box<str>,
    /// Where the value begins in `member`.
    value_start: usize,
    is_override: bool,
}

/// Which additions a body takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub params: bool,
    pub instructions: Option<Place>,
}

impl Additions {
    /// `defaults` and `overrides` by key, with values that are JSON. `None` when nothing is added.
    pub fn new<'a>(
        defaults: impl IntoIterator<Item = (&'a str, &'a str)>,
        overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
        instructions: &str,
    ) -> Option<Self> {
        let mut params: Vec<Param> =
            overrides.into_iter().map(|(key, value)| Param::new(key, value, true)).collect();
        for (key, value) in defaults {
            if !params.iter().any(|param| *param.key == *key) {
                params.push(Param::new(key, value, false));
            }
        }
        let instructions = escaped(instructions).into();
        let additions = Self { params, instructions };
        (additions != Self::default()).then_some(additions)
    }

    /// `body`, a JSON object that [`scan`](super::scan()) took, with the additions that it takes.
    pub fn apply(&self, body: &Bytes, taken: Taken) -> Result<Bytes, ScanError> {
        let text = std::str::from_utf8(body)
            .map_err(|error| ScanError::NotUtf8 { at: error.valid_up_to() })?;
        let place =
            taken.instructions.filter(|_| !self.instructions.is_empty()).filter(|_| !is_fim(text));
        let params = if taken.params { self.params.as_slice() } else { &[] };
        if place.is_none() && params.is_empty() {
            return Ok(body.clone());
        }
        let mut walk = Walk {
            cursor: Cursor::new(text),
            params,
            seen: vec![false; params.len()],
            instructions: &self.instructions,
            place,
            is_placed: false,
            edits: Vec::new(),
        };
        walk.object()?;
        Ok(spliced(body, walk.edits))
    }
}

impl Param {
    fn new(key: &str, value: &str, is_override: bool) -> Self {
        let quoted = ["\"", &escaped(key), "\":"].concat();
        let value_start = quoted.len();
        Self { key: key.into(), member: (quoted + value).into(), value_start, is_override }
    }

    fn value(&self) -> &str {
        self.member.get(self.value_start..).unwrap_or_default()
    }
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    params: &'a [Param],
    /// For each of `params`.
    seen: Vec<bool>,
    instructions: &'a str,
    place: Option<Place>,
    is_placed: bool,
    edits: Vec<Edit>,
}

impl Walk<'_> {
    fn object(&mut self) -> Result<(), ScanError> {
        self.cursor.enter_object(0)?;
        let start = self.cursor.at();
        let mut is_first = true;
        while let Some(member) = self.cursor.member(is_first)? {
            is_first = false;
            self.member(&member)?;
        }
        self.insert_missing(start, is_first);
        Ok(())
    }

    fn member(&mut self, member: &Member) -> Result<(), ScanError> {
        self.cursor.peek_token();
        let start = self.cursor.at();
        let key = self.cursor.decode(&member.key);
        if let (Some(key), Some(place)) = (&key, self.place)
            && *key == place.member()
        {
            return self.place_instructions(place);
        }
        self.cursor.skip_value(1)?;
        let index = key.and_then(|key| self.params.iter().position(|param| *param.key == *key));
        let Some((index, param)) = index.and_then(|index| Some((index, self.params.get(index)?)))
        else {
            return Ok(());
        };
        if let Some(seen) = self.seen.get_mut(index) {
            *seen = true;
        }
        if param.is_override {
            self.edits.push(Edit::new(start..self.cursor.at(), param.value().to_owned()));
        }
        Ok(())
    }

    /// Puts what no member of the client stands for at the beginning of the object.
    fn insert_missing(&mut self, start: usize, is_empty: bool) {
        let unseen = self.params.iter().zip(&self.seen).filter(|(_, seen)| !**seen);
        let mut missing: Vec<String> = unseen.map(|(param, _)| param.member.to_string()).collect();
        let own = self.place.filter(|_| !self.is_placed);
        missing.extend(own.and_then(|place| place.whole(self.instructions)));
        if missing.is_empty() {
            return;
        }
        let mut text = missing.join(",");
        if !is_empty {
            text.push(',');
        }
        self.edits.push(Edit::new(start..start, text));
    }
}

/// `text` as it stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
