//! A load generator: sends one kind of request over a fixed number of connections, and checks
//! every answer.
//!
//! Without a rate the loop is closed: a connection sends its next request when the answer to the
//! last one is whole. With a rate requests are due at fixed times; one that could not start in
//! time, because all connections were busy, is timed from when it was due.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

mod client;
mod report;
mod url;
mod workload;

pub use report::{Heading, Percentiles, Report};
pub use workload::Workload;

use client::Client;
use report::Counts;
use url::Url;
use workload::{Expected, request};

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `http://host:port`, with a path where it is not `/v1`.
    pub url: String,
    /// Goes out as `authorization: Bearer`.
    pub key: Option<String>,
    pub workload: Workload,
    pub model: String,
    /// Connections, over all threads.
    pub concurrency: usize,
    pub requests: u64,
    /// Requests before those that count.
    pub warmup: u64,
    pub threads: usize,
    pub headers: Vec<(String, String)>,
    /// Requests a second, for an open loop.
    pub rate: Option<f64>,
    /// How long one request may take.
    pub time_max: Duration,
}

/// What the connections of a run share.
struct Shared {
    request: Vec<u8>,
    expected: Expected,
    rate: Option<f64>,
    time_max: Duration,
    warmup: Tickets,
    counted: Tickets,
}

/// Hands out the requests of a phase.
struct Tickets {
    next: AtomicU64,
    n: u64,
}

impl Tickets {
    fn new(n: u64) -> Self {
        Self { next: AtomicU64::new(0), n }
    }

    fn take(&self) -> Option<u64> {
        Some(self.next.fetch_add(1, Relaxed)).filter(|ticket| *ticket < self.n)
    }
}

/// Runs a plan, on threads of its own, to its end.
pub fn run(plan: &Plan) -> io::Result<Report> {
    let url = Url::parse(&plan.url)?;
    let shared = Arc::new(Shared {
        request: request(plan, &url),
        expected: Expected::of(plan.workload),
        rate: plan.rate,
        time_max: plan.time_max,
        warmup: Tickets::new(plan.warmup),
        counted: Tickets::new(plan.requests),
    });
    let threads_n = plan.threads.clamp(1, plan.concurrency.max(1));
    let barrier = Arc::new(Barrier::new(threads_n));
    let threads: Vec<_> = (0..threads_n)
        .map(|index| {
            // As even as it goes.
            let clients_n = (plan.concurrency.max(1) + index) / threads_n;
            let clients = (0..clients_n).map(|_| Client::new(url.address)).collect();
            let (shared, barrier) = (Arc::clone(&shared), Arc::clone(&barrier));
            std::thread::spawn(move || thread(&shared, clients, &barrier))
        })
        .collect();

    let mut counts = Counts::new();
    let mut elapsed = Duration::ZERO;
    for thread in threads {
        let (counted, took) =
            thread.join().map_err(|_| io::Error::other("a thread of the generator panicked"))??;
        counts.add(&counted);
        elapsed = elapsed.max(took);
    }
    let heading = Heading {
        workload: plan.workload.name(),
        url: plan.url.clone(),
        model: plan.model.clone(),
        concurrency: plan.concurrency,
        rate: plan.rate,
    };
    let mut report = counts.report(heading, elapsed);
    if plan.workload != Workload::Paced {
        report.gap_added_us = None;
    }
    Ok(report)
}

fn thread(
    shared: &Arc<Shared>,
    clients: Vec<Client>,
    barrier: &Barrier,
) -> io::Result<(Counts, Duration)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // Every thread comes here, so that none waits for one that failed.
    let warmed = runtime.map(|runtime| {
        let (clients, _) = runtime.block_on(phase(shared, clients, Phase::Warmup));
        (runtime, clients)
    });
    barrier.wait();
    let (runtime, clients) = warmed?;
    let started = Instant::now();
    let (_, counts) = runtime.block_on(phase(shared, clients, Phase::Counted { started }));
    Ok((counts, started.elapsed()))
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Warmup,
    Counted { started: Instant },
}

async fn phase(shared: &Arc<Shared>, clients: Vec<Client>, phase: Phase) -> (Vec<Client>, Counts) {
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(work(Arc::clone(shared), client, phase));
    }
    let mut counts = Counts::new();
    let mut clients = Vec::new();
    for (client, counted) in tasks.join_all().await {
        counts.add(&counted);
        clients.push(client);
    }
    (clients, counts)
}

/// Sends requests on one connection until there are no more tickets.
async fn work(shared: Arc<Shared>, mut client: Client, phase: Phase) -> (Client, Counts) {
    let mut counts = Counts::new();
    let tickets = match phase {
        Phase::Warmup => &shared.warmup,
        Phase::Counted { .. } => &shared.counted,
    };
    while let Some(ticket) = tickets.take() {
        let started = match (phase, shared.rate) {
            (Phase::Counted { started }, Some(rate)) => start_of(started, ticket, rate).await,
            (Phase::Warmup | Phase::Counted { .. }, _) => Instant::now(),
        };
        match client.exchange(&shared.request, &shared.expected, shared.time_max).await {
            Ok(()) => {
                let first = client.seen.first.map(|first| first - started);
                counts.success(started.elapsed(), first, &client.seen);
            }
            Err(failure) => counts.failure(failure),
        }
    }
    (client, counts)
}

/// Waits until a request is due, and returns the time it counts from.
#[expect(clippy::cast_precision_loss, reason = "counts of requests fit")]
async fn start_of(started: Instant, ticket: u64, rate: f64) -> Instant {
    let due = started + Duration::from_secs_f64(ticket as f64 / rate);
    if Instant::now() >= due {
        return due;
    }
    tokio::time::sleep_until(due.into()).await;
    // A timer wakes up to a millisecond late: that is no latency of the other side.
    Instant::now()
}
