//! How far everything has been offered: the watermark, and the epoch whose
//! transaction numbers it speaks of.

use std::sync::Arc;

use crate::cursor::{Cursor, Snapshot};

/// What every cursor that leaves the gateway is measured by.
#[derive(Clone, Debug)]
pub struct Horizon {
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
        for epoch in self.epochs.since(cursor.epoch()).ok_or(Resync::Foreign)? {
            epoch.adopt(cursor)?;
        }
        Ok(())
    }

    /// Whether the cursor speaks of the current epoch's transactions.
    pub fn is_of_epoch(&self, cursor: &Cursor) -> bool {
        cursor.epoch() == self.epochs.current()
    }
}

/// The epochs of a database, in their order. Each is a life of a server, in which
/// transaction numbers only went up: it begins with each start, each recovery from a
/// crash and each promotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs(Arc<[Epoch]>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number: any but 0, and another for each.
    pub number: u32,
    /// Transactions from this one on may be others than the epochs before knew by
    /// that number. `None`: no older cursor means anything here.
    pub first: Option<u64>,
    /// Whether it began with a restart of the same server, which has all rows that were
    /// committed, each in its place.
    pub is_restart: bool,
}

impl Epoch {
    /// Brings a cursor of the epoch before into this one.
    fn adopt(&self, cursor: &mut Cursor) -> Result<(), Resync> {
        let first = self.first.ok_or(Resync::Foreign)?;
        // Rows that were delivered before the flush that follows them are beyond `first`,
        // and are still there. But a snapshot beyond it is of a future that this database
        // has not had, and what comes with such a one is not to be believed either: the
        // data directory was set back.
        if self.is_restart && cursor.snapshot().xmax() <= first {
            cursor.enter(self.number);
        } else {
            cursor.clamp(self.number, first);
        }
        Ok(())
    }
}

impl Epochs {
    /// The epochs in their order, the current one last.
    pub fn new(epochs: Vec<Epoch>) -> Self {
        Self(epochs.into())
    }

    /// The number of the current one; 0 before there is any.
    pub fn current(&self) -> u32 {
        self.0.last().map_or(0, |epoch| epoch.number)
    }

    /// Each, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Epoch> {
        self.0.iter()
    }

    /// Whether epoch `number` is one of them.
    pub fn know(&self, number: u32) -> bool {
        self.0.iter().any(|epoch| epoch.number == number)
    }

    /// Those that came after epoch `number`; `None` when that one is not known.
    fn since(&self, number: u32) -> Option<&[Epoch]> {
        let place = self.0.iter().rposition(|epoch| epoch.number == number)?;
        Some(&self.0[place + 1..])
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
        let epochs =
            epochs.iter().map(|&(number, first)| Epoch { number, first, is_restart: false });
        Horizon {
            watermark: Arc::new("200:200:".parse().unwrap()),
            epochs: Epochs::new(epochs.collect()),
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
    fn after_a_restart_a_cursor_keeps_the_rows_beyond_the_last_flush() {
        let epochs = vec![
            Epoch { number: 7, first: None, is_restart: false },
            Epoch { number: 3, first: Some(150), is_restart: true },
        ];
        let watermark = Arc::new("200:200:".parse().unwrap());
        let horizon = Horizon { watermark, epochs: Epochs::new(epochs) };
        let mut flushed = cursor(7);
        assert!(flushed.record(row(151)));
        assert_eq!(horizon.adopt(&mut flushed), Ok(()));
        assert_eq!(flushed.epoch(), 3);
        assert!(flushed.covers(row(149)) && flushed.covers(row(151)) && !flushed.covers(row(150)));
        // Of a future that is not there any more.
        let mut beyond = Cursor::new(7, Arc::new("160:160:".parse().unwrap()));
        assert!(beyond.record(row(161)));
        assert_eq!(horizon.adopt(&mut beyond), Ok(()));
        assert!(beyond.covers(row(149)) && !beyond.covers(row(150)) && !beyond.covers(row(161)));
    }

    #[test]
    fn a_cursor_of_an_unknown_epoch_or_from_before_a_restore_is_foreign() {
        let restored = horizon(&[(1, None), (2, None), (3, Some(140))]);
        assert_eq!(restored.adopt(&mut cursor(1)), Err(Resync::Foreign));
        assert_eq!(restored.adopt(&mut cursor(2)), Ok(()));
        assert_eq!(restored.adopt(&mut cursor(4)), Err(Resync::Foreign));
    }
}
