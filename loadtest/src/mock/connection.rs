//! One connection: requests in, replies out, one after the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::net::TcpStream;

use super::ask::{Asked, Endpoint, model_in_path, model_in_start};
use super::behaviour::Behaviour;
use super::chat::Make;
use super::errors::{Envelope, Problem};
use super::http::{Head, Stop, Wire};
use super::journal::{End, Ticket};
use super::json::object;
use super::reply::{Body, ID_LEN, MARKER, Reply};
use super::send::{Next, send};
use super::shared::{Chosen, Shared};
use super::{admin, chat, messages, others, responses};

/// Serves a connection until one side ends it.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, number: u64) {
    let _open = shared.connection_opened();
    // Without it small events wait for acknowledgements; a failure only makes them late.
    drop(stream.set_nodelay(true));
    let mut connection =
        Connection { wire: Wire::new(stream), shared: &shared, number, kept: Kept::default() };
    loop {
        match connection.exchange().await {
            Ok(Next::Request) => {}
            Ok(Next::Close) => return connection.wire.close_gently().await,
            Err(Stop::Gone | Stop::Cut) => return,
            Err(Stop::Malformed) => {
                let wire = &mut connection.wire;
                wire.output.clear();
                wire.output.extend_from_slice(
                    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                );
                if wire.flush().await.is_ok() {
                    wire.close_gently().await;
                }
                return;
            }
        }
    }
}

struct Connection<'a> {
    wire: Wire,
    shared: &'a Shared,
    number: u64,
    kept: Kept,
}

/// Replies to the model that this connection last asked for: most clients ask again.
#[derive(Default)]
struct Kept {
    model: String,
    chosen: Option<Chosen>,
    replies: Vec<(ReplyKey, Arc<Reply>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReplyKey {
    endpoint: Endpoint,
    is_stream: bool,
    is_usage_included: bool,
    /// The status, when it is an error's.
    error_status: Option<u16>,
}

/// A request that has been read and understood.
struct Request<'a> {
    head: &'a Head,
    body: &'a Bytes,
    asked: Asked,
    endpoint: Endpoint,
    id: [u8; ID_LEN],
}

impl Request<'_> {
    fn model(&self) -> &str {
        self.asked.model.as_deref().unwrap_or_default()
    }

    fn id_text(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or(MARKER)
    }
}

