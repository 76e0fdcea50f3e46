//! The judgement: the books against the table.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    fault::Kind,
    gateway::{REPLAY_LIMIT, RETENTION},
    ledger::{At, Books, Lineage, LineageNo, Moment, Outcome, RowNo, What},
    states::Table,
};

/// How many offenders are told of in full: in all, of one kind, and of one
/// kind in one lineage. A thousand lost rows must not hide one doubled.
const MAX_TOLD: usize = 20;
const MAX_TOLD_OF_KIND: usize = 5;
const MAX_TOLD_OF_LINEAGE: usize = 2;

/// A client without a cursor may get what was committed this long before it.
const OVERLAP: Duration = Duration::from_secs(5);

/// Events of a stream that were under way when its primary was replaced carry
/// cursors of before, and may arrive this much later.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// The most a cursor may have: proxies limit heads.
const MAX_CURSOR_BYTES: usize = 2048;

/// What the database says in the end.
pub(crate) struct Truth {
    /// The rows that are there, with their transaction's number.
    pub(crate) rows: HashMap<Uuid, u64>,
    /// The rows that change, as they are.
    pub(crate) states: Table,
    /// By timeline: where cursors of before are cut back to.
    pub(crate) clamps: BTreeMap<usize, Option<u64>>,
}

/// What the run has shown.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    committed: usize,
    expected: usize,
    delivered: u64,
    lost: usize,
    doubled: usize,
    doubled_after_promotion: usize,
    misrouted: usize,
    disordered: usize,
    different: usize,
    /// What a client shows of a row that changes, and the table does not have.
    state_differs: usize,
    /// Rows that were never committed and were delivered.
    phantom: usize,
    /// Rows of the old primary that the new one has not.
    vanished: usize,
    /// Rows that were committed and are gone, and no promotion explains it.
    gone: usize,
    /// Not delivered before a `resync` that told the client to look itself.
    excused: usize,
    unfounded_resyncs: usize,
    /// Delivered, and committed more than the overlap before the lineage.
    early: usize,
    told: Vec<String>,
    told_of: HashMap<(&'static str, Option<LineageNo>), usize>,
}

impl Verdict {
    /// Holds the books against the table.
    pub(crate) fn of(books: &Books, truth: &Truth) -> Self {
        let mut verdict = Self { committed: truth.rows.len(), ..Self::default() };
        verdict.delivered = books.counts.get("delivered").copied().unwrap_or_default();
        let judge = Judge { books, truth, promotions: promotions(books) };
        judge.rows(&mut verdict);
        for (number, lineage) in books.lineages.iter().enumerate() {
            judge.arrivals(&mut verdict, number, lineage);
            judge.absences(&mut verdict, number, lineage);
        }
        judge.states(&mut verdict);
        verdict
    }

    /// Whether all promises were kept.
    pub(crate) fn is_good(&self, books: &Books) -> bool {
        let broken = self.lost
            + self.doubled
            + self.misrouted
            + self.disordered
            + self.different
            + self.state_differs
            + self.phantom
            + self.gone
            + self.unfounded_resyncs;
        broken == 0 && books.problems.is_empty() && books.cursors.max <= MAX_CURSOR_BYTES
    }

    /// The offenders, each with what is needed to understand it.
    pub(crate) fn told(&self) -> &[String] {
        &self.told
    }

    fn tell(&mut self, what: &'static str, lineage: LineageNo, story: impl FnOnce() -> String) {
        let limits = [(None, MAX_TOLD_OF_KIND), (Some(lineage), MAX_TOLD_OF_LINEAGE)];
        let is_new = limits.iter().all(|&(lineage, max)| {
            self.told_of.get(&(what, lineage)).is_none_or(|&told| told < max)
        });
        if is_new && self.told.len() < MAX_TOLD {
            self.told.push(format!("{what} {}", story()));
            for (lineage, _) in limits {
                *self.told_of.entry((what, lineage)).or_default() += 1;
            }
        }
    }

