//! Why there is no LISTEN connection, and whether waiting helps.

use std::{error::Error as _, time::Duration};

use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// How long a connection may take until LISTEN holds.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// More was notified than is held.
    #[error("more notifications came while LISTEN was set up than the gateway holds")]
    Flooded,
    /// It looks alive, and brings no probe back.
    #[error("the LISTEN connection brings nothing; if a pooler is in between, it must not pool it")]
    ProbeLost,
    /// No notification could be sent to try it.
    #[error("the database cannot be notified")]
    Notify(#[from] StoreError),
    /// It brings no notification from the start.
    #[error(
        "the LISTEN connection brings no notifications: a pooler in transaction mode stands in \
         between, or it goes to another database than --database-url; set --listen-database-url \
         (LISTEN_DATABASE_URL) to the address of Postgres itself"
    )]
    Pooler,
    /// The schema is not there.
    #[error("the database has no event log; make it: notify-gateway schema --apply")]
    NoSchema,
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
