//! The table of revocations: all of it, or what is new in it.

use deadpool_postgres::Client;
use tokio_postgres::types::Type;

use super::{bounds, column, query};
use crate::{cursor::Snapshot, revocation::Revocation, store::StoreError};

/// What one look at the table found.
#[derive(Clone, Debug)]
pub struct RevocationsRead {
    /// The latest of each user: of all, or of those the table has got since the
    /// look before.
    pub found: Vec<Revocation>,
    /// Whether these are all there are.
    pub is_whole: bool,
    /// From where the next look may go on.
    pub mark: RevocationsMark,
}

/// How far the table has been read.
#[derive(Clone, Debug)]
pub struct RevocationsMark {
    snapshot: Snapshot,
    /// When the server was started, and the time there. After a crash transaction
    /// numbers may be given out again, and the snapshot means nothing any more. A
    /// crash ends all connections, so the next look knows of none if its
    /// connection is older than this one.
    server: String,
    at: f64,
}

/// What each look tells besides. One row comes back whatever is found, with the
/// snapshot of this very statement.
const STANDING: &str = "
    SELECT pg_current_snapshot()::text, pg_postmaster_start_time()::text,
           date_part('epoch', clock_timestamp()), date_part('epoch', own.backend_start),
           r.user_id, r.before
    FROM pg_stat_get_activity(pg_backend_pid()) AS own";

const ALL: &str = "
    LEFT JOIN (
        SELECT user_id, max(date_part('epoch', before)) AS before
        FROM notify_gateway.revocation GROUP BY user_id
    ) r ON true";

/// Two ranges of the index on xact_id.
const NEW: &str = "
    LEFT JOIN (
        SELECT user_id, max(date_part('epoch', before)) AS before FROM (
            SELECT user_id, before FROM notify_gateway.revocation
            WHERE xact_id >= $1
            UNION ALL
            SELECT user_id, before FROM notify_gateway.revocation
            WHERE xact_id = ANY ($2)
        ) fresh GROUP BY user_id
    ) r ON true";

pub(super) async fn read(
    client: &Client,
    since: Option<&RevocationsMark>,
) -> Result<RevocationsRead, StoreError> {
    if let Some(since) = since {
        let (xmax, xip) = bounds(&since.snapshot);
        let sql = format!("{STANDING} {NEW}");
        let rows = query(client, &sql, &[(&xmax, Type::XID8), (&xip, Type::XID8_ARRAY)]).await?;
        let (fresh, connected) = decode(&rows, false)?;
        if fresh.mark.server == since.server && connected <= since.at {
            return Ok(fresh);
        }
    }
    let rows = query(client, &format!("{STANDING} {ALL}"), &[]).await?;
    Ok(decode(&rows, true)?.0)
}

/// The look, and when its connection was made.
fn decode(
    rows: &[tokio_postgres::Row],
    is_whole: bool,
) -> Result<(RevocationsRead, f64), StoreError> {
    let first = rows.first().ok_or(StoreError::Number)?;
    let mut found = Vec::new();
    for row in rows {
        // A text that cannot be a user id revokes nothing.
        let user = column::<Option<&str>>(row, 4)?.and_then(|user| user.parse().ok());
        if let Some(user) = user {
            found.push(Revocation { user, before: column(row, 5)? });
        }
    }
    let snapshot = column::<&str>(first, 0)?.parse()?;
    let mark = RevocationsMark { snapshot, server: column(first, 1)?, at: column(first, 2)? };
    Ok((RevocationsRead { found, is_whole, mark }, column(first, 3)?))
}
