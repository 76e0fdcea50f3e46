//! Postgres, as far as delivery depends on it: transaction numbers, snapshots,
//! what a flush keeps, the notification queue, a standby.
//!
//! Two of its habits are where rows get lost, and are kept exactly:
//!
//! - A transaction number outlives a crash only if a WAL record with it, or a
//!   later one, was flushed. A commit that wrote something flushes all before
//!   it; one that only notified flushes nothing; neither does a rollback.
//! - A commit is on disk before it is visible, and its notifications come
//!   after both, in commit order: notifying commits go one at a time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use notify_gateway::{
    cursor::{Cursor, RowKey, Snapshot, Unread},
    horizon::Epoch,
    notification::{Change, UserId},
};

/// An event that was ever written: the oracle's book, not part of the database.
#[derive(Clone, Debug)]
pub struct Written {
    /// Who is to see it.
    pub user: UserId,
    /// The application's row that it speaks of, by the event that was its first.
    pub subject: usize,
    /// What it says of it.
    pub change: Change,
    /// Its place in history. After a failover another event may have the same.
    pub key: RowKey,
    /// The transactions below had ended when it was written.
    pub oldest: u64,
    /// Which transaction of the history wrote it; never used again.
    pub transaction: usize,
    /// When snapshots began to see it.
    pub visible: Option<u64>,
    /// Committed, and then lost: how.
    pub vanished: Option<Vanished>,
    /// Whether it has been taken out of the log, since its row is gone.
    pub was_erased: bool,
}

/// How a committed row can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vanished {
    /// With a primary whose standby never got it.
    Promotion,
    /// With a data directory that was exchanged for an older one.
    SetBack,
}

/// What LISTEN brings.
#[derive(Clone, Debug)]
pub struct Notice {
    /// What it says.
    pub text: NoticeText,
    /// When it was committed.
    pub at: u64,
}

/// The channel and the payload in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeText {
    /// On the channel of the triggers.
    Payload(String),
    /// On the channel of one gateway's probes.
    Probe {
        /// Whose.
        nonce: u32,
        /// Which.
        number: u64,
    },
}

/// A connection to one life of one server.
#[derive(Clone, Debug)]
pub struct Session {
    generation: u32,
    is_cut: Arc<AtomicBool>,
    since: f64,
}

impl Session {
    /// Set when it breaks.
    pub fn is_cut(&self) -> &Arc<AtomicBool> {
        &self.is_cut
    }

    /// When it was made, by the server's clock.
    pub fn since(&self) -> f64 {
        self.since
    }

    /// The connection breaks; the server lives.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }
}

/// How a writer's rows are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The first by its payload, unless it is large, the second by a ring, the
    /// others not at all.
    Rows,
    /// The first by a ring.
    Ring,
    /// Not at all.
    Silent,
}

/// Names a transaction for as long as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionId(usize);

/// How far a commit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Another notifying commit is under way.
    Waits,
    /// In the WAL, flushed if it has to be, seen by nobody yet.
    Written,
    /// Visible and notified.
    Done,
}

/// A page, as the table gave it.
#[derive(Debug, Default)]
pub struct Found {
    /// The rows.
    pub rows: Vec<usize>,
    /// Whether there are more.
    pub more: bool,
}

#[derive(Debug)]
struct Transaction {
    id: TransactionId,
    /// Of the application; the gateways' own are ended by them.
    is_writer: bool,
    /// Its client is gone: the server only ends it.
    is_orphan: bool,
    mode: Mode,
    /// Whether it has rung: 1 by a row, 2 by a ring.
    rung: u8,
    xact: Option<u64>,
    rows: Vec<usize>,
    notices: Vec<NoticeText>,
    updates_state: bool,
    /// What it sets `quiet_until` to.
    quiet_until: Option<f64>,
    epoch: Option<EpochRow>,
    has_written: bool,
    is_committing: bool,
}

#[derive(Clone, Debug)]
struct EpochRow {
    epoch: Epoch,
    timeline: u32,
}

