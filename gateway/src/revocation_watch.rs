//! Reads the table of revocations, on a connection of its own: a table of the
//! application that is locked, and a replay that runs, hold it up as little as
//! the sweep.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    error::{Outage, chain},
    health::Health,
    hub::Hub,
    looks::Looks,
    postgres::store::{PostgresStore, RevocationsMark, RevocationsRead},
    revocation::Revocations,
    store::{Store as _, StoreError, Transaction as _},
};

/// The longest time between two looks while streams are open. A revocation ends
/// them within a second, the look itself included.
const MAX_INTERVAL: Duration = Duration::from_millis(500);

/// The least time between two looks, however many clients ask for one.
const MIN_INTERVAL: Duration = Duration::from_millis(5);

/// While nobody is connected, and the database does not answer, looks are this
/// many times as far apart.
const IDLE_FACTOR: u32 = 10;

/// How often the whole table is read, in sweeps and at the least: it finds rows
/// that were deleted or changed, within a minute as is promised.
const WHOLE_SWEEPS: u32 = 45;
const MAX_WHOLE_INTERVAL: Duration = Duration::from_secs(45);

/// Watches the table.
pub struct RevocationWatch {
    /// Where the table is.
    pub store: PostgresStore,
    /// Where they are known.
    pub revocations: Arc<Revocations>,
    /// Whose streams end.
    pub hub: Arc<Hub>,
    /// Who waits for a look.
    pub looks: Arc<Looks>,
    /// Learns whether the table can be read.
    pub health: Arc<Health>,
    /// Time between two sweeps: looks are at least as often.
    pub sweep_interval: Duration,
}

impl RevocationWatch {
    /// Looks, and looks again.
    pub async fn run(self) -> Infallible {
        let mut mark: Option<RevocationsMark> = None;
        let mut whole_at = Instant::now();
        let mut outage = Outage::default();
        let whole_interval = (self.sweep_interval * WHOLE_SWEEPS).min(MAX_WHOLE_INTERVAL);
        loop {
            let began = Instant::now();
            // A failure forgets what was read: the server may have crashed, and
            // give out transaction numbers again.
            let since = mark.take().filter(|_| whole_at.elapsed() < whole_interval);
            let read = self.read(since.as_ref()).await;
            let is_failing = read.is_err();
            match read {
                Ok(read) => {
                    self.apply(&read);
                    if read.is_whole {
                        whole_at = began;
                    }
                    mark = Some(read.mark);
                    outage.ends();
                    self.health.revocations_are_known();
                }
                Err(error) => {
                    let error = chain(&error);
                    if outage.is_new(&error) {
                        tracing::warn!(error, "the revocations cannot be read");
                    }
                    self.health.revocations_fail(format!("revocations cannot be read: {error}"));
                }
            }
            self.looks.ended(began, !is_failing);
            self.rest(began, is_failing).await;
        }
    }

    async fn read(&self, since: Option<&RevocationsMark>) -> Result<RevocationsRead, StoreError> {
        let mut transaction = self.store.begin().await?;
        let read = transaction.revocations(since).await?;
        transaction.commit().await?;
        Ok(read)
    }

    fn apply(&self, read: &RevocationsRead) {
        // Known first and ended then: a stream that is opened in between is
        // refused by the one or ended by the other.
        let news = if read.is_whole {
            self.revocations.replace(&read.found)
        } else {
            read.found.iter().filter(|found| self.revocations.add(found)).cloned().collect()
        };
        for revocation in news {
            self.hub.revoke(&revocation);
        }
    }

    async fn rest(&self, began: Instant, is_failing: bool) {
        let interval = self.sweep_interval.min(MAX_INTERVAL);
        let longest = || match (self.hub.is_empty(), is_failing) {
            (false, _) => Some(interval),
            (true, true) => Some(interval * IDLE_FACTOR),
            // Nobody is connected: the first who comes asks for a look.
            (true, false) => None,
        };
        tokio::select! {
            () = self.hub.requests.rest(longest) => {}
            // Not while it fails: each client that comes then would be an attempt.
            () = self.looks.wanted(), if !is_failing => {
                tokio::time::sleep(MIN_INTERVAL.saturating_sub(began.elapsed())).await;
            }
        }
    }
}
