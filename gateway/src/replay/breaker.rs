//! The circuit breaker before the replays' queries.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use crate::backoff::Backoff;

/// Waits while the breaker is open.
const OPEN_MIN: Duration = Duration::from_millis(200);
const OPEN_MAX: Duration = Duration::from_secs(10);

/// Open after a failure: for a while no query, then one at a time, until one
/// succeeds.
#[derive(Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

struct State {
    backoff: Backoff,
    open_until: Option<Instant>,
}

impl Default for State {
    fn default() -> Self {
        Self { backoff: Backoff::new(OPEN_MIN, OPEN_MAX), open_until: None }
    }
}

impl Breaker {
    /// Waits until a query may be made. While the breaker is not closed, that
    /// is when no other is on its way.
    pub(super) async fn closed(&self, permits: &Semaphore, all: usize) {
        loop {
            let Some(open_until) = self.state.lock().open_until else { return };
            let wait = open_until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                let all = u32::try_from(all).unwrap_or(u32::MAX);
                // Not kept: what follows takes its own, and nothing else does.
                let _idle = permits.acquire_many(all).await;
                if self.state.lock().open_until.is_none_or(|until| until <= Instant::now()) {
                    return;
                }
                continue;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether no query may be made now.
    pub(super) fn is_waiting(&self) -> bool {
        self.state.lock().open_until.is_some_and(|until| until > Instant::now())
    }

    /// Whether it is open, or lets one query at a time through.
    pub(super) fn is_open(&self) -> bool {
        self.state.lock().open_until.is_some()
    }

    /// Closes; whether it was open.
    pub(super) fn succeeded(&self) -> bool {
        std::mem::take(&mut *self.state.lock()).open_until.is_some()
    }

    /// Opens; whether it was closed.
    pub(super) fn failed(&self) -> bool {
        let mut state = self.state.lock();
        let was_closed = state.open_until.is_none();
        let wait = state.backoff.next_wait();
        state.open_until = Some(Instant::now() + wait);
        was_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_opens_it_and_one_success_closes_it() {
        let breaker = Breaker::default();
        assert!(breaker.failed());
        assert!(!breaker.failed());
        assert!(breaker.is_open() && breaker.is_waiting());
        assert!(breaker.succeeded());
        assert!(!breaker.succeeded());
        assert!(!breaker.is_open());
    }
}
