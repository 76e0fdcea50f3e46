//! An edge: it follows a source, and sweeps for itself while it hears none.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, time::Instant};

use super::{Batch, BatchError, Follower, Heard, Message, Place, Reader as _, Relay, RelayError};
use crate::{
    backoff::{Backoff, jitter},
    dispatch::{Dispatch, Dispatcher},
    error::{LogGate, Outage, chain},
    health::Health,
    hub::Hub,
    listener::Restart,
    looks::Looks,
    metrics::Metrics,
    quiet::Load,
    store::Store,
    sweep::Sweeper,
};

/// A source says something each second.
const SILENCE: Duration = Duration::from_secs(3);

/// Longest wait for the relay to answer.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest and longest wait between two attempts, before jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The least time between two wants that an edge passes on.
const WANTS_INTERVAL: Duration = Duration::from_millis(50);

/// How often it is looked whether the first sweep has found out the epoch.
const EPOCH_INTERVAL: Duration = Duration::from_millis(20);

/// How many times as seldom an edge sweeps as a source: there are many of them.
const FALLBACK_FACTOR: u32 = 5;

/// Follows, or sweeps.
pub struct Edge<R, S> {
    /// Where the source is heard.
    pub relay: Arc<R>,
    /// Where the log is.
    pub store: S,
    /// Whose streams are told.
    pub hub: Arc<Hub>,
    /// Who waits for a fresh look.
    pub looks: Arc<Looks>,
    /// Learns whether a source is heard.
    pub health: Arc<Health>,
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
    /// Time between two sweeps of a source.
    pub interval: Duration,
}

/// What an edge has heard so far.
struct Ear {
    follower: Follower<Hub>,
    place: Option<Place>,
    malformed_logged: LogGate,
    outage: Outage,
}

impl<R: Relay, S: Store + Clone> Edge<R, S> {
    /// Follows, and follows again.
    pub async fn run(self) -> Infallible {
        let mut ear = Ear {
            follower: Follower::new(Arc::clone(&self.hub)),
            place: None,
            malformed_logged: LogGate::default(),
            outage: Outage::default(),
        };
        let mut rest = Duration::ZERO;
        loop {
            let mut reader = tokio::select! {
                biased;
                reader = self.join(&mut ear) => reader,
                never = self.sweep_after(rest) => match never {},
            };
            if ear.outage.ends() {
                tracing::info!("the source is heard again over the relay");
            }
            self.metrics.relay_up(true);
            self.health.relay_is_heard();
            self.health.database_answers();
            let error = self.follow(&mut reader, &mut ear).await;
            self.metrics.relay_up(false);
            self.note(&error, &mut ear);
            // Many edges lose it at once.
            rest = jitter(Duration::ZERO, self.interval * FALLBACK_FACTOR);
        }
    }

    async fn join(&self, ear: &mut Ear) -> R::Reader {
        // Before that nobody knows whether a source speaks of this database.
        while self.hub.horizon().epochs.current() == 0 {
            tokio::time::sleep(EPOCH_INTERVAL).await;
        }
        self.health.has_horizon();
        let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
        loop {
            match self.try_to_join(ear).await {
                Ok(reader) => return reader,
                Err(error) => self.note(&error, ear),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Reads until something comes that was told since: a source that is gone may have left much.
    async fn try_to_join(&self, ear: &mut Ear) -> Result<R::Reader, RelayError> {
        let reading = tokio::time::timeout(JOIN_TIMEOUT, self.relay.read(ear.place.as_ref()));
        let mut reader = reading.await.map_err(|_| RelayError::TimedOut)??;
        while self.hear_next(&mut reader, ear).await? <= reader.newest() {}
        Ok(reader)
    }

    async fn follow(&self, reader: &mut R::Reader, ear: &mut Ear) -> RelayError {
        let hearing = async {
            loop {
                match self.hear_next(reader, ear).await {
                    Ok(_number) => self.looks.ended(Instant::now(), true),
                    Err(error) => return error,
                }
            }
        };
        tokio::select! {
            biased;
            error = hearing => error,
            never = self.pass_wants_on() => match never {},
        }
    }

    /// The watermark that a stream with a long cursor wants is the source's to move.
    async fn pass_wants_on(&self) -> Infallible {
        loop {
            self.hub.requests.asked().await;
            if self.hub.requests.take_watermark_wanted() {
                self.relay.want_watermark().await;
                tokio::time::sleep(WANTS_INTERVAL).await;
            }
        }
    }

    /// Hears the next batch, and returns the number of its message.
    async fn hear_next(&self, reader: &mut R::Reader, ear: &mut Ear) -> Result<u64, RelayError> {
        let hearing = async {
            loop {
                let message = reader.next().await?;
                let number = message.place.number;
                match self.hear(message, ear) {
                    Ok(true) => return Ok(number),
                    Ok(false) => {}
                    Err(error) => {
                        // Of another epoch's batches, or another version's, there may be many:
                        // the newest tells whether there still are.
                        ear.place = None;
                        return Err(error);
                    }
                }
            }
        };
        // What others write there is no sign of a source.
        tokio::time::timeout(SILENCE, hearing).await.map_err(|_| RelayError::Silent)?
    }

    /// Whether a source has said it.
    fn hear(&self, message: Message, ear: &mut Ear) -> Result<bool, RelayError> {
        let Message { place, appended_at, bytes } = message;
        let has_heard = ear.place.replace(place).is_some();
        match Batch::decode(&bytes) {
            Ok(batch) => {
                let heard = ear.follower.take(batch)?;
                let age = appended_at.and_then(|at| SystemTime::now().duration_since(at).ok());
                // Who has just come has missed nothing.
                let is_gap = heard == Heard::Gap && has_heard;
                self.metrics.relay_heard(age, is_gap);
                if is_gap {
                    tracing::info!("missed something of the relay: the streams read the log");
                }
                Ok(true)
            }
            Err(error) => {
                // It is as if something had been missed.
                ear.follower.miss();
                if matches!(error, BatchError::Version(_)) {
                    return Err(error.into());
                }
                if ear.malformed_logged.opens() {
                    tracing::warn!(
                        message.bytes = bytes.len(),
                        "ignored a message of the relay that no source wrote; more in the next minute are not logged"
                    );
                }
                Ok(false)
            }
        }
    }

    fn note(&self, error: &RelayError, ear: &mut Ear) {
        let cause = chain(error);
        if ear.outage.is_new(&cause) {
            tracing::warn!(
                error = cause,
                "this gateway sweeps for itself, until a source is heard"
            );
        }
        self.health.relay_fails(format!("sweeping for itself: {cause}"));
    }

    /// Sweeps until a source is heard. Each time anew, from where the hub is.
    async fn sweep_after(&self, rest: Duration) -> Infallible {
        tokio::time::sleep(rest).await;
        let load = Arc::new(Load::of_others());
        let (hub, metrics) = (Arc::clone(&self.hub), Arc::clone(&self.metrics));
        let dispatcher = Dispatcher::new(hub, metrics, Arc::clone(&load));
        let interval = self.interval * FALLBACK_FACTOR;
        let sweeper = Sweeper {
            store: self.store.clone(),
            audience: Arc::clone(&self.hub),
            dispatch: Arc::new(Dispatch::new(dispatcher)),
            looks: Arc::clone(&self.looks),
            health: Arc::clone(&self.health),
            metrics: Arc::clone(&self.metrics),
            swept: Arc::new(Notify::new()),
            restart: Arc::new(Restart::default()),
            interval,
            quiet_interval: interval,
            load,
            nonce: None,
        };
        sweeper.run().await
    }
}
