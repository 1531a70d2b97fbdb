//! What a request asks for: which endpoint, which model, a stream or not.

use serde::Deserialize;

use super::errors::Envelope;

/// An endpoint, found by the end of the path, whatever stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Responses,
    StoredResponse,
    Messages,
    CountTokens,
    Embeddings,
    Completions,
    Moderations,
    Rerank,
    Images,
    Speech,
    Transcription,
    Models,
}

impl Endpoint {
    pub(super) fn find(method: &str, path: &str) -> Option<Self> {
        const BY_SUFFIX: [(&str, Endpoint); 14] = [
            ("/chat/completions", Endpoint::Chat),
            ("/responses", Endpoint::Responses),
            ("/messages", Endpoint::Messages),
            ("/messages/count_tokens", Endpoint::CountTokens),
            ("/embeddings", Endpoint::Embeddings),
            ("/completions", Endpoint::Completions),
            ("/moderations", Endpoint::Moderations),
            ("/rerank", Endpoint::Rerank),
            ("/images/generations", Endpoint::Images),
            ("/images/edits", Endpoint::Images),
            ("/images/variations", Endpoint::Images),
            ("/audio/speech", Endpoint::Speech),
            ("/audio/transcriptions", Endpoint::Transcription),
            ("/audio/translations", Endpoint::Transcription),
        ];
        if path.contains("/responses/") {
            return Some(Self::StoredResponse);
        }
        if method == "GET" {
            let is_models = path.ends_with("/models") || path.contains("/models/");
            return is_models.then_some(Self::Models);
        }
        if method != "POST" {
            return None;
        }
        BY_SUFFIX.iter().find(|(suffix, _)| path.ends_with(suffix)).map(|(_, endpoint)| *endpoint)
    }

    pub(super) fn envelope(self) -> Envelope {
        match self {
            Self::Messages | Self::CountTokens => Envelope::Anthropic,
            Self::Chat
            | Self::Responses
            | Self::StoredResponse
            | Self::Embeddings
            | Self::Completions
            | Self::Moderations
            | Self::Rerank
            | Self::Images
            | Self::Speech
            | Self::Transcription
            | Self::Models => Envelope::OpenAi,
        }
    }

    /// Whether the reply depends on nothing but model, behaviour and the kind of stream.
    pub(super) fn is_uniform(self) -> bool {
        matches!(self, Self::Chat | Self::Responses | Self::Messages | Self::Completions)
    }

    pub(super) fn has_body(self) -> bool {
        !matches!(self, Self::Models | Self::StoredResponse)
    }

    /// The header with the id of the request.
    pub(super) fn request_id_header(self) -> &'static str {
        match self.envelope() {
            Envelope::OpenAi => "x-request-id",
            Envelope::Anthropic => "request-id",
        }
    }
}

/// The few members of a request's body that the mock reads.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    store: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl Asked {
    pub(super) fn of_form(body: &[u8]) -> Self {
        Self { model: form_field(body, "model"), ..Self::default() }
    }

    /// Some endpoints never stream, whatever is asked.
    pub(super) fn is_stream(&self, endpoint: Endpoint) -> bool {
        endpoint.is_uniform() && self.stream == Some(true)
    }

    pub(super) fn is_usage_included(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true)
    }

    pub(super) fn is_stored(&self) -> bool {
        self.store != Some(false)
    }
}

/// The value of a text field of a multipart form.
fn form_field(body: &[u8], name: &str) -> Option<String> {
    let marker = format!("name=\"{name}\"");
    let after_name = body.get(memchr::memmem::find(body, marker.as_bytes())? + marker.len()..)?;
    let value = after_name.get(memchr::memmem::find(after_name, b"\r\n\r\n")? + 4..)?;
    let value = value.get(..memchr::memmem::find(value, b"\r\n")?)?;
    std::str::from_utf8(value).ok().map(str::to_owned)
}

/// The model that the start of a JSON body or of a form names, if it is there already.
pub(super) fn model_in_start(start: &[u8]) -> Option<String> {
    if start.trim_ascii_start().first() != Some(&b'{') {
        return form_field(start, "model");
    }
    let after_key = start.get(memchr::memmem::find(start, b"\"model\"")? + 7..)?;
    let value = after_key.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let value = value.strip_prefix(b"\"")?;
    let value = value.get(..memchr::memchr(b'"', value)?)?;
    std::str::from_utf8(value).ok().map(str::to_owned)
}

/// The deployment in a path such as `/openai/deployments/NAME/chat/completions`.
pub(super) fn model_in_path(path: &str) -> Option<String> {
    let (_, after) = path.split_once("/deployments/")?;
    after.split('/').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_found_by_the_end_of_the_path() {
        let find = |path| Endpoint::find("POST", path);
        assert_eq!(find("/v1/chat/completions"), Some(Endpoint::Chat));
        assert_eq!(find("/openai/deployments/x/completions"), Some(Endpoint::Completions));
        assert_eq!(find("/anthropic/v1/messages"), Some(Endpoint::Messages));
        assert_eq!(find("/v1/responses/resp_1/cancel"), Some(Endpoint::StoredResponse));
        assert_eq!(find("/v1/nothing"), None);
        assert_eq!(Endpoint::find("GET", "/v1/models/sim"), Some(Endpoint::Models));
    }

    #[test]
    fn model_is_found_in_forms_paths_and_half_bodies() {
        let form = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nsim-1\r\n--b--";
        assert_eq!(Asked::of_form(form).model.as_deref(), Some("sim-1"));
        assert_eq!(model_in_start(br#"{"model" : "a?b=1","input":"x"#).as_deref(), Some("a?b=1"));
        assert_eq!(model_in_start(br#"{"model":"a?b"#), None);
        assert_eq!(model_in_path("/deployments/gpt/embeddings").as_deref(), Some("gpt"));
    }
}