impl Connection<'_> {
    async fn exchange(&mut self) -> Result<Next, Stop> {
        let Some(head) = self.wire.head().await? else { return Err(Stop::Gone) };
        if head.target().starts_with("/_mock/") {
            return self.administrate(&head).await;
        }
        let seq = self.shared.next_seq();
        let shared = self.shared;
        let mut ticket = shared.journal.begin(seq, self.number, &head);
        let answered = self.answer(&head, seq, &mut ticket).await;
        if answered == Err(Stop::Cut) {
            ticket.end = End::Cut;
        }
        drop(ticket);
        match answered? {
            Next::Request if head.is_close => Ok(Next::Close),
            next => Ok(next),
        }
    }

    async fn answer(
        &mut self,
        head: &Head,
        seq: u64,
        ticket: &mut Ticket<'_>,
    ) -> Result<Next, Stop> {
        let id = self.shared.id(seq);
        let mut early = None;
        let is_large = self.wire.is_body_outstanding(head);
        if is_large {
            early = self.before_body(head).await?;
            if let Some(behaviour) = early.as_ref().filter(|found| found.early_response_close) {
                let endpoint = endpoint_of(head).unwrap_or(Endpoint::Chat);
                let status = behaviour.status.unwrap_or(413);
                let reply = error_reply(endpoint, behaviour, status, &id);
                send(&mut self.wire, &reply, behaviour, &id, ticket).await?;
                ticket.end = End::Cut;
                return Ok(Next::Close);
            }
        }
        let pace = early.as_ref().and_then(|behaviour| behaviour.slow_read);
        let mut partial = BytesMut::new();
        let body = self.wire.body(head, pace.map(Duration::from_millis), &mut partial).await;
        ticket.body(body.as_ref().map_or(&partial, |body| body));
        let body = body?;
        if is_large {
            // A read that filled its buffer leaves the socket readable in the runtime's eyes, and
            // this task would serve its client again and again before all others.
            tokio::task::yield_now().await;
        }

        let request = match read(head, &body, id) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(&refusal, id, ticket).await,
        };
        ticket.model(request.model());
        let chosen = match early {
            Some(behaviour) => Chosen::once(behaviour),
            None => match self.choose(request.model()) {
                Ok(chosen) => chosen,
                Err(error) => {
                    let refusal = Refusal::new(request.endpoint.envelope(), 400, error.to_string());
                    return self.refuse(&refusal, id, ticket).await;
                }
            },
        };
        if let Some(raw) = &chosen.behaviour.raw {
            self.wire.output.extend_from_slice(raw);
            self.wire.flush().await?;
            return Err(Stop::Cut);
        }
        if let Some((endpoint, behaviour)) = self.mishap(&request, &chosen.behaviour) {
            let is_stream = request.asked.is_stream(endpoint);
            let error_status = self.error_status(&behaviour, is_stream);
            let is_usage_included = request.asked.is_usage_included();
            let key = ReplyKey { endpoint, is_stream, is_usage_included, error_status };
            let reply = self.make(&request, &behaviour, key, request.id_text());
            return send(&mut self.wire, &reply, &behaviour, &id, ticket).await;
        }
        let reply = self.reply(&request, &chosen);
        send(&mut self.wire, &reply, &chosen.behaviour, &id, ticket).await
    }

    /// The behaviour of a request that is one too many, or that the mix of errors falls on.
    fn mishap(&self, request: &Request<'_>, usual: &Behaviour) -> Option<(Endpoint, Behaviour)> {
        let faults = &self.shared.faults;
        let mut changed = None;
        if let Some(rate) = usual.rate_limit
            && let Err(seconds) = faults.take(request.model(), rate, std::time::Instant::now())
        {
            changed = Some(Behaviour {
                status: Some(429),
                error_rate: None,
                retry_after: usual.retry_after.or(Some(seconds)),
                ..usual.clone()
            });
        } else if let Some(mix) = &usual.error_mix
            && let Some(mishap) = faults.mishap(mix)
        {
            changed = Some(usual.with(mishap));
        }
        changed.map(|behaviour| (request.endpoint, behaviour))
    }

    /// What must be known before a large body is read. A behaviour that matters here is taken.
    async fn before_body(&mut self, head: &Head) -> Result<Option<Arc<Behaviour>>, Stop> {
        let from_list = self.shared.peek();
        let matters = |found: &Behaviour| found.early_response_close || found.slow_read.is_some();
        if head.is_continue_expected && !from_list.early_response_close {
            self.wire.send_continue().await?;
        }
        let start = if head.is_continue_expected && from_list.early_response_close {
            &[]
        } else {
            self.wire.body_start().await?
        };
        let of_model = model_in_start(start)
            .and_then(|model| Behaviour::of_model(&model).ok().flatten())
            .map(Arc::new);
        Ok(match of_model {
            Some(behaviour) => Some(behaviour).filter(|found| matters(found)),
            None if matters(&from_list) => Some(self.shared.take()),
            None => None,
        })
    }

    fn choose(&mut self, model: &str) -> Result<Chosen, super::behaviour::BehaviourError> {
        if let Some(behaviour) = self.shared.faults.over(model, &|| self.shared.peek()) {
            return Ok(Chosen::once(behaviour));
        }
        if let Some(chosen) = &self.kept.chosen
            && self.kept.model == model
            && self.shared.is_current(chosen)
        {
            return Ok(chosen.clone());
        }
        let chosen = self.shared.choose(model)?;
        self.kept.replies.clear();
        model.clone_into(&mut self.kept.model);
        self.kept.chosen = chosen.can_be_kept().then(|| chosen.clone());
        Ok(chosen)
    }

    fn reply(&mut self, request: &Request<'_>, chosen: &Chosen) -> Arc<Reply> {
        let behaviour = &chosen.behaviour;
        let is_stream = request.asked.is_stream(request.endpoint);
        let key = ReplyKey {
            endpoint: request.endpoint,
            is_stream,
            is_usage_included: request.asked.is_usage_included(),
            error_status: self.error_status(behaviour, is_stream),
        };
        if request.endpoint == Endpoint::Responses && request.asked.is_stored() {
            self.shared.store(request.id, request.model(), Arc::clone(behaviour));
        }
        let can_be_kept = chosen.can_be_kept()
            && request.endpoint.is_uniform()
            && behaviour.tools == 0
            && !behaviour.gzip
            && !behaviour.gzip_stream;
        if !can_be_kept {
            return Arc::new(self.make(request, behaviour, key, request.id_text()));
        }
        if let Some((_, reply)) = self.kept.replies.iter().find(|(kept, _)| *kept == key) {
            return Arc::clone(reply);
        }
        let reply = Arc::new(self.make(request, behaviour, key, MARKER));
        self.kept.replies.push((key, Arc::clone(&reply)));
        reply
    }

    /// The error status this request gets, if any.
    fn error_status(&self, behaviour: &Behaviour, is_stream: bool) -> Option<u16> {
        let Some(rate) = behaviour.error_rate else {
            // The error of a stream may be inside it.
            let is_inside = is_stream && behaviour.has_error_event();
            return behaviour.error_status().filter(|_| !is_inside);
        };
        self.shared.fails(rate).then(|| behaviour.error_status().unwrap_or(503))
    }

    fn make(&self, request: &Request<'_>, behaviour: &Behaviour, key: ReplyKey, id: &str) -> Reply {
        let endpoint = request.endpoint;
        let (status, body) = if behaviour.no_content {
            (204, Body::None)
        } else if behaviour.redirect.is_some() {
            (302, Body::None)
        } else if let Some(status) = key.error_status {
            let problem = Problem::of(behaviour, endpoint.envelope(), status);
            (status, Body::json(problem.body(endpoint.envelope(), id)))
        } else {
            let status = behaviour.status.filter(|status| *status < 400).unwrap_or(200);
            let tool = if behaviour.tools > 0 { first_tool(request.body) } else { None };
            let make = Make {
                behaviour,
                model: request.model(),
                id,
                tool: tool.as_deref().unwrap_or("get_weather"),
                is_usage_included: key.is_usage_included,
            };
            match endpoint {
                Endpoint::StoredResponse => self.stored(request),
                _ => (status, body_of(request, &make, key.is_stream)),
            }
        };
        let body = match &behaviour.body {
            Some(bytes) => Body::Whole { bytes: bytes.clone(), content_type: "application/json" },
            None => body,
        };
        Reply::new(behaviour, status, endpoint.request_id_header(), id, body)
    }

    /// What became of a response that this mock made.
    fn stored(&self, request: &Request<'_>) -> (u16, Body) {
        let path = path_of(request.head);
        let rest = path.split_once("/responses/").map_or("", |(_, rest)| rest);
        let (name, action) = rest.split_once('/').unwrap_or((rest, ""));
        let id = name.strip_prefix("resp_").unwrap_or_default();
        let Some((model, behaviour)) = self.shared.stored(id) else {
            let message = format!("Response with id '{name}' not found.");
            let problem = Problem::refused(Envelope::OpenAi, 404, &message);
            return (404, Body::json(problem.body(Envelope::OpenAi, id)));
        };
        let make = Make {
            behaviour: &behaviour,
            model: &model,
            id,
            tool: "get_weather",
            is_usage_included: false,
        };
        let body = match (request.head.method(), action) {
            ("GET", "") => responses::response(&make, "completed"),
            ("GET", "input_items") => responses::input_items(id),
            ("POST", "cancel") => responses::response(&make, "cancelled"),
            ("DELETE", "") => {
                self.shared.forget(id);
                object! { "id": name, "object": "response", "deleted": true }
            }
            _ => {
                let problem = Problem::refused(Envelope::OpenAi, 404, "Unknown request URL.");
                return (404, Body::json(problem.body(Envelope::OpenAi, id)));
            }
        };
        (200, Body::json(body))
    }

    async fn refuse(
        &mut self,
        refusal: &Refusal,
        id: [u8; ID_LEN],
        ticket: &mut Ticket<'_>,
    ) -> Result<Next, Stop> {
        let problem = Problem::refused(refusal.envelope, refusal.status, &refusal.message);
        let body = Body::json(problem.body(refusal.envelope, MARKER));
        let behaviour = Behaviour::default();
        let reply = Reply::new(&behaviour, refusal.status, "x-request-id", MARKER, body);
        send(&mut self.wire, &reply, &behaviour, &id, ticket).await
    }

    async fn administrate(&mut self, head: &Head) -> Result<Next, Stop> {
        if head.is_continue_expected && self.wire.is_body_outstanding(head) {
            self.wire.send_continue().await?;
        }
        let body = self.wire.body(head, None, &mut BytesMut::new()).await?;
        let (status, text) = admin::answer(self.shared, head.method(), path_of(head), &body);
        let whole = Body::Whole { bytes: text.into_bytes(), content_type: "application/json" };
        let reply = Reply::new(&Behaviour::default(), status, "x-request-id", "admin", whole);
        reply.head.put(&mut self.wire.output, &[b'0'; ID_LEN], usize::MAX);
        for piece in &reply.pieces {
            piece.text.put(&mut self.wire.output, &[b'0'; ID_LEN], usize::MAX);
        }
        self.wire.flush().await?;
        Ok(if head.is_close { Next::Close } else { Next::Request })
    }
}

