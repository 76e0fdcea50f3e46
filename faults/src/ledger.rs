//! What was written, what arrived, and when: the facts, without a judgement.
//!
//! Deliveries are kept per *lineage*: what one cursor has seen. A lineage
//! begins when a client without a cursor reads its first `connected`, or at a
//! `resync`, and goes on over all reconnects.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::{
    fault::Kind,
    states::{Difference, States, Table, View},
};

/// A place in [`Books::rows`].
pub(crate) type RowNo = usize;
/// A place in [`Books::transactions`].
pub(crate) type TransactionNo = usize;
/// A place in [`Books::lineages`].
pub(crate) type LineageNo = usize;
/// Time since the run's start.
pub(crate) type At = Duration;

/// The books everybody writes into.
pub(crate) struct Ledger {
    start: Instant,
    books: Mutex<Books>,
}

impl Ledger {
    /// Empty books for these many users.
    pub(crate) fn new(users: usize) -> Self {
        let by_user = vec![Vec::new(); users];
        let users = (0..users).map(|_| Uuid::new_v4()).collect();
        let books = Books { users, by_user, ..Books::default() };
        Self { start: Instant::now(), books: Mutex::new(books) }
    }

    /// Now, as the ledger counts time.
    pub(crate) fn now(&self) -> At {
        self.start.elapsed()
    }

    /// The books. Held for an entry, never over an await.
    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock()
    }
}

/// All that is known.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) users: Vec<Uuid>,
    pub(crate) rows: Vec<Row>,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) lineages: Vec<Lineage>,
    pub(crate) faults: Vec<Fault>,
    /// What must not happen and is no delivery: a gateway that died by itself.
    pub(crate) problems: Vec<String>,
    /// Deliveries of rows nobody wrote.
    pub(crate) unknown: Vec<(LineageNo, Moment)>,
    pub(crate) cursors: CursorLengths,
    /// Everything that is only counted, by name.
    pub(crate) counts: BTreeMap<String, u64>,
    /// The rows that change.
    pub(crate) states: States,
    /// When each of them was changed once more, at the end.
    pub(crate) touched: Option<At>,
    by_id: HashMap<Uuid, RowNo>,
    by_user: Vec<Vec<RowNo>>,
}

/// A row, from before its INSERT was sent.
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) user: usize,
    pub(crate) transaction: TransactionNo,
    /// Its place in the order of the transaction's inserts.
    pub(crate) index: u32,
    pub(crate) message_bytes: usize,
    /// Rolled back to a savepoint.
    pub(crate) is_undone: bool,
    /// The hash of `data` as first delivered, to whomever.
    data: Option<u64>,
}

/// A transaction of a writer.
#[derive(Clone)]
pub(crate) struct Transaction {
    pub(crate) writer: usize,
    pub(crate) kind: &'static str,
    /// When COMMIT was about to be sent (for a statement of its own, the
    /// statement): the transaction did not commit before that.
    pub(crate) commit_sent: Option<At>,
    pub(crate) outcome: Outcome,
}

/// What a writer knows of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not ended yet.
    Open,
    /// COMMIT was answered, then.
    Committed(At),
    /// The connection was lost over the answer: the table knows.
    Unknown(At),
    /// Rolled back, or never got as far as its COMMIT.
    RolledBack,
}

/// What one cursor has seen.
pub(crate) struct Lineage {
    pub(crate) client: usize,
    pub(crate) user: usize,
    /// When `connected` (or `resync`) had been read: what commits later is due.
    pub(crate) began: At,
    /// When `resync` ended it, and the reason.
    pub(crate) ended: Option<(At, String)>,
    pub(crate) seen: HashMap<RowNo, Seen>,
    pub(crate) moments: Vec<Moment>,
    /// (row, moment of the first delivery, of the second).
    pub(crate) doubled: Vec<(RowNo, usize, usize)>,
    /// (row, the later one of its transaction that came before it, moment).
    pub(crate) disordered: Vec<(RowNo, RowNo, usize)>,
    /// Rows of another user, or whose content is not as written.
    pub(crate) misrouted: Vec<(RowNo, usize)>,
    pub(crate) different: Vec<(RowNo, usize)>,
    last_of: HashMap<TransactionNo, RowNo>,
    /// What it shows of the rows that change.
    pub(crate) view: View,
    /// Rows that came on this connection since the last `id:`.
    uncovered: Vec<RowNo>,
}

