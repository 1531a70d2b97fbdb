//! Token counts: what a price is multiplied with.

/// Token counts in one convention for every provider: no number is inside another. `None` means
/// that nobody said; a reported zero is `Some(0)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    pub input_uncached: Option<u64>,
    pub input_cache_read: Option<u64>,
    pub input_cache_write_5m: Option<u64>,
    pub input_cache_write_1h: Option<u64>,
    /// Without reasoning.
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
    pub audio_in: Option<u64>,
    pub audio_out: Option<u64>,
}

impl Tokens {
    /// Nobody said anything.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}
