//! Who is listening: user → open streams, each with a bounded queue, and how far
//! everything has been offered to them. No I/O.
//!
//! The dispatcher publishes, a stream's body takes. A queue that is full is
//! emptied, and its stream, told that it has *lost* rows, reads them from the
//! table: what is slow costs nobody memory and loses nothing. A
//! [`Subscription`] leaves when it is dropped, so a stream is in the hub exactly
//! as long as its response lives.

mod audience;
mod beginnings;
mod outbox;
mod requests;

use std::{
    cell::LazyCell,
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use audience::Audience;
pub use outbox::Received;
pub use requests::SweepRequests;

use self::{beginnings::Beginnings, outbox::Outbox};
use crate::{
    cursor::Snapshot,
    feed::{LiveRow, LiveRows, Row},
    horizon::{Epochs, Horizon},
    notification::UserId,
    outcome::{Refusal, StreamEnd},
    revocation::Revocation,
};

/// How much a hub takes.
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    /// Rows one stream may have waiting.
    pub queued_rows: usize,
    /// Streams in all.
    pub streams: usize,
    /// Streams of one user.
    pub streams_per_user: usize,
}

/// All open streams, and how far everything has been offered to them.
pub struct Hub {
    limits: HubLimits,
    streams: Mutex<Streams>,
    horizon: Mutex<Arc<Horizon>>,
    beginnings: Mutex<Beginnings<Arc<Horizon>>>,
    /// What the streams and the dispatcher want of the sweeper.
    pub requests: SweepRequests,
}

#[derive(Default)]
struct Streams {
    by_user: HashMap<UserId, Vec<Arc<Outbox>>, RandomState>,
    open: usize,
    is_closed: bool,
}

impl Hub {
    /// An empty hub.
    pub fn new(limits: HubLimits) -> Arc<Self> {
        // Sees nothing: streams are opened only once there is a real one.
        let nothing = Snapshot::empty();
        let horizon = Horizon { watermark: Arc::new(nothing), epochs: Epochs::new(Vec::new()) };
        Arc::new(Self {
            limits,
            streams: Mutex::default(),
            horizon: Mutex::new(Arc::new(horizon)),
            beginnings: Mutex::new(Beginnings::new()),
            requests: SweepRequests::default(),
        })
    }

    /// How much it takes.
    pub fn limits(&self) -> HubLimits {
        self.limits
    }

    /// Opens a stream for `user`, whose token was issued then: everything
    /// published from now on is its.
    ///
    /// # Errors
    ///
    /// The hub is closed, or a limit would be passed.
    pub fn subscribe(
        self: &Arc<Self>,
        user: UserId,
        issued_at: Option<SystemTime>,
    ) -> Result<Subscription, Refusal> {
        let mut streams = self.streams.lock();
        if streams.is_closed {
            return Err(Refusal::Shutdown);
        }
        if streams.by_user.get(&user).map_or(0, Vec::len) >= self.limits.streams_per_user {
            return Err(Refusal::TooManyStreams);
        }
        if streams.open >= self.limits.streams {
            return Err(Refusal::Full);
        }
        let outbox = Arc::new(Outbox::new(issued_at));
        if streams.open == 0 {
            self.requests.first_stream();
        }
        streams.open += 1;
        streams.by_user.entry(user.clone()).or_default().push(Arc::clone(&outbox));
        Ok(Subscription { hub: Arc::clone(self), user, outbox })
    }

    /// Queues a row for every stream of `user`, encoded once and only if there
    /// is one. Never waits for any of them.
    pub fn publish(&self, user: &UserId, encode: impl FnOnce() -> Row) {
        let row = LazyCell::new(|| Arc::new(LiveRow::new(encode(), self.horizon())));
        self.for_each_of(user, |outbox| outbox.push(&row, self.limits.queued_rows));
    }

    /// The table has rows of `user` that no notification brought: its streams
    /// read them there.
    pub fn lose(&self, user: &UserId) {
        self.for_each_of(user, Outbox::lose);
    }