    /// The lines of the table, name and value.
    pub(crate) fn table(&self, books: &Books) -> Vec<(String, String)> {
        let cursors = books.cursors;
        let mean = cursors.sum.checked_div(cursors.count).unwrap_or_default();
        let mut table: Vec<(String, String)> = [
            ("rows committed", self.committed.to_string()),
            ("transactions", books.transactions.len().to_string()),
            ("lineages", books.lineages.len().to_string()),
            ("deliveries expected", self.expected.to_string()),
            ("delivered", self.delivered.to_string()),
            ("lost", self.lost.to_string()),
            ("doubled", self.doubled.to_string()),
            ("doubled after promotion", self.doubled_after_promotion.to_string()),
            ("misrouted", self.misrouted.to_string()),
            ("out of order in a transaction", self.disordered.to_string()),
            ("different bytes", self.different.to_string()),
            ("state differs", self.state_differs.to_string()),
            ("phantom (never committed)", self.phantom.to_string()),
            ("vanished by promotion", self.vanished.to_string()),
            ("committed, gone for no reason", self.gone.to_string()),
            ("excused by resync", self.excused.to_string()),
            ("resyncs without a reason", self.unfounded_resyncs.to_string()),
            ("older than 5 s at a beginning", self.early.to_string()),
            ("cursor bytes, mean / max", format!("{mean} / {}", cursors.max)),
            ("problems", books.problems.len().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let counts = books.counts.iter().filter(|(name, _)| *name != "delivered");
        table.extend(counts.map(|(name, count)| (name.clone(), count.to_string())));
        let mut faults: BTreeMap<Kind, usize> = BTreeMap::new();
        for fault in &books.faults {
            *faults.entry(fault.kind).or_default() += 1;
        }
        table.push(("faults".into(), books.faults.len().to_string()));
        table.extend(faults.iter().map(|(kind, count)| (format!("  {kind}"), count.to_string())));
        table
    }
}

/// When each promotion began and was through.
fn promotions(books: &Books) -> Vec<(At, At)> {
    let promotions = books.faults.iter().filter(|fault| fault.kind == Kind::Promotion);
    promotions.map(|fault| (fault.began, fault.ended.unwrap_or(At::MAX))).collect()
}

struct Judge<'a> {
    books: &'a Books,
    truth: &'a Truth,
    promotions: Vec<(At, At)>,
}

impl Judge<'_> {
    fn rows(&self, verdict: &mut Verdict) {
        for (number, row) in self.books.rows.iter().enumerate() {
            if self.is_there(number) {
                continue;
            }
            let outcome = self.books.transactions[row.transaction].outcome;
            let may_have = match outcome {
                Outcome::Committed(at) | Outcome::Unknown(at) if !row.is_undone => Some(at),
                _ => None,
            };
            let is_explained = may_have
                .is_some_and(|at| self.promotions.iter().any(|&(_, through)| at <= through));
            if !is_explained && row.is_delivered() {
                verdict.phantom += 1;
                verdict.tell("PHANTOM", LineageNo::MAX, || self.row(number));
            } else if !is_explained && self.books.is_committed(number) {
                verdict.gone += 1;
                verdict.tell("GONE", LineageNo::MAX, || self.row(number));
            } else if row.is_delivered() || self.books.is_committed(number) {
                verdict.vanished += 1;
            }
        }
        for (lineage, moment) in &self.books.unknown {
            verdict.phantom += 1;
            verdict.tell("UNKNOWN", *lineage, || {
                format!("in lineage {lineage}: {}", self.moment(moment))
            });
        }
    }

