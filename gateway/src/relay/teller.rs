//! What a source has to tell and has not sent yet.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Batch, Link, Told};
use crate::{
    cursor::Snapshot,
    feed::Row,
    horizon::{Epochs, Horizon},
    hub::{Audience, SweepRequests},
    notification::UserId,
};

/// How much a source sends and keeps.
#[derive(Clone, Copy, Debug)]
pub struct TellerLimits {
    /// Bytes of one batch; a row that takes more is read from the log.
    pub batch: usize,
    /// Bytes that wait to be sent. Past it they are forgotten, and everybody reads the log.
    pub waiting: usize,
}

/// Edges, for a source: it keeps what they are told until it is sent.
pub struct Teller {
    requests: SweepRequests,
    limits: TellerLimits,
    untold: Mutex<Untold>,
    stirred: Notify,
}

struct Untold {
    /// Up to where all is told or waits here.
    horizon: Arc<Horizon>,
    /// Up to where all is in batches that were taken.
    sent: Arc<Snapshot>,
    begins: Option<Epochs>,
    is_lost: bool,
    told: VecDeque<Told>,
    bytes: usize,
    /// Of the next batch.
    link: Link,
    after: Option<Link>,
}

impl Teller {
    /// One that goes on behind `after`, up to which everything is told that `horizon` sees. With
    /// `None` it says nothing before an epoch begins.
    pub fn new(behind: Option<(Link, Horizon)>, lead: u64, limits: TellerLimits) -> Self {
        let nothing =
            || Horizon { watermark: Arc::new(Snapshot::empty()), epochs: Epochs::new(Vec::new()) };
        let (after, horizon) =
            behind.map_or_else(|| (None, nothing()), |(link, horizon)| (Some(link), horizon));
        let untold = Untold {
            sent: Arc::clone(&horizon.watermark),
            horizon: Arc::new(horizon),
            begins: None,
            is_lost: false,
            told: VecDeque::new(),
            bytes: 0,
            link: Link { lead, number: 0 },
            after,
        };
        let (requests, stirred) = (SweepRequests::default(), Notify::new());
        Self { requests, limits, untold: Mutex::new(untold), stirred }
    }

    /// The next batch: as soon as there is something to tell; or after `silence`, if the source
    /// `is_well`, to show that it is.
    pub async fn next(&self, silence: Duration, is_well: impl Fn() -> bool) -> Batch {
        loop {
            let stirred = self.stirred.notified();
            if let Some(batch) = self.take(false) {
                return batch;
            }
            let is_silent = tokio::time::timeout(silence, stirred).await.is_err();
            if let Some(batch) = (is_silent && is_well()).then(|| self.take(true)).flatten() {
                return batch;
            }
        }
    }

    /// A batch of what waits; `None`: nothing does, or there is no epoch yet. With `anyway` a
    /// batch may be empty.
    pub fn take(&self, anyway: bool) -> Option<Batch> {
        let mut untold = self.untold.lock();
        let untold = &mut *untold;
        let epoch = untold.horizon.epochs.current();
        let is_news = !untold.told.is_empty()
            || untold.is_lost
            || untold.begins.is_some()
            || !Arc::ptr_eq(&untold.sent, &untold.horizon.watermark);
        if epoch == 0 || !(is_news || anyway) {
            return None;
        }
        let (mut told, mut bytes) = (Vec::new(), 0);
        while let Some(next) = untold.told.front() {
            if !told.is_empty() && bytes + next.size() > self.limits.batch {
                break;
            }
            bytes += next.size();
            told.extend(untold.told.pop_front());
        }
        untold.bytes -= bytes;
        if untold.told.is_empty() {
            untold.sent = Arc::clone(&untold.horizon.watermark);
        } else {
            self.stirred.notify_one();
        }
        let link = untold.link;
        untold.link.number += 1;
        Some(Batch {
            link,
            after: untold.after.replace(link),
            epoch,
            begins: untold.begins.take(),
            is_lost: std::mem::take(&mut untold.is_lost),
            told,
            watermark: Snapshot::clone(&untold.sent),
        })
    }

    fn tell(&self, told: Told) {
        let mut untold = self.untold.lock();
        if untold.bytes + told.size() > self.limits.waiting {
            untold.lose_all();
        } else {
            untold.bytes += told.size();
            untold.told.push_back(told);
        }
        drop(untold);
        self.stirred.notify_one();
    }
}

impl Untold {
    /// Who reads the log finds there what waits here as well.
    fn lose_all(&mut self) {
        self.told.clear();
        self.bytes = 0;
        self.is_lost = true;
    }
}

impl Audience for Teller {
    fn requests(&self) -> &SweepRequests {
        &self.requests
    }

    fn horizon(&self) -> Arc<Horizon> {
        Arc::clone(&self.untold.lock().horizon)
    }

