//! What the machine lets the gateway have.

use super::{Finding, Verdict};
use crate::{
    config::Config,
    limits::{self, Capacity},
};

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    // As the gateway does when it starts; it holds for this process only.
    let Ok(files) = limits::raise_open_files() else { return Vec::new() };
    let streams = Capacity::new(files, config.into()).streams;
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
