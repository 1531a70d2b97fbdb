//! Rows on the disk, between their request and the store.
//!
//! ```text
//! frame    records in a segment, and the search for them after damage      (pure)
//! slice    what stands between two cuts, as batches                        (pure)
//! segment  one file
//! boot     the folder of one process
//! append   the end where rows come in
//! sync     the thread that syncs, and makes room ahead
//! recover  what another process has left
//! ```
//!
//! A row is handed to the operating system before its client has the end of the answer: the end of
//! the process, however it comes, does not lose it. Where slices end stands among the records, and a
//! slice is sent only once that is on the disk; up to where a segment is sent stands on its first
//! page, and the token of a batch follows from its slice. So whatever is sent twice is the same, and
//! a store that knows the token keeps it once.

mod append;
mod boot;
pub mod frame;
mod recover;
mod segment;
mod slice;
mod sync;

pub use self::append::{Appended, NotAppended, Pace, Settings, SliceLimits, Spool};
pub use self::boot::{Boot, DEAD, folders, write_whole};
pub use self::frame::{Draft, Kind};
pub use self::recover::{Begun, Found, note, recover, write_segment};
pub use self::segment::{EXTENSION, RECORDS_AT, Segment, Title};
pub use self::slice::{Bounds, Rows, Slice, Step, step};
pub use self::sync::Syncing;

#[cfg(test)]
mod tests;
