//! Who is listening: user → open streams, each with a bounded queue. No I/O.
//!
//! The dispatcher publishes, a stream's body takes. A [`Subscription`] leaves
//! when it is dropped, so a stream is in the hub exactly as long as its
//! response lives.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{notification::UserId, sse::Closing};

/// A stream's queue never holds more than this, however large its rows are: a
/// reader that has stopped costs this much and no more.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;

/// All open streams.
pub struct Hub {
    max_queued_events: usize,
    streams: Mutex<Streams>,
}

#[derive(Default)]
struct Streams {
    by_user: HashMap<UserId, Vec<Arc<Outbox>>>,
    closed: Option<Closing>,
}

impl Hub {
    /// An empty hub; each stream may have `max_queued_events` waiting.
    pub fn new(max_queued_events: usize) -> Arc<Self> {
        Arc::new(Self { max_queued_events, streams: Mutex::default() })
    }

    /// Opens a stream for `user`: everything published from now on is its.
    ///
    /// # Errors
    ///
    /// The reason the hub was closed for, once it is.
    pub fn subscribe(self: &Arc<Self>, user: UserId) -> Result<Subscription, Closing> {
        let mut streams = lock(&self.streams);
        if let Some(reason) = streams.closed {
            return Err(reason);
        }
        let outbox = Arc::new(Outbox::default());
        streams.by_user.entry(user).or_default().push(Arc::clone(&outbox));
        Ok(Subscription { hub: Arc::clone(self), user, outbox })
    }

    /// Queues an encoded event for every stream of `user`; how many there are.
    /// Never waits for any of them.
    pub fn publish(&self, user: UserId, event: &Bytes) -> usize {
        let mut wakers = Vec::new();
        let streams = {
            let streams = lock(&self.streams);
            let Some(outboxes) = streams.by_user.get(&user) else { return 0 };
            for outbox in outboxes {
                wakers.extend(outbox.push(event, self.max_queued_events));
            }
            outboxes.len()
        };
        // Woken with no lock held: a woken stream's first act is to take one.
        wakers.into_iter().for_each(Waker::wake);
        streams
    }

