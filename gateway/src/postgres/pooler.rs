//! Finds a pooler in transaction mode on the way to Postgres.
//!
//! Such a pooler gives a server process to a client for one transaction at a
//! time. LISTEN is accepted and brings nothing, and a session setting stays with
//! a process that serves others next. So it is looked for before any setting is
//! made, by what it cannot hide: two connections that are open at once share a
//! server process, or one connection changes it.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// How often the two connections are asked. A pooler that nobody else uses is
/// found by the first question; beside busy clients each further one is another
/// chance.
const ROUNDS: usize = 4;

/// Whether a pooler in transaction mode stands between these two connections
/// and their server.
///
/// # Errors
///
/// Postgres' refusal, or the way to it.
pub(super) async fn pools_transactions(one: &Client, other: &Client) -> Result<bool, Error> {
    let mut before = None;
    for _ in 0..ROUNDS {
        let seen = (process(one).await?, process(other).await?);
        let is_changed = before.as_ref().is_some_and(|before| *before != seen);
        if is_changed || seen.0 == seen.1 {
            return Ok(true);
        }
        before = Some(seen);
    }
    Ok(false)
}

/// The server process that answers.
async fn process(client: &Client) -> Result<Option<String>, Error> {
    // By the simple protocol: no statement stays prepared.
    let messages = client.simple_query("SELECT pg_catalog.pg_backend_pid()").await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
        _ => None,
    }))
}
