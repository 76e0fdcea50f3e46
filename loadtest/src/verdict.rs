//! What a stream received, held against what was written: pure.
//!
//! A stream owes every row of its user whose transaction was sent after the
//! stream had opened and was acknowledged: through all its reconnects, once, and
//! within a transaction in order. What was committed just before is neither owed
//! nor wrong (a server may overlap a little with the page's own list).

use serde::{Deserialize, Serialize};

use crate::ledger::{Ledger, Row};

/// How many findings are told of one by one.
const EXAMPLES: usize = 5;

/// What one stream has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// The user's number.
    pub(crate) user: u32,
    /// When it was first open; none when it never was.
    pub(crate) opened_ns: Option<u64>,
    /// Whether it stayed to the end: one that went by itself is owed nothing.
    pub(crate) stayed: bool,
    /// Every row, in the order of arrival.
    pub(crate) received: Vec<Received>,
    /// When the server told it that it may have missed rows.
    pub(crate) resyncs_ns: Vec<u64>,
    /// When it was cut, and when it was open again.
    pub(crate) cuts: Vec<Cut>,
}

/// A row that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) row: Row,
    /// Whose row it is, by its own word.
    pub(crate) user: u32,
    pub(crate) at_ns: u64,
}

/// Times without a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) at_ns: u64,
    pub(crate) reopened_ns: Option<u64>,
}

/// Faults, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// Rows owed, over all streams.
    pub(crate) expected: u64,
    /// Rows received once, owed or not.
    pub(crate) delivered: u64,
    /// Owed and never received, without a word.
    pub(crate) lost: u64,
    /// Owed and never received, but the server had said `resync`.
    pub(crate) announced: u64,
    /// Received again: each further copy.
    pub(crate) doubled: u64,
    /// Received by another user's stream, or never written.
    pub(crate) misrouted: u64,
    /// Received after a later row of the same transaction.
    pub(crate) reordered: u64,
    /// The first few of each, in words.
    pub(crate) examples: Vec<String>,
}

impl Findings {
    /// Each kind of fault by name.
    pub(crate) fn faults(&self) -> [(&'static str, u64); 5] {
        [
            ("lost", self.lost),
            ("missed with a resync", self.announced),
            ("doubled", self.doubled),
            ("misrouted", self.misrouted),
            ("out of order", self.reordered),
        ]
    }

    /// Adds those of other streams.
    pub(crate) fn merge(&mut self, other: Self) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.announced += other.announced;
        self.doubled += other.doubled;
        self.misrouted += other.misrouted;
        self.reordered += other.reordered;
        self.examples.extend(other.examples);
        // Enough to see a pattern, not so many that it drowns the table.
        self.examples.truncate(EXAMPLES * self.faults().len());
    }

    fn example(&mut self, count: u64, user: u32, row: Row, what: &str) {
        if count < EXAMPLES as u64 {
            let Row { transaction, position } = row;
            self.examples
                .push(format!("user {user}: row {position} of transaction {transaction} {what}"));
        }
    }
}

/// Judges one stream. `owed` are its user's rows, from [`Ledger::by_user`].
pub(crate) fn judge(account: &Account, ledger: &Ledger, owed: &[Row]) -> Findings {
    let mut findings = Findings::default();
    let mut own: Vec<(Row, usize)> = Vec::with_capacity(account.received.len());
    for (arrival, received) in account.received.iter().enumerate() {
        if received.user == account.user && is_written(ledger, received) {
            own.push((received.row, arrival));
        } else {
            let what = format!("of user {} came to them", received.user);
            findings.example(findings.misrouted, account.user, received.row, &what);
            findings.misrouted += 1;
        }
    }
    own.sort_unstable();
    find_doubled(&mut own, account.user, &mut findings);
    findings.delivered = own.len() as u64;
    find_reordered(&own, account.user, &mut findings);
    find_lost(account, ledger, owed, &own, &mut findings);
    findings
}

