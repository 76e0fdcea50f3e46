//! Every statement of the gateway but LISTEN, on the pool.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::connector::{Connector, Pooled};
use crate::{
    config::TableName,
    cursor::{Cursor, RowKey, Snapshot, SnapshotError},
    feed::Row,
    horizon::{Epoch, Epochs, History},
    notification::{Payload, UserId},
    revocation::Revocation,
    sse,
};

/// How long one statement may take here, and how long a connection may be
/// waited for. Past it the database is as good as away.
///
/// Longer than the server's own limit, so that a statement that is too slow and
/// a server that is not there can be told apart.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Rows a sweep lists; with more than these, every stream reads the table for
/// itself. 20,000 keys are about a megabyte.
const MAX_UNSEEN: usize = 20_000;

/// Rows and bytes of one page of one stream's replay: a stream is given as much
/// at a time as a socket's buffer takes. One larger row passes alone.
const PAGE_ROWS: i64 = 100;
const PAGE_BYTES: i64 = 64 * 1024;

/// A function or an operator that anybody made in a schema of the database's
/// `search_path` would run as the gateway, which may read everybody's rows; the
/// defaults of transactions are pinned because a DBA may have set others for the
/// role or the database.
///
/// `synchronous_commit` is what makes a watermark durable; with row security a
/// missing row would look like none; a gateway that is stopped must not keep a
/// lock from the others; plans for yesterday's snapshot are wrong today.
const SESSION: &str = "
    SET search_path = pg_catalog, pg_temp;
    SET default_transaction_isolation = 'read committed';
    SET default_transaction_read_only = off;
    SET synchronous_commit = on;
    SET row_security = off;
    SET statement_timeout = '10s';
    SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '10s';
    SET plan_cache_mode = force_custom_plan;
    SET jit = off;
    SET tcp_user_timeout = '15s'";

/// The queries, on a bounded pool.
pub struct Store {
    pool: Pool,
    table: TableName,
    probe_channel: String,
}

/// Where the database stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its current snapshot.
    pub snapshot: Snapshot,
    /// Which history its transaction numbers belong to.
    pub history: History,
    /// How full the notification queue is, 0 to 1; at 1 commits fail.
    pub queue_usage: f64,
}

/// A stream's wish for a page.
pub struct PageRequest<'a> {
    /// Whose rows.
    pub user: UserId,
    /// What it has.
    pub cursor: &'a Cursor,
}

/// A page as the table gave it.
#[derive(Debug, Default)]
pub struct PageRows {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// Whether there are more.
    pub more: bool,
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
        let session = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(async move { client.batch_execute(SESSION).await.map_err(HookError::Backend) })
        });
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECTION_TIMEOUT))
            .create_timeout(Some(CONNECTION_TIMEOUT))
            .recycle_timeout(Some(CONNECTION_TIMEOUT))
            .post_create(session)
            .build()?;
        Ok(Self { pool, table, probe_channel })
    }

    /// A connection, for statements that have to come one after the other in
    /// the life of one server process.
    ///
    /// # Errors
    ///
    /// No connection within [`CONNECTION_TIMEOUT`].
    pub async fn session(&self) -> Result<Session<'_>, StoreError> {
        Ok(Session { store: self, client: Some(self.pool.get().await?) })
    }
}

/// A connection of the pool. After a statement that failed or took too long it
/// is closed rather than handed on: its server may still be at work on it.
pub struct Session<'a> {
    store: &'a Store,
    client: Option<Client>,
}

