//! From method and path to what is asked. The one table of the data plane's routes.

use http::Method;

use crate::dialect::{Endpoint, Envelope};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// The target follows from the body.
    Body {
        endpoint: Endpoint,
        scope: Option<PathScope<'a>>,
        /// Where the path names it, percent-encoded, and not the body.
        model: Option<&'a str>,
    },
    /// The target follows from the id in the path.
    StoredResponse {
        id: &'a str,
    },
    Models,
    Model {
        id: &'a str,
    },
    /// Ollama's clients ask which version they talk to.
    OllamaVersion,
    Healthz,
    Readyz,
}

/// The workspace and environment that a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathScope<'a> {
    pub workspace: &'a str,
    pub environment: &'a str,
}

const SCOPED: &str = "/v1/completion/";
const STORED: &str = "/v1/responses/";
const GOOGLE: &str = "/v1beta/models";

/// The route of a request, or `None` for a path that is not served. `path` is without a query.
pub fn route<'a>(method: &Method, path: &'a str) -> Option<Route<'a>> {
    let is_post = method == Method::POST;
    let is_get = method == Method::GET;
    if is_post && let Some(endpoint) = body_endpoint(path) {
        return Some(Route::Body { endpoint, scope: None, model: None });
    }
    if let Some(rest) = path.strip_prefix(GOOGLE) {
        return google(method, rest);
    }
    // Google's SDKs say `v1` or `v1beta`; what follows the model's name tells it from other paths.
    if is_post && let Some(rest) = path.strip_prefix("/v1/models/") {
        return google_method(rest);
    }
    if let Some(rest) = path.strip_prefix(SCOPED) {
        return if is_post { scoped(rest) } else { None };
    }
    match path {
        "/v1/models" | "/api/tags" if is_get => return Some(Route::Models),
        "/api/version" if is_get => return Some(Route::OllamaVersion),
        "/healthz" if is_get => return Some(Route::Healthz),
        "/readyz" if is_get => return Some(Route::Readyz),
        _ => {}
    }
    // An id may hold slashes: `meta-llama/Llama-3`.
    if let Some(id) = path.strip_prefix("/v1/models/").filter(|id| is_get && !id.is_empty()) {
        return Some(Route::Model { id });
    }
    path.strip_prefix(STORED).and_then(|rest| stored_response(method, rest))
}

/// Whether the target of a request follows from what its head asks for.
pub fn is_header_routed(path_and_query: &str) -> bool {
    path_and_query.starts_with(STORED)
}

fn body_endpoint(path: &str) -> Option<Endpoint> {
    Some(match path {
        "/v1/chat/completions" => Endpoint::ChatCompletions,
        "/v1/responses" => Endpoint::Responses,
        "/v1/messages" => Endpoint::Messages,
        "/v1/messages/count_tokens" => Endpoint::CountTokens,
        "/api/chat" => Endpoint::OllamaChat,
        "/api/generate" => Endpoint::OllamaGenerate,
        "/v1/embeddings" => Endpoint::Embeddings,
        "/v1/completions" => Endpoint::Completions,
        "/v1/moderations" => Endpoint::Moderations,
        "/v1/rerank" => Endpoint::Rerank,
        "/v1/images/generations" => Endpoint::ImageGenerations,
        "/v1/images/edits" => Endpoint::ImageEdits,
        "/v1/images/variations" => Endpoint::ImageVariations,
        "/v1/audio/speech" => Endpoint::Speech,
        "/v1/audio/transcriptions" => Endpoint::Transcriptions,
        "/v1/audio/translations" => Endpoint::Translations,
        _ => return None,
    })
}

/// What follows `/v1beta/models`: nothing, a model, or a model and what it shall do.
fn google<'a>(method: &Method, rest: &'a str) -> Option<Route<'a>> {
    let is_get = method == Method::GET;
    if rest.is_empty() {
        return is_get.then_some(Route::Models);
    }
    let rest = rest.strip_prefix('/')?;
    if is_get {
        return (!rest.is_empty()).then_some(Route::Model { id: rest });
    }
    if method == Method::POST { google_method(rest) } else { None }
}

/// `{model}:{action}`
fn google_method(rest: &str) -> Option<Route<'_>> {
    let (model, action) = rest.rsplit_once(':')?;
    let endpoint = match action {
        "generateContent" => Endpoint::GenerateContent,
        "streamGenerateContent" => Endpoint::StreamGenerateContent,
        _ => return None,
    };
    (!model.is_empty()).then_some(Route::Body { endpoint, scope: None, model: Some(model) })
}

/// `{workspace}/{environment}/chat/completions` and its kin.
fn scoped(rest: &str) -> Option<Route<'_>> {
    let (workspace, rest) = rest.split_once('/')?;
    let (environment, rest) = rest.split_once('/')?;
    let endpoint = match rest {
        "chat/completions" => Endpoint::ChatCompletions,
        "responses" => Endpoint::Responses,
        "anthropic/messages" | "anthropic/v1/messages" => Endpoint::Messages,
        _ => return None,
    };
    let scope = Some(PathScope { workspace, environment });
    Some(Route::Body { endpoint, scope, model: None })
}

