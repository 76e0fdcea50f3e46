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

    /// The next batch: as soon as there is something to tell, or to show after `silence` that
    /// the source lives.
    pub async fn next(&self, silence: Duration) -> Batch {
        loop {
            let stirred = self.stirred.notified();
            if let Some(batch) = self.take(false) {
                return batch;
            }
            let is_silent = tokio::time::timeout(silence, stirred).await.is_err();
            if let Some(batch) = is_silent.then(|| self.take(true)).flatten() {
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
