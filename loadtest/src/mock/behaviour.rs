//! What a reply shall be like, and where it shall go wrong.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Unexpected, Visitor};

use crate::distribution::Distribution;

/// How the mock answers a request. The default is a prompt, healthy answer.
///
/// Written as text it is `key=value` pairs joined with `&`, values percent-encoded where needed; a
/// key alone means `true` (or 1). The same text after a `?` in a model's name chooses the behaviour
/// of that request. As JSON it is an object with the same keys.
///
/// Content events count from 0: `stall_at_event=2` stalls when two of them have been sent, so their
/// number itself means after all of them, before the events that end the stream.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent switch of a test")]
pub struct Behaviour {
    /// Answers with this status; 400 and above get an error body in the caller's dialect.
    pub status: Option<u16>,
    pub error_code: Option<String>,
    pub error_type: Option<String>,
    pub error_message: Option<String>,
    /// The body as it is, whatever the endpoint. In JSON a string.
    #[serde(deserialize_with = "bytes")]
    pub body: Option<Vec<u8>>,
    /// This share of the requests gets `status` (503 unless set), by a counter; the rest succeed.
    pub error_rate: Option<f64>,
    /// What else goes wrong, and how often: `429:0.02,reset:0.01`; a status, `reset`, `close`,
    /// `stall` or `cut`. By a counter each.
    pub error_mix: Option<ErrorMix>,
    /// Requests a second that each model takes; the others get 429 with `retry-after`.
    pub rate_limit: Option<f64>,
    /// Seconds, in `retry-after`.
    pub retry_after: Option<u64>,
    /// Milliseconds, in `retry-after-ms`.
    pub retry_after_ms: Option<u64>,
    /// More response headers, written as they are.
    pub headers: Vec<(String, String)>,

    /// Delay before the head.
    pub headers_ms: u64,
    /// Delay after the head, before the body or the first event.
    pub first_ms: u64,
    /// Delay between content events.
    pub event_ms: u64,
    /// Further delays, drawn anew each time, in milliseconds: before the head, after it, between
    /// content events.
    pub headers_delay: Option<Distribution>,
    pub first_delay: Option<Distribution>,
    pub event_delay: Option<Distribution>,
    /// Number of content events, 8 unless set.
    pub events: Option<usize>,
    /// Size of the content in bytes, over all events.
    pub bytes: Option<usize>,
    /// One write for the whole stream instead of one for each event.
    #[serde(deserialize_with = "flag")]
    pub coalesce: bool,

    /// So many content events in one write, each delayed as before.
    pub merge_events: Option<usize>,
    /// This content event and the next change places.
    pub swap_at_event: Option<usize>,
    /// This content event comes twice.
    pub repeat_event: Option<usize>,
    /// This content event is left out.
    pub drop_event: Option<usize>,
    /// One letter of this content event is another; of an answer that is no stream, of the body.
    pub change_event: Option<usize>,

    /// TCP reset after so many bytes of the body.
    pub reset_at: Option<u64>,
    /// TCP end after so many bytes of the body, its framing unfinished.
    pub cut_at: Option<u64>,
    pub reset_at_event: Option<usize>,
    pub cut_at_event: Option<usize>,
    /// The body ends properly here, without the events that end a stream.
    pub clean_end_at_event: Option<usize>,
    /// The stream's last event is left out: `[DONE]`, `message_stop`, `response.completed`.
    #[serde(deserialize_with = "flag")]
    pub no_terminal: bool,
    /// Sends nothing more until the client leaves.
    pub stall_at_event: Option<usize>,
    /// An error event instead of this content event, then a proper end.
    pub error_at_event: Option<usize>,
    /// This event is not valid JSON; of an answer that is no stream, the body.
    pub malformed_event: Option<usize>,
    #[serde(deserialize_with = "flag")]
    pub stall_before_headers: bool,
    #[serde(deserialize_with = "flag")]
    pub reset_before_headers: bool,
    #[serde(deserialize_with = "flag")]
    pub close_before_headers: bool,
    /// The head goes out one byte every so many milliseconds.
    pub drip_headers_ms: Option<u64>,
    /// The first real event of a stream is an error.
    pub early_error: Option<EarlyError>,

    /// Events end with CRLF.
    #[serde(deserialize_with = "flag")]
    pub crlf: bool,
    /// The stream starts with a byte order mark.
    #[serde(deserialize_with = "flag")]
    pub bom: bool,
    /// A comment (`: ping`) before every n-th content event.
    pub comment_every: Option<usize>,
    /// The first content event carries so many bytes without a line end.
    pub huge_event: Option<usize>,

