//! What a field is called in the client's dialect, and which fields of one dialect may be left away
//! by another.

use serde_json::{Map, Value};

use super::Refused;
use super::form::{Function, Request, Turn};
use crate::dialect::Dialect;

/// A field of the form that not every dialect has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Temperature,
    TopP,
    TopK,
    FrequencyPenalty,
    PresencePenalty,
    Seed,
    Stop,
    Verbosity,
    ParallelToolCalls,
    Format,
    Reasoning,
    ToolChoice,
    SearchDomains,
}

impl Field {
    const fn name(self, source: Dialect) -> &'static str {
        match source {
            Dialect::Gemini => self.google(),
            Dialect::Ollama => self.ollama(),
            _ => self.other(source),
        }
    }

    const fn google(self) -> &'static str {
        match self {
            Self::Temperature => "generationConfig.temperature",
            Self::TopP => "generationConfig.topP",
            Self::TopK => "generationConfig.topK",
            Self::FrequencyPenalty => "generationConfig.frequencyPenalty",
            Self::PresencePenalty => "generationConfig.presencePenalty",
            Self::Seed => "generationConfig.seed",
            Self::Stop => "generationConfig.stopSequences",
            Self::Format => "generationConfig.responseMimeType",
            Self::Reasoning => "generationConfig.thinkingConfig",
            Self::ToolChoice => "toolConfig.functionCallingConfig",
            // Nothing of the kind can be asked for.
            Self::Verbosity | Self::ParallelToolCalls | Self::SearchDomains => "tools",
        }
    }

    const fn ollama(self) -> &'static str {
        match self {
            Self::Temperature => "options.temperature",
            Self::TopP => "options.top_p",
            Self::TopK => "options.top_k",
            Self::FrequencyPenalty => "options.frequency_penalty",
            Self::PresencePenalty => "options.presence_penalty",
            Self::Seed => "options.seed",
            Self::Stop => "options.stop",
            Self::Format => "format",
            Self::Reasoning => "think",
            // Nothing of the kind can be asked for.
            Self::Verbosity | Self::ParallelToolCalls | Self::ToolChoice | Self::SearchDomains => {
                "tools"
            }
        }
    }

    const fn other(self, source: Dialect) -> &'static str {
        match (self, source) {
            (Self::Temperature, _) => "temperature",
            (Self::TopP, _) => "top_p",
            (Self::TopK, _) => "top_k",
            (Self::FrequencyPenalty, _) => "frequency_penalty",
            (Self::PresencePenalty, _) => "presence_penalty",
            (Self::Seed, _) => "seed",
            (Self::Stop, Dialect::Messages) => "stop_sequences",
            (Self::Stop, _) => "stop",
            (Self::Verbosity, Dialect::Responses) => "text.verbosity",
            (Self::Verbosity, _) => "verbosity",
            (Self::ParallelToolCalls, Dialect::Messages) => "tool_choice.disable_parallel_tool_use",
            (Self::ParallelToolCalls, _) => "parallel_tool_calls",
            (Self::Format, Dialect::Messages) => "output_config.format",
            (Self::Format, Dialect::Responses) => "text.format",
            (Self::Format, _) => "response_format",
            (Self::Reasoning, Dialect::Messages) => "thinking",
            (Self::Reasoning, Dialect::Responses) => "reasoning",
            (Self::Reasoning, _) => "reasoning_effort",
            (Self::ToolChoice, _) => "tool_choice",
            (Self::SearchDomains, Dialect::Responses) => "tools.filters.allowed_domains",
            (Self::SearchDomains, _) => "tools.allowed_domains",
        }
    }
}

/// A refusal that names `field` as the client wrote it.
pub(super) fn unsupported(request: &Request, field: Field, reason: &str) -> Refused {
    Refused::unsupported(field.name(request.source), reason)
}

