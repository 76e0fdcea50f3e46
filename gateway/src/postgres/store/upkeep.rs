//! What keeps the log as long as it should be: checkpoints, pruning, erasure, and
//! what the triggers have complained of.

use std::time::Duration;

use deadpool_postgres::Client;
use tokio_postgres::types::Type;

use super::{Xid8, column, query, xact};
use crate::{
    cursor::{Cursor, RowKey, Snapshot},
    store::StoreError,
};

/// Events that one statement takes out of the log: few enough that a checkpoint or
/// a vacuum beside it does not notice.
const BATCH: i64 = 5000;

/// How large the log is.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSize {
    /// Events, as the statistics estimate them.
    pub rows: f64,
    /// Bytes, with the indexes.
    pub bytes: f64,
    /// How long ago the oldest was written, in seconds.
    pub oldest_seconds: f64,
}

/// A watched table whose rows make no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrecorded {
    /// The table, as SQL writes it.
    pub table: String,
    /// Why.
    pub cause: Cause,
}

/// Why rows make no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// They could not be made one.
    Row {
        /// Postgres' code.
        sqlstate: String,
        /// Postgres' text, where it holds no value of a row.
        message: Option<String>,
        /// How often, further, since this was asked last by any gateway.
        more: u64,
    },
    /// The table has no trigger of ours.
    NoTrigger,
    /// Its trigger does not fire.
    TriggerOff,
}

/// One gateway at a time does the rest; whether it is this one, until the end of
/// the transaction.
pub(super) async fn is_ours(client: &Client) -> Result<bool, StoreError> {
    const SQL: &str =
        "SELECT pg_try_advisory_xact_lock(hashtextextended('notify_gateway upkeep', 0))";
    let rows = query(client, SQL, &[]).await?;
    rows.first().map_or(Ok(false), |row| column(row, 0))
}

/// Notes which transactions have ended by now, a hundred times a retention: events
/// carry numbers and no times.
pub(super) async fn checkpoint(client: &Client, retention: Duration) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO notify_gateway.checkpoint (xact)
        SELECT pg_snapshot_xmin(pg_current_snapshot())
        WHERE NOT EXISTS (SELECT FROM notify_gateway.checkpoint
                          WHERE at > clock_timestamp() - make_interval(secs => $1))";
    query(client, SQL, &[(&(retention.as_secs_f64() / 100.0), Type::FLOAT8)]).await?;
    Ok(())
}

/// Takes the lowest events out, as many as the parameter `limit` says, whose transaction is
/// as `condition` wants.
fn delete(condition: &str, limit: &str) -> String {
    format!(
        "DELETE FROM notify_gateway.event WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM notify_gateway.event
             WHERE xact_id {condition} ORDER BY xact_id LIMIT {limit}))"
    )
}

/// Takes a batch out that is older than `retention`; whether there may be more.
pub(super) async fn prune(client: &Client, retention: Duration) -> Result<bool, StoreError> {
    const IS_OLD: &str = "< (SELECT xact FROM notify_gateway.checkpoint
                             WHERE at <= clock_timestamp() - make_interval(secs => $1)
                             ORDER BY at DESC LIMIT 1)";
    let prune = format!(
        "WITH gone AS ({} RETURNING xact_id)
         SELECT xact_id, (SELECT count(*) FROM gone) FROM gone ORDER BY xact_id DESC LIMIT 1",
        delete(IS_OLD, "$2")
    );
    // The last statement: the row is locked for as long as a commit takes.
    const NOTE: &str = "
        UPDATE notify_gateway.state SET pruned_below = $1
        WHERE pruned_below IS NULL OR pruned_below < $1";
    const FORGET: &str = "
        DELETE FROM notify_gateway.checkpoint
        WHERE at < (SELECT max(at) FROM notify_gateway.checkpoint
                    WHERE at <= clock_timestamp() - make_interval(secs => $1))";
    const OLD_PROBLEMS: &str = "
        DELETE FROM notify_gateway.problem
        WHERE at < clock_timestamp() - make_interval(secs => $1)";
    // An epoch is no longer of use when the one after it is as old as that.
    const OLD_EPOCHS: &str = "
        DELETE FROM notify_gateway.epoch
        WHERE place < (SELECT max(place) FROM notify_gateway.epoch
                       WHERE started_at < clock_timestamp() - make_interval(secs => $1))";
    let retention = retention.as_secs_f64();
    query(client, OLD_PROBLEMS, &[(&retention, Type::FLOAT8)]).await?;
    query(client, OLD_EPOCHS, &[(&retention, Type::FLOAT8)]).await?;
    let gone = query(client, &prune, &[(&retention, Type::FLOAT8), (&BATCH, Type::INT8)]).await?;
    let Some(row) = gone.first() else { return Ok(false) };
    let below = Xid8(xact(row, 0)?.saturating_add(1));
    query(client, FORGET, &[(&retention, Type::FLOAT8)]).await?;
    query(client, NOTE, &[(&below, Type::XID8)]).await?;
    Ok(column::<i64>(row, 1)? >= BATCH)
}

