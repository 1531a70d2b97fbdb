//! One thread of the generator: its clients, and what tells them when to ask.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::check::Seen;
use super::client::{Client, Connector, SharedH2};
use super::failure::Failure;
use super::pacing::{Arrivals, Turn, Turns};
use super::pool::{Given, Job, Pool, Slot};
use super::requests::Requests;
use super::server::thread_cpu;
use super::stats::{Outcome, Shared as Window};
use super::timer::Timer;
use crate::distribution::Distribution;
use crate::scenario::Protocol;

/// What all threads share.
pub(super) struct Run {
    pub(super) requests: Requests,
    pub(super) connector: Arc<Connector>,
    pub(super) protocol: Protocol,
    pub(super) h2_connections: usize,
    pub(super) pace: Pace,
    /// Which phases count, and what clients do between requests.
    pub(super) phases: Vec<(bool, Option<Distribution>)>,
    pub(super) time_max: Duration,
    pub(super) seed: u64,
    pub(super) started: Instant,
    pub(super) in_flight: AtomicUsize,
    pub(super) clients: AtomicUsize,
    pub(super) waiting_most: AtomicUsize,
    /// CPU time of the threads that have ended, in nanoseconds.
    pub(super) cpu_ns: AtomicU64,
    /// Becomes true when the run is to end at once.
    pub(super) stop: watch::Receiver<bool>,
}

pub(super) enum Pace {
    Open(Mutex<Arrivals>),
    Closed(Mutex<Turns>),
}

/// A thread's part of a run.
pub(super) struct Part {
    pub(super) run: Arc<Run>,
    pub(super) window: Arc<Window>,
    /// Clients of this thread, at most.
    pub(super) clients_n: usize,
    /// Number of the first of them.
    pub(super) first: usize,
}

/// A client with what it needs to ask.
struct Asker {
    run: Arc<Run>,
    window: Arc<Window>,
    client: Client,
    seen: Seen,
    random: fastrand::Rng,
}

/// Arrivals that are late are handed out in bunches, so that clients get their turn between.
const BUNCH: usize = 16;

impl Part {
    pub(super) fn work(&self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            let mut stop = self.run.stop.clone();
            let working = async {
                match &self.run.pace {
                    Pace::Open(arrivals) => self.open(arrivals).await,
                    Pace::Closed(_) => {
                        self.closed().await;
                        Ok(())
                    }
                }
            };
            tokio::select! {
                result = working => result,
                // A sender that is gone asks for nothing.
                Ok(_) = stop.wait_for(|is_set| *is_set) => Ok(()),
            }
        });
        let cpu = u64::try_from(thread_cpu().as_nanos()).unwrap_or(u64::MAX);
        self.run.cpu_ns.fetch_add(cpu, Relaxed);
        result
    }

    async fn open(&self, arrivals: &Mutex<Arrivals>) -> io::Result<()> {
        let clients = self.clients();
        let pool = Arc::new(Pool::new(self.clients_n));
        let timer = Timer::new()?;
        let mut tasks = JoinSet::new();
        let mut bunch = 0;
        loop {
            let arrival = arrivals.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(arrival) = arrival else { break };
            let job = Job { phase: arrival.phase, due: self.run.started + arrival.due };
            if Instant::now() < job.due {
                timer.until(job.due).await?;
                bunch = 0;
            } else {
                bunch += 1;
                if bunch % BUNCH == 0 {
                    tokio::task::yield_now().await;
                }
            }
            let lag = job.due.elapsed();
            match pool.give(job) {
                Given::Taken => self.window.lag(lag),
                Given::NeedsClient => {
                    self.window.lag(lag);
                    let asker = self.asker(&clients, pool.most().0);
                    tasks.spawn(asker.serve(Arc::clone(&pool), job));
                }
                Given::Waits => {}
                Given::Refused => self.refuse(job),
            }
        }
        pool.close();
        tasks.join_all().await;
        self.run.waiting_most.fetch_max(pool.most().1, Relaxed);
        Ok(())
    }

    async fn closed(&self) {
        let clients = self.clients();
        let mut tasks = JoinSet::new();
        for index in 0..self.clients_n {
            tasks.spawn(self.asker(&clients, index).take_turns(self.first + index));
        }
        tasks.join_all().await;
    }

    fn refuse(&self, job: Job) {
        let seen = Seen::default();
        self.window.record(Outcome {
            kind: 0,
            is_counted: self.run.phases.get(job.phase).is_none_or(|phase| phase.0),
            due: job.due,
            ended: Instant::now(),
            result: Err(Failure::NotSent),
            seen: &seen,
            pause: None,
        });
    }

    /// The connections that h2's streams share.
    fn clients(&self) -> Vec<Arc<SharedH2>> {
        let shared = || Arc::new(SharedH2::new(Arc::clone(&self.run.connector)));
        match self.run.protocol {
            Protocol::Http1 => Vec::new(),
            Protocol::H2 => (0..self.run.h2_connections).map(|_| shared()).collect(),
        }
    }

    fn asker(&self, clients: &[Arc<SharedH2>], index: usize) -> Asker {
        self.run.clients.fetch_add(1, Relaxed);
        let client = match clients.get(index % clients.len().max(1)) {
            Some(shared) => Client::h2(Arc::clone(shared)),
            None => Client::http1(Arc::clone(&self.run.connector)),
        };
        let number = (self.first + index) as u64;
        Asker {
            run: Arc::clone(&self.run),
            window: Arc::clone(&self.window),
            client,
            seen: Seen::default(),
            random: fastrand::Rng::with_seed(self.run.seed ^ (number << 32)),
        }
    }
}

impl Asker {
    /// Serves an open loop's jobs, `job` first.
    async fn serve(mut self, pool: Arc<Pool>, job: Job) {
        let slot = Arc::new(Slot::default());
        let mut next = Some(job);
        while let Some(job) = next {
            self.ask(job).await;
            next = pool.next(&slot).await;
        }
    }

    /// Takes the turns of a closed loop's client.
    async fn take_turns(mut self, number: usize) {
        let run = Arc::clone(&self.run);
        let Pace::Closed(turns) = &run.pace else { return };
        loop {
            let now = run.started.elapsed();
            let turn = turns.lock().unwrap_or_else(PoisonError::into_inner).turn(number, now);
            match turn {
                Turn::Done => return,
                Turn::Wait(until) => tokio::time::sleep_until((run.started + until).into()).await,
                Turn::Ask { phase } => {
                    self.ask(Job { phase, due: Instant::now() }).await;
                    let think = run.phases.get(phase).and_then(|phase| phase.1.as_ref());
                    if let Some(think) = think {
                        let ms = think.draw(&mut self.random).clamp(0.0, 86_400_000.0);
                        tokio::time::sleep(Duration::from_secs_f64(ms / 1000.0)).await;
                    }
                }
            }
        }
    }

    async fn ask(&mut self, job: Job) {
        let run = &*self.run;
        let ask = run.requests.draw(&mut self.random);
        run.in_flight.fetch_add(1, Relaxed);
        let result = self.client.exchange(&run.requests, &ask, run.time_max, &mut self.seen).await;
        run.in_flight.fetch_sub(1, Relaxed);
        self.window.record(Outcome {
            kind: ask.kind,
            is_counted: run.phases.get(job.phase).is_none_or(|phase| phase.0),
            due: job.due,
            ended: Instant::now(),
            result,
            seen: &self.seen,
            pause: run.requests.expected(&ask).pause,
        });
    }
}