impl Session<'_> {
    /// Where the database stands.
    ///
    /// # Errors
    ///
    /// [`StoreError::Standby`] when it is no primary.
    pub async fn standing(&mut self) -> Result<Standing, StoreError> {
        self.run(async |client, _| standing(client).await).await
    }

    /// The keys of all rows that `watermark` does not see; `None` when they are
    /// more than can be listed.
    ///
    /// # Errors
    ///
    /// Postgres'.
    pub async fn unseen(
        &mut self,
        watermark: &Snapshot,
    ) -> Result<Option<Vec<(RowKey, UserId)>>, StoreError> {
        self.run(async |client, store| unseen(client, &store.table, watermark).await).await
    }

    /// The revocations that `watermark` does not see, the latest of each user.
    ///
    /// # Errors
    ///
    /// Postgres'.
    pub async fn revocations(
        &mut self,
        watermark: &Snapshot,
    ) -> Result<Vec<Revocation>, StoreError> {
        self.run(async |client, _| revocations(client, watermark).await).await
    }

    /// Sends the probe. With `flush` its transaction also writes, so that once
    /// it has committed no crash takes back a transaction number that was given
    /// out before it began.
    ///
    /// # Errors
    ///
    /// Postgres'.
    pub async fn probe(&mut self, nonce: &str, flush: bool) -> Result<(), StoreError> {
        self.run(async |client, store| probe(client, &store.probe_channel, nonce, flush).await)
            .await
    }

    /// The epochs of the database, a new one begun if `history` is not that of
    /// the last, or if the last is `outlived`.
    ///
    /// # Errors
    ///
    /// Postgres'.
    pub async fn epochs(
        &mut self,
        history: &History,
        outlived: Option<u32>,
    ) -> Result<Epochs, StoreError> {
        self.run(async |client, _| epochs(client, history, outlived).await).await
    }

    /// The epochs as they are.
    ///
    /// # Errors
    ///
    /// Postgres'.
    pub async fn list_epochs(&mut self) -> Result<Epochs, StoreError> {
        self.run(async |client, _| {
            let statement = client.prepare_cached(LIST_EPOCHS).await?;
            decode_epochs(&client.query(&statement, &[]).await?)
        })
        .await
    }

    /// The next page of each request, in their order.
    ///
    /// # Errors
    ///
    /// Postgres'.
    pub async fn pages(
        &mut self,
        requests: &[PageRequest<'_>],
    ) -> Result<Vec<PageRows>, StoreError> {
        self.run(async |client, store| pages(client, &store.table, requests).await).await
    }

    /// Which of the requests have more than `limit` rows to replay.
    ///
    /// # Errors
    ///
    /// Postgres'.
    pub async fn exceed(
        &mut self,
        requests: &[PageRequest<'_>],
        limit: u32,
    ) -> Result<Vec<bool>, StoreError> {
        self.run(async |client, store| exceed(client, &store.table, requests, limit).await).await
    }

    async fn run<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut Client, &Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut client = self.client.take().ok_or(StoreError::Closed)?;
        let running = statement(&mut client, self.store);
        let outcome = tokio::time::timeout(STATEMENT_TIMEOUT, running).await;
        match outcome {
            Ok(Ok(value)) => {
                self.client = Some(client);
                Ok(value)
            }
            Ok(Err(error)) => {
                drop(Client::take(client));
                Err(error)
            }
            Err(_) => {
                drop(Client::take(client));
                Err(StoreError::TimedOut)
            }
        }
    }
}

async fn standing(client: &Client) -> Result<Standing, StoreError> {
    // pg_control_checkpoint() is late after a promotion; the WAL file's name
    // is not. A standby's snapshot lists no running transactions.
    const SQL: &str = "
        SELECT pg_current_snapshot()::text, r.recovering,
               (SELECT system_identifier FROM pg_control_system()),
               CASE WHEN r.recovering THEN '' ELSE
                   left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
               pg_notification_queue_usage()
        FROM (SELECT pg_is_in_recovery() AS recovering) r";
    let statement = client.prepare_cached(SQL).await?;
    let row = client.query_one(&statement, &[]).await?;
    if row.try_get(1)? {
        return Err(StoreError::Standby);
    }
    Ok(Standing {
        snapshot: row.try_get::<_, &str>(0)?.parse()?,
        history: History { system: row.try_get(2)?, timeline: row.try_get(3)? },
        queue_usage: row.try_get(4)?,
    })
}

async fn unseen(
    client: &Client,
    table: &TableName,
    watermark: &Snapshot,
) -> Result<Option<Vec<(RowKey, UserId)>>, StoreError> {
    // Two ranges of the index on xact_id, and no row that is not wanted.
    let sql = format!(
        "SELECT xact_id::text, seq, user_id FROM {table}
         WHERE xact_id >= $1::text::xid8 AND seq IS NOT NULL AND user_id IS NOT NULL
         UNION ALL
         SELECT xact_id::text, seq, user_id FROM {table}
         WHERE xact_id = ANY ($2::text[]::xid8[]) AND seq IS NOT NULL AND user_id IS NOT NULL
         LIMIT $3"
    );
    let statement = client.prepare_cached(&sql).await?;
    let limit = i64::try_from(MAX_UNSEEN).unwrap_or(i64::MAX);
    let (xmax, xip) = texts(watermark);
    let rows = client.query(&statement, &[&xmax, &xip, &(limit + 1)]).await?;
    if rows.len() > MAX_UNSEEN {
        return Ok(None);
    }
    let key = |row: &tokio_postgres::Row| -> Result<_, StoreError> {
        let key = RowKey { xact: xact(row.try_get(0)?)?, seq: row.try_get(1)? };
        Ok((key, UserId(row.try_get(2)?)))
    };
    rows.iter().map(key).collect::<Result<_, _>>().map(Some)
}

