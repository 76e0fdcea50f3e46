//! Every statement of the gateway but LISTEN, on the pool.
//!
//! The pool keeps no state on its connections: each unit of work is one
//! transaction, and all of its settings end with it. So the pool may reach
//! Postgres through a pooler in transaction mode, and nothing of ours is left on
//! a connection that an application gets next.

mod epochs;
mod pages;
mod revocations;
mod sweep;
mod upkeep;
mod xid8;

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql, Type},
};

pub use revocations::{RevocationsMark, RevocationsRead};
pub use upkeep::{Cause, LogSize, Unrecorded};

use xid8::Xid8;

use super::connector::{Connector, Pooled};
use crate::{
    cursor::{Cursor, RowKey, Snapshot},
    feed,
    horizon::Epochs,
    notification::UserId,
    store::{
        PageRequest, Pages, STATEMENT_TIMEOUT, Standing, Store, StoreError, SweepWrite,
        Transaction, Unseen,
    },
};

/// How long a connection may be waited for. Past it the database counts as away.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of one answer, for all of its requests together; one larger row passes
/// alone. With it a few answers on their way at once stay within some ten
/// megabytes, however many streams are behind and however large their rows are.
const ANSWER_BYTES: i64 = 4 * 1024 * 1024;

/// Begins a transaction in which each statement sees what is committed when it begins.
const READ_COMMITTED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE";

/// One whose statements all see what is committed when the first of them begins.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// The settings of a transaction that the gateway relies on, whatever a DBA has set for
/// the role or the database:
///
/// - `search_path` without a schema in which others may create: a function or an
///   operator of theirs would run as the gateway, which may read all rows.
/// - `synchronous_commit`, which is what makes a watermark durable.
/// - `row_security` off: hidden rows would look like rows that are not there.
/// - Time-outs, so that a gateway that is stopped keeps no lock from others.
/// - Plans for the snapshot at hand, not for yesterday's; and always along an index in
///   its order, however old the statistics are and however few rows they know of.
const SETTINGS: &str = ";
    SET LOCAL search_path = pg_catalog, pg_temp;
    SET LOCAL synchronous_commit = on;
    SET LOCAL row_security = off;
    SET LOCAL statement_timeout = '10s';
    SET LOCAL lock_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '10s';
    SET LOCAL plan_cache_mode = force_custom_plan;
    SET LOCAL jit = off;
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_bitmapscan = off;
    SET LOCAL enable_sort = off;
    SET LOCAL enable_incremental_sort = off;
    SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off;
    SET LOCAL tcp_user_timeout = '15s'";

/// The queries, on a bounded pool.
#[derive(Clone)]
pub struct PostgresStore {
    pool: Pool,
    channels: Arc<Channels>,
}

/// What is notified on.
#[derive(Debug)]
pub struct Channels {
    /// What the triggers notify on as well.
    pub events: String,
    /// This gateway's probes.
    pub probes: String,
}

impl PostgresStore {
    /// A store that opens a connection when one is needed, and `size` at most.
    ///
    /// # Errors
    ///
    /// The pool's own; it has no reason to.
    pub fn new(
        connector: Arc<Connector>,
        size: usize,
        channels: Channels,
    ) -> Result<Self, deadpool_postgres::BuildError> {
        // `Fast` recycling would hand out sockets that are long dead.
        let config = ManagerConfig { recycling_method: RecyclingMethod::Verified };
        let manager =
            Manager::from_connect(tokio_postgres::Config::new(), Pooled(connector), config);
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECTION_TIMEOUT))
            .create_timeout(Some(CONNECTION_TIMEOUT))
            .recycle_timeout(Some(CONNECTION_TIMEOUT))
            .build()?;
        Ok(Self { pool, channels: Arc::new(channels) })
    }

    async fn begin_as(&self, how: &str) -> Result<PostgresTransaction, StoreError> {
        let client = Some(self.pool.get().await?);
        let mut transaction = PostgresTransaction { client, channels: Arc::clone(&self.channels) };
        let begin = [how, SETTINGS].concat();
        transaction
            .run(async |client| client.batch_execute(&begin).await.map_err(StoreError::of_begin))
            .await?;
        Ok(transaction)
    }

    /// Notifies `channel`, in a transaction of its own.
    ///
    /// # Errors
    ///
    /// As [`Store::begin`] and [`Transaction::standing`].
    pub async fn notify(&self, channel: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        transaction.run(async |client| sweep::notify(client, channel, "").await).await?;
        transaction.commit().await
    }
}

