//! One open response: `stream.rs`, with a socket that is read event by event.

use std::{
    collections::{HashSet, VecDeque},
    task::{Context, Poll, Waker},
};

use notify_gateway::{
    cursor::{Cursor, RowKey},
    feed::{Feed, Page},
    horizon::Resync,
    hub::{Received, Subscription},
    notification::UserId,
    outcome::StreamEnd,
};

use crate::{
    replay::{Answer, Replays, Wish},
    sabotage::Sabotage,
    scene::Scene,
};

/// An event in the socket.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it is.
    pub kind: EventKind,
    /// Its `id:` line.
    pub id: Option<String>,
    /// Whose transaction numbers its id speaks of.
    pub epoch: u32,
    /// When it was written.
    pub at: u64,
}

/// What the client makes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The first of every stream.
    Connected,
    /// A row, as its bytes name it.
    Row(usize),
    /// A sign of life.
    Heartbeat,
    /// What the client has missed will not come.
    Resync {
        /// The reason it is told.
        reason: Resync,
        /// The epoch of the cursor that was given up.
        epoch: u32,
    },
    /// The last of a stream that the gateway ends.
    Closing,
}

/// The rows each user was given on a gateway: nothing the real one keeps.
pub type Shared = HashSet<(UserId, RowKey)>;

/// One stream.
pub struct Stream {
    /// Names it on its gateway.
    pub id: u64,
    /// Written and not read yet.
    pub socket: VecDeque<Event>,
    /// Whether anyone reads it. A gateway learns late that a client is gone.
    pub is_read: bool,
    subscription: Subscription,
    feed: Feed,
    page: PageState,
    limit: Option<usize>,
    has_ended: bool,
}

enum PageState {
    None,
    Asked,
    Answered(Answer),
}

impl Stream {
    /// A stream that goes on at `resumed`, the text the client brought.
    pub fn open(id: u64, subscription: Subscription, resumed: Option<&str>, scene: &Scene) -> Self {
        let resumed = resumed.map(|text| Cursor::parse(text).map_err(|_| Resync::Malformed));
        let (cursor, resync) = match resumed {
            None => (subscription.horizon().cursor(), None),
            Some(Ok(cursor)) => (cursor, None),
            Some(Err(reason)) => (subscription.horizon().cursor(), Some(reason)),
        };
        let mut stream = Self {
            id,
            socket: VecDeque::new(),
            is_read: true,
            subscription,
            feed: Feed::new(cursor),
            page: PageState::None,
            limit: Some(scene.plan.replay_limit),
            has_ended: false,
        };
        stream.write(EventKind::Connected, scene);
        if let Some(reason) = resync {
            stream.resync(reason, scene);
        }
        stream
    }

    /// Gives it the answer to its wish.
    pub fn answer(&mut self, answer: Answer) {
        self.page = PageState::Answered(answer);
    }

    /// Whether it is up to date and nothing waits in its socket.
    pub fn is_idle(&self) -> bool {
        self.feed.is_live() && self.socket.is_empty() && !self.has_ended
    }

    /// Whether its last event is written.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Does the next thing the feed is waiting for, if the socket takes more.
    pub fn poll(&mut self, replays: &mut Replays, shared: &mut Shared, scene: &mut Scene) -> bool {
        if self.has_ended || self.socket.len() >= scene.plan.socket_events {
            return false;
        }
        let mut cx = Context::from_waker(Waker::noop());
        if self.feed.is_live() {
            let mut rows = VecDeque::new();
            let Poll::Ready(received) = self.subscription.poll_receive(&mut cx, &mut rows) else {
                return false;
            };
            match received {
                Received::Rows => {
                    for live in rows {
                        if !self.feed.is_live() {
                            break;
                        }
                        let key = (self.subscription.user().clone(), live.row.key);
                        if scene.is_without(Sabotage::SharedRecents) && !shared.insert(key) {
                            continue;
                        }
                        let socket = &mut self.socket;
                        self.feed.take_live(&live, |row, id| {
                            let event = row_event(&row.event, id.cursor(), scene);
                            assert_eq!(event.id, text(|out| id.encode(out)), "an id of its own");
                            socket.push_back(event);
                        });
                    }
                }
                Received::Lost => self.feed.fall_behind(),
                Received::Closed(closing) => self.close(closing, scene),
            }
            self.want_watermark();
            return true;
        }
        if let Poll::Ready(closing) = self.subscription.poll_closed(&mut cx) {
            self.close(closing, scene);
            return true;
        }
        if self.feed.is_behind() {
            self.read(replays, scene);
            return true;
        }
        match std::mem::replace(&mut self.page, PageState::None) {
            PageState::Answered(Ok(page)) => self.take_page(&page, scene),
            PageState::Answered(Err(reason)) => self.resync(reason, scene),
            waiting => {
                self.page = waiting;
                return false;
            }
        }
        true
    }

