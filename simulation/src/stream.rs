//! One open response: the gateway's own body, and the socket that it writes to.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use notify_gateway::{
    auth::Identity,
    cursor::Cursor,
    horizon::Resync,
    hub::Subscription,
    notification::{Change, UserId},
    server::Stalled,
    stream::{EventStream, StreamContext},
};

use crate::{sabotage::Sabotage, scene::Scene};

/// An event in the socket.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it is.
    pub kind: EventKind,
    /// Its `id:` line.
    pub id: Option<String>,
    /// When it was written.
    pub at: u64,
}

/// What the client makes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The first of every stream.
    Connected,
    /// What has become of a row, and the event that its bytes name.
    Row(Change, usize),
    /// A sign of life.
    Heartbeat,
    /// What the client has missed will not come, for this reason.
    Resync(Resync),
    /// The last of a stream that the gateway ends.
    Closing,
}

/// The rows each user was given on a gateway: nothing the real one keeps.
pub type GivenRows = HashSet<(UserId, usize)>;

/// One stream.
pub struct Stream {
    /// Names it on its gateway.
    pub id: u64,
    /// Written and not read yet.
    pub socket: VecDeque<Event>,
    /// Whether anyone reads it. A gateway learns late that a client is gone.
    pub is_read: bool,
    user: UserId,
    body: EventStream,
    opened: u64,
    has_ended: bool,
}

impl Stream {
    /// A stream that goes on at `resumed`, the text the client brought.
    pub fn open(
        id: u64,
        context: Arc<StreamContext>,
        subscription: Subscription,
        resumed: Option<&str>,
        clock: u64,
    ) -> Self {
        // Tokens do not expire here: streams end at the greatest age there is.
        const LONG: Duration = Duration::from_secs(1 << 32);
        let user = subscription.user().clone();
        let ends_at = SystemTime::now() + LONG;
        let identity =
            Identity { user: user.clone(), issued_at: None, expires_at: ends_at, ends_at };
        let resumed = resumed.map(|text| Cursor::parse(text).map_err(|_| Resync::Malformed));
        let stalled = Stalled::default();
        let body = EventStream::open(context, subscription, &identity, resumed, stalled, id);
        let (socket, is_read, has_ended) = (VecDeque::new(), true, false);
        Self { id, socket, is_read, user, body, opened: clock, has_ended }
    }

    /// Whose it is.
    pub fn user(&self) -> UserId {
        self.user.clone()
    }

    /// Whether it is up to date and nothing waits in its socket.
    pub fn is_idle(&self) -> bool {
        !self.body.is_lagging() && self.socket.is_empty() && !self.has_ended
    }

    /// Whether its last event is written.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Writes what is due, if the socket takes more.
    pub fn poll(&mut self, given: &mut GivenRows, scene: &Scene) -> bool {
        if self.has_ended || self.socket.len() >= scene.plan.socket_events {
            return false;
        }
        if scene.is_without(Sabotage::Registration) && self.body.is_lagging() {
            self.body.subscription().restart();
        }
        let mut out = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        self.has_ended = self.body.poll_events(&mut cx, &mut out) == Poll::Ready(false);
        let before = self.socket.len();
        for text in String::from_utf8_lossy(&out).split_terminator("\n\n") {
            let Some(mut event) = parse(text, scene.clock) else { continue };
            match event.kind {
                // It was written when the stream was opened, and waited here.
                EventKind::Connected => event.at = self.opened,
                EventKind::Row(_, row)
                    if scene.is_without(Sabotage::SharedRecents)
                        && !given.insert((self.user.clone(), row)) =>
                {
                    continue;
                }
                _ => {}
            }
            scene.tell(|| {
                let id = event.id.as_deref().and_then(|id| Cursor::parse(id).ok());
                let id = id.map_or_else(|| "no id".to_owned(), |id| shown(&id));
                format!("stream {} writes {:?} with {id}", self.id, event.kind)
            });
            self.socket.push_back(event);
        }
        self.has_ended || self.socket.len() > before
    }
}

/// Nothing for a comment.
fn parse(text: &str, at: u64) -> Option<Event> {
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = field("data").unwrap_or_default();
    let kind = match field("event")? {
        "connected" => EventKind::Connected,
        "notification" => EventKind::Row(Change::New, number(data)),
        "updated" => EventKind::Row(Change::Updated, number(data)),
        "deleted" => EventKind::Row(Change::Deleted, number(data)),
        "heartbeat" => EventKind::Heartbeat,
        "resync" => EventKind::Resync(reason(data)),
        "closing" => EventKind::Closing,
        other => unreachable!("an event {other:?}"),
    };
    Some(Event { kind, id: field("id").map(ToOwned::to_owned), at })
}

/// The row's number, out of the event's `{"id":…}`.
fn number(data: &str) -> usize {
    let digits = data.bytes().filter(u8::is_ascii_digit);
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

fn reason(data: &str) -> Resync {
    let all = [Resync::Malformed, Resync::Foreign, Resync::Future, Resync::TooFarBack];
    let found = all.into_iter().find(|reason| data.contains(reason.reason()));
    found.unwrap_or_else(|| unreachable!("a resync for {data}"))
}

/// A cursor for the trace.
fn shown(cursor: &Cursor) -> String {
    let rows = |rows: &[notify_gateway::cursor::RowKey]| {
        let rows: Vec<String> = rows.iter().map(|r| format!("{}/{}", r.xact, r.seq)).collect();
        rows.join(" ")
    };
    let (parts, recents) = (rows(cursor.parts()), rows(cursor.recents()));
    format!("[{}| {} | {parts} | {recents}]", cursor.epoch(), cursor.snapshot())
}