    /// As [`Hub::lose`], for everybody.
    pub fn lose_all(&self) {
        self.for_all(Outbox::lose);
    }

    /// Ends the streams that a revocation ends.
    pub fn revoke(&self, revocation: &Revocation) {
        self.for_each_of(&revocation.user, |outbox| {
            let is_refused = revocation.refuses(outbox.issued_at);
            is_refused.then(|| outbox.end(StreamEnd::Revoked)).flatten()
        });
    }

    /// Ends every stream with `reason` and opens no more.
    pub fn close(&self, reason: StreamEnd) {
        self.streams.lock().is_closed = true;
        self.for_all(|outbox| outbox.end(reason));
    }

    /// How far everything has been offered.
    pub fn horizon(&self) -> Arc<Horizon> {
        Arc::clone(&self.horizon.lock())
    }

    /// All that `watermark` sees has been published or lost, and no crash takes
    /// it back: cursors may claim it.
    pub fn advance(&self, watermark: Arc<Snapshot>) {
        let mut horizon = self.horizon.lock();
        *horizon = Arc::new(Horizon { watermark, ..Horizon::clone(&horizon) });
        self.beginnings.lock().push(Instant::now(), Arc::clone(&horizon));
    }

    /// Transaction numbers mean something else from here on: every stream goes
    /// back to the table with what its cursor still means.
    pub fn begin_epoch(&self, horizon: Horizon) {
        let horizon = Arc::new(horizon);
        let mut beginnings = self.beginnings.lock();
        beginnings.clear();
        beginnings.push(Instant::now(), Arc::clone(&horizon));
        drop(beginnings);
        *self.horizon.lock() = horizon;
        self.lose_all();
    }

    /// Where a client begins that has no cursor: at a horizon that is some seconds
    /// old, so that what was committed between its list and its stream is in the
    /// stream. The newest horizon may be of this very moment.
    pub fn beginning(&self) -> Arc<Horizon> {
        let mut beginnings = self.beginnings.lock();
        beginnings.at(Instant::now()).map_or_else(|| self.horizon(), Arc::clone)
    }

    /// How many streams `user` has open here.
    pub fn connections(&self, user: &UserId) -> usize {
        self.streams.lock().by_user.get(user).map_or(0, Vec::len)
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.streams.lock().by_user.is_empty()
    }

    fn for_each_of(&self, user: &UserId, act: impl Fn(&Outbox) -> Option<Waker>) {
        let mut wakers = Wakers::default();
        for outbox in self.streams.lock().by_user.get(user).into_iter().flatten() {
            wakers.add(act(outbox));
        }
        wakers.wake();
    }

    fn for_all(&self, act: impl Fn(&Outbox) -> Option<Waker>) {
        let mut wakers = Wakers::default();
        for outbox in self.streams.lock().by_user.values().flatten() {
            wakers.add(act(outbox));
        }
        wakers.wake();
    }

    fn leave(&self, user: &UserId, outbox: &Arc<Outbox>) {
        let mut streams = self.streams.lock();
        if let Some(outboxes) = streams.by_user.get_mut(user) {
            outboxes.retain(|other| !Arc::ptr_eq(other, outbox));
            if outboxes.is_empty() {
                streams.by_user.remove(user);
            }
            streams.open -= 1;
        }
    }
}

/// Streams to be woken once no lock is held: a woken stream's first act is to
/// take one. Most users have one.
#[derive(Default)]
struct Wakers {
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakers {
    fn add(&mut self, waker: Option<Waker>) {
        match (waker, &self.first) {
            (Some(waker), Some(_)) => self.others.push(waker),
            (waker @ Some(_), None) => self.first = waker,
            (None, _) => {}
        }
    }

    fn wake(self) {
        self.first.into_iter().chain(self.others).for_each(Waker::wake);
    }
}

/// One stream's place in the hub; dropping it leaves.
pub struct Subscription {
    hub: Arc<Hub>,
    user: UserId,
    outbox: Arc<Outbox>,
}

impl Subscription {
    /// Takes what is queued into `rows`, which has to be empty. What was queued
    /// before the end comes before the end.
    pub fn poll_receive(&self, cx: &mut Context<'_>, rows: &mut LiveRows) -> Poll<Received> {
        self.outbox.poll_receive(cx, rows)
    }