/// The transaction below which events may be missing.
pub(super) async fn pruned_below(client: &Client) -> Result<Option<u64>, StoreError> {
    let rows = query(client, "SELECT pruned_below FROM notify_gateway.state", &[]).await?;
    let row = rows.first().ok_or(StoreError::NoState)?;
    Ok(column::<Option<Xid8>>(row, 0)?.map(|Xid8(below)| below))
}

/// Scrubs what the log says of rows that are gone, as far as `cursor` has not come;
/// moves it on, and says whether there may be more.
pub(super) async fn erase(client: &Client, cursor: &mut Cursor) -> Result<bool, StoreError> {
    const GONE: &str = "
        SELECT xact_id, seq FROM notify_gateway.event
        WHERE event = 'deleted' AND (xact_id, seq) > ($1, $2)
          AND xact_id < $3
        ORDER BY xact_id, seq LIMIT $4";
    const ERASE: &str = "
        DELETE FROM notify_gateway.event e USING notify_gateway.event d
        WHERE d.event = 'deleted' AND (d.xact_id, d.seq) > ($1, $2)
          AND (d.xact_id, d.seq) <= ($3, $4)
          AND e.row_id = d.row_id AND e.watch = d.watch
          AND e.user_id IS NOT DISTINCT FROM d.user_id
          AND e.event <> 'deleted' AND (e.xact_id < d.oldest OR e.seq < d.seq)";
    let snapshot = query(client, "SELECT pg_current_snapshot()::text", &[]).await?;
    let snapshot: Snapshot =
        column::<&str>(snapshot.first().ok_or(StoreError::Number)?, 0)?.parse()?;
    for unread in cursor.unread() {
        let (after, seq) = (Xid8(unread.after.xact), unread.after.seq);
        let before = Xid8(unread.before);
        let parameters: super::Parameters<'_, 4> =
            [(&after, Type::XID8), (&seq, Type::INT8), (&before, Type::XID8), (&BATCH, Type::INT8)];
        let gone = query(client, GONE, &parameters).await?;
        let Some(row) = gone.last() else { continue };
        let last = RowKey { xact: xact(row, 0)?, seq: column(row, 1)? };
        let until = Xid8(last.xact);
        let parameters: super::Parameters<'_, 4> = [
            (&after, Type::XID8),
            (&seq, Type::INT8),
            (&until, Type::XID8),
            (&last.seq, Type::INT8),
        ];
        query(client, ERASE, &parameters).await?;
        if gone.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX) {
            let _is_new = cursor.replay(&snapshot, last);
            return Ok(true);
        }
    }
    *cursor = Cursor::new(cursor.epoch(), snapshot.into());
    Ok(false)
}