/// The delivery of a row that counts.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// A place in [`Lineage::moments`].
    pub(crate) moment: usize,
    /// It came without `id:`, and the connection ended before the next one:
    /// the cursor does not know of it, so it may come once more.
    may_repeat: bool,
}

/// An event of a stream, or of its connection.
#[derive(Clone)]
pub(crate) struct Moment {
    pub(crate) at: At,
    pub(crate) what: What,
    /// The event's `id:`.
    pub(crate) cursor: Option<Arc<str>>,
}

/// What happened at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// `connected`, from this gateway, to a request with or without a cursor.
    Connected { gateway: usize, with_cursor: bool },
    /// `notification`.
    Notification(RowNo),
    /// `notification` of a row nobody wrote.
    Unknown(Uuid),
    /// Any other event, by name.
    Event(String),
    /// The connection ended, and why.
    Cut(&'static str),
}

/// A fault, from its beginning to its end.
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
    pub(crate) began: At,
    pub(crate) ended: Option<At>,
}

/// Bytes of the cursors received.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CursorLengths {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    pub(crate) max: usize,
}

/// A delivered row, as the client reads it.
pub(crate) struct Delivery<'a> {
    pub(crate) id: Uuid,
    pub(crate) title: &'a str,
    pub(crate) message_bytes: usize,
    /// A hash of `data`.
    pub(crate) data: u64,
    pub(crate) cursor: Option<Arc<str>>,
}

impl Books {
    /// Adds one to what is only counted.
    pub(crate) fn count(&mut self, name: impl Into<String>) {
        *self.counts.entry(name.into()).or_default() += 1;
    }

    /// A transaction is about to begin.
    pub(crate) fn begin(&mut self, writer: usize, kind: &'static str) -> TransactionNo {
        let (commit_sent, outcome) = (None, Outcome::Open);
        self.transactions.push(Transaction { writer, kind, commit_sent, outcome });
        self.transactions.len() - 1
    }

    /// A row is about to be inserted: its id is made here.
    pub(crate) fn insert(
        &mut self,
        transaction: TransactionNo,
        user: usize,
        index: u32,
        message_bytes: usize,
    ) -> RowNo {
        let id = Uuid::new_v4();
        let row = self.rows.len();
        self.by_id.insert(id, row);
        self.by_user[user].push(row);
        let (is_undone, data) = (false, None);
        self.rows.push(Row { id, user, transaction, index, message_bytes, is_undone, data });
        row
    }

    /// The title a row is written with, and must arrive with.
    pub(crate) fn title(&self, row: RowNo) -> String {
        let row = &self.rows[row];
        let writer = self.transactions[row.transaction].writer;
        format!("writer {writer} transaction {} row {}", row.transaction, row.index)
    }

    /// A client without a cursor has read `connected`, or any client `resync`.
    pub(crate) fn begin_lineage(&mut self, client: usize, user: usize, now: At) -> LineageNo {
        self.lineages.push(Lineage::new(client, user, now));
        self.lineages.len() - 1
    }

    /// `resync`: the lineage ends, and another begins, whose number this is.
    pub(crate) fn resync(&mut self, lineage: LineageNo, reason: &str, now: At) -> LineageNo {
        self.count(format!("resync: {reason}"));
        let old = &mut self.lineages[lineage];
        old.ended = Some((now, reason.to_owned()));
        let (client, user) = (old.client, old.user);
        self.begin_lineage(client, user, now)
    }

    /// An event other than a notification.
    pub(crate) fn moment(
        &mut self,
        lineage: LineageNo,
        what: What,
        cursor: Option<Arc<str>>,
        now: At,
    ) {
        self.measure(cursor.as_deref());
        self.lineages[lineage].push(Moment { at: now, what, cursor });
    }

    /// The connection ended. What it brought since its last `id:` may come
    /// again.
    pub(crate) fn cut(&mut self, lineage: LineageNo, why: &'static str, now: At) {
        self.count(format!("cut: {why}"));
        let lineage = &mut self.lineages[lineage];
        for row in mem::take(&mut lineage.uncovered) {
            if let Some(seen) = lineage.seen.get_mut(&row) {
                seen.may_repeat = true;
            }
        }
        lineage.push(Moment { at: now, what: What::Cut(why), cursor: None });
    }

