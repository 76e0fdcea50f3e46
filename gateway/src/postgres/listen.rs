//! A LISTEN connection to Postgres.
//!
//! <https://www.postgresql.org/docs/current/sql-listen.html>

use std::{collections::VecDeque, pin::pin, sync::Arc};

use tokio_postgres::{AsyncMessage, Client};

use super::{
    connector::{Connector, PostgresConnection, next_message},
    pooler::brings_notifications,
    store::PostgresStore,
};
use crate::{
    config::quote_identifier,
    listen::{Listen, ListenError, Notice, Notices},
};

/// Notifications that are held while the rest of the set-up is on its way, which
/// is a round trip. With more of them the attempt has failed.
const MAX_EARLY: usize = 10_000;

/// Makes LISTEN connections.
pub struct PostgresListen {
    /// How to reach Postgres.
    pub connector: Arc<Connector>,
    /// Where a notification can be sent from.
    pub store: PostgresStore,
    /// The channel that the triggers notify on.
    pub channel: String,
    /// The channel of this gateway's own probes.
    pub probe_channel: String,
}

/// One of them.
pub struct PostgresNotices {
    /// Keeps the connection from ending; nothing is asked of it.
    _client: Client,
    connection: PostgresConnection,
    probe_channel: String,
    /// What came during the set-up.
    early: VecDeque<Notice>,
}

impl Listen for PostgresListen {
    type Notices = PostgresNotices;

    async fn listen(&self) -> Result<PostgresNotices, ListenError> {
        let (client, mut connection) = self.connector.connect().await?;
        // Before any setting is made: behind a pooler it would stay for others.
        let (connector, store) = (&self.connector, &self.store);
        if !brings_notifications(&client, &mut connection, connector, store).await? {
            return Err(ListenError::Pooler);
        }
        let mut early = VecDeque::new();
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
                        let message = message?.ok_or(ListenError::Closed)?;
                        early.extend(decode(&message, &self.probe_channel));
                    }
                }
                if early.len() > MAX_EARLY {
                    return Err(ListenError::Flooded);
                }
            }
        }
        let probe_channel = self.probe_channel.clone();
        Ok(PostgresNotices { _client: client, connection, probe_channel, early })
    }

    async fn changed(&self) {
        self.connector.replaced().await;
    }
}

impl PostgresListen {
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
        const SQL: &str = "SELECT to_regclass('notify_gateway.event') IS NOT NULL";
        let is_there: bool = client.query_one(SQL, &[]).await?.try_get(0)?;
        if is_there { Ok(()) } else { Err(ListenError::NoSchema) }
    }
}

impl Notices for PostgresNotices {
    async fn next(&mut self) -> Result<Notice, ListenError> {
        if let Some(notice) = self.early.pop_front() {
            return Ok(notice);
        }
        loop {
            let message = next_message(&mut self.connection).await?.ok_or(ListenError::Closed)?;
            if let Some(notice) = decode(&message, &self.probe_channel) {
                return Ok(notice);
            }
        }
    }
}

/// Nothing for a warning of the server, or a probe's channel into which somebody
/// else has typed.
fn decode(message: &AsyncMessage, probe_channel: &str) -> Option<Notice> {
    let AsyncMessage::Notification(notification) = message else { return None };
    let payload = notification.payload();
    if notification.channel() == probe_channel {
        payload.rsplit(':').next()?.parse().ok().map(Notice::Probe)
    } else {
        Some(Notice::Payload(payload.to_owned()))
    }
}
