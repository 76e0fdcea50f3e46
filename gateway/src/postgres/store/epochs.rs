//! The epochs: the lives of the server, in each of which transaction numbers only
//! went up. `notify_gateway.begin_epoch()` in schema.sql tells them apart.

use deadpool_postgres::Client;
use tokio_postgres::Row;

use super::{Xid8, column, epoch, query};
use crate::{
    horizon::{Epoch, Epochs},
    store::StoreError,
};

pub(super) async fn begin(client: &Client) -> Result<Epochs, StoreError> {
    const BEGIN: &str = "SELECT notify_gateway.begin_epoch()";
    const LIST: &str = "
        SELECT epoch, first_xact, is_restart, timeline IS NULL
        FROM notify_gateway.epoch ORDER BY place";
    query(client, BEGIN, &[]).await?;
    let rows = query(client, LIST, &[]).await?;
    if let Some(last) = rows.last()
        && column(last, 3)?
    {
        tracing::warn!(
            "this service does not say which timeline it is on: after each of its restarts \
             what was delivered in the last second comes once more"
        );
    }
    let epoch = |row: &Row| -> Result<_, StoreError> {
        let first = column::<Option<Xid8>>(row, 1)?.map(|Xid8(first)| first);
        Ok(Epoch { number: epoch(row, 0)?, first, is_restart: column(row, 2)? })
    };
    Ok(Epochs::new(rows.iter().map(epoch).collect::<Result<_, _>>()?))
}
