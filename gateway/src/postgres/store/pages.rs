//! Pages of the table for streams that are behind, many streams to a query.

use deadpool_postgres::Client;
use tokio_postgres::types::Type;

use super::{ANSWER_BYTES, Xid8, column, query, xact};
use crate::{
    cursor::RowKey,
    feed,
    notification::EventName,
    store::{PageRequest, PageRow, PageRows, StoreError},
};

/// Rows and bytes of one page of one stream's replay: a stream is given as much
/// at a time as a socket's buffer takes. One larger row passes alone.
const PAGE_ROWS: i64 = 100;
const PAGE_BYTES: i64 = 64 * 1024;

/// The requests, and their unread ranges one after the other, as the arrays of
/// an `unnest`.
#[derive(Default)]
struct Ranges {
    first: Vec<i32>,
    last: Vec<i32>,
    user: Vec<String>,
    after_xact: Vec<Xid8>,
    after_seq: Vec<i64>,
    before: Vec<Xid8>,
}

impl Ranges {
    /// The requests, as SQL.
    const REQUESTS: &'static str = "
        unnest($1::int4[], $2::int4[], $3::text[])
        WITH ORDINALITY AS q (first, last, user_id, request)";

    /// The rows of request `q`, at most `limit`, in order. A cursor may be
    /// forged, with a thousand ranges that each hold many rows, so one LIMIT
    /// stands over all of them: the ranges are taken in order, and those behind
    /// the last row that is wanted are not looked at.
    ///
    /// The end of a range is a comparison of `xact_id` alone, beside `user_id = …`: at a
    /// comparison of rows Postgres would read the index on to the user's last event.
    ///
    /// Events beyond the snapshot came with a dump from another cluster.
    fn rows(columns: &str, limit: &str) -> String {
        format!(
            "SELECT p.place, found.*
             FROM (SELECT place FROM generate_series(q.first, q.last) AS place ORDER BY place) p
             CROSS JOIN LATERAL (
                 SELECT {columns} FROM notify_gateway.event n
                 WHERE n.user_id = q.user_id
                   AND (n.xact_id, n.seq) > (($4::xid8[])[p.place], ($5::int8[])[p.place])
                   AND n.xact_id < ($6::xid8[])[p.place]
                   AND n.xact_id < (SELECT pg_snapshot_xmax(pg_current_snapshot()))
                 ORDER BY n.xact_id, n.seq LIMIT {limit}
             ) found
             ORDER BY p.place, found.xact_id, found.seq LIMIT {limit}"
        )
    }

    fn of(requests: &[PageRequest<'_>]) -> Result<Self, StoreError> {
        let mut ranges = Self::default();
        for request in requests {
            let place = |ranges: &Self| i32::try_from(ranges.before.len());
            ranges.first.push(place(&ranges).map_err(|_| StoreError::Number)? + 1);
            for unread in request.cursor.unread() {
                ranges.after_xact.push(Xid8(unread.after.xact));
                ranges.after_seq.push(unread.after.seq);
                ranges.before.push(Xid8(unread.before));
            }
            ranges.last.push(place(&ranges).map_err(|_| StoreError::Number)?);
            ranges.user.push(request.user.to_string());
        }
        Ok(ranges)
    }

    fn parameters(&self) -> super::Parameters<'_, 6> {
        [
            (&self.first, Type::INT4_ARRAY),
            (&self.last, Type::INT4_ARRAY),
            (&self.user, Type::TEXT_ARRAY),
            (&self.after_xact, Type::XID8_ARRAY),
            (&self.after_seq, Type::INT8_ARRAY),
            (&self.before, Type::XID8_ARRAY),
        ]
    }
}

