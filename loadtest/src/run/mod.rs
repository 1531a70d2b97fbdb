//! A load generator: sends the requests of a scenario, checks every answer, and says what came out.
//!
//! With rates the loop is open: a request is due at its time, whatever became of those before, and
//! its latency counts from then. With concurrencies it is closed: a client asks again when it has
//! its answer.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

mod check;
mod client;
mod failure;
mod faults;
mod keys;
mod pacing;
mod pool;
mod progress;
mod report;
mod requests;
mod series;
mod server;
mod stats;
mod thread;
mod timer;
mod url;

pub use failure::{Class, Failure};
pub use progress::Progress;
pub use report::{Generator, Kind, Outcome, Percentiles, Report, Server, Summary, Verdict};
pub use series::Point;
pub use server::Usage;

use client::Connector;
use faults::Step;
use keys::KeyRing;
use pacing::{Arrivals, Turns};
use report::Gathered;
use requests::Requests;
use series::Looks;
use stats::{Shared, Window};
use thread::{Pace, Part, Run};
use url::Url;

use crate::scenario::{Protocol, Scenario};

/// What to run, and how to tell about it.
#[derive(Debug, Clone)]
pub struct Options {
    pub scenario: Scenario,
    /// Processes of the server, to look at.
    pub pids: Vec<u32>,
    pub progress: Progress,
}

/// Runs a scenario, on threads of its own, to its end.
pub fn run(options: &Options) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(running(options))
}

#[expect(clippy::disallowed_methods, reason = "a report has the date of the machine")]
async fn running(options: &Options) -> io::Result<Report> {
    let scenario = &options.scenario;
    let (stopper, stop) = watch::channel(false);
    let run = Arc::new(prepare(scenario, stop)?);
    let mock = mock_url(scenario)?;
    let started_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let cpu_before = server::thread_cpu();
    let windows: Vec<_> =
        (0..scenario.threads).map(|_| Arc::new(Shared::new(scenario.mix.len()))).collect();
    let (alive, ended) = mpsc::channel(1);
    let threads = start(scenario, &run, &windows, &alive);
    drop(alive);

    let mut watcher = Watcher::new(options, Arc::clone(&run), windows);
    let is_interrupted = watcher.watch(mock.as_ref(), ended, stopper).await?;
    for thread in threads {
        let joined = thread.join();
        joined.map_err(|_| io::Error::other("a thread of the generator panicked"))??;
    }
    let window = watcher.total;
    let requests = window.counted_sum().requests() + window.uncounted.requests();
    let own = server::thread_cpu().saturating_sub(cpu_before);
    let cpu = own + Duration::from_nanos(run.cpu_ns.load(Relaxed));
    let generator = Generator {
        cpu_us_per_request: micros_per(cpu, requests),
        lag_us: None,
        clients: run.clients.load(Relaxed),
        waiting_most: run.waiting_most.load(Relaxed),
    };
    let gathered = Gathered {
        scenario: scenario.clone(),
        url: scenario.target.url.clone().unwrap_or_default(),
        started_at: started_at.as_secs(),
        server: server_of(&watcher.looks, requests),
        window,
        generator,
        series: watcher.points,
        is_interrupted,
    };
    Ok(gathered.report())
}

fn prepare(scenario: &Scenario, stop: watch::Receiver<bool>) -> io::Result<Run> {
    let text = scenario.target.url.as_deref();
    let url = Url::parse(text.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "no target: give --url, or target.url in the scenario",
        )
    })?)?;
    let requests = Requests::new(scenario, &url, KeyRing::read(&scenario.keys)?)?;
    let target = &scenario.target;
    let connector = Connector::new(url, target.protocol, target.ca_file.as_deref())?;
    let pace = if scenario.is_open() {
        Pace::Open(Mutex::new(Arrivals::new(&scenario.phases, scenario.seed)))
    } else {
        Pace::Closed(Mutex::new(Turns::new(&scenario.phases)))
    };
    let phases = scenario.phases.iter().map(|phase| (phase.counted, phase.think_ms.clone()));
    Ok(Run {
        requests,
        connector: Arc::new(connector),
        protocol: target.protocol,
        h2_connections: target.h2_connections.unwrap_or(1).max(1),
        pace,
        phases: phases.collect(),
        time_max: scenario.time_max(),
        seed: scenario.seed,
        started: Instant::now(),
        in_flight: AtomicUsize::new(0),
        clients: AtomicUsize::new(0),
        waiting_most: AtomicUsize::new(0),
        cpu_ns: AtomicU64::new(0),
        stop,
    })
}

fn mock_url(scenario: &Scenario) -> io::Result<Option<Url>> {
    match (&scenario.target.mock_url, scenario.faults.is_empty()) {
        (_, true) => Ok(None),
        (Some(url), false) => Url::parse(url).map(Some),
        (None, false) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the scenario has faults: give --mock-url, where the mock takes them",
        )),
    }
}

type Joined = std::thread::JoinHandle<io::Result<()>>;

