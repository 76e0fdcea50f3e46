//! The epochs: stretches of time in which transaction numbers only went up.

use deadpool_postgres::Client;
use tokio_postgres::{Row, types::Type};

use super::{column, query, xact};
use crate::{
    horizon::{Epoch, Epochs, History},
    store::StoreError,
};

/// How far apart the numbers of two epochs may be: many enough to tell them
/// apart, few enough for two thousand of them.
const EPOCH_STEP: i32 = 1 << 20;

const LIST: &str = "
    SELECT epoch, first_xact::text, system_identifier, timeline
    FROM notify_gateway.epoch ORDER BY epoch";

pub(super) async fn list(client: &Client) -> Result<Epochs, StoreError> {
    decode(&query(client, LIST, &[]).await?)
}

pub(super) async fn begin(
    client: &Client,
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
    // One gateway at a time; the others then find what the first has written.
    let lock = "SELECT epoch FROM notify_gateway.state FOR UPDATE";
    if query(client, lock, &[]).await?.is_empty() {
        return Err(StoreError::NoState);
    }
    let last = query(client, LIST, &[]).await?;
    let last = last.last().map(|row| -> Result<_, StoreError> {
        let known = History { system: column(row, 2)?, timeline: column(row, 3)? };
        Ok((column::<i32>(row, 0)?, known))
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
        let parameters: super::Parameters<'_, 4> = [
            (&next, Type::INT4),
            (&history.system, Type::INT8),
            (&history.timeline, Type::TEXT),
            (&same_cluster, Type::BOOL),
        ];
        query(client, BEGIN, &parameters).await?;
        let current = "UPDATE notify_gateway.state SET epoch = $1";
        query(client, current, &[(&next, Type::INT4)]).await?;
    }
    list(client).await
}

fn decode(rows: &[Row]) -> Result<Epochs, StoreError> {
    let epoch = |row: &Row| -> Result<_, StoreError> {
        let number = u32::try_from(column::<i32>(row, 0)?).map_err(|_| StoreError::Number)?;
        let first = column::<Option<&str>>(row, 1)?.map(xact).transpose()?;
        Ok(Epoch { number, first })
    };
    Ok(Epochs::new(rows.iter().map(epoch).collect::<Result<_, _>>()?))
}