/// Which events of the pages have another of their row before them that was written later:
/// by a transaction that has the lower number and waited for the lock on the row. One walk
/// along the row's index for each row, from the oldest transaction that was running when one
/// of its events was written; where none was that has a lower number, there is nothing to
/// look for.
const OVERTAKEN: &str = "
    SELECT walk.xact_id, walk.seq
    FROM (
        SELECT DISTINCT ON (row_id, watch) row_id, watch, oldest FROM page
        WHERE oldest < xact_id ORDER BY row_id, watch, oldest
    ) r
    CROSS JOIN LATERAL (
        SELECT e.xact_id, e.seq,
               max(e.seq) OVER (ORDER BY e.xact_id, e.seq
                                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM notify_gateway.event e
        WHERE e.row_id = r.row_id AND e.watch = r.watch AND e.xact_id >= r.oldest
          AND e.xact_id <= (SELECT xact_id FROM page ORDER BY xact_id DESC LIMIT 1)
    ) walk
    WHERE walk.before > walk.seq";

/// The last of those before event `n`, if they are its user's. A replay, which goes by the
/// numbers, has told it.
///
/// (`IS NOT DISTINCT FROM`, so that no other index will do: a user may have very many
/// events, a row has few. `seq + 0` for the same reason: PostgreSQL 18 overestimates what a
/// bound of `seq` behind a range of transactions costs in the index of rows, and would read all
/// events of these transactions instead.)
const NEWER: &str = "
    LEFT JOIN LATERAL (
        SELECT max(e.seq) AS seq FROM notify_gateway.event e
        WHERE (n.xact_id, n.seq) IN (SELECT xact_id, seq FROM overtaken)
          AND e.row_id = n.row_id AND e.watch = n.watch
          AND e.user_id IS NOT DISTINCT FROM n.user_id
          AND e.xact_id >= n.oldest AND e.xact_id < n.xact_id AND e.seq + 0 > n.seq
    ) last ON true
    LEFT JOIN LATERAL (
        SELECT e.event, CASE WHEN n.event NOT IN ('updated', 'deleted') THEN e.data ELSE '' END AS data
        FROM notify_gateway.event e
        WHERE last.seq IS NOT NULL
          AND e.row_id = n.row_id AND e.watch = n.watch
          AND e.user_id IS NOT DISTINCT FROM n.user_id
          AND e.xact_id >= n.oldest AND e.xact_id < n.xact_id AND e.seq + 0 = last.seq
        LIMIT 1
    ) newer ON true";

pub(super) async fn read(
    client: &Client,
    requests: &[PageRequest<'_>],
) -> Result<Vec<Option<PageRows>>, StoreError> {
    // What fits is chosen by sizes, which Postgres knows without reading a large
    // value.
    let sql = format!(
        "WITH page AS MATERIALIZED (
             SELECT q.request, n.* FROM {requests} CROSS JOIN LATERAL ({rows}) n
         ), overtaken AS MATERIALIZED ({OVERTAKEN})
         SELECT picked.request, picked.number, picked.found, picked.xact_id, picked.seq,
                picked.event, picked.newer, CASE WHEN picked.bytes_of_all < $9 THEN picked.data END
         FROM (
             SELECT page.*,
                    sum(page.bytes) OVER (ORDER BY page.request, page.number) - page.bytes
                        AS bytes_of_all
             FROM (
                 SELECT f.*, row_number() OVER request AS number,
                        sum(f.bytes) OVER request - f.bytes AS bytes_before,
                        count(*) OVER (PARTITION BY f.request) AS found
                 FROM (
                     SELECT n.request, n.place, n.xact_id, n.seq, n.event, newer.event AS newer,
                            coalesce(newer.data, n.data) AS data,
                            octet_length(coalesce(newer.data, n.data)) AS bytes
                     FROM page n {NEWER}
                 ) f
                 WINDOW request AS (PARTITION BY f.request ORDER BY f.place, f.xact_id, f.seq)
             ) page
             WHERE page.number <= $7 AND page.bytes_before < $8
         ) picked
         ORDER BY picked.request, picked.number",
        requests = Ranges::REQUESTS,
        rows = Ranges::rows(
            "n.xact_id, n.seq, n.oldest, n.watch, n.user_id, n.row_id, n.event, n.data",
            // One more than a page takes tells whether there are more.
            "$7 + 1",
        ),
    );
    let ranges = Ranges::of(requests)?;
    let mut parameters = ranges.parameters().to_vec();
    parameters.extend([
        (&PAGE_ROWS as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT8),
        (&PAGE_BYTES, Type::INT8),
        (&ANSWER_BYTES, Type::INT8),
    ]);
    collect(&query(client, &sql, &parameters).await?, requests.len())
}

fn collect(
    rows: &[tokio_postgres::Row],
    requests: usize,
) -> Result<Vec<Option<PageRows>>, StoreError> {
    let mut pages: Vec<Option<PageRows>> = Vec::new();
    pages.resize_with(requests, || Some(PageRows::default()));
    for row in rows {
        let request = usize::try_from(column::<i64>(row, 0)? - 1);
        let slot = request.ok().and_then(|i| pages.get_mut(i)).ok_or(StoreError::Number)?;
        let Some(page) = slot else { continue };
        let Some(data) = column::<Option<&str>>(row, 7)? else {
            // The answer is full. What has no row in it has to be asked for again.
            if page.rows.is_empty() {
                *slot = None;
            }
            continue;
        };
        // A cursor passes all that lies before a row it is given: one that was
        // left out would be lost.
        if usize::try_from(column::<i64>(row, 1)?) != Ok(page.rows.len() + 1) {
            return Err(StoreError::Hole);
        }
        let key = RowKey { xact: xact(row, 3)?, seq: column(row, 4)? };
        let told = feed::Row::new(key, EventName::stored(column(row, 5)?), data);
        page.rows.push(PageRow { row: told, newer: column(row, 6)? });
        page.more = usize::try_from(column::<i64>(row, 2)?) != Ok(page.rows.len());
    }
    Ok(pages)
}

pub(super) async fn exceed(
    client: &Client,
    requests: &[PageRequest<'_>],
    limit: u32,
) -> Result<Vec<bool>, StoreError> {
    let sql = format!(
        "SELECT (SELECT count(*) FROM ({rows}) f) >= $7 FROM {requests} ORDER BY q.request",
        requests = Ranges::REQUESTS,
        rows = Ranges::rows("n.xact_id, n.seq", "$7"),
    );
    let ranges = Ranges::of(requests)?;
    let mut parameters = ranges.parameters().to_vec();
    let most = i64::from(limit) + 1;
    parameters.push((&most, Type::INT8));
    query(client, &sql, &parameters).await?.iter().map(|row| column(row, 0)).collect()
}
