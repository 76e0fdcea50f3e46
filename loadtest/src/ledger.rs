//! What the writers have written: the truth the streams are judged by.

use serde::{Deserialize, Serialize};

/// All transactions of a run; a marker's `transaction` is the index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) transactions: Vec<Transaction>,
}

/// One transaction. Times are on [`crate::clock`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    /// When the schedule wanted it sent.
    pub(crate) intended_ns: u64,
    /// When it was: the last moment at which its rows were surely not
    /// committed.
    pub(crate) sent_ns: u64,
    /// When its commit was acknowledged: the first moment at which they surely
    /// were. None: it failed, or nobody knows.
    pub(crate) acknowledged_ns: Option<u64>,
    /// The user of each row; a marker's `position` is the index.
    pub(crate) users: Vec<u32>,
}

impl Ledger {
    /// Rows whose commit was acknowledged.
    pub(crate) fn rows(&self) -> u64 {
        let committed = self.transactions.iter().filter(|tx| tx.acknowledged_ns.is_some());
        committed.map(|tx| tx.users.len() as u64).sum()
    }

    /// When the first was sent and the last acknowledged.
    pub(crate) fn span_ns(&self) -> Option<(u64, u64)> {
        let first = self.transactions.iter().map(|tx| tx.sent_ns).min()?;
        let last = self.transactions.iter().filter_map(|tx| tx.acknowledged_ns).max()?;
        Some((first, last))
    }

    /// The row a marker speaks of.
    pub(crate) fn transaction(&self, number: u32) -> Option<&Transaction> {
        self.transactions.get(usize::try_from(number).ok()?)
    }

    /// The rows by user: the index is the user's number.
    pub(crate) fn by_user(&self) -> Vec<Vec<Row>> {
        let users = self.transactions.iter().flat_map(|tx| &tx.users);
        let count = users.max().map_or(0, |&last| last as usize + 1);
        let mut by_user = vec![Vec::new(); count];
        for (transaction, tx) in (0..).zip(&self.transactions) {
            for (position, &user) in (0..).zip(&tx.users) {
                by_user[user as usize].push(Row { transaction, position });
            }
        }
        by_user
    }
}

/// A row's place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) transaction: u32,
    pub(crate) position: u32,
}
