//! What a caller asks of the gateway itself: `x-sluice-*` headers, or the body's `sluice` field.
//! The header wins.

use std::time::Duration;

use crate::head::fields::Fields;
use crate::json::Sluice;
use crate::rejection::Rejection;

/// Metadata entries of one request; more are refused.
const METADATA_MAX: usize = 32;
/// Bytes of one name or value.
const VALUE_BYTES_MAX: usize = 512;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub correlation_id: Option<Box<str>>,
    pub end_user: Option<Box<str>>,
    pub timeout: Option<Duration>,
    /// Pins a target by name.
    pub target: Option<Box<str>>,
    /// Sorted by key.
    pub metadata: Vec<(Box<str>, Box<str>)>,
}

impl Options {
    pub fn read(headers: &Fields, field: Option<&Sluice>) -> Result<Self, Rejection> {
        let mut options = match field {
            Some(field) => Self::from_field(field)?,
            None => Self::default(),
        };
        for (name, value) in headers {
            let Some(option) = name.as_str().strip_prefix("x-sluice-") else { continue };
            let text =
                || {
                    value.to_str().ok().filter(|text| text.len() <= VALUE_BYTES_MAX).ok_or_else(
                        || invalid(name.as_str(), "must be at most 512 ASCII characters"),
                    )
                };
            match option {
                "correlation-id" => options.correlation_id = Some(text()?.into()),
                "end-user" => options.end_user = Some(text()?.into()),
                "target" => options.target = Some(text()?.into()),
                "timeout-ms" => {
                    let millis = text()?.parse().ok().filter(|millis| 0 < *millis);
                    options.timeout = Some(Duration::from_millis(millis.ok_or_else(|| {
                        invalid(name.as_str(), "must be a whole number of milliseconds above 0")
                    })?));
                }
                _ => {
                    if let Some(key) =
                        option.strip_prefix("metadata-").filter(|key| !key.is_empty())
                    {
                        put(&mut options.metadata, key, text()?);
                    }
                }
            }
        }
        if METADATA_MAX < options.metadata.len() {
            return Err(invalid("sluice.metadata", "has more than 32 entries; send fewer"));
        }
        Ok(options)
    }

    fn from_field(field: &Sluice) -> Result<Self, Rejection> {
        let short = |name: &str, text: &Option<Box<str>>| match text {
            Some(text) if VALUE_BYTES_MAX < text.len() => {
                Err(invalid(name, "must be at most 512 bytes"))
            }
            text => Ok(text.clone()),
        };
        let mut options = Self {
            correlation_id: short("sluice.correlation_id", &field.correlation_id)?,
            end_user: short("sluice.end_user", &field.end_user)?,
            target: short("sluice.target", &field.target)?,
            timeout: None,
            metadata: Vec::new(),
        };
        if let Some(millis) = field.timeout_ms {
            if millis == 0 {
                return Err(invalid("sluice.timeout_ms", "must be above 0"));
            }
            options.timeout = Some(Duration::from_millis(millis));
        }
        for (key, value) in &field.metadata {
            if VALUE_BYTES_MAX < key.len().max(value.len()) {
                return Err(invalid("sluice.metadata", "has an entry of more than 512 bytes"));
            }
            put(&mut options.metadata, key, value);
        }
        Ok(options)
    }

    /// The metadata of the row: the key's defaults under the caller's own.
    pub fn metadata_over(&self, defaults: &[(Box<str>, Box<str>)]) -> Vec<(Box<str>, Box<str>)> {
        let mut metadata = defaults.to_vec();
        for (key, value) in &self.metadata {
            put(&mut metadata, key, value);
        }
        metadata
    }
}

/// Sets `key` in a list that is sorted by key.
fn put(list: &mut Vec<(Box<str>, Box<str>)>, key: &str, value: &str) {
    match list.binary_search_by(|(name, _)| (**name).cmp(key)) {
        Ok(at) => {
            if let Some((_, old)) = list.get_mut(at) {
                *old = value.into();
            }
        }
        Err(at) => list.insert(at, (key.into(), value.into())),
    }
}

fn invalid(name: &str, what: &str) -> Rejection {
    Rejection::invalid_request(format!("`{name}` {what}"), Some(name))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn read(lines: &[(&'static str, &'static str)]) -> Result<Options, Rejection> {
        let headers = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Options::read(&headers, None)
    }

    #[test]
    fn headers_are_read() {
        let options = read(&[
            ("x-sluice-correlation-id", "c1"),
            ("x-sluice-metadata-team", "search"),
            ("x-sluice-metadata-app", "web"),
            ("x-sluice-timeout-ms", "1500"),
            ("x-sluice-cache", "no-store"),
        ])
        .unwrap();
        assert_eq!(options.correlation_id.as_deref(), Some("c1"));
        assert_eq!(options.timeout, Some(Duration::from_millis(1500)));
        let names: Vec<_> = options.metadata.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["app", "team"]);
    }

    #[test]
    fn header_wins_over_the_field() {
        let field = Sluice {
            correlation_id: Some("from-body".into()),
            end_user: Some("ann".into()),
            ..Sluice::default()
        };
        let headers = Fields::from_iter([(
            HeaderName::from_static("x-sluice-correlation-id"),
            HeaderValue::from_static("from-header"),
        )]);
        let options = Options::read(&headers, Some(&field)).unwrap();
        assert_eq!(options.correlation_id.as_deref(), Some("from-header"));
        assert_eq!(options.end_user.as_deref(), Some("ann"));
    }

    #[test]
    fn bad_timeout_is_refused_by_name() {
        let error = read(&[("x-sluice-timeout-ms", "soon")]).unwrap_err();
        assert_eq!(error.param(), Some("x-sluice-timeout-ms"));
        assert!(read(&[("x-sluice-timeout-ms", "0")]).is_err());
    }
}
