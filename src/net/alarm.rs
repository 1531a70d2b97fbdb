//! The timer of a connection, for whatever is waited for on it.
//!
//! Nearly everything comes before its time is over, so making a timer for each wait, and taking it
//! back, costs more than it is worth. This one is made at the first wait and then stays set. It may
//! ring for a wait that has ended long since: then it is set again, for the one under way.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What nobody waits to the end of.
const FOREVER: Duration = Duration::from_hours(24 * 365);

#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

/// The time was over first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl Alarm {
    /// What `future` comes to within `limit`. What is there at once costs no look at a clock.
    pub async fn within<F: Future>(
        &mut self,
        limit: Duration,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Elapsed> {
        let mut until = None;
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            let until = *until.get_or_insert_with(|| Instant::now() + limit.min(FOREVER));
            self.poll_reached(until, context).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Resolves at `until`.
    pub async fn reached(&mut self, until: std::time::Instant) {
        poll_fn(|context| self.poll_reached(until.into(), context)).await;
    }

    fn poll_reached(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if until < sleep.deadline() {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if until <= sleep.deadline() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until); // It has rung for an earlier wait.
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use proptest::prelude::*;
    use tokio::time::sleep;

    use super::*;

    /// How long a wait took, and whether it was in time.
    async fn wait(alarm: &mut Alarm, limit: u64, takes: Option<u64>) -> (u64, bool) {
        let began = Instant::now();
        let work = pin!(async {
            match takes {
                Some(0) => ready(()).await,
                Some(millis) => sleep(Duration::from_millis(millis)).await,
                None => pending().await,
            }
        });
        let is_in_time = alarm.within(Duration::from_millis(limit), work).await.is_ok();
        (u64::try_from(began.elapsed().as_millis()).unwrap(), is_in_time)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_at_once_makes_no_timer() {
        let mut alarm = Alarm::default();
        assert_eq!(wait(&mut alarm, 0, Some(0)).await, (0, true));
        assert!(alarm.0.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn limit_without_end_is_waited_for() {
        let mut alarm = Alarm::default();
        let work = pin!(sleep(Duration::from_secs(5)));
        assert_eq!(alarm.within(Duration::MAX, work).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn moment_that_has_passed_is_reached() {
        let mut alarm = Alarm::default();
        let now = Instant::now();
        alarm.reached((now + Duration::from_millis(40)).into()).await;
        alarm.reached((now + Duration::from_millis(20)).into()).await;
        assert_eq!(now.elapsed(), Duration::from_millis(40));
    }

    proptest! {
        #[test]
        fn every_wait_has_its_own_limit(
            waits in prop::collection::vec((1_u64..500, prop::option::of(0_u64..500)), 1..20),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut alarm = Alarm::default();
                for (limit, takes) in waits {
                    let waited = wait(&mut alarm, limit, takes).await;
                    let expected = match takes {
                        Some(millis) if millis <= limit => (millis, true),
                        _ => (limit, false),
                    };
                    // When both are due at once, either may be seen first.
                    prop_assert!(waited == expected || takes == Some(limit), "{waited:?} {expected:?}");
                }
                Ok(())
            })?;
        }
    }
}
