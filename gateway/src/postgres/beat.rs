//! The sweep, the probe and the flush, once a beat.
//!
//! The order is what loses nothing: take a snapshot; look for what the
//! watermark does not see; notify the probe, in a transaction that writes when
//! there is a reason to. All on one connection: a crash of Postgres between the
//! snapshot and the flush ends the connection, and the snapshot is forgotten.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    listener::Kick,
    store::{Session, Standing, Store, StoreError},
};
use crate::{
    cursor::Snapshot,
    dispatch::{Dispatch, Signal, Sweep},
    error::chain,
    health::Health,
    horizon::{History, Horizon},
    hub::Hub,
    metrics::Metrics,
    revocation::Revocations,
};

/// While nobody is connected and nothing is written, a beat is this many times
/// as long.
const IDLE_FACTOR: u32 = 10;

/// A LISTEN connection that brings no probe back for this many beats is dead,
/// however alive it looks.
const LOST_PROBES: u32 = 3;

/// The least time between two sweeps, however many rings ask for one: rings
/// that come meanwhile share the next.
const MIN_INTERVAL: Duration = Duration::from_millis(5);

/// Beats.
pub struct Beat {
    /// Where the queries are.
    pub store: Arc<Store>,
    /// Whose watermark it moves.
    pub hub: Arc<Hub>,
    /// Whom it refuses.
    pub revocations: Arc<Revocations>,
    /// Where what it finds goes.
    pub dispatch: Arc<Dispatch>,
    /// Learns whether the database answers and the probes come back.
    pub health: Arc<Health>,
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
    /// Tells the LISTEN connection to begin anew.
    pub kick: Arc<Kick>,
    /// Time between two beats.
    pub interval: Duration,
    /// Tells this gateway's probes from others'.
    pub nonce: String,
}

impl Beat {
    /// Beats.
    pub async fn run(self) {
        let mut state = State::default();
        let mut failing = false;
        for number in 1.. {
            let began = Instant::now();
            match self.beat(number, &mut state).await {
                Ok(()) => {
                    if failing {
                        tracing::info!("the database answers again");
                    }
                    failing = false;
                    self.health.database_answers();
                    self.metrics.swept(began.elapsed());
                }
                Err(error) => {
                    // One line an outage: what follows says nothing new.
                    if !failing {
                        tracing::warn!(error = chain(&error), "the database cannot be swept");
                    }
                    failing = true;
                    self.health.database_fails(format!("no sweep: {}", chain(&error)));
                }
            }
            let beat = self.longest_rest(failing);
            if self.health.probe_is_lost(beat * LOST_PROBES) {
                self.kick.kick();
            }
            self.rest(began, failing).await;
        }
    }

    async fn beat(&self, number: u64, state: &mut State) -> Result<(), StoreError> {
        // Before the snapshot: what is published from here on wants another
        // flush.
        let dirty = self.hub.take_dirty();
        let outcome = self.sweep(number, state, dirty).await;
        if *outcome.as_ref().unwrap_or(&dirty) {
            self.hub.set_dirty();
        }
        outcome.map(|_dirty| ())
    }

    /// Whether there is still something that wants a flush.
    async fn sweep(&self, number: u64, state: &mut State, dirty: bool) -> Result<bool, StoreError> {
        let mut session = self.store.session().await?;
        let standing = session.standing().await?;
        self.metrics.notify_queue_usage(standing.queue_usage);
        let horizon = self.hub.horizon();
        // A copy of the data directory brings an older state back on the same
        // timeline: then what was sure is not there.
        let is_set_back = !standing.snapshot.contains(&horizon.watermark);
        let is_other = state.history.as_ref() != Some(&standing.history);
        if is_other || is_set_back || self.hub.take_epochs_wanted() {
            let known = state.history.take().map(|_| horizon.epochs.current());
            let outlived = known.filter(|_| is_set_back && !is_other);
            self.begin_epoch(&mut session, &standing, outlived).await?;
            state.history = Some(standing.history);
            return Ok(dirty);
        }
        let unseen = session.unseen(&horizon.watermark).await?;
        let revoked = self.revoke(&mut session, &horizon.watermark).await?;
        // An idle table moves no watermark: the flush would be the only write
        // there is, for ever. A table that rings all the time moves it once a
        // beat.
        let changed = dirty || revoked || unseen.as_ref().is_none_or(|rows| !rows.is_empty());
        let is_due = state.flushed.is_none_or(|flushed| flushed.elapsed() >= self.interval);
        let flush = changed && (is_due || self.hub.take_watermark_wanted());
        let sweep = Sweep { number, snapshot: Arc::new(standing.snapshot), unseen };
        self.dispatch.take(Signal::Swept(sweep));
        self.health.probe_sent(number);
        session.probe(&format!("{}:{number}", self.nonce), flush).await?;
        if flush {
            state.flushed = Some(Instant::now());
            self.dispatch.take(Signal::Durable(number));
        }
        Ok(changed && !flush)
    }

    /// The start, and a database whose transaction numbers are others: the
    /// watermark begins anew, as durable as any.
    async fn begin_epoch(
        &self,
        session: &mut Session<'_>,
        standing: &Standing,
        outlived: Option<u32>,
    ) -> Result<(), StoreError> {
        let epochs = session.epochs(&standing.history, outlived).await?;
        self.revoke(session, &Snapshot::empty()).await?;
        session.probe(&format!("{}:0", self.nonce), true).await?;
        tracing::info!(epoch = epochs.current(), "following the database's history");
        let watermark = Arc::new(standing.snapshot.clone());
        let history = standing.history.clone();
        self.dispatch.take(Signal::Epoch(Horizon { history, watermark, epochs }));
        self.hub.sweep_wanted.notify_one();
        Ok(())
    }

    /// Reads the revocations that `watermark` does not see and ends whose
    /// streams they end; whether there were any.
    async fn revoke(
        &self,
        session: &mut Session<'_>,
        watermark: &Snapshot,
    ) -> Result<bool, StoreError> {
        let revocations = session.revocations(watermark).await?;
        for revocation in &revocations {
            // Known first and ended then: a stream that is opened in between
            // is refused by the one or ended by the other.
            if self.revocations.add(*revocation) {
                self.hub.revoke(*revocation);
            }
        }
        Ok(!revocations.is_empty())
    }

    /// A beat, or many of them where there is nothing to look for.
    fn longest_rest(&self, failing: bool) -> Duration {
        let is_busy =
            failing || !self.hub.is_empty() || self.hub.is_dirty() || !self.health.is_well();
        if is_busy { self.interval } else { self.interval * IDLE_FACTOR }
    }

    async fn rest(&self, began: Instant, failing: bool) {
        // The first try after an outage is spread, so that many gateways do not
        // fall upon a database that has just come back.
        let jitter = if failing { 1.0 + fastrand::f64() } else { 1.0 };
        let longest = self.longest_rest(failing).mul_f64(jitter);
        tokio::select! {
            () = tokio::time::sleep(longest) => {}
            () = self.hub.sweep_wanted.notified(), if !failing => {
                let least = MIN_INTERVAL.saturating_sub(began.elapsed());
                tokio::time::sleep(least).await;
            }
        }
    }
}

/// What a beat knows of those before.
#[derive(Default)]
struct State {
    history: Option<History>,
    flushed: Option<Instant>,
}