#[derive(Debug)]
enum Record {
    /// A change or a rollback under this number.
    Number(u64),
    /// Sequence values below this are given out without another record.
    Sequence(i64),
    Commit {
        xact: u64,
        rows: Vec<usize>,
        updates_state: bool,
        quiet_until: Option<f64>,
        epoch: Option<EpochRow>,
    },
    /// A transaction that took these out of the log.
    Erase { xact: u64, rows: Vec<usize> },
    /// A shutdown writes down the next number.
    Shutdown(u64),
}

/// The server that is primary now, and how much of it the standby has.
pub struct Postgres {
    /// Every row of the history.
    pub written: Vec<Written>,
    /// Every epoch that was ever begun in which numbers may mean other rows: which,
    /// and from which number on. The oracle's book as well.
    pub clamps: Vec<(u32, u64)>,
    is_up: bool,
    generation: u32,
    timeline: u32,
    /// Whether it was set back on its timeline since the last epoch.
    was_set_back: bool,
    /// The number before any of this history.
    genesis: u64,
    next_xact: u64,
    latest_completed: u64,
    running: Vec<u64>,
    transactions: Vec<Transaction>,
    /// Transactions that were ever begun.
    begun: usize,
    next_seq: i64,
    logged_seq: i64,
    seq_lookahead: i64,
    wal: Vec<Record>,
    flushed: usize,
    replicated: usize,
    /// Committed rows in the order of their keys.
    table: Vec<usize>,
    state_flushed: Option<u64>,
    quiet_until: Option<f64>,
    /// Who has updated the state's one row and not ended yet.
    state_locked: Option<TransactionId>,
    epochs: Vec<EpochRow>,
    /// The epochs that were ever begun, on whichever server.
    epochs_begun: Vec<u32>,
    notifying: Option<TransactionId>,
    queue: Vec<Notice>,
}

impl Postgres {
    /// An empty table; the first transaction gets the number `first`.
    pub fn new(first: u64, seq_lookahead: i64) -> Self {
        Self {
            written: Vec::new(),
            begun: 0,
            clamps: Vec::new(),
            is_up: true,
            generation: 0,
            timeline: 1,
            was_set_back: false,
            genesis: first - 1,
            next_xact: first,
            latest_completed: first - 1,
            running: Vec::new(),
            transactions: Vec::new(),
            next_seq: 1,
            logged_seq: 1,
            seq_lookahead,
            wal: Vec::new(),
            flushed: 0,
            replicated: 0,
            table: Vec::new(),
            state_flushed: None,
            quiet_until: None,
            state_locked: None,
            epochs: Vec::new(),
            epochs_begun: Vec::new(),
            notifying: None,
            queue: Vec::new(),
        }
    }

    /// A new connection, while the server is up. It breaks when `is_cut` is set.
    pub fn connect(&self, is_cut: Arc<AtomicBool>, since: f64) -> Option<Session> {
        self.is_up.then_some(Session { generation: self.generation, is_cut, since })
    }

    /// Whether the server at the other end of `session` still runs and is reached.
    pub fn answers(&self, session: &Session) -> bool {
        let is_cut = session.is_cut.load(Ordering::Relaxed);
        self.is_up && !is_cut && session.generation == self.generation
    }

    /// Whether it takes connections.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    // What statements return.

    /// `pg_current_snapshot()::text`: up to the newest transaction that has
    /// ended, without those before it that have not.
    pub fn snapshot(&self) -> String {
        let xmax = self.latest_completed + 1;
        let mut xip: Vec<u64> = self.running.iter().copied().filter(|x| *x < xmax).collect();
        xip.sort_unstable();
        let xmin = self.oldest();
        let xip: Vec<String> = xip.iter().map(u64::to_string).collect();
        format!("{xmin}:{xmax}:{}", xip.join(","))
    }

    /// `pg_snapshot_xmin(pg_current_snapshot())`.
    fn oldest(&self) -> u64 {
        self.running.iter().copied().fold(self.latest_completed + 1, u64::min)
    }

    /// `notify_gateway.current_epoch()`.
    pub fn epoch(&self) -> u32 {
        self.generation + 1
    }

    /// As if only a promotion were another life.
    pub fn epoch_of_timeline(&self) -> u32 {
        self.timeline
    }

    /// The committed rows in the order of their keys.
    pub fn table(&self) -> &[usize] {
        &self.table
    }

