//! Why the database could not be asked.

use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::cursor::SnapshotError;

/// How long one statement may take here. Past it the database counts as away.
///
/// Longer than the server's own limit, so that a statement that is too slow and
/// a server that is not there can be told apart.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);

/// Why the database gave no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection to be had.
    #[error("no connection to the database")]
    Pool(#[from] PoolError),
    /// Postgres or the way to it.
    #[error("the database could not answer")]
    Postgres(#[source] tokio_postgres::Error),
    /// A table, a column or a function of ours that is not there.
    #[error(
        "the schema notify_gateway is missing or of another version; \
         run: notify-gateway schema --apply"
    )]
    Schema(#[source] tokio_postgres::Error),
    /// There was no answer.
    #[error("the database did not answer within {STATEMENT_TIMEOUT:?}")]
    TimedOut,
    /// The statement before has failed.
    #[error("the connection is closed")]
    Closed,
    /// A standby knows nothing of running transactions.
    #[error("the database is a standby; DATABASE_URL must name the primary")]
    Standby,
    /// The server has begun another life, and its epoch has not begun here yet.
    #[error("the database has been restarted or replaced")]
    OtherEpoch,
    /// The schema is not complete.
    #[error("notify_gateway.state has no row; run: notify-gateway schema --apply")]
    NoState,
    /// A snapshot that does not parse.
    #[error("the database's snapshot could not be read")]
    Snapshot(#[from] SnapshotError),
    /// A number out of its range.
    #[error("the database returned a number out of range")]
    Number,
    /// A column that is not what the statement asked for.
    #[error("the database returned a column of another type")]
    Column(#[source] tokio_postgres::Error),
    /// A page without one of the rows between its first and its last.
    #[error("a page of a replay left a row out; please report this as a bug")]
    Hole,
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let missing = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_COLUMN,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::INVALID_SCHEMA_NAME,
        ];
        if error.code().is_some_and(|code| missing.contains(code)) {
            Self::Schema(error)
        } else {
            Self::Postgres(error)
        }
    }
}

impl StoreError {
    /// Whether the statement was cancelled (`statement_timeout`), waited in vain for a
    /// lock, or was not answered in time: perhaps this statement is the cause, and
    /// perhaps the database crawls.
    pub fn is_slow(&self) -> bool {
        match self {
            Self::TimedOut => true,
            // Class 55: a lock that is not to be had.
            Self::Postgres(error) => error.code().is_some_and(|code| {
                *code == SqlState::QUERY_CANCELED || code.code().starts_with("55")
            }),
            _ => false,
        }
    }

    /// What a transaction that cannot begin means.
    pub(crate) fn of_begin(error: tokio_postgres::Error) -> Self {
        // "cannot set transaction read-write mode during recovery"
        let is_standby = error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED);
        if is_standby { Self::Standby } else { Self::Postgres(error) }
    }
}
