//! What keeps the shared store: connects, tells that this node lives, renews leases, settles.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, Pipeline, RedisResult, ServerErrorKind, pipe};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::hold::Part;
use super::{Link, Shared, broken, lock, millis};
use crate::limit::{Metric, Period};

/// The keeper may wait longer than a request.
const CALL_MAX: Duration = Duration::from_secs(1);
const BEAT: Duration = Duration::from_millis(500);
/// A node that has been silent so long is gone.
const NODE_SILENT_MAX: Duration = Duration::from_secs(5);
/// Settlements that go together.
const BATCH_MAX: usize = 256;
/// Leases that are renewed together.
const RENEW_MAX: usize = 1_000;
/// Not of any workspace.
const NODES: &str = "sluice:nodes";

/// What the keeper is told.
pub(super) enum Order {
    Settle { lease: u64, parts: Vec<Part> },
    Flush(oneshot::Sender<()>),
}

/// Must be run.
pub struct Keeper {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Order>,
}

impl Keeper {
    pub(super) const fn new(shared: Arc<Shared>, queue: mpsc::Receiver<Order>) -> Self {
        Self { shared, queue }
    }

    /// Runs until its task is dropped.
    pub async fn run(mut self) {
        let mut beats = interval(BEAT.min(self.shared.lease / 3));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut orders = Vec::with_capacity(BATCH_MAX);
        loop {
            let is_up = self.shared.is_up();
            tokio::select! {
                biased;
                _ = beats.tick() => self.beat().await,
                n = self.queue.recv_many(&mut orders, BATCH_MAX), if is_up => {
                    if n == 0 {
                        return;
                    }
                    self.carry_out(&mut orders).await;
                }
            }
        }
    }

    /// Connects if need be, says that this node lives, and renews what it holds.
    async fn beat(&self) {
        let known = self.shared.link.load_full().map(|link| link.0.clone());
        let is_new = known.is_none();
        let beaten = timeout(CALL_MAX, async {
            let mut connection = match known {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            self.live(&mut connection).await?;
            self.renew(&mut connection).await?;
            RedisResult::Ok(connection)
        });
        match beaten.await {
            Ok(Ok(connection)) if is_new => self.shared.up(Link(connection)),
            Ok(Ok(_connection)) => {}
            Ok(Err(error)) => self.shared.down(broken(&error)),
            Err(_elapsed) => self.shared.down("it does not answer in time"),
        }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CALL_MAX))
            .set_response_timeout(None);
        let mut connection =
            self.shared.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.shared.reserve.load_async(&mut connection).await?;
        self.shared.settle.load_async(&mut connection).await?;
        Ok(connection)
    }

    /// Reads the store's clock and the number of living nodes.
    async fn live(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let before = self.shared.clock.unix_micros();
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(connection).await?;
        let here = i64::midpoint(before, self.shared.clock.unix_micros()) / 1_000;
        let there = seconds * 1_000 + micros / 1_000;
        self.shared.ahead_ms.store(there - here, Ordering::Relaxed);
        let silent = there - i64::try_from(NODE_SILENT_MAX.as_millis()).unwrap_or(i64::MAX);
        let (nodes,): (u64,) = pipe()
            .zadd(NODES, &self.shared.node, there)
            .ignore()
            .zrembyscore(NODES, "-inf", silent)
            .ignore()
            .zcard(NODES)
            .query_async(connection)
            .await?;
        self.shared.nodes.store(nodes, Ordering::Relaxed);
        Ok(())
    }

    async fn renew(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let held: Vec<(u64, Arc<[String]>)> = {
            let leases = lock(&self.shared.leases);
            leases.iter().map(|(lease, keys)| (*lease, Arc::clone(keys))).collect()
        };
        let lease = i64::try_from(millis(self.shared.lease)).unwrap_or(i64::MAX);
        let until = self.shared.store_time().saturating_add(lease);
        for some in held.chunks(RENEW_MAX) {
            let mut batch = pipe();
            for (lease, keys) in some {
                let member = self.shared.member(*lease);
                for key in keys.iter() {
                    // XX: one that has been given back meanwhile must not come to life again.
                    batch.cmd("ZADD").arg(key).arg("XX").arg(until).arg(&member).ignore();
                    batch.pexpire(key, lease_ms_twice(self.shared.lease)).ignore();
                }
            }
            batch.query_async::<()>(connection).await?;
        }
        Ok(())
    }

    /// Settles all of `orders` in one round trip. What may have arrived is not sent again: counting
    /// too much for a while is better than counting too little.
    async fn carry_out(&self, orders: &mut Vec<Order>) {
        let mut batch = Pipeline::new();
        let mut waiting = Vec::new();
        let mut n_settled = 0;
        for order in orders.drain(..) {
            match order {
                Order::Settle { lease, parts } => {
                    self.add(&mut batch, lease, &parts);
                    n_settled += 1;
                }
                Order::Flush(done) => waiting.push(done),
            }
        }
        if 0 < n_settled && !self.send(&batch).await {
            self.shared.metrics.shared_settlements_lost.add(n_settled);
        }
        for done in waiting {
            if done.send(()).is_err() {
                tracing::debug!("nobody waits for the settlements any more");
            }
        }
    }

    fn add(&self, batch: &mut Pipeline, lease: u64, parts: &[Part]) {
        let mut call = self.shared.settle.prepare_invoke();
        call.arg(self.shared.member(lease));
        for part in parts {
            let kind = match (part.metric, part.period) {
                (Metric::Concurrent, _) => "slot",
                (_, Period::Second) => "1000",
                (_, Period::Minute) => "60000",
                _ => "0",
            };
            call.key(&part.key).arg(kind).arg(part.window).arg(part.reserved).arg(part.used);
        }
        batch.invoke_script(&call).ignore();
    }

    async fn send(&self, batch: &Pipeline) -> bool {
        let Some(link) = self.shared.link.load_full() else { return false };
        let mut connection = link.0.clone();
        for _ in 0..2 {
            match timeout(CALL_MAX, batch.query_async::<()>(&mut connection)).await {
                Ok(Ok(())) => return true,
                // Somebody has emptied the store of its scripts; nothing has been done.
                Ok(Err(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    let loaded = self.shared.settle.load_async(&mut connection);
                    if timeout(CALL_MAX, loaded).await.is_err() {
                        return false;
                    }
                }
                Ok(Err(error)) => {
                    self.shared.down(broken(&error));
                    return false;
                }
                Err(_elapsed) => {
                    self.shared.down("it does not answer in time");
                    return false;
                }
            }
        }
        false
    }
}

fn lease_ms_twice(lease: Duration) -> i64 {
    i64::try_from(millis(lease).saturating_mul(2)).unwrap_or(i64::MAX)
}
