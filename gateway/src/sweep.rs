//! The sweep, the probe and the flush, in one transaction.
//!
//! The order is what loses nothing: take a snapshot; look for what the watermark
//! does not see; notify the probe, and write when there is a reason to. The
//! transaction gets its number only by that write, after the snapshot, so the
//! snapshot does not speak of it; and once it has committed, no crash takes back
//! a number that was given out before. A crash in between ends the transaction,
//! and the snapshot is forgotten.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use crate::{
    cursor::{RowKey, Snapshot},
    dispatch::{Dispatch, Quiet, Signal, Sweep, SweptRow},
    error::{Outage, chain},
    health::Health,
    horizon::Horizon,
    hub::{Audience, Hub},
    listener::Restart,
    looks::Looks,
    metrics::Metrics,
    notification::UserId,
    quiet::{Left, Load},
    store::{Store, StoreError, SweepWrite, Transaction, Unseen},
};

/// While nobody is connected, what still has to be done is done this many times
/// as seldom.
const IDLE_FACTOR: u32 = 10;

/// While nobody is connected, what was written is settled in this many times the
/// interval.
const DIRTY_FACTOR: u32 = 2;

/// A LISTEN connection that brings no probe back for this many intervals is
/// dead, however alive it looks.
pub const LOST_PROBES: u32 = 3;

/// The least time between two sweeps, however many rings ask for one: rings
/// that come meanwhile share the next.
const MIN_INTERVAL: Duration = Duration::from_millis(5);

/// More transactions than any threshold: what a sweep does not list is a load.
const MANY: usize = 1 << 30;

/// Sweeps.
pub struct Sweeper<S, A = Hub> {
    /// Where the queries are.
    pub store: S,
    /// Whose watermark it moves.
    pub audience: Arc<A>,
    /// Where what it finds goes.
    pub dispatch: Arc<Dispatch<A>>,
    /// Who waits for a sweep.
    pub looks: Arc<Looks>,
    /// Learns whether the database answers and the probes come back.
    pub health: Arc<Health>,
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
    /// Rung after each sweep.
    pub swept: Arc<Notify>,
    /// Tells the LISTEN connection to begin anew.
    pub restart: Arc<Restart>,
    /// Time between two sweeps.
    pub interval: Duration,
    /// While the triggers are quiet.
    pub quiet_interval: Duration,
    /// What calls for that.
    pub load: Arc<Load>,
    /// Tells this gateway's probes from others'. `None`: nobody listens for one.
    pub nonce: Option<String>,
}

/// A sweep that is under way, however it ends: it may be given up half-way.
struct UnderWay<'a>(&'a Health);

impl<'a> UnderWay<'a> {
    fn new(health: &'a Health, began: Instant) -> Self {
        health.sweep_begins(began);
        Self(health)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.sweep_ends();
    }
}

/// What a sweep knows of those before.
#[derive(Default)]
struct State {
    flushed: Option<Instant>,
    probed: Option<Instant>,
    swept: Option<Swept>,
    /// Whether the triggers are quiet; not known at the beginning of an epoch.
    is_quiet: Option<bool>,
    /// Whether it has to be found out which transactions began while they were.
    is_ending: bool,
}

/// The sweep before.
struct Swept {
    snapshot: Arc<Snapshot>,
    /// When, by the server's clock.
    at: f64,
}

impl Swept {
    /// Whether what it saw still counts, over a connection that was made then. A crash
    /// of the server takes back transaction numbers beyond the watermark, and ends all
    /// connections.
    fn counts_on(&self, connected: f64) -> bool {
        connected <= self.at
    }
}

/// How a sweep ended well.
enum Outcome {
    /// Its snapshot is to become the watermark.
    Flushed,
    /// There is something left that wants a flush, or there is not.
    Unflushed { is_dirty: bool },
}