/// Refuses penalties, a seed and a verbosity that a provider knows nothing of; what says nothing passes.
pub(super) fn refuse_tuning(request: &Request, reason: &str) -> Result<(), Refused> {
    let sampling = &request.sampling;
    let is_zero = |value: &serde_json::Number| value.as_f64() == Some(0.0);
    for (field, value) in [
        (Field::FrequencyPenalty, &sampling.frequency_penalty),
        (Field::PresencePenalty, &sampling.presence_penalty),
        (Field::Seed, &sampling.seed),
    ] {
        let is_said = value.as_ref().is_some_and(|value| field == Field::Seed || !is_zero(value));
        if is_said {
            return Err(unsupported(request, field, reason));
        }
    }
    match &request.verbosity {
        Some(verbosity) if verbosity != "medium" => {
            Err(unsupported(request, Field::Verbosity, reason))
        }
        _ => Ok(()),
    }
}

/// Where the content of `turn` stood.
pub(super) fn piece_path(request: &Request, turn: &Turn) -> String {
    match request.source {
        Dialect::Responses if turn.role.is_instruction() && turn.at == usize::MAX => {
            "instructions".to_owned()
        }
        Dialect::Messages if turn.role.is_instruction() => "system".to_owned(),
        Dialect::Gemini if turn.role.is_instruction() => "systemInstruction".to_owned(),
        Dialect::Ollama if turn.role.is_instruction() && turn.at == usize::MAX => {
            "system".to_owned()
        }
        Dialect::Responses => format!("input[{}]", turn.at),
        Dialect::Gemini => format!("contents[{}]", turn.at),
        _ => format!("messages[{}].content", turn.at),
    }
}

/// A tool that only the client's dialect knows.
pub(super) fn foreign_tool(tool: &Value) -> Refused {
    let kind = tool.get("type").and_then(Value::as_str).unwrap_or("?");
    Refused::unsupported("tools", format!("the provider has no tool of type `{kind}`"))
}

/// Fields that `OpenAI`'s two dialects share.
const OPENAI: [&str; 6] = [
    "metadata",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "store",
];

/// Fields without which the answer means the same.
const fn harmless(source: Dialect) -> &'static [&'static str] {
    match source {
        Dialect::Chat => &["prediction"],
        Dialect::Messages => &["service_tier", "metadata", "inference_geo"],
        Dialect::Gemini => &["safetySettings", "labels", "serviceTier", "store"],
        _ => &[],
    }
}

/// What of the client's own fields goes to `target`. Refuses what would be missed.
pub(super) fn rest_of(request: &Request, target: Dialect) -> Result<Map<String, Value>, Refused> {
    let source = request.source;
    if source == target {
        return Ok(request.rest.clone());
    }
    let is_openai = |dialect| matches!(dialect, Dialect::Chat | Dialect::Responses);
    let mut kept = Map::new();
    for (name, value) in &request.rest {
        let is_shared = is_openai(source) && OPENAI.contains(&name.as_str());
        if is_shared && is_openai(target) {
            kept.insert(name.clone(), value.clone());
        } else if !is_shared && !harmless(source).contains(&name.as_str()) {
            return Err(Refused::unsupported(
                name.clone(),
                "the provider of this model has nothing like it",
            ));
        }
    }
    Ok(kept)
}

/// Members of a tool that only change how it is described or sent.
const HARMLESS_OF_FUNCTIONS: [&str; 3] =
    ["input_examples", "eager_input_streaming", "allowed_callers"];

/// As [`rest_of`], for the members of a function.
pub(super) fn check_function_rest(
    request: &Request,
    function: &Function,
    target: Dialect,
) -> Result<Map<String, Value>, Refused> {
    if request.source == target {
        return Ok(function.rest.clone());
    }
    match function.rest.keys().find(|name| !HARMLESS_OF_FUNCTIONS.contains(&name.as_str())) {
        Some(name) => Err(Refused::unsupported(
            format!("tools.{name}"),
            "the provider of this model has nothing like it",
        )),
        None => Ok(Map::new()),
    }
}
