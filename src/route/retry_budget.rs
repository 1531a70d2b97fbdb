//! How many attempts beyond the first a deployment may make: 20 % of its requests, and 10 a second.

use crate::clock::Millis;

/// One retry or failover.
const RETRY: u64 = 1_000;
/// What a request adds, in thousandths of a retry.
const PER_REQUEST: u64 = 200;
/// What a millisecond adds: ten retries a second.
const PER_MILLI: u64 = 10;
/// What is there at the beginning: one second's worth.
const AT_FIRST: u64 = 10 * RETRY;

/// What was saved is good for this many seconds.
const SECONDS: u64 = 10;
/// One for each of [`SECONDS`].
const SLOTS: usize = 10;
/// What quiet time can save: [`SECONDS`] of it.
const SAVED_BY_TIME: u64 = SECONDS * 1_000 * PER_MILLI;

/// A deployment's allowance of retries and failovers, shared by all its requests.
///
/// Over its whole life it grants no more than a fifth of the requests, ten for each second, and ten.
/// The balance is capped at 100 retries and a fifth of the requests of the last ten seconds: enough
/// for everything in flight to move when a target dies, and no hoard after a quiet hour.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    /// In thousandths of a retry.
    balance: u64,
    filled_at: Millis,
    /// Requests of each of the last [`SECONDS`] seconds, by second modulo their number.
    requests: [u64; SLOTS],
    requests_total: u64,
}

impl RetryBudget {
    pub const fn new(now: Millis) -> Self {
        Self { balance: AT_FIRST, filled_at: now, requests: [0; SLOTS], requests_total: 0 }
    }

    /// Counts a request, whose first attempt is free.
    pub fn on_request(&mut self, now: Millis) {
        self.advance(now);
        if let Some(requests) = self.requests.get_mut(slot(self.filled_at)) {
            *requests += 1;
        }
        self.requests_total += 1;
        self.add(PER_REQUEST);
    }

    /// Whether one more attempt may be made; if so, it is paid for.
    #[must_use = "a retry that was paid for is to be made"]
    pub fn try_retry(&mut self, now: Millis) -> bool {
        self.advance(now);
        match self.balance.checked_sub(RETRY) {
            Some(rest) => {
                self.balance = rest;
                true
            }
            None => false,
        }
    }

    /// Whole retries that are left as of the last call, for the metrics.
    pub const fn left(&self) -> u64 {
        self.balance / RETRY
    }

    fn advance(&mut self, now: Millis) {
        // Readings of several threads may come in the wrong order; time does not run back here.
        let elapsed = now.0.saturating_sub(self.filled_at.0);
        if elapsed == 0 {
            return;
        }
        let second = self.filled_at.0 / 1_000;
        let passed = now.0 / 1_000 - second;
        for ahead in 1..=passed.min(SECONDS) {
            if let Some(requests) = self.requests.get_mut(slot(Millis((second + ahead) * 1_000))) {
                self.requests_total -= *requests;
                *requests = 0;
            }
        }
        self.filled_at = now;
        self.add(elapsed.saturating_mul(PER_MILLI));
    }

    fn add(&mut self, amount: u64) {
        let most = SAVED_BY_TIME + self.requests_total.saturating_mul(PER_REQUEST);
        self.balance = self.balance.saturating_add(amount).min(most);
    }
}

fn slot(at: Millis) -> usize {
    usize::try_from(at.0 / 1_000 % SECONDS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_second_is_there_at_once() {
        let mut budget = RetryBudget::new(Millis(5));
        assert_eq!((0..50).filter(|_| budget.try_retry(Millis(5))).count(), 10);
    }

    #[test]
    fn fifth_of_the_requests_may_be_repeated_at_once() {
        let mut budget = RetryBudget::new(Millis(0));
        for _ in 0..500 {
            budget.on_request(Millis(0));
        }
        assert_eq!(budget.left(), 110);
        assert_eq!((0..500).filter(|_| budget.try_retry(Millis(0))).count(), 110);
    }

    #[test]
    fn quiet_hour_saves_ten_seconds() {
        let mut budget = RetryBudget::new(Millis(0));
        let later = Millis(3_600_000);
        assert_eq!((0..500).filter(|_| budget.try_retry(later)).count(), 100);
    }

    #[test]
    fn requests_of_eleven_seconds_ago_allow_nothing_more() {
        let mut budget = RetryBudget::new(Millis(0));
        for _ in 0..10_000 {
            budget.on_request(Millis(999));
        }
        assert_eq!(budget.left(), 2_019);
        assert!(budget.try_retry(Millis(9_999)));
        assert_eq!(budget.left(), 2_099);
        assert!(budget.try_retry(Millis(10_000)));
        assert_eq!(budget.left(), 99);
    }

    #[test]
    fn earlier_reading_of_the_clock_changes_nothing() {
        let mut budget = RetryBudget::new(Millis(10_000));
        budget.on_request(Millis(3_000));
        assert_eq!(budget.left(), 10);
        assert!(budget.try_retry(Millis(0)));
        assert_eq!(budget.left(), 9);
    }

    proptest! {
        #[test]
        fn upstreams_see_at_most_a_fifth_more_and_ten_a_second(
            begin in 0_u64..100_000,
            steps in prop::collection::vec((0_u64..400, 0_u64..40, 0_u64..40), 1..200),
        ) {
            let mut now = begin;
            let mut budget = RetryBudget::new(Millis(begin));
            let (mut requests, mut retries) = (0_u64, 0_u64);
            for (millis, n_requests, n_retries) in steps {
                now += millis;
                for _ in 0..n_requests {
                    budget.on_request(Millis(now));
                    requests += 1;
                }
                for _ in 0..n_retries {
                    retries += u64::from(budget.try_retry(Millis(now)));
                }
                let allowed = requests * 200 + (now - begin) * 10 + 10_000;
                prop_assert!(retries * 1_000 <= allowed, "{retries} retries of {requests}");
                let sum: u64 = budget.requests.iter().sum();
                prop_assert_eq!(sum, budget.requests_total);
            }
        }
    }
}