/// Why the mock answers a request with an error of its own.
struct Refusal {
    envelope: Envelope,
    status: u16,
    message: String,
}

impl Refusal {
    fn new(envelope: Envelope, status: u16, message: impl Into<String>) -> Self {
        Self { envelope, status, message: message.into() }
    }
}

fn path_of(head: &Head) -> &str {
    let target = head.target();
    target.split_once('?').map_or(target, |(path, _)| path)
}

fn endpoint_of(head: &Head) -> Option<Endpoint> {
    Endpoint::find(head.method(), path_of(head))
}

fn read<'a>(head: &'a Head, body: &'a Bytes, id: [u8; ID_LEN]) -> Result<Request<'a>, Refusal> {
    let path = path_of(head);
    let Some(endpoint) = endpoint_of(head) else {
        let message = format!("Unknown request URL: {} {path}.", head.method());
        return Err(Refusal::new(Envelope::OpenAi, 404, message));
    };
    let refused = |message: String| Refusal::new(endpoint.envelope(), 400, message);
    let mut asked = if !endpoint.has_body() {
        Asked::default()
    } else if head.is_multipart() {
        Asked::of_form(body)
    } else {
        serde_json::from_slice(body)
            .map_err(|error| refused(format!("The body is not as expected: {error}.")))?
    };
    if asked.model.is_none() {
        asked.model = model_in_path(path);
    }
    if asked.model.is_none() && endpoint.is_uniform() {
        return Err(refused("You must provide a model parameter.".to_owned()));
    }
    Ok(Request { head, body, asked, endpoint, id })
}

