//! Wire formats and the endpoints that carry them.

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// `OpenAI` Chat Completions.
    Chat,
    /// `OpenAI` Responses.
    Responses,
    /// Anthropic Messages, with `count_tokens`.
    Messages,
    /// Google's `generateContent`.
    Gemini,
    /// `Converse` of Amazon Bedrock. No endpoint of ours speaks it; that provider does.
    Converse,
    /// Cohere's chat of version 2. No endpoint of ours speaks it; that provider does.
    Cohere,
    /// Ollama's `/api/chat` and `/api/generate`. Providers are asked in others.
    Ollama,
    Embeddings,
    /// `OpenAI`'s legacy Completions.
    Completions,
    Moderations,
    Rerank,
    Images,
    Audio,
}

impl Dialect {
    pub const ALL: [Self; 13] = [
        Self::Chat,
        Self::Responses,
        Self::Messages,
        Self::Gemini,
        Self::Converse,
        Self::Cohere,
        Self::Ollama,
        Self::Embeddings,
        Self::Completions,
        Self::Moderations,
        Self::Rerank,
        Self::Images,
        Self::Audio,
    ];

    /// The name in configuration, rows and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Gemini => "gemini",
            Self::Converse => "converse",
            Self::Cohere => "cohere",
            Self::Ollama => "ollama",
            Self::Embeddings => "embeddings",
            Self::Completions => "completions",
            Self::Moderations => "moderations",
            Self::Rerank => "rerank",
            Self::Images => "images",
            Self::Audio => "audio",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// Whose error envelope a client of this dialect reads.
    pub const fn envelope(self) -> Envelope {
        match self {
            Self::Messages => Envelope::Anthropic,
            Self::Gemini => Envelope::Google,
            Self::Ollama => Envelope::Ollama,
            _ => Envelope::OpenAi,
        }
    }
}

/// The shape of an error body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    OpenAi,
    Anthropic,
    Google,
    Ollama,
}

/// The word that Google has for a status.
pub const fn google_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        503 | 529 => "UNAVAILABLE",
        408 | 504 => "DEADLINE_EXCEEDED",
        400..=498 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

/// A set of dialects, as what a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dialects(u16);

impl Dialects {
    pub const NONE: Self = Self(0);

    #[must_use]
    pub const fn with(self, dialect: Dialect) -> Self {
        Self(self.0 | (1 << dialect as u16))
    }

    pub const fn contains(self, dialect: Dialect) -> bool {
        self.0 & (1 << dialect as u16) != 0
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = Dialect> {
        Dialect::ALL.into_iter().filter(move |dialect| self.contains(*dialect))
    }
}

impl FromIterator<Dialect> for Dialects {
    fn from_iter<I: IntoIterator<Item = Dialect>>(dialects: I) -> Self {
        dialects.into_iter().fold(Self::NONE, Self::with)
    }
}

/// What a client can call. One path for all of them; what differs is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    ChatCompletions,
    Responses,
    Messages,
    CountTokens,
    /// `POST /v1beta/models/{model}:generateContent`: the model is in the path.
    GenerateContent,
    /// `POST /v1beta/models/{model}:streamGenerateContent?alt=sse`.
    StreamGenerateContent,
    /// Ollama's `POST /api/chat`.
    OllamaChat,
    /// Ollama's `POST /api/generate`.
    OllamaGenerate,
    Embeddings,
    Completions,
    Moderations,
    Rerank,
    ImageGenerations,
    ImageEdits,
    ImageVariations,
    Speech,
    Transcriptions,
    Translations,
    /// `GET|DELETE /v1/responses/{id}`, `/input_items`, `/cancel`: the target follows from the id.
    StoredResponse,
    /// `GET /v1/models` and `/v1/models/{id}`: answered from memory.
    Models,
}

impl Endpoint {
    pub const ALL: [Self; 20] = [
        Self::ChatCompletions,
        Self::Responses,
        Self::Messages,
        Self::CountTokens,
        Self::GenerateContent,
        Self::StreamGenerateContent,
        Self::OllamaChat,
        Self::OllamaGenerate,
        Self::Embeddings,
        Self::Completions,
        Self::Moderations,
        Self::Rerank,
        Self::ImageGenerations,
        Self::ImageEdits,
        Self::ImageVariations,
        Self::Speech,
        Self::Transcriptions,
        Self::Translations,
        Self::StoredResponse,
        Self::Models,
    ];

    /// The name in scopes, rows and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat/completions",
            Self::Responses | Self::StoredResponse => "responses",
            Self::Messages => "messages",
            Self::CountTokens => "messages/count_tokens",
            Self::GenerateContent | Self::StreamGenerateContent => "generateContent",
            Self::OllamaChat => "api/chat",
            Self::OllamaGenerate => "api/generate",
            Self::Embeddings => "embeddings",
            Self::Completions => "completions",
            Self::Moderations => "moderations",
            Self::Rerank => "rerank",
            Self::ImageGenerations => "images/generations",
            Self::ImageEdits => "images/edits",
            Self::ImageVariations => "images/variations",
            Self::Speech => "audio/speech",
            Self::Transcriptions => "audio/transcriptions",
            Self::Translations => "audio/translations",
            Self::Models => "models",
        }
    }

    pub const fn dialect(self) -> Dialect {
        match self {
            Self::ChatCompletions | Self::Models => Dialect::Chat,
            Self::Responses | Self::StoredResponse => Dialect::Responses,
            Self::Messages | Self::CountTokens => Dialect::Messages,
            Self::GenerateContent | Self::StreamGenerateContent => Dialect::Gemini,
            Self::OllamaChat | Self::OllamaGenerate => Dialect::Ollama,
            Self::Embeddings => Dialect::Embeddings,
            Self::Completions => Dialect::Completions,
            Self::Moderations => Dialect::Moderations,
            Self::Rerank => Dialect::Rerank,
            Self::ImageGenerations | Self::ImageEdits | Self::ImageVariations => Dialect::Images,
            Self::Speech | Self::Transcriptions | Self::Translations => Dialect::Audio,
        }
    }
}
