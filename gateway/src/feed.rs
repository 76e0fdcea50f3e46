//! What one stream has been given, and what comes next: the whole of the
//! delivery's logic for one client. Pure; `stream.rs` does what it says.
//!
//! A feed is *behind* (its cursor and the table tell what is missing), then
//! *reading* (a page is on its way), then, after the last page, *live*. It is
//! the same road for a client that has just connected, for one whose queue has
//! overflowed, and for all of them after the gateway was blind. A row goes out
//! if the cursor does not cover it, unless a later state of it has gone out
//! before; the cursor moves when a row is taken, or when nothing that it would
//! pass over is left to give.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use smallvec::SmallVec;

use crate::{
    cursor::{Cursor, RowKey, Snapshot},
    horizon::Horizon,
    notification::{Change, EventName},
    sse,
};

/// A row on its way to the streams of its user, encoded once for all of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in history.
    pub key: RowKey,
    /// What it says of its row.
    pub change: Change,
    /// The event without its id and its end.
    pub event: Vec<u8>,
    /// When it was made, where a notification said so.
    pub made_at: Option<SystemTime>,
}

impl Row {
    /// A row of which the log says this.
    pub fn new(key: RowKey, name: EventName<'_>, data: &str) -> Self {
        let event = sse::notification(name, data);
        Self { key, change: name.change(), event, made_at: None }
    }
}

/// Without the text, which belongs to its user and to no log.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("key", &self.key)
            .field("change", &self.change)
            .field("event_bytes", &self.event.len())
            .finish()
    }
}

/// Rows that wait in a queue. Mostly it is one or two: those take no memory of their own.
pub type LiveRows = SmallVec<[Arc<LiveRow>; 2]>;

/// A row that goes to streams as it comes: a notification brought it, or a sweep.
#[derive(Debug)]
pub struct LiveRow {
    /// The row.
    pub row: Row,
    /// The horizon when it was published: what its watermark sees was offered
    /// before.
    pub horizon: Arc<Horizon>,
    shared_id: OnceLock<SharedId>,
}

impl LiveRow {
    /// A row that was published under `horizon`.
    pub fn new(row: Row, horizon: Arc<Horizon>) -> Self {
        Self { row, horizon, shared_id: OnceLock::new() }
    }
}

/// The id that a row got in the first of several streams. The others mostly
/// have the same cursor, and then need not encode it again.
#[derive(Debug)]
struct SharedId {
    cursor: Cursor,
    /// None if it is too long.
    text: Option<Box<[u8]>>,
}

impl SharedId {
    fn new(cursor: &Cursor) -> Self {
        let mut text = Vec::new();
        let text = cursor.encode(&mut text).then(|| text.into());
        Self { cursor: cursor.clone(), text }
    }
}

/// The id of a row's event: the cursor of a client that has it.
#[derive(Clone, Copy, Debug)]
pub struct EventId<'a> {
    cursor: &'a Cursor,
    shared: Option<&'a OnceLock<SharedId>>,
}

impl<'a> EventId<'a> {
    /// What it says.
    pub fn cursor(&self) -> &'a Cursor {
        self.cursor
    }

    /// As [`Cursor::encode`].
    #[must_use = "without an id the event must go out differently"]
    pub fn encode(&self, out: &mut Vec<u8>) -> bool {
        let shared = self.shared.map(|shared| shared.get_or_init(|| SharedId::new(self.cursor)));
        match shared {
            Some(SharedId { cursor, text }) if cursor == self.cursor => {
                out.extend_from_slice(text.as_deref().unwrap_or_default());
                text.is_some()
            }
            _ => self.cursor.encode(out),
        }
    }
}

/// A part of a replay: this user's rows that a cursor does not cover, in the
/// order of the table's `(xact_id, seq)`.
#[derive(Clone, Debug)]
pub struct Page {
    /// The horizon before the page was read, into whose epoch the cursor was
    /// brought to read it.
    pub horizon: Arc<Horizon>,
    /// The rows. `None` stands for one of which nothing is told: the client has it then
    /// all the same.
    pub rows: Vec<(RowKey, Option<Row>)>,
    /// The snapshot that it was read with.
    pub seen: Arc<Snapshot>,
    /// Whether these are all there are.
    pub complete: bool,
}

