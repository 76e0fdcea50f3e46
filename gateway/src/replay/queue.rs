//! What streams ask for, until a query answers it.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tracing::{Span, field::Empty};

use super::Answer;
use crate::{backoff::Backoff, cursor::Cursor, notification::UserId, telemetry::SPANS};

/// Streams served by one query.
pub(super) const MAX_BATCH: usize = 256;

/// Ranges of the index that one query reads. An honest cursor has one and a few
/// for the transactions that were running beside it; a forged one has a thousand,
/// and must not make a query slow that others are served by.
const MAX_BATCH_RANGES: usize = 2048;

/// The waits of a request that fails by itself, whatever others do.
const POSTPONE_MIN: Duration = Duration::from_millis(200);
const POSTPONE_MAX: Duration = Duration::from_secs(60);

/// What streams ask for. Bounded by the number of streams: each asks for one
/// page at a time, and what it asked for leaves with it.
#[derive(Default)]
pub struct Replays {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Default)]
struct State {
    /// By ticket: the oldest first.
    ready: BTreeMap<u64, Request>,
    /// Those that have failed by themselves, by when they are tried again.
    later: BTreeMap<(Instant, u64), Request>,
    /// By ticket: when those are due.
    due: HashMap<u64, Instant>,
    next_ticket: u64,
}

/// What one stream asks for.
pub(super) struct Request {
    pub(super) user: UserId,
    pub(super) cursor: Cursor,
    /// With a limit, more rows than that are refused.
    pub(super) limit: Option<u32>,
    pub(super) answer: oneshot::Sender<Answer>,
    /// How many statements it was a part of have failed.
    pub(super) failures: u32,
    /// From the asking to the answer.
    pub(super) span: Span,
    ticket: u64,
    backoff: Backoff,
}

impl Request {
    /// How many streams a query may serve that serves this one: what failed
    /// together is tried in ever smaller company.
    fn company(&self) -> usize {
        MAX_BATCH >> self.failures.min(MAX_BATCH.ilog2())
    }
}

/// A page that has been asked for. Dropped before its answer it takes the
/// request back.
pub struct PendingPage {
    replays: Arc<Replays>,
    ticket: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Future for PendingPage {
    /// An error when the task that was to answer is gone.
    type Output = Result<Answer, oneshot::error::RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx)
    }
}

impl Drop for PendingPage {
    fn drop(&mut self) {
        self.replays.forget(self.ticket);
    }
}

impl Replays {
    /// Asks for the next page of `user` beyond `cursor`. With a `limit`, more
    /// rows than that are answered [`Resync::TooFarBack`].
    ///
    /// [`Resync::TooFarBack`]: crate::horizon::Resync::TooFarBack
    pub fn ask(self: &Arc<Self>, user: UserId, cursor: Cursor, limit: Option<u32>) -> PendingPage {
        let (answer, answered) = oneshot::channel();
        let backoff = Backoff::new(POSTPONE_MIN, POSTPONE_MAX);
        let mut state = self.state.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let span = tracing::trace_span!(target: SPANS, "replay", user.id = %user, rows = Empty);
        let request = Request { user, cursor, limit, answer, failures: 0, span, ticket, backoff };
        state.ready.insert(ticket, request);
        drop(state);
        self.asked.notify_one();
        PendingPage { replays: Arc::clone(self), ticket, answer: answered }
    }

