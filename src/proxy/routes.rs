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
    },
    /// The target follows from the id in the path.
    StoredResponse {
        id: &'a str,
    },
    Models,
    Model {
        id: &'a str,
    },
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

/// The route of a request, or `None` for a path that is not served. `path` is without a query.
pub fn route<'a>(method: &Method, path: &'a str) -> Option<Route<'a>> {
    let is_post = method == Method::POST;
    let is_get = method == Method::GET;
    if is_post && let Some(endpoint) = body_endpoint(path) {
        return Some(Route::Body { endpoint, scope: None });
    }
    if let Some(rest) = path.strip_prefix(SCOPED) {
        return if is_post { scoped(rest) } else { None };
    }
    match path {
        "/v1/models" if is_get => return Some(Route::Models),
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
    Some(Route::Body { endpoint, scope: Some(PathScope { workspace, environment }) })
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
pub fn envelope(path: &str, sends_anthropic_version: bool) -> Envelope {
    let is_messages = path.starts_with("/v1/messages")
        || path.strip_prefix(SCOPED).is_some_and(|rest| rest.contains("/anthropic/"));
    let is_shared = path.starts_with("/v1/models") || !path.starts_with("/v1/");
    if is_messages || (is_shared && sends_anthropic_version) {
        Envelope::Anthropic
    } else {
        Envelope::OpenAi
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scoped_path_names_workspace_and_environment() {
        let path = "/v1/completion/acme/production/anthropic/v1/messages";
        let scope = PathScope { workspace: "acme", environment: "production" };
        let expected = Route::Body { endpoint: Endpoint::Messages, scope: Some(scope) };
        assert_eq!(route(&Method::POST, path), Some(expected));
        assert_eq!(route(&Method::POST, "/v1/completion/acme/chat/completions"), None);
        assert_eq!(route(&Method::GET, path), None);
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
        assert_eq!(envelope("/v1/messages", false), Envelope::Anthropic);
        assert_eq!(envelope("/v1/completion/a/b/anthropic/messages", false), Envelope::Anthropic);
        assert_eq!(envelope("/v1/chat/completions", true), Envelope::OpenAi);
        assert_eq!(envelope("/v1/models", true), Envelope::Anthropic);
        assert_eq!(envelope("/nothing", true), Envelope::Anthropic);
        assert_eq!(envelope("/nothing", false), Envelope::OpenAi);
    }
}
