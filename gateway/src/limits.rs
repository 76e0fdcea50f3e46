//! What the system lets this process have, and what the gateway makes of it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

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

/// Connections that the admin port takes: a few scrapers, balancers and people.
pub const ADMIN_CONNECTIONS: usize = 64;

/// Open files beside connections: the standard streams, the runtime's, the two
/// sockets that listen, the key set's host, files that are read again.
const OTHER_FILES: usize = 32;

/// Connections beyond those of streams, even where a tenth of them is less: for
/// requests that are refused, and for clients that are just arriving.
const LEAST_SPARE_CONNECTIONS: usize = 64;

/// What the settings ask for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// `--max-streams`.
    pub streams: usize,
    /// `--max-streams-per-user`.
    pub streams_per_user: usize,
    /// `--max-connections`.
    pub connections: Option<usize>,
    /// `--pool-size`.
    pub pool_size: usize,
}

impl From<&Config> for Wanted {
    fn from(config: &Config) -> Self {
        Self {
            streams: config.max_streams,
            streams_per_user: config.max_streams_per_user,
            connections: config.max_connections,
            pool_size: config.pool_size,
        }
    }
}

/// How much the gateway takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Open streams.
    pub streams: usize,
    /// Connections to the public port, whether they have asked for something or
    /// not.
    pub connections: usize,
    /// Those of one address that is not a trusted proxy.
    pub connections_per_address: usize,
}

impl Capacity {
    /// What is wanted, or what a process that may have so many files open can
    /// do: the admin port, LISTEN and the pool keep theirs in reserve.
    pub fn new(open_files: u64, wanted: Wanted) -> Self {
        let files = usize::try_from(open_files).unwrap_or(usize::MAX);
        // A connection of the pool may be replaced before it is quite gone.
        let database = 2 * (wanted.pool_size + 1);
        let room = files.saturating_sub(ADMIN_CONNECTIONS + OTHER_FILES + database).max(2);
        let streams = wanted.streams.min(room - room.div_ceil(11)).max(1);
        let spare = (streams / 10).max(LEAST_SPARE_CONNECTIONS);
        let connections = wanted.connections.unwrap_or(streams.saturating_add(spare)).min(room);
        // An office behind one address has many users; a quarter of all leaves
        // room for others beside it.
        let per_address = (connections / 4).max(4 * wanted.streams_per_user).min(connections);
        Self { streams, connections, connections_per_address: per_address }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WANTED: Wanted =
        Wanted { streams: 100_000, streams_per_user: 32, connections: None, pool_size: 8 };

    #[test]
    fn with_enough_files_it_is_what_the_settings_say() {
        let capacity = Capacity::new(1_000_000, WANTED);
        assert_eq!(capacity.streams, 100_000);
        assert_eq!(capacity.connections, 110_000);
        assert_eq!(capacity.connections_per_address, 27_500);
        let few = Capacity::new(1_000_000, Wanted { streams: 1, ..WANTED });
        assert_eq!((few.streams, few.connections, few.connections_per_address), (1, 65, 65));
        let set = Capacity::new(1_000_000, Wanted { connections: Some(500), ..WANTED });
        assert_eq!((set.connections, set.connections_per_address), (500, 128));
    }

    proptest! {
        #[test]
        fn whatever_is_wanted_files_are_left_for_the_admin_port_and_the_database(
            files in 200_u64..100_000, streams in 1_usize..200_000, connections: Option<u16>,
            pool_size in 2_usize..40, streams_per_user in 1_usize..100,
        ) {
            let connections = connections.map(usize::from);
            let wanted = Wanted { streams, streams_per_user, connections, pool_size };
            let capacity = Capacity::new(files, wanted);
            let left = usize::try_from(files).unwrap() - capacity.connections;
            prop_assert!(left > ADMIN_CONNECTIONS + pool_size);
            prop_assert!(capacity.streams >= 1);
            if connections.is_none() {
                prop_assert!(capacity.connections > capacity.streams);
            }
        }
    }
}
