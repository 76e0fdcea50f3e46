//! Who is the source: the gateway that holds an advisory lock of the database.
//!
//! The lock belongs to a session, and the session to a connection of its own. It is asked
//! something each second, and the server ends it when it is not: a gateway that is stopped,
//! or cut off, is the source for some seconds more and no longer.
//!
//! <https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS>

use std::{pin::pin, sync::Arc, time::Duration};

use tokio_postgres::{Client, types::Type};

use super::{
    connector::{Connector, PostgresConnection, next_message},
    pooler::brings_notifications,
    store::PostgresStore,
};
use crate::{
    backoff::jitter,
    listen::{Lead, Leadership, ListenError, SETUP_TIMEOUT},
};

/// How often the lock is asked for, and the session of who has it asked whether it lives.
const INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for an answer to that.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the server waits for the next question. `idle_session_timeout` is unknown before
/// Postgres 14, where only the connection's own end is noticed.
const SETTINGS: &str = "
    SET search_path = pg_catalog, pg_temp;
    SELECT set_config(name, '6s', false) FROM pg_settings WHERE name = 'idle_session_timeout';
    SET tcp_keepalives_idle = 3;
    SET tcp_keepalives_interval = 1;
    SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = '6s'";

/// Asks for the lock.
pub struct PostgresLeadership {
    /// How to reach Postgres.
    pub connector: Arc<Connector>,
    /// Where a notification can be sent from, to find a pooler.
    pub store: PostgresStore,
    /// The relay's stream: of each there is one source.
    pub stream: String,
}

/// A session that has the lock.
pub struct PostgresLead {
    client: Client,
    connection: PostgresConnection,
}

impl Leadership for PostgresLeadership {
    type Lead = PostgresLead;

    async fn acquire(&self, stand_by: impl Fn() + Send) -> Result<PostgresLead, ListenError> {
        let connecting = tokio::time::timeout(SETUP_TIMEOUT, self.connect());
        let (client, mut connection) = connecting.await.map_err(|_| ListenError::Slow)??;
        loop {
            if asked(&mut connection, try_lock(&client, &self.stream)).await? {
                return Ok(PostgresLead { client, connection });
            }
            stand_by();
            let rest = jitter(INTERVAL / 2, INTERVAL / 2);
            rested(&mut connection, rest).await?;
        }
    }
}

impl PostgresLeadership {
    async fn connect(&self) -> Result<(Client, PostgresConnection), ListenError> {
        let (client, mut connection) = self.connector.connect().await?;
        // Before any setting is made: behind a pooler it would stay for others, and so would
        // the lock.
        let (connector, store) = (&self.connector, &self.store);
        if !brings_notifications(&client, &mut connection, connector, store).await? {
            return Err(ListenError::Pooler);
        }
        asked(&mut connection, async { Ok(client.batch_execute(SETTINGS).await?) }).await?;
        Ok((client, connection))
    }
}

impl Lead for PostgresLead {
    async fn lost(&mut self) -> ListenError {
        let Self { client, connection } = self;
        loop {
            let asking = async {
                rested(connection, INTERVAL).await?;
                asked(connection, async { Ok(client.batch_execute("SELECT 1").await?) }).await
            };
            if let Err(error) = asking.await {
                return error;
            }
        }
    }
}

async fn try_lock(client: &Client, stream: &str) -> Result<bool, ListenError> {
    const SQL: &str =
        "SELECT pg_try_advisory_lock(hashtextextended('notify_gateway source ' || $1, 0))";
    let rows = client.query_typed(SQL, &[(&stream, Type::TEXT)]).await?;
    Ok(rows.first().ok_or(ListenError::Closed)?.try_get(0)?)
}

/// The answer, for which the connection has to be polled.
async fn asked<T>(
    connection: &mut PostgresConnection,
    question: impl Future<Output = Result<T, ListenError>>,
) -> Result<T, ListenError> {
    let mut question = pin!(tokio::time::timeout(PATIENCE, question));
    loop {
        tokio::select! {
            biased;
            answer = &mut question => return answer.map_err(|_| ListenError::Slow)?,
            message = next_message(connection) => {
                message?.ok_or(ListenError::Closed)?;
            }
        }
    }
}

async fn rested(connection: &mut PostgresConnection, rest: Duration) -> Result<(), ListenError> {
    let resting = tokio::time::timeout(rest, async {
        loop {
            next_message(connection).await?.ok_or(ListenError::Closed)?;
        }
    });
    resting.await.unwrap_or(Ok(()))
}
