//! The resume cursor: which of a user's rows a client has, in a few dozen characters.
//!
//! A cursor is a set of rows, and every operation here is exact set algebra on it (the tests at
//! the foot hold each one against a brute-force set):
//!
//! | call | the set afterwards |
//! |---|---|
//! | [`Cursor::record`] | before ∪ {row} |
//! | [`Cursor::replay`] | before ∪ {rows `read` sees of older transactions} ∪ {rows of this one up to here} |
//! | [`Cursor::rebase`] | before ∪ {rows the watermark sees}, or before |
//! | [`Cursor::clamp`] | before ∖ {rows of `first` and later transactions} |
//!
//! Claiming too little shows a row twice; claiming too much loses one. So wherever something has
//! to give (a list too long, another history), the set shrinks.

mod encoding;
mod listed;
mod snapshot;
#[cfg(test)]
mod strategies;

use std::sync::Arc;

pub use encoding::CursorError;
pub use snapshot::{Snapshot, SnapshotError};

/// The longest encoded cursor, in characters. It comes back in a request head, and proxies
/// commonly stop at 4 to 8 KiB for the whole of it.
pub const MAX_LEN: usize = 2048;

/// Where a row stands: the transaction that wrote it, and its place in that transaction.
///
/// Ordered as a replay reads: `ORDER BY xact_id, seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The writing transaction's `xid8`.
    pub xact: u64,
    /// Its place in that transaction; grows in insertion order.
    pub seq: i64,
}

/// The rows of one user that one client has.
///
/// Cheap to keep and to clone for an idle stream: the snapshot is shared, and the lists of one
/// that is up to date are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    epoch: u32,
    snapshot: Arc<Snapshot>,
    /// Each stands for all rows of its transaction up to itself. Ascending, at most one for a
    /// transaction, none the snapshot sees.
    parts: Vec<RowKey>,
    /// Rows had singly. Ascending, none that the snapshot or a part covers.
    recents: Vec<RowKey>,
}

impl Cursor {
    /// Everything `snapshot` sees: a first connection, or the end of a replay.
    ///
    /// At the end of a replay this replaces the cursor rather than adding to it, on purpose: what
    /// a cursor of another history claims beyond `snapshot` is not committed here yet, and must
    /// be sent when it is.
    pub fn new(epoch: u32, snapshot: Arc<Snapshot>) -> Self {
        Self { epoch, snapshot, parts: Vec::new(), recents: Vec::new() }
    }

    /// Whether the client has `row`. Exactly the rows it has not are to be sent.
    pub fn covers(&self, row: RowKey) -> bool {
        self.snapshot.sees(row.xact)
            || self.part_covers(row)
            || self.recents.binary_search(&row).is_ok()
    }

    /// Adds one row and says whether it is new, that is, to be sent.
    ///
    /// For rows in whatever order notifications bring them. They add up until the next
    /// [`rebase`](Self::rebase): the caller bounds them by sweeping.
    #[must_use = "a row that is not new must not be sent"]
    pub fn record(&mut self, row: RowKey) -> bool {
        if self.snapshot.sees(row.xact) || self.part_covers(row) {
            return false;
        }
        // Nearly always the newest, so look at the end first.
        if self.recents.last().is_none_or(|last| *last < row) {
            self.recents.push(row);
            return true;
        }
        match self.recents.binary_search(&row) {
            Ok(_) => false,
            Err(place) => {
                self.recents.insert(place, row);
                true
            }
        }
    }

