//! Whose turn it is to write.
//!
//! The dearest part of a write is to wake whoever waits at the other end. So when several requests
//! are ready at once, each first does all it can, and then they write one after the other: the other
//! end is woken once, and finds what all of them wrote. A request that is alone does not wait.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

/// A round is all that a thread does between two times of having nothing to do.
#[derive(Debug, Clone, Copy, Default)]
struct Rounds {
    writes: u32,
    /// In the round before.
    writes_before: u32,
}

thread_local! {
    static ROUNDS: Cell<Rounds> = const { Cell::new(Rounds { writes: 0, writes_before: 0 }) };
}

/// The thread has had nothing to do until now.
pub fn begin_round() {
    let Rounds { writes, .. } = ROUNDS.get();
    ROUNDS.set(Rounds { writes: 0, writes_before: writes });
}

/// To be awaited before a write: lets the other tasks run first that are ready, if there are likely
/// to be any.
pub async fn others_first() {
    let Rounds { writes, writes_before } = ROUNDS.get();
    ROUNDS.set(Rounds { writes: writes.saturating_add(1), writes_before });
    if writes == 0 && writes_before < 2 {
        return;
    }
    // Not `yield_now`: that looks for news from the sockets first.
    let mut has_waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Waker};

    use super::*;

    /// What three tasks do that are ready at once.
    fn round() -> Vec<(&'static str, u32)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let done = Arc::new(Mutex::new(Vec::new()));
        begin_round();
        runtime.block_on(async {
            let tasks = [0, 1, 2].map(|n| {
                let done = Arc::clone(&done);
                tokio::spawn(async move {
                    done.lock().unwrap().push(("works", n));
                    others_first().await;
                    done.lock().unwrap().push(("writes", n));
                })
            });
            for task in tasks {
                task.await.unwrap();
            }
        });
        std::mem::take(&mut *done.lock().unwrap())
    }

    #[test]
    fn tasks_that_are_ready_together_write_together() {
        let mut first = round();
        assert_eq!(first.remove(1), ("writes", 0), "nobody knew of the others");
        let together = [("works", 0), ("works", 1), ("works", 2), ("writes", 1), ("writes", 2)];
        assert_eq!(first, together);
        let again = round();
        assert_eq!(again[3..], [("writes", 0), ("writes", 1), ("writes", 2)]);
    }

    #[test]
    fn task_that_is_alone_writes_at_once() {
        for _ in 0..3 {
            begin_round();
            let mut writing = Box::pin(others_first());
            let mut context = Context::from_waker(Waker::noop());
            assert!(writing.as_mut().poll(&mut context).is_ready());
        }
    }
}