    /// Ends every stream with `reason` and opens no more.
    pub fn close(&self, reason: Closing) {
        let mut wakers = Vec::new();
        {
            let mut streams = lock(&self.streams);
            streams.closed = Some(reason);
            for outbox in streams.by_user.values().flatten() {
                wakers.extend(outbox.end(reason));
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many streams `user` has open here.
    pub fn connections(&self, user: UserId) -> usize {
        lock(&self.streams).by_user.get(&user).map_or(0, Vec::len)
    }

    fn leave(&self, user: UserId, outbox: &Arc<Outbox>) {
        let mut streams = lock(&self.streams);
        if let Some(outboxes) = streams.by_user.get_mut(&user) {
            outboxes.retain(|other| !Arc::ptr_eq(other, outbox));
            if outboxes.is_empty() {
                streams.by_user.remove(&user);
            }
        }
    }
}

/// One stream's place in the hub; dropping it leaves.
pub struct Subscription {
    hub: Arc<Hub>,
    user: UserId,
    outbox: Arc<Outbox>,
}

/// What a subscription has for its stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Events, in the order they were published.
    Events(VecDeque<Bytes>),
    /// There will be no more.
    Closed(Closing),
}

impl Subscription {
    /// Takes what is queued. What was queued before the end comes before the
    /// end.
    pub fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Received> {
        let mut state = lock(&self.outbox.state);
        if !state.events.is_empty() {
            state.bytes = 0;
            return Poll::Ready(Received::Events(std::mem::take(&mut state.events)));
        }
        if let Some(reason) = state.ended {
            return Poll::Ready(Received::Closed(reason));
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The user whose events these are.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// How many streams the user has open here, this one included.
    pub fn connections(&self) -> usize {
        self.hub.connections(self.user)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.user, &self.outbox);
    }
}

/// One stream's queue.
#[derive(Default)]
struct Outbox {
    state: Mutex<OutboxState>,
}

#[derive(Default)]
struct OutboxState {
    events: VecDeque<Bytes>,
    bytes: usize,
    ended: Option<Closing>,
    waker: Option<Waker>,
}

impl Outbox {
    fn push(&self, event: &Bytes, max_events: usize) -> Option<Waker> {
        let mut state = lock(&self.state);
        if state.ended.is_some() {
            return None;
        }
        let full = state.events.len() >= max_events
            // One event larger than the bound passes alone, or it never would.
            || (!state.events.is_empty() && state.bytes + event.len() > MAX_QUEUED_BYTES);
        if full {
            state.ended = Some(Closing::SlowConsumer);
        } else {
            state.bytes += event.len();
            state.events.push_back(event.clone());
        }
        state.waker.take()
    }

    fn end(&self, reason: Closing) -> Option<Waker> {
        let mut state = lock(&self.state);
        state.ended.get_or_insert(reason);
        state.waker.take()
    }
}

/// A panic while the lock was held left nothing half done: every critical
/// section above is a push, a take or a removal.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    const ADA: UserId = UserId(uuid::Uuid::from_u128(1));
    const BOB: UserId = UserId(uuid::Uuid::from_u128(2));

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn receive(stream: &Subscription) -> Poll<Received> {
        stream.poll_receive(&mut Context::from_waker(Waker::noop()))
    }

    fn events<const N: usize>(texts: [&'static str; N]) -> Poll<Received> {
        Poll::Ready(Received::Events(texts.map(|t| Bytes::from_static(t.as_bytes())).into()))
    }

    #[test]
    fn an_event_reaches_every_stream_of_its_user_and_no_other() {
        let hub = Hub::new(8);
        let (a1, a2, b) = (hub.subscribe(ADA), hub.subscribe(ADA), hub.subscribe(BOB));
        assert_eq!(hub.publish(ADA, &Bytes::from_static(b"x")), 2);
        assert_eq!(receive(&a1.unwrap()), events(["x"]));
        assert_eq!(receive(&a2.unwrap()), events(["x"]));
        assert_eq!(receive(&b.unwrap()), Poll::Pending);
    }

    #[test]
    fn a_dropped_subscription_has_left() {
        let hub = Hub::new(8);
        let first = hub.subscribe(ADA).unwrap();
        let second = hub.subscribe(ADA).unwrap();
        assert_eq!(second.connections(), 2);
        drop(first);
        assert_eq!(second.connections(), 1);
        drop(second);
        assert_eq!(hub.publish(ADA, &Bytes::from_static(b"x")), 0);
        assert!(lock(&hub.streams).by_user.is_empty());
    }

    #[test]
    fn a_burst_wakes_its_stream_once() {
        let hub = Hub::new(8);
        let stream = hub.subscribe(ADA).unwrap();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        assert!(stream.poll_receive(&mut Context::from_waker(&waker)).is_pending());
        for text in ["a", "b", "c"] {
            hub.publish(ADA, &Bytes::from_static(text.as_bytes()));
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(receive(&stream), events(["a", "b", "c"]));
    }

    #[test]
    fn a_full_queue_ends_its_stream_after_what_it_holds_and_no_other_stream() {
        let hub = Hub::new(2);
        let slow = hub.subscribe(ADA).unwrap();
        let quick = hub.subscribe(ADA).unwrap();
        for text in ["a", "b", "c"] {
            hub.publish(ADA, &Bytes::from_static(text.as_bytes()));
            assert_eq!(receive(&quick), events([text]));
        }
        assert_eq!(receive(&slow), events(["a", "b"]));
        assert_eq!(receive(&slow), Poll::Ready(Received::Closed(Closing::SlowConsumer)));
        assert_eq!(receive(&quick), Poll::Pending);
    }

    #[test]
    fn a_queue_is_bounded_in_bytes_and_a_huge_event_still_passes_alone() {
        let hub = Hub::new(1000);
        let stream = hub.subscribe(ADA).unwrap();
        let huge = Bytes::from(vec![b'x'; MAX_QUEUED_BYTES + 1]);
        hub.publish(ADA, &huge);
        assert_eq!(receive(&stream), Poll::Ready(Received::Events([huge.clone()].into())));
        hub.publish(ADA, &Bytes::from_static(b"y"));
        hub.publish(ADA, &huge);
        assert_eq!(receive(&stream), events(["y"]));
        assert_eq!(receive(&stream), Poll::Ready(Received::Closed(Closing::SlowConsumer)));
    }

    #[test]
    fn a_closed_hub_ends_its_streams_and_opens_none() {
        let hub = Hub::new(8);
        let stream = hub.subscribe(ADA).unwrap();
        hub.close(Closing::Shutdown);
        assert_eq!(receive(&stream), Poll::Ready(Received::Closed(Closing::Shutdown)));
        assert_eq!(hub.subscribe(ADA).err(), Some(Closing::Shutdown));
    }
}
