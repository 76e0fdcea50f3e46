//! The source: what LISTENs and sweeps for all edges, one gateway at a time.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::Notify, time::Instant};

use super::{Batch, Relay, RelayError, Teller, TellerLimits};
use crate::{
    backoff::jitter,
    dispatch::{Dispatch, Dispatcher},
    error::{Outage, chain},
    health::Health,
    horizon::{Epoch, Epochs, Horizon},
    hub::Audience as _,
    listen::{Lead as _, Leadership, Listen, ListenError},
    listener::{Listener, Restart},
    looks::Looks,
    metrics::Metrics,
    quiet::Load,
    store::Store,
    sweep::Sweeper,
};

/// A source that has nothing to tell says so this often.
const SIGN: Duration = Duration::from_secs(1);

/// Longest wait for the relay to say that it has what was sent. Past it another gateway may do
/// better.
const APPEND_TIMEOUT: Duration = Duration::from_secs(3);

/// How much longer than usual a sweep may be missing.
const SWEEP_PATIENCE: Duration = Duration::from_secs(5);

/// The least time between two watermarks that edges want.
const WANTS_INTERVAL: Duration = Duration::from_millis(50);

/// Batches that may be on their way at once. What comes while they are is gathered into the next
/// one, so that under load each message has many rows and each edge is woken seldom.
const MAX_ON_THE_WAY: usize = 4;

/// The rest before a gateway tries to become the source again, so that another may.
const REST: Duration = Duration::from_secs(1);

/// Bytes that wait for the relay; past it all edges read the log.
const MAX_WAITING: usize = 16 * 1024 * 1024;

/// Large batches cost their sender latency and nobody less.
const MAX_BATCH: usize = 256 * 1024;

/// What a message has beside the rows.
const ENVELOPE: usize = 16 * 1024;

/// Becomes the source whenever no other gateway is.
pub struct Source<R, W, L, S> {
    /// Where it tells what it tells.
    pub relay: Arc<R>,
    /// What makes it the source.
    pub leadership: W,
    /// How a LISTEN connection is made.
    pub listen: Arc<L>,
    /// Where the log is.
    pub store: S,
    /// Learns whether the source can do its work.
    pub health: Arc<Health>,
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
    /// What makes the triggers quiet.
    pub load: Arc<Load>,
    /// Whether rows are taken from notifications.
    pub trust_payloads: bool,
    /// Rung after each sweep.
    pub swept: Arc<Notify>,
    /// Time between two sweeps.
    pub interval: Duration,
    /// While the triggers are quiet.
    pub quiet_interval: Duration,
    /// Tells this gateway's probes from others'.
    pub nonce: String,
}

/// Why a gateway is no longer the source.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error(transparent)]
    Database(#[from] ListenError),
    #[error("the log cannot be swept by --database-url (DATABASE_URL)")]
    Sweep,
}

