//! Prices and cost: integer nano-dollars, never floating point.

/// A price in nano-dollars per million tokens. `None` is priced like its base: cache and audio
/// input like input, reasoning and audio output like output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    pub cache_read: Option<u64>,
    pub cache_write_5m: Option<u64>,
    pub cache_write_1h: Option<u64>,
    pub reasoning: Option<u64>,
    pub audio_in: Option<u64>,
    pub audio_out: Option<u64>,
}
