//! Pages of the table for streams that are behind, many streams to a query.
//!
//! A storm of reconnects is a few queries: while one is on its way the others
//! gather for the next. Before the pool stands a circuit breaker: a database
//! that fails or crawls is asked by one query at a time, and less and less
//! often, while the streams wait where they are.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore, oneshot};

use crate::{
    cursor::Cursor,
    error::chain,
    feed::Page,
    health::Health,
    horizon::{Epochs, Horizon, Resync},
    hub::Hub,
    metrics::Metrics,
    notification::UserId,
    postgres::store::{PageRequest, PageRows, Session, Store, StoreError},
};

/// Streams served by one query.
const MAX_BATCH: usize = 256;

/// Time between the starts of two queries while there are streams waiting: what
/// makes a storm of thousands a matter of dozens.
const PACE: Duration = Duration::from_millis(10);

/// The breaker's wait after the first failure, doubled with each further one.
const BREAK_MIN: Duration = Duration::from_millis(200);
const BREAK_MAX: Duration = Duration::from_secs(10);

/// The longest wait of a wish that fails by itself, whatever others do.
const POSTPONE_MAX: Duration = Duration::from_secs(60);

/// What streams ask for pages. Bounded by the number of streams: each has one
/// wish at a time, and one whose stream is gone is dropped.
#[derive(Default)]
pub struct Replays {
    waiting: Mutex<VecDeque<Wish>>,
    wished: Notify,
}

/// The answer to a stream: a page, or the reason why there is none.
pub type Answer = Result<Page, Resync>;

struct Wish {
    user: UserId,
    cursor: Cursor,
    limit: Option<u32>,
    /// How many statements it was a part of have failed.
    failures: u32,
    answer: oneshot::Sender<Answer>,
}

impl Replays {
    /// Asks for the next page of `user` beyond `cursor`. With a `limit`, more
    /// rows than that are answered [`Resync::TooFarBack`].
    pub fn wish(
        &self,
        user: UserId,
        cursor: Cursor,
        limit: Option<u32>,
    ) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        self.lock().push_back(Wish { user, cursor, limit, failures: 0, answer });
        self.wished.notify_one();
        answered
    }

    async fn next_batch(&self) -> Vec<Wish> {
        loop {
            let batch = self.take_batch();
            if !batch.is_empty() {
                return batch;
            }
            self.wished.notified().await;
        }
    }

    /// Empty only if nobody waits.
    fn take_batch(&self) -> Vec<Wish> {
        let mut waiting = self.lock();
        let mut batch: Vec<Wish> = Vec::new();
        while let Some(wish) = waiting.pop_front() {
            if wish.answer.is_closed() {
                continue;
            }
            // What failed together is tried in ever smaller company.
            let size =
                batch.iter().chain([&wish]).map(|wish| MAX_BATCH >> wish.failures.min(8)).min();
            if batch.len() >= size.unwrap_or(1) {
                waiting.push_front(wish);
                break;
            }
            batch.push(wish);
        }
        batch
    }

    fn give_back(&self, batch: Vec<Wish>) {
        let mut waiting = self.lock();
        for wish in batch.into_iter().rev() {
            waiting.push_front(wish);
        }
        self.wished.notify_one();
    }

    /// Gives a wish back that fails by itself, after a while of its own.
    fn postpone(self: &Arc<Self>, wish: Wish) {
        let wait = backoff(wish.failures, POSTPONE_MAX);
        let replays = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            replays.lock().push_back(wish);
            replays.wished.notify_one();
        });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Wish>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Grants the wishes.
pub struct Replayer {
    /// What is asked for.
    pub replays: Arc<Replays>,
    /// Where the table is.
    pub store: Arc<Store>,
    /// Whose watermark the pages go by.
    pub hub: Arc<Hub>,
    /// Learns whether the table can be read.
    pub health: Arc<Health>,
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
    /// How many queries may be on their way at once.
    pub concurrency: usize,
}