    /// Waits for the end alone and leaves the queue as it is.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<StreamEnd> {
        self.outbox.poll_closed(cx)
    }

    /// Starts the queue anew. What it held was committed before, so a page that
    /// is read from now on has it.
    pub fn restart(&self) {
        self.outbox.restart();
    }

    /// How far everything has been offered.
    pub fn horizon(&self) -> Arc<Horizon> {
        self.hub.horizon()
    }

    /// Where a client without a cursor begins.
    pub fn beginning(&self) -> Arc<Horizon> {
        self.hub.beginning()
    }

    /// The horizon, if nothing that it sees waits in the queue.
    pub fn horizon_if_idle(&self) -> Option<Arc<Horizon>> {
        // The watermark is set after what it sees was queued: looked at first,
        // an empty queue afterwards means that all of it has been taken.
        let horizon = self.hub.horizon();
        self.outbox.is_idle().then_some(horizon)
    }

    /// Asks for a new watermark before its time.
    pub fn want_watermark(&self) {
        self.hub.requests.want_watermark();
    }

    /// The user whose rows these are.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// How many streams the user has open here, this one included.
    pub fn connections(&self) -> usize {
        self.hub.connections(&self.user)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(&self.user, &self.outbox);
    }
}

/// For the tests of those who tell a hub.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// How many rows the stream is given, or `None` if it is sent to the log.
    pub(crate) fn received(stream: &Subscription) -> Option<usize> {
        let mut rows = LiveRows::new();
        match stream.poll_receive(&mut Context::from_waker(Waker::noop()), &mut rows) {
            Poll::Ready(Received::Rows) => Some(rows.len()),
            Poll::Ready(Received::Lost) => {
                stream.restart();
                None
            }
            Poll::Ready(Received::Closed(reason)) => unreachable!("{reason:?}"),
            Poll::Pending => Some(0),
        }
    }

    pub(crate) fn watermark(hub: &Hub) -> String {
        hub.horizon().watermark.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::{outbox::MAX_QUEUED_BYTES, *};
    use crate::{cursor::RowKey, notification::Change};

    const ADA: UserId = UserId::uuid(uuid::Uuid::from_u128(1));
    const BOB: UserId = UserId::uuid(uuid::Uuid::from_u128(2));

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn hub(queued_rows: usize) -> Arc<Hub> {
        Hub::new(HubLimits { queued_rows, streams: 3, streams_per_user: 2 })
    }

    fn row(text: &'static str) -> Row {
        let key = RowKey { xact: 1, seq: 1 };
        Row { key, change: Change::New, event: text.as_bytes().to_vec(), made_at: None }
    }

    /// What there is to take: texts, or `lost`, `closed`, nothing.
    fn receive(stream: &Subscription) -> Vec<String> {
        let mut rows = LiveRows::new();
        match stream.poll_receive(&mut Context::from_waker(Waker::noop()), &mut rows) {
            Poll::Pending => Vec::new(),
            Poll::Ready(Received::Lost) => vec!["lost".into()],
            Poll::Ready(Received::Closed(_)) => vec!["closed".into()],
            Poll::Ready(Received::Rows) => {
                rows.iter().map(|live| String::from_utf8(live.row.event.clone()).unwrap()).collect()
            }
        }
    }

    #[test]
    fn a_row_reaches_every_stream_of_its_user_and_no_other() {
        let hub = hub(8);
        let [a1, a2, b] = [ADA, ADA, BOB].map(|user| hub.subscribe(user, None).unwrap());
        hub.publish(&ADA, || row("x"));
        assert_eq!(receive(&a1), ["x"]);
        assert_eq!(receive(&a2), ["x"]);
        assert!(receive(&b).is_empty());
    }

    #[test]
    fn a_dropped_subscription_has_left() {
        let hub = hub(8);
        let first = hub.subscribe(ADA, None).unwrap();
        let second = hub.subscribe(ADA, None).unwrap();
        assert_eq!(second.connections(), 2);
        drop(first);
        assert_eq!(second.connections(), 1);
        drop(second);
        assert!(hub.is_empty());
    }

    #[test]
    fn a_burst_wakes_its_stream_once() {
        let hub = hub(8);
        let stream = hub.subscribe(ADA, None).unwrap();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        assert!(
            stream
                .poll_receive(&mut Context::from_waker(&waker), &mut LiveRows::new())
                .is_pending()
        );
        for text in ["a", "b", "c"] {
            hub.publish(&ADA, || row(text));
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(receive(&stream), ["a", "b", "c"]);
    }

    #[test]
    fn a_full_queue_is_lost_until_it_is_started_anew_and_no_other_queue_is() {
        let hub = hub(2);
        let slow = hub.subscribe(ADA, None).unwrap();
        let quick = hub.subscribe(ADA, None).unwrap();
        for text in ["a", "b", "c", "d"] {
            hub.publish(&ADA, || row(text));
            assert_eq!(receive(&quick), [text]);
        }
        assert_eq!(receive(&slow), ["lost"]);
        slow.restart();
        hub.publish(&ADA, || row("e"));
        assert_eq!(receive(&slow), ["e"]);
    }

    #[test]
    fn a_queue_is_bounded_in_bytes_and_a_huge_row_still_passes_alone() {
        let hub = hub(1000);
        let stream = hub.subscribe(ADA, None).unwrap();
        let key = RowKey { xact: 1, seq: 1 };
        let huge = || Row {
            key,
            change: Change::New,
            event: vec![b'x'; MAX_QUEUED_BYTES + 1],
            made_at: None,
        };
        hub.publish(&ADA, huge);
        assert_eq!(receive(&stream)[0].len(), MAX_QUEUED_BYTES + 1);
        hub.publish(&ADA, || row("y"));
        hub.publish(&ADA, huge);
        assert_eq!(receive(&stream), ["lost"]);
    }

    #[test]
    fn an_idle_stream_moves_with_the_watermark_and_one_with_a_queue_does_not() {
        let hub = hub(8);
        let stream = hub.subscribe(ADA, None).unwrap();
        assert!(stream.horizon_if_idle().is_some());
        hub.publish(&ADA, || row("x"));
        assert!(stream.horizon_if_idle().is_none());
        receive(&stream);
        assert!(stream.horizon_if_idle().is_some());
        let stopping = hub.subscribe(BOB, None).unwrap();
        stopping.outbox.end(StreamEnd::Shutdown);
        assert!(stopping.horizon_if_idle().is_none());
        hub.lose(&ADA);
        assert!(stream.horizon_if_idle().is_none());
    }

    #[test]
    fn a_limit_refuses_the_stream_too_many_until_one_has_left() {
        let hub = hub(8);
        let ada = [hub.subscribe(ADA, None).unwrap(), hub.subscribe(ADA, None).unwrap()];
        assert_eq!(hub.subscribe(ADA, None).err(), Some(Refusal::TooManyStreams));
        let _bob = hub.subscribe(BOB, None).unwrap();
        assert_eq!(hub.subscribe(BOB, None).err(), Some(Refusal::Full));
        drop(ada);
        assert!(hub.subscribe(BOB, None).is_ok());
    }

    #[test]
    fn a_closed_hub_ends_its_streams_and_opens_none() {
        let hub = hub(8);
        let stream = hub.subscribe(ADA, None).unwrap();
        hub.publish(&ADA, || row("last"));
        hub.close(StreamEnd::Shutdown);
        assert_eq!(receive(&stream), ["last"]);
        assert_eq!(receive(&stream), ["closed"]);
        assert_eq!(hub.subscribe(ADA, None).err(), Some(Refusal::Shutdown));
    }
}
