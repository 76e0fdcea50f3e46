//! The circuit breaker before the replays' queries.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use crate::{backoff::Backoff, store::Fault};

/// Waits while the breaker is open.
const OPEN_MIN: Duration = Duration::from_millis(200);
const OPEN_MAX: Duration = Duration::from_secs(10);

/// So many failures one after the other may be statements that are refused:
/// enough to find the one request of a full batch that is at fault by halves.
/// With more it is not one of them.
const REFUSALS: u32 = super::queue::MAX_BATCH.ilog2() + 2;

/// Open after a failure: for a while no query, then one at a time, until one
/// succeeds.
#[derive(Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

struct State {
    /// Refusals since the last success.
    refusals: u32,
    backoff: Backoff,
    open_until: Option<Instant>,
}

impl Default for State {
    fn default() -> Self {
        Self { refusals: 0, backoff: Backoff::new(OPEN_MIN, OPEN_MAX), open_until: None }
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

    /// Opens, unless this may be the refusal of a single statement; whether it
    /// was closed and no longer is.
    pub(super) fn failed(&self, fault: Fault) -> bool {
        let mut state = self.state.lock();
        if fault == Fault::Refused {
            state.refusals += 1;
            if state.refusals <= REFUSALS {
                return false;
            }
        }
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
    fn a_database_that_is_away_opens_it_at_once_and_one_success_closes_it() {
        let breaker = Breaker::default();
        assert!(breaker.failed(Fault::Away));
        assert!(!breaker.failed(Fault::Away));
        assert!(breaker.succeeded());
        assert!(!breaker.succeeded());
    }

    #[test]
    fn one_refused_request_can_be_found_by_halves_and_what_is_always_refused_opens_it() {
        let breaker = Breaker::default();
        let halves = super::super::queue::MAX_BATCH.ilog2() + 1;
        for _ in 0..10 {
            assert!((0..halves).all(|_| !breaker.failed(Fault::Refused)));
            assert!(!breaker.succeeded());
        }
        let opened = (0..100).filter(|_| breaker.failed(Fault::Refused)).count();
        assert_eq!(opened, 1, "it opens, and says so once");
    }
}