    /// A notification arrived, whole.
    pub(crate) fn delivered(&mut self, lineage: LineageNo, delivery: Delivery<'_>, now: At) {
        self.measure(delivery.cursor.as_deref());
        self.count("delivered");
        if delivery.cursor.is_none() {
            self.count("without id");
        }
        let Some(&row) = self.by_id.get(&delivery.id) else {
            let what = What::Unknown(delivery.id);
            let moment = Moment { at: now, what, cursor: delivery.cursor };
            self.unknown.push((lineage, moment.clone()));
            self.lineages[lineage].push(moment);
            return;
        };
        let title = self.title(row);
        let written = &mut self.rows[row];
        let is_as_written = delivery.title == title
            && delivery.message_bytes == written.message_bytes
            && *written.data.get_or_insert(delivery.data) == delivery.data;
        let lineage = &mut self.lineages[lineage];
        let what = What::Notification(row);
        let moment = lineage.push(Moment { at: now, what, cursor: delivery.cursor });
        if !is_as_written {
            lineage.different.push((row, moment));
        }
        if self.rows[row].user != lineage.user {
            lineage.misrouted.push((row, moment));
        } else if lineage.see(row, moment, &self.rows) {
            self.count("repeated, as it had no id");
        }
    }

    /// A row that changes has come as it is now, or as gone.
    pub(crate) fn changed(
        &mut self,
        lineage: LineageNo,
        (id, title): (Uuid, Option<String>),
        moment: Moment,
    ) {
        self.measure(moment.cursor.as_deref());
        self.count("changes delivered");
        let lineage = &mut self.lineages[lineage];
        lineage.view.insert(id, (title, moment.at));
        lineage.push(moment);
    }

    /// Where clients that go on show something else than the table.
    pub(crate) fn differences<'a>(
        &'a self,
        table: &'a Table,
    ) -> impl Iterator<Item = (LineageNo, Difference)> + 'a {
        let lineages = self.lineages.iter().enumerate();
        // One that has begun since need not have heard of all rows.
        let is_due = |lineage: &Lineage| {
            lineage.ended.is_none() && self.touched.is_none_or(|touched| lineage.began < touched)
        };
        lineages.filter(move |(_, lineage)| is_due(lineage)).flat_map(|(number, lineage)| {
            let user = self.users[lineage.user];
            let differences = self.states.differences(&lineage.view, user, table);
            differences.map(move |difference| (number, difference))
        })
    }

    /// The rows a lineage is to get exactly once: its user's, committed after
    /// its beginning. `is_there` says which rows have been committed at all.
    pub(crate) fn due<'a>(
        &'a self,
        lineage: &'a Lineage,
        is_there: impl Fn(RowNo) -> bool + 'a,
    ) -> impl Iterator<Item = RowNo> + 'a {
        self.by_user[lineage.user].iter().copied().filter(move |&row| {
            let sent = self.transactions[self.rows[row].transaction].commit_sent;
            sent.is_some_and(|sent| sent > lineage.began) && is_there(row)
        })
    }

    /// The rows of a user.
    pub(crate) fn rows_of(&self, user: usize) -> &[RowNo] {
        &self.by_user[user]
    }

    /// How many deliveries are still to come in the lineages that go on.
    pub(crate) fn pending(&self, is_there: impl Fn(RowNo) -> bool) -> usize {
        let going_on = self.lineages.iter().filter(|lineage| lineage.ended.is_none());
        going_on
            .map(|lineage| {
                let due = self.due(lineage, &is_there);
                due.filter(|row| !lineage.seen.contains_key(row)).count()
            })
            .sum()
    }

    /// Whether a row has been committed, as far as its writer knows.
    pub(crate) fn is_committed(&self, row: RowNo) -> bool {
        let row = &self.rows[row];
        let outcome = self.transactions[row.transaction].outcome;
        !row.is_undone && matches!(outcome, Outcome::Committed(_))
    }

    fn measure(&mut self, cursor: Option<&str>) {
        if let Some(cursor) = cursor {
            let lengths = &mut self.cursors;
            lengths.count += 1;
            lengths.sum += cursor.len() as u64;
            lengths.max = lengths.max.max(cursor.len());
        }
    }
}

