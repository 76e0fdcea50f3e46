//! The one LISTEN connection: it yields signals, and comes back when it is
//! lost.
//!
//! One session is inside `Listener::session`, the retry is outside, and the
//! backoff starts anew only once LISTEN has held: a server that accepts
//! connections and drops them is not hammered.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{
    backoff::{Backoff, jitter},
    dispatch::{Dispatch, Signal},
    error::{Outage, chain},
    health::Health,
    hub::{Audience, Hub},
    listen::{Listen, ListenError, Notice, Notices as _, SETUP_TIMEOUT},
    metrics::Metrics,
};

/// Shortest and longest wait between two attempts, before jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Wait between two attempts behind a pooler in transaction mode, before jitter:
/// it does not go away by itself.
const POOLER_WAIT: Duration = Duration::from_secs(60);

/// Keeps LISTENing until it is dropped.
pub struct Listener<L, A = Hub> {
    /// How a connection is made.
    pub listen: L,
    /// Ends a session that looks alive and is not.
    pub restart: Arc<Restart>,
    /// Where the signals go.
    pub dispatch: Arc<Dispatch<A>>,
    /// Learns whether LISTEN holds.
    pub health: Arc<Health>,
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
}

impl<L: Listen, A: Audience> Listener<L, A> {
    /// Listens, and listens again.
    ///
    /// # Errors
    ///
    /// A refusal that waiting does not mend (a wrong password, an unknown
    /// database), before LISTEN has held or a stream could be opened. Later on it is
    /// an outage like any other.
    pub async fn run(self) -> Result<Infallible, ListenError> {
        let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
        let mut has_listened = false;
        let mut outage = Outage::default();
        loop {
            let mut listening = false;
            let error = match self.session(&mut listening).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if listening {
                has_listened = true;
                outage.ends();
                backoff.reset();
            }
            // One that serves by the sweep goes on doing so.
            if error.is_final() && !has_listened && !self.health.has_been_ready() {
                return Err(error);
            }
            self.metrics.listen_up(false);
            self.metrics.listen_reconnect();
            self.dispatch.take(Signal::Listening(false));
            let cause = chain(&error);
            self.health.not_listening(format!("not listening: {cause}"));
            let delay = match error {
                ListenError::Pooler => jitter(POOLER_WAIT / 2, POOLER_WAIT / 2),
                _ => backoff.next_wait(),
            };
            if outage.is_new(&cause) {
                tracing::warn!(
                    error = cause,
                    "no LISTEN connection to the database (DATABASE_URL); trying until there is one"
                );
            } else {
                tracing::debug!(error = cause, ?delay, "LISTEN failed again");
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(delay) => {}
                // By the new address a pooler need not be in the way.
                () = self.listen.changed() => {}
            }
        }
    }

    async fn session(&self, listening: &mut bool) -> Result<Infallible, ListenError> {
        // A pooler may accept the connection and then say nothing.
        let connecting = tokio::time::timeout(SETUP_TIMEOUT, self.listen.listen());
        let mut notices = connecting.await.map_err(|_| ListenError::Slow)??;
        *listening = true;
        self.health.listening();
        self.metrics.listen_up(true);
        tracing::info!("listening for notifications");
        self.dispatch.take(Signal::Listening(true));
        let mut requested = pin!(self.restart.requested());
        loop {
            let notice = tokio::select! {
                biased;
                notice = notices.next() => notice?,
                () = &mut requested => return Err(ListenError::ProbeLost),
            };
            match notice {
                Notice::Payload(payload) => self.dispatch.take(Signal::Payload(payload.into())),
                Notice::Probe(number) => {
                    if let Some(took) = self.health.probe_returned(number) {
                        self.metrics.probe(took);
                    }
                }
            }
        }
    }
}

/// Asks the session to begin anew.
#[derive(Default)]
pub struct Restart(Notify);

impl Restart {
    /// The session is to end.
    pub fn request(&self) {
        // Not kept for a session that is not there yet.
        self.0.notify_waiters();
    }

    async fn requested(&self) {
        self.0.notified().await;
    }
}
