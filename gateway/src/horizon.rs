//! How far everything has been offered: the watermark, and the epoch whose
//! transaction numbers it speaks of.

use std::sync::Arc;

use crate::cursor::{Cursor, Snapshot};

/// What every cursor that leaves the gateway is measured by.
#[derive(Clone, Debug)]
pub struct Horizon {
    /// The history that the current epoch's transaction numbers belong to.
    pub history: History,
    /// A snapshot that no crash of Postgres takes back, and all of whose rows
    /// have been offered to the streams that were open.
    pub watermark: Arc<Snapshot>,
    /// The epochs of this database, the current one last.
    pub epochs: Epochs,
}

impl Horizon {
    /// The cursor of a client that comes without one.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.epochs.current(), Arc::clone(&self.watermark))
    }

    /// Brings a cursor of any age into the current epoch.
    ///
    /// # Errors
    ///
    /// When it is of no epoch that is known here, or of one whose transaction
    /// numbers mean nothing any more.
    pub fn adopt(&self, cursor: &mut Cursor) -> Result<(), Resync> {
        if self.is_of_epoch(cursor) {
            return Ok(());
        }
        let first = self.epochs.first_since(cursor.epoch()).ok_or(Resync::Foreign)?;
        cursor.clamp(self.epochs.current(), first);
        Ok(())
    }

    /// Whether the cursor speaks of the current epoch's transactions.
    pub fn is_of_epoch(&self, cursor: &Cursor) -> bool {
        cursor.epoch() == self.epochs.current()
    }
}

/// Which cluster, and which line of its history: a promotion and a restore to a
/// point in time begin a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The cluster's system identifier.
    pub system: i64,
    /// The timeline, as the names of WAL files have it.
    pub timeline: String,
}

/// Stretches of time in which transaction numbers only went up. A failover, a
/// restore to a point in time or pg_upgrade starts another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs(Arc<[Epoch]>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number; they go up by any step.
    pub number: u32,
    /// Transactions from this one on are others than the epochs before knew by
    /// that number. `None`: no older cursor means anything here.
    pub first: Option<u64>,
}

impl Epochs {
    /// The epochs in ascending order, the current one last.
    pub fn new(epochs: Vec<Epoch>) -> Self {
        Self(epochs.into())
    }

    /// Whether there has been an epoch of this number.
    pub fn include(&self, number: u32) -> bool {
        self.0.iter().any(|epoch| epoch.number == number)
    }

    /// The number of the current one; 0 before there is any.
    pub fn current(&self) -> u32 {
        self.0.last().map_or(0, |epoch| epoch.number)
    }

    /// The least transaction that was given out anew since epoch `number`.
    fn first_since(&self, number: u32) -> Option<u64> {
        let place = self.0.iter().position(|epoch| epoch.number == number)?;
        self.0[place + 1..]
            .iter()
            .map(|epoch| epoch.first)
            .try_fold(u64::MAX, |least, first| first.map(|first| least.min(first)))
    }
}

/// Why a client has to fetch its list again: `resync`'s `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resync {
    /// Not a cursor of ours, or a damaged one.
    Malformed,
    /// From another database, or from what this one does not know.
    Foreign,
    /// From a time this database has not reached: it was set back.
    Future,
    /// More rows since than a reconnect replays.
    TooFarBack,
}

impl Resync {
    /// The reason as the client sees it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_cursor",
            Self::Foreign => "foreign_cursor",
            Self::Future => "cursor_from_the_future",
            Self::TooFarBack => "too_far_back",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::RowKey;

    fn horizon(epochs: &[(u32, Option<u64>)]) -> Horizon {
        let epochs = epochs.iter().map(|&(number, first)| Epoch { number, first }).collect();
        Horizon {
            history: History::default(),
            watermark: Arc::new("200:200:".parse().unwrap()),
            epochs: Epochs::new(epochs),
        }
    }

    fn cursor(epoch: u32) -> Cursor {
        Cursor::new(epoch, Arc::new("150:150:".parse().unwrap()))
    }

    fn row(xact: u64) -> RowKey {
        RowKey { xact, seq: 1 }
    }

    #[test]
    fn an_older_cursor_loses_what_was_given_out_anew_and_nothing_else() {
        let horizon = horizon(&[(1, None), (2, Some(120)), (3, Some(140))]);
        let mut of_one = cursor(1);
        assert_eq!(horizon.adopt(&mut of_one), Ok(()));
        assert_eq!(of_one.epoch(), 3);
        assert!(of_one.covers(row(119)) && !of_one.covers(row(120)));
        let mut of_two = cursor(2);
        assert_eq!(horizon.adopt(&mut of_two), Ok(()));
        assert!(of_two.covers(row(139)) && !of_two.covers(row(140)));
        let mut of_three = cursor(3);
        assert_eq!(horizon.adopt(&mut of_three), Ok(()));
        assert!(of_three.covers(row(149)));
    }

    #[test]
    fn a_cursor_of_an_unknown_epoch_or_from_before_a_restore_is_foreign() {
        let restored = horizon(&[(1, None), (2, None), (3, Some(140))]);
        assert_eq!(restored.adopt(&mut cursor(1)), Err(Resync::Foreign));
        assert_eq!(restored.adopt(&mut cursor(2)), Ok(()));
        assert_eq!(restored.adopt(&mut cursor(4)), Err(Resync::Foreign));
    }
}
