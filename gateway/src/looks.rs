//! Looks at the database, and those who wait for one that is fresh.
//!
//! While nobody is connected the gateway asks the database nothing. So the client that
//! comes first has to wait until it has been asked: whether the token is
//! revoked, and how far the rows have been offered.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::hub::Hub;

/// How long after a failed look the database counts as away: the next one is
/// asked for, but not waited for.
const AWAY_FOR: Duration = Duration::from_secs(10);

/// The looks of one task.
pub struct Looks {
    wanted: Notify,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// When the last one began that has ended well.
    seen: Option<Instant>,
    /// When the last one ended, if it failed.
    failed: Option<Instant>,
    waiting: usize,
}

impl Looks {
    /// None has been taken.
    pub fn new() -> Self {
        Self { wanted: Notify::new(), state: watch::Sender::default() }
    }

    /// Waits for a look that is at most `max_age` old, unless the database is
    /// away, and at most for `max_wait`.
    pub async fn fresh(&self, max_age: Duration, max_wait: Duration) {
        let asked = Instant::now();
        let is_fresh = |state: &State| state.seen.is_some_and(|seen| seen + max_age >= asked);
        let is_away = |state: &State| state.failed.is_some_and(|failed| failed + AWAY_FOR >= asked);
        let now = *self.state.borrow();
        if is_fresh(&now) {
            return;
        }
        self.wanted.notify_one();
        if !is_away(&now) {
            let _waiting = Waiting::new(&self.state);
            let mut state = self.state.subscribe();
            let looking = state.wait_for(|state| is_fresh(state) || is_away(state));
            let _in_time = tokio::time::timeout(max_wait, looking).await;
        }
    }

    /// How long ago the last one began that has ended well; `None`: none has.
    pub fn age(&self) -> Option<Duration> {
        self.state.borrow().seen.map(|seen| seen.elapsed())
    }

    /// Whether somebody waits.
    pub fn are_awaited(&self) -> bool {
        self.state.borrow().waiting > 0
    }

    /// Waits until somebody does.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The look that `began` then has ended.
    pub fn ended(&self, began: Instant, is_well: bool) {
        self.state.send_modify(|state| {
            if is_well {
                state.seen = Some(began);
            }
            state.failed = (!is_well).then(Instant::now);
        });
    }
}

impl Default for Looks {
    fn default() -> Self {
        Self::new()
    }
}

/// What has to be known before a stream is opened.
pub struct Freshness {
    /// Where one sees whether anybody is connected.
    pub hub: Arc<Hub>,
    /// The looks at the revocations.
    pub revocations: Arc<Looks>,
    /// The sweeps.
    pub sweeps: Arc<Looks>,
    /// How old a sweep may be while somebody is.
    pub sweep_age: Duration,
    /// Whether this gateway is told how far the rows are although nobody is connected.
    pub is_idle_told: bool,
}

/// How old a look at the revocations may be while somebody is connected. They
/// are read twice as often then.
const REVOCATIONS_AGE: Duration = Duration::from_secs(1);

/// How long a client waits for a look while nobody is connected: a database that
/// is asleep takes some seconds to wake up. One that gives no answer at all is
/// away, and streams are opened while it is.
const IDLE_WAIT: Duration = Duration::from_secs(5);

/// And while somebody is: looks are under way all the time, and one that is late
/// is followed by the next, which ends the streams that a revocation ends.
const BUSY_WAIT: Duration = Duration::from_secs(1);

impl Freshness {
    /// Waits until all of it is known, unless the database is away. For one who
    /// tries too often nothing is asked that was asked a moment ago.
    pub async fn ensure(&self, is_flooded: bool) {
        // While nobody is connected nothing is looked at, and what was seen a
        // moment ago may be the last for long.
        let is_idle = self.hub.is_empty();
        let age = |age| if is_idle && !is_flooded { Duration::ZERO } else { age };
        let wait = if is_idle { IDLE_WAIT } else { BUSY_WAIT };
        let revocations = self.revocations.fresh(age(REVOCATIONS_AGE), wait);
        let sweep_age = if self.is_idle_told { self.sweep_age } else { age(self.sweep_age) };
        tokio::join!(revocations, self.sweeps.fresh(sweep_age, wait));
    }
}

/// Somebody who waits, however the wait ends.
struct Waiting<'a>(&'a watch::Sender<State>);

impl<'a> Waiting<'a> {
    fn new(state: &'a watch::Sender<State>) -> Self {
        state.send_modify(|state| state.waiting += 1);
        Self(state)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_young_enough_is_not_waited_for() {
        let looks = Looks::new();
        looks.ended(Instant::now(), true);
        looks.fresh(SECOND, SECOND).await;
        assert!(!looks.are_awaited());
    }

    /// Looks of which the last is long past, and a client that waits for the next.
    async fn asking() -> (Arc<Looks>, JoinHandle<()>) {
        let looks = Arc::new(Looks::new());
        let long_ago = Instant::now().checked_sub(60 * SECOND).unwrap();
        looks.ended(long_ago, true);
        let asked = Arc::clone(&looks);
        let asking = tokio::spawn(async move { asked.fresh(SECOND, 60 * SECOND).await });
        looks.wanted().await;
        (looks, asking)
    }

    #[tokio::test]
    async fn a_client_waits_for_a_look_that_began_after_it_asked_and_is_announced() {
        let (looks, asking) = asking().await;
        assert!(looks.are_awaited() && !asking.is_finished());
        looks.ended(Instant::now(), true);
        asking.await.unwrap();
        assert!(!looks.are_awaited());
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_does_not_end_is_not_waited_for_without_a_limit() {
        let looks = Looks::new();
        looks.fresh(Duration::ZERO, SECOND).await;
        assert!(!looks.are_awaited());
    }

    #[tokio::test]
    async fn a_look_that_fails_lets_those_in_who_wait_and_those_who_come_later() {
        let (looks, asking) = asking().await;
        looks.ended(Instant::now(), false);
        asking.await.unwrap();
        looks.fresh(Duration::ZERO, 60 * SECOND).await;
        // They ask for another all the same.
        looks.wanted().await;
    }
}
