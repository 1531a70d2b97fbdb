//! The keys of a run. Nothing prints them.

use std::fmt;
use std::io;
use std::path::Path;

use crate::scenario::Keys;

/// Keys that requests draw from; with none, requests carry none.
pub(super) struct KeyRing(Vec<Box<str>>);

impl fmt::Debug for KeyRing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} keys", self.0.len())
    }
}

impl KeyRing {
    pub(super) fn read(keys: &Keys) -> io::Result<Self> {
        let mut ring = match (&keys.env, &keys.file) {
            (Some(_), Some(_)) => return Err(invalid("keys: either `env` or `file`")),
            (Some(name), None) => match std::env::var(name) {
                Ok(key) => Self(vec![key.trim().into()]),
                Err(_) => return Err(invalid(&format!("keys: the env var {name} is not set"))),
            },
            (None, Some(path)) => Self::of_file(path)?,
            (None, None) => Self(Vec::new()),
        };
        ring.0.truncate(keys.n.unwrap_or(usize::MAX));
        for (index, key) in ring.0.iter().enumerate() {
            if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(invalid(&format!(
                    "keys: number {} cannot stand in a header",
                    index + 1
                )));
            }
        }
        Ok(ring)
    }

    fn of_file(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            io::Error::new(error.kind(), format!("keys: {}: {error}", path.display()))
        })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let ring = Self(lines.map(Into::into).collect());
        if ring.0.is_empty() {
            return Err(invalid(&format!("keys: {} has none", path.display())));
        }
        Ok(ring)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&str> {
        self.0.get(index).map(|key| &**key)
    }

    #[cfg(test)]
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| (*key).into()).collect())
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(text: &str, n: Option<usize>) -> io::Result<KeyRing> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        KeyRing::read(&Keys { file: Some(file.path().to_owned()), n, ..Keys::default() })
    }

    #[test]
    fn keys_come_from_lines_and_are_not_shown() {
        let ring = read("secret-one\n\n  secret-two \n", None).unwrap();
        assert_eq!((ring.get(1), ring.len()), (Some("secret-two"), 2));
        assert_eq!(format!("{ring:?}"), "2 keys");
        assert_eq!(read("a\nb\n", Some(1)).unwrap().len(), 1);
        let error = read("secret one\n", None).unwrap_err().to_string();
        assert!(error.contains("number 1") && !error.contains("secret"), "{error}");
        assert!(read("\n", None).is_err());
        assert_eq!(KeyRing::read(&Keys::default()).unwrap().len(), 0);
    }
}