    fn read(&mut self, replays: &mut Replays, scene: &Scene) {
        // What has overflowed has to be started anew even so.
        let is_idle = self.subscription.horizon_if_idle().is_some();
        if !(scene.is_without(Sabotage::Registration) && is_idle) {
            self.subscription.restart();
        }
        let cursor = self.feed.read().clone();
        let user = self.subscription.user().clone();
        replays.wish(Wish { stream: self.id, user, cursor, limit: self.limit });
        self.page = PageState::Asked;
    }

    fn take_page(&mut self, page: &Page, scene: &Scene) {
        self.limit = None;
        if scene.is_without(Sabotage::Registration) {
            if self.subscription.horizon_if_idle().is_none() {
                scene.tell(|| format!("stream {} drops what came since its page", self.id));
            }
            self.subscription.restart();
        }
        if scene.is_without(Sabotage::EpochClamp) {
            let mut cursor = self.feed.cursor().clone();
            scene.adopt_unclamped(&mut cursor, &page.horizon);
            self.feed = Feed::new(cursor);
        }
        let socket = &mut self.socket;
        self.feed.take_page(page, |row, id| {
            let cursor = id.cursor();
            let event = if scene.is_without(Sabotage::WholeTransaction) {
                let mut marked = cursor.clone();
                let last = RowKey { xact: row.key.xact, seq: i64::MAX };
                let _new = marked.replay(&page.horizon.watermark, last);
                row_event(&row.event, &marked, scene)
            } else {
                row_event(&row.event, cursor, scene)
            };
            socket.push_back(event);
        });
        self.want_watermark();
    }

    /// Cursors that are too long to be sent need one.
    fn want_watermark(&self) {
        if self.socket.iter().any(|event| event.id.is_none()) {
            self.subscription.want_watermark();
        }
    }

    /// A heartbeat, which carries an idle stream's cursor forward.
    pub fn heartbeat(&mut self, scene: &Scene) -> bool {
        if self.has_ended || self.socket.len() >= scene.plan.socket_events {
            return false;
        }
        // The original looks at its feed before its clock.
        if self.subscription.poll_closed(&mut Context::from_waker(Waker::noop())).is_ready() {
            return false;
        }
        if let Some(horizon) = self.subscription.horizon_if_idle() {
            self.feed.rest(&horizon);
        }
        self.write(EventKind::Heartbeat, scene);
        true
    }

    fn resync(&mut self, reason: Resync, scene: &Scene) {
        let epoch = self.feed.cursor().epoch();
        self.feed.resync(&self.subscription.horizon());
        self.limit = None;
        self.write(EventKind::Resync { reason, epoch }, scene);
    }

    /// The token has expired, or the gateway stops.
    pub fn close(&mut self, _end: StreamEnd, scene: &Scene) {
        self.has_ended = true;
        self.write(EventKind::Closing, scene);
    }

    fn write(&mut self, kind: EventKind, scene: &Scene) {
        let id = text(|out| self.feed.cursor().encode(out));
        scene.tell(|| {
            format!("stream {} writes {kind:?} with {}", self.id, shown(self.feed.cursor()))
        });
        let epoch = self.feed.cursor().epoch();
        self.socket.push_back(Event { kind, id, epoch, at: scene.clock });
    }
}

fn row_event(bytes: &[u8], cursor: &Cursor, scene: &Scene) -> Event {
    let row = row_named(bytes);
    scene.tell(|| format!("stream writes row {row} with {}", shown(cursor)));
    Event {
        kind: EventKind::Row(row),
        id: text(|out| cursor.encode(out)),
        epoch: cursor.epoch(),
        at: scene.clock,
    }
}

/// The row's number, out of the event's `{"id":…}`.
fn row_named(bytes: &[u8]) -> usize {
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

fn text(encode: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<String> {
    let mut text = Vec::with_capacity(64);
    encode(&mut text).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// A cursor for the trace.
pub fn shown(cursor: &Cursor) -> String {
    let rows = |rows: &[RowKey]| {
        let rows: Vec<String> = rows.iter().map(|r| format!("{}/{}", r.xact, r.seq)).collect();
        rows.join(" ")
    };
    let (parts, recents) = (rows(cursor.parts()), rows(cursor.recents()));
    format!("[{}| {} | {parts} | {recents}]", cursor.epoch(), cursor.snapshot())
}
