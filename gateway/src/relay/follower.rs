//! What an edge makes of the batches that it hears. Pure.

use std::sync::Arc;

use super::{Batch, Link, Told};
use crate::{
    horizon::{Epochs, Horizon},
    hub::Audience,
};

/// Tells its audience what a source has told.
pub struct Follower<A> {
    audience: Arc<A>,
    last: Option<Link>,
}

/// What a batch was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// What follows what was heard before.
    Next,
    /// Something between them was not heard, so everybody reads the log.
    Gap,
    /// What was heard before.
    Again,
}

/// The source speaks of an epoch that is not known here: the edge has to ask the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source follows another database, or another epoch of it, than DATABASE_URL says")]
pub struct UnknownEpoch;

/// How the source's epoch stands to the one here.
enum Epoch {
    Same,
    /// The database has begun another since, and the source does not know yet.
    Older,
    /// The source says which.
    Newer(Epochs),
}

impl<A: Audience> Follower<A> {
    /// One that has heard nothing yet.
    pub fn new(audience: Arc<A>) -> Self {
        Self { audience, last: None }
    }

    /// Something has come that cannot be read.
    pub fn miss(&mut self) {
        self.last = None;
    }

    /// Takes a batch.
    ///
    /// # Errors
    ///
    /// See [`UnknownEpoch`]. What comes next is a gap then.
    pub fn take(&mut self, batch: Batch) -> Result<Heard, UnknownEpoch> {
        let is_again =
            |last: Link| last.lead == batch.link.lead && last.number >= batch.link.number;
        if self.last.is_some_and(is_again) {
            return Ok(Heard::Again);
        }
        let heard = match self.last.replace(batch.link) {
            Some(last) if batch.after == Some(last) => Heard::Next,
            _ => Heard::Gap,
        };
        // Before any watermark that comes after it: what was not heard was committed by now, so
        // who reads the log from now on finds it there.
        if heard == Heard::Gap {
            self.audience.lose_all();
        }
        let is_lost = batch.is_lost || batch.begins.is_some();
        match self.epoch(batch.epoch, batch.begins) {
            Ok(Epoch::Same) => {}
            // Of transactions that had ended when everybody was last sent to the log.
            Ok(Epoch::Older) => return Ok(heard),
            Ok(Epoch::Newer(epochs)) => {
                let watermark = Arc::new(batch.watermark.clone());
                self.audience.begin_epoch(Horizon { watermark, epochs });
            }
            Err(unknown) => {
                self.last = None;
                return Err(unknown);
            }
        }
        if is_lost {
            self.audience.lose_all();
        }
        for told in batch.told {
            match told {
                Told::Row(user, row) => self.audience.publish(&user, || row),
                Told::Lost(user) => self.audience.lose(&user),
            }
        }
        // An edge that has swept for itself may be further.
        if batch.watermark.contains(&self.audience.horizon().watermark) {
            self.audience.advance(Arc::new(batch.watermark));
        }
        Ok(heard)
    }

    fn epoch(&self, number: u32, begins: Option<Epochs>) -> Result<Epoch, UnknownEpoch> {
        let here = self.audience.horizon();
        if here.epochs.current() == number {
            return Ok(Epoch::Same);
        }
        if here.epochs.know(number) {
            return Ok(Epoch::Older);
        }
        let begins = begins.filter(|epochs| epochs.know(here.epochs.current()));
        begins.map(Epoch::Newer).ok_or(UnknownEpoch)
    }
}
