//! The counters of limits, as requests meet them.
//!
//! ```text
//! counter      the use of one limit, behind a short lock
//! table        a counter for each value of a dimension, bounded
//! owner        the limits of one owner, with their counters: in the snapshot
//! percent      how much of a limit is used, for rules
//! reservation  what one request holds of all its limits, until it is settled
//! registry     every counter there is, by owner and limit: outlives snapshots
//! saved        what outlives the process: a file, written off the path
//! ```
//!
//! A request locks the counters of all its limits at once, in the order of levels and, within an
//! owner, of limits. That order is the same for every request, so no two wait for each other.

mod counter;
mod owner;
mod percent;
mod registry;
mod reservation;
mod saved;
mod table;

pub use self::counter::Counter;
pub use self::owner::{Counted, Family, Limits, Meter, Owner, Subject};
pub use self::percent::percent_used;
pub use self::registry::{CounterKey, Registry, Seen};
pub use self::reservation::{Refused, Reservation, Sharing, reserve, would_refuse};
pub use self::saved::{SaveError, Saved};
pub use self::table::{Table, TableStats, Value};

#[cfg(test)]
mod tests;
