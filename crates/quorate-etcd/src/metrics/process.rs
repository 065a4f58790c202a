//! What the operating system knows of this process. Linux only; elsewhere there is nothing to tell.

use std::fs;

use super::text::Page;

/// Ticks of a second in `/proc/self/stat`; fixed in Linux' interface.
const CLOCK_TICKS: f64 = 100.0;

/// Writes the `process_*` families that could be read.
pub(super) fn write(page: &mut Page) {
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", bytes);
    }
    if let Some(seconds) = cpu_seconds() {
        let name = "process_cpu_seconds_total";
        page.family(name, "Total user and system CPU time spent in seconds.", "counter")
            .sample(name, "", seconds);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let open = open.count();
        page.gauge("process_open_fds", "Number of open file descriptors.", open);
        page.gauge("os_fd_used", "The number of used file descriptors.", open);
    }
    if let Some(limit) = fd_limit() {
        page.gauge("process_max_fds", "Maximum number of open file descriptors.", limit);
        page.gauge("os_fd_limit", "The file descriptor limit.", limit);
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything; the rest is behind the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / CLOCK_TICKS)
}

fn fd_limit() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
