//! One clock for all processes of a run: CLOCK_MONOTONIC counts from the boot,
//! so that a time which one of them writes into a row can be compared by
//! another. (`std::time::Instant` cannot leave its process.)

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine's boot.
pub(crate) fn now_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// CPU time this process has had, user and system, in nanoseconds.
pub(crate) fn process_cpu_ns() -> u64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time the calling thread has had, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// A duration in the clock's unit; it ends after 584 years.
pub(crate) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How long until the moment `at_ns`; zero when it has passed.
pub(crate) fn until(at_ns: u64) -> Duration {
    Duration::from_nanos(at_ns.saturating_sub(now_ns()))
}

fn read(clock: ClockId) -> u64 {
    // These three clocks are there on every system this compiles for.
    clock_gettime(clock).map_or(0, |time| ns(Duration::from(time)))
}
