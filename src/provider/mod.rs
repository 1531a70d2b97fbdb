//! What differs between providers: address, authentication, dialects.

use crate::dialect::{Dialect, Dialects};
use crate::translate::Quirks;

/// A kind of upstream API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    OpenAi,
    Anthropic,
    AzureOpenAi,
    Gemini,
    Bedrock,
    Vertex,
    Cohere,
    /// Anything that speaks `chat`; the presets carry their own name and base URL.
    Compatible(&'static Preset),
    /// The built-in scripted provider.
    Simulated,
}

/// A known `OpenAI`-compatible provider.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Preset {
    pub name: &'static str,
    pub base_url: Option<&'static str>,
}

const fn preset(name: &'static str, base_url: &'static str) -> Preset {
    Preset { name, base_url: Some(base_url) }
}

static PRESETS: [Preset; 17] = [
    Preset { name: "openai_compatible", base_url: None },
    preset("groq", "https://api.groq.com/openai/v1"),
    preset("together", "https://api.together.xyz/v1"),
    preset("fireworks", "https://api.fireworks.ai/inference/v1"),
    preset("deepseek", "https://api.deepseek.com/v1"),
    preset("mistral", "https://api.mistral.ai/v1"),
    preset("xai", "https://api.x.ai/v1"),
    preset("openrouter", "https://openrouter.ai/api/v1"),
    preset("perplexity", "https://api.perplexity.ai"),
    preset("cerebras", "https://api.cerebras.ai/v1"),
    preset("deepinfra", "https://api.deepinfra.com/v1/openai"),
    preset("nvidia", "https://integrate.api.nvidia.com/v1"),
    preset("sambanova", "https://api.sambanova.ai/v1"),
    preset("vllm", "http://127.0.0.1:8000/v1"),
    preset("ollama", "http://127.0.0.1:11434/v1"),
    preset("lm_studio", "http://127.0.0.1:1234/v1"),
    preset("llama_cpp", "http://127.0.0.1:8080/v1"),
];

/// How a credential is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialHeader {
    /// `authorization: Bearer …`
    Bearer,
    /// `x-api-key: …`
    XApiKey,
}

impl Provider {
    /// The provider called `name` in configuration.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "openai" => Self::OpenAi,
            "anthropic" => Self::Anthropic,
            "azure_openai" => Self::AzureOpenAi,
            "gemini" => Self::Gemini,
            "bedrock" => Self::Bedrock,
            "vertex" => Self::Vertex,
            "cohere" => Self::Cohere,
            "simulated" => Self::Simulated,
            _ => Self::Compatible(PRESETS.iter().find(|preset| preset.name == name)?),
        })
    }

    /// Every name that [`Self::from_name`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let own = [
            "openai",
            "anthropic",
            "azure_openai",
            "gemini",
            "bedrock",
            "vertex",
            "cohere",
            "simulated",
        ];
        own.into_iter().chain(PRESETS.iter().map(|preset| preset.name))
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::AzureOpenAi => "azure_openai",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Vertex => "vertex",
            Self::Cohere => "cohere",
            Self::Compatible(preset) => preset.name,
            Self::Simulated => "simulated",
        }
    }

    /// What stands before `/chat/completions`, unless the connection says otherwise.
    pub const fn base_url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com/v1"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com/v1beta"),
            Self::Cohere => Some("https://api.cohere.com/v2"),
            Self::Compatible(preset) => preset.base_url,
            Self::AzureOpenAi | Self::Bedrock | Self::Vertex | Self::Simulated => None,
        }
    }

    /// The dialects that this provider speaks by itself, byte for byte.
    pub fn dialects(self) -> Dialects {
        use Dialect::{
            Audio, Chat, Completions, Embeddings, Images, Messages, Moderations, Rerank, Responses,
        };
        let dialects: &[Dialect] = match self {
            Self::OpenAi => &[Chat, Responses, Embeddings, Completions, Moderations, Images, Audio],
            Self::Anthropic => &[Messages],
            Self::Cohere => &[Rerank],
            Self::Compatible(_) => {
                &[Chat, Embeddings, Completions, Moderations, Rerank, Images, Audio]
            }
            Self::Simulated => &Dialect::ALL,
            Self::AzureOpenAi | Self::Gemini | Self::Bedrock | Self::Vertex => &[],
        };
        dialects.iter().copied().collect()
    }

    /// How it differs from the dialect that requests are translated into for it.
    pub const fn quirks(self) -> &'static Quirks {
        match self {
            Self::Compatible(_) => &Quirks::COMPATIBLE,
            _ => &Quirks::OPENAI,
        }
    }

    pub const fn credential_header(self) -> CredentialHeader {
        match self {
            Self::Anthropic => CredentialHeader::XApiKey,
            _ => CredentialHeader::Bearer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_provider() {
        for name in Provider::names() {
            assert_eq!(Provider::from_name(name).map(Provider::name), Some(name));
        }
        assert_eq!(Provider::from_name("closedai"), None);
    }
}
