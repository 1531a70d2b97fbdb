//! What expressions calculate with.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value as Json;

use super::run::Stopped;

/// A value while an expression runs; it borrows from the request and from the expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Null,
    Flag(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    /// An array or an object of the request; other JSON has values of its own.
    Json(&'a Json),
    Texts(&'a [Box<str>]),
    /// Names and values.
    Map(&'a [(Box<str>, Box<str>)]),
    /// Microseconds since 1970 UTC.
    Time(i64),
}

impl<'a> Value<'a> {
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    pub fn of_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Flag(*flag),
            Json::Number(number) => match number.as_i64() {
                Some(int) => Self::Int(int),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::text(text),
            Json::Array(_) | Json::Object(_) => Self::Json(json),
        }
    }

    /// How many steps it takes to look at all of it, or to copy it.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len() / 64,
            Self::List(items) => items.iter().map(|item| 1 + item.weight()).sum(),
            Self::Json(Json::Array(items)) => items.len(),
            Self::Json(Json::Object(members)) => members.len(),
            Self::Map(entries) => entries.len(),
            Self::Texts(texts) => texts.len(),
            _ => 0,
        }
    }

    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Self::Text(text) => Some(text.chars().count()),
            Self::List(items) => Some(items.len()),
            Self::Json(_) | Self::Map(_) | Self::Texts(_) => Some(self.weight()),
            _ => None,
        }
    }

    /// The member `name`, if this holds members.
    pub(super) fn member(&self, name: &str) -> Result<Option<Self>, Stopped> {
        match self {
            Self::Json(Json::Object(members)) => Ok(members.get(name).map(Self::of_json)),
            Self::Map(entries) => {
                let found = entries.iter().find(|(key, _)| **key == *name);
                Ok(found.map(|(_, value)| Self::text(value)))
            }
            _ => Err(Stopped::Type),
        }
    }

    pub(super) fn element(&self, index: i64) -> Option<Self> {
        let index = usize::try_from(index).ok()?;
        match self {
            Self::List(items) => items.get(index).cloned(),
            Self::Json(Json::Array(items)) => items.get(index).map(Self::of_json),
            Self::Texts(texts) => texts.get(index).map(|text| Self::text(text)),
            _ => None,
        }
    }

    /// What a loop goes over: the elements of a list, the keys of a map.
    pub(super) fn items(self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items),
            Self::Texts(texts) => Some(texts.iter().map(|text| Self::text(text)).collect()),
            Self::Json(Json::Array(items)) => Some(items.iter().map(Self::of_json).collect()),
            Self::Json(Json::Object(members)) => {
                Some(members.keys().map(|key| Self::text(key)).collect())
            }
            Self::Map(entries) => Some(entries.iter().map(|(key, _)| Self::text(key)).collect()),
            _ => None,
        }
    }

    /// Values of different types are not equal; numbers are of one type.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(left), Self::List(right)) => {
                left.len() == right.len()
                    && left.iter().zip(right).all(|(left, right)| left.equals(right))
            }
            (Self::List(list), Self::Json(Json::Array(items)))
            | (Self::Json(Json::Array(items)), Self::List(list)) => {
                list.len() == items.len()
                    && list
                        .iter()
                        .zip(items)
                        .all(|(left, right)| left.equals(&Self::of_json(right)))
            }
            (Self::Int(_) | Self::Double(_), Self::Int(_) | Self::Double(_)) => {
                self.order(other) == Some(Ordering::Equal)
            }
            (Self::Texts(texts), other) | (other, Self::Texts(texts))
                if !matches!(other, Self::Texts(_)) =>
            {
                let texts = texts.iter().map(|text| Self::text(text)).collect();
                Self::List(texts).equals(other)
            }
            _ => self == other,
        }
    }

    /// `None` for what has no order.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) | (Self::Time(left), Self::Time(right)) => {
                Some(left.cmp(right))
            }
            (Self::Int(_) | Self::Double(_), Self::Int(_) | Self::Double(_)) => {
                self.double()?.partial_cmp(&other.double()?)
            }
            (Self::Text(left), Self::Text(right)) => Some(left.cmp(right)),
            (Self::Flag(left), Self::Flag(right)) => Some(left.cmp(right)),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "as CEL says")]
    pub(super) fn double(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(*int as f64),
            Self::Double(double) => Some(*double),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// As JSON, for people.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Flag(flag) => Json::from(*flag),
            Self::Int(int) => Json::from(*int),
            Self::Double(double) => Json::from(*double),
            Self::Text(text) => Json::from(&**text),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Texts(texts) => texts.iter().map(|text| Json::from(&**text)).collect(),
            Self::Json(json) => (*json).clone(),
            Self::Map(entries) => {
                let entry =
                    |(name, value): &(Box<str>, Box<str>)| (name.to_string(), Json::from(&**value));
                Json::Object(entries.iter().map(entry).collect())
            }
            Self::Time(micros) => Json::from(micros.div_euclid(1_000_000)),
        }
    }
}