/// Rows a cursor may hold singly. A watermark makes it forget them; while none
/// comes, because the database does not answer, the stream waits for the table
/// as well. (A cursor stops fitting into an id at about 700 of them.)
const MAX_RECENTS: usize = 1024;

/// A cursor that has so many rows singly or in part is long: a newer watermark is to make
/// it short, before ids do not fit and before each page reads between all of them.
const LONG: usize = 128;

/// Of a cursor with so many recents the id is not shared: a row that waits in a
/// stalled stream's queue keeps it.
const MAX_SHARED_RECENTS: usize = 256;

/// One stream's place in history.
#[derive(Clone, Debug)]
pub struct Feed {
    cursor: Cursor,
    phase: Phase,
    /// What the last page of a replay saw. What comes of it afterwards, from the queue, was in
    /// a page or is gone from the log: a row was deleted, and the page said so.
    replayed: Option<Arc<Snapshot>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Behind,
    Reading,
    Live,
}

impl Feed {
    /// A stream that continues at `cursor`: behind until the table says that it
    /// is not.
    pub fn new(cursor: Cursor) -> Self {
        Self { cursor, phase: Phase::Behind, replayed: None }
    }

    /// What has been given.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Whether a page has to be read before anything else.
    pub fn is_behind(&self) -> bool {
        self.phase == Phase::Behind
    }

    /// Whether rows may be taken from the queue.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether a newer watermark should come before its time.
    pub fn wants_watermark(&self) -> bool {
        self.cursor.parts().len() + self.cursor.recents().len() >= LONG
    }

    /// The queue has lost rows, or a page could not be read: back to the table.
    pub fn fall_behind(&mut self) {
        self.phase = Phase::Behind;
    }

    /// Begins to read: the cursor to read from. The stream's queue must have
    /// been started anew before, so that what it drops is in the page.
    pub fn read(&mut self) -> &Cursor {
        self.phase = Phase::Reading;
        &self.cursor
    }

    /// Gives up what the client has missed and goes on from `horizon`.
    pub fn resync(&mut self, horizon: &Horizon) {
        self.cursor = horizon.cursor();
        self.phase = Phase::Behind;
    }