    /// Whether a gateway has made a watermark durable.
    pub fn was_flushed(&self) -> bool {
        self.state_flushed.is_some()
    }

    /// `notify_gateway.cursor()`; `is_unflushed` is beside more transactions than it
    /// claims one by one.
    pub fn cursor(&self, is_unflushed: bool) -> String {
        let mut xmax = self.latest_completed + 1;
        let mut singly: Vec<u64> = Vec::new();
        if let Some(flushed) = self.state_flushed.filter(|flushed| !is_unflushed && *flushed < xmax)
        {
            let xacts = self.table.iter().map(|row| self.written[*row].key.xact);
            singly.extend(xacts.filter(|xact| *xact > flushed));
            singly.dedup();
            xmax = flushed + 1;
        }
        let mut holes: Vec<u64> = self.running.iter().copied().filter(|x| *x < xmax).collect();
        holes.sort_unstable();
        let distances = |numbers: &[u64]| -> String {
            let before = std::iter::once(&0).chain(numbers);
            let each = numbers.iter().zip(before).map(|(number, before)| number - before);
            each.map(|distance| distance.to_string()).collect::<Vec<_>>().join(",")
        };
        let (epoch, seq) = (self.epoch(), self.next_seq - 1);
        format!("{epoch}:{xmax}:{}:{seq}:{}::.", distances(&holes), distances(&singly))
    }

    /// The rows that `watermark` does not see, in the order of their keys.
    pub fn unseen(&self, watermark: &Snapshot) -> Vec<usize> {
        let wanted = |row: &&usize| {
            let xact = self.written[**row].key.xact;
            xact >= watermark.xmax() || watermark.xip().contains(&xact)
        };
        self.table.iter().filter(wanted).copied().collect()
    }

    /// The row of `user` at this place.
    pub fn row_at(&self, key: RowKey, user: &UserId) -> Option<usize> {
        let is_it = |row: &&usize| {
            let written = &self.written[**row];
            written.key == key && written.user == *user
        };
        self.table.iter().find(is_it).copied()
    }

    /// The next rows of `user` in `table` beyond `cursor`: at most `max_rows`, and none
    /// once `max_size` is reached. A range that is full says that there are
    /// more.
    pub fn page(
        &self,
        table: &[usize],
        user: &UserId,
        cursor: &Cursor,
        max_rows: usize,
        max_size: usize,
    ) -> Found {
        let mut found: Vec<usize> = Vec::new();
        let mut is_cut = false;
        for range in cursor.unread() {
            let before = found.len();
            found.extend(self.range(table, user, range).take(max_rows));
            is_cut |= found.len() - before >= max_rows;
        }
        let mut page = Found::default();
        let mut size = 0;
        for row in found.iter().take(max_rows) {
            if size >= max_size {
                break;
            }
            size += size_of(*row);
            page.rows.push(*row);
        }
        page.more = is_cut || page.rows.len() < found.len();
        page
    }

    /// What was made of the same row later by a transaction with a lower number, as the
    /// replay selects it.
    pub fn newer(&self, table: &[usize], row: usize) -> Option<usize> {
        let Written { subject, user, key, oldest, .. } = &self.written[row];
        let is_newer = |other: &&Written| {
            let is_of_row = other.subject == *subject && other.user == *user;
            is_of_row && (*oldest..key.xact).contains(&other.key.xact) && other.key.seq > key.seq
        };
        let newer = table.iter().copied().filter(|other| is_newer(&&self.written[*other]));
        newer.max_by_key(|other| self.written[*other].key.seq)
    }

    /// How many rows of `user` in `table` are beyond `cursor`.
    pub fn count(&self, table: &[usize], user: &UserId, cursor: &Cursor) -> usize {
        cursor.unread().into_iter().map(|range| self.range(table, user, range).count()).sum()
    }

    fn range(
        &self,
        table: &[usize],
        user: &UserId,
        Unread { after, before }: Unread,
    ) -> impl Iterator<Item = usize> {
        table.iter().copied().filter(move |row| {
            let row = &self.written[*row];
            row.user == *user && row.key > after && row.key.xact < before
        })
    }