    fn arrivals(&self, verdict: &mut Verdict, number: LineageNo, lineage: &Lineage) {
        for &(row, first, second) in &lineage.doubled {
            if self.may_double(row, lineage.moments[first].at, lineage.moments[second].at) {
                verdict.doubled_after_promotion += 1;
                continue;
            }
            verdict.doubled += 1;
            verdict.tell("DOUBLED", number, || {
                let (around, again) = (self.around(lineage, first), self.around(lineage, second));
                format!("{}  first:\n{around}  again:\n{again}", self.head(number, row))
            });
        }
        for &(row, before, moment) in &lineage.disordered {
            verdict.disordered += 1;
            verdict.tell("OUT OF ORDER", number, || {
                let (head, around) = (self.head(number, row), self.around(lineage, moment));
                format!("{head}  before it came {}\n{around}", self.row(before))
            });
        }
        for (what, rows) in [("MISROUTED", &lineage.misrouted), ("DIFFERENT", &lineage.different)] {
            for &(row, moment) in rows {
                verdict
                    .tell(what, number, || self.head(number, row) + &self.around(lineage, moment));
            }
        }
        verdict.misrouted += lineage.misrouted.len();
        verdict.different += lineage.different.len();
        let early = lineage.seen.keys().filter(|&&row| {
            let transaction = &self.books.transactions[self.books.rows[row].transaction];
            matches!(transaction.outcome, Outcome::Committed(at) if at + OVERLAP < lineage.began)
        });
        verdict.early += early.count();
    }

    fn absences(&self, verdict: &mut Verdict, number: LineageNo, lineage: &Lineage) {
        verdict.expected += lineage.seen.len();
        let due = self.books.due(lineage, |row| self.is_there(row));
        let missing = due.filter(|row| !lineage.seen.contains_key(row));
        let Some((ended, reason)) = &lineage.ended else {
            for row in missing {
                verdict.expected += 1;
                verdict.lost += 1;
                verdict.tell("LOST", number, || {
                    let at = self.commit_sent(row).unwrap_or_default();
                    let after = lineage.moments.partition_point(|moment| moment.at < at);
                    self.head(number, row) + &self.around(lineage, after)
                });
            }
            return;
        };
        let was_missing = |row: &RowNo| self.commit_sent(*row).is_some_and(|sent| sent < *ended);
        verdict.excused += missing.filter(was_missing).count();
        // What a cursor has not seen since its beginning, and before that as
        // far as the overlap goes, is what the replay would have brought.
        let rows = self.books.rows_of(lineage.user).iter().copied();
        let unseen = rows.filter(|&row| self.is_there(row) && !lineage.seen.contains_key(&row));
        let unseen_rows = unseen.filter(|&row| {
            self.commit_sent(row).is_some_and(|at| at < *ended && at + OVERLAP > lineage.began)
        });
        let (mut unseen, mut oldest) = (0, *ended);
        for row in unseen_rows {
            unseen += 1;
            oldest = oldest.min(self.commit_sent(row).unwrap_or(*ended));
        }
        // Some of them may have been pruned.
        let is_old = oldest + RETENTION.mul_f64(0.9) < *ended;
        if unseen < REPLAY_LIMIT * 9 / 10 && !is_old {
            verdict.unfounded_resyncs += 1;
            verdict.tell("RESYNC", number, || {
                let around = self.around(lineage, lineage.moments.len().saturating_sub(1));
                let Lineage { client, user, .. } = lineage;
                format!(
                    "({reason}) of lineage {number} (client {client}, user {user}) at \
                     {ended:.3?} with {unseen} rows to replay, the oldest of {oldest:.3?}\n{around}"
                )
            });
        }
    }

    fn states(&self, verdict: &mut Verdict) {
        for (number, difference) in self.books.differences(&self.truth.states) {
            // A promotion has taken back that it was given to this user.
            let since = difference.shown.as_ref().map(|(_, at)| *at);
            let may_be_lost = difference.is.is_none()
                && since.is_some_and(|since| {
                    let mut promotions = self.promotions.iter();
                    promotions.any(|&(_, through)| since < through.saturating_add(UNDER_WAY))
                });
            if may_be_lost {
                continue;
            }
            verdict.state_differs += 1;
            verdict.tell("STATE", number, || {
                let lineage = &self.books.lineages[number];
                let after = lineage
                    .moments
                    .partition_point(|moment| since.is_some_and(|since| moment.at < since));
                let Lineage { client, user, began, .. } = lineage;
                format!(
                    "in lineage {number} (client {client}, user {user}, from {began:.3?}): \
                     {difference:?}\n{}",
                    self.around(lineage, after)
                )
            });
        }
    }

