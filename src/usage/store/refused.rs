//! Requests with unknown keys, counted per minute and address until the writer takes the counts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use crate::usage::record::RefusedRow;

/// Addresses beyond this many are counted together, without an address.
pub(super) const SOURCES_MAX: usize = 10_000;

/// The counts since they were last taken. The lock is held for one look-up.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_source: HashMap<(i64, Option<IpAddr>), u64>,
    is_closed: bool,
}

/// What became of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// The first since the counts were taken: the writer has to hear of it.
    First,
    Further,
    /// Nobody takes counts any more.
    Closed,
}

impl Refused {
    pub(super) fn count(&self, source_ip: Option<IpAddr>, unix_minute: i64) -> Counted {
        let mut counts = self.lock();
        if counts.is_closed {
            return Counted::Closed;
        }
        let was_empty = counts.by_source.is_empty();
        let is_full = counts.by_source.len() >= SOURCES_MAX;
        let source = (unix_minute, source_ip);
        if let Some(count) = counts.by_source.get_mut(&source) {
            *count += 1;
        } else {
            let source = if is_full { (unix_minute, None) } else { source };
            *counts.by_source.entry(source).or_default() += 1;
        }
        if was_empty { Counted::First } else { Counted::Further }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().by_source.is_empty()
    }

    pub(super) fn take(&self) -> Vec<RefusedRow> {
        let by_source = std::mem::take(&mut self.lock().by_source);
        by_source
            .into_iter()
            .map(|((unix_minute, source_ip), count)| RefusedRow { unix_minute, source_ip, count })
            .collect()
    }

    /// Takes what is there, and makes every later count [`Counted::Closed`].
    pub(super) fn close(&self) -> Vec<RefusedRow> {
        self.lock().is_closed = true;
        self.take()
    }

    /// Counts are whole between two statements, so a panic elsewhere leaves them good.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn count(refused: &Refused, address: u32, unix_minute: i64) -> Counted {
        refused.count(Some(Ipv4Addr::from_bits(address).into()), unix_minute)
    }

    /// Minute, address (0: none) and count of each row, sorted.
    fn taken(refused: &Refused) -> Vec<(i64, u32, u64)> {
        let address = |row: &RefusedRow| match row.source_ip {
            Some(IpAddr::V4(address)) => address.to_bits(),
            _ => 0,
        };
        let rows = refused.take();
        let mut rows: Vec<_> = rows.iter().map(|r| (r.unix_minute, address(r), r.count)).collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn counts_are_per_minute_and_address() {
        let refused = Refused::default();
        assert!(refused.is_empty());
        assert_eq!(count(&refused, 1, 7), Counted::First);
        assert_eq!(count(&refused, 1, 7), Counted::Further);
        assert_eq!(count(&refused, 1, 8), Counted::Further);
        assert_eq!(count(&refused, 2, 7), Counted::Further);
        assert_eq!(taken(&refused), [(7, 1, 2), (7, 2, 1), (8, 1, 1)]);
        assert!(refused.is_empty());
        assert_eq!(count(&refused, 1, 8), Counted::First);
    }

    #[test]
    fn flood_of_addresses_is_counted_together() {
        let refused = Refused::default();
        for address in 1..=50_000 {
            count(&refused, address, 7);
        }
        count(&refused, 3, 7);
        let rows = taken(&refused);
        assert_eq!(rows.len(), SOURCES_MAX + 1);
        assert_eq!(rows[0], (7, 0, 40_000), "those without an address of their own");
        assert_eq!(rows[3], (7, 3, 2), "a known address is still told apart");
        assert_eq!(rows.iter().map(|(_, _, count)| count).sum::<u64>(), 50_001);
    }

    #[test]
    fn flood_over_some_minutes_is_bounded_too() {
        let refused = Refused::default();
        for address in 1..=20_000 {
            count(&refused, address, i64::from((address - 1) / 5_000));
        }
        // Two minutes filled the map; the others have their count without an address.
        assert_eq!(taken(&refused).len(), SOURCES_MAX + 2);
    }

    #[test]
    fn nothing_is_counted_after_the_close() {
        let refused = Refused::default();
        refused.count(None, 7);
        assert_eq!(refused.close().len(), 1);
        assert_eq!(refused.count(None, 7), Counted::Closed);
        assert!(refused.is_empty());
    }
}
