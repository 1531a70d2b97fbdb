//! The use of one limit.

use std::sync::{Mutex, MutexGuard};

use crate::control::live::lock;
use crate::limit::{Now, Period, Window};

/// Locked for a few instructions at a time.
#[derive(Debug)]
pub struct Counter {
    period: Period,
    window: Mutex<Window>,
}

impl Counter {
    pub fn new(period: Period) -> Self {
        Self { period, window: Mutex::default() }
    }

    pub(super) fn restored(period: Period, window: Window) -> Self {
        Self { period, window: Mutex::new(window) }
    }

    pub const fn period(&self) -> Period {
        self.period
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Window> {
        lock(&self.window)
    }

    /// The window as it is at `now`.
    pub fn at(&self, now: Now) -> Window {
        let mut window = self.lock();
        window.roll(self.period, now);
        *window
    }

    /// The number of the window and what was used in it, reservations left out.
    pub(super) fn settled(&self) -> (u64, u64) {
        self.lock().settled()
    }

    pub fn settle(&self, index: u64, amounts: (u64, u64), now: Now) {
        self.lock().settle(self.period, index, amounts, now);
    }
}
