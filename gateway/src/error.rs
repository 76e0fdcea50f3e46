//! Errors as people read them.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// An error and its causes on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries' wrappers repeat their cause word for word.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}

/// How long a burst of one kind of failure is answered by one log line.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Lets one log line pass in each [`LOG_INTERVAL`].
#[derive(Debug, Default)]
pub struct LogGate(Mutex<Option<Instant>>);

impl LogGate {
    /// Whether the line may be written.
    pub fn opens(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock();
        let is_open = last.is_none_or(|last| now - last >= LOG_INTERVAL);
        if is_open {
            *last = Some(now);
        }
        is_open
    }
}