    /// It does not know who is connected to the edges.
    fn is_empty(&self) -> bool {
        false
    }

    fn wants(&self, _user: &UserId) -> bool {
        true
    }

    fn publish(&self, user: &UserId, encode: impl FnOnce() -> Row) {
        let told = Told::Row(user.clone(), encode());
        let is_large = told.size() > self.limits.batch;
        self.tell(if is_large { Told::Lost(user.clone()) } else { told });
    }

    fn lose(&self, user: &UserId) {
        self.tell(Told::Lost(user.clone()));
    }

    fn lose_all(&self) {
        self.untold.lock().lose_all();
        self.stirred.notify_one();
    }

    fn advance(&self, watermark: Arc<Snapshot>) {
        let mut untold = self.untold.lock();
        untold.horizon = Arc::new(Horizon { watermark, ..Horizon::clone(&untold.horizon) });
        drop(untold);
        self.stirred.notify_one();
    }

    fn begin_epoch(&self, horizon: Horizon) {
        let mut untold = self.untold.lock();
        untold.lose_all();
        untold.begins = Some(horizon.epochs.clone());
        // What was sent of another epoch is measured by other numbers.
        untold.sent = Arc::clone(&horizon.watermark);
        untold.horizon = Arc::new(horizon);
        drop(untold);
        self.stirred.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{cursor::RowKey, horizon::Epoch, notification::EventName};

    const ADA: UserId = UserId::uuid(Uuid::from_u128(1));

    fn horizon(watermark: &str) -> Horizon {
        let epoch = Epoch { number: 7, first: None, is_restart: false };
        Horizon { watermark: snapshot(watermark), epochs: Epochs::new(vec![epoch]) }
    }

    fn snapshot(text: &str) -> Arc<Snapshot> {
        Arc::new(text.parse().unwrap())
    }

    /// One that goes on behind link 4 of another source.
    fn teller() -> Teller {
        let behind = (Link { lead: 1, number: 4 }, horizon("3:3:"));
        Teller::new(Some(behind), 2, TellerLimits { batch: 1000, waiting: 3000 })
    }

    fn publish(teller: &Teller, xact: u64, bytes: usize) {
        let key = RowKey { xact, seq: 1 };
        let data = format!("\"{}\"", "x".repeat(bytes));
        teller.publish(&ADA, || Row::new(key, EventName::NOTIFICATION, &data));
    }

    #[test]
    fn batches_follow_each_other_and_the_source_before() {
        let teller = teller();
        assert_eq!(teller.take(false), None);
        publish(&teller, 3, 10);
        let first = teller.take(false).unwrap();
        assert_eq!(first.after, Some(Link { lead: 1, number: 4 }));
        assert_eq!(first.told.len(), 1);
        assert_eq!(teller.take(false), None, "nothing is told twice");
        let sign = teller.take(true).unwrap();
        assert_eq!((sign.after, sign.told.len()), (Some(first.link), 0));
    }

    #[test]
    fn a_watermark_is_told_with_the_last_of_the_rows_that_it_sees() {
        let teller = teller();
        for xact in 3..6 {
            publish(&teller, xact, 400);
        }
        teller.advance(snapshot("6:6:"));
        let told = |batch: Batch| (batch.told.len(), batch.watermark.to_string());
        assert_eq!(told(teller.take(false).unwrap()), (2, "3:3:".to_owned()));
        assert_eq!(told(teller.take(false).unwrap()), (1, "6:6:".to_owned()));
    }

    #[test]
    fn what_is_too_large_is_left_to_the_log() {
        let teller = teller();
        publish(&teller, 3, 1000);
        assert_eq!(teller.take(false).unwrap().told, [Told::Lost(ADA)]);
        for xact in 4..12 {
            publish(&teller, xact, 400);
        }
        let batch = teller.take(false).unwrap();
        assert!(batch.is_lost, "more waits than may");
        publish(&teller, 20, 10);
        assert!(!teller.take(false).unwrap().is_lost, "said once");
    }

    #[test]
    fn an_epoch_comes_before_what_is_told_of_it() {
        let lead = Teller::new(None, 2, TellerLimits { batch: 1000, waiting: 3000 });
        publish(&lead, 3, 10);
        assert_eq!(lead.take(true), None, "no epoch has begun yet");
        lead.begin_epoch(horizon("5:5:"));
        publish(&lead, 5, 10);
        let batch = lead.take(false).unwrap();
        assert_eq!((batch.after, batch.epoch, batch.told.len()), (None, 7, 1));
        assert!(batch.begins.is_some() && batch.is_lost);
        assert_eq!(batch.watermark.to_string(), "5:5:");
        assert!(lead.take(true).unwrap().begins.is_none());
    }
}
