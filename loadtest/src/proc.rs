//! What Linux tells of processes: proc(5). Elsewhere, and of processes that are
//! not ours to look at, nothing is told, and the report leaves it out.

use std::fs;

/// The unit of /proc/PID/stat: USER_HZ, which has been 100 on every Linux.
const TICK_NS: u64 = 10_000_000;

/// The unit of /proc/net/sockstat's `mem`.
const PAGE_BYTES: u64 = 4096;

/// CPU time of a process with all its threads, user and system: what the
/// scheduler has counted of those that live, to the nanosecond; to 10 ms where
/// threads that are gone had more, or the kernel does not count.
pub(crate) fn cpu_ns(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let times = parse_stat(&stat)?;
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let scheduled: u64 = threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|schedstat| schedstat.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    // The two clocks never agree to the tick.
    let ticked = times.own * TICK_NS;
    let is_whole = scheduled > 0 && scheduled + 10 * TICK_NS >= ticked;
    Some(if is_whole { scheduled } else { ticked })
}

/// Time in which a process' first thread was ready to run and waited for a core.
pub(crate) fn waiting_ns(pid: u32) -> Option<u64> {
    let schedstat = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

/// CPU time of a process and its children, those that are gone included: what a
/// Postgres server has used.
pub(crate) fn family_cpu_ns(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let times = parse_stat(&stat)?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children: u64 = children
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| cpu_ns(child.parse().ok()?))
        .sum();
    Some((times.own + times.reaped) * TICK_NS + children)
}

/// Resident bytes: cheap to ask for.
pub(crate) fn rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kib(&status, "VmRSS:").map(|kib| kib * 1024)
}

/// Bytes of its own: shared pages count by their share (PSS). The kernel walks
/// all of the process' memory for it, so it is asked seldom.
pub(crate) fn pss_bytes(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    kib(&rollup, "Pss:").map(|kib| kib * 1024)
}

/// Open files.
pub(crate) fn open_files(pid: u32) -> Option<u64> {
    let directory = format!("/proc/{pid}/fd");
    // Since Linux 6.2 the directory's size is their number.
    match fs::metadata(&directory).ok()?.len() {
        0 => fs::read_dir(&directory).ok().map(|entries| entries.count() as u64),
        count => Some(count),
    }
}

/// The kernel's memory for TCP on this machine, both ends of each loopback
/// connection included.
pub(crate) fn tcp_memory_bytes() -> Option<u64> {
    let sockstat = fs::read_to_string("/proc/net/sockstat").ok()?;
    let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let pages: u64 = tcp.split_once(" mem ")?.1.split_whitespace().next()?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

/// CPU time all processes of the machine have had.
pub(crate) fn machine_cpu_ns() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (user, nice, system) = (next()?, next()?, next()?);
    let (_idle, _iowait) = (next()?, next()?);
    let (irq, softirq) = (next()?, next()?);
    Some((user + nice + system + irq + softirq) * TICK_NS)
}

/// What the report says of the machine.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = kib(&meminfo, "MemTotal:").map(|kib| format!(", {} GiB", (kib >> 19).div_ceil(2)));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let s = if cores == 1 { "" } else { "s" };
    format!("{cores} core{s} ({model}){}, Linux {}", memory.unwrap_or_default(), kernel.trim())
}

struct Times {
    own: u64,
    reaped: u64,
}

fn parse_stat(stat: &str) -> Option<Times> {
    // The name before it is in parentheses, and may hold some of its own.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(Times { own: next()? + next()?, reaped: next()? + next()? })
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_stand_after_a_name_of_any_shape() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 12 30 4 5 20 0 8 0 99 1 2";
        let times = parse_stat(stat).unwrap();
        assert_eq!((times.own, times.reaped), (42, 9));
    }

    #[test]
    fn this_process_is_told_of() {
        let own = std::process::id();
        assert!(rss_bytes(own).unwrap() > 0);
        assert!(pss_bytes(own).unwrap() > 0);
        assert!(open_files(own).unwrap() > 2);
        assert!(waiting_ns(own).is_some());
        assert!(cpu_ns(own).is_some() && family_cpu_ns(own).is_some());
        assert!(machine_cpu_ns().unwrap() > 0);
        assert!(tcp_memory_bytes().is_some());
    }

    #[test]
    fn a_process_that_is_not_there_is_not_told_of() {
        assert_eq!(cpu_ns(u32::MAX), None);
    }
}
