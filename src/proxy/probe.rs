//! What an operator asks of a connection: does the provider answer, and which models has it?
//!
//! By the same guard, addresses and credential as requests, on a connection of its own, and bounded in
//! time and bytes. What a provider says is shown without the credential, whatever it says.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pingora_core::connectors::TransportConnector;
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::control::snapshot::Connection;
use crate::dialect::{Dialect, Dialects};
use crate::percent::encoded;
use crate::provider::Provider;
use crate::provider::aws::Signed;
use crate::proxy::attempt::of_azure_deployment;
use crate::proxy::fetch::{NoAnswer, Whole, whole};
use crate::proxy::{headers, upstream};
use crate::route::failure::Failure;
use crate::telemetry::redact::redact_keys;

/// From the lookup of the name to the last byte.
pub const TIME_MAX: Duration = Duration::from_secs(8);
const CONNECT_MAX: Duration = Duration::from_secs(4);
/// The longest lists of models take a tenth of it.
const BODY_BYTES_MAX: usize = 8 << 20;
/// What is shown of an error.
const MESSAGE_CHARS_MAX: usize = 500;
/// What is shown of a list.
const MODELS_MAX: usize = 5_000;
const NAME_CHARS_MAX: usize = 256;
/// The fewest that every provider takes.
const ANSWER_TOKENS: u32 = 16;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// The list of models: it costs nothing, and needs a credential that is right.
    Models,
    /// A few tokens of this model.
    Answer { model: &'a str },
}

/// A provider's answer.
#[derive(Debug)]
pub struct Probed {
    pub status: u16,
    /// Until its head had come.
    pub latency: Duration,
    body: Bytes,
}

/// Why there is no answer that says something. `Display` is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub class: &'static str,
    pub message: String,
    /// There when a provider answered.
    pub status: Option<u16>,
    pub latency: Option<Duration>,
}

/// A request, up to its framing.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    method: &'static str,
    path: String,
    body: Bytes,
}

