//! What the terminal shows while a run goes on.

use std::io::{self, IsTerminal as _, Write as _};

use super::series::Point;

/// How a run tells about itself, on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Silent,
    /// A line every few seconds.
    Lines,
    /// One line that is written again and again.
    Live,
}

/// Points to a line where lines stay.
const POINTS_PER_LINE: usize = 5;

impl Progress {
    /// Live on a terminal, lines elsewhere.
    pub fn fitting() -> Self {
        if io::stderr().is_terminal() { Self::Live } else { Self::Lines }
    }

    /// Tells about the point with this number. A terminal that is gone stops no run.
    pub(super) fn tell(self, number: usize, point: &Point) {
        let line = line(point);
        drop(match self {
            Self::Lines if number.is_multiple_of(POINTS_PER_LINE) => {
                writeln!(io::stderr(), "{line}")
            }
            Self::Live => {
                write!(io::stderr(), "\r\x1b[2K{line}").and_then(|()| io::stderr().flush())
            }
            Self::Silent | Self::Lines => Ok(()),
        });
    }

    pub(super) fn end(self) {
        if self == Self::Live {
            drop(write!(io::stderr(), "\r\x1b[2K"));
        }
    }

    /// Says something that happened once.
    pub(super) fn note(self, text: &str) {
        drop(match self {
            Self::Silent => Ok(()),
            Self::Lines => writeln!(io::stderr(), "{text}"),
            Self::Live => writeln!(io::stderr(), "\r\x1b[2K{text}"),
        });
    }
}

fn line(point: &Point) -> String {
    let mut line =
        format!("{:>6.0} s  {:<12} {:>8.0}/s", point.at_s, point.phase, point.requests_per_s);
    if let Some(latency) = &point.latency_us {
        line +=
            &format!("  p50 {:.2} ms  p99 {:.2} ms", latency.p50 / 1000.0, latency.p99 / 1000.0);
    }
    if let Some(first) = &point.first_event_us {
        line += &format!("  first event p99 {:.2} ms", first.p99 / 1000.0);
    }
    line += &format!("  in flight {}  failures {}", point.in_flight, point.failures);
    #[expect(clippy::cast_precision_loss, reason = "memory fits")]
    if let Some(kib) = point.rss_kib {
        line += &format!("  server {:.1} MiB", kib as f64 / 1024.0);
    }
    if let Some(cpu) = point.cpu {
        line += &format!(" {:.0} % CPU", cpu * 100.0);
    }
    line
}
