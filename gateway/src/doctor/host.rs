//! What the machine lets the gateway have.

use nix::sys::resource::{Resource, getrlimit};

use super::{Finding, Verdict};
use crate::{
    config::Config,
    limits::{Capacity, Wanted},
};

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    // The gateway raises the soft limit to the hard one when it starts.
    let Ok((_, files)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Vec::new() };
    let wanted = Wanted {
        streams: config.max_streams,
        streams_per_user: config.max_streams_per_user,
        connections: config.max_connections,
        pool_size: config.pool_size,
    };
    let streams = Capacity::new(files, wanted).streams;
    if streams >= config.max_streams {
        let what = format!("{files} open files are enough for {streams} streams");
        return vec![Finding::new("open_files", Verdict::Ok, what)];
    }
    let what = format!(
        "{files} open files are enough for {streams} streams, not for the {} of --max-streams \
         (GATEWAY_MAX_STREAMS): those that are too many are told to come back later",
        config.max_streams
    );
    let least = config.max_streams + config.max_streams / 5 + 1024;
    vec![
        Finding::new("open_files", Verdict::Note, what)
            .mended_by(format!("LimitNOFILE={least}  # systemd"))
            .mended_by(format!("ulimit -n {least}  # a shell")),
    ]
}