    #[serde(deserialize_with = "flag")]
    pub no_usage: bool,
    #[serde(deserialize_with = "flag")]
    pub null_usage: bool,
    pub usage_weird: Option<Weird>,
    /// Input tokens outside any cache, 20 unless set.
    pub input_tokens: Option<u64>,
    /// All output tokens, reasoning included; `events` + `reasoning` unless set.
    pub output_tokens: Option<u64>,
    /// Reasoning tokens, and the content that goes with them.
    pub reasoning: u64,
    pub cache_read: u64,
    /// Tokens written to the five-minute cache.
    pub cache_write: u64,
    pub cache_write_1h: u64,
    /// Number of tool calls the answer makes instead of text.
    #[serde(deserialize_with = "count")]
    pub tools: usize,

    /// An answer that is no stream is gzip-encoded, asked for or not.
    #[serde(deserialize_with = "flag")]
    pub gzip: bool,
    /// A stream is gzip-encoded, flushed per event.
    #[serde(deserialize_with = "flag")]
    pub gzip_stream: bool,
    /// An answer that is no stream comes chunked.
    #[serde(deserialize_with = "flag")]
    pub chunked: bool,
    /// Neither a length nor chunks: the end of the connection ends the body.
    #[serde(deserialize_with = "flag")]
    pub close_delimited: bool,
    /// Declares ten bytes fewer than it sends.
    #[serde(deserialize_with = "flag")]
    pub content_length_short: bool,
    /// Declares ten bytes more than it sends, then closes.
    #[serde(deserialize_with = "flag")]
    pub content_length_long: bool,
    #[serde(deserialize_with = "flag")]
    pub trailers: bool,
    /// A 103 first.
    #[serde(deserialize_with = "flag")]
    pub informational: bool,
    /// 302 to this URL.
    pub redirect: Option<String>,
    /// 204.
    #[serde(deserialize_with = "flag")]
    pub no_content: bool,
    #[serde(deserialize_with = "flag")]
    pub http10: bool,
    /// Says `connection: close` and closes.
    #[serde(deserialize_with = "flag")]
    pub close: bool,
    /// Exactly these bytes, then the end of the connection. In JSON a string.
    #[serde(deserialize_with = "bytes")]
    pub raw: Option<Vec<u8>>,

    /// Answers `status` (413 unless set) before the body has been read, and closes.
    #[serde(deserialize_with = "flag")]
    pub early_response_close: bool,
    /// Reads the request's body 4 KiB at a time, with so many milliseconds between.
    pub slow_read: Option<u64>,
}

/// Kinds of failures, and the share of the requests that has each.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorMix(pub Vec<(Mishap, f64)>);

/// A way in which a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    Status(u16),
    /// A TCP reset instead of an answer.
    Reset,
    /// A TCP end instead of an answer.
    Close,
    /// No answer until the client leaves.
    Stall,
    /// A TCP end in the middle of the body.
    Cut,
}

/// What surrounds an error at the start of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyError {
    /// The dialect's opening events, then the error.
    Preamble,
    /// Nothing before the error.
    Bare,
    /// As `Preamble`; in the responses dialect a `response.failed` instead of an `error`.
    Failed,
}

/// What the numbers of a usage report are replaced with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weird {
    Negative,
    Huge,
    Float,
    String,
}

/// Why a text is no behaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BehaviourError(String);

impl BehaviourError {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for BehaviourError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "behaviour: {}", self.0)
    }
}

impl std::error::Error for BehaviourError {}

// === impl Behaviour ===

/// Keys whose value is text even if it looks like a number.
const TEXT_KEYS: [&str; 9] = [
    "error_mix",
    "error_code",
    "error_type",
    "error_message",
    "body",
    "raw",
    "redirect",
    "early_error",
    "usage_weird",
];

impl Behaviour {
    /// Reads the behaviour out of a model's name, `None` when it carries none.
    pub fn of_model(model: &str) -> Result<Option<Self>, BehaviourError> {
        model.split_once('?').map(|(_, text)| text.parse()).transpose()
    }

    /// Number of content events.
    pub fn events_n(&self) -> usize {
        self.events.unwrap_or(8)
    }

    /// This behaviour with a mishap.
    pub(super) fn with(&self, mishap: Mishap) -> Self {
        /// Into the answer, but not to its end.
        const CUT_BYTES: u64 = 40;

        let mut changed = Self { error_mix: None, ..self.clone() };
        match mishap {
            Mishap::Status(status) => changed.status = Some(status),
            Mishap::Reset => changed.reset_before_headers = true,
            Mishap::Close => changed.close_before_headers = true,
            Mishap::Stall => changed.stall_before_headers = true,
            Mishap::Cut => changed.cut_at = Some(CUT_BYTES),
        }
        changed
    }

    /// The status, if it is an error's.
    pub(super) fn error_status(&self) -> Option<u16> {
        self.status.filter(|status| *status >= 400)
    }

    /// Whether the error is an event inside a stream.
    pub(super) fn has_error_event(&self) -> bool {
        self.early_error.is_some() || self.error_at_event.is_some()
    }
}