async fn revocations(client: &Client, watermark: &Snapshot) -> Result<Vec<Revocation>, StoreError> {
    const SQL: &str = "
    SELECT user_id, max(date_part('epoch', before)) FROM (
        SELECT user_id, before FROM notify_gateway.revocation
        WHERE xact_id >= $1::text::xid8
        UNION ALL
        SELECT user_id, before FROM notify_gateway.revocation
        WHERE xact_id = ANY ($2::text[]::xid8[])
    ) revocation GROUP BY user_id";
    let statement = client.prepare_cached(SQL).await?;
    let (xmax, xip) = texts(watermark);
    let rows = client.query(&statement, &[&xmax, &xip]).await?;
    let revocation = |row: &tokio_postgres::Row| {
        Ok(Revocation { user: UserId(row.try_get(0)?), before: row.try_get(1)? })
    };
    rows.iter().map(revocation).collect()
}

/// A snapshot as the parameters of a query: Postgres has `xid8`, the protocol's
/// library has not.
fn texts(snapshot: &Snapshot) -> (String, Vec<String>) {
    let xip = snapshot.xip().iter().map(u64::to_string).collect();
    (snapshot.xmax().to_string(), xip)
}

async fn probe(client: &Client, channel: &str, nonce: &str, flush: bool) -> Result<(), StoreError> {
    const PROBE: &str = "SELECT pg_notify($1, $2)";
    const FLUSH: &str = "
        WITH flushed AS (
            UPDATE notify_gateway.state
            SET beat = beat + 1, beat_at = now(), flushed = pg_current_xact_id()
            RETURNING 1)
        SELECT pg_notify($1, $2) FROM flushed";
    let statement = client.prepare_cached(if flush { FLUSH } else { PROBE }).await?;
    let notified = client.query(&statement, &[&channel, &nonce]).await?;
    if notified.is_empty() {
        return Err(StoreError::NoState);
    }
    Ok(())
}

/// How far apart the numbers of two epochs may be: many enough to tell them
/// apart, few enough for two thousand of them.
const EPOCH_STEP: i32 = 1 << 20;

const LIST_EPOCHS: &str = "
    SELECT epoch, first_xact::text, system_identifier, timeline
    FROM notify_gateway.epoch ORDER BY epoch";

async fn epochs(
    client: &mut Client,
    history: &History,
    outlived: Option<u32>,
) -> Result<Epochs, StoreError> {
    // Cursors that left a gateway spoke of transactions up to the flush that
    // made them durable; this database has kept those up to the last flush it
    // knows. In another cluster they mean the same only if its numbers go on
    // from there (pg_upgrade), and nothing if they do not (dump and restore).
    const BEGIN: &str = "
        INSERT INTO notify_gateway.epoch (epoch, system_identifier, timeline, first_xact)
        SELECT $1, $2, $3, CASE
            WHEN $4 OR pg_current_xact_id() > flushed
            THEN (flushed::text::numeric + 1)::text::xid8 END
        FROM notify_gateway.state";
    let transaction = client.transaction().await?;
    // One gateway at a time; the others then find what the first has written.
    let lock = "SELECT epoch FROM notify_gateway.state FOR UPDATE";
    if transaction.query_opt(lock, &[]).await?.is_none() {
        return Err(StoreError::NoState);
    }
    let last = transaction.query(LIST_EPOCHS, &[]).await?;
    let last = last.last().map(|row| -> Result<_, StoreError> {
        let system: i64 = row.try_get(2)?;
        Ok((row.try_get::<_, i32>(0)?, History { system, timeline: row.try_get(3)? }))
    });
    let (number, known) = match last.transpose()? {
        Some((number, known)) => (number, Some(known)),
        None => (0, None),
    };
    let is_outlived = outlived.is_some() && outlived == u32::try_from(number).ok();
    if known.as_ref() != Some(history) || is_outlived {
        let same_cluster = known.is_some_and(|known| known.system == history.system);
        // At random: another database, and a standby that was promoted without
        // having heard of our last epoch, begin epochs of their own. By the
        // same number, their cursors would pass for ours.
        let next = number.saturating_add(fastrand::i32(1..EPOCH_STEP));
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&next, &history.system, &history.timeline, &same_cluster];
        transaction.execute(BEGIN, &values).await?;
        transaction.execute("UPDATE notify_gateway.state SET epoch = $1", &[&next]).await?;
    }
    let rows = transaction.query(LIST_EPOCHS, &[]).await?;
    transaction.commit().await?;
    decode_epochs(&rows)
}

