//! One batch to the store: tried until it is in, halved when the store refuses it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::batch::Batch;
use super::dead::Dead;
use super::{Insert, InsertError};

/// A store that refuses a batch is asked so often before the batch is taken for bad.
const REFUSALS_MAX: u32 = 3;

/// When so many rows alone are refused and none is taken, the others are not asked for one by one.
const HOPELESS_ROWS: usize = 32;

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Sent {
    Kept,
    /// The store will not have it.
    Refused(InsertError),
    /// There was no more time; or the rows were given up meanwhile.
    GivenUp,
}

/// What there is to be done between two tries.
pub(super) trait Between {
    /// Waits before the next try; `false` when there is to be none.
    fn pause(&mut self, n_failed: u32, error: &InsertError) -> bool;
    /// Takes note of a try.
    fn tried(&mut self, result: &Result<(), InsertError>);
}

/// Has `batch` inserted, and puts what the store refuses into `dead`. `false` when not all is told.
pub(super) fn send(
    insert: &mut impl Insert,
    batch: &Batch<'_>,
    between: &mut impl Between,
    dead: &mut Dead,
) -> bool {
    match attempt(insert, batch, between, REFUSALS_MAX) {
        Sent::Kept => true,
        Sent::GivenUp => false,
        Sent::Refused(error) => {
            tracing::error!(token = &*batch.token, rows = batch.len(), %error,
                "usage rows refused by the store");
            let mut tally = Tally::default();
            halve(insert, batch, between, (dead, &mut tally))
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    is_any_kept: bool,
    n_refused: usize,
}

fn halve(
    insert: &mut impl Insert,
    batch: &Batch<'_>,
    between: &mut impl Between,
    (dead, tally): (&mut Dead, &mut Tally),
) -> bool {
    let is_hopeless = !tally.is_any_kept && tally.n_refused >= HOPELESS_ROWS;
    let Some(halves) = batch.halves().filter(|_| !is_hopeless) else {
        tally.n_refused += batch.len();
        dead.add(batch);
        return true;
    };
    for half in &halves {
        match attempt(insert, half, between, 1) {
            Sent::Kept => tally.is_any_kept = true,
            Sent::GivenUp => return false,
            Sent::Refused(_) => {
                if !halve(insert, half, between, (dead, tally)) {
                    return false;
                }
            }
        }
    }
    true
}

/// Tries until the store answers for good, or there is to be no further try.
fn attempt(
    insert: &mut impl Insert,
    batch: &Batch<'_>,
    between: &mut impl Between,
    refusals_max: u32,
) -> Sent {
    let (mut n_failed, mut n_refused) = (0, 0);
    loop {
        let result = guarded(insert, batch);
        between.tried(&result);
        let Err(error) = result else { return Sent::Kept };
        n_failed += 1;
        if matches!(error, InsertError::Refused(_)) {
            n_refused += 1;
            if n_refused >= refusals_max {
                return Sent::Refused(error);
            }
        }
        if !between.pause(n_failed, &error) {
            return Sent::GivenUp;
        }
    }
}

/// A panic over a row is that row's fault: the thread has to go on.
fn guarded(insert: &mut impl Insert, batch: &Batch<'_>) -> Result<(), InsertError> {
    catch_unwind(AssertUnwindSafe(|| insert.insert(batch)))
        .unwrap_or_else(|_panic| Err(InsertError::Refused("the insert panicked".to_owned())))
}
