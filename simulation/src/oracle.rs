//! Who has got what, and whether that is what was promised.

use std::{collections::BTreeMap, fmt};

use notify_gateway::{
    cursor::RowKey,
    horizon::Resync,
    notification::{Change, UserId},
};

use crate::postgres::{Postgres, Vanished, Written};

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Violation {
    /// A row that was committed after the client's beginning never came.
    Lost,
    /// A row came twice.
    Doubled,
    /// Another user's row.
    Misrouted,
    /// A row that nobody committed.
    Phantom,
    /// Rows of one transaction in another order than their insertion.
    Disordered,
    /// A client is left with an older state of a row than the table's.
    Stale,
    /// A client was told to begin anew although its cursor was a good one.
    Resynced,
    /// With everything healed, a stream does not become live.
    Stuck,
}

impl Violation {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Lost,
        Self::Doubled,
        Self::Misrouted,
        Self::Phantom,
        Self::Disordered,
        Self::Stale,
        Self::Resynced,
        Self::Stuck,
    ];
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Misrouted => "misrouted",
            Self::Phantom => "phantom",
            Self::Disordered => "out of order",
            Self::Stale => "stale state",
            Self::Resynced => "resync without reason",
            Self::Stuck => "stuck",
        })
    }
}

/// What the clients of a history have seen.
#[derive(Default)]
pub struct Book {
    /// What went wrong, with a sentence.
    pub violations: Vec<(Violation, String)>,
    /// Rows delivered.
    pub rows: u64,
    /// Rows that came twice because an epoch took back what a cursor claimed:
    /// the design allows them.
    pub doubled_by_clamp: u64,
    /// Rows that did not come since the client had got another of the same key, before
    /// the database was set back.
    pub taken_for_another: u64,
    /// Resyncs that were due.
    pub resyncs: u64,
}

/// One client from its first `connected`, or its last resync, on.
pub struct Lineage {
    name: String,
    user: UserId,
    since: u64,
    is_of_list: bool,
    /// The epoch of its list, when a crash may have its cursor cut back.
    unflushed: Option<u32>,
    /// For each row the epoch in which it came.
    got: Vec<Option<u32>>,
    /// The event by which each of the application's rows is shown.
    shown: BTreeMap<usize, usize>,
    /// The last row of each transaction in each epoch.
    last: Vec<(usize, u32, i64)>,
}

impl Lineage {
    /// Begins: what is committed after `since` has to come.
    pub fn new(name: String, user: UserId, since: u64) -> Self {
        Self {
            name,
            user,
            since,
            is_of_list: false,
            unflushed: None,
            got: Vec::new(),
            shown: BTreeMap::new(),
            last: Vec::new(),
        }
    }

    /// Begins with a list of all that is committed.
    pub fn of_list(name: String, user: UserId, postgres: &Postgres, is_unflushed: bool) -> Self {
        let epoch = postgres.epoch();
        let mut got = vec![None; postgres.written.len()];
        let mut shown = BTreeMap::new();
        for &row in postgres.table() {
            let written = &postgres.written[row];
            if written.user == user {
                got[row] = Some(epoch);
                let shown = shown.entry(written.subject).or_insert(row);
                *shown = row.max(*shown);
            }
        }
        let unflushed = is_unflushed.then_some(epoch);
        Self { got, shown, unflushed, is_of_list: true, ..Self::new(name, user, 0) }
    }

    /// The client is told to begin anew; the last id it has read was of `epoch`.
    pub fn resync(
        &mut self,
        reason: Resync,
        epoch: u32,
        at: u64,
        postgres: &Postgres,
        book: &mut Book,
    ) {
        let is_due = match reason {
            Resync::TooFarBack => true,
            // A standby that never got the epoch's row.
            Resync::Foreign => epoch != 0 && postgres.has_lost_epoch_since(epoch),
            Resync::Malformed | Resync::Future => false,
        };
        if is_due {
            book.resyncs += 1;
        } else {
            let text = format!("{}: {}, epoch {epoch}", self.name, reason.reason());
            book.violations.push((Violation::Resynced, text));
        }
        *self = Self::new(self.name.clone(), self.user.clone(), at);
    }