    fn is_there(&self, row: RowNo) -> bool {
        self.truth.rows.contains_key(&self.books.rows[row].id)
    }

    fn commit_sent(&self, row: RowNo) -> Option<At> {
        self.books.transactions[self.books.rows[row].transaction].commit_sent
    }

    /// Whether a promotion explains a second delivery: the cursor was cut back
    /// to the new epoch's first transaction, and the row is not older than that.
    fn may_double(&self, row: RowNo, first: At, second: At) -> bool {
        let Some(&number) = self.truth.rows.get(&self.books.rows[row].id) else { return false };
        self.promotions.iter().enumerate().any(|(place, &(began, through))| {
            let clamp = self.truth.clamps.get(&(place + 2)).copied().flatten();
            let is_beyond = clamp.is_some_and(|clamp| number >= clamp);
            is_beyond && first < through.saturating_add(UNDER_WAY) && second > began
        })
    }

    fn head(&self, number: LineageNo, row: RowNo) -> String {
        let Lineage { client, user, began, .. } = &self.books.lineages[number];
        format!(
            "in lineage {number} (client {client}, user {user}, from {began:.3?}): {}\n",
            self.row(row)
        )
    }

    fn row(&self, number: RowNo) -> String {
        let row = &self.books.rows[number];
        let transaction = &self.books.transactions[row.transaction];
        let xact = self.truth.rows.get(&row.id).map_or("none".into(), u64::to_string);
        let sent = transaction.commit_sent.map_or("never".into(), |at| format!("{at:.3?}"));
        format!(
            "row {} of user {}, {} ({}), xact_id {xact}, message {} B, commit sent {sent}, {:.3?}",
            row.id,
            row.user,
            self.books.title(number),
            transaction.kind,
            row.message_bytes,
            transaction.outcome
        )
    }

    /// A few moments on either side of one, and the faults near it, a line each.
    fn around(&self, lineage: &Lineage, place: usize) -> String {
        let mut text = String::new();
        let range = place.saturating_sub(4)..lineage.moments.len().min(place + 4);
        for number in range {
            let mark = if number == place { '>' } else { ' ' };
            let _infallible = writeln!(text, "  {mark} {}", self.moment(&lineage.moments[number]));
        }
        if let Some(moment) = lineage.moments.get(place).or(lineage.moments.last()) {
            self.faults_near(&mut text, moment.at);
        }
        text
    }

    fn faults_near(&self, text: &mut String, at: At) {
        const NEAR: Duration = Duration::from_secs(3);
        let near = self.books.faults.iter().filter(|fault| {
            fault.began <= at + NEAR && fault.ended.unwrap_or(At::MAX) + NEAR >= at
        });
        for fault in near {
            let ended = fault.ended.unwrap_or_default();
            let _infallible = writeln!(
                text,
                "    near it: {} {}, {:.3?} to {ended:.3?}",
                fault.kind, fault.detail, fault.began
            );
        }
    }