fn is_written(ledger: &Ledger, received: &Received) -> bool {
    let Row { transaction, position } = received.row;
    let user = ledger.transaction(transaction).and_then(|tx| tx.users.get(position as usize));
    user == Some(&received.user)
}

fn find_doubled(own: &mut Vec<(Row, usize)>, user: u32, findings: &mut Findings) {
    own.dedup_by(|again, first| {
        let is_double = again.0 == first.0;
        if is_double {
            findings.example(findings.doubled, user, again.0, "came again");
            findings.doubled += 1;
        }
        is_double
    });
}

fn find_reordered(own: &[(Row, usize)], user: u32, findings: &mut Findings) {
    // Sorted by place: the arrivals within a transaction must be, too.
    for pair in own.windows(2) {
        let ((before, came), (row, then)) = (pair[0], pair[1]);
        if before.transaction == row.transaction && came > then {
            findings.example(findings.reordered, user, before, "came after a later one");
            findings.reordered += 1;
        }
    }
}

fn find_lost(
    account: &Account,
    ledger: &Ledger,
    owed: &[Row],
    own: &[(Row, usize)],
    findings: &mut Findings,
) {
    let Some(opened_ns) = account.opened_ns.filter(|_| account.stayed) else { return };
    for &row in owed {
        let Some(tx) = ledger.transaction(row.transaction) else { continue };
        if tx.sent_ns < opened_ns || tx.acknowledged_ns.is_none() {
            continue;
        }
        findings.expected += 1;
        if own.binary_search_by_key(&row, |(row, _)| *row).is_ok() {
            continue;
        }
        if account.resyncs_ns.iter().any(|&told| told >= tx.sent_ns) {
            findings.announced += 1;
        } else {
            findings.example(findings.lost, account.user, row, "never came");
            findings.lost += 1;
        }
    }
}

/// How long after each cut the stream had all that it missed: from the cut to
/// the last row committed before it was open again, or to that opening when it
/// missed nothing.
pub(crate) fn catch_ups(account: &Account, ledger: &Ledger) -> Vec<u64> {
    let caught_up = |cut: &Cut| {
        let reopened_ns = cut.reopened_ns?;
        let missed = account.received.iter().filter(|received| {
            let tx = ledger.transaction(received.row.transaction);
            received.at_ns >= reopened_ns
                && tx.and_then(|tx| tx.acknowledged_ns).is_some_and(|at| at < reopened_ns)
        });
        let last = missed.map(|received| received.at_ns).max();
        Some(last.unwrap_or(reopened_ns).saturating_sub(cut.at_ns))
    };
    account.cuts.iter().filter_map(caught_up).collect()
}