fn error_reply(endpoint: Endpoint, behaviour: &Behaviour, status: u16, id: &[u8; ID_LEN]) -> Reply {
    let id = std::str::from_utf8(id).unwrap_or(MARKER);
    let problem = Problem::of(behaviour, endpoint.envelope(), status);
    let body = Body::json(problem.body(endpoint.envelope(), id));
    let closing = Behaviour { close: true, ..behaviour.clone() };
    Reply::new(&closing, status, endpoint.request_id_header(), id, body)
}

fn body_of(request: &Request<'_>, make: &Make<'_>, is_stream: bool) -> Body {
    let asked = || serde_json::from_slice(request.body).unwrap_or(Value::Null);
    match request.endpoint {
        Endpoint::Chat if is_stream => chat::chat_stream(make),
        Endpoint::Chat => chat::chat(make),
        Endpoint::Completions if is_stream => chat::completion_stream(make),
        Endpoint::Completions => chat::completion(make),
        Endpoint::Messages if is_stream => messages::message_stream(make),
        Endpoint::Messages => messages::message(make),
        Endpoint::Responses if is_stream => responses::response_stream(make),
        Endpoint::Responses => Body::json(responses::response(make, "completed")),
        Endpoint::StoredResponse => Body::None,
        Endpoint::CountTokens => others::count_tokens(make.behaviour),
        Endpoint::Embeddings => others::embeddings(make.behaviour, make.model, &asked()),
        Endpoint::Moderations => others::moderations(make.model, make.id),
        Endpoint::Rerank => others::rerank(make.behaviour, make.model, make.id, &asked()),
        Endpoint::Images => others::images(make.behaviour, &asked()),
        Endpoint::Speech => others::speech(make.behaviour),
        Endpoint::Transcription => others::transcription(make.behaviour),
        Endpoint::Models => {
            others::models(path_of(request.head), request.head.has("anthropic-version"))
        }
    }
}

/// Name of the first tool that a request offers.
fn first_tool(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let tool = body.get("tools")?.get(0)?;
    let function = tool.get("function").unwrap_or(tool);
    function.get("name")?.as_str().map(str::to_owned)
}