    /// The requests for the next query, at least one.
    pub(super) async fn next_batch(&self) -> Vec<Request> {
        loop {
            let (batch, next) = self.take_batch(Instant::now());
            if !batch.is_empty() {
                return batch;
            }
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.asked.notified() => {}
                () = due => {}
            }
        }
    }

    /// Empty only if nobody waits; then, when the first is due that has failed.
    fn take_batch(&self, now: Instant) -> (Vec<Request>, Option<Instant>) {
        let mut state = self.state.lock();
        while let Some(entry) = state.later.first_entry() {
            let (due, ticket) = *entry.key();
            if due > now {
                break;
            }
            let request = entry.remove();
            state.due.remove(&ticket);
            state.ready.insert(ticket, request);
        }
        let (mut batch, mut ranges): (Vec<Request>, usize) = (Vec::new(), 0);
        let mut company = MAX_BATCH;
        while let Some(entry) = state.ready.first_entry() {
            let request = entry.get();
            company = company.min(request.company());
            ranges += request.cursor.unread().len();
            if !batch.is_empty() && (batch.len() >= company || ranges > MAX_BATCH_RANGES) {
                break;
            }
            batch.push(entry.remove());
        }
        let next = state.later.first_key_value().map(|((due, _), _)| *due);
        (batch, next)
    }

    /// Takes requests back that were not answered, in their old places.
    pub(super) fn give_back(&self, batch: impl IntoIterator<Item = Request>) {
        let mut state = self.state.lock();
        for request in batch {
            // Its stream may have gone while the query was on its way.
            if !request.answer.is_closed() {
                state.ready.insert(request.ticket, request);
            }
        }
        drop(state);
        self.asked.notify_one();
    }

    /// Takes a request back that fails by itself, for after a while of its own.
    pub(super) fn postpone(&self, mut request: Request) {
        if !request.answer.is_closed() {
            let due = Instant::now() + request.backoff.next_wait();
            let mut state = self.state.lock();
            state.due.insert(request.ticket, due);
            state.later.insert((due, request.ticket), request);
            drop(state);
            self.asked.notify_one();
        }
    }

    /// What failed failed for all: nobody needs smaller company any more.
    pub(super) fn forgive(&self) {
        let mut state = self.state.lock();
        let State { ready, later, due, .. } = &mut *state;
        ready.extend(
            std::mem::take(later).into_iter().map(|((_, ticket), request)| (ticket, request)),
        );
        due.clear();
        for request in ready.values_mut() {
            request.failures = 0;
            request.backoff.reset();
        }
        drop(state);
        self.asked.notify_one();
    }

    fn forget(&self, ticket: u64) {
        let mut state = self.state.lock();
        // One that is on its way is dropped with its answer.
        state.ready.remove(&ticket);
        if let Some(due) = state.due.remove(&ticket) {
            state.later.remove(&(due, ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Snapshot;

    fn ask(replays: &Arc<Replays>) -> PendingPage {
        let cursor = Cursor::new(1, Arc::new(Snapshot::empty()));
        replays.ask(UserId::uuid(uuid::Uuid::nil()), cursor, None)
    }

    fn waiting(replays: &Replays) -> usize {
        let state = replays.state.lock();
        state.ready.len() + state.later.len()
    }

    #[tokio::test]
    async fn what_a_stream_that_is_gone_asked_for_is_not_kept() {
        let replays = Arc::new(Replays::default());
        for _ in 0..3 * MAX_BATCH {
            drop(ask(&replays));
            assert_eq!(waiting(&replays), 0);
        }
        let _waiting = ask(&replays);
        assert_eq!(replays.next_batch().await.len(), 1);
        // Neither while it is on its way, nor while it is postponed.
        let gone = ask(&replays);
        let batch = replays.next_batch().await;
        drop(gone);
        replays.give_back(batch);
        assert_eq!(waiting(&replays), 0);
        let gone = ask(&replays);
        for request in replays.next_batch().await {
            replays.postpone(request);
        }
        assert_eq!(waiting(&replays), 1);
        drop(gone);
        assert_eq!(waiting(&replays), 0);
    }

    #[test]
    fn what_failed_together_is_tried_in_ever_smaller_company() {
        let replays = Arc::new(Replays::default());
        let _waiting: Vec<_> = (0..MAX_BATCH).map(|_| ask(&replays)).collect();
        let take = || replays.take_batch(Instant::now()).0;
        for failures in 1..=8 {
            let mut batch = take();
            assert_eq!(batch.len(), MAX_BATCH >> (failures - 1));
            batch.iter_mut().for_each(|request| request.failures = failures);
            replays.give_back(batch);
        }
        assert_eq!(take().len(), 1);
    }

    #[test]
    fn what_is_given_back_keeps_its_place() {
        let replays = Arc::new(Replays::default());
        let _waiting: Vec<_> = (0..3).map(|_| ask(&replays)).collect();
        let take = || replays.take_batch(Instant::now()).0;
        let mut batch = take();
        let last = batch.pop();
        replays.give_back(last);
        replays.give_back(batch);
        let tickets: Vec<u64> = take().iter().map(|request| request.ticket).collect();
        assert_eq!(tickets, [0, 1, 2]);
    }

    #[test]
    fn a_query_reads_a_bounded_number_of_ranges_whatever_cursors_are_forged() {
        let replays = Arc::new(Replays::default());
        let holes: Vec<String> = (0..1000).map(|hole| (2 * hole + 3).to_string()).collect();
        let snapshot: Snapshot = format!("3:10000:{}", holes.join(",")).parse().unwrap();
        let forged = Cursor::new(1, Arc::new(snapshot));
        let user = UserId::uuid(uuid::Uuid::nil());
        let _waiting: Vec<_> =
            (0..5).map(|_| replays.ask(user.clone(), forged.clone(), None)).collect();
        assert_eq!(replays.take_batch(Instant::now()).0.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_by_itself_comes_back_after_a_while() {
        let replays = Arc::new(Replays::default());
        let _waiting = ask(&replays);
        for request in replays.next_batch().await {
            replays.postpone(request);
        }
        let before = Instant::now();
        assert_eq!(replays.next_batch().await.len(), 1);
        assert!(before.elapsed() >= POSTPONE_MIN / 2);
    }
}
