//! What a provider's error is about, where its body says more than its status.

/// Read from the body of an error by the tables of `provider/errors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The credential is wrong, or has expired.
    Credential,
    /// The account has no money left, or may spend no more.
    Billing,
    RateLimit,
    Overload,
    /// The provider's own trouble, whatever its status says.
    Fault,
    /// The prompt is longer than the model reads.
    ContextLength,
    /// A filter has refused what was asked, or what was answered.
    ContentFilter,
}

impl Reason {
    pub const ALL: [Self; 7] = [
        Self::Credential,
        Self::Billing,
        Self::RateLimit,
        Self::Overload,
        Self::Fault,
        Self::ContextLength,
        Self::ContentFilter,
    ];

    /// The status that says the same by itself.
    pub const fn status(self) -> u16 {
        match self {
            Self::Credential => 401,
            Self::Billing => 402,
            Self::RateLimit => 429,
            Self::Overload => 529,
            Self::Fault => 500,
            Self::ContextLength | Self::ContentFilter => 400,
        }
    }

    /// The class of errors of the caller's own that have a name of their own.
    pub(super) const fn callers_class(self) -> Option<&'static str> {
        match self {
            Self::ContextLength => Some("context_length"),
            Self::ContentFilter => Some("content_filter"),
            Self::Credential | Self::Billing | Self::RateLimit | Self::Overload | Self::Fault => {
                None
            }
        }
    }

    /// The name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Billing => "billing",
            Self::RateLimit => "rate limit",
            Self::Overload => "overload",
            Self::Fault => "fault",
            Self::ContextLength => "context length",
            Self::ContentFilter => "content filter",
        }
    }
}
