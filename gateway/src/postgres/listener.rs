//! The one LISTEN connection: it yields signals, and comes back when it is
//! lost.
//!
//! One session is inside [`Listener::session`], the retry is outside, and the
//! backoff starts anew only once LISTEN has held: a server that accepts
//! connections and drops them is not hammered.
//!
//! <https://www.postgresql.org/docs/current/sql-listen.html>

use std::{
    convert::Infallible, error::Error as _, future::poll_fn, pin::pin, sync::Arc, time::Duration,
};

use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client, error::SqlState};
use tokio_util::task::AbortOnDropHandle;

use super::{
    connector::{Connector, PostgresConnection},
    pooler::pools_transactions,
};
use crate::{
    backoff::Backoff,
    config::{TableName, quote_identifier},
    dispatch::{Dispatch, Signal},
    error::chain,
    health::Health,
    metrics::Metrics,
};

/// How long a connection may take until LISTEN holds.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// The client keeps the connection from ending; nothing is asked of it.
type Listening = (Client, PostgresConnection);

/// Shortest and longest wait between two attempts, before jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Keeps LISTENing until it is dropped.
pub struct Listener {
    /// How to reach Postgres.
    pub connector: Arc<Connector>,
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
    /// database), before LISTEN has held once. Later on it is an outage like any
    /// other.
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
            if error.is_final() && !has_listened {
                return Err(error);
            }
            self.metrics.listen_up(false);
            self.metrics.listen_reconnect();
            self.dispatch.take(Signal::Listening(false));
            self.health.not_listening(format!("not listening: {}", chain(&error)));
            let delay = backoff.next_wait();
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
            tokio::time::sleep(delay).await;
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
                message = next_message(&mut connection) => message?,
                () = self.restart.requested() => return Err(ListenError::ProbeLost),
            };
            self.forward(&message);
        }
    }

    /// A connection on which LISTEN holds.
    async fn connect(&self) -> Result<Listening, ListenError> {
        let (client, mut connection) = self.connector.connect().await?;
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
                    message = next_message(&mut connection) => self.forward(&message?),
                }
            }
        }
        Ok((client, connection))
    }

    async fn setup(&self, client: &Client) -> Result<(), ListenError> {
        // Before any setting is made: behind a pooler it would stay for others.
        self.refuse_pooler(client).await?;
        // Before anything else: no function that a neighbour has made may run as
        // the gateway.
        client.batch_execute("SET search_path = pg_catalog, pg_temp").await?;
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

    /// A second connection, for the moment that it takes to compare the two.
    async fn refuse_pooler(&self, client: &Client) -> Result<(), ListenError> {
        let (other, connection) = self.connector.connect().await?;
        let _polled = AbortOnDropHandle::new(tokio::spawn(connection));
        if pools_transactions(client, &other).await? {
            return Err(ListenError::Pooler);
        }
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

async fn next_message(connection: &mut PostgresConnection) -> Result<AsyncMessage, ListenError> {
    poll_fn(|cx| connection.poll_message(cx)).await.map_or(Err(ListenError::Closed), |m| Ok(m?))
}

/// Why there is no LISTEN connection.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Postgres or the way to it.
    #[error("the database cannot be used")]
    Postgres(#[from] tokio_postgres::Error),
    /// LISTEN did not hold in time.
    #[error("the database did not answer within {SETUP_TIMEOUT:?}")]
    Slow,
    /// The connection ended without a word.
    #[error("the connection was closed")]
    Closed,
    /// It looks alive, and brings no probe back.
    #[error("the LISTEN connection brings nothing; if a pooler is in between, it must not pool it")]
    ProbeLost,
    /// A pooler in transaction mode is in between.
    #[error(
        "LISTEN goes through a pooler in transaction mode, which brings no notifications; \
         set --listen-database-url (LISTEN_DATABASE_URL) to the address of Postgres itself"
    )]
    Pooler,
    /// There is no such table.
    #[error("there is no table {0}; create it: notify-gateway schema | psql \"$DATABASE_URL\"")]
    NoTable(String),
    /// The table is there, the trigger is not.
    #[error(
        "table {0} has no trigger notify_gateway_notify; create it: notify-gateway schema | psql \"$DATABASE_URL\""
    )]
    NoTrigger(String),
}

impl ListenError {
    /// Whether waiting cannot mend it.
    pub fn is_final(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        error.code().is_some_and(|code| {
            [
                SqlState::INVALID_PASSWORD,
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                SqlState::INVALID_CATALOG_NAME,
            ]
            .contains(code)
        }) || is_missing_password(error)
    }
}

/// The server wants a password and the URL has none: the library finds that
/// out itself, and gives the error no code.
fn is_missing_password(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| source.to_string() == "password missing")
}