/// When each transaction had reached the last of these streams; 0 where it
/// reached none.
pub(crate) fn last_receipts_ns<'a>(
    accounts: impl Iterator<Item = &'a Account>,
    ledger: &Ledger,
) -> Vec<u64> {
    let mut last = vec![0; ledger.transactions.len()];
    for received in accounts.flat_map(|account| &account.received) {
        if let Some(last) = last.get_mut(received.row.transaction as usize) {
            *last = received.at_ns.max(*last);
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Transaction;

    impl Findings {
        fn is_clean(&self) -> bool {
            self.faults().iter().all(|(_, count)| *count == 0)
        }
    }

    /// Three transactions of two rows each for user 1, at 100, 200, 300.
    fn ledger() -> Ledger {
        let transaction = |at| Transaction {
            intended_ns: at,
            sent_ns: at,
            acknowledged_ns: Some(at + 5),
            users: vec![1, 1],
        };
        Ledger { transactions: [100, 200, 300].map(transaction).to_vec() }
    }

    fn received(transaction: u32, position: u32) -> Received {
        let at_ns = u64::from(transaction) * 100 + 110;
        Received { row: Row { transaction, position }, user: 1, at_ns }
    }

    fn account(received: Vec<Received>) -> Account {
        Account { user: 1, opened_ns: Some(50), stayed: true, received, ..Account::default() }
    }

    fn everything() -> Vec<Received> {
        (0..3).flat_map(|tx| [received(tx, 0), received(tx, 1)]).collect()
    }

    fn judged(account: &Account) -> Findings {
        let ledger = ledger();
        judge(account, &ledger, &ledger.by_user()[1])
    }

    #[test]
    fn everything_once_and_in_order_is_clean() {
        let findings = judged(&account(everything()));
        assert!(findings.is_clean(), "{findings:?}");
        assert_eq!((findings.expected, findings.delivered), (6, 6));
    }

    #[test]
    fn a_lost_row_is_found() {
        let mut rows = everything();
        rows.remove(3);
        let findings = judged(&account(rows));
        assert_eq!(findings.lost, 1);
        assert_eq!(findings.examples, ["user 1: row 1 of transaction 1 never came"]);
        assert!(!findings.is_clean());
    }

    #[test]
    fn a_row_that_a_resync_announced_as_missed_is_not_silently_lost() {
        let mut rows = everything();
        rows.remove(3);
        let findings = judged(&Account { resyncs_ns: vec![250], ..account(rows) });
        assert_eq!((findings.lost, findings.announced), (0, 1));
        assert!(!findings.is_clean());
    }

    #[test]
    fn each_further_copy_of_a_row_is_found() {
        let mut rows = everything();
        rows.extend([received(0, 0), received(0, 0)]);
        let findings = judged(&account(rows));
        assert_eq!((findings.doubled, findings.reordered, findings.delivered), (2, 0, 6));
    }

    #[test]
    fn another_users_row_is_found() {
        let mut rows = everything();
        rows.push(Received { user: 2, ..received(0, 0) });
        assert_eq!(judged(&account(rows)).misrouted, 1);
    }

    #[test]
    fn a_row_nobody_wrote_is_found() {
        let mut rows = everything();
        rows.extend([received(9, 0), received(0, 2)]);
        assert_eq!(judged(&account(rows)).misrouted, 2);
    }

    #[test]
    fn rows_of_a_transaction_in_another_order_are_found() {
        let mut rows = everything();
        rows.swap(2, 3);
        let findings = judged(&account(rows));
        assert_eq!((findings.reordered, findings.lost, findings.doubled), (1, 0, 0));
    }

    #[test]
    fn transactions_may_come_in_any_order() {
        let mut rows = everything();
        rows.rotate_left(2);
        assert!(judged(&account(rows)).is_clean());
    }

    #[test]
    fn what_was_sent_before_the_stream_opened_is_not_owed() {
        let account = Account { opened_ns: Some(150), ..account(everything().split_off(2)) };
        let findings = judged(&account);
        assert!(findings.is_clean(), "{findings:?}");
        assert_eq!(findings.expected, 4);
    }

    #[test]
    fn a_stream_that_went_by_itself_is_owed_nothing_but_may_get_nothing_wrong_either() {
        let gone = Account { stayed: false, ..account(Vec::new()) };
        assert!(judged(&gone).is_clean());
        let wrong = Received { user: 2, ..received(0, 0) };
        assert_eq!(judged(&Account { received: vec![wrong], ..gone }).misrouted, 1);
    }

    #[test]
    fn what_was_never_acknowledged_is_not_owed() {
        let mut ledger = ledger();
        ledger.transactions[2].acknowledged_ns = None;
        let account = account(everything()[..4].to_vec());
        assert!(judge(&account, &ledger, &ledger.by_user()[1]).is_clean());
    }

    #[test]
    fn a_stream_has_caught_up_with_the_last_row_it_missed() {
        let mut account = account(everything());
        account.received[3].at_ns = 290;
        account.cuts = vec![Cut { at_ns: 150, reopened_ns: Some(205) }];
        // Transaction 1 was acknowledged at 205, not before: nothing was missed.
        assert_eq!(catch_ups(&account, &ledger()), [55]);
        account.cuts = vec![Cut { at_ns: 150, reopened_ns: Some(206) }];
        assert_eq!(catch_ups(&account, &ledger()), [140]);
    }
}
