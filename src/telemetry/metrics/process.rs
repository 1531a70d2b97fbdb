//! The process as Linux sees it, read from `/proc/self` at each scrape.

use std::fs;

/// The kernel counts user time in hundredths of a second for every program, whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures that could not be read are absent.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) fds: Option<usize>,
    pub(super) fds_max: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            cpu_seconds: cpu_seconds(&stat),
            resident_bytes: after(&status, "VmRSS:").map(|kib| kib * 1024),
            threads: after(&status, "Threads:"),
            fds: fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
            fds_max: after(&limits, "Max open files"),
        }
    }
}

/// The number behind `name` at the beginning of a line.
fn after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The 14th and the 15th field; the second is the program's name in brackets, and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, from_third) = stat.rsplit_once(") ")?;
    let mut fields = from_third.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_the_kernels_tables() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(after("VmHWM:\t 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
        assert_eq!(
            after("Max open files            1024  4096 files\n", "Max open files"),
            Some(1024)
        );
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = Process::read();
        assert!(process.resident_bytes > Some(1 << 20));
        assert!(process.fds > Some(2) && process.threads >= Some(1));
    }
}
