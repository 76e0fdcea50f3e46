//! What an edge makes of the batches that it hears. Pure.

use std::sync::Arc;

use super::{Batch, Link, Told};
use crate::{horizon::Horizon, hub::Audience};

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

/// The source speaks of another epoch than the hub, and not of how one came after the other:
/// one of the two has to ask the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source follows another database, or another epoch of it, than DATABASE_URL says")]
pub struct OtherEpoch;

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
    /// See [`OtherEpoch`]. What comes next is a gap then.
    pub fn take(&mut self, batch: Batch) -> Result<Heard, OtherEpoch> {
        let is_again =
            |last: Link| last.lead == batch.link.lead && last.number >= batch.link.number;
        if self.last.is_some_and(is_again) {
            return Ok(Heard::Again);
        }
        let heard = match self.last.replace(batch.link) {
            Some(last) if batch.after == Some(last) => Heard::Next,
            _ => Heard::Gap,
        };
        let is_lost = batch.is_lost || batch.begins.is_some();
        let here = self.audience.horizon().epochs.clone();
        let begins = batch.begins.filter(|epochs| epochs.know(here.current()));
        if here.current() != batch.epoch && begins.is_none() {
            // Nobody is sent to the log each time that this is tried: what is heard next is a gap.
            self.last = None;
            return Err(OtherEpoch);
        }
        // Before any watermark that comes after it: what was not heard was committed by now, so
        // who reads the log from now on finds it there.
        if heard == Heard::Gap {
            self.audience.lose_all();
        }
        if let Some(epochs) = begins.filter(|_| here.current() != batch.epoch) {
            let watermark = Arc::new(batch.watermark.clone());
            self.audience.begin_epoch(Horizon { watermark, epochs });
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
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        cursor::RowKey,
        feed::Row,
        horizon::{Epoch, Epochs},
        hub::{
            Hub, HubLimits, Subscription,
            testing::{received, watermark},
        },
        notification::{EventName, UserId},
    };

    const ADA: UserId = UserId::uuid(Uuid::from_u128(1));

    fn epochs(numbers: &[u32]) -> Epochs {
        let epoch = |number: &u32| Epoch { number: *number, first: None, is_restart: true };
        Epochs::new(numbers.iter().map(epoch).collect())
    }

    /// A hub in epoch 7, a stream of Ada's, and who follows.
    fn edge() -> (Arc<Hub>, Subscription, Follower<Hub>) {
        let hub = Hub::new(HubLimits { queued_rows: 8, streams: 8, streams_per_user: 8 });
        let watermark = Arc::new("3:3:".parse().unwrap());
        hub.begin_epoch(Horizon { watermark, epochs: epochs(&[7]) });
        let ada = hub.subscribe(ADA, None).unwrap();
        (Arc::clone(&hub), ada, Follower::new(hub))
    }

    fn link(number: u64) -> Link {
        Link { lead: 1, number }
    }

    /// The batch after the one before it, with one row.
    fn batch(number: u64) -> Batch {
        let key = RowKey { xact: 3 + number, seq: 1 };
        Batch {
            link: link(number),
            after: number.checked_sub(1).map(link),
            epoch: 7,
            begins: None,
            is_lost: false,
            told: vec![Told::Row(ADA, Row::new(key, EventName::NOTIFICATION, "{}"))],
            watermark: format!("{0}:{0}:", 4 + number).parse().unwrap(),
        }
    }

    #[test]
    fn who_begins_to_follow_has_missed_what_was_before_and_then_nothing() {
        let (hub, ada, mut follower) = edge();
        assert_eq!(follower.take(batch(4)), Ok(Heard::Gap));
        assert_eq!(received(&ada), None);
        assert_eq!(follower.take(batch(5)), Ok(Heard::Next));
        assert_eq!((received(&ada), watermark(&hub)), (Some(1), "9:9:".to_owned()));
    }

    #[test]
    fn what_is_missing_between_two_batches_sends_the_streams_to_the_log() {
        let (_hub, ada, mut follower) = edge();
        follower.take(batch(0)).unwrap();
        let _lost = received(&ada);
        assert_eq!(follower.take(batch(2)), Ok(Heard::Gap));
        assert_eq!(received(&ada), None);
        // As does what cannot be read.
        follower.miss();
        assert_eq!(follower.take(batch(3)), Ok(Heard::Gap));
        // And another source that does not begin where the one before it ended.
        let stranger = Batch { link: Link { lead: 2, number: 0 }, after: None, ..batch(4) };
        assert_eq!(follower.take(stranger), Ok(Heard::Gap));
        let successor = Batch {
            link: Link { lead: 3, number: 0 },
            after: Some(Link { lead: 2, number: 0 }),
            ..batch(5)
        };
        assert_eq!(follower.take(successor), Ok(Heard::Next));
    }

    #[test]
    fn what_comes_again_is_left_out() {
        let (_hub, ada, mut follower) = edge();
        follower.take(batch(0)).unwrap();
        let _lost = received(&ada);
        follower.take(batch(1)).unwrap();
        assert_eq!(received(&ada), Some(1));
        for again in [0, 1] {
            assert_eq!(follower.take(batch(again)), Ok(Heard::Again));
        }
        assert_eq!(received(&ada), Some(0));
    }

    #[test]
    fn a_watermark_never_goes_back() {
        let (hub, _ada, mut follower) = edge();
        hub.advance(Arc::new("100:100:".parse().unwrap()));
        follower.take(batch(0)).unwrap();
        assert_eq!(watermark(&hub), "100:100:");
    }

    #[test]
    fn an_epoch_begins_when_the_source_says_how_it_came_after_the_one_here() {
        let (hub, ada, mut follower) = edge();
        follower.take(batch(0)).unwrap();
        let _lost = received(&ada);
        let other = |begins: &[u32]| Batch { epoch: 9, begins: Some(epochs(begins)), ..batch(1) };
        assert_eq!(follower.take(Batch { begins: None, ..other(&[]) }), Err(OtherEpoch));
        assert_eq!(follower.take(other(&[8, 9])), Err(OtherEpoch));
        assert_eq!(hub.horizon().epochs.current(), 7);
        assert_eq!(follower.take(other(&[7, 9])), Ok(Heard::Gap));
        assert_eq!((received(&ada), hub.horizon().epochs.current()), (None, 9));
        // A source that began it as well, behind somebody who knew.
        let again = Batch { link: link(2), after: Some(link(1)), ..other(&[7, 9]) };
        assert_eq!(follower.take(again), Ok(Heard::Next));
        assert_eq!(received(&ada), None, "what was before its watermark was not told");
    }
}