/// Asks, and reads the whole answer.
pub async fn ask(
    connector: &TransportConnector,
    connection: &Connection,
    (ask, time_max): (Ask<'_>, Duration),
) -> Result<Probed, Refused> {
    let question = question(connection, ask)?;
    let asked = timeout(time_max, exchange(connector, connection, &question)).await;
    let probed = asked.unwrap_or_else(|_elapsed| {
        Err(refused("timeout", "the provider did not answer in time"))
    })?;
    match probed.status {
        200..300 => Ok(probed),
        300..400 => Err(Refused {
            status: Some(probed.status),
            latency: Some(probed.latency),
            ..refused("redirect", "the provider redirects elsewhere, which is never followed")
        }),
        status => Err(Refused {
            class: "provider_error",
            message: probed.message(connection),
            status: Some(status),
            latency: Some(probed.latency),
        }),
    }
}

async fn exchange(
    connector: &TransportConnector,
    connection: &Connection,
    question: &Question,
) -> Result<Probed, Refused> {
    let began = Instant::now();
    let link = upstream::connect(connector, connection, true, (began, CONNECT_MAX)).await;
    let link = link.map_err(cannot_connect)?;
    let head = head(connection, question);
    let answered = whole(link, &head, &question.body, BODY_BYTES_MAX).await;
    let Whole { status, body, head_at } = answered.map_err(no_answer)?;
    Ok(Probed { status, latency: head_at.saturating_duration_since(began), body })
}

fn no_answer(error: NoAnswer) -> Refused {
    match error {
        NoAnswer::Malformed => refused("bad_answer", "what came back is no answer of HTTP"),
        NoAnswer::TooLarge => refused("too_large", "the answer is larger than 8 MiB"),
        NoAnswer::BrokeOff => refused("closed", "the answer broke off"),
        _ => refused("closed", "the provider closed the connection"),
    }
}

fn refused(class: &'static str, message: &str) -> Refused {
    Refused { class, message: message.to_owned(), status: None, latency: None }
}

fn cannot_connect(failure: Failure) -> Refused {
    match failure {
        Failure::Dns => refused("dns", "the host name could not be resolved"),
        Failure::Forbidden => refused(
            "forbidden_network",
            "the host's address is in a network that connections may not reach (upstream.allow_networks)",
        ),
        Failure::ConnectTimeout => refused("connect_timeout", "the host did not answer in time"),
        Failure::Tls => refused("tls", "the host's certificate was refused, or TLS failed"),
        _ => refused("connect", "the host refused the connection, or cannot be reached"),
    }
}

/// The head of a question, built from nothing.
fn head(connection: &Connection, question: &Question) -> BytesMut {
    let mut head =
        BytesMut::from(format!("{} {} HTTP/1.1\r\n", question.method, question.path).as_str());
    head.extend_from_slice(&connection.head.0);
    if let Some(signer) = &connection.signer {
        let Question { method, path, body } = question;
        let unix_s = Clock::default().unix_micros() / 1_000_000;
        let body = std::slice::from_ref(body);
        signer.lines(&Signed { method, path, body, unix_s }, &mut head);
    }
    headers::line("accept", b"application/json", &mut head);
    headers::line("accept-encoding", b"identity", &mut head);
    headers::line("user-agent", headers::AGENT.as_bytes(), &mut head);
    headers::line("connection", b"close", &mut head);
    if connection.provider == Provider::Anthropic {
        headers::line("anthropic-version", b"2023-06-01", &mut head);
    }
    if question.method == "POST" {
        headers::line("content-type", b"application/json", &mut head);
        headers::line("content-length", question.body.len().to_string().as_bytes(), &mut head);
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn question(connection: &Connection, ask: Ask<'_>) -> Result<Question, Refused> {
    let base = &*connection.base_url.path;
    match ask {
        Ask::Models => {
            let path = models_path(connection).ok_or_else(|| {
                refused("unsupported", "this provider has no list of models; name a `model`")
            })?;
            Ok(Question { method: "GET", path, body: Bytes::new() })
        }
        Ask::Answer { model } => {
            let (path, body) = smallest(connection, model).ok_or_else(|| {
                refused("unsupported", "this provider speaks no dialect in which a model is asked")
            })?;
            let path = format!("{base}/{path}");
            Ok(Question { method: "POST", path, body: body.to_string().into() })
        }
    }
}

fn models_path(connection: &Connection) -> Option<String> {
    let base = &*connection.base_url.path;
    Some(match connection.provider {
        Provider::Bedrock | Provider::Vertex => return None,
        Provider::Anthropic => format!("{base}/models?limit=1000"),
        Provider::Gemini => format!("{base}/models?pageSize=1000"),
        // Its second version has no list of its own.
        Provider::Cohere => {
            format!("{}/v1/models?page_size=1000", base.strip_suffix("/v2").unwrap_or(base))
        }
        _ => match &connection.api_version {
            Some(version) => format!("{base}/models?api-version={version}"),
            None => format!("{base}/models"),
        },
    })
}

/// The smallest request in a dialect that the connection speaks: path and body.
fn smallest(connection: &Connection, model: &str) -> Option<(String, Json)> {
    // One that is disabled speaks none, and can be tried out all the same.
    let is_off = connection.dialects == Dialects::NONE;
    let dialects = if is_off { connection.provider.dialects() } else { connection.dialects };
    let speaks = |dialect| dialects.contains(dialect);
    let messages = json!([{ "role": "user", "content": "ping" }]);
    if speaks(Dialect::Chat) {
        // What newer models of OpenAI refuse is all that others know.
        let is_new = matches!(connection.provider, Provider::OpenAi | Provider::AzureOpenAi);
        let limit = if is_new { "max_completion_tokens" } else { "max_tokens" };
        let path = "chat/completions";
        let path = match &connection.api_version {
            Some(version) => of_azure_deployment(model, path, version),
            None => path.to_owned(),
        };
        Some((path, json!({ "model": model, "messages": messages, limit: ANSWER_TOKENS })))
    } else if speaks(Dialect::Messages) {
        let body = json!({ "model": model, "messages": messages, "max_tokens": ANSWER_TOKENS });
        Some(("messages".to_owned(), body))
    } else if speaks(Dialect::Gemini) {
        let body = json!({
            "contents": [{ "role": "user", "parts": [{ "text": "ping" }] }],
            "generationConfig": { "maxOutputTokens": ANSWER_TOKENS },
        });
        Some((format!("models/{}:generateContent", encoded(model, "@:")), body))
    } else if speaks(Dialect::Converse) {
        let body = json!({
            "messages": [{ "role": "user", "content": [{ "text": "ping" }] }],
            "inferenceConfig": { "maxTokens": ANSWER_TOKENS },
        });
        Some((format!("model/{}/converse", encoded(model, "")), body))
    } else if speaks(Dialect::Cohere) {
        let body = json!({ "model": model, "messages": messages, "max_tokens": ANSWER_TOKENS });
        Some(("chat".to_owned(), body))
    } else if speaks(Dialect::Rerank) {
        let body = json!({ "model": model, "query": "ping", "documents": ["pong"] });
        Some(("rerank".to_owned(), body))
    } else {
        None
    }
}

impl Probed {
    /// The models of a list, whichever way the provider writes it.
    pub fn models(&self, connection: &Connection) -> Result<Vec<Json>, Refused> {
        let unreadable = || Refused {
            status: Some(self.status),
            latency: Some(self.latency),
            ..refused("bad_answer", "the answer is no list of models")
        };
        let answer: Json = serde_json::from_slice(&self.body).map_err(|_| unreadable())?;
        let list = ["", "/data", "/models"]
            .into_iter()
            .find_map(|place| answer.pointer(place)?.as_array())
            .ok_or_else(unreadable)?;
        let one = |item: &Json| {
            let text = |field: &str| item.get(field).and_then(Json::as_str);
            let id = ["id", "name"].into_iter().find_map(text)?;
            let id = shown(id.strip_prefix("models/").unwrap_or(id), connection, NAME_CHARS_MAX);
            let name = ["display_name", "displayName"].into_iter().find_map(text);
            let name = name.map(|name| shown(name, connection, NAME_CHARS_MAX));
            Some(json!({ "id": id, "name": name }))
        };
        Ok(list.iter().filter_map(one).take(MODELS_MAX).collect())
    }

    /// What a provider says of its refusal.
    fn message(&self, connection: &Connection) -> String {
        let answer: Json = serde_json::from_slice(&self.body).unwrap_or_default();
        let places = ["/error/message", "/message", "/error", "/detail"];
        let text = places.into_iter().find_map(|place| answer.pointer(place)?.as_str());
        let text = text.map(str::to_owned);
        let text = text.unwrap_or_else(|| String::from_utf8_lossy(&self.body).into_owned());
        shown(&text, connection, MESSAGE_CHARS_MAX)
    }
}

/// A provider's text without the credential and without control characters, cut to a length.
fn shown(text: &str, connection: &Connection, chars_max: usize) -> String {
    let text = match credential(connection) {
        Some(credential) => text.replace(credential, "[REDACTED]"),
        None => text.to_owned(),
    };
    let text = redact_keys(&text);
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(chars_max).collect()
}

/// The credential in the lines that carry it.
fn credential(connection: &Connection) -> Option<&str> {
    let lines = std::str::from_utf8(&connection.head.0).ok()?;
    let start = connection.provider.credential_header().start();
    lines.split("\r\n").find_map(|line| line.strip_prefix(start)).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::resources::Auth;
    use crate::config::server::IpNetwork;
    use crate::config::url::base_url;
    use crate::control::live::ConnectionLive;
    use crate::control::snapshot::HeadLines;
    use crate::id::ConnectionId;
    use crate::net::resolve::{Lookup, Resolver, ResolverConfig, STALE_MAX};
    use crate::telemetry::metrics::ProviderLabel;

    const CREDENTIAL: &str = "a+b/credential";

    fn connection(provider: &str, url: &str, api_version: Option<&str>) -> Connection {
        let provider = Provider::from_name(provider).unwrap();
        let start = provider.credential_header().start();
        Connection {
            id: ConnectionId::of_path(&["c"]),
            name: "c".into(),
            provider,
            provider_label: ProviderLabel::from(provider),
            dialects: provider.dialects(),
            auth: Auth::ApiKey,
            base_url: base_url(url).unwrap(),
            api_version: api_version.map(Box::from),
            head: HeadLines(format!("host: h\r\n{start}{CREDENTIAL}\r\n").into()),
            upstream_name: Resolver::built_in("127.0.0.1:9".parse().unwrap()),
            signer: None,
            health: None,
            limits: None,
            live: Arc::new(ConnectionLive::default()),
        }
    }

    fn probed(body: &str) -> Probed {
        Probed {
            status: 200,
            latency: Duration::ZERO,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn each_provider_is_asked_in_its_own_way() {
        let azure = "https://n.openai.azure.com/openai";
        let mut table = String::new();
        for (provider, url, version) in [
            ("openai", "https://api.openai.com/v1", None),
            ("anthropic", "https://api.anthropic.com/v1", None),
            ("gemini", "https://g.example/v1beta", None),
            ("cohere", "https://api.cohere.com/v2", None),
            ("azure_openai", azure, Some("2024-10-21")),
            ("mistral", "https://api.mistral.ai/v1", None),
            ("bedrock", "https://b.example", None),
        ] {
            let connection = connection(provider, url, version);
            for ask in [Ask::Models, Ask::Answer { model: "m/1" }] {
                match question(&connection, ask) {
                    Ok(Question { method, path, body }) => {
                        let body = String::from_utf8(body.to_vec()).unwrap();
                        let line = format!("{provider} {method} {path} {body}");
                        table += &format!("{}\n", line.trim_end());
                    }
                    Err(error) => table += &format!("{provider} {error}\n"),
                }
            }
        }
        insta::assert_snapshot!(table, @r#"
        openai GET /v1/models
        openai POST /v1/chat/completions {"model":"m/1","messages":[{"role":"user","content":"ping"}],"max_completion_tokens":16}
        anthropic GET /v1/models?limit=1000
        anthropic POST /v1/messages {"model":"m/1","messages":[{"role":"user","content":"ping"}],"max_tokens":16}
        gemini GET /v1beta/models?pageSize=1000
        gemini POST /v1beta/models/m%2F1:generateContent {"contents":[{"role":"user","parts":[{"text":"ping"}]}],"generationConfig":{"maxOutputTokens":16}}
        cohere GET /v1/models?page_size=1000
        cohere POST /v2/chat {"model":"m/1","messages":[{"role":"user","content":"ping"}],"max_tokens":16}
        azure_openai GET /openai/models?api-version=2024-10-21
        azure_openai POST /openai/deployments/m%2F1/chat/completions?api-version=2024-10-21 {"model":"m/1","messages":[{"role":"user","content":"ping"}],"max_completion_tokens":16}
        mistral GET /v1/models
        mistral POST /v1/chat/completions {"model":"m/1","messages":[{"role":"user","content":"ping"}],"max_tokens":16}
        bedrock this provider has no list of models; name a `model`
        bedrock POST /model/m%2F1/converse {"messages":[{"role":"user","content":[{"text":"ping"}]}],"inferenceConfig":{"maxTokens":16}}
        "#);
    }

    #[test]
    fn lists_of_all_shapes_are_read_and_show_no_credential() {
        let connection = connection("openai", "https://api.openai.com/v1", None);
        let ids = |body: &str| {
            let models = probed(body).models(&connection)?;
            Ok::<_, Refused>(
                models.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
            )
        };
        for body in [
            r#"{"object":"list","data":[{"id":"a"},{"id":"b"},{"no":1}]}"#,
            r#"{"models":[{"name":"models/a","displayName":"A"},{"name":"b"}]}"#,
            r#"[{"id":"a"},{"id":"b"}]"#,
        ] {
            assert_eq!(ids(body).unwrap(), ["a", "b"], "{body}");
        }
        let echoed = format!(r#"{{"data":[{{"id":"x{CREDENTIAL}y"}}]}}"#);
        assert_eq!(ids(&echoed).unwrap(), ["x[REDACTED]y"]);
        for body in ["", "{}", "<html>", r#"{"data":{}}"#] {
            assert_eq!(ids(body).unwrap_err().class, "bad_answer", "{body}");
        }
    }

    #[test]
    fn message_of_a_provider_is_cut_clean_and_without_the_credential() {
        let connection = connection("openai", "https://api.openai.com/v1", None);
        for body in [
            format!(r#"{{"error":{{"message":"Incorrect API key: {CREDENTIAL}\u001b[31m"}}}}"#),
            format!("Incorrect API key: {CREDENTIAL}\u{1b}[31m"),
            format!(r#"{{"detail":"Incorrect API key: {CREDENTIAL}\n[31m"}}"#),
        ] {
            assert_eq!(probed(&body).message(&connection), "Incorrect API key: [REDACTED] [31m");
        }
        let long = format!("{}{CREDENTIAL}", "x".repeat(MESSAGE_CHARS_MAX - 5));
        assert!(!probed(&long).message(&connection).contains("a+b"));
    }

    /// Answers everything with `answer`, and counts the connections.
    async fn provider(ip: &str, answer: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let n = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&n);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let _ = stream.read(&mut head).await.unwrap();
                    if answer.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    while stream.write_all(answer).await.is_ok() && answer == FLOOD {}
                });
            }
        });
        (address, n)
    }

    const FLOOD: &[u8] = &[b'x'; 65_536];

    async fn ask_at(address: SocketAddr, time_max: Duration) -> Result<Probed, Refused> {
        let mut connection = connection("openai", &format!("http://{address}/v1"), None);
        connection.upstream_name = Resolver::built_in(address);
        ask(&TransportConnector::new(None), &connection, (Ask::Models, time_max)).await
    }

    #[tokio::test]
    async fn whatever_a_provider_does_the_probe_ends() {
        let flood = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'x'; BODY_BYTES_MAX + 1]].concat();
        for (answer, class) in [
            (&b""[..], "timeout"),
            (FLOOD, "bad_answer"),
            (flood.leak(), "too_large"),
            (b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", "redirect"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "closed"),
            (b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nno", "provider_error"),
        ] {
            let (address, _) = provider("127.0.0.1", answer).await;
            // Where nothing else ends it, it is the time.
            let time_max = Duration::from_millis(if answer.is_empty() { 100 } else { 20_000 });
            let refused = ask_at(address, time_max).await.unwrap_err();
            assert_eq!(refused.class, class, "{refused:?}");
        }
    }

    /// Answers by turns with an address that may be reached, one that may not, and both.
    struct Turns {
        good: SocketAddr,
        bad: SocketAddr,
        n: Arc<AtomicUsize>,
    }

    #[async_trait::async_trait]
    impl Lookup for Turns {
        async fn lookup(&self, _host: &str, _port: u16) -> std::io::Result<Vec<SocketAddr>> {
            Ok(match self.n.fetch_add(1, Ordering::Relaxed) % 3 {
                0 => vec![self.good],
                1 => vec![self.bad],
                _ => vec![self.bad, self.good],
            })
        }
    }

    #[tokio::test]
    async fn name_server_that_changes_its_answer_leads_nowhere_else() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"data\":[]}";
        let (good, n_good) = provider("127.0.0.2", answer).await;
        let (bad, n_bad) = provider("127.0.0.1", answer).await;
        let n_lookups = Arc::new(AtomicUsize::new(0));
        let turns = Turns { good, bad, n: Arc::clone(&n_lookups) };
        let config = ResolverConfig {
            refresh: Duration::from_millis(2),
            stale_max: STALE_MAX,
            allow_networks: vec![IpNetwork::of(good.ip())],
        };
        let resolver = Arc::new(Resolver::new(turns, config, Arc::default()));
        let (_shutdown, signal) = tokio::sync::watch::channel(false);
        tokio::spawn(Arc::clone(&resolver).run(signal));
        let mut connection = connection("openai", "http://rebind.example/v1", None);
        connection.upstream_name = resolver.handle("rebind.example", 80);
        let connector = TransportConnector::new(None);
        let (mut n_answers, mut n_refused) = (0, 0);
        while n_lookups.load(Ordering::Relaxed) < 200 || n_answers < 10 || n_refused < 10 {
            match ask(&connector, &connection, (Ask::Models, TIME_MAX)).await {
                Ok(_) => n_answers += 1,
                Err(error) => {
                    assert_eq!(error.class, "forbidden_network");
                    n_refused += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        assert_eq!(n_bad.load(Ordering::Relaxed), 0);
        assert_eq!(n_good.load(Ordering::Relaxed), n_answers);
    }
}
