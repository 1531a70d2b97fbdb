//! How one provider of a dialect differs from the dialect as it is written down.

/// What a writer has to know of the provider that will read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Quirks {
    /// `max_completion_tokens`, instead of the older `max_tokens`.
    pub takes_max_completion_tokens: bool,
    /// `stream_options.include_usage`; without it usage comes anyhow, or never.
    pub takes_stream_options: bool,
    /// The role `developer`, instead of `system`.
    pub takes_developer: bool,
    /// The field of an assistant's message that takes thoughts back, where one does.
    pub thoughts: Option<&'static str>,
    /// How the effort of reasoning is asked for.
    pub effort: EffortField,
    pub takes_json_schema: bool,
    pub takes_top_k: bool,
    pub takes_seed: bool,
    pub takes_penalties: bool,
    pub takes_parallel_tool_calls: bool,
    /// Anthropic's `cache_control` on parts.
    pub takes_cache_control: bool,
    /// A call whose result is required is `any` for some.
    pub required_choice: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EffortField {
    /// `reasoning_effort: "low"`
    Flat,
    /// `reasoning: {"effort": "low"}`
    Nested,
    /// `thinking: {"type": "enabled"}`
    Thinking,
    /// `enable_thinking: true`
    EnableThinking,
    /// Nothing of the kind.
    Absent,
}

impl Quirks {
    /// The dialect as `OpenAI` has it.
    pub const OPENAI: Self = Self {
        takes_max_completion_tokens: true,
        takes_stream_options: true,
        takes_developer: true,
        thoughts: None,
        effort: EffortField::Flat,
        takes_json_schema: true,
        takes_top_k: false,
        takes_seed: true,
        takes_penalties: true,
        takes_parallel_tool_calls: true,
        takes_cache_control: false,
        required_choice: "required",
    };

    /// What most of those who copied it take.
    pub const COMPATIBLE: Self = Self {
        takes_max_completion_tokens: false,
        takes_developer: false,
        takes_top_k: true,
        ..Self::OPENAI
    };
}