fn start(
    scenario: &Scenario,
    run: &Arc<Run>,
    windows: &[Arc<Shared>],
    alive: &mpsc::Sender<()>,
) -> Vec<Joined> {
    let clients_n = clients_n(scenario);
    let threads_n = windows.len();
    let mut first = 0;
    let start = |(index, window): (usize, &Arc<Shared>)| {
        // As even as it goes.
        let n = (clients_n + index) / threads_n;
        let part = Part { run: Arc::clone(run), window: Arc::clone(window), clients_n: n, first };
        first += n;
        let alive = alive.clone();
        std::thread::spawn(move || {
            let result = part.work();
            drop(alive);
            result
        })
    };
    windows.iter().enumerate().map(start).collect()
}

/// Clients at once, over all threads.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the check")]
fn clients_n(scenario: &Scenario) -> usize {
    if scenario.is_open() {
        return scenario.connections;
    }
    let amounts = scenario.phases.iter().filter_map(|phase| phase.concurrency);
    amounts.map(|ramp| ramp.max().ceil() as usize).max().unwrap_or(1).max(1)
}

/// Looks at a run from outside while it goes on.
struct Watcher<'a> {
    options: &'a Options,
    run: Arc<Run>,
    windows: Vec<Arc<Shared>>,
    total: Window,
    points: Vec<Point>,
    /// When, in seconds, and what the server used then.
    looks: Vec<(f64, Usage)>,
    seen_until: Duration,
}

impl<'a> Watcher<'a> {
    fn new(options: &'a Options, run: Arc<Run>, windows: Vec<Arc<Shared>>) -> Self {
        let total = Window::new(options.scenario.mix.len());
        let mut watcher = Self {
            options,
            run,
            windows,
            total,
            points: Vec::new(),
            looks: Vec::new(),
            seen_until: Duration::ZERO,
        };
        watcher.look(Duration::ZERO);
        watcher
    }

    /// Until the threads have ended; says whether somebody has ended them.
    async fn watch(
        &mut self,
        mock: Option<&Url>,
        mut ended: mpsc::Receiver<()>,
        stopper: watch::Sender<bool>,
    ) -> io::Result<bool> {
        let width = Duration::from_secs_f64(series::width_s(&self.options.scenario.phases));
        let started = self.run.started;
        let mut ticks = interval_at((started + width).into(), width);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut steps = faults::steps(&self.options.scenario.faults);
        let mut is_interrupted = false;
        loop {
            let due = steps.first().map(|step: &Step| started + step.at);
            let fault = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = ended.recv() => break,
                _ = ticks.tick() => self.point(),
                () = fault => self.take(mock, steps.remove(0)).await?,
                _ = tokio::signal::ctrl_c() => {
                    is_interrupted = true;
                    // Threads that have ended already need not be told.
                    let _all_ended = stopper.send(true);
                }
            }
        }
        // A run that ends in the middle of a fault leaves none behind.
        if let Some(last) = steps.pop() {
            self.take(mock, last).await?;
        }
        self.point();
        self.options.progress.end();
        Ok(is_interrupted)
    }

    async fn take(&self, mock: Option<&Url>, step: Step) -> io::Result<()> {
        if let Some(mock) = mock {
            self.options.progress.note(&step.text);
            faults::take(mock, &step).await?;
        }
        Ok(())
    }

    fn look(&mut self, now: Duration) {
        if !self.options.pids.is_empty() {
            self.looks.push((now.as_secs_f64(), server::look(&self.options.pids)));
        }
    }

    fn point(&mut self) {
        let now = self.run.started.elapsed();
        let mut window = Window::new(self.total.counted.len());
        for shared in &self.windows {
            window.add(&shared.take());
        }
        self.look(now);
        let looks = match self.looks.as_slice() {
            [.., (_, before), (_, after)] => Some(Looks { before: *before, after: *after }),
            _ => None,
        };
        let ends = (self.seen_until, now);
        let phases = &self.options.scenario.phases;
        let phase = series::phase_at(phases, now.as_secs_f64());
        let in_flight = self.run.in_flight.load(Relaxed);
        let point = Point::of(&window, ends, phase, in_flight, looks.as_ref());
        self.options.progress.tell(self.points.len(), &point);
        self.points.push(point);
        self.total.add(&window);
        self.seen_until = now;
    }
}

fn server_of(looks: &[(f64, Usage)], requests: u64) -> Option<Server> {
    let ((_, before), (_, after)) = (*looks.first()?, *looks.last()?);
    let memory: Vec<_> = looks.iter().map(|(at_s, usage)| (*at_s, usage.rss_kib)).collect();
    Some(Server {
        before,
        after,
        rss_kib_max: memory.iter().map(|(_, kib)| *kib).max().unwrap_or(0),
        rss_mib_per_hour: series::slope(&memory),
        cpu_us_per_request: micros_per(after.cpu.saturating_sub(before.cpu), requests),
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests fit")]
fn micros_per(time: Duration, n: u64) -> f64 {
    if n == 0 { 0.0 } else { (time.as_secs_f64() * 1e7 / n as f64).round() / 10.0 }
}

/// The protocol's name, as it stands in reports.
impl std::fmt::Display for Protocol {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::H2 => "HTTP/2",
        })
    }
}