    /// `notify_gateway.payload(row)`.
    fn payload(&self, row: usize) -> String {
        let Written { user, key: RowKey { xact, seq }, .. } = &self.written[row];
        let rest = format!(r#""event":"{}","data":{}"#, self.event(row), self.data(row));
        format!(r#"{{"xact_id":"{xact}","seq":{seq},"user_id":"{user}",{rest}}}"#)
    }

    /// `event.event`.
    pub fn event(&self, row: usize) -> &'static str {
        match self.written[row].change {
            Change::New => "notification",
            Change::Updated => "updated",
            Change::Deleted => "deleted",
        }
    }

    /// `event.data`.
    pub fn data(&self, row: usize) -> String {
        format!(r#"{{"id":{row}}}"#)
    }

    /// Lists the epochs, `current` begun if it is not the last one; `None` while
    /// another transaction holds the lock on the state's row.
    pub fn epochs(&mut self, id: TransactionId, current: u32) -> Option<Vec<Epoch>> {
        if self.state_locked.is_some_and(|holder| holder != id) {
            return None;
        }
        self.state_locked = Some(id);
        let place = self.place(id);
        let xact = self.number(place);
        self.wal.push(Record::Number(xact));
        let last = self.epochs.last();
        let mut epochs = self.list_epochs();
        if last.is_none_or(|last| last.epoch.number != current) {
            self.epochs_begun.push(current);
            let first = self.state_flushed.map(|flushed| flushed + 1);
            let is_restart = last.is_some_and(|last| last.timeline == self.timeline);
            let epoch = Epoch { number: current, first, is_restart };
            epochs.push(epoch.clone());
            let transaction = &mut self.transactions[place];
            transaction.epoch = Some(EpochRow { epoch, timeline: self.timeline });
            transaction.updates_state = true;
            transaction.has_written = true;
        }
        Some(epochs)
    }

    /// The epochs as they are.
    fn list_epochs(&self) -> Vec<Epoch> {
        self.epochs.iter().map(|row| row.epoch.clone()).collect()
    }

    /// Whether a stream whose client has read an id of epoch `number` may have a
    /// cursor that means nothing here: of that epoch, or of a later one, which a
    /// lost primary has begun.
    pub fn has_lost_epoch_since(&self, number: u32) -> bool {
        let is_known = |number: u32| {
            let place = self.epochs.iter().position(|row| row.epoch.number == number);
            let since = place.map(|place| &self.epochs[place + 1..]);
            since.is_some_and(|rows| rows.iter().all(|row| row.epoch.first.is_some()))
        };
        let begun = self.epochs_begun.iter().copied();
        begun.filter(|begun| *begun >= number).chain([number]).any(|number| !is_known(number))
    }

    // Transactions.

    /// Begins one. It has no number before it writes or notifies.
    pub fn begin(&mut self, mode: Mode, is_writer: bool) -> TransactionId {
        let id = TransactionId(self.begun);
        self.begun += 1;
        self.transactions.push(Transaction {
            id,
            is_writer,
            is_orphan: false,
            mode,
            rung: 0,
            xact: None,
            rows: Vec::new(),
            notices: Vec::new(),
            updates_state: false,
            quiet_until: None,
            epoch: None,
            has_written: false,
            is_committing: false,
        });
        id
    }

    /// The transactions of the application that run.
    pub fn writers(&self) -> impl Iterator<Item = TransactionId> {
        self.transactions.iter().filter(|t| t.is_writer).map(|t| t.id)
    }

    /// Whether it may still write.
    pub fn is_open(&self, id: TransactionId) -> bool {
        self.transactions.iter().any(|t| t.id == id && !t.is_committing && !t.is_orphan)
    }

    /// Whether it has not ended, with the server or by itself.
    pub fn runs(&self, id: TransactionId) -> bool {
        self.transactions.iter().any(|t| t.id == id)
    }

    /// The rows that this transaction may change without waiting for another, by their
    /// last events.
    pub fn changeable(&self, id: TransactionId) -> Vec<usize> {
        let locked = |subject: usize| {
            let mut others = self.transactions.iter().filter(|other| other.id != id);
            others.any(|other| other.rows.iter().any(|row| self.written[*row].subject == subject))
        };
        let own = &self.transactions[self.place(id)].rows;
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for row in self.table.iter().chain(own) {
            let last = last.entry(self.written[*row].subject).or_insert(*row);
            *last = (*last).max(*row);
        }
        let is_there = |row: &usize| self.written[*row].change != Change::Deleted;
        let last = last.into_iter().filter(|(subject, _)| !locked(*subject)).map(|(_, row)| row);
        last.filter(is_there).collect()
    }

    /// A row for `user`, or a change to the one that had `before` as its last event; a
    /// large one fits into no notification. Returns the event's number.
    pub fn write(
        &mut self,
        id: TransactionId,
        user: &UserId,
        before: Option<(usize, Change)>,
        large: bool,
        now: f64,
    ) -> usize {
        let place = self.place(id);
        let xact = self.number(place);
        if self.next_seq >= self.logged_seq {
            self.logged_seq = self.next_seq + self.seq_lookahead;
            self.wal.push(Record::Sequence(self.logged_seq));
        }
        let key = RowKey { xact, seq: self.next_seq };
        self.next_seq += 1;
        self.wal.push(Record::Number(xact));
        let row = self.written.len();
        let (subject, user, change) = match before {
            Some((before, change)) => {
                let Written { subject, user, .. } = &self.written[before];
                (*subject, user.clone(), change)
            }
            None => (row, user.clone(), Change::New),
        };
        let (transaction, oldest) = (id.0, self.oldest());
        let (visible, vanished, was_erased) = (None, None, false);
        let written = Written {
            user,
            subject,
            change,
            key,
            oldest,
            transaction,
            visible,
            vanished,
            was_erased,
        };
        self.written.push(written);
        let is_quiet = self.quiet_until.is_some_and(|until| until > now);
        let transaction = &mut self.transactions[place];
        if is_quiet && transaction.mode != Mode::Silent {
            transaction.rung = 2;
        }
        let Transaction { mode, rung, .. } = *transaction;
        let notice = match (mode, rung) {
            (Mode::Silent, _) | (_, 2) => None,
            (Mode::Rows, 0) if !large => Some(self.payload(row)),
            _ => Some(format!(r#"{{"xact_id":"{xact}"}}"#)),
        };
        let transaction = &mut self.transactions[place];
        transaction.rows.push(row);
        transaction.has_written = true;
        if let Some(payload) = notice {
            transaction.rung = if payload.contains("data") { 1 } else { 2 };
            self.notify(id, NoticeText::Payload(payload));
        }
        row
    }

    /// What a gateway's upkeep does: takes what is said of rows that are gone out of the
    /// log, and says how many these were.
    pub fn erase(&mut self) -> usize {
        let is_gone = |event: &Written| {
            let deletions = self.table.iter().map(|row| &self.written[*row]);
            let mut deletions = deletions.filter(|other| other.change == Change::Deleted);
            deletions.any(|gone| {
                let is_before = event.key.xact < gone.oldest || event.key.seq < gone.key.seq;
                gone.subject == event.subject && gone.user == event.user && is_before
            })
        };
        let is_erased = |row: &usize| {
            let event = &self.written[*row];
            event.change != Change::Deleted && is_gone(event)
        };
        let rows: Vec<usize> = self.table.iter().copied().filter(is_erased).collect();
        if !rows.is_empty() {
            let xact = self.assign();
            self.take_out(&rows);
            self.end(xact);
            self.wal.push(Record::Erase { xact, rows: rows.clone() });
            self.flushed = self.wal.len();
        }
        rows.len()
    }

    fn take_out(&mut self, rows: &[usize]) {
        self.table.retain(|row| !rows.contains(row));
        rows.iter().for_each(|row| self.written[*row].was_erased = true);
    }

    /// `state.quiet_until`.
    pub fn quiet_until(&self) -> Option<f64> {
        self.quiet_until
    }

    /// Updates the state's one row, unless another transaction has locked it. Returns
    /// the transaction's number.
    pub fn update_state(&mut self, id: TransactionId, quiet_until: Option<f64>) -> Option<u64> {
        if self.state_locked.is_some_and(|holder| holder != id) {
            return None;
        }
        let place = self.place(id);
        let xact = self.number(place);
        self.wal.push(Record::Number(xact));
        self.state_locked = Some(id);
        let transaction = &mut self.transactions[place];
        transaction.updates_state = true;
        transaction.quiet_until = quiet_until.or(transaction.quiet_until);
        transaction.has_written = true;
        Some(xact)
    }

    /// Notifies at the commit; what one transaction says twice is said once.
    pub fn notify(&mut self, id: TransactionId, text: NoticeText) {
        let place = self.place(id);
        let notices = &mut self.transactions[place].notices;
        if !notices.contains(&text) {
            notices.push(text);
        }
    }

    /// The next step of a commit.
    pub fn commit(&mut self, id: TransactionId, clock: u64) -> Commit {
        let place = self.place(id);
        if self.transactions[place].is_committing {
            self.finish(place, clock);
            return Commit::Done;
        }
        if !self.transactions[place].notices.is_empty() {
            if self.notifying.is_some() {
                return Commit::Waits;
            }
            self.notifying = Some(id);
            self.number(place);
        }
        let transaction = &mut self.transactions[place];
        transaction.is_committing = true;
        if let Some(xact) = transaction.xact {
            let has_written = transaction.has_written;
            if let Some(EpochRow { epoch, .. }) = &transaction.epoch {
                let first = epoch.first.filter(|_| !epoch.is_restart || self.was_set_back);
                self.clamps.extend(first.map(|first| (epoch.number, first)));
                self.was_set_back = false;
            }
            self.wal.push(Record::Commit {
                xact,
                rows: transaction.rows.clone(),
                updates_state: transaction.updates_state,
                quiet_until: transaction.quiet_until,
                epoch: transaction.epoch.clone(),
            });
            if has_written {
                self.flushed = self.wal.len();
            }
        }
        Commit::Written
    }

    fn finish(&mut self, place: usize, clock: u64) {
        let transaction = self.transactions.remove(place);
        for &row in &transaction.rows {
            self.written[row].visible = Some(clock);
            self.store(row);
        }
        if transaction.updates_state {
            self.state_flushed = transaction.xact;
            self.quiet_until = transaction.quiet_until.or(self.quiet_until);
        }
        self.epochs.extend(transaction.epoch);
        if let Some(xact) = transaction.xact {
            self.end(xact);
        }
        let notices = transaction.notices.into_iter();
        self.queue.extend(notices.map(|text| Notice { text, at: clock }));
        self.unlock(transaction.id);
    }

    /// Ends it without effect but for its number, which is used up until the
    /// next crash. A commit that is on disk cannot be taken back: `false`.
    pub fn roll_back(&mut self, id: TransactionId) -> bool {
        let place = self.place(id);
        if self.transactions[place].is_committing {
            return false;
        }
        let transaction = self.transactions.remove(place);
        if let Some(xact) = transaction.xact {
            self.wal.push(Record::Number(xact));
            self.end(xact);
        }
        self.unlock(id);
        true
    }

    /// Its client is gone in the middle of a statement: the server goes on with
    /// it as with anyone's.
    pub fn orphan(&mut self, id: TransactionId) {
        if let Some(transaction) = self.transactions.iter_mut().find(|t| t.id == id) {
            transaction.is_writer = true;
            transaction.is_orphan = true;
        }
    }

    fn unlock(&mut self, id: TransactionId) {
        for lock in [&mut self.state_locked, &mut self.notifying] {
            if *lock == Some(id) {
                *lock = None;
            }
        }
    }

    fn place(&self, id: TransactionId) -> usize {
        let place = self.transactions.iter().position(|t| t.id == id);
        // Whoever holds an id of an ended server has its session checked first.
        place.unwrap_or_else(|| unreachable!("transaction {id:?} has ended"))
    }

    fn number(&mut self, place: usize) -> u64 {
        if let Some(xact) = self.transactions[place].xact {
            return xact;
        }
        let xact = self.assign();
        self.transactions[place].xact = Some(xact);
        xact
    }

    fn assign(&mut self) -> u64 {
        let xact = self.next_xact;
        self.next_xact += 1;
        self.running.push(xact);
        xact
    }

    fn end(&mut self, xact: u64) {
        self.running.retain(|running| *running != xact);
        self.latest_completed = self.latest_completed.max(xact);
    }

    fn store(&mut self, row: usize) {
        let key = self.written[row].key;
        let place = self.table.partition_point(|other| self.written[*other].key < key);
        self.table.insert(place, row);
    }

    // LISTEN.

    /// Where LISTEN begins: what is committed from now on.
    pub fn queue_end(&self) -> usize {
        self.queue.len()
    }

    /// What is in the queue at `place`.
    pub fn notice(&self, place: usize) -> Option<&Notice> {
        self.queue.get(place)
    }

    // Time and faults.

    /// The WAL writer comes by.
    pub fn flush_wal(&mut self) {
        self.flushed = self.wal.len();
    }

    /// The standby gets up to `records` more of what is flushed.
    pub fn replicate(&mut self, records: usize) {
        self.replicated = self.flushed.min(self.replicated.saturating_add(records));
    }

    /// The server dies: what was not flushed has never been.
    pub fn crash(&mut self) {
        self.is_up = false;
        self.wal.truncate(self.flushed);
    }

    /// An orderly shutdown: every number is kept.
    pub fn shut_down(&mut self) {
        self.is_up = false;
        for transaction in &self.transactions {
            if let Some(xact) = transaction.xact
                && !transaction.is_committing
            {
                self.wal.push(Record::Number(xact));
            }
        }
        self.wal.push(Record::Shutdown(self.next_xact));
        self.flushed = self.wal.len();
    }

    /// The server comes up with what its WAL holds.
    pub fn recover(&mut self, clock: u64) {
        self.is_up = true;
        self.replay(clock);
    }

    /// The primary is lost, and the standby takes over with what it has.
    pub fn promote(&mut self, clock: u64) {
        self.timeline += 1;
        self.go_back(clock, Vanished::Promotion);
    }

    /// The server is stopped, its data directory exchanged for an older copy, which is
    /// what the standby has, and started again.
    pub fn set_back(&mut self, clock: u64) {
        self.was_set_back = true;
        self.go_back(clock, Vanished::SetBack);
    }

    fn go_back(&mut self, clock: u64, how: Vanished) {
        self.wal.truncate(self.replicated);
        self.recover(clock);
        let is_committed = |record: &Record, row: usize| match record {
            Record::Commit { rows, .. } => rows.contains(&row),
            _ => false,
        };
        for row in 0..self.written.len() {
            let is_there = self.table.contains(&row)
                || self.written[row].was_erased && self.wal.iter().any(|r| is_committed(r, row));
            if self.written[row].visible.is_some() && !is_there {
                self.written[row].vanished.get_or_insert(how);
            }
        }
    }

    fn replay(&mut self, clock: u64) {
        self.generation += 1;
        self.transactions.clear();
        self.running.clear();
        self.queue.clear();
        self.table.clear();
        self.epochs.clear();
        (self.state_flushed, self.state_locked, self.notifying) = (None, None, None);
        self.quiet_until = None;
        self.flushed = self.wal.len();
        self.replicated = self.replicated.min(self.flushed);
        let mut last = self.genesis;
        let mut next_seq = 1;
        for record in std::mem::take(&mut self.wal) {
            match &record {
                Record::Number(xact) => last = last.max(*xact),
                Record::Sequence(logged) => next_seq = *logged,
                Record::Shutdown(next) => last = last.max(next - 1),
                Record::Erase { xact, rows } => {
                    last = last.max(*xact);
                    self.take_out(rows);
                }
                Record::Commit { xact, rows, updates_state, quiet_until, epoch } => {
                    last = last.max(*xact);
                    for row in rows {
                        self.written[*row].visible.get_or_insert(clock);
                        self.store(*row);
                    }
                    if *updates_state {
                        self.state_flushed = Some(*xact);
                        self.quiet_until = quiet_until.or(self.quiet_until);
                    }
                    self.epochs.extend(epoch.clone());
                }
            }
            self.wal.push(record);
        }
        self.next_seq = next_seq;
        self.logged_seq = next_seq;
        self.next_xact = last + 1;
        self.latest_completed = last;
    }
}

/// Rows are of different sizes, so that pages end in different places.
fn size_of(row: usize) -> usize {
    1 + row % 4
}
