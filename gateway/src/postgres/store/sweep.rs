//! What a sweep asks: where the database stands, what the watermark does not
//! see, and to send the probe.

use deadpool_postgres::Client;
use tokio_postgres::types::Type;

use super::{column, query, texts, xact};
use crate::{
    cursor::{RowKey, Snapshot},
    horizon::History,
    notification::UserId,
    store::{Standing, StoreError},
};

/// Rows a sweep lists; with more than these, every stream reads the table for
/// itself. 20,000 keys are about a megabyte.
const MAX_UNSEEN: usize = 20_000;

pub(super) async fn standing(client: &Client) -> Result<Standing, StoreError> {
    // pg_control_checkpoint() is late after a promotion; the WAL file's name
    // is not. A standby's snapshot lists no running transactions.
    const SQL: &str = "
        SELECT pg_current_snapshot()::text, r.recovering,
               (SELECT system_identifier FROM pg_control_system()),
               CASE WHEN r.recovering THEN '' ELSE
                   left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
               pg_notification_queue_usage()
        FROM (SELECT pg_is_in_recovery() AS recovering) r";
    let rows = query(client, SQL, &[]).await?;
    let row = rows.first().ok_or(StoreError::Number)?;
    if column(row, 1)? {
        return Err(StoreError::Standby);
    }
    Ok(Standing {
        snapshot: column::<&str>(row, 0)?.parse()?,
        history: History { system: column(row, 2)?, timeline: column(row, 3)? },
        queue_usage: column(row, 4)?,
    })
}

pub(super) async fn unseen(
    client: &Client,
    watermark: &Snapshot,
) -> Result<Option<Vec<(RowKey, UserId)>>, StoreError> {
    // Two ranges of the index on xact_id, and no row that is not wanted.
    const SQL: &str = "
        SELECT xact_id::text, seq, user_id FROM notify_gateway.event
        WHERE xact_id >= $1::text::xid8
        UNION ALL
        SELECT xact_id::text, seq, user_id FROM notify_gateway.event
        WHERE xact_id = ANY ($2::text[]::xid8[])
        LIMIT $3";
    let limit = i64::try_from(MAX_UNSEEN).unwrap_or(i64::MAX);
    let (xmax, xip) = texts(watermark);
    let parameters: super::Parameters<'_, 3> =
        [(&xmax, Type::TEXT), (&xip, Type::TEXT_ARRAY), (&(limit + 1), Type::INT8)];
    let rows = query(client, SQL, &parameters).await?;
    if rows.len() > MAX_UNSEEN {
        return Ok(None);
    }
    let mut unseen = Vec::with_capacity(rows.len());
    for row in &rows {
        // Nobody has a user that is none: somebody typed into the log.
        if let Ok(user) = column::<&str>(row, 2)?.parse() {
            unseen.push((RowKey { xact: xact(column(row, 0)?)?, seq: column(row, 1)? }, user));
        }
    }
    Ok(Some(unseen))
}

pub(super) async fn probe(
    client: &Client,
    channel: &str,
    nonce: &str,
    flush: bool,
) -> Result<(), StoreError> {
    const PROBE: &str = "SELECT pg_notify($1, $2)";
    const FLUSH: &str = "
        WITH flushed AS (
            UPDATE notify_gateway.state
            SET beat = beat + 1, beat_at = now(), flushed = pg_current_xact_id()
            RETURNING 1)
        SELECT pg_notify($1, $2) FROM flushed";
    let sql = if flush { FLUSH } else { PROBE };
    let notified = query(client, sql, &[(&channel, Type::TEXT), (&nonce, Type::TEXT)]).await?;
    if notified.is_empty() { Err(StoreError::NoState) } else { Ok(()) }
}