impl<R, W, L, S> Source<R, W, L, S>
where
    R: Relay,
    W: Leadership,
    L: Listen,
    S: Store + Clone,
{
    /// Leads, and waits to lead again.
    pub async fn run(self) -> Infallible {
        let mut outage = Outage::default();
        loop {
            let mut has_led = false;
            let Err(end) = self.lead(&mut has_led).await;
            self.metrics.relay_lead(false);
            self.metrics.listen_up(false);
            self.health.listens_no_more();
            if has_led {
                outage.ends();
            }
            let cause = chain(&end);
            if outage.is_new(&cause) {
                tracing::warn!(error = cause, "this gateway is not the source");
            }
            self.health.source_fails(format!("not the source: {cause}"));
            tokio::time::sleep(jitter(REST, REST)).await;
        }
    }

    async fn lead(&self, has_led: &mut bool) -> Result<Infallible, End> {
        // Who cannot tell anybody lets another lead.
        in_time(self.relay.newest()).await?;
        let mut lead = self.leadership.acquire(|| self.health.source_is_well()).await?;
        let newest = in_time(self.relay.newest()).await?;
        // A batch that cannot be read says nothing of what comes behind it.
        let last = newest.bytes.and_then(|bytes| Batch::decode(&bytes).ok());
        let behind = last.map(|batch| {
            let epoch = Epoch { number: batch.epoch, first: None, is_restart: false };
            let epochs = Epochs::new(vec![epoch]);
            (batch.link, Horizon { watermark: Arc::new(batch.watermark), epochs })
        });
        let batch = newest.max_message.saturating_sub(ENVELOPE).clamp(1, MAX_BATCH);
        let limits = TellerLimits { batch, waiting: MAX_WAITING };
        let teller = Arc::new(Teller::new(behind, fastrand::u64(..), limits));
        let dispatcher =
            Dispatcher::new(Arc::clone(&teller), Arc::clone(&self.metrics), Arc::clone(&self.load))
                .trust_payloads(self.trust_payloads);
        let dispatch = Arc::new(Dispatch::new(dispatcher));
        let restart = Arc::new(Restart::default());
        let listener = Listener {
            listen: Arc::clone(&self.listen),
            restart: Arc::clone(&restart),
            dispatch: Arc::clone(&dispatch),
            health: Arc::clone(&self.health),
            metrics: Arc::clone(&self.metrics),
        };
        let looks = Arc::new(Looks::new());
        let sweeper = Sweeper {
            store: self.store.clone(),
            audience: Arc::clone(&teller),
            dispatch,
            looks: Arc::clone(&looks),
            health: Arc::clone(&self.health),
            metrics: Arc::clone(&self.metrics),
            swept: Arc::clone(&self.swept),
            restart,
            interval: self.interval,
            quiet_interval: self.quiet_interval,
            load: Arc::clone(&self.load),
            nonce: Some(self.nonce.clone()),
        };
        *has_led = true;
        self.metrics.relay_lead(true);
        self.health.source_is_well();
        tracing::info!("this gateway is the source");
        tokio::select! {
            biased;
            lost = lead.lost() => Err(lost.into()),
            error = self.send(&teller, newest.number, &looks) => Err(error.into()),
            error = listener.run() => Err(match error { Err(error) => error, Ok(never) => match never {} }.into()),
            never = sweeper.run() => match never {},
            never = self.hear_wants(&teller) => match never {},
            () = self.sweeps_fail(&looks) => Err(End::Sweep),
        }
    }

    async fn hear_wants(&self, teller: &Teller) -> Infallible {
        loop {
            self.relay.watermark_wanted().await;
            teller.requests().want_watermark();
            // However many edges ask.
            tokio::time::sleep(WANTS_INTERVAL).await;
        }
    }

    /// Waits until no sweep has ended well for some time. Another gateway may then do better, and
    /// while no gateway is the source the edges sweep for themselves.
    async fn sweeps_fail(&self, looks: &Looks) {
        let began = Instant::now();
        loop {
            tokio::time::sleep(SIGN).await;
            if looks.age().unwrap_or_else(|| began.elapsed()) > 2 * self.interval + SWEEP_PATIENCE {
                return;
            }
        }
    }

    /// Sends what there is to tell, behind message `number` and nowhere else.
    async fn send(&self, teller: &Teller, mut number: u64, looks: &Looks) -> RelayError {
        let mut on_the_way = FuturesUnordered::new();
        loop {
            let batch = tokio::select! {
                biased;
                Some(appended) = on_the_way.next(), if !on_the_way.is_empty() => match appended {
                    Ok(()) => continue,
                    Err(error) => return error,
                },
                batch = teller.next(SIGN, || looks.age().is_some()), if on_the_way.len() < MAX_ON_THE_WAY => batch,
            };
            number += 1;
            let bytes = match batch.encode() {
                Ok(bytes) => bytes,
                Err(error) => return RelayError::Failed(error.to_string()),
            };
            match in_time(self.relay.append(number, bytes)).await {
                Ok(appended) => on_the_way.push(in_time(appended)),
                Err(error) => return error,
            }
        }
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, RelayError>>) -> Result<T, RelayError> {
    tokio::time::timeout(APPEND_TIMEOUT, asked).await.unwrap_or(Err(RelayError::TimedOut))
}
