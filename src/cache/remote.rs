//! Answers kept in Redis or Valkey, for all nodes.
//!
//! ```text
//! sluice:cache:{ENVIRONMENT}:e:KEY          an answer: a line that says what it is, then its body
//! sluice:cache:{ENVIRONMENT}:p              the mark of the environment's last purge
//! sluice:cache:{ENVIRONMENT}:p:DEPLOYMENT   the mark of the deployment's
//! ```
//!
//! An answer counts while both marks are what they were when it was asked for. All keys of an
//! environment have one hash tag. A connection of its own: large answers shall not hold up limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Entry;
use super::key::Key;
use super::replay::Form;
use crate::id::{EnvironmentId, TargetId};
use crate::secret::Secret;
use crate::telemetry::metrics::Metrics;
use crate::usage::record::Tokens;

const BEAT: Duration = Duration::from_millis(500);
/// Off the path of a request.
const CALL_MAX: Duration = Duration::from_secs(1);
/// So many lookups in a row that waited in vain, and the store counts as down.
const FAILURES_MAX: u32 = 3;
/// Answers on their way to the store; further ones are not kept.
const WRITES_MAX: usize = 256;

/// The marks of the last purges: of the environment, and of the deployment.
pub type Marks = [String; 2];

/// An answer and the two marks.
type Reply = (Option<Vec<u8>>, Option<String>, Option<String>);

/// The store.
pub struct Remote {
    client: Client,
    /// A request waits so long.
    timeout: Duration,
    /// `None` while the store counts as down.
    link: ArcSwapOption<MultiplexedConnection>,
    failures: AtomicU32,
    writes: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Where an answer is.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    pub environment: EnvironmentId,
    pub deployment: &'a Arc<str>,
}

#[derive(Debug, thiserror::Error)]
#[error("the store of the response cache cannot be used: {0}")]
pub struct RemoteError(&'static str);

impl std::fmt::Debug for Remote {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Remote") // The address may hold a password.
    }
}

impl Of<'_> {
    fn answer(&self, key: &Key) -> String {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sluice:cache:{{{}}}:e:{key}", self.environment.0.simple())
    }

    fn marks(&self) -> [String; 2] {
        let of_environment = format!("sluice:cache:{{{}}}:p", self.environment.0.simple());
        let of_deployment = format!("{of_environment}:{}", self.deployment);
        [of_environment, of_deployment]
    }
}

impl Remote {
    /// The store at `url`; [`Self::run`] must be run.
    pub fn new(
        url: &Secret,
        timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, RemoteError> {
        let client =
            Client::open(url.expose()).map_err(|_| RemoteError("`shared.redis` is no address"))?;
        Ok(Arc::new(Self {
            client,
            timeout,
            link: ArcSwapOption::empty(),
            failures: AtomicU32::new(0),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            metrics,
        }))
    }

    /// Connects, and looks whether the store answers, until the task is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            match timeout(CALL_MAX, self.beat()).await {
                Ok(Ok(Some(link))) => {
                    self.failures.store(0, Ordering::Relaxed);
                    self.link.store(Some(Arc::new(link)));
                    self.metrics.cache_store_up.set(1);
                    tracing::info!("the store of the response cache is up");
                }
                Ok(Ok(None)) => {}
                Ok(Err(_)) => self.down("the connection broke"),
                Err(_elapsed) => self.down("it does not answer in time"),
            }
        }
    }

    /// A new connection, if there was none.
    async fn beat(&self) -> RedisResult<Option<MultiplexedConnection>> {
        let known = self.link.load_full();
        let is_new = known.is_none();
        let mut link = if let Some(link) = known {
            (*link).clone()
        } else {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CALL_MAX))
                .set_response_timeout(None);
            self.client.get_multiplexed_async_connection_with_config(&config).await?
        };
        redis::cmd("PING").query_async::<()>(&mut link).await?;
        Ok(is_new.then_some(link))
    }

    fn down(&self, why: &str) {
        if self.link.swap(None).is_some() {
            tracing::error!(why, "the store of the response cache is down; nothing is kept");
            self.metrics.cache_store_up.set(0);
        }
    }

    /// The answer of `key`, if there is one, and the marks of now. `None` when the store cannot say.
    pub async fn get(&self, key: &Key, of: Of<'_>) -> Option<(Option<Entry>, Marks)> {
        let mut link = (*self.link.load_full()?).clone();
        let [of_environment, of_deployment] = of.marks();
        let mut ask = redis::cmd("MGET");
        ask.arg(of.answer(key)).arg(of_environment).arg(of_deployment);
        let reply = timeout(self.timeout, ask.query_async::<Reply>(&mut link)).await;
        match reply {
            Ok(Ok((bytes, environment, deployment))) => {
                self.failures.store(0, Ordering::Relaxed);
                let marks = [environment.unwrap_or_default(), deployment.unwrap_or_default()];
                let entry = bytes.and_then(|bytes| decoded(bytes, of, &marks));
                Some((entry, marks))
            }
            Ok(Err(_)) => {
                self.down("a lookup failed");
                None
            }
            Err(_elapsed) => {
                if FAILURES_MAX <= self.failures.fetch_add(1, Ordering::Relaxed) + 1 {
                    self.down("it does not answer in time");
                }
                None
            }
        }
    }

    /// Keeps an answer that was asked for at `marks`. Nobody waits for it.
    pub fn put(self: &Arc<Self>, key: &Key, entry: &Entry, marks: &Marks) {
        let Some(link) = self.link.load_full() else { return };
        let Ok(permit) = Arc::clone(&self.writes).try_acquire_owned() else { return };
        let of = Of { environment: entry.environment, deployment: &entry.deployment };
        let ttl_ms = entry.expires_us.saturating_sub(entry.stored_us) / 1_000;
        let mut set = redis::cmd("SET");
        set.arg(of.answer(key)).arg(encoded(entry, marks)).arg("PX").arg(ttl_ms.max(1));
        tokio::spawn(async move {
            let mut link = (*link).clone();
            let kept = timeout(CALL_MAX, set.query_async::<()>(&mut link)).await;
            if !matches!(kept, Ok(Ok(()))) {
                tracing::debug!("an answer could not be kept");
            }
            drop(permit);
        });
    }

    /// From here on nothing counts that was kept of an environment, or of one deployment of it.
    pub async fn purge(
        &self,
        environment: EnvironmentId,
        deployment: Option<&str>,
    ) -> Result<(), RemoteError> {
        let link = self.link.load_full().ok_or(RemoteError("it is down"))?;
        let name: Arc<str> = deployment.unwrap_or_default().into();
        let [of_environment, of_deployment] = Of { environment, deployment: &name }.marks();
        let key = if deployment.is_some() { of_deployment } else { of_environment };
        let mark = format!("{:016x}", rand::random::<u64>());
        let mut set = redis::cmd("SET");
        set.arg(key).arg(mark);
        match timeout(CALL_MAX, set.query_async::<()>(&mut (*link).clone())).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(RemoteError("it did not answer")),
        }
    }
}

