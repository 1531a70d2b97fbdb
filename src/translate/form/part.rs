//! What a turn or an answer is made of.

use serde_json::{Map, Value};

use crate::dialect::Dialect;

/// A part, and whether a provider shall keep what comes up to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub part: Part,
    pub cache: Option<Cache>,
}

/// A cache point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// For an hour, instead of five minutes.
    pub is_long: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Text {
        text: String,
        citations: Vec<Citation>,
    },
    Refusal(String),
    Media(Media),
    ToolCall(ToolCall),
    ToolResult(ToolResult),
    Thinking(Thinking),
    /// The provider has searched by itself.
    Search {
        id: String,
        query: String,
    },
    /// One that only the source dialect knows.
    Only(Value),
}

/// Where a statement comes from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Citation {
    pub url: Option<String>,
    pub title: Option<String>,
    pub cited_text: Option<String>,
    /// Characters of the text that it stands for.
    pub start: Option<u64>,
    pub end: Option<u64>,
    /// As the source dialect has it.
    pub own: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    Image,
    Document,
    Audio,
    Video,
}

/// An image, a document, a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    pub kind: MediaKind,
    pub source: Source,
    /// A file name, or the title of a document.
    pub name: Option<String>,
    /// `low`, `high`, `auto`: how closely an image is looked at.
    pub detail: Option<String>,
    /// Members that only the source dialect knows.
    pub rest: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Base64 {
        mime: String,
        data: String,
    },
    Url {
        url: String,
        mime: Option<String>,
    },
    /// A file that was uploaded to the provider.
    File {
        id: String,
        mime: Option<String>,
    },
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON text, or free text for a custom tool.
    pub arguments: String,
    pub is_custom: bool,
    pub seal: Option<Seal>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    pub id: String,
    pub pieces: Vec<Piece>,
    pub is_error: bool,
    pub is_custom: bool,
}

/// What the model thought. A sealed thought without a text is one that the provider keeps secret.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Thinking {
    pub id: Option<String>,
    pub text: String,
    pub seal: Option<Seal>,
    /// Anthropic's `redacted_thinking`.
    pub is_redacted: bool,
}

/// A signature or an encrypted thought: only a provider of the dialect that made it can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    pub origin: Dialect,
    pub value: String,
}

/// Marks a seal that travels in a field of another dialect.
pub const SEAL_MARK: &str = "sluice-seal:";

// === impl Seal ===

impl Seal {
    /// As a text that fits where another dialect has its own seals; with the id of what it seals.
    pub fn carried(&self, id: Option<&str>) -> String {
        format!("{SEAL_MARK}{}:{}:{}", self.origin.name(), id.unwrap_or_default(), self.value)
    }

    /// Reads what stands where `dialect` has its seals: its own, or a carried one of another.
    pub fn read(text: &str, dialect: Dialect) -> (Self, Option<String>) {
        let carried = || {
            let (origin, rest) = text.strip_prefix(SEAL_MARK)?.split_once(':')?;
            let (id, value) = rest.split_once(':')?;
            let id = (!id.is_empty()).then(|| id.to_owned());
            Some((Self { origin: Dialect::from_name(origin)?, value: value.to_owned() }, id))
        };
        carried().unwrap_or_else(|| (Self { origin: dialect, value: text.to_owned() }, None))
    }

    /// As `dialect` writes it: bare when it is its own.
    pub fn written(&self, dialect: Dialect, id: Option<&str>) -> String {
        if self.origin == dialect { self.value.clone() } else { self.carried(id) }
    }
}

// === impl Thinking ===

/// Stands for the id of a thought that has none and is kept secret.
const REDACTED: &str = "redacted";

impl Thinking {
    /// A thought with what seals it, as `dialect` has it: its own seal, or a carried one.
    pub fn sealed(text: String, sealed: Option<String>, dialect: Dialect) -> Self {
        let sealed = sealed.filter(|sealed| !sealed.is_empty());
        let (seal, id) = sealed.map_or((None, None), |sealed| {
            let (seal, id) = Seal::read(&sealed, dialect);
            (Some(seal).filter(|seal| !seal.value.is_empty()), id)
        });
        let is_redacted = id.as_deref() == Some(REDACTED);
        Self { id: id.filter(|_| !is_redacted), text, seal, is_redacted }
    }

    /// What seals it, for a client of `dialect`.
    pub fn sealed_text(&self, dialect: Dialect) -> Option<String> {
        let id = if self.is_redacted { Some(REDACTED) } else { self.id.as_deref() };
        self.seal.as_ref().map(|seal| seal.written(dialect, id))
    }
}

// === impl Part and Piece ===

impl Part {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), citations: Vec::new() }
    }

    /// What it is called in an error.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Refusal(_) => "refusal",
            Self::Media(media) => media.kind_name(),
            Self::ToolCall(_) => "tool call",
            Self::ToolResult(_) => "tool result",
            Self::Thinking(_) => "thinking",
            Self::Search { .. } => "web search",
            Self::Only(_) => "block",
        }
    }
}

impl From<Part> for Piece {
    fn from(part: Part) -> Self {
        Self { part, cache: None }
    }
}

impl Media {
    pub fn new(kind: MediaKind, source: Source) -> Self {
        Self { kind, source, name: None, detail: None, rest: Map::new() }
    }
}

impl Source {
    /// A URL, which may hold the data itself.
    pub fn of_url(url: &str) -> Self {
        let inline = || {
            let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
            let mime = head.strip_suffix(";base64")?;
            let mime = mime.split(';').next().unwrap_or_default();
            Some(Self::Base64 { mime: mime.to_owned(), data: data.to_owned() })
        };
        inline().unwrap_or_else(|| Self::Url { url: url.to_owned(), mime: None })
    }

    /// As a URL; a file or a plain text has none.
    pub fn to_url(&self) -> Option<String> {
        match self {
            Self::Base64 { mime, data } => Some(format!("data:{mime};base64,{data}")),
            Self::Url { url, .. } => Some(url.clone()),
            Self::File { .. } | Self::Text(_) => None,
        }
    }
}

impl Media {
    pub const fn kind_name(&self) -> &'static str {
        match self.kind {
            MediaKind::Image => "image",
            MediaKind::Document => "document",
            MediaKind::Audio => "recording",
            MediaKind::Video => "video",
        }
    }
}