fn decode_epochs(rows: &[tokio_postgres::Row]) -> Result<Epochs, StoreError> {
    let epoch = |row: &tokio_postgres::Row| -> Result<_, StoreError> {
        let number = u32::try_from(row.try_get::<_, i32>(0)?).map_err(|_| StoreError::Number)?;
        let first = row.try_get::<_, Option<&str>>(1)?.map(xact).transpose()?;
        Ok(Epoch { number, first })
    };
    Ok(Epochs::new(rows.iter().map(epoch).collect::<Result<_, _>>()?))
}

/// The requests' unread ranges, as the arrays of an `unnest`.
#[derive(Default)]
struct Ranges {
    request: Vec<i32>,
    user: Vec<Uuid>,
    after_xact: Vec<String>,
    after_seq: Vec<i64>,
    before: Vec<String>,
}

impl Ranges {
    /// As SQL, with the columns of the rows they hold; two ranges of the index
    /// on (user_id, xact_id, seq) for a plain cursor.
    const FROM: &'static str = "
        unnest($1::int4[], $2::uuid[], $3::text[]::xid8[], $4::int8[], $5::text[]::xid8[])
        WITH ORDINALITY AS r (request, user_id, after_xact, after_seq, before, place)";
    const WHERE: &'static str = "
        n.user_id = r.user_id AND (n.xact_id, n.seq) > (r.after_xact, r.after_seq)
        AND n.xact_id < r.before AND n.seq IS NOT NULL";