impl Replayer {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let permits = Arc::new(Semaphore::new(self.concurrency));
        let breaker = Arc::new(Breaker::default());
        let this = Arc::new(self);
        loop {
            let began = Instant::now();
            breaker.closed(&permits, this.concurrency).await;
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let batch = this.replays.next_batch().await;
            let (this, breaker) = (Arc::clone(&this), Arc::clone(&breaker));
            tokio::spawn(async move {
                this.grant(batch, &breaker).await;
                drop(permit);
            });
            tokio::time::sleep(PACE.saturating_sub(began.elapsed())).await;
        }
    }

    async fn grant(&self, batch: Vec<Wish>, breaker: &Breaker) {
        let began = Instant::now();
        match self.read(&batch).await {
            Ok(answers) => {
                if breaker.succeeded() {
                    self.health.replays_work();
                }
                self.metrics.replayed(began.elapsed());
                for (wish, answer) in batch.into_iter().zip(answers) {
                    match answer {
                        // A stream that has gone meanwhile needs no page.
                        Some(answer) => drop(wish.answer.send(answer)),
                        None => self.fail(vec![wish]),
                    }
                }
            }
            // The database is there: one of them is at fault, and the others
            // must not wait for it.
            Err(error) if error.is_of_statement() => {
                tracing::warn!(error = chain(&error), streams = batch.len(), "a replay failed");
                self.fail(batch);
            }
            Err(error) => {
                if breaker.failed(&error) {
                    self.health.replays_fail(format!("replays wait: {}", chain(&error)));
                }
                self.replays.give_back(batch);
            }
        }
    }

    fn fail(&self, mut batch: Vec<Wish>) {
        for wish in &mut batch {
            wish.failures += 1;
        }
        match <[Wish; 1]>::try_from(batch) {
            Ok([alone]) => self.replays.postpone(alone),
            Err(together) => self.replays.give_back(together),
        }
    }

    /// An answer for each wish; none for one that has to wait for the beat.
    async fn read(&self, batch: &[Wish]) -> Result<Vec<Option<Answer>>, StoreError> {
        // Before anything is read: what it sees is in the pages.
        let horizon = self.hub.horizon();
        let mut session = self.store.session().await?;
        let standing = session.standing().await?;
        if standing.history != horizon.history {
            // The beat finds it as well, and begins the epoch.
            self.hub.sweep_wanted.notify_one();
            return Err(StoreError::OtherHistory);
        }
        let mut news: Option<Epochs> = None;
        let mut readings = Vec::with_capacity(batch.len());
        for wish in batch {
            let mut cursor = wish.cursor.clone();
            let mut refused = horizon.adopt(&mut cursor).err();
            if refused.is_some() && !horizon.epochs.include(cursor.epoch()) {
                // Another gateway may have begun an epoch that is news here.
                if news.is_none() {
                    news = Some(session.list_epochs().await?);
                }
                if news.as_ref().is_some_and(|news| news.include(cursor.epoch())) {
                    self.hub.want_epochs();
                    readings.push(None);
                    continue;
                }
            }
            // A cursor of ours is contained in every later snapshot.
            if refused.is_none() && !standing.snapshot.contains(cursor.snapshot()) {
                refused = Some(Resync::Future);
            }
            readings.push(Some(Reading { wish, cursor, refused, page: PageRows::default() }));
        }
        self.read_pages(&mut session, &mut readings).await?;
        self.refuse_the_long(&mut session, &mut readings).await?;
        let answer = |reading: Reading<'_>| reading.answer(&horizon, &self.metrics);
        Ok(readings.into_iter().map(|reading| reading.map(answer)).collect())
    }

    async fn read_pages(
        &self,
        session: &mut Session<'_>,
        readings: &mut [Option<Reading<'_>>],
    ) -> Result<(), StoreError> {
        let readable = |reading: &Reading<'_>| reading.refused.is_none();
        let requests: Vec<PageRequest<'_>> =
            readings.iter().flatten().filter(|r| readable(r)).map(Reading::request).collect();
        if requests.is_empty() {
            return Ok(());
        }
        let pages = session.pages(&requests).await?;
        self.metrics.replay_query();
        for (reading, page) in readings.iter_mut().flatten().filter(|r| readable(r)).zip(pages) {
            reading.page = page;
        }
        Ok(())
    }

    /// Counts, only where a page was not enough, and refuses what is too much.
    async fn refuse_the_long(
        &self,
        session: &mut Session<'_>,
        readings: &mut [Option<Reading<'_>>],
    ) -> Result<(), StoreError> {
        // One setting: whoever has a limit has the same.
        let Some(limit) = readings.iter().flatten().find_map(|reading| reading.wish.limit) else {
            return Ok(());
        };
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let limited = readings.iter_mut().flatten().filter(|reading| reading.wish.limit.is_some());
        for reading in limited.filter(|reading| reading.page.rows.len() > most) {
            reading.refused = Some(Resync::TooFarBack);
        }
        let is_long = |reading: &Reading<'_>| {
            reading.page.more && reading.wish.limit.is_some() && reading.refused.is_none()
        };
        let requests: Vec<PageRequest<'_>> =
            readings.iter().flatten().filter(|r| is_long(r)).map(Reading::request).collect();
        if requests.is_empty() {
            return Ok(());
        }
        let exceed = session.exceed(&requests, limit).await?;
        self.metrics.replay_query();
        for (reading, exceeds) in readings.iter_mut().flatten().filter(|r| is_long(r)).zip(exceed) {
            reading.refused = exceeds.then_some(Resync::TooFarBack);
        }
        Ok(())
    }
}

