//! What the server's processes use, from `/proc`: memory, CPU, descriptors, threads.

use std::fs;
use std::time::Duration;

use serde::Serialize;

/// One look at some processes and all below them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    pub rss_kib: u64,
    /// User and system time since they started.
    pub cpu: Duration,
    pub descriptors: u64,
    pub threads: u64,
    pub processes: u64,
}

/// Looks at these processes and their children; one that is gone counts nothing.
pub(super) fn look(pids: &[u32]) -> Usage {
    let mut usage = Usage::default();
    let mut left = pids.to_vec();
    let mut seen = Vec::new();
    while let Some(pid) = left.pop() {
        if !seen.contains(&pid) {
            seen.push(pid);
            left.extend(one(pid, &mut usage));
        }
    }
    usage
}

/// Adds one process, and returns its children.
fn one(pid: u32, usage: &mut Usage) -> Vec<u32> {
    let base = format!("/proc/{pid}");
    let Ok(status) = fs::read_to_string(format!("{base}/status")) else { return Vec::new() };
    usage.processes += 1;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    usage.rss_kib += rss.and_then(first_number).unwrap_or(0);
    usage.descriptors += entries(&format!("{base}/fd")).count() as u64;
    let mut children = Vec::new();
    for task in entries(&format!("{base}/task")) {
        usage.threads += 1;
        usage.cpu += cpu(&format!("{base}/task/{task}/schedstat"));
        let of_task =
            fs::read_to_string(format!("{base}/task/{task}/children")).unwrap_or_default();
        children.extend(of_task.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    children
}

fn entries(path: &str) -> impl Iterator<Item = String> {
    let names = fs::read_dir(path).into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn cpu(path: &str) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_default();
    Duration::from_nanos(first_number(&text).unwrap_or(0))
}

/// CPU time of the calling thread so far.
pub(super) fn thread_cpu() -> Duration {
    cpu("/proc/thread-self/schedstat")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen() {
        let usage = look(&[std::process::id()]);
        assert!(usage.rss_kib > 100 && usage.cpu > Duration::ZERO, "{usage:?}");
        assert!(usage.descriptors >= 3 && usage.threads >= 2 && usage.processes >= 1, "{usage:?}");
        assert_eq!(look(&[u32::MAX - 1]), Usage::default());
    }
}
