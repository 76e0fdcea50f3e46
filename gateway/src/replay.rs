//! Pages of the table for streams that are behind, many streams to a query.
//!
//! A storm of reconnects is a few queries: while one is on its way the others
//! gather for the next. Before the pool stands a circuit breaker: a database
//! that fails or crawls is asked by one query at a time, and less and less
//! often, while the streams wait where they are.

mod breaker;
mod queue;

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

pub use queue::{PendingPage, Replays};

use crate::{
    cursor::{Cursor, Snapshot},
    error::chain,
    feed::Page,
    health::Health,
    horizon::{Horizon, Resync},
    hub::Hub,
    metrics::Metrics,
    store::{PageRequest, PageRow, PageRows, Pages, Store, StoreError, Transaction},
};
use breaker::Breaker;
use queue::Request;

/// Time between the starts of two queries while there are streams waiting: what
/// makes a storm of thousands a matter of dozens.
const PACE: Duration = Duration::from_millis(10);

/// The answer to a stream: a page, or the reason why there is none.
pub type Answer = Result<Page, Resync>;

/// Answers the requests.
pub struct Replayer<S> {
    /// What is asked for.
    pub replays: Arc<Replays>,
    /// Where the table is.
    pub store: S,
    /// Whose watermark the pages go by.
    pub hub: Arc<Hub>,
    /// Learns whether the table can be read.
    pub health: Arc<Health>,
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
    /// How many queries may be on their way at once.
    pub concurrency: usize,
}

impl<S: Store> Replayer<S> {
    /// Answers, for as long as it is polled.
    pub async fn run(self) -> Infallible {
        let worker = Worker {
            permits: Semaphore::new(self.concurrency),
            replayer: self,
            breaker: Breaker::default(),
        };
        let mut queries = FuturesUnordered::new();
        let mut gathering = pin!(worker.gather());
        loop {
            tokio::select! {
                biased;
                Some(()) = queries.next() => {}
                (permit, batch) = &mut gathering => {
                    queries.push(worker.answer(batch, permit));
                    gathering.set(worker.gather());
                }
            }
        }
    }
}

struct Worker<S> {
    replayer: Replayer<S>,
    permits: Semaphore,
    breaker: Breaker,
}

impl<S: Store> Worker<S> {
    /// The requests for the next query, and the right to make it.
    async fn gather(&self) -> (SemaphorePermit<'_>, Vec<Request>) {
        tokio::time::sleep(PACE).await;
        loop {
            self.breaker.closed(&self.permits, self.replayer.concurrency).await;
            // The semaphore is never closed.
            let Ok(permit) = self.permits.acquire().await else { std::future::pending().await };
            let probing = async {
                let is_open = self.breaker.is_open();
                if is_open { self.probe().await } else { std::future::pending().await }
            };
            tokio::select! {
                biased;
                batch = self.replayer.replays.next_batch() => {
                    if !self.breaker.is_waiting() {
                        return (permit, batch);
                    }
                    // It opened while nobody asked for anything.
                    self.replayer.replays.give_back(batch);
                }
                // Nobody waits for a page: without a try the outage would seem to last.
                () = probing => {}
            }
        }
    }

    async fn answer(&self, batch: Vec<Request>, _permit: SemaphorePermit<'_>) {
        let Replayer { replays, metrics, .. } = &self.replayer;
        let began = Instant::now();
        let answers = match self.read(&batch).await {
            Ok(answers) => answers,
            Err(error) => return self.failed(batch, &error),
        };
        self.succeeded();
        metrics.replayed(began.elapsed());
        for (request, answer) in batch.into_iter().zip(answers) {
            match answer {
                Reply::Now(answer) => {
                    if let Ok(page) = &answer {
                        request.span.record("rows", page.rows.len());
                    }
                    // A stream that has gone meanwhile needs no page.
                    drop(request.answer.send(answer));
                }
                Reply::NextQuery => replays.give_back([request]),
            }
        }
    }

    fn succeeded(&self) {
        if self.breaker.succeeded() {
            tracing::info!("replays go on");
            self.replayer.health.replays_work();
            self.replayer.replays.forgive();
        }
    }

    fn failed(&self, mut batch: Vec<Request>, error: &StoreError) {
        self.open(error);
        if error.is_slow() {
            // Perhaps one of them is the cause: they are tried in smaller company.
            batch.iter_mut().for_each(|request| request.failures += 1);
            match <[Request; 1]>::try_from(batch) {
                Ok([alone]) => return self.replayer.replays.postpone(alone),
                Err(together) => batch = together,
            }
        }
        // The breaker spaces the attempts; the streams wait for nothing else.
        self.replayer.replays.give_back(batch);
    }

    fn open(&self, error: &StoreError) {
        if self.breaker.failed() {
            tracing::warn!(error = chain(error), "replays wait for the database");
            self.replayer.health.replays_fail(format!("replays wait: {}", chain(error)));
        }
    }

    /// Finds out whether pages can be read again.
    async fn probe(&self) {
        match self.read_nothing().await {
            Ok(()) => self.succeeded(),
            Err(error) => self.open(&error),
        }
    }

