//! One stream's queue, bounded in rows and bytes.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use parking_lot::Mutex;

use crate::{
    feed::{LiveRow, LiveRows},
    outcome::StreamEnd,
};

/// A stream's queue never holds more than this, however large its rows are: a
/// reader that has stopped costs this much and no more.
pub(super) const MAX_QUEUED_BYTES: usize = 1024 * 1024;

/// What a subscription has for its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Rows, in the order they were published.
    Rows,
    /// Rows are missing from the queue: [`Subscription::restart`], then read
    /// the table.
    ///
    /// [`Subscription::restart`]: super::Subscription::restart
    Lost,
    /// There will be no more.
    Closed(StreamEnd),
}

/// The queue. What changes it returns the stream's waker, if it waits: to be woken
/// once no lock is held.
pub(super) struct Outbox {
    /// When the stream's token was issued.
    pub(super) issued_at: Option<SystemTime>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: LiveRows,
    bytes: usize,
    lost: bool,
    ended: Option<StreamEnd>,
    waker: Option<Waker>,
}

impl Outbox {
    /// An empty queue.
    pub(super) fn new(issued_at: Option<SystemTime>) -> Self {
        Self { issued_at, state: Mutex::default() }
    }

    /// Queues a row; a full queue loses all it has.
    pub(super) fn push(&self, row: &Arc<LiveRow>, max_rows: usize) -> Option<Waker> {
        let mut state = self.state.lock();
        if state.ended.is_some() || state.lost {
            return None;
        }
        let bytes = row.row.event.len();
        let full = state.rows.len() >= max_rows
            // One row larger than the bound passes alone, or it never would.
            || (!state.rows.is_empty() && state.bytes + bytes > MAX_QUEUED_BYTES);
        if full {
            state.lose();
        } else {
            state.bytes += bytes;
            state.rows.push(Arc::clone(row));
        }
        state.waker.take()
    }

    /// The stream has to read the table.
    pub(super) fn lose(&self) -> Option<Waker> {
        let mut state = self.state.lock();
        state.lose();
        state.waker.take()
    }

    /// The stream ends behind what is queued.
    pub(super) fn end(&self, reason: StreamEnd) -> Option<Waker> {
        let mut state = self.state.lock();
        if reason == StreamEnd::Revoked {
            // A user who is locked out gets nothing more.
            state.lose();
        }
        state.ended.get_or_insert(reason);
        state.waker.take()
    }

    /// As [`Subscription::restart`](super::Subscription::restart).
    pub(super) fn restart(&self) {
        let mut state = self.state.lock();
        state.rows = LiveRows::new();
        state.bytes = 0;
        state.lost = false;
    }

    /// As [`Subscription::poll_receive`](super::Subscription::poll_receive).
    pub(super) fn poll_receive(&self, cx: &mut Context<'_>, rows: &mut LiveRows) -> Poll<Received> {
        let mut state = self.state.lock();
        if !state.rows.is_empty() {
            state.bytes = 0;
            std::mem::swap(&mut state.rows, rows);
            return Poll::Ready(Received::Rows);
        }
        if let Some(reason) = state.ended {
            return Poll::Ready(Received::Closed(reason));
        }
        if state.lost {
            return Poll::Ready(Received::Lost);
        }
        state.register(cx);
        Poll::Pending
    }

    /// As [`Subscription::poll_closed`](super::Subscription::poll_closed).
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<StreamEnd> {
        let mut state = self.state.lock();
        if let Some(reason) = state.ended {
            return Poll::Ready(reason);
        }
        state.register(cx);
        Poll::Pending
    }

    /// Whether nothing waits here. After the end rows are not queued any more,
    /// and the horizon goes on: then nobody can say.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.rows.is_empty() && !state.lost && state.ended.is_none()
    }
}

impl State {
    fn register(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    fn lose(&mut self) {
        self.rows = LiveRows::new();
        self.bytes = 0;
        self.lost = true;
    }
}