fn stored_response<'a>(method: &Method, rest: &'a str) -> Option<Route<'a>> {
    let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
    let is_served = match action {
        "" => method == Method::GET || method == Method::DELETE,
        "input_items" => method == Method::GET,
        "cancel" => method == Method::POST,
        _ => false,
    };
    (is_served && !id.is_empty()).then_some(Route::StoredResponse { id })
}

/// Whose error envelope a caller at `path` reads, served or not.
///
/// What the headers tell decides where several dialects share a path.
pub fn envelope(path: &str, told: Option<Envelope>) -> Envelope {
    let is_method = path.starts_with("/v1/models/")
        && (path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent"));
    if path.starts_with("/v1beta/") || is_method {
        return Envelope::Google;
    }
    if path.starts_with("/api/") {
        return Envelope::Ollama;
    }
    let is_messages = path.starts_with("/v1/messages")
        || path.strip_prefix(SCOPED).is_some_and(|rest| rest.contains("/anthropic/"));
    if is_messages {
        return Envelope::Anthropic;
    }
    let is_shared = path.starts_with("/v1/models") || !path.starts_with("/v1/");
    told.filter(|_| is_shared).unwrap_or(Envelope::OpenAi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scoped_path_names_workspace_and_environment() {
        let path = "/v1/completion/acme/production/anthropic/v1/messages";
        let scope = PathScope { workspace: "acme", environment: "production" };
        let expected =
            Route::Body { endpoint: Endpoint::Messages, scope: Some(scope), model: None };
        assert_eq!(route(&Method::POST, path), Some(expected));
        assert_eq!(route(&Method::POST, "/v1/completion/acme/chat/completions"), None);
        assert_eq!(route(&Method::GET, path), None);
    }

    #[test]
    fn model_of_google_is_in_the_path() {
        let body =
            |endpoint, model| Some(Route::Body { endpoint, scope: None, model: Some(model) });
        for (path, expected) in [
            ("m:generateContent", body(Endpoint::GenerateContent, "m")),
            ("a/b:c:streamGenerateContent", body(Endpoint::StreamGenerateContent, "a/b:c")),
            (":generateContent", None),
            ("m:embedContent", None),
            ("m", None),
        ] {
            for version in ["v1", "v1beta"] {
                let path = format!("/{version}/models/{path}");
                assert_eq!(route(&Method::POST, &path), expected, "{path}");
            }
        }
        assert_eq!(route(&Method::GET, "/v1beta/models"), Some(Route::Models));
        assert_eq!(route(&Method::GET, "/v1beta/models/m"), Some(Route::Model { id: "m" }));
        assert_eq!(route(&Method::GET, "/v1beta/modelsx"), None);
    }

    #[test]
    fn oddly_written_paths_are_not_served() {
        for path in [
            "//v1/chat/completions",
            "/v1//chat/completions",
            "/v1/chat/completions/",
            "/v1/chat%2fcompletions",
            "/V1/chat/completions",
            "/v1/chat/../chat/completions",
            "/v1/responses/",
            "/v1/models/",
            "/",
            "",
        ] {
            assert_eq!(route(&Method::POST, path), None, "{path}");
            assert_eq!(route(&Method::GET, path), None, "{path}");
        }
    }

    #[test]
    fn stored_responses_take_their_own_methods() {
        let is_served = |method, path| route(&method, path).is_some();
        assert!(is_served(Method::GET, "/v1/responses/resp_1"));
        assert!(is_served(Method::DELETE, "/v1/responses/resp_1"));
        assert!(is_served(Method::GET, "/v1/responses/resp_1/input_items"));
        assert!(is_served(Method::POST, "/v1/responses/resp_1/cancel"));
        assert!(!is_served(Method::POST, "/v1/responses/resp_1"));
        assert!(!is_served(Method::DELETE, "/v1/responses/resp_1/cancel"));
    }

    #[test]
    fn model_ids_may_hold_slashes() {
        let id = "meta-llama/Llama-3";
        let path = format!("/v1/models/{id}");
        assert_eq!(route(&Method::GET, &path), Some(Route::Model { id }));
    }

    #[test]
    fn envelope_follows_path_then_header() {
        assert_eq!(envelope("/v1/messages", None), Envelope::Anthropic);
        assert_eq!(envelope("/v1/completion/a/b/anthropic/messages", None), Envelope::Anthropic);
        assert_eq!(envelope("/v1/chat/completions", Some(Envelope::Anthropic)), Envelope::OpenAi);
        assert_eq!(envelope("/v1/models", Some(Envelope::Anthropic)), Envelope::Anthropic);
        assert_eq!(envelope("/nothing", Some(Envelope::Anthropic)), Envelope::Anthropic);
        assert_eq!(envelope("/nothing", None), Envelope::OpenAi);
        assert_eq!(envelope("/v1beta/models/m:nothing", None), Envelope::Google);
        assert_eq!(envelope("/api/nothing", None), Envelope::Ollama);
        assert_eq!(envelope("/v1/models/m:generateContent", None), Envelope::Google);
        assert_eq!(envelope("/v1/models", Some(Envelope::Google)), Envelope::Google);
    }
}
