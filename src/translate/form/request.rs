//! What a client asks a model for.

use serde_json::{Map, Number, Value};

use super::part::{Cache, Piece};
use crate::dialect::Dialect;

/// A request, as every dialect's reader makes it and every dialect's writer takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub source: Dialect,
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    pub parallel_tool_calls: Option<bool>,
    pub sampling: Sampling,
    pub max_tokens: Option<u64>,
    pub stop: Vec<String>,
    pub reasoning: Option<Reasoning>,
    pub format: Option<Format>,
    pub verbosity: Option<String>,
    /// Whom the client acts for.
    pub user: Option<String>,
    pub is_stream: bool,
    /// A chat client wants to be told the usage at the end of its stream.
    pub wants_usage: bool,
    /// Fields that only the source dialect knows.
    pub rest: Map<String, Value>,
}

impl Request {
    pub fn new(source: Dialect) -> Self {
        Self {
            source,
            turns: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            reasoning: None,
            format: None,
            verbosity: None,
            user: None,
            is_stream: false,
            wants_usage: false,
            rest: Map::new(),
        }
    }
}

/// How the next token is chosen. Numbers stay as they were written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    pub temperature: Option<Number>,
    pub top_p: Option<Number>,
    pub top_k: Option<Number>,
    pub frequency_penalty: Option<Number>,
    pub presence_penalty: Option<Number>,
    pub seed: Option<Number>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
}

/// What one side said. Results of tools are the user's.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    pub role: Role,
    pub name: Option<String>,
    pub pieces: Vec<Piece>,
    /// Where it stood in the client's list, for errors.
    pub at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Tool {
    Function(Function),
    WebSearch(WebSearch),
    /// One that only the source dialect knows.
    Only(Value),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    pub name: String,
    pub description: Option<String>,
    /// A JSON schema.
    pub parameters: Option<Value>,
    pub is_strict: Option<bool>,
    pub cache: Option<Cache>,
    /// Members that only the source dialect knows.
    pub rest: Map<String, Value>,
}

/// The provider searches by itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WebSearch {
    pub allowed_domains: Option<Value>,
    pub blocked_domains: Option<Value>,
    pub user_location: Option<Map<String, Value>>,
    pub context_size: Option<String>,
    pub max_uses: Option<u64>,
    /// What the source dialect calls it.
    pub kind: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    Auto,
    None,
    Required,
    Named(String),
    /// Only these; one of them must be called when `is_required`.
    Allowed {
        names: Vec<String>,
        is_required: bool,
    },
    WebSearch,
}

/// How much the model thinks before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reasoning {
    pub is_off: bool,
    pub effort: Option<Effort>,
    pub budget_tokens: Option<u64>,
    /// The model decides by itself how much.
    pub is_adaptive: bool,
    /// `auto`, `concise`, `detailed`: whether and how a summary is shown.
    pub summary: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    JsonObject,
    JsonSchema {
        name: Option<String>,
        description: Option<String>,
        schema: Value,
        is_strict: Option<bool>,
    },
}

// === impl Effort ===

impl Effort {
    const NAMES: [(&'static str, Self); 6] = [
        ("minimal", Self::Minimal),
        ("low", Self::Low),
        ("medium", Self::Medium),
        ("high", Self::High),
        ("xhigh", Self::XHigh),
        ("max", Self::Max),
    ];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, effort)| *effort)
    }

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, effort)| *effort == self).map_or("medium", |(name, _)| name)
    }

    /// The budget that stands for an effort, where a provider takes only budgets.
    pub const fn budget_tokens(self) -> u64 {
        match self {
            Self::Minimal => 1_024,
            Self::Low => 4_096,
            Self::Medium => 8_192,
            Self::High => 16_384,
            Self::XHigh => 24_576,
            Self::Max => 32_768,
        }
    }

    /// The smallest effort whose budget is enough, where a provider takes only efforts.
    pub fn of_budget(tokens: u64) -> Self {
        Self::NAMES
            .iter()
            .map(|(_, effort)| *effort)
            .find(|effort| tokens <= effort.budget_tokens())
            .unwrap_or(Self::Max)
    }
}

impl Reasoning {
    /// The effort that is asked for, said or implied.
    pub fn effort(&self) -> Option<Effort> {
        self.effort.or_else(|| self.budget_tokens.map(Effort::of_budget))
    }
}

impl Role {
    pub const fn is_instruction(self) -> bool {
        matches!(self, Self::System | Self::Developer)
    }
}
