//! Header fields as they came: few, each looked for once or twice, so that going through them costs
//! less than making a map of them.

use std::borrow::Borrow;
use std::slice;

use http::{HeaderMap, HeaderName, HeaderValue};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields(Vec<(HeaderName, HeaderValue)>);

impl Fields {
    pub fn with_capacity(n_fields: usize) -> Self {
        Self(Vec::with_capacity(n_fields))
    }

    /// Adds a field behind the others, whether or not its name is among them.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// The first of that name.
    pub fn get(&self, name: impl Borrow<HeaderName>) -> Option<&HeaderValue> {
        self.get_all(name).next()
    }

    /// All of that name, in their order.
    pub fn get_all<N: Borrow<HeaderName>>(&self, name: N) -> impl Iterator<Item = &HeaderValue> {
        let all = self.0.iter().filter(move |(one, _)| one == name.borrow());
        all.map(|(_, value)| value)
    }

    pub fn contains(&self, name: impl Borrow<HeaderName>) -> bool {
        self.get(name).is_some()
    }

    /// Takes all of that name out; whether there was one.
    pub fn remove(&mut self, name: impl Borrow<HeaderName>) -> bool {
        let n_before = self.0.len();
        self.0.retain(|(one, _)| one != name.borrow());
        self.0.len() < n_before
    }

    pub fn iter(&self) -> slice::Iter<'_, (HeaderName, HeaderValue)> {
        self.0.iter()
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        Self(map.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a (HeaderName, HeaderValue);
    type IntoIter = slice::Iter<'a, (HeaderName, HeaderValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, COOKIE, HOST};

    use super::*;

    #[test]
    fn fields_keep_their_order_and_all_of_a_name() {
        let value = HeaderValue::from_static;
        let mut fields =
            Fields::from_iter([(ACCEPT, value("a")), (HOST, value("b")), (ACCEPT, value("c"))]);
        assert_eq!(fields.get(ACCEPT), Some(&value("a")));
        assert_eq!(fields.get_all(&ACCEPT).collect::<Vec<_>>(), [&value("a"), &value("c")]);
        assert!(!fields.contains(COOKIE) && !fields.remove(COOKIE));
        assert!(fields.remove(ACCEPT));
        assert_eq!(fields.iter().collect::<Vec<_>>(), [&(HOST, value("b"))]);
    }
}