/// What the triggers have complained of, folded to the newest of a kind.
pub(super) async fn problems(client: &Client) -> Result<Vec<Unrecorded>, StoreError> {
    // Those that a complaint is appended to meanwhile are seen the next time.
    const FOLD: &str = "
        DELETE FROM notify_gateway.problem p USING notify_gateway.problem newer
        WHERE (p.watch, p.sqlstate) = (newer.watch, newer.sqlstate)
          AND p.message IS NOT DISTINCT FROM newer.message
          AND (p.at, p.ctid) < (newer.at, newer.ctid)
        RETURNING p.watch, p.sqlstate, p.message";
    const LIST: &str = "
        WITH folded AS (SELECT * FROM unnest($1::int4[], $2::text[], $3::text[])
                        AS f (watch, sqlstate, message))
        SELECT DISTINCT w.relation, p.sqlstate, p.message,
               (SELECT count(*) FROM folded f
                WHERE (f.watch, f.sqlstate) = (p.watch, p.sqlstate)
                  AND f.message IS NOT DISTINCT FROM p.message)
        FROM notify_gateway.problem p JOIN notify_gateway.watched w ON w.id = p.watch";
    let folded = query(client, FOLD, &[]).await?;
    let (mut watches, mut states, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for row in &folded {
        watches.push(column::<i32>(row, 0)?);
        states.push(column::<String>(row, 1)?);
        messages.push(column::<Option<String>>(row, 2)?);
    }
    let parameters: super::Parameters<'_, 3> =
        [(&watches, Type::INT4_ARRAY), (&states, Type::TEXT_ARRAY), (&messages, Type::TEXT_ARRAY)];
    let rows = query(client, LIST, &parameters).await?;
    let problem = |row: &tokio_postgres::Row| -> Result<_, StoreError> {
        let cause = Cause::Row {
            sqlstate: column(row, 1)?,
            message: column(row, 2)?,
            more: u64::try_from(column::<i64>(row, 3)?).unwrap_or_default(),
        };
        Ok(Unrecorded { table: column(row, 0)?, cause })
    };
    rows.iter().map(problem).collect()
}

/// Tables whose trigger is missing or does not fire.
pub(super) async fn silent_tables(client: &Client) -> Result<Vec<Unrecorded>, StoreError> {
    const SQL: &str = "
        SELECT relation, trigger = 'no trigger' FROM notify_gateway.watched
        WHERE trigger IN ('no trigger', 'disabled', 'replica') ORDER BY relation";
    let rows = query(client, SQL, &[]).await?;
    let silent = |row: &tokio_postgres::Row| -> Result<_, StoreError> {
        let cause = if column(row, 1)? { Cause::NoTrigger } else { Cause::TriggerOff };
        Ok(Unrecorded { table: column(row, 0)?, cause })
    };
    rows.iter().map(silent).collect()
}

/// Takes a batch out that no transaction of this cluster can have written yet: a dump has
/// brought it from another one. How many these were.
pub(super) async fn remove_foreign(client: &Client) -> Result<u64, StoreError> {
    const IS_FOREIGN: &str = ">= (SELECT pg_snapshot_xmax(pg_current_snapshot()))";
    let sql = format!(
        "WITH gone AS ({} RETURNING 1) SELECT count(*) FROM gone",
        delete(IS_FOREIGN, "$1")
    );
    let rows = query(client, &sql, &[(&BATCH, Type::INT8)]).await?;
    let count: i64 = column(rows.first().ok_or(StoreError::Number)?, 0)?;
    Ok(count.unsigned_abs())
}

/// How large the log is.
pub(super) async fn log_size(client: &Client) -> Result<LogSize, StoreError> {
    const SQL: &str = "
        SELECT greatest(c.reltuples, 0)::float8, pg_total_relation_size(c.oid)::float8,
               coalesce((SELECT date_part('epoch', clock_timestamp() - min(k.at))
                         FROM notify_gateway.checkpoint k
                         WHERE k.xact > (SELECT e.xact_id FROM notify_gateway.event e
                                         ORDER BY e.xact_id LIMIT 1)), 0)
        FROM pg_class c WHERE c.oid = 'notify_gateway.event'::regclass";
    let rows = query(client, SQL, &[]).await?;
    let row = rows.first().ok_or(StoreError::Number)?;
    Ok(LogSize { rows: column(row, 0)?, bytes: column(row, 1)?, oldest_seconds: column(row, 2)? })
}