    /// Passes one row of a statement that returns this user's rows `ORDER BY xact_id, seq`, and
    /// says whether it is new, that is, to be sent.
    ///
    /// `read` is the statement's own snapshot, or an older one: for a sweep, the durable one
    /// taken before it. All that `read` sees of older transactions must have come before `row`
    /// or be covered already. The cursor then stays short however many rows there are, and holds
    /// when the replay is cut after any of them.
    ///
    /// `read` need not contain the cursor's snapshot (another replica's, another history's): the
    /// result is the union of the two, so it never claims a row that neither was had before nor
    /// came out of this read.
    #[must_use = "a row that is not new must not be sent"]
    pub fn replay(&mut self, read: &Snapshot, row: RowKey) -> bool {
        let new = !self.covers(row);
        let RowKey { xact, seq } = row;
        let snapshot = self.snapshot.advance(read, xact);
        if snapshot != *self.snapshot {
            self.snapshot = Arc::new(snapshot);
            self.forget_seen();
        }
        if !self.snapshot.sees(xact) {
            match self.parts.binary_search_by_key(&xact, |part| part.xact) {
                Ok(place) => self.parts[place].seq = self.parts[place].seq.max(seq),
                Err(place) => self.parts.insert(place, row),
            }
            self.recents.retain(|recent| recent.xact != xact || recent.seq > seq);
        }
        new
    }

    /// Moves to a watermark, after everything it sees has been sent, and says whether it did.
    ///
    /// A cursor that is already ahead of the watermark (a replay has just ended) stays where it
    /// is.
    pub fn rebase(&mut self, watermark: &Arc<Snapshot>) -> bool {
        // The same as with the last event, nearly always.
        if Arc::ptr_eq(watermark, &self.snapshot) {
            return true;
        }
        if !watermark.contains(&self.snapshot) {
            return false;
        }
        self.snapshot = Arc::clone(watermark);
        self.forget_seen();
        true
    }

    /// Takes the cursor over into a later epoch, in which transaction numbers from `first` on
    /// have been given out anew: it no longer claims any of them.
    pub fn clamp(&mut self, epoch: u32, first: u64) {
        self.epoch = epoch;
        self.snapshot = Arc::new(self.snapshot.clamp(first));
        self.parts.retain(|part| part.xact < first);
        self.recents.retain(|recent| recent.xact < first);
    }

    /// Takes the cursor over into a later epoch, in which all that it claims still holds.
    pub fn enter(&mut self, epoch: u32) {
        self.epoch = epoch;
    }

    /// The rows that snapshot and parts leave, as ascending, disjoint ranges of the index on
    /// `(xact_id, seq)`.
    ///
    /// A page of a replay must leave out what the parts cover in SQL. Filtered afterwards, a page
    /// that lies within one half-sent transaction has nothing new in it, moves the cursor
    /// nowhere, and is read again for ever. (The recents may be filtered afterwards:
    /// [`replay`](Self::replay) moves past them.)
    pub fn unread(&self) -> Vec<Unread> {
        let holes = self.snapshot.xip().iter().map(|&hole| (hole, hole + 1));
        let mut ranges: Vec<Unread> = Vec::new();
        let mut push = |after: RowKey, before: u64| {
            let starts_whole = after.seq == i64::MAX;
            if starts_whole && after.xact + 1 >= before {
                return;
            }
            match ranges.last_mut() {
                Some(last) if starts_whole && last.before == after.xact + 1 => last.before = before,
                _ => ranges.push(Unread { after, before }),
            }
        };
        for (from, before) in holes.chain([(self.snapshot.xmax(), u64::MAX)]) {
            let mut after = RowKey { xact: from - 1, seq: i64::MAX };
            let inside = |part: &&RowKey| from <= part.xact && part.xact < before;
            for part in self.parts.iter().filter(inside) {
                push(after, part.xact);
                after = *part;
            }
            push(after, before);
        }
        ranges
    }

    /// The epoch whose transaction numbers it speaks of.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What it covers but for parts and recents.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Ascending; each stands for the rows of its transaction up to and including itself.
    pub fn parts(&self) -> &[RowKey] {
        &self.parts
    }

    /// Ascending.
    pub fn recents(&self) -> &[RowKey] {
        &self.recents
    }

    fn part_covers(&self, row: RowKey) -> bool {
        self.parts
            .binary_search_by_key(&row.xact, |part| part.xact)
            .is_ok_and(|place| row.seq <= self.parts[place].seq)
    }

