//! Tokens in one convention: wholes, with parts that are inside.

/// What a provider says was used. A whole is `None` when it has not been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All that was read, from caches too.
    pub input: Option<u64>,
    pub cache_read: Option<u64>,
    /// Written to caches, however long they are kept.
    pub cache_write: Option<u64>,
    /// Of these, for an hour.
    pub cache_write_1h: Option<u64>,
    pub audio_in: Option<u64>,
    /// All that was written, thoughts too.
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
    pub audio_out: Option<u64>,
    /// Searches that the provider made.
    pub searches: Option<u64>,
}

impl Usage {
    /// What of the input came from no cache and went into none.
    pub fn input_uncached(&self) -> Option<u64> {
        let cached = self.cache_read.unwrap_or(0) + self.cache_write.unwrap_or(0);
        self.input.map(|input| input.saturating_sub(cached))
    }

    pub fn total(&self) -> Option<u64> {
        match (self.input, self.output) {
            (None, None) => None,
            (input, output) => Some(input.unwrap_or(0) + output.unwrap_or(0)),
        }
    }

    /// With what a later report adds; what it leaves out stays.
    #[must_use]
    pub fn updated(self, later: Self) -> Self {
        Self {
            input: later.input.or(self.input),
            cache_read: later.cache_read.or(self.cache_read),
            cache_write: later.cache_write.or(self.cache_write),
            cache_write_1h: later.cache_write_1h.or(self.cache_write_1h),
            audio_in: later.audio_in.or(self.audio_in),
            output: later.output.or(self.output),
            reasoning: later.reasoning.or(self.reasoning),
            audio_out: later.audio_out.or(self.audio_out),
            searches: later.searches.or(self.searches),
        }
    }
}
