//! The values of every label: closed sets, so that no client can make a new time series.

use super::cells::Label;
use crate::dialect::Dialect;
use crate::limit::{Level, Metric};
use crate::provider::Provider;
use crate::usage::record::Outcome;

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl Label for $name {
            fn all() -> impl Iterator<Item = Self> {
                [$(Self::$value,)+].into_iter()
            }

            fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}

labels! {
    /// Why a connection was not served.
    RefusedConnection {
        /// The process holds as many as it may.
        Limit = "limit",
        /// The address holds as many as it may.
        AddressLimit = "address_limit",
        /// The process is out of file descriptors.
        Descriptors = "descriptors",
        Tls = "tls",
    }

    /// What was wrong with bytes that never became a request.
    Malformed {
        RequestLine = "request_line",
        Header = "header",
        Host = "host",
        /// Content-Length and Transfer-Encoding contradict each other or HTTP.
        Framing = "framing",
        HeadTooLarge = "head_too_large",
        HeadTimeout = "head_timeout",
        Chunk = "chunk",
        BodyTooLarge = "body_too_large",
        BodyTimeout = "body_timeout",
    }

    /// Why a key was refused.
    RefusedKey {
        Missing = "missing",
        Malformed = "malformed",
        Unknown = "unknown",
        Disabled = "disabled",
        Expired = "expired",
        Revoked = "revoked",
        Archived = "archived",
    }

    /// What the response cache did.
    CacheResult {
        Hit = "hit",
        /// A hit after waiting for the same request before it.
        Waited = "waited",
        Miss = "miss",
        Bypass = "bypass",
    }

    /// What a rule did.
    RuleAction {
        Deployment = "deployment",
        Model = "model",
        Target = "target",
        Block = "block",
    }

    /// Why a rule could not be told.
    RuleError {
        Budget = "budget",
        Type = "type",
        Missing = "missing",
        Arithmetic = "arithmetic",
        /// The body is too large.
        Unread = "unread",
        /// What it sends to is not there.
        Nowhere = "no_destination",
    }

    /// What became of asking the shared store.
    SharedResult {
        Granted = "granted",
        Refused = "refused",
        /// It is down, or did not answer in time.
        Unavailable = "unavailable",
    }

    /// How an attempt ended.
    AttemptResult {
        Ok = "ok",
        Dns = "dns",
        /// The upstream's address may not be reached.
        Forbidden = "forbidden",
        Connect = "connect",
        Tls = "tls",
        ConnectTimeout = "connect_timeout",
        HeadersTimeout = "headers_timeout",
        FirstTokenTimeout = "first_token_timeout",
        IdleTimeout = "idle_timeout",
        TotalTimeout = "total_timeout",
        Reset = "reset",
        Malformed = "malformed",
        /// An error event inside a 200 stream, before any content.
        EarlyError = "early_error",
        /// The stream ended before its end.
        StreamBroken = "stream_broken",
        RateLimited = "rate_limited",
        /// 5xx, 529 and 408.
        ServerError = "server_error",
        /// 401, 402 and 403.
        Auth = "auth",
        /// Another 4xx: the caller's fault, passed on.
        ClientError = "client_error",
        ClientClosed = "client_closed",
        /// The gateway ended first.
        Shutdown = "gateway_shutdown",
    }

    ReloadResult {
        Applied = "applied",
        /// The document was wrong; the old state stays.
        Refused = "refused",
    }

    LookupResult {
        Ok = "ok",
        Failed = "failed",
    }

    TokenKind {
        InputUncached = "input_uncached",
        InputCacheRead = "input_cache_read",
        InputCacheWrite5m = "input_cache_write_5m",
        InputCacheWrite1h = "input_cache_write_1h",
        Output = "output",
        Reasoning = "reasoning",
        AudioIn = "audio_in",
        AudioOut = "audio_out",
    }
}

impl Label for Dialect {
    fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    fn name(self) -> &'static str {
        self.name()
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Outcome {
    fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    fn name(self) -> &'static str {
        self.name()
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Level {
    fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    fn name(self) -> &'static str {
        self.name()
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Metric {
    fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    fn name(self) -> &'static str {
        self.name()
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// A provider's place among [`Provider::names`]. Finding it compares names: made once for each
/// target, and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderLabel {
    name: &'static str,
    index: usize,
}

impl From<Provider> for ProviderLabel {
    fn from(provider: Provider) -> Self {
        let name = provider.name();
        let index = Provider::names().position(|known| known == name).unwrap_or(usize::MAX);
        Self { name, index }
    }
}

impl Label for ProviderLabel {
    fn all() -> impl Iterator<Item = Self> {
        Provider::names().enumerate().map(|(index, name)| Self { name, index })
    }

    fn name(self) -> &'static str {
        self.name
    }

    fn index(self) -> usize {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_indexes_count_up<L: Label>() {
        assert!(
            L::all().enumerate().all(|(n, label)| label.index() == n && !label.name().is_empty())
        );
    }

    #[test]
    fn every_label_stands_at_its_index() {
        assert_indexes_count_up::<Dialect>();
        assert_indexes_count_up::<Outcome>();
        assert_indexes_count_up::<ProviderLabel>();
        assert_indexes_count_up::<AttemptResult>();
        assert_indexes_count_up::<TokenKind>();
        let groq = Provider::from_name("groq").unwrap();
        assert_eq!(ProviderLabel::from(groq).name(), "groq");
    }
}
