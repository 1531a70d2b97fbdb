//! Waits to the microsecond: the runtime's own timers count milliseconds.

use std::io;
use std::time::Instant;

#[cfg(target_os = "linux")]
use {
    rustix::io::read,
    rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
    tokio::io::unix::AsyncFd,
};

/// One thing waits on it at a time.
pub(super) struct Timer {
    #[cfg(target_os = "linux")]
    descriptor: AsyncFd<std::os::fd::OwnedFd>,
}

impl Timer {
    /// Must be called inside a tokio runtime.
    #[cfg(target_os = "linux")]
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "an owned descriptor stays open for as long as it is registered"
        )]
        let descriptor = AsyncFd::new(descriptor)?;
        Ok(Self { descriptor })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits until then, or not at all.
    #[cfg(target_os = "linux")]
    pub(super) async fn until(&self, due: Instant) -> io::Result<()> {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.descriptor.readable().await?;
            let result = ready.try_io(|descriptor| Ok(read(descriptor, &mut [0; 8])?));
            if let Ok(done) = result {
                return done.map(|_| ());
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) async fn until(&self, due: Instant) -> io::Result<()> {
        tokio::time::sleep_until(due.into()).await;
        Ok(())
    }
}