impl Store for PostgresStore {
    type Transaction = PostgresTransaction;

    async fn begin(&self) -> Result<PostgresTransaction, StoreError> {
        self.begin_as(READ_COMMITTED).await
    }

    async fn snapshot(&self) -> Result<PostgresTransaction, StoreError> {
        self.begin_as(SNAPSHOT).await
    }
}

/// A transaction. Dropped before its [`Transaction::commit`], or after a
/// statement that failed or took too long, it closes its connection rather than
/// hand it on: the server may still be at work on it.
pub struct PostgresTransaction {
    client: Option<Client>,
    channels: Arc<Channels>,
}

impl Transaction for PostgresTransaction {
    async fn standing(&mut self) -> Result<Standing, StoreError> {
        self.run(async |client| sweep::standing(client).await).await
    }

    async fn unseen(&mut self, snapshot: &Snapshot) -> Result<Unseen, StoreError> {
        self.run(async |client| sweep::unseen(client, snapshot).await).await
    }

    async fn rows(
        &mut self,
        keys: &[(RowKey, UserId)],
    ) -> Result<Vec<Option<feed::Row>>, StoreError> {
        self.run(async |client| sweep::rows(client, keys).await).await
    }

    async fn write(&mut self, write: SweepWrite<'_>) -> Result<Option<u64>, StoreError> {
        let channels = Arc::clone(&self.channels);
        self.run(async |client| {
            let own = match write.flush {
                true => Some(sweep::flush(client, write.quiet).await?),
                false => None,
            };
            if let Some(nonce) = write.probe {
                sweep::notify(client, &channels.probes, nonce).await?;
            }
            if let Some(own) = own.filter(|_| write.ring) {
                let ring = format!(r#"{{"xact_id":"{own}"}}"#);
                sweep::notify(client, &channels.events, &ring).await?;
            }
            Ok(own)
        })
        .await
    }

    async fn epochs(&mut self) -> Result<Epochs, StoreError> {
        self.run(async |client| epochs::begin(client).await).await
    }

    async fn pages(&mut self, requests: &[PageRequest<'_>]) -> Result<Pages, StoreError> {
        self.run(async |client| {
            let pages = pages::read(client, requests).await?;
            // Behind the pages: what was pruned before they were read is known by then.
            Ok(Pages { pages, pruned_below: upkeep::pruned_below(client).await? })
        })
        .await
    }

    async fn exceed(
        &mut self,
        requests: &[PageRequest<'_>],
        limit: u32,
    ) -> Result<Vec<bool>, StoreError> {
        self.run(async |client| pages::exceed(client, requests, limit).await).await
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        self.run(async |client| Ok(client.batch_execute("COMMIT").await?)).await?;
        // Back to the pool. Without this it would be closed, as any that is dropped.
        drop(self.client.take());
        Ok(())
    }
}

impl PostgresTransaction {
    /// The revocations: all of them, or those that are new since another look.
    ///
    /// # Errors
    ///
    /// As [`Transaction::standing`].
    pub async fn revocations(
        &mut self,
        since: Option<&RevocationsMark>,
    ) -> Result<RevocationsRead, StoreError> {
        self.run(async |client| revocations::read(client, since).await).await
    }

    /// Whether this gateway keeps the log now, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// As [`Transaction::standing`]; so do the others.
    pub async fn upkeep_is_ours(&mut self) -> Result<bool, StoreError> {
        self.run(async |client| upkeep::is_ours(client).await).await
    }

    /// Notes now and then which transactions have ended.
    ///
    /// # Errors
    ///
    /// As the others.
    pub async fn checkpoint(&mut self, retention: Duration) -> Result<(), StoreError> {
        self.run(async |client| upkeep::checkpoint(client, retention).await).await
    }

    /// Takes a batch out of the log that is older than `retention`; whether there may
    /// be more.
    ///
    /// # Errors
    ///
    /// As the others.
    pub async fn prune(&mut self, retention: Duration) -> Result<bool, StoreError> {
        self.run(async |client| upkeep::prune(client, retention).await).await
    }

    /// Takes a batch out of the log that a dump has brought from another cluster; how many
    /// events these were.
    ///
    /// # Errors
    ///
    /// As the others.
    pub async fn remove_foreign(&mut self) -> Result<u64, StoreError> {
        self.run(async |client| upkeep::remove_foreign(client).await).await
    }

    /// Scrubs what the log says of rows that are gone beyond `cursor`, and moves it;
    /// whether there may be more.
    ///
    /// # Errors
    ///
    /// As the others.
    pub async fn erase(&mut self, cursor: &mut Cursor) -> Result<bool, StoreError> {
        self.run(async |client| upkeep::erase(client, cursor).await).await
    }

    /// The tables whose rows make no event.
    ///
    /// # Errors
    ///
    /// As the others.
    pub async fn unrecorded(&mut self) -> Result<Vec<Unrecorded>, StoreError> {
        self.run(async |client| {
            let mut unrecorded = upkeep::problems(client).await?;
            unrecorded.extend(upkeep::silent_tables(client).await?);
            Ok(unrecorded)
        })
        .await
    }

    /// How large the log is.
    ///
    /// # Errors
    ///
    /// As the others.
    pub async fn log_size(&mut self) -> Result<LogSize, StoreError> {
        self.run(async |client| upkeep::log_size(client).await).await
    }

    async fn run<T>(
        &mut self,
        statement: impl AsyncFnOnce(&Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let client = self.client.as_ref().ok_or(StoreError::Closed)?;
        let running = statement(client);
        let outcome = tokio::time::timeout(STATEMENT_TIMEOUT, running).await;
        let outcome = outcome.unwrap_or(Err(StoreError::TimedOut));
        if outcome.is_err() {
            self.close();
        }
        outcome
    }

    fn close(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Client::take(client));
        }
    }
}

impl Drop for PostgresTransaction {
    fn drop(&mut self) {
        self.close();
    }
}

/// The parameters of a query and their types.
type Parameters<'a, const N: usize> = [(&'a (dyn ToSql + Sync), Type); N];

/// Asks with an unnamed statement: one that is prepared would belong to a server
/// process, which a pooler in transaction mode may exchange.
async fn query(
    client: &Client,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, StoreError> {
    Ok(client.query_typed(sql, parameters).await?)
}

/// A column of a row. A column of another type is a fault of the statement or of
/// the schema, not of the way to the database.
fn column<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<T, StoreError> {
    row.try_get(place).map_err(StoreError::Column)
}

/// A transaction number, likewise.
fn xact(row: &Row, place: usize) -> Result<u64, StoreError> {
    column(row, place).map(|Xid8(number)| number)
}

/// The number of an epoch. It is null when `notify_gateway.state` has no row.
fn epoch(row: &Row, place: usize) -> Result<u32, StoreError> {
    let number = column::<Option<i32>>(row, place)?.ok_or(StoreError::NoState)?;
    u32::try_from(number).map_err(|_| StoreError::Number)
}

/// A snapshot's end and its running transactions, as two parameters of a query.
fn bounds(snapshot: &Snapshot) -> (Xid8, Vec<Xid8>) {
    (Xid8(snapshot.xmax()), snapshot.xip().iter().copied().map(Xid8).collect())
}
