//! Every statement of the gateway but LISTEN, on the pool.
//!
//! The pool keeps no state on its connections: each unit of work is one
//! transaction, and all of its settings end with it. So the pool may reach
//! Postgres through a pooler in transaction mode, and nothing of ours is left on
//! a connection that an application gets next.

mod epochs;
mod error;
mod pages;
mod revocations;
mod sweep;

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql, Type},
};

pub use error::{Fault, StoreError};
pub use pages::{PageRequest, PageRows};
pub use revocations::{RevocationsMark, RevocationsRead};
pub use sweep::Standing;

use super::connector::{Connector, Pooled};
use crate::{
    config::TableName,
    cursor::{RowKey, Snapshot},
    horizon::{Epochs, History},
    notification::UserId,
};

/// How long one statement may take here, and how long a connection may be
/// waited for. Past it the database counts as away.
///
/// Longer than the server's own limit, so that a statement that is too slow and
/// a server that is not there can be told apart.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Begins a transaction with the settings that the gateway relies on, whatever
/// a DBA has set for the role or the database:
///
/// - `search_path` without a schema in which others may create: a function or an
///   operator of theirs would run as the gateway, which may read all rows.
/// - READ COMMITTED, since each statement must see what is committed when it
///   begins; READ WRITE, for the flush.
/// - `synchronous_commit`, which is what makes a watermark durable.
/// - `row_security` off: hidden rows would look like rows that are not there.
/// - Time-outs, so that a gateway that is stopped keeps no lock from others.
/// - Plans for the snapshot at hand, not for yesterday's.
const BEGIN: &str = "
    BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;
    SET LOCAL search_path = pg_catalog, pg_temp;
    SET LOCAL synchronous_commit = on;
    SET LOCAL row_security = off;
    SET LOCAL statement_timeout = '10s';
    SET LOCAL lock_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '10s';
    SET LOCAL plan_cache_mode = force_custom_plan;
    SET LOCAL jit = off;
    SET LOCAL tcp_user_timeout = '15s'";

/// The queries, on a bounded pool.
pub struct Store {
    pool: Pool,
    table: TableName,
    probe_channel: String,
}

impl Store {
    /// A store with `size` connections at most, none of them open yet. Probes
    /// go to `probe_channel`.
    ///
    /// # Errors
    ///
    /// The pool's own; it has no reason to.
    pub fn new(
        connector: Arc<Connector>,
        size: usize,
        table: TableName,
        probe_channel: String,
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
        Ok(Self { pool, table, probe_channel })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// No connection within [`CONNECTION_TIMEOUT`]; [`StoreError::Standby`] when
    /// the database is no primary.
    pub async fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        let client = self.pool.get().await?;
        let mut transaction = Transaction { store: self, client: Some(client) };
        transaction
            .run(async |client, _| client.batch_execute(BEGIN).await.map_err(StoreError::of_begin))
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
        transaction.run(async |client, _| sweep::probe(client, channel, "", false).await).await?;
        transaction.commit().await
    }
}

/// A transaction. Dropped before its [`Transaction::commit`], or after a
/// statement that failed or took too long, it closes its connection rather than
/// hand it on: the server may still be at work on it.
pub struct Transaction<'a> {
    store: &'a Store,
    client: Option<Client>,
}

impl Transaction<'_> {
    /// Where the database stands.
    ///
    /// # Errors
    ///
    /// Postgres' refusal, or no answer in time.
    pub async fn standing(&mut self) -> Result<Standing, StoreError> {
        self.run(async |client, _| sweep::standing(client).await).await
    }

    /// The keys of all rows that `watermark` does not see; `None` when they are
    /// more than can be listed.
    ///
    /// # Errors
    ///
    /// As [`Transaction::standing`].
    pub async fn unseen(
        &mut self,
        watermark: &Snapshot,
    ) -> Result<Option<Vec<(RowKey, UserId)>>, StoreError> {
        self.run(async |client, store| sweep::unseen(client, &store.table, watermark).await).await
    }

    /// Sends the probe when the transaction commits. With `flush` the transaction
    /// also writes, so that once it has committed no crash takes back a
    /// transaction number that was given out before this statement began.
    ///
    /// # Errors
    ///
    /// As [`Transaction::standing`].
    pub async fn probe(&mut self, nonce: &str, flush: bool) -> Result<(), StoreError> {
        self.run(async |client, store| {
            sweep::probe(client, &store.probe_channel, nonce, flush).await
        })
        .await
    }

    /// The revocations: all of them, or those that are new since another look.
    ///
    /// # Errors
    ///
    /// As [`Transaction::standing`].
    pub async fn revocations(
        &mut self,
        since: Option<&RevocationsMark>,
    ) -> Result<RevocationsRead, StoreError> {
        self.run(async |client, _| revocations::read(client, since).await).await
    }

    /// The epochs of the database, a new one begun if `history` is not that of
    /// the last, or if the last is `outlived`.
    ///
    /// # Errors
    ///
    /// As [`Transaction::standing`].
    pub async fn epochs(
        &mut self,
        history: &History,
        outlived: Option<u32>,
    ) -> Result<Epochs, StoreError> {
        self.run(async |client, _| epochs::begin(client, history, outlived).await).await
    }

    /// The epochs as they are.
    ///
    /// # Errors
    ///
    /// As [`Transaction::standing`].
    pub async fn list_epochs(&mut self) -> Result<Epochs, StoreError> {
        self.run(async |client, _| epochs::list(client).await).await
    }

    /// The next page of each request, in their order. `None` for a request whose
    /// rows did not fit into the answer any more: it is to be asked for again.
    ///
    /// # Errors
    ///
    /// As [`Transaction::standing`].
    pub async fn pages(
        &mut self,
        requests: &[PageRequest<'_>],
    ) -> Result<Vec<Option<PageRows>>, StoreError> {
        self.run(async |client, store| pages::read(client, &store.table, requests).await).await
    }

    /// Which of the requests have more than `limit` rows to replay.
    ///
    /// # Errors
    ///
    /// As [`Transaction::standing`].
    pub async fn exceed(
        &mut self,
        requests: &[PageRequest<'_>],
        limit: u32,
    ) -> Result<Vec<bool>, StoreError> {
        self.run(async |client, store| pages::exceed(client, &store.table, requests, limit).await)
            .await
    }

    /// Commits, and gives the connection back to the pool.
    ///
    /// # Errors
    ///
    /// As [`Transaction::standing`]; then nobody knows whether it has committed.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.run(async |client, _| Ok(client.batch_execute("COMMIT").await?)).await?;
        // Without this it would be closed, as any that is dropped.
        drop(self.client.take());
        Ok(())
    }

    async fn run<T>(
        &mut self,
        statement: impl AsyncFnOnce(&Client, &Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let client = self.client.as_ref().ok_or(StoreError::Closed)?;
        let running = statement(client, self.store);
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

impl Drop for Transaction<'_> {
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

/// A transaction number, which travels as text: Postgres has `xid8`, the
/// protocol's library has not.
fn xact(text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(|_| StoreError::Number)
}

/// A snapshot's end and its running transactions, as two parameters of a query.
fn texts(snapshot: &Snapshot) -> (String, Vec<String>) {
    let xip = snapshot.xip().iter().map(u64::to_string).collect();
    (snapshot.xmax().to_string(), xip)
}