    fn forget_seen(&mut self) {
        for rows in [&mut self.parts, &mut self.recents] {
            rows.retain(|row| !self.snapshot.sees(row.xact));
            // Most streams are idle most of the time; one that was busy gives its memory back.
            if rows.is_empty() {
                *rows = Vec::new();
            }
        }
    }
}

/// A range of rows to read: `(xact_id, seq) > (after.xact, after.seq) AND xact_id < before`.
///
/// A whole transaction starts after the last possible row of the number before it, so that the
/// comparison holds for rows without a `seq` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The range begins after this row.
    pub after: RowKey,
    /// It ends before this transaction.
    pub before: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{strategies::*, *};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn recording_adds_the_row_and_nothing_else(mut cursor in any_cursor(), row in any_row()) {
            let mut expected = claimed(&cursor);
            let new = expected.insert(row);
            prop_assert_eq!(cursor.record(row), new);
            prop_assert_eq!(claimed(&cursor), expected);
        }

        /// `read` is any snapshot: older, newer, or of another history.
        #[test]
        fn replaying_adds_what_was_read_up_to_the_row_and_nothing_else(
            mut cursor in any_cursor(), read in any_snapshot(), row in any_row(),
        ) {
            let before = claimed(&cursor);
            let mut expected = before.clone();
            expected.extend(universe().filter(|r| r.xact < row.xact && read.sees(r.xact)));
            expected.extend(universe().filter(|r| r.xact == row.xact && r.seq <= row.seq));
            prop_assert_eq!(cursor.replay(&read, row), !before.contains(&row));
            prop_assert_eq!(claimed(&cursor), expected);
        }

        #[test]
        fn rebasing_adds_what_the_watermark_sees_or_leaves_all_as_it_is(
            mut cursor in any_cursor(), watermark in any_snapshot(),
        ) {
            let before = cursor.clone();
            let mut expected = claimed(&cursor);
            let moved = watermark.contains(before.snapshot());
            if moved {
                expected.extend(visible(&watermark));
            }
            prop_assert_eq!(cursor.rebase(&Arc::new(watermark.clone())), moved);
            prop_assert_eq!(claimed(&cursor), expected);
            if moved {
                prop_assert_eq!(&**cursor.snapshot(), &watermark);
                let kept = [cursor.parts(), cursor.recents()].concat();
                prop_assert!(kept.iter().all(|row| !watermark.sees(row.xact)));
            } else {
                prop_assert_eq!(cursor, before);
            }
        }

        #[test]
        fn clamping_takes_away_the_first_and_later_transactions(
            mut cursor in any_cursor(), first in 1..XACTS + 3, other in 1..XACTS + 3,
        ) {
            let mut expected = claimed(&cursor);
            expected.retain(|row| row.xact < first);
            let mut twice = cursor.clone();
            cursor.clamp(8, first);
            prop_assert_eq!(claimed(&cursor), expected);
            // Through several epochs, in any order: the same as the lowest first at once.
            twice.clamp(8, first);
            twice.clamp(9, other);
            cursor.clamp(9, first.min(other));
            prop_assert_eq!(cursor, twice);
        }

        #[test]
        fn unread_ranges_are_what_snapshot_and_parts_leave(cursor in any_cursor()) {
            let ranges = cursor.unread();
            for row in universe() {
                let read = ranges.iter().filter(|r| r.after < row && row.xact < r.before).count();
                let left = !cursor.snapshot.sees(row.xact) && !cursor.part_covers(row);
                prop_assert_eq!(read, usize::from(left), "{:?} in {:?}", row, ranges);
            }
            // In order, and neighbouring transactions in one range.
            prop_assert!(ranges.windows(2).all(|pair| pair[0].before <= pair[1].after.xact));
        }

        #[test]
        fn unread_ranges_of_any_numbers_are_few_and_ascending(cursor in any_wide_cursor()) {
            let ranges = cursor.unread();
            prop_assert!(ranges.len() <= 1 + cursor.snapshot.xip().len() + cursor.parts.len());
            prop_assert!(ranges.windows(2).all(|pair| pair[0].after < pair[1].after));
        }
    }
}