impl<S: Store, A: Audience> Sweeper<S, A> {
    /// Sweeps, and sweeps again.
    pub async fn run(self) -> Infallible {
        let mut state = State::default();
        let mut outage = Outage::default();
        let mut number = 0;
        loop {
            number += 1;
            let began = Instant::now();
            let outcome = {
                let _under_way = UnderWay::new(&self.health, began);
                self.sweep_once(number, &mut state).await
            };
            match &outcome {
                Ok(()) => {
                    if outage.ends() {
                        tracing::info!("the database answers again");
                    }
                    self.health.database_answers();
                    self.swept.notify_one();
                    self.metrics.swept(began.elapsed());
                }
                Err(error) => {
                    let error = chain(error);
                    if outage.is_new(&error) {
                        tracing::warn!(error, "the database cannot be swept");
                    }
                    self.health.database_fails(format!("no sweep: {error}"));
                }
            }
            let is_failing = outcome.is_err();
            self.looks.ended(began, !is_failing);
            if self.health.probe_is_lost(self.interval * LOST_PROBES) {
                self.restart.request();
            }
            self.rest(began, is_failing, state.is_quiet == Some(true)).await;
        }
    }

    async fn sweep_once(&self, number: u64, state: &mut State) -> Result<(), StoreError> {
        // Before the snapshot: what is published from here on wants another
        // flush.
        let was_dirty = self.audience.requests().take_dirty();
        match self.sweep(number, state, was_dirty).await {
            Ok(Outcome::Flushed) => Ok(()),
            Ok(Outcome::Unflushed { is_dirty }) => {
                if is_dirty {
                    self.audience.requests().set_dirty();
                }
                Ok(())
            }
            Err(error) => {
                if was_dirty {
                    self.audience.requests().set_dirty();
                }
                Err(error)
            }
        }
    }

    async fn sweep(
        &self,
        number: u64,
        state: &mut State,
        was_dirty: bool,
    ) -> Result<Outcome, StoreError> {
        let mut transaction = self.store.begin().await?;
        let standing = transaction.standing().await?;
        self.metrics.notify_queue_usage(standing.queue_usage);
        let horizon = self.audience.horizon();
        if standing.epoch != horizon.epochs.current() {
            (state.swept, state.is_quiet) = (None, None);
            self.begin_epoch(transaction, standing.snapshot).await?;
            return Ok(Outcome::Unflushed { is_dirty: was_dirty });
        }
        let before = match state.swept.take() {
            Some(swept) if swept.counts_on(standing.connected) => swept.snapshot,
            _ => Arc::clone(&horizon.watermark),
        };
        let Unseen { rows: unseen, seen } = transaction.unseen(&before).await?;
        let quiet = self.quiet(state, standing.quiet);
        if quiet == Quiet::Yes {
            // Nothing else tells how many they are.
            self.load.add(unseen.as_ref().map_or(MANY, |rows| transactions(rows)));
        }
        let quiet_for = self.load.wanted(standing.quiet);
        // An idle table moves no watermark: the flush would be the only write
        // there is. A table that rings all the time moves it once an interval.
        let is_changed = was_dirty || unseen.as_ref().is_none_or(|rows| !rows.is_empty());
        let is_due = state.flushed.is_none_or(|flushed| flushed.elapsed() >= self.interval);
        let flush = self.audience.requests().take_watermark_wanted()
            || quiet_for.is_some()
            || quiet == Quiet::Ending
            || is_changed && (is_due || self.looks.are_awaited());
        let rows = match unseen {
            Some(unseen) => Some(self.read(&mut transaction, unseen).await?),
            None => None,
        };
        let snapshot = Arc::new(standing.snapshot);
        let swept = Swept { snapshot: Arc::clone(&snapshot), at: standing.now };
        let signal = Sweep { number, snapshot: Arc::clone(&snapshot), seen, quiet, rows };
        self.dispatch.take(Signal::Swept(signal));
        state.swept = Some(swept);
        // Sweeps that follow each other closely share a probe.
        let is_probe_due = state.probed.is_none_or(|probed| probed.elapsed() >= self.interval);
        let nonce = self.nonce.as_ref().filter(|_| quiet != Quiet::Yes || is_probe_due);
        let nonce = nonce.map(|nonce| {
            self.health.probe_sent(number);
            state.probed = Some(Instant::now());
            format!("{nonce}:{number}")
        });
        // All gateways are to know when it begins and when it ends.
        let ring = quiet_for.is_some_and(|time| time.is_zero() == standing.quiet.is_quiet());
        let write = SweepWrite { probe: nonce.as_deref(), flush, quiet: quiet_for, ring };
        let own = transaction.write(write).await?;
        transaction.commit().await?;
        let Some(own) = own else { return Ok(Outcome::Unflushed { is_dirty: is_changed }) };
        state.flushed = Some(Instant::now());
        // An edge that is about to follow a source again may have heard of more meanwhile.
        let here = self.audience.horizon();
        if here.epochs.current() != standing.epoch || !snapshot.contains(&here.watermark) {
            return Ok(Outcome::Unflushed { is_dirty: true });
        }
        self.dispatch.take(Signal::Durable(number));
        if quiet == Quiet::Ending {
            state.is_ending = false;
            self.dispatch.take(Signal::Loud(own));
            self.audience.requests().ask();
        }
        Ok(Outcome::Flushed)
    }

