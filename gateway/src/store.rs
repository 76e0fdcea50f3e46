//! What the gateway asks of the database, LISTEN apart. `postgres/store.rs` asks
//! Postgres; the simulation asks its own.

mod error;

pub use error::{STATEMENT_TIMEOUT, StoreError};

use std::time::Duration;

use crate::{
    cursor::{Cursor, RowKey, Snapshot},
    feed::Row,
    horizon::Epochs,
    notification::{Change, EventName, UserId},
    quiet::Left,
};

/// The tables.
pub trait Store: Clone + Send + Sync + 'static {
    /// A unit of work on them.
    type Transaction: Transaction;

    /// Begins a transaction in READ COMMITTED: each statement sees what is
    /// committed when it begins.
    ///
    /// # Errors
    ///
    /// There is no connection to be had, or [`StoreError::Standby`] when the
    /// database is no primary.
    fn begin(&self) -> impl Future<Output = Result<Self::Transaction, StoreError>> + Send;

    /// Begins a transaction that only reads, in REPEATABLE READ: all its statements see
    /// what is committed when the first of them begins.
    ///
    /// # Errors
    ///
    /// As [`Store::begin`].
    fn snapshot(&self) -> impl Future<Output = Result<Self::Transaction, StoreError>> + Send;
}

/// A transaction. Dropped before its [`Transaction::commit`], or after a
/// statement that failed, it has not happened.
///
/// Each method fails with the database's refusal, or when there is no answer in
/// time.
pub trait Transaction: Send {
    /// Where the database stands.
    fn standing(&mut self) -> impl Future<Output = Result<Standing, StoreError>> + Send;

    /// What there is beyond `snapshot`.
    fn unseen(
        &mut self,
        snapshot: &Snapshot,
    ) -> impl Future<Output = Result<Unseen, StoreError>> + Send;

    /// These rows, in the same order. `None` for one that has gone meanwhile, or that
    /// did not fit into the answer.
    fn rows(
        &mut self,
        keys: &[(RowKey, UserId)],
    ) -> impl Future<Output = Result<Vec<Option<Row>>, StoreError>> + Send;

    /// Does what `write` says, and returns the transaction's number if it has one.
    fn write(
        &mut self,
        write: SweepWrite<'_>,
    ) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// The epochs of the database; the present one is begun if no gateway has done
    /// so yet.
    fn epochs(&mut self) -> impl Future<Output = Result<Epochs, StoreError>> + Send;

    /// The next page of each request.
    fn pages(
        &mut self,
        requests: &[PageRequest<'_>],
    ) -> impl Future<Output = Result<Pages, StoreError>> + Send;

    /// Which of the requests have more than `limit` rows to replay.
    fn exceed(
        &mut self,
        requests: &[PageRequest<'_>],
        limit: u32,
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Commits. After an error nobody knows whether it has.
    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What a sweep has found.
#[derive(Clone, Debug)]
pub struct Unseen {
    /// The keys of all rows that were not seen before, in the order of their `seq`; `None` when
    /// they are more than can be listed.
    pub rows: Option<Vec<(RowKey, UserId)>>,
    /// What the statement that has found them sees.
    pub seen: Snapshot,
}

/// What a sweep has the database do.
#[derive(Clone, Copy, Debug, Default)]
pub struct SweepWrite<'a> {
    /// The nonce of the probe that is sent when the transaction commits.
    pub probe: Option<&'a str>,
    /// Whether to write, so that once the transaction has committed no crash takes back
    /// a transaction number that was given out before this statement began.
    pub flush: bool,
    /// With `flush`: for how long the triggers are to be quiet from now on.
    pub quiet: Option<Duration>,
    /// With `flush`: whether all gateways are to look at once.
    pub ring: bool,
}

/// Where the database stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its current snapshot.
    pub snapshot: Snapshot,
    /// The epoch that its transaction numbers belong to, whether it has begun for the
    /// gateways or not.
    pub epoch: u32,
    /// How full the notification queue is, 0 to 1; at 1 commits fail.
    pub queue_usage: f64,
    /// How long the triggers are quiet.
    pub quiet: Left,
    /// The time there, and when this connection was made, in seconds since 1970. A
    /// crash of the server ends all connections: since a time that this one is older
    /// than there was none.
    pub now: f64,
    /// See `now`.
    pub connected: f64,
}

/// A stream's request for a page.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<'a> {
    /// Whose rows.
    pub user: &'a UserId,
    /// What it has.
    pub cursor: &'a Cursor,
}

/// The pages of several requests.
#[derive(Debug, Default)]
pub struct Pages {
    /// In the order of the requests. `None` for one whose rows did not fit into the
    /// answer any more: it is to be asked for again.
    pub pages: Vec<Option<PageRows>>,
    /// Events of transactions below this one may be missing: they were too old.
    pub pruned_below: Option<u64>,
}

/// A page as the log gave it.
#[derive(Debug, Default)]
pub struct PageRows {
    /// The rows, in order.
    pub rows: Vec<PageRow>,
    /// Whether there are more.
    pub more: bool,
}

/// A row of a page.
#[derive(Debug)]
pub struct PageRow {
    /// The row; with the data of `newer`, if there is one and it is to be told.
    pub row: Row,
    /// What the last event of the same row is called that stands before this one although
    /// it was written later: a transaction that has waited for another's lock may have the
    /// lower number.
    pub newer: Option<String>,
}

impl PageRow {
    /// Whether it is to be told. Where the client has heard a later state of the row already,
    /// only that it is new, as it is by then, unless it is gone.
    pub fn is_told(&self) -> bool {
        let is_new = self.row.change == Change::New;
        self.newer.as_deref().is_none_or(|newer| is_new && newer != EventName::DELETED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_was_overtaken_only_a_row_that_is_new_and_still_there_is_told() {
        let is_told = |event: &str, newer: Option<&str>| {
            let key = RowKey { xact: 3, seq: 1 };
            let row = Row::new(key, EventName::stored(event), "{}");
            PageRow { row, newer: newer.map(ToOwned::to_owned) }.is_told()
        };
        for event in ["notification", "post", "updated", "deleted"] {
            assert!(is_told(event, None), "{event}");
        }
        for newer in ["updated", "post"] {
            assert!(is_told("post", Some(newer)) && !is_told("updated", Some(newer)), "{newer}");
        }
        assert!(!is_told("post", Some("deleted")) && !is_told("deleted", Some("updated")));
    }
}