    fn of(requests: &[PageRequest<'_>]) -> Self {
        let mut ranges = Self::default();
        for (request, i) in requests.iter().zip(0..) {
            for unread in request.cursor.unread() {
                ranges.request.push(i);
                ranges.user.push(request.user.0);
                ranges.after_xact.push(unread.after.xact.to_string());
                ranges.after_seq.push(unread.after.seq);
                ranges.before.push(unread.before.to_string());
            }
        }
        ranges
    }
}

async fn pages(
    client: &Client,
    table: &TableName,
    requests: &[PageRequest<'_>],
) -> Result<Vec<PageRows>, StoreError> {
    // What fits is chosen by sizes, which Postgres knows without reading a large
    // value; only then is a payload made. A range that is full leaves no place
    // for those after it, so that the order holds.
    let sql = format!(
        "SELECT page.request, notify_gateway.payload(n), page.found, page.is_cut
     FROM (
         SELECT r.request, r.place, r.user_id, found.xact_id, found.seq,
                row_number() OVER request AS number,
                sum(found.bytes) OVER request - found.bytes AS bytes_before,
                count(*) OVER (PARTITION BY r.request) AS found,
                bool_or(found.is_cut) OVER (PARTITION BY r.request) AS is_cut
         FROM {from} CROSS JOIN LATERAL (
             SELECT *, count(*) OVER () >= $6 AS is_cut
             FROM (SELECT n.xact_id, n.seq,
                          coalesce(octet_length(n.title), 0) + coalesce(octet_length(n.message), 0)
                          + coalesce(pg_column_size(n.metadata), 0) AS bytes
                   FROM {table} n WHERE {condition}
                   ORDER BY n.xact_id, n.seq LIMIT $6) first
         ) found
         WINDOW request AS (PARTITION BY r.request ORDER BY r.place, found.xact_id, found.seq)
     ) page
     JOIN {table} n ON n.user_id = page.user_id
          AND n.xact_id = page.xact_id AND n.seq = page.seq
     WHERE page.number <= $6 AND page.bytes_before < $7
     ORDER BY page.place, page.xact_id, page.seq",
        from = Ranges::FROM,
        condition = Ranges::WHERE,
    );
    let statement = client.prepare_cached(&sql).await?;
    let ranges = Ranges::of(requests);
    let Ranges { request, user, after_xact, after_seq, before } = &ranges;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [request, user, after_xact, after_seq, before, &PAGE_ROWS, &PAGE_BYTES];
    let rows = client.query(&statement, &values).await?;

    let mut pages: Vec<PageRows> = Vec::new();
    pages.resize_with(requests.len(), PageRows::default);
    for row in rows {
        let request = usize::try_from(row.try_get::<_, i32>(0)?);
        let page = request.ok().and_then(|i| pages.get_mut(i)).ok_or(StoreError::Number)?;
        page.rows.push(decode(row.try_get(1)?)?);
        let found: i64 = row.try_get(2)?;
        page.more = row.try_get(3)? || usize::try_from(found) != Ok(page.rows.len());
    }
    Ok(pages)
}

async fn exceed(
    client: &Client,
    table: &TableName,
    requests: &[PageRequest<'_>],
    limit: u32,
) -> Result<Vec<bool>, StoreError> {
    let sql = format!(
        "SELECT r.request, sum(found.rows)::int8
         FROM {from} CROSS JOIN LATERAL (
             SELECT count(*) AS rows
             FROM (SELECT FROM {table} n WHERE {condition} LIMIT $6) first
         ) found GROUP BY r.request",
        from = Ranges::FROM,
        condition = Ranges::WHERE,
    );
    let statement = client.prepare_cached(&sql).await?;
    let Ranges { request, user, after_xact, after_seq, before } = &Ranges::of(requests);
    let most = i64::from(limit) + 1;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [request, user, after_xact, after_seq, before, &most];
    let mut exceed = vec![false; requests.len()];
    for row in client.query(&statement, &values).await? {
        let request = usize::try_from(row.try_get::<_, i32>(0)?);
        let slot = request.ok().and_then(|i| exceed.get_mut(i)).ok_or(StoreError::Number)?;
        *slot = row.try_get::<_, i64>(1)? > i64::from(limit);
    }
    Ok(exceed)
}

fn decode(payload: &str) -> Result<Row, StoreError> {
    match Payload::decode(payload) {
        Ok(Payload::Row(row)) => Ok(Row { key: row.key, event: sse::notification(row.data) }),
        _ => Err(StoreError::Payload),
    }
}

fn xact(text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(|_| StoreError::Number)
}

/// Why the table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection to be had.
    #[error("no connection to the database")]
    Pool(#[from] PoolError),
    /// Postgres or the way to it.
    #[error("the database could not answer")]
    Postgres(#[from] tokio_postgres::Error),
    /// There was no answer.
    #[error("the database did not answer within {STATEMENT_TIMEOUT:?}")]
    TimedOut,
    /// The statement before has failed.
    #[error("the connection is closed")]
    Closed,
    /// A standby knows nothing of running transactions.
    #[error("the database is a standby; the gateway needs the primary")]
    Standby,
    /// Its transaction numbers are others, or a gateway has found that they are.
    #[error("the database's history has changed")]
    OtherHistory,
    /// The schema is not complete.
    #[error("notify_gateway.state has no row; run: notify-gateway schema | psql \"$DATABASE_URL\"")]
    NoState,
    /// A snapshot that does not parse.
    #[error("the database's snapshot could not be read")]
    Snapshot(#[from] SnapshotError),
    /// A number out of its range.
    #[error("the database returned a number out of range")]
    Number,
    /// What `notify_gateway.payload` made is not what it makes.
    #[error(
        "notify_gateway.payload() is not the one of this version; run: notify-gateway schema | psql \"$DATABASE_URL\""
    )]
    Payload,
}

impl StoreError {
    /// Whether the database is there, and it is the statement that fails.
    pub fn is_of_statement(&self) -> bool {
        match self {
            Self::Payload | Self::Number => true,
            Self::Postgres(error) => error.code().is_some_and(|code| {
                // A server that is going down or full refuses everything.
                let class = code.code().get(..2).unwrap_or_default();
                *code == SqlState::QUERY_CANCELED || !["08", "53", "57", "58"].contains(&class)
            }),
            _ => false,
        }
    }
}
