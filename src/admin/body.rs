//! Bodies that are no resources of a document: a few fields, and no others.

use serde_json::{Map, Value as Json};

use super::AdminError;
use super::call::Call;
use crate::clock::parse_rfc3339;
use crate::control::edit::EditError;

const TEXT_LEN_MAX: usize = 1024;

pub(super) struct Body(Map<String, Json>);

impl Body {
    /// The body of a call, which may have these fields.
    pub(super) fn of(call: &Call, known: &[&str]) -> Result<Self, AdminError> {
        let fields = call.object()?;
        match fields.keys().find(|field| !known.contains(&field.as_str())) {
            Some(field) => Err(EditError::invalid(field, "unknown field").into()),
            None => Ok(Self(fields)),
        }
    }

    /// Messages never show what was sent.
    pub(super) fn opt_text(&self, field: &str) -> Result<Option<&str>, EditError> {
        match self.0.get(field) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) if text.len() <= TEXT_LEN_MAX => Ok(Some(text)),
            Some(_) => Err(EditError::invalid(field, "must be a text of at most 1024 bytes")),
        }
    }

    pub(super) fn text(&self, field: &str) -> Result<&str, EditError> {
        let text = self.opt_text(field)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| EditError::invalid(field, "is missing"))
    }

    pub(super) fn opt_time(&self, field: &str) -> Result<Option<i64>, EditError> {
        let Some(text) = self.opt_text(field)? else { return Ok(None) };
        let time = parse_rfc3339(text);
        time.map(Some).ok_or_else(|| {
            EditError::invalid(field, "must be a time as 2027-01-01T00:00:00Z (RFC 3339)")
        })
    }

    /// A list of texts; `None` when it is missing or null.
    pub(super) fn opt_list(&self, field: &str) -> Result<Option<Vec<String>>, EditError> {
        let invalid = || EditError::invalid(field, "must be a list of texts");
        match self.0.get(field) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Array(items)) => {
                let text = |item: &Json| item.as_str().map(str::to_owned).ok_or_else(invalid);
                items.iter().map(text).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(invalid()),
        }
    }

    /// One of a set of words.
    pub(super) fn opt_word<T>(
        &self,
        field: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, EditError> {
        let Some(text) = self.opt_text(field)? else { return Ok(None) };
        read(text).map(Some).ok_or_else(|| EditError::invalid(field, "is none of the known words"))
    }
}