    /// The client has read what has become of a row; its id was of `epoch`. A row may be
    /// told as new with a later state of it.
    pub fn row(
        &mut self,
        (change, state): (Change, usize),
        epoch: u32,
        postgres: &Postgres,
        book: &mut Book,
    ) {
        book.rows += 1;
        let told = postgres.written.get(state).filter(|state| {
            let is_it =
                state.change == change || change == Change::New && state.change == Change::Updated;
            is_it && state.visible.is_some()
        });
        let Some(told) = told else {
            let text = format!("{}: {change:?} {state}, which nobody committed", self.name);
            book.violations.push((Violation::Phantom, text));
            return;
        };
        self.shown.insert(told.subject, state);
        let row = if change == Change::New { told.subject } else { state };
        let written = &postgres.written[row];
        if written.user != self.user {
            let text = format!("{}: row {row} of {}", self.name, written.user);
            book.violations.push((Violation::Misrouted, text));
            return;
        }
        if self.got.len() <= row {
            self.got.resize(row + 1, None);
        }
        if let Some(before) = self.got[row].replace(epoch) {
            // What a cursor of an older epoch said of these numbers was dropped.
            let is_between = |number: u32| before < number && number <= epoch;
            if Some(before) == self.unflushed && before < epoch {
                book.doubled_by_clamp += 1;
                return;
            }
            let mut clamps = postgres.clamps.iter();
            if clamps.any(|(number, first)| is_between(*number) && *first <= written.key.xact) {
                book.doubled_by_clamp += 1;
            } else {
                let text = format!("{}: row {row} of {:?}", self.name, written.key);
                book.violations.push((Violation::Doubled, text));
            }
            return;
        }
        // Between two epochs rows come again, or late: a gateway that has not
        // found the failover yet takes a row for another of the same key.
        let key = (written.transaction, epoch);
        match self.last.iter_mut().find(|(transaction, epoch, _)| (*transaction, *epoch) == key) {
            None => self.last.push((written.transaction, epoch, written.key.seq)),
            Some((_, _, last)) => {
                if *last > written.key.seq {
                    let text = format!("{}: row {row} after seq {last}", self.name);
                    book.violations.push((Violation::Disordered, text));
                }
                *last = written.key.seq;
            }
        }
    }

    /// Whether a row with this very key, or a later one of its transaction, that the
    /// client had got was lost when the database was set back. (A list's cursor claims
    /// whole transactions, other users' rows included.) Nothing tells the two rows apart.
    /// This limit of the design is documented.
    fn is_taken_for_another(&self, key: RowKey, postgres: &Postgres) -> bool {
        let has_got = |row: usize| self.got.get(row).is_some_and(Option::is_some);
        postgres.written.iter().enumerate().any(|(row, written)| {
            let is_passed = has_got(row) || Self::is_overtaken(written, postgres);
            let was_had = self.is_of_list || is_passed && written.key.seq >= key.seq;
            let is_same = written.key.xact == key.xact && was_had;
            is_same && written.vanished == Some(Vanished::SetBack)
        })
    }

    /// Whether a replay may have left `row` out: the client had been told a later state
    /// that was written by a transaction with a lower number.
    fn is_overtaken(row: &Written, postgres: &Postgres) -> bool {
        let overtakes = |newer: &&Written| {
            let is_later = newer.subject == row.subject && newer.key.seq > row.key.seq;
            let has_ended = newer.change == Change::Deleted || row.change != Change::New;
            is_later && newer.key.xact < row.key.xact && has_ended && newer.visible.is_some()
        };
        postgres.written.iter().any(|newer| overtakes(&newer))
    }

    /// What is shown is held against the table. What a failover took away may be shown.
    fn compare(&self, postgres: &Postgres, book: &mut Book) {
        for (subject, shown) in &self.shown {
            let events = || {
                let events = postgres.written.iter().enumerate();
                events.filter(|(_, event)| event.subject == *subject && event.visible.is_some())
            };
            let Some((last, event)) = events().next_back() else { continue };
            // Nor did the cursor of a list claim what had been erased, if that is undone.
            let is_back = |row: &usize| postgres.written[*row].was_erased;
            let has_vanished = events().any(|(_, event)| event.vanished.is_some())
                || postgres
                    .table()
                    .iter()
                    .any(|row| is_back(row) && postgres.written[*row].subject == *subject);
            if last != *shown && !has_vanished && !self.is_taken_for_another(event.key, postgres) {
                let text = format!("{}: row {subject} as {shown}, not as {last}", self.name);
                book.violations.push((Violation::Stale, text));
            }
        }
    }

    /// Everything is healed and at rest: what has not come is lost.
    pub fn end(&self, postgres: &Postgres, book: &mut Book) {
        self.compare(postgres, book);
        for (row, written) in postgres.written.iter().enumerate() {
            let due = written.user == self.user
                && written.vanished.is_none()
                && !written.was_erased
                && written.visible.is_some_and(|visible| visible > self.since);
            if !due || self.got.get(row).is_some_and(Option::is_some) {
                continue;
            }
            if Self::is_overtaken(written, postgres) {
                continue;
            }
            if self.is_taken_for_another(written.key, postgres) {
                book.taken_for_another += 1;
            } else {
                let text = format!("{}: row {row}, {:?}", self.name, written.key);
                book.violations.push((Violation::Lost, text));
            }
        }
    }
}
