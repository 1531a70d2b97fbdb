//! The way out: not ready, then no more connections, then as soon as nothing is in flight.

use std::time::{Duration, Instant};

use crate::app::{App, USAGE_CLOSE_MAX};

/// How long streams have to say that they are cut.
const LAST_WORDS_MAX: Duration = Duration::from_millis(500);
/// Dropping tasks takes no time unless one of them is computing.
const TASKS_END_MAX: Duration = Duration::from_secs(2);

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Requests that were cut at the end of the drain time.
    pub cut: usize,
}

impl App {
    /// Drains and stops. Returns when nothing is left, at the latest after the configured times.
    pub async fn stop(mut self) -> Drained {
        let config = self.config.drain.clone();
        self.flow.start_draining(Instant::now() + config.delay + config.time_max);
        tracing::info!(in_flight = self.flow.in_flight(), "draining");
        tokio::time::sleep(config.delay).await;
        self.shutdown.send_replace(true);
        let idle = tokio::time::timeout(config.time_max + LAST_WORDS_MAX, self.flow.idle()).await;
        let cut = self.flow.n_cut() + if idle.is_ok() { 0 } else { self.flow.in_flight() };
        if 0 < cut {
            tracing::warn!(cut, "requests cut at the end of the drain time");
        }
        // First the requests end, which makes their rows, then the rows are written.
        end(self.data.take()).await;
        self.limits.close();
        if let Some(shared) = &self.shared {
            shared.flush().await;
        }
        self.usage.close(USAGE_CLOSE_MAX).await;
        shut(self.control.take());
        if let Some(log) = &self.log {
            log.flush(Duration::from_secs(1));
        }
        Drained { cut }
    }

    /// Stops without waiting for requests; rows that are there are still written.
    pub async fn stop_at_once(mut self) {
        self.shutdown.send_replace(true);
        end(self.data.take()).await;
        self.limits.close();
        if let Some(shared) = &self.shared {
            shared.flush().await;
        }
        self.usage.close(Duration::from_secs(2)).await;
    }
}

/// An `App` may be dropped where blocking is not allowed.
impl Drop for App {
    fn drop(&mut self) {
        shut(self.data.take());
        shut(self.control.take());
    }
}

/// Ends the tasks of a runtime, and waits until they are dropped with all they hold.
async fn end(runtime: Option<tokio::runtime::Runtime>) {
    let Some(runtime) = runtime else { return };
    let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(TASKS_END_MAX));
    if ended.await.is_err() {
        tracing::error!("the requests did not end");
    }
}

fn shut(runtime: Option<tokio::runtime::Runtime>) {
    if let Some(runtime) = runtime {
        runtime.shutdown_background();
    }
}