impl Row {
    /// Whether anybody has got it.
    pub(crate) fn is_delivered(&self) -> bool {
        self.data.is_some()
    }
}

impl Lineage {
    fn new(client: usize, user: usize, began: At) -> Self {
        Self {
            client,
            user,
            began,
            ended: None,
            seen: HashMap::new(),
            moments: Vec::new(),
            doubled: Vec::new(),
            disordered: Vec::new(),
            misrouted: Vec::new(),
            different: Vec::new(),
            last_of: HashMap::new(),
            view: View::new(),
            uncovered: Vec::new(),
        }
    }

    fn push(&mut self, moment: Moment) -> usize {
        if moment.cursor.is_some() {
            // An `id:` claims all that came before it on its connection.
            self.uncovered.clear();
        }
        self.moments.push(moment);
        self.moments.len() - 1
    }

    /// Notes a row of this user; says whether it came again as it may.
    fn see(&mut self, row: RowNo, moment: usize, rows: &[Row]) -> bool {
        let is_covered = self.moments[moment].cursor.is_some();
        if !is_covered {
            self.uncovered.push(row);
        }
        if let Some(seen) = self.seen.get_mut(&row) {
            if mem::take(&mut seen.may_repeat) {
                return true;
            }
            self.doubled.push((row, seen.moment, moment));
            return false;
        }
        self.seen.insert(row, Seen { moment, may_repeat: false });
        let last = self.last_of.entry(rows[row].transaction).or_insert(row);
        if rows[*last].index > rows[row].index {
            self.disordered.push((row, *last, moment));
        } else {
            *last = row;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Books with one user, one lineage, and three rows of one transaction.
    fn books() -> Books {
        let mut books = Ledger::new(1).books.into_inner();
        let transaction = books.begin(0, "test");
        for index in 0..3 {
            books.insert(transaction, 0, index, 10);
        }
        books.begin_lineage(0, 0, At::ZERO);
        books
    }

    fn deliver(books: &mut Books, row: RowNo, cursor: Option<&str>) {
        let (id, title) = (books.rows[row].id, books.title(row));
        let cursor = cursor.map(Arc::from);
        let delivery = Delivery { id, title: &title, message_bytes: 10, data: 7, cursor };
        books.delivered(0, delivery, At::ZERO);
    }

    #[test]
    fn a_row_that_comes_twice_is_doubled_and_one_that_overtakes_is_out_of_order() {
        let mut books = books();
        deliver(&mut books, 1, Some("a"));
        deliver(&mut books, 0, Some("b"));
        deliver(&mut books, 1, Some("c"));
        assert_eq!(books.lineages[0].doubled, [(1, 0, 2)]);
        assert_eq!(books.lineages[0].disordered, [(0, 1, 1)]);
    }

    #[test]
    fn a_row_without_id_may_come_again_after_a_cut_and_only_once() {
        let mut books = books();
        deliver(&mut books, 0, None);
        books.cut(0, "test", At::ZERO);
        deliver(&mut books, 0, Some("a"));
        assert!(books.lineages[0].doubled.is_empty());
        deliver(&mut books, 0, Some("b"));
        assert_eq!(books.lineages[0].doubled.len(), 1);
    }

    #[test]
    fn a_later_id_covers_a_row_that_had_none() {
        let mut books = books();
        deliver(&mut books, 0, None);
        deliver(&mut books, 1, Some("a"));
        books.cut(0, "test", At::ZERO);
        deliver(&mut books, 0, Some("b"));
        assert_eq!(books.lineages[0].doubled.len(), 1);
    }

    #[test]
    fn other_bytes_for_the_same_row_are_noticed() {
        let mut books = books();
        deliver(&mut books, 0, Some("a"));
        let (id, title) = (books.rows[0].id, books.title(0));
        books.begin_lineage(1, 0, At::ZERO);
        let delivery = Delivery { id, title: &title, message_bytes: 10, data: 8, cursor: None };
        books.delivered(1, delivery, At::ZERO);
        assert_eq!(books.lineages[1].different, [(0, 0)]);
    }
}
