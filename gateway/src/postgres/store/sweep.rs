//! What a sweep asks: where the database stands, what the watermark does not
//! see, to send the probe, to write what makes it last.

use std::time::Duration;

use deadpool_postgres::Client;
use tokio_postgres::{
    Row,
    types::{FromSql, Type},
};

use super::{Xid8, bounds, column, query, xact};
use crate::{
    cursor::{RowKey, Snapshot},
    feed,
    notification::{EventName, UserId},
    quiet::{FOR_GOOD, Left},
    store::{Standing, StoreError, Unseen},
};

/// Rows a sweep lists; with more than these, every stream reads the log for
/// itself. 20,000 keys are about a megabyte.
const MAX_UNSEEN: usize = 20_000;

pub(super) async fn standing(client: &Client) -> Result<Standing, StoreError> {
    // A standby's snapshot lists no running transactions.
    const SQL: &str = "
        SELECT pg_current_snapshot()::text, pg_is_in_recovery(), notify_gateway.current_epoch(),
               pg_notification_queue_usage(),
               date_part('epoch', clock_timestamp()), date_part('epoch', own.backend_start),
               (SELECT CASE WHEN isfinite(quiet_until)
                            THEN date_part('epoch', quiet_until - clock_timestamp())
                            WHEN quiet_until IS NOT NULL THEN 'Infinity' END
                FROM notify_gateway.state)
        FROM pg_stat_get_activity(pg_backend_pid()) AS own";
    let rows = query(client, SQL, &[]).await?;
    let row = rows.first().ok_or(StoreError::Number)?;
    if column(row, 1)? {
        return Err(StoreError::Standby);
    }
    Ok(Standing {
        snapshot: column::<&str>(row, 0)?.parse()?,
        epoch: super::epoch(row, 2)?,
        queue_usage: column(row, 3)?,
        now: column(row, 4)?,
        connected: column(row, 5)?,
        quiet: column::<Option<f64>>(row, 6)?.map_or(Left::NEVER, Left),
    })
}

pub(super) async fn unseen(client: &Client, snapshot: &Snapshot) -> Result<Unseen, StoreError> {
    // Two ranges of the index on xact_id, and no row that is not wanted; none of another
    // cluster, which a dump has brought.
    // One row of arrays: a row each would cost more than what is in it.
    const SQL: &str = "
        SELECT array_agg(xact_id), array_agg(seq), array_agg(user_id),
               pg_current_snapshot()::text
        FROM (
            SELECT * FROM (
                (SELECT xact_id, seq, user_id FROM notify_gateway.event
                 WHERE xact_id >= $1
                   AND xact_id < (SELECT pg_snapshot_xmax(pg_current_snapshot())) LIMIT $3)
                UNION ALL
                (SELECT xact_id, seq, user_id FROM notify_gateway.event
                 WHERE xact_id = ANY ($2) LIMIT $3)
            ) unseen
            ORDER BY seq LIMIT $3
        ) ordered";
    let limit = i64::try_from(MAX_UNSEEN).unwrap_or(i64::MAX);
    let (xmax, xip) = bounds(snapshot);
    let parameters: super::Parameters<'_, 3> =
        [(&xmax, Type::XID8), (&xip, Type::XID8_ARRAY), (&(limit + 1), Type::INT8)];
    let rows = query(client, SQL, &parameters).await?;
    let row = rows.first().ok_or(StoreError::Number)?;
    let seen = column::<&str>(row, 3)?.parse()?;
    let xacts: Vec<Xid8> = list(row, 0)?;
    if xacts.len() > MAX_UNSEEN {
        return Ok(Unseen { rows: None, seen });
    }
    let keys = xacts.into_iter().zip(list::<i64>(row, 1)?);
    let keys = keys.map(|(Xid8(xact), seq)| RowKey { xact, seq });
    // Somebody wrote a user id into the log that no token can have: skipped.
    let users = list::<&str>(row, 2)?.into_iter().map(str::parse);
    let rows = keys.zip(users).filter_map(|(key, user)| Some((key, user.ok()?)));
    Ok(Unseen { rows: Some(rows.collect()), seen })
}

