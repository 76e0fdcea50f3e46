//! What the kernel knows of this process, under the names that every Prometheus
//! client library uses
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::register::{head, line};
use crate::limits;

/// Appends what there is: nothing where there is no `/proc`.
pub(super) fn render(out: &mut String) {
    let Some(process) = Process::read() else { return };
    let limit = limits::open_files().unwrap_or(0);
    for (name, help, kind, value) in [
        (
            "process_cpu_seconds_total",
            "User and system CPU time, in seconds.",
            "counter",
            process.cpu_seconds.to_string(),
        ),
        ("process_open_fds", "Open files.", "gauge", open_files().to_string()),
        ("process_max_fds", "Files that may be open.", "gauge", limit.to_string()),
        (
            "process_resident_memory_bytes",
            "Resident memory.",
            "gauge",
            process.resident_bytes.to_string(),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory.",
            "gauge",
            process.virtual_bytes.to_string(),
        ),
        (
            "process_start_time_seconds",
            "When the process started, in seconds since 1970.",
            "gauge",
            process.start_seconds.to_string(),
        ),
        ("process_threads", "Threads.", "gauge", process.threads.to_string()),
    ] {
        head(out, name, help, kind);
        line(out, format_args!("{name} {value}"));
    }
}

#[derive(Debug)]
struct Process {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: u64,
}

impl Process {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
        let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
        let page_bytes = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
        Self::parse(&stat, boot, per_second, page_bytes)
    }

    /// Reads proc_pid_stat(5).
    fn parse(stat: &str, boot: u64, ticks_per_second: u64, page_bytes: u64) -> Option<Self> {
        // The name stands in parentheses and may hold anything, those included.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The manual counts from 1, and the first behind the name is its third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |ticks: u64| precise(ticks) / precise(ticks_per_second);
        Some(Self {
            cpu_seconds: seconds(field(14)? + field(15)?),
            start_seconds: precise(boot) + seconds(field(22)?),
            resident_bytes: field(24)? * page_bytes,
            virtual_bytes: field(23)?,
            threads: field(20)?,
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "ticks and seconds stay far below 2^53")]
fn precise(number: u64) -> f64 {
    number as f64
}

/// Since Linux 6.2 the directory's size is their number; before, they have to
/// be counted.
fn open_files() -> u64 {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).map(|directory| directory.len()) {
        Ok(count) if count > 0 => count,
        _ => fs::read_dir(DIRECTORY).map_or(0, |files| files.count() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual_whatever_the_process_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 3 0 500 8192 2 \
                    18446744073709551615 1 1 0";
        let process = Process::parse(stat, 1000, 100, 4096).unwrap();
        assert!((process.cpu_seconds - 4.0).abs() < 1e-9);
        assert!((process.start_seconds - 1005.0).abs() < 1e-9);
        assert_eq!((process.threads, process.virtual_bytes), (3, 8192));
        assert_eq!(process.resident_bytes, 2 * 4096);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_files_and_memory() {
        let process = Process::read().unwrap();
        assert!(process.resident_bytes > 0 && process.virtual_bytes >= process.resident_bytes);
        let before = open_files();
        let _file = fs::File::open("/proc/self/stat").unwrap();
        assert!(before > 2 && open_files() > 2);
    }
}
