//! What the mock will answer, for those who compare.

use super::ask::Endpoint;
use super::behaviour::{Behaviour, BehaviourError};
use super::chat::{self, Make};
use super::reply::{Body, ID_LEN, MARKER, Part};
use super::{messages, others, responses};

/// Length of the id that each answer has in one or more places.
pub const SCRIPT_ID_LEN: usize = ID_LEN;

/// The body of an answer to a request that offers no tools.
#[derive(Debug, Clone)]
pub struct Script {
    pub bytes: Vec<u8>,
    /// Where the request's id stands, all over the same one.
    pub id_at: Vec<usize>,
    /// Of a stream: where each event ends, and whether it is a content event.
    pub events: Vec<(usize, bool)>,
}

impl Script {
    /// The whole answer at `path` (its end counts) to a request for `model`, with the behaviour
    /// that the name carries. `None` where the answer depends on more than that.
    pub fn whole(path: &str, model: &str) -> Result<Option<Self>, BehaviourError> {
        Self::made(path, model, |endpoint, make| match endpoint {
            Endpoint::Chat => Some(chat::chat(make)),
            Endpoint::Completions => Some(chat::completion(make)),
            Endpoint::Messages => Some(messages::message(make)),
            Endpoint::Responses => Some(Body::json(responses::response(make, "completed"))),
            Endpoint::Embeddings => {
                let asked = serde_json::json!({ "input": "one text" });
                Some(others::embeddings(make.behaviour, make.model, &asked))
            }
            _ => None,
        })
    }

    /// The same for a request that asks for a stream, with its usage where that must be asked for.
    pub fn stream(path: &str, model: &str) -> Result<Option<Self>, BehaviourError> {
        Self::made(path, model, |endpoint, make| match endpoint {
            Endpoint::Chat => Some(chat::chat_stream(make)),
            Endpoint::Completions => Some(chat::completion_stream(make)),
            Endpoint::Messages => Some(messages::message_stream(make)),
            Endpoint::Responses => Some(responses::response_stream(make)),
            _ => None,
        })
    }

    fn made(
        path: &str,
        model: &str,
        body: impl FnOnce(Endpoint, &Make<'_>) -> Option<Body>,
    ) -> Result<Option<Self>, BehaviourError> {
        let behaviour = Behaviour::of_model(model)?.unwrap_or_default();
        let make = Make {
            behaviour: &behaviour,
            model,
            id: MARKER,
            tool: "get_weather",
            is_usage_included: true,
        };
        let body = Endpoint::find("POST", path).and_then(|endpoint| body(endpoint, &make));
        Ok(body.map(Self::of_body))
    }

    fn of_body(body: Body) -> Self {
        let mut script = Self { bytes: Vec::new(), id_at: Vec::new(), events: Vec::new() };
        match body {
            Body::Whole { bytes, .. } => script.bytes = bytes,
            Body::Stream(parts) => {
                for (bytes, part) in parts {
                    script.bytes.extend(bytes);
                    script.events.push((script.bytes.len(), part == Part::Content));
                }
            }
            Body::None => {}
        }
        script.id_at = memchr::memmem::find_iter(&script.bytes, MARKER).collect();
        script
    }
}
