//! A stream is an open file, and a process may have so many.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files of a worker that are no streams.
const OTHERS: u64 = 64;

/// Raises the soft limit on open files to the hard one and returns it.
pub(crate) fn raise_limit() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// How many processes it takes to hold `streams`.
pub(crate) fn workers_for(streams: usize, limit: u64) -> usize {
    let each = usize::try_from(limit.saturating_sub(OTHERS)).unwrap_or(usize::MAX).max(1);
    streams.div_ceil(each).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_one_process_may_not_open_take_several() {
        assert_eq!(workers_for(0, 20_000), 1);
        assert_eq!(workers_for(19_936, 20_000), 1);
        assert_eq!(workers_for(19_937, 20_000), 2);
        assert_eq!(workers_for(50_000, 20_000), 3);
    }
}
