//! The waits between attempts at something that does not answer.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Waits that grow from `min` to `max`, jittered, for as long as it takes. One
/// that has succeeded begins with a new one.
pub struct Backoff {
    waits: ExponentialBackoff,
    max: Duration,
}

impl Backoff {
    /// The shortest and the longest wait, before jitter.
    pub fn new(min: Duration, max: Duration) -> Self {
        let waits = ExponentialBuilder::default()
            .with_min_delay(min)
            .with_max_delay(max)
            .without_max_times()
            .with_jitter();
        Self { waits: waits.build(), max }
    }

    /// How long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        self.waits.next().unwrap_or(self.max)
    }
}