fn encoded(entry: &Entry, marks: &Marks) -> Vec<u8> {
    let tokens = &entry.tokens;
    let (is_events, has_usage) = match entry.form {
        Form::Json => (false, false),
        Form::Events { has_usage } => (true, has_usage),
    };
    let head = json!({
        "v": 1,
        "target": entry.target.0,
        "stored": entry.stored_us,
        "expires": entry.expires_us,
        "events": is_events,
        "usage": has_usage,
        "cost": entry.cost_nanousd,
        "marks": marks,
        "tokens": [
            tokens.input_uncached, tokens.input_cache_read, tokens.input_cache_write_5m,
            tokens.input_cache_write_1h, tokens.output, tokens.reasoning, tokens.audio_in,
            tokens.audio_out,
        ],
    });
    let mut bytes = head.to_string().into_bytes();
    bytes.push(b'\n');
    bytes.extend_from_slice(&entry.body);
    bytes
}

/// `None` for what is not of this version, or from before a purge.
fn decoded(bytes: Vec<u8>, of: Of<'_>, marks: &Marks) -> Option<Entry> {
    let bytes = Bytes::from(bytes);
    let end = memchr::memchr(b'\n', &bytes)?;
    let head: Value = serde_json::from_slice(bytes.get(..end)?).ok()?;
    let flag = |name: &str| head.get(name).and_then(Value::as_bool);
    let is_of_now = head.get("marks")? == &json!(marks) && head.get("v")? == 1;
    if !is_of_now {
        return None;
    }
    let mut tokens = head.get("tokens")?.as_array()?.iter().map(Value::as_u64);
    let mut next = || tokens.next().flatten();
    Some(Entry {
        environment: of.environment,
        deployment: Arc::clone(of.deployment),
        target: TargetId(head.get("target")?.as_str()?.parse().ok()?),
        stored_us: head.get("stored")?.as_i64()?,
        expires_us: head.get("expires")?.as_i64()?,
        form: if flag("events")? { Form::Events { has_usage: flag("usage")? } } else { Form::Json },
        tokens: Tokens {
            input_uncached: next(),
            input_cache_read: next(),
            input_cache_write_5m: next(),
            input_cache_write_1h: next(),
            output: next(),
            reasoning: next(),
            audio_in: next(),
            audio_out: next(),
        },
        cost_nanousd: head.get("cost")?.as_u64()?,
        body: bytes.slice(end + 1..),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn answer_comes_back_as_it_was_kept(
            body in prop::collection::vec(any::<u8>(), 0..100),
            (stored, cost, output) in any::<(i64, u64, Option<u64>)>(),
            is_events in any::<bool>(),
            mark in "[0-9a-f]{0,4}",
        ) {
            let entry = Entry {
                environment: EnvironmentId(uuid::Uuid::from_u128(7)),
                deployment: "chat".into(),
                target: TargetId(uuid::Uuid::from_u128(9)),
                stored_us: stored,
                expires_us: stored.saturating_add(5),
                form: if is_events { Form::Events { has_usage: true } } else { Form::Json },
                body: Bytes::from(body),
                tokens: Tokens { output, ..Tokens::default() },
                cost_nanousd: cost,
            };
            let of = Of { environment: entry.environment, deployment: &entry.deployment };
            let marks = [mark.clone(), String::new()];
            let bytes = encoded(&entry, &marks);
            prop_assert_eq!(decoded(bytes.clone(), of, &marks), Some(entry.clone()));
            let purged = [format!("{mark}x"), String::new()];
            prop_assert_eq!(decoded(bytes, of, &purged), None);
        }
    }
}
