//! What differs between providers: address, authentication, dialects.

pub mod aws;
pub mod errors;
mod presets;

use self::presets::PRESETS;
pub use self::presets::Preset;
use crate::dialect::{Dialect, Dialects};
use crate::translate::{Embedder, Host, Quirks};

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

/// How a credential is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialHeader {
    /// `authorization: Bearer …`
    Bearer,
    /// `x-api-key: …`
    XApiKey,
    /// `api-key: …`
    ApiKey,
    /// `x-goog-api-key: …`
    XGoogApiKey,
}

impl CredentialHeader {
    /// What stands before the credential.
    pub const fn start(self) -> &'static str {
        match self {
            Self::Bearer => "authorization: Bearer ",
            Self::XApiKey => "x-api-key: ",
            Self::ApiKey => "api-key: ",
            Self::XGoogApiKey => "x-goog-api-key: ",
        }
    }
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
            Audio, Chat, Cohere, Completions, Converse, Embeddings, Gemini, Images, Messages,
            Moderations, Rerank, Responses,
        };
        let dialects: &[Dialect] = match self {
            Self::OpenAi => &[Chat, Responses, Embeddings, Completions, Moderations, Images, Audio],
            Self::AzureOpenAi => &[Chat, Responses, Embeddings, Completions, Images, Audio],
            Self::Gemini => &[Gemini],
            Self::Anthropic => &[Messages],
            Self::Cohere => &[Cohere, Rerank],
            Self::Compatible(_) => {
                &[Chat, Embeddings, Completions, Moderations, Rerank, Images, Audio]
            }
            Self::Simulated => {
                let others = [Gemini, Converse, Cohere, Dialect::Ollama];
                return Dialect::ALL.into_iter().filter(|it| !others.contains(it)).collect();
            }
            Self::Bedrock => &[Converse],
            Self::Vertex => &[],
        };
        dialects.iter().copied().collect()
    }

    /// What the `settings` of a connection may say, and what each means: words of letters, digits
    /// and `-`.
    pub const fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::AzureOpenAi => &[
                ("resource", "the name in https://NAME.openai.azure.com, in place of a base_url"),
                ("api_version", "for the older paths, which name a deployment"),
            ],
            Self::Bedrock => &[("region", "where the models run, as us-east-1; gives the address")],
            _ => &[],
        }
    }

    /// Where the models run, for dialects that another provider made.
    pub const fn host(self) -> Host {
        match self {
            Self::Bedrock => Host::Bedrock,
            Self::Vertex => Host::Vertex,
            _ => Host::Own,
        }
    }

    /// The dialects that `upstream_model` is asked in, of a provider that speaks `dialects`: Amazon
    /// has Anthropic's models in Anthropic's own.
    pub fn dialects_of(self, dialects: Dialects, upstream_model: &str) -> Dialects {
        let is_hosted = self == Self::Bedrock && dialects.contains(Dialect::Converse);
        if is_hosted && upstream_model.contains("anthropic.claude") {
            Dialects::NONE.with(Dialect::Messages)
        } else {
            dialects
        }
    }

    /// Whose embeddings `upstream_model` makes, where they are not as `OpenAI` has them.
    pub fn embedder(self, dialects: Dialects, upstream_model: &str) -> Option<Embedder> {
        let embedder = match self {
            Self::Gemini => Embedder::Gemini,
            Self::Cohere => Embedder::Cohere,
            Self::Bedrock if upstream_model.contains("titan-embed") => Embedder::Titan,
            Self::Bedrock if upstream_model.contains("cohere.embed") => Embedder::BedrockCohere,
            _ => return None,
        };
        // A connection that is disabled speaks nothing.
        (dialects != Dialects::NONE).then_some(embedder)
    }

    /// How it differs from the dialect that requests are translated into for it.
    pub const fn quirks(self) -> &'static Quirks {
        match self {
            Self::Compatible(preset) => &preset.quirks,
            _ => &Quirks::OPENAI,
        }
    }

    pub const fn credential_header(self) -> CredentialHeader {
        match self {
            Self::Anthropic => CredentialHeader::XApiKey,
            Self::AzureOpenAi => CredentialHeader::ApiKey,
            Self::Gemini => CredentialHeader::XGoogApiKey,
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