    /// The start, and a server that has begun another life: the watermark begins
    /// anew, as durable as any.
    async fn begin_epoch(
        &self,
        mut transaction: S::Transaction,
        snapshot: Snapshot,
    ) -> Result<(), StoreError> {
        let epochs = transaction.epochs().await?;
        let nonce = self.nonce.as_ref().map(|nonce| format!("{nonce}:0"));
        let write = SweepWrite { probe: nonce.as_deref(), flush: true, ..SweepWrite::default() };
        transaction.write(write).await?;
        transaction.commit().await?;
        tracing::info!(epoch = epochs.current(), "following the database");
        let watermark = Arc::new(snapshot);
        self.dispatch.take(Signal::Epoch(Horizon { watermark, epochs }));
        self.audience.requests().ask();
        Ok(())
    }

    /// Whether transactions may write without a ring.
    fn quiet(&self, state: &mut State, left: Left) -> Quiet {
        let is_quiet = left.is_quiet();
        self.metrics.quiet(is_quiet);
        let was_quiet = state.is_quiet.replace(is_quiet);
        state.is_ending |= was_quiet.unwrap_or_else(|| left.was_lately());
        if is_quiet {
            return Quiet::Yes;
        }
        if state.is_ending { Quiet::Ending } else { Quiet::No }
    }

    /// Reads what has to be told from here.
    async fn read(
        &self,
        transaction: &mut S::Transaction,
        unseen: Vec<(RowKey, UserId)>,
    ) -> Result<Vec<SweptRow>, StoreError> {
        let wanted = self.dispatch.wanted(unseen);
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let rows = transaction.rows(&wanted).await?;
        let wanted = wanted.into_iter().zip(rows);
        Ok(wanted.map(|((key, user), row)| SweptRow { key, user, row }).collect())
    }

    /// How long until the next sweep if nobody asks for one; `None`: there is
    /// nothing to look for until somebody does.
    fn longest_rest(&self, is_failing: bool, is_quiet: bool) -> Option<Duration> {
        if is_quiet && !is_failing && !self.audience.is_empty() {
            Some(self.quiet_interval)
        } else if !self.audience.is_empty() {
            Some(self.interval)
        } else if is_failing || !self.health.is_well() {
            Some(self.interval * IDLE_FACTOR)
        } else if self.audience.requests().is_dirty() {
            // So that a client without a cursor is not brought what is old.
            Some(self.interval * DIRTY_FACTOR)
        } else {
            None
        }
    }

    async fn rest(&self, began: Instant, is_failing: bool, is_quiet: bool) {
        // The first try after an outage is spread, so that many gateways do not
        // fall upon a database that has just come back.
        let spread = if is_failing { 1.0 + fastrand::f64() } else { 1.0 };
        let longest = || self.longest_rest(is_failing, is_quiet).map(|rest| rest.mul_f64(spread));
        tokio::select! {
            biased;
            () = self.audience.requests().rest(longest) => {}
            () = self.audience.requests().asked(), if !is_failing => {
                let least = MIN_INTERVAL.saturating_sub(began.elapsed());
                tokio::time::sleep(least).await;
            }
            // Not while it fails: each client that comes then would be an attempt.
            () = self.looks.wanted(), if !is_failing => {
                tokio::time::sleep(MIN_INTERVAL.saturating_sub(began.elapsed())).await;
            }
        }
    }
}

/// How many transactions have written these rows.
fn transactions(rows: &[(RowKey, UserId)]) -> usize {
    rows.iter().map(|(key, _)| key.xact).collect::<HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sweep_saw_counts_only_over_a_connection_that_it_could_have_had() {
        let swept = Swept { snapshot: Arc::new(Snapshot::empty()), at: 1000.5 };
        assert!(swept.counts_on(900.0) && swept.counts_on(1000.5));
        assert!(!swept.counts_on(1000.6), "the server may have crashed in between");
    }
}