/// A wish on its way to its answer.
struct Reading<'a> {
    wish: &'a Wish,
    /// The wish's cursor in the current epoch.
    cursor: Cursor,
    refused: Option<Resync>,
    page: PageRows,
}

impl Reading<'_> {
    fn request(&self) -> PageRequest<'_> {
        PageRequest { user: self.wish.user, cursor: &self.cursor }
    }

    fn answer(self, horizon: &Arc<Horizon>, metrics: &Metrics) -> Answer {
        if let Some(reason) = self.refused {
            return Err(reason);
        }
        metrics.replay_rows(self.page.rows.len());
        let complete = !self.page.more;
        Ok(Page { horizon: Arc::clone(horizon), rows: self.page.rows, complete })
    }
}

/// Open after a failure: for a while no query, then one at a time, until one
/// succeeds.
#[derive(Default)]
struct Breaker {
    state: Mutex<BreakerState>,
}

#[derive(Default)]
struct BreakerState {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Waits until a query may be made. While the breaker is not closed, that
    /// is when no other is on its way.
    async fn closed(&self, permits: &Semaphore, all: usize) {
        loop {
            let Some(open_until) = self.lock().open_until else { return };
            let wait = open_until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                let all = u32::try_from(all).unwrap_or(u32::MAX);
                // Not kept: what follows takes its own, and nothing else does.
                let _idle = permits.acquire_many(all).await;
                let state = self.lock();
                if state.open_until.is_none_or(|until| until <= Instant::now()) {
                    return;
                }
                continue;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether it was open.
    fn succeeded(&self) -> bool {
        let mut state = self.lock();
        let was_open = state.failures > 0;
        if was_open {
            tracing::info!("replays go on");
        }
        *state = BreakerState::default();
        was_open
    }

    /// Whether it was closed.
    fn failed(&self, error: &StoreError) -> bool {
        let mut state = self.lock();
        let was_closed = state.failures == 0;
        if was_closed {
            tracing::warn!(error = chain(error), "replays wait for the database");
        }
        let wait = backoff(state.failures, BREAK_MAX);
        state.failures = state.failures.saturating_add(1);
        state.open_until = Some(Instant::now() + wait);
        was_closed
    }

    fn lock(&self) -> MutexGuard<'_, BreakerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Doubled with each failure, and jittered: what failed together does not come
/// back together.
fn backoff(failures: u32, longest: Duration) -> Duration {
    let doubled = BREAK_MIN.saturating_mul(1 << failures.min(10));
    doubled.min(longest).mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Snapshot;

    fn wish(replays: &Replays) -> oneshot::Receiver<Answer> {
        let cursor = Cursor::new(1, Arc::new(Snapshot::empty()));
        replays.wish(UserId(uuid::Uuid::nil()), cursor, None)
    }

    #[tokio::test]
    async fn a_wish_is_found_behind_any_number_of_streams_that_have_gone() {
        let replays = Replays::default();
        for _ in 0..3 * MAX_BATCH {
            drop(wish(&replays));
        }
        let _waiting = wish(&replays);
        assert_eq!(replays.next_batch().await.len(), 1);
    }

    #[test]
    fn what_failed_together_is_tried_in_ever_smaller_company() {
        let replays = Replays::default();
        let _waiting: Vec<_> = (0..MAX_BATCH).map(|_| wish(&replays)).collect();
        for failures in 1..=8 {
            let mut batch = replays.take_batch();
            batch.iter_mut().for_each(|wish| wish.failures = failures);
            replays.give_back(batch);
        }
        assert_eq!(replays.take_batch().len(), 1);
    }
}