    fn moment(&self, moment: &Moment) -> String {
        let what = match &moment.what {
            What::Notification(row) => {
                let xact = self.truth.rows.get(&self.books.rows[*row].id).copied();
                format!("{}, xact_id {}", self.books.title(*row), xact.unwrap_or_default())
            }
            other => format!("{other:?}"),
        };
        format!("{:.3?} {what} id: {}", moment.at, moment.cursor.as_deref().unwrap_or("none"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::{Delivery, Fault, Ledger};

    const SECOND: At = At::from_secs(1);

    /// One user with two lineages from second 1, and rows committed in the
    /// seconds 2, 3, 4, a transaction each, numbered 100, 101, 102.
    fn stage() -> (Ledger, Truth) {
        let ledger = Ledger::new(1);
        let states = Table::new();
        let mut truth = Truth { rows: HashMap::new(), states, clamps: BTreeMap::new() };
        {
            let mut books = ledger.books();
            for (second, number) in [(2, 100), (3, 101), (4, 102)] {
                let transaction = books.begin(0, "test");
                let row = books.insert(transaction, 0, 0, 10);
                let at = SECOND * second;
                books.transactions[transaction].commit_sent = Some(at);
                books.transactions[transaction].outcome = Outcome::Committed(at);
                truth.rows.insert(books.rows[row].id, number);
            }
            books.begin_lineage(0, 0, SECOND);
        }
        (ledger, truth)
    }

    fn deliver(books: &mut Books, row: RowNo, second: u32) {
        let (id, title) = (books.rows[row].id, books.title(row));
        let cursor = Some(Arc::from("cursor"));
        let delivery = Delivery { id, title: &title, message_bytes: 10, data: 7, cursor };
        books.delivered(0, delivery, SECOND * second);
    }

    #[test]
    fn what_came_once_is_good_and_what_is_due_and_never_came_is_lost() {
        let (ledger, truth) = stage();
        let mut books = ledger.books();
        deliver(&mut books, 0, 5);
        deliver(&mut books, 2, 5);
        let verdict = Verdict::of(&books, &truth);
        assert_eq!((verdict.lost, verdict.expected), (1, 3));
        assert!(verdict.told()[0].contains("row 0"), "{:?}", verdict.told());
        deliver(&mut books, 1, 6);
        assert!(Verdict::of(&books, &truth).is_good(&books));
    }

    #[test]
    fn what_was_committed_before_the_beginning_is_not_due() {
        let (ledger, truth) = stage();
        let mut books = ledger.books();
        books.lineages[0].began = SECOND * 10;
        let verdict = Verdict::of(&books, &truth);
        assert_eq!((verdict.lost, verdict.expected), (0, 0));
    }

    #[test]
    fn a_row_that_nobody_committed_is_a_phantom() {
        let (ledger, mut truth) = stage();
        let mut books = ledger.books();
        (0..3).for_each(|row| deliver(&mut books, row, 5));
        let gone = books.rows[1].id;
        truth.rows.remove(&gone);
        assert_eq!(Verdict::of(&books, &truth).phantom, 1);
        promote(&mut books);
        let verdict = Verdict::of(&books, &truth);
        assert_eq!((verdict.phantom, verdict.vanished), (0, 1));
        books.rows[1].is_undone = true;
        assert_eq!(Verdict::of(&books, &truth).phantom, 1);
    }

    fn promote(books: &mut Books) {
        let (kind, detail) = (Kind::Promotion, String::new());
        let (began, ended) = (SECOND * 6, Some(SECOND * 7));
        books.faults.push(Fault { kind, detail, began, ended });
    }

    #[test]
    fn a_promotion_explains_what_comes_twice_beyond_its_first_transaction_only() {
        let (ledger, mut truth) = stage();
        let mut books = ledger.books();
        (0..3).for_each(|row| deliver(&mut books, row, 5));
        deliver(&mut books, 1, 8);
        deliver(&mut books, 2, 8);
        assert_eq!(Verdict::of(&books, &truth).doubled, 2);
        promote(&mut books);
        assert_eq!(Verdict::of(&books, &truth).doubled, 2, "no clamp is known");
        truth.clamps.insert(2, Some(102));
        let verdict = Verdict::of(&books, &truth);
        assert_eq!((verdict.doubled, verdict.doubled_after_promotion), (1, 1));
    }

    #[test]
    fn a_resync_excuses_what_was_missing_and_needs_a_reason() {
        let (ledger, truth) = stage();
        let mut books = ledger.books();
        books.resync(0, "too_far_back", SECOND * 9);
        let verdict = Verdict::of(&books, &truth);
        assert_eq!((verdict.lost, verdict.excused, verdict.unfounded_resyncs), (0, 3, 1));
    }
}
