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
    horizon::{Horizon, Resync},
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
        self.lock().push_back(Wish { user, cursor, limit, answer });
        self.wished.notify_one();
        answered
    }

    async fn next_batch(&self) -> Vec<Wish> {
        loop {
            let batch: Vec<Wish> = {
                let mut waiting = self.lock();
                let n = waiting.len().min(MAX_BATCH);
                waiting.drain(..n).filter(|wish| !wish.answer.is_closed()).collect()
            };
            if !batch.is_empty() {
                return batch;
            }
            self.wished.notified().await;
        }
    }

    fn give_back(&self, batch: Vec<Wish>) {
        let mut waiting = self.lock();
        for wish in batch.into_iter().rev() {
            waiting.push_front(wish);
        }
        self.wished.notify_one();
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
                breaker.succeeded();
                self.metrics.replayed(began.elapsed());
                for (wish, answer) in batch.into_iter().zip(answers) {
                    // A stream that has gone meanwhile needs no page.
                    let _gone = wish.answer.send(answer);
                }
            }
            Err(error) => {
                breaker.failed(&error);
                self.replays.give_back(batch);
            }
        }
    }

    /// An answer for each wish.
    async fn read(&self, batch: &[Wish]) -> Result<Vec<Answer>, StoreError> {
        // Before anything is read: what it sees is in the pages.
        let horizon = self.hub.horizon();
        let mut session = self.store.session().await?;
        let standing = session.standing().await?;
        if standing.history != horizon.history {
            // The beat finds it as well, and begins the epoch.
            self.hub.sweep_wanted.notify_one();
            return Err(StoreError::OtherHistory);
        }
        let mut readings = Vec::with_capacity(batch.len());
        for wish in batch {
            let mut cursor = wish.cursor.clone();
            let mut refused = horizon.adopt(&mut cursor).err();
            if refused.is_some() && !horizon.epochs.include(cursor.epoch()) {
                // Another gateway may have begun an epoch that is news here.
                session.expect_epochs(&horizon.epochs).await.inspect_err(|_| {
                    self.hub.sweep_wanted.notify_one();
                })?;
            }
            // A cursor of ours is contained in every later snapshot.
            if refused.is_none() && !standing.snapshot.contains(cursor.snapshot()) {
                refused = Some(Resync::Future);
            }
            readings.push(Reading { wish, cursor, refused, page: PageRows::default() });
        }
        self.read_pages(&mut session, &mut readings).await?;
        self.refuse_the_long(&mut session, &mut readings).await?;
        Ok(readings.into_iter().map(|reading| reading.answer(&horizon, &self.metrics)).collect())
    }

    async fn read_pages(
        &self,
        session: &mut Session<'_>,
        readings: &mut [Reading<'_>],
    ) -> Result<(), StoreError> {
        let readable = |reading: &Reading<'_>| reading.refused.is_none();
        let requests: Vec<PageRequest<'_>> =
            readings.iter().filter(|r| readable(r)).map(Reading::request).collect();
        let pages = session.pages(&requests).await?;
        self.metrics.replay_query();
        for (reading, page) in readings.iter_mut().filter(|r| readable(r)).zip(pages) {
            reading.page = page;
        }
        Ok(())
    }

    /// Counts, only where a page was not enough, and refuses what is too much.
    async fn refuse_the_long(
        &self,
        session: &mut Session<'_>,
        readings: &mut [Reading<'_>],
    ) -> Result<(), StoreError> {
        // One setting: whoever has a limit has the same.
        let Some(limit) = readings.iter().find_map(|reading| reading.wish.limit) else {
            return Ok(());
        };
        let is_long = |reading: &Reading<'_>| reading.page.more && reading.wish.limit.is_some();
        let requests: Vec<PageRequest<'_>> =
            readings.iter().filter(|r| is_long(r)).map(Reading::request).collect();
        if requests.is_empty() {
            return Ok(());
        }
        let exceed = session.exceed(&requests, limit).await?;
        self.metrics.replay_query();
        for (reading, exceeds) in readings.iter_mut().filter(|r| is_long(r)).zip(exceed) {
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

    fn succeeded(&self) {
        let mut state = self.lock();
        if state.failures > 0 {
            tracing::info!("replays go on");
        }
        *state = BreakerState::default();
    }

    fn failed(&self, error: &StoreError) {
        let mut state = self.lock();
        if state.failures == 0 {
            tracing::warn!(error = chain(error), "replays wait for the database");
        }
        let doubled = BREAK_MIN.saturating_mul(1 << state.failures.min(10));
        let wait = doubled.min(BREAK_MAX).mul_f64(0.5 + fastrand::f64() / 2.0);
        state.failures = state.failures.saturating_add(1);
        state.open_until = Some(Instant::now() + wait);
    }

    fn lock(&self) -> MutexGuard<'_, BreakerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
