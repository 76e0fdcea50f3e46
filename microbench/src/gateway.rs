//! How the gateway is called: nothing else here depends on the signatures of its functions.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use notify_gateway::{
    cursor::{Cursor, RowKey, Snapshot},
    feed::{LiveRows, Row},
    hub::{Hub, HubLimits, Subscription},
    notification::{Change, EventName, Payload, UserId},
    sse,
};
use uuid::Uuid;

/// Reads what a trigger sent.
pub(crate) fn decode(payload: &str) -> Payload<'_> {
    Payload::decode(payload).expect("a payload as the trigger writes it")
}

/// A row's event, for all of its user's streams.
pub(crate) fn encode(data: &str) -> Vec<u8> {
    sse::notification(EventName::NOTIFICATION, data)
}

/// One stream's heartbeat.
pub(crate) fn heartbeat(out: &mut Vec<u8>, cursor: &Cursor) {
    sse::heartbeat(out, cursor, 1);
}

/// Streams in a hub, all of them waiting.
pub(crate) struct Streams {
    hub: Arc<Hub>,
    /// By user.
    users: Vec<(UserId, Vec<Subscription>)>,
    taken: LiveRows,
}

impl Streams {
    /// Of so many users with so many streams each.
    pub(crate) fn open(users: usize, streams_of_each: usize) -> Self {
        let hub = Hub::new(HubLimits {
            queued_rows: 256,
            streams: users * streams_of_each,
            streams_per_user: streams_of_each,
        });
        let open = |user: &UserId| {
            let opened = (0..streams_of_each).map(|_| hub.subscribe(user.clone(), None));
            opened.collect::<Result<Vec<_>, _>>().expect("a hub with room")
        };
        // Of no pattern that a hash could like or dislike, and always the same.
        let spread = |number: u128| number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let users = (1..).take(users).map(|number| UserId::uuid(Uuid::from_u128(spread(number))));
        let users = users.map(|user| (user.clone(), open(&user))).collect();
        let mut streams = Self { hub, users, taken: LiveRows::new() };
        (0..streams.users.len()).for_each(|user| streams.wait(user));
        streams
    }

    /// Publishes a row of a user, which its streams take, and they wait again.
    pub(crate) fn route(&mut self, user: usize) {
        let key = RowKey { xact: 745, seq: 12 };
        let row = || Row { key, change: Change::New, event: Vec::new(), made_at: None };
        self.hub.publish(&self.users[user].0, row);
        let mut context = Context::from_waker(Waker::noop());
        for stream in &self.users[user].1 {
            let received = stream.poll_receive(&mut context, &mut self.taken);
            assert!(received.is_ready() && self.taken.len() == 1, "the row has come");
            self.taken.clear();
        }
        self.wait(user);
    }

    fn wait(&mut self, user: usize) {
        let mut context = Context::from_waker(Waker::noop());
        for stream in &self.users[user].1 {
            assert_eq!(stream.poll_receive(&mut context, &mut self.taken), Poll::Pending);
        }
    }
}

/// A cursor with so many rows beyond its watermark, as a busy database makes them: a few
/// transactions apart, one row of this user each.
pub(crate) fn cursor(recents: u64) -> Cursor {
    let mut cursor = Cursor::new(3, watermark(0));
    for place in 0..recents {
        assert!(cursor.record(row(place)), "a new row");
    }
    cursor
}

/// A row that such a cursor has, if `place` is less than the number of its recents.
pub(crate) fn row(place: u64) -> RowKey {
    RowKey { xact: 7_451_234 + 9 * place, seq: 812_345 + 40 * place.cast_signed() }
}

/// The watermark before any of these rows, and the one that sees the first so many of them.
pub(crate) fn watermark(rows: u64) -> Arc<Snapshot> {
    let xmax = row(rows).xact;
    let text = format!("{}:{xmax}:{},{}", xmax - 8, xmax - 8, xmax - 5);
    Arc::new(text.parse().expect("a pg_snapshot"))
}