impl Behaviour {
    /// The members of the object that says the same as `text`.
    pub fn members(
        text: &str,
    ) -> Result<serde_json::Map<String, serde_json::Value>, BehaviourError> {
        let mut members = serde_json::Map::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            let value = percent_decoded(value);
            let value = match serde_json::from_str(&value) {
                Ok(scalar @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)))
                    if !TEXT_KEYS.contains(&key) =>
                {
                    scalar
                }
                _ => serde_json::Value::String(value),
            };
            if members.insert(key.to_owned(), value).is_some() {
                return Err(BehaviourError(format!("`{key}` is given twice")));
            }
        }
        Ok(members)
    }

    pub(super) fn of_members(
        members: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self, BehaviourError> {
        serde_json::from_value(members.into()).map_err(|error| BehaviourError(error.to_string()))
    }
}

impl FromStr for Behaviour {
    type Err = BehaviourError;

    fn from_str(text: &str) -> Result<Self, BehaviourError> {
        Self::of_members(Self::members(text)?)
    }
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let code = after
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => out.push(first),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl<'de> Deserialize<'de> for EarlyError {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = EarlyError;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("true, \"bare\" or \"failed\"")
            }

            fn visit_bool<E: serde::de::Error>(self, is_set: bool) -> Result<EarlyError, E> {
                if is_set {
                    Ok(EarlyError::Preamble)
                } else {
                    Err(E::invalid_value(Unexpected::Bool(false), &self))
                }
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EarlyError, E> {
                match text {
                    "true" | "1" => Ok(EarlyError::Preamble),
                    "bare" => Ok(EarlyError::Bare),
                    "failed" => Ok(EarlyError::Failed),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }
        }

        from.deserialize_any(Either)
    }
}

impl FromStr for ErrorMix {
    type Err = BehaviourError;

    fn from_str(text: &str) -> Result<Self, BehaviourError> {
        let wrong =
            |part: &str| BehaviourError(format!("`{part}` is no MISHAP:SHARE, such as 429:0.02"));
        let one = |part: &str| {
            let (mishap, share) = part.split_once(':').ok_or_else(|| wrong(part))?;
            let share = share.parse::<f64>().map_err(|_| wrong(part))?;
            let mishap = match (mishap, mishap.parse::<u16>()) {
                ("reset", _) => Mishap::Reset,
                ("close", _) => Mishap::Close,
                ("stall", _) => Mishap::Stall,
                ("cut", _) => Mishap::Cut,
                (_, Ok(status @ 400..=599)) => Mishap::Status(status),
                _ => return Err(wrong(part)),
            };
            if (0.0..=1.0).contains(&share) { Ok((mishap, share)) } else { Err(wrong(part)) }
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl<'de> Deserialize<'de> for ErrorMix {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A switch: `true`, `false`, 1 or 0.
fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match count(from)? {
        0 => Ok(false),
        1 => Ok(true),
        more => Err(D::Error::custom(format!("a switch is true or false, not {more}"))),
    }
}

/// A number, where `true` is 1.
fn count<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum BoolOrNumber {
        Bool(bool),
        Number(usize),
    }
    Ok(match BoolOrNumber::deserialize(from)? {
        BoolOrNumber::Bool(is_set) => usize::from(is_set),
        BoolOrNumber::Number(number) => number,
    })
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    Option::<String>::deserialize(from).map(|text| text.map(String::into_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_say_the_same() {
        let text =
            "status=429&retry_after=2&error_code=12&crlf&no_usage=1&tools=2&error_message=a%20b";
        let json = r#"{"status":429,"retry_after":2,"error_code":"12","crlf":true,"no_usage":true,
            "tools":2,"error_message":"a b"}"#;
        let parsed: Behaviour = text.parse().unwrap();
        assert_eq!(parsed, serde_json::from_str(json).unwrap());
        assert_eq!(parsed.status, Some(429));
        assert!(parsed.crlf && parsed.no_usage);
    }

    #[test]
    fn model_name_carries_a_behaviour() {
        assert_eq!(Behaviour::of_model("sim"), Ok(None));
        let found = Behaviour::of_model("sim?early_error=bare&usage_weird=huge").unwrap().unwrap();
        assert_eq!(found.early_error, Some(EarlyError::Bare));
        assert_eq!(found.usage_weird, Some(Weird::Huge));
        let preamble = Behaviour::of_model("sim?early_error").unwrap().unwrap();
        assert_eq!(preamble.early_error, Some(EarlyError::Preamble));
    }

    #[test]
    fn mistake_is_named() {
        let error = Behaviour::of_model("sim?statuss=1").unwrap_err().to_string();
        assert!(error.contains("`statuss`"), "{error}");
        assert!("status=abc".parse::<Behaviour>().is_err());
        assert!("crlf&crlf".parse::<Behaviour>().is_err());
    }
}