    async fn read_nothing(&self) -> Result<(), StoreError> {
        let mut transaction = self.replayer.store.snapshot().await?;
        transaction.pages(&[]).await?;
        transaction.commit().await
    }

    async fn read(&self, batch: &[Request]) -> Result<Vec<Reply>, StoreError> {
        let Replayer { store, hub, metrics, .. } = &self.replayer;
        // Before anything is read: what it sees is in the pages.
        let horizon = hub.horizon();
        let mut transaction = store.snapshot().await?;
        let standing = transaction.standing().await?;
        if standing.epoch != horizon.epochs.current() {
            // The sweep finds it as well, and begins the epoch.
            hub.requests.ask();
            return Err(StoreError::OtherEpoch);
        }
        let mut readings = Vec::with_capacity(batch.len());
        for request in batch {
            let mut cursor = request.cursor.clone();
            let mut refused = horizon.adopt(&mut cursor).err();
            if refused.is_none() && !standing.snapshot.contains(cursor.snapshot()) {
                // A cursor of ours is contained in every later snapshot.
                refused = Some(Resync::Future);
            }
            readings.push(Reading { request, cursor, refused, page: None });
        }
        self.read_pages(&mut transaction, &mut readings).await?;
        self.refuse_the_long(&mut transaction, &mut readings).await?;
        transaction.commit().await?;
        let seen = Arc::new(standing.snapshot);
        Ok(readings.into_iter().map(|reading| reading.reply(&horizon, &seen, metrics)).collect())
    }

    async fn read_pages(
        &self,
        transaction: &mut S::Transaction,
        readings: &mut [Reading<'_>],
    ) -> Result<(), StoreError> {
        let requests: Vec<PageRequest<'_>> =
            readings.iter().filter(|r| r.is_readable()).map(Reading::page_request).collect();
        if requests.is_empty() {
            return Ok(());
        }
        let Pages { pages, pruned_below } = transaction.pages(&requests).await?;
        self.replayer.metrics.replay_query();
        for (reading, page) in readings.iter_mut().filter(|r| r.is_readable()).zip(pages) {
            reading.page = page;
            if pruned_below.is_some_and(|below| !reading.cursor.snapshot().sees_all_below(below)) {
                reading.refused = Some(Resync::TooFarBack);
            }
        }
        Ok(())
    }

    /// Counts, only where a page was not enough, and refuses what is too much.
    async fn refuse_the_long(
        &self,
        transaction: &mut S::Transaction,
        readings: &mut [Reading<'_>],
    ) -> Result<(), StoreError> {
        // It is one setting: all that have a limit have the same.
        let Some(limit) = readings.iter().find_map(|reading| reading.request.limit) else {
            return Ok(());
        };
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let rows = |reading: &Reading<'_>| reading.page.as_ref().map_or(0, |page| page.rows.len());
        let limited = readings.iter_mut().filter(|reading| reading.request.limit.is_some());
        for reading in limited.filter(|reading| rows(reading) > most) {
            reading.refused = Some(Resync::TooFarBack);
        }
        let is_long = |reading: &Reading<'_>| {
            let more = reading.page.as_ref().is_some_and(|page| page.more);
            more && reading.request.limit.is_some() && reading.refused.is_none()
        };
        let requests: Vec<PageRequest<'_>> =
            readings.iter().filter(|r| is_long(r)).map(Reading::page_request).collect();
        if requests.is_empty() {
            return Ok(());
        }
        let exceed = transaction.exceed(&requests, limit).await?;
        self.replayer.metrics.replay_query();
        for (reading, exceeds) in readings.iter_mut().filter(|r| is_long(r)).zip(exceed) {
            reading.refused = exceeds.then_some(Resync::TooFarBack);
        }
        Ok(())
    }
}

/// What becomes of a request.
enum Reply {
    /// It is answered.
    Now(Answer),
    /// The answer of this query was full before it came to its rows.
    NextQuery,
}

/// A request on its way to its answer.
struct Reading<'a> {
    request: &'a Request,
    /// The request's cursor in the current epoch.
    cursor: Cursor,
    refused: Option<Resync>,
    page: Option<PageRows>,
}

impl Reading<'_> {
    fn is_readable(&self) -> bool {
        self.refused.is_none()
    }

    fn page_request(&self) -> PageRequest<'_> {
        PageRequest { user: &self.request.user, cursor: &self.cursor }
    }

    fn reply(self, horizon: &Arc<Horizon>, seen: &Arc<Snapshot>, metrics: &Metrics) -> Reply {
        if let Some(reason) = self.refused {
            return Reply::Now(Err(reason));
        }
        let Some(PageRows { rows, more }) = self.page else { return Reply::NextQuery };
        metrics.replay_rows(rows.len());
        let told = |page: PageRow| (page.row.key, page.is_told().then_some(page.row));
        let rows = rows.into_iter().map(told).collect();
        let (horizon, seen) = (Arc::clone(horizon), Arc::clone(seen));
        Reply::Now(Ok(Page { horizon, rows, seen, complete: !more }))
    }
}
