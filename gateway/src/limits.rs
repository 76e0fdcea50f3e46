//! What the system lets this process have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many files this process may have open.
///
/// # Errors
///
/// What the system says.
pub fn open_files() -> nix::Result<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft)
}

/// Raises the soft limit on open files to the hard one and returns it. A stream
/// is an open file; the usual soft limit of 1,024 is a relic of `select`, which
/// nothing here uses.
///
/// # Errors
///
/// What the system says; then the limit is what it was.
pub fn raise_open_files() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
