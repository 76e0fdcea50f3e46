//! The one LISTEN connection: it yields signals, and comes back when it is
//! lost.
//!
//! One session is inside [`Listener::session`], the retry is outside, and the
//! backoff starts anew only once LISTEN has held: a server that accepts
//! connections and drops them is not hammered.
//!
//! <https://www.postgresql.org/docs/current/sql-listen.html>

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client};

use super::{
    connector::{Connector, PostgresConnection, next_message},
    listen_error::{ListenError, SETUP_TIMEOUT},
    pooler::brings_notifications,
    store::Store,
};
use crate::{
    backoff::{Backoff, jitter},
    config::{TableName, quote_identifier},
    dispatch::{Dispatch, Signal},
    error::chain,
    health::Health,
    metrics::Metrics,
};

/// The client keeps the connection from ending; nothing is asked of it.
type Listening = (Client, PostgresConnection);

/// Shortest and longest wait between two attempts, before jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Wait between two attempts behind a pooler in transaction mode, before jitter:
/// it does not go away by itself.
const POOLER_WAIT: Duration = Duration::from_secs(60);

/// Keeps LISTENing until it is dropped.
pub struct Listener {
    /// How to reach Postgres.
    pub connector: Arc<Connector>,
    /// Where a notification can be sent from.
    pub store: Arc<Store>,
    /// The table whose trigger is to notify.
    pub table: TableName,
    /// The channel it notifies on.
    pub channel: String,
    /// The channel of this gateway's own probes.
    pub probe_channel: String,
    /// Ends a session that looks alive and is not.
    pub restart: Arc<Restart>,
    /// Where the signals go.
    pub dispatch: Arc<Dispatch>,
    /// Learns whether LISTEN holds.
    pub health: Arc<Health>,
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
}

impl Listener {
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
        let mut outage_logged = false;
        loop {
            let mut listening = false;
            let error = match self.session(&mut listening).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if listening {
                has_listened = true;
                outage_logged = false;
                backoff.reset();
            }
            // One that serves by the sweep goes on doing so.
            if error.is_final() && !has_listened && !self.health.has_been_ready() {
                return Err(error);
            }
            self.metrics.listen_up(false);
            self.metrics.listen_reconnect();
            self.dispatch.take(Signal::Listening(false));
            self.health.not_listening(format!("not listening: {}", chain(&error)));
            let delay = match error {
                ListenError::Pooler => jitter(POOLER_WAIT / 2, POOLER_WAIT / 2),
                _ => backoff.next_wait(),
            };
            // One line an outage: the attempts in between say nothing new.
            if outage_logged {
                tracing::debug!(error = chain(&error), ?delay, "LISTEN failed again");
            } else {
                tracing::warn!(
                    error = chain(&error),
                    "no LISTEN connection to the database (DATABASE_URL); trying until there is one"
                );
                outage_logged = true;
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                // By the new address a pooler need not be in the way.
                () = self.connector.replaced() => {}
            }
        }
    }

    async fn session(&self, listening: &mut bool) -> Result<Infallible, ListenError> {
        // A pooler may accept the connection and then say nothing.
        let connecting = tokio::time::timeout(SETUP_TIMEOUT, self.connect());
        let (_client, mut connection) = connecting.await.map_err(|_| ListenError::Slow)??;
        *listening = true;
        self.health.listening();
        self.metrics.listen_up(true);
        tracing::info!(channel = self.channel, "listening for notifications");
        self.dispatch.take(Signal::Listening(true));
        loop {
            let message = tokio::select! {
                biased;
                message = next_message(&mut connection) => message?.ok_or(ListenError::Closed)?,
                () = self.restart.requested() => return Err(ListenError::ProbeLost),
            };
            self.forward(&message);
        }
    }

    /// A connection on which LISTEN holds.
    async fn connect(&self) -> Result<Listening, ListenError> {
        let (client, mut connection) = self.connector.connect().await?;
        // Before any setting is made: behind a pooler it would stay for others.
        let (connector, store) = (&self.connector, &self.store);
        if !brings_notifications(&client, &mut connection, connector, store).await? {
            return Err(ListenError::Pooler);
        }
        {
            let mut setup = pin!(self.setup(&client));
            // The connection moves only while it is polled; the replies to the
            // set-up travel on it, and so may the first notifications.
            loop {
                tokio::select! {
                    biased;
                    done = &mut setup => {
                        done?;
                        break;
                    }
                    message = next_message(&mut connection) => {
                        self.forward(&message?.ok_or(ListenError::Closed)?);
                    }
                }
            }
        }
        Ok((client, connection))
    }

    async fn setup(&self, client: &Client) -> Result<(), ListenError> {
        // Whatever a DBA has set for the role. First of all the path: no function
        // that a neighbour has made may run as the gateway.
        client
            .batch_execute(
                "SET search_path = pg_catalog, pg_temp;
                 SET default_transaction_isolation = 'read committed';
                 SET default_transaction_read_only = off",
            )
            .await?;
        self.check_schema(client).await?;
        client
            .batch_execute(&format!(
                // A server that drops idle sessions would drop this one again and
                // again; `idle_session_timeout` is unknown before Postgres 14. And
                // a gateway that is stopped or cut off must not hold the
                // notification queue and vacuum back for longer than this.
                "SELECT set_config(name, '0', false) FROM pg_settings
                   WHERE name = 'idle_session_timeout';
                 SET tcp_user_timeout = '15s';
                 LISTEN {};
                 LISTEN {};",
                quote_identifier(&self.channel),
                quote_identifier(&self.probe_channel),
            ))
            .await?;
        Ok(())
    }

    async fn check_schema(&self, client: &Client) -> Result<(), ListenError> {
        let table = self.table.to_string();
        let row = client
            .query_one(
                "SELECT to_regclass($1) IS NOT NULL,
                        EXISTS (SELECT FROM pg_trigger
                                WHERE tgrelid = to_regclass($1)
                                  AND tgname = 'notify_gateway_notify')",
                &[&table],
            )
            .await?;
        let (table_exists, trigger_exists): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        if !table_exists {
            return Err(ListenError::NoTable(table));
        }
        if !trigger_exists {
            return Err(ListenError::NoTrigger(table));
        }
        Ok(())
    }

    fn forward(&self, message: &AsyncMessage) {
        let AsyncMessage::Notification(notification) = message else { return };
        let payload = notification.payload();
        if notification.channel() != self.probe_channel {
            self.dispatch.take(Signal::Payload(payload.into()));
        } else if let Some(number) = payload.rsplit(':').next().and_then(|n| n.parse().ok()) {
            if let Some(took) = self.health.probe_returned(number) {
                self.metrics.probe(took);
            }
            self.dispatch.take(Signal::Probe(number));
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
