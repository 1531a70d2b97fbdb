//! How many requests failed in the last half minute.

use crate::clock::Millis;

const SLOT_MS: u64 = 3_000;
const SLOTS: u64 = 10;

/// Counts of the last 30 s, in ten slots of 3 s. The oldest slot leaves as a whole, so that between
/// 27 and 30 seconds are looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    slots: [Slot; 10],
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Which 3 s since the process began; a slot of an older one counts as empty.
    epoch: u64,
    successes: u32,
    failures: u32,
}

impl Window {
    pub(super) fn count_success(&mut self, now: Millis) {
        if let Some(slot) = self.slot(now) {
            slot.successes = slot.successes.saturating_add(1);
        }
    }

    pub(super) fn count_failure(&mut self, now: Millis) {
        if let Some(slot) = self.slot(now) {
            slot.failures = slot.failures.saturating_add(1);
        }
    }

    pub(super) fn failures_of_total(&self, now: Millis) -> (u32, u32) {
        let epoch = now.0 / SLOT_MS;
        let recent = self.slots.iter().filter(|slot| epoch < slot.epoch + SLOTS);
        recent.fold((0, 0), |(failures, total): (u32, u32), slot| {
            let both = slot.successes.saturating_add(slot.failures);
            (failures.saturating_add(slot.failures), total.saturating_add(both))
        })
    }

    /// The slot of `now`, emptied if it was an older one's.
    fn slot(&mut self, now: Millis) -> Option<&mut Slot> {
        let epoch = now.0 / SLOT_MS;
        let slot = self.slots.get_mut(usize::try_from(epoch % SLOTS).ok()?)?;
        if slot.epoch < epoch {
            *slot = Slot { epoch, ..Slot::default() };
        }
        Some(slot)
    }
}