pub(super) async fn rows(
    client: &Client,
    keys: &[(RowKey, UserId)],
) -> Result<Vec<Option<feed::Row>>, StoreError> {
    // The first at or after each place: with `seq = …` Postgres might choose the index on
    // xact_id alone, and read the rows of everybody.
    const SQL: &str = "
        SELECT array_agg(place), array_agg(event), array_agg(data) FROM (
            SELECT q.place, found.event,
                   CASE WHEN sum(octet_length(found.data)) OVER (ORDER BY q.place)
                             - octet_length(found.data) < $4 THEN found.data END AS data
            FROM unnest($1::text[], $2::xid8[], $3::int8[])
                 WITH ORDINALITY AS q (user_id, xact_id, seq, place)
            CROSS JOIN LATERAL (
                SELECT n.seq, n.event, n.data FROM notify_gateway.event n
                WHERE n.user_id = q.user_id AND n.xact_id = q.xact_id AND n.seq >= q.seq
                ORDER BY n.seq LIMIT 1
            ) found
            WHERE found.seq = q.seq
        ) read";
    let users: Vec<String> = keys.iter().map(|(_, user)| user.to_string()).collect();
    let xacts: Vec<Xid8> = keys.iter().map(|(key, _)| Xid8(key.xact)).collect();
    let seqs: Vec<i64> = keys.iter().map(|(key, _)| key.seq).collect();
    let parameters: super::Parameters<'_, 4> = [
        (&users, Type::TEXT_ARRAY),
        (&xacts, Type::XID8_ARRAY),
        (&seqs, Type::INT8_ARRAY),
        (&super::ANSWER_BYTES, Type::INT8),
    ];
    let mut rows = vec![None; keys.len()];
    let answer = query(client, SQL, &parameters).await?;
    let answer = answer.first().ok_or(StoreError::Number)?;
    let texts = list::<&str>(answer, 1)?.into_iter().zip(list::<Option<&str>>(answer, 2)?);
    for (place, (event, data)) in list::<i64>(answer, 0)?.into_iter().zip(texts) {
        let place = usize::try_from(place - 1).map_err(|_| StoreError::Number)?;
        let (Some((key, _)), Some(slot)) = (keys.get(place), rows.get_mut(place)) else {
            return Err(StoreError::Number);
        };
        *slot = data.map(|data| feed::Row::new(*key, EventName::stored(event), data));
    }
    Ok(rows)
}

/// What `array_agg` made; of no rows it makes null.
fn list<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<Vec<T>, StoreError> {
    Ok(column::<Option<Vec<T>>>(row, place)?.unwrap_or_default())
}

pub(super) async fn notify(client: &Client, channel: &str, text: &str) -> Result<(), StoreError> {
    const SQL: &str = "SELECT pg_notify($1, $2)";
    query(client, SQL, &[(&channel, Type::TEXT), (&text, Type::TEXT)]).await?;
    Ok(())
}

/// Makes all numbers of before outlive a crash; returns its own.
pub(super) async fn flush(client: &Client, quiet: Option<Duration>) -> Result<u64, StoreError> {
    const SQL: &str = "
        UPDATE notify_gateway.state
        SET beat = beat + 1, beat_at = now(),
            flushed = greatest(flushed, pg_current_xact_id()),
            quiet_until = CASE WHEN $1 IS NULL THEN quiet_until
                               WHEN $1 = 'Infinity' THEN 'infinity'
                               ELSE clock_timestamp() + make_interval(secs => $1) END
        RETURNING pg_current_xact_id()";
    let seconds = |quiet: Duration| {
        if quiet == FOR_GOOD { f64::INFINITY } else { quiet.as_secs_f64() }
    };
    let rows = query(client, SQL, &[(&quiet.map(seconds), Type::FLOAT8)]).await?;
    xact(rows.first().ok_or(StoreError::NoState)?, 0)
}
