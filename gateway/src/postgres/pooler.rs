//! Finds a pooler in transaction mode on the way to Postgres.
//!
//! Such a pooler gives a server process to a client for one transaction at a
//! time. It accepts LISTEN and brings no notification, and a session setting
//! stays on a server connection that other clients use next. So before any
//! setting is made the connection is asked for what it is needed for: to bring
//! a notification that another connection sends while this one is idle. Nothing
//! else tells reliably: process numbers do not change behind a pooler that
//! nobody else uses, and several poolers may stand behind one address.

use std::{pin::pin, time::Duration};

use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;

use super::{
    connector::{Connector, PostgresConnection, next_message},
    store::PostgresStore,
};
use crate::{config::quote_identifier, error::chain, listen::ListenError};

/// Asks for the server process that answers. In one transaction with what stands
/// before it: the same process answers both.
const PROCESS: &str = "SELECT pg_catalog.pg_backend_pid()";

/// How long the notification may take. A direct connection brings it within
/// milliseconds; a server whose commits wait for each other takes longer.
const PATIENCE: Duration = Duration::from_secs(4);

/// How many connections the server process is looked for with on which LISTEN
/// stays, and how long that may take: a pooler may have none to give, and others
/// wait for those that are held.
const SEARCHERS: usize = 8;
const SEARCH_TIMEOUT: Duration = Duration::from_millis(500);

/// Whether a connection of `connector` brings what another one notifies.
///
/// # Errors
///
/// No connection, and as `brings_notifications`.
pub async fn round_trip(connector: &Connector, store: &PostgresStore) -> Result<bool, ListenError> {
    let (client, mut connection) = connector.connect().await?;
    brings_notifications(&client, &mut connection, connector, store).await
}

/// Whether this connection brings what another one notifies. The LISTEN by which
/// it is tried is taken back.
///
/// # Errors
///
/// Postgres' refusal, the end of the connection, or no connection in the pool of
/// `store` to notify from.
pub(super) async fn brings_notifications(
    client: &Client,
    connection: &mut PostgresConnection,
    connector: &Connector,
    store: &PostgresStore,
) -> Result<bool, ListenError> {
    // A name of its own, so that nothing ever comes to a process on which this
    // LISTEN stays.
    let channel = format!("notify_gateway_try_{:016x}", fastrand::u64(..));
    let name = quote_identifier(&channel);
    let listen = format!("BEGIN; LISTEN {name}; {PROCESS}; COMMIT");
    let listening = polled(connection, process(client, &listen)).await?;
    let is_brought = is_notified(connection, store, &channel).await;
    let unlisten = format!("BEGIN; UNLISTEN {name}; {PROCESS}");
    if polled(connection, process(client, &unlisten)).await? != listening {
        let finding = find(connector, &unlisten, &listening);
        let found =
            polled(connection, async { Ok(timeout(SEARCH_TIMEOUT, finding).await) }).await?;
        if let Ok(Err(error)) = found {
            tracing::debug!(error = chain(&error), "a LISTEN stays on a pooled connection");
        }
    }
    polled(connection, async { Ok(client.batch_execute("COMMIT").await?) }).await?;
    is_brought
}

/// Takes LISTEN back in the server process of a pooler that has it, if that can be
/// found: while searchers stay in their transactions, the next is given another.
async fn find(connector: &Connector, unlisten: &str, wanted: &str) -> Result<(), ListenError> {
    let mut searchers = Vec::new();
    for _ in 0..SEARCHERS {
        let (client, connection) = connector.connect().await?;
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let found = process(&client, unlisten).await?;
        searchers.push((client, connection));
        if found == wanted {
            break;
        }
    }
    for (client, _) in &searchers {
        client.batch_execute("COMMIT").await?;
    }
    Ok(())
}

/// Whether a notification on `channel` arrives in time.
async fn is_notified(
    connection: &mut PostgresConnection,
    store: &PostgresStore,
    channel: &str,
) -> Result<bool, ListenError> {
    let arriving = async {
        loop {
            let message = next_message(connection).await?.ok_or(ListenError::Closed)?;
            if let AsyncMessage::Notification(brought) = message
                && brought.channel() == channel
            {
                return Ok(true);
            }
        }
    };
    let waiting = async {
        store.notify(channel).await?;
        tokio::time::sleep(PATIENCE).await;
        Ok(false)
    };
    tokio::select! {
        is_brought = arriving => is_brought,
        is_brought = waiting => is_brought,
    }
}

/// Runs commands, of which the last asks for it: the server process that answers.
async fn process(client: &Client, sql: &str) -> Result<String, ListenError> {
    // By the simple protocol: no statement stays prepared.
    let messages = client.simple_query(sql).await?;
    let process = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(process.unwrap_or_default().to_owned())
}

/// The connection moves only while it is polled, and the answer travels on it.
async fn polled<T>(
    connection: &mut PostgresConnection,
    answer: impl Future<Output = Result<T, ListenError>>,
) -> Result<T, ListenError> {
    let mut answer = pin!(answer);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            message = next_message(connection) => drop(message?.ok_or(ListenError::Closed)?),
        }
    }
}