    /// Takes a page; `emit` gets each row that is to go out and the id that goes
    /// with it.
    pub fn take_page(&mut self, page: &Page, mut emit: impl FnMut(&Row, EventId<'_>)) {
        if page.horizon.adopt(&mut self.cursor).is_err() {
            // It was adopted to read the page, so this is another page's.
            self.phase = Phase::Behind;
            return;
        }
        // By the watermark and not by the page's own snapshot, which is newer: a
        // crash could take that one's transaction numbers back.
        let watermark = &page.horizon.watermark;
        for (key, row) in &page.rows {
            let is_new = self.cursor.replay(watermark, *key);
            if let Some(row) = row.as_ref().filter(|_| is_new) {
                emit(row, EventId { cursor: &self.cursor, shared: None });
            }
        }
        if page.complete {
            self.replayed = Some(Arc::clone(&page.seen));
            self.rebase(&page.horizon);
            self.phase = Phase::Live;
        } else {
            self.phase = Phase::Behind;
        }
    }

    /// Takes a row from the queue, likewise. Only while live, which it may cease
    /// to be.
    pub fn take_live(&mut self, live: &Arc<LiveRow>, emit: impl FnOnce(&Row, EventId<'_>)) {
        self.rebase(&live.horizon);
        let is_late = self.replayed.as_ref().is_some_and(|seen| seen.sees(live.row.key.xact));
        if self.cursor.record(live.row.key) && !is_late {
            // The last to take it, mostly the only one, has nobody to share with.
            let is_shared =
                Arc::strong_count(live) > 1 && self.cursor.recents().len() <= MAX_SHARED_RECENTS;
            let shared = is_shared.then_some(&live.shared_id);
            emit(&live.row, EventId { cursor: &self.cursor, shared });
        }
        if self.cursor.recents().len() >= MAX_RECENTS {
            self.phase = Phase::Behind;
        }
    }

    /// Nothing is waiting, and nothing was when `horizon` was looked at: the
    /// cursor may move up to it, so that an idle client's does not age.
    pub fn rest(&mut self, horizon: &Horizon) {
        if self.phase == Phase::Live {
            self.rebase(horizon);
        }
    }

    fn rebase(&mut self, horizon: &Horizon) {
        // Of another epoch: the queue is about to say that it is lost.
        if horizon.is_of_epoch(&self.cursor) && self.cursor.rebase(&horizon.watermark) {
            // The cursor covers it, mostly.
            self.replayed.take_if(|seen| horizon.watermark.contains(seen));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;
    use crate::{
        cursor::Snapshot,
        horizon::{Epoch, Epochs},
    };

    fn horizon(watermark: Snapshot) -> Arc<Horizon> {
        Arc::new(Horizon {
            watermark: Arc::new(watermark),
            epochs: Epochs::new(vec![Epoch { number: 1, first: None, is_restart: false }]),
        })
    }

    fn row(key: RowKey) -> Row {
        Row { key, change: Change::New, event: Vec::new(), made_at: None }
    }

    /// Transactions 3, 4, …: the rows of each, and whether it has committed.
    struct Table(Vec<(Vec<RowKey>, bool)>);

    impl Table {
        /// As Postgres takes it: `xmax` follows the newest transaction that has
        /// ended.
        fn snapshot(&self) -> Snapshot {
            let newest = self.0.iter().rposition(|(_, has_ended)| *has_ended);
            let xmax = newest.map_or(3, |place| place + 4);
            let open = (3..xmax).filter(|xact| !self.0[xact - 3].1);
            let open: Vec<String> = open.map(|xact| xact.to_string()).collect();
            format!("3:{xmax}:{}", open.join(",")).parse().unwrap()
        }

        fn committed(&self) -> impl Iterator<Item = RowKey> {
            self.0.iter().filter(|(_, committed)| *committed).flat_map(|(rows, _)| rows.clone())
        }

        /// Whether another one commits, one of those that are open.
        fn commit(&mut self, at: Index) {
            let open: Vec<usize> = (0..self.0.len()).filter(|place| !self.0[*place].1).collect();
            if !open.is_empty() {
                self.0[*at.get(&open)].1 = true;
            }
        }

        fn page(&self, feed: &mut Feed, watermark: &Arc<Horizon>, limit: usize) -> Page {
            let ranges = feed.read().unread();
            let is_unread =
                |row: &RowKey| ranges.iter().any(|r| r.after < *row && row.xact < r.before);
            let mut rows: Vec<RowKey> = self.committed().filter(is_unread).collect();
            let complete = rows.len() <= limit;
            rows.truncate(limit);
            let rows = rows.into_iter().map(|key| (key, Some(row(key)))).collect();
            let seen = Arc::new(self.snapshot());
            Page { horizon: Arc::clone(watermark), rows, seen, complete }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_replay_that_is_cut_after_every_row_gives_each_row_once(
            sizes in vec(0..5_i64, 1..10),
            commits in vec(any::<Index>(), 10),
            moves in vec(any::<bool>(), 40),
            limits in vec(1..4_usize, 40),
        ) {
            let transactions = sizes.iter().zip(3..).map(|(size, xact)| {
                ((1..=*size).map(|seq| RowKey { xact, seq }).collect(), false)
            });
            let mut table = Table(transactions.collect());
            let mut commits = commits.into_iter();
            let mut watermark = horizon(table.snapshot());
            let mut feed = Feed::new(watermark.cursor());
            let mut got: BTreeMap<RowKey, u32> = BTreeMap::new();
            let mut rounds = moves.into_iter().zip(limits).chain(std::iter::repeat((true, 2)));
            loop {
                let (is_moved, limit) = rounds.next().unwrap();
                let commit = commits.next();
                let is_over = commit.is_none();
                if let Some(at) = commit {
                    table.commit(at);
                }
                // Sometimes the watermark lags behind what the page reads.
                if is_moved {
                    watermark = horizon(table.snapshot());
                }
                let page = table.page(&mut feed, &watermark, limit);
                // What the client has read, and with which id, when it is cut off.
                let mut last = None;
                feed.take_page(&page, |row, id| {
                    if last.is_none() {
                        *got.entry(row.key).or_default() += 1;
                        last = Some(id.cursor().clone());
                    }
                });
                if last.is_none() && feed.is_live() && is_over {
                    break;
                }
                feed = Feed::new(last.unwrap_or_else(|| feed.cursor().clone()));
            }
            let once: BTreeMap<RowKey, u32> = table.committed().map(|row| (row, 1)).collect();
            prop_assert_eq!(got, once);
        }

        #[test]
        fn rows_that_come_live_and_in_a_page_go_out_once(
            size in 1..20_i64, live in vec(any::<Index>(), 0..30), paged_first in any::<bool>(),
        ) {
            let rows: Vec<RowKey> = (1..=size).map(|seq| RowKey { xact: 3, seq }).collect();
            let table = Table(vec![(rows.clone(), true)]);
            let before = horizon("3:3:".parse().unwrap());
            let mut feed = Feed::new(before.cursor());
            let mut got: BTreeMap<RowKey, u32> = BTreeMap::new();
            if paged_first {
                let page = table.page(&mut feed, &before, 1000);
                feed.take_page(&page, |row, _| *got.entry(row.key).or_default() += 1);
            }
            for at in live {
                let published = Arc::new(LiveRow::new(row(*at.get(&rows)), Arc::clone(&before)));
                feed.take_live(&published, |row, _| *got.entry(row.key).or_default() += 1);
            }
            feed.fall_behind();
            let page = table.page(&mut feed, &before, 1000);
            feed.take_page(&page, |row, _| *got.entry(row.key).or_default() += 1);
            prop_assert!(feed.is_live());
            prop_assert_eq!(got, rows.into_iter().map(|row| (row, 1)).collect());
        }
    }

    #[test]
    fn what_was_erased_while_it_waited_is_not_told_behind_its_deletion() {
        let before = horizon("3:3:".parse().unwrap());
        let mut feed = Feed::new(before.cursor());
        feed.read();
        // Transaction 3 has written a row, 4 has deleted it; only that is in the log still.
        let deletion = RowKey { xact: 4, seq: 2 };
        let rows = vec![(deletion, Some(row(deletion)))];
        let seen = Arc::new("5:5:".parse().unwrap());
        let page = Page { horizon: Arc::clone(&before), rows, seen, complete: true };
        let mut told = Vec::new();
        feed.take_page(&page, |row, _| told.push(row.key));
        for key in [RowKey { xact: 3, seq: 1 }, deletion, RowKey { xact: 5, seq: 3 }] {
            let live = Arc::new(LiveRow::new(row(key), Arc::clone(&before)));
            feed.take_live(&live, |row, _| told.push(row.key));
            assert!(feed.cursor().covers(key));
        }
        assert_eq!(told, [deletion, RowKey { xact: 5, seq: 3 }]);
        // It is of no use behind a watermark that sees the same, and kept no longer.
        feed.rest(&horizon("6:6:".parse().unwrap()));
        assert!(feed.replayed.is_none());
    }

    #[test]
    fn a_page_of_another_epoch_is_read_again() {
        let seen = Arc::new(Snapshot::empty());
        let horizon = horizon(Snapshot::empty());
        let page = Page { horizon, rows: Vec::new(), seen, complete: true };
        let mut feed = Feed::new(Cursor::new(2, Arc::new(Snapshot::empty())));
        feed.read();
        feed.take_page(&page, |_, _| unreachable!("it has no row"));
        assert!(feed.is_behind());
    }

    #[test]
    fn a_stream_that_holds_too_many_rows_singly_goes_back_to_the_table() {
        let horizon = horizon("3:3:".parse().unwrap());
        let mut feed = Feed::new(horizon.cursor());
        feed.read();
        let seen = Arc::clone(&horizon.watermark);
        let page = Page { horizon: Arc::clone(&horizon), rows: Vec::new(), seen, complete: true };
        feed.take_page(&page, |_, _| {});
        for seq in (1..).take(MAX_RECENTS) {
            assert!(feed.is_live());
            let key = RowKey { xact: 3, seq };
            let live = Arc::new(LiveRow::new(row(key), Arc::clone(&horizon)));
            feed.take_live(&live, |_, _| {});
        }
        assert!(feed.is_behind());
    }
}
