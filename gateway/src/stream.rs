//! One open response: `connected`, then what the client has missed, then live
//! rows and heartbeats, then `closing` or a reader that has gone.
//!
//! What goes out and with which cursor is decided in `feed.rs`; here are the
//! clock and the bytes.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Instant;

use crate::{
    auth::Identity,
    backoff::jitter,
    cursor::Cursor,
    ends::RecentEnds,
    feed::{EventId, Feed, LiveRows, Row},
    horizon::Resync,
    hub::{Received, Subscription},
    metrics::{EventType, Metrics},
    notification::Change,
    outcome::StreamEnd,
    replay::{PendingPage, Replays},
    server::Stalled,
    sse::{self, Connected},
};

/// What all streams of a gateway share.
pub struct StreamContext {
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
    /// How each user's last stream ended.
    pub ends: RecentEnds,
    /// Where streams that are behind ask for pages.
    pub replays: Arc<Replays>,
    /// Rows a reconnect replays at most.
    pub replay_limit: u32,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Bytes that a stream makes at once; [`ENOUGH`].
    pub enough: usize,
    /// The client's wait before a reconnect, before jitter.
    pub retry: Duration,
    /// The time over which a stop spreads the reconnects it causes.
    pub drain: Duration,
    /// How old a stream gets, before jitter; without it, as old as its token.
    pub max_age: Option<Duration>,
}

impl StreamContext {
    /// The `retry:` of a stream: between one and two times the setting. One
    /// number for all would bring everybody back in the same instant.
    pub fn retry(&self) -> Duration {
        jitter(self.retry, self.retry)
    }

    fn retry_after(&self, reason: StreamEnd) -> Duration {
        match reason {
            StreamEnd::Shutdown => jitter(self.retry, self.drain),
            _ => self.retry(),
        }
    }
}

/// The longest time between two signs of life. Proxies commonly cut what is silent
/// for 30 s and more.
const MAX_SILENCE: Duration = Duration::from_secs(15);

/// How many signs of life there are from one heartbeat to the next, which is the
/// last of them, and the time between two; the others are comments.
pub fn signs(heartbeat: Duration) -> (u32, Duration) {
    let signs = heartbeat.as_nanos().div_ceil(MAX_SILENCE.as_nanos()).max(1);
    let signs = u32::try_from(signs).unwrap_or(u32::MAX);
    (signs, heartbeat / signs)
}

/// Bytes that a stream makes at once, before it looks whether they are taken.
pub const ENOUGH: usize = 64 * 1024;

/// Room for rows that a stream keeps between two bursts.
const KEPT_ROWS: usize = 8;

/// How long a reader who may not read on has for the `closing` that says so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The body of a stream's response. Dropped by the server when the client is
/// gone; then it has left the hub and is counted as ended.
pub struct EventStream {
    context: Arc<StreamContext>,
    subscription: Subscription,
    feed: Feed,
    /// The page that is on its way.
    page: Option<PendingPage>,
    /// How many rows the first page may announce; a stream that falls behind
    /// later on reads all it has missed.
    replay_limit: Option<u32>,
    is_lagging: bool,
    stalled: Stalled,
    id: u64,
    opened: Instant,
    ends: Instant,
    /// What ends it then.
    ends_for: StreamEnd,
    /// When the next sign of life is due.
    next_sign: Instant,
    /// Signs before the next heartbeat that are comments.
    comments: u32,
    /// While the socket takes nothing: when the connection is cut.
    cut: Option<Instant>,
    /// When it has to be asked again although nothing wakes it.
    due: Option<Instant>,
    /// Events that are due now, rows apart.
    out: Vec<u8>,
    /// Rows on their way from the queue; kept for its memory.
    taken: LiveRows,
    end: Option<StreamEnd>,
}

impl EventStream {
    /// A stream for `identity`, which `subscription` already feeds, going on at
    /// `resumed`, the cursor the client brought; `id` tells it from others in
    /// the log.
    pub fn open(
        context: Arc<StreamContext>,
        subscription: Subscription,
        identity: &Identity,
        resumed: Option<Result<Cursor, Resync>>,
        stalled: Stalled,
        id: u64,
    ) -> Self {
        let opened = Instant::now();
        let until_token = identity.ends_at.duration_since(SystemTime::now()).unwrap_or_default();
        // Streams that came together, after a restart say, do not end together.
        let until_age = context.max_age.map(|age| jitter(age.mul_f64(0.9), age.mul_f64(0.2)));
        // A token may outlive any clock; a month is longer than any stream.
        const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
        let until_age = until_age.unwrap_or(LONGEST).min(LONGEST);
        let (until_end, ends_for) = if until_age < until_token {
            (until_age, StreamEnd::MaxAge)
        } else {
            (until_token, StreamEnd::TokenExpired)
        };
        let ends = opened + until_end;
        // Streams that came together are not all due together.
        let (signs, every) = signs(context.heartbeat);
        let next_sign = opened + every.mul_f64(fastrand::f64());

        let (cursor, resync) = match resumed {
            None => (subscription.beginning().cursor(), None),
            Some(Ok(cursor)) => (cursor, None),
            Some(Err(reason)) => (subscription.horizon().cursor(), Some(reason)),
        };
        let mut stream = Self {
            replay_limit: Some(context.replay_limit),
            context,
            subscription,
            feed: Feed::new(cursor),
            page: None,
            is_lagging: true,
            stalled,
            id,
            opened,
            ends,
            ends_for,
            next_sign,
            comments: signs - 1,
            cut: None,
            due: None,
            out: Vec::with_capacity(512),
            taken: LiveRows::new(),
            end: None,
        };
        stream.connected(identity.expires_at, resync.is_some());
        if let Some(reason) = resync {
            stream.resync(reason);
        }
        stream.context.metrics.stream_opened();
        stream.context.metrics.lagging(1.0);
        let user = stream.subscription.user();
        tracing::debug!(user.id = %user, stream.id = id, "stream opened");
        // Now and not when it is first asked for events: the replay is a part of the connect.
        stream.read();
        stream
    }

    /// Its place in the hub.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// Whether rows wait for it in the table or in its queue.
    pub fn is_lagging(&self) -> bool {
        self.is_lagging
    }

    /// When it has to be asked again although nothing wakes it, after it was
    /// pending.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// As [`Answer::poll_fill`](crate::server::Answer::poll_fill).
    pub fn poll_events(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<bool> {
        let before = out.len();
        let now = Instant::now();
        self.cut = None;
        loop {
            if !self.out.is_empty() {
                out.append(&mut self.out);
                // Rare and small: not kept while nothing happens.
                self.out = Vec::new();
            }
            if self.end.is_some() {
                return Poll::Ready(false);
            }
            // The next page is asked for when the socket has taken this one.
            let is_page = out.len() > before && self.feed.is_behind();
            if is_page || out.len() - before >= self.context.enough {
                return Poll::Ready(true);
            }
            // The token's end comes first: a stream that is never without
            // events must end as well.
            if now >= self.ends {
                self.close(self.ends_for);
                continue;
            }
            if self.poll_feed(cx, out).is_ready() {
                continue;
            }
            if now < self.next_sign {
                self.due = Some(self.next_sign.min(self.ends));
                return Poll::Pending;
            }
            self.sign(now);
        }
    }

    /// Asked while the socket takes nothing, in place of
    /// [`EventStream::poll_events`]: ready when the user may not read on and the
    /// connection has to be cut, without a word that would not arrive either.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_lagging && self.subscription.horizon_if_idle().is_none() {
            // A reader that has stopped lags as soon as something waits for it.
            self.set_lagging(true);
        }
        let now = Instant::now();
        let cut = match self.end {
            None if self.subscription.poll_closed(cx) == Poll::Ready(StreamEnd::Revoked) => {
                self.end = Some(StreamEnd::Revoked);
                return Poll::Ready(());
            }
            None => self.ends,
            // It has been told so, and the last bytes are on their way.
            Some(StreamEnd::Revoked | StreamEnd::TokenExpired) => now + LAST_WORDS,
            Some(_) => {
                self.due = None;
                return Poll::Pending;
            }
        };
        let cut = *self.cut.get_or_insert(cut);
        if now < cut {
            self.due = Some(cut);
            return Poll::Pending;
        }
        self.end.get_or_insert(self.ends_for);
        Poll::Ready(())
    }

    /// Does the next thing the feed is waiting for.
    fn poll_feed(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<()> {
        if self.feed.is_live() {
            match std::task::ready!(self.subscription.poll_receive(cx, &mut self.taken)) {
                Received::Rows => {
                    let mut writer = Writer::new(out);
                    let now = SystemTime::now();
                    for live in self.taken.drain(..) {
                        if !self.feed.is_live() {
                            // The rest is in the table as well.
                            break;
                        }
                        self.feed.take_live(&live, |row, id| {
                            writer.write(row, id);
                            if let Some(made_at) = row.made_at {
                                self.context.metrics.delivered(made_at, now);
                            }
                        });
                    }
                    let count = writer.count;
                    // A burst's memory is not kept for the next one.
                    if self.taken.capacity() > KEPT_ROWS {
                        self.taken = LiveRows::new();
                    }
                    self.sent_rows(count);
                    self.set_lagging(!self.feed.is_live());
                }
                Received::Lost => self.feed.fall_behind(),
                Received::Closed(closing) => self.close(closing),
            }
            return Poll::Ready(());
        }
        if let Poll::Ready(closing) = self.subscription.poll_closed(cx) {
            self.close(closing);
            return Poll::Ready(());
        }
        if self.feed.is_behind() {
            self.read();
        }
        let Some(page) = &mut self.page else { return Poll::Pending };
        let answer = std::task::ready!(Pin::new(page).poll(cx));
        self.page = None;
        match answer {
            Ok(Ok(page)) => {
                self.replay_limit = None;
                let mut writer = Writer::new(out);
                self.feed.take_page(&page, |row, id| writer.write(row, id));
                let count = writer.count;
                self.sent_rows(count);
                self.set_lagging(!self.feed.is_live());
            }
            Ok(Err(reason)) => self.resync(reason),
            // The task that was to answer is gone; ask again.
            Err(_) => self.feed.fall_behind(),
        }
        Poll::Ready(())
    }

    fn read(&mut self) {
        self.set_lagging(true);
        self.subscription.restart();
        let cursor = self.feed.read().clone();
        let user = self.subscription.user();
        self.page = Some(self.context.replays.ask(user.clone(), cursor, self.replay_limit));
    }

    /// A heartbeat, or a comment before it.
    fn sign(&mut self, now: Instant) {
        let (signs, every) = signs(self.context.heartbeat);
        // They keep their phase, but a stream that was held up does not make up
        // for what it missed.
        self.next_sign += every;
        if self.next_sign <= now {
            self.next_sign = now + every;
        }
        if self.comments > 0 {
            self.comments -= 1;
            sse::comment(&mut self.out);
        } else {
            self.comments = signs - 1;
            self.heartbeat();
        }
    }

    fn connected(&mut self, expires_at: SystemTime, is_resync: bool) {
        let connected = Connected {
            user: self.subscription.user(),
            connections: self.subscription.connections(),
            expires_at,
            heartbeat: self.context.heartbeat,
            retry: self.context.retry(),
        };
        // Before a resync it claims nothing: a client that is cut off between the
        // two must hear of it the next time.
        let id = (!is_resync).then_some(self.feed.cursor());
        sse::connected(&mut self.out, id, connected);
        self.context.metrics.sent(EventType::Connected, 1);
    }

    fn heartbeat(&mut self) {
        if let Some(horizon) = self.subscription.horizon_if_idle() {
            self.feed.rest(&horizon);
        }
        sse::heartbeat(&mut self.out, self.feed.cursor(), self.subscription.connections());
        self.context.metrics.sent(EventType::Heartbeat, 1);
    }

    fn resync(&mut self, reason: Resync) {
        self.feed.resync(&self.subscription.horizon());
        self.replay_limit = None;
        sse::resync(&mut self.out, self.feed.cursor(), reason);
        self.context.metrics.sent(EventType::Resync, 1);
        let user = self.subscription.user();
        tracing::debug!(user.id = %user, stream.id = self.id, reason = reason.reason(), "resync");
    }

    fn close(&mut self, reason: StreamEnd) {
        self.end = Some(reason);
        let retry = self.context.retry_after(reason);
        sse::closing(&mut self.out, Some(self.feed.cursor()), reason.reason(), retry);
        self.context.metrics.sent(EventType::Closing, 1);
    }

    fn sent_rows(&self, count: WriteCount) {
        for (event, rows) in [
            (EventType::Notification, count.new),
            (EventType::Updated, count.updated),
            (EventType::Deleted, count.deleted),
        ] {
            if rows > 0 {
                self.context.metrics.sent(event, rows);
            }
        }
        // Where an id is too long, a watermark makes it short as well.
        if count.without_id > 0 || self.feed.wants_watermark() {
            self.subscription.want_watermark();
        }
    }

    fn set_lagging(&mut self, is_lagging: bool) {
        if self.is_lagging != is_lagging {
            self.is_lagging = is_lagging;
            self.context.metrics.lagging(if is_lagging { 1.0 } else { -1.0 });
        }
    }
}

/// Puts rows and their cursors behind one another: what is ready goes out in
/// one write.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    count: WriteCount,
}

#[derive(Clone, Copy, Default)]
struct WriteCount {
    new: u64,
    updated: u64,
    deleted: u64,
    without_id: u64,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, count: WriteCount::default() }
    }

    fn write(&mut self, row: &Row, id: EventId<'_>) {
        self.out.extend_from_slice(&row.event);
        let has_id = sse::finish(self.out, |out| id.encode(out));
        match row.change {
            Change::New => self.count.new += 1,
            Change::Updated => self.count.updated += 1,
            Change::Deleted => self.count.deleted += 1,
        }
        self.count.without_id += u64::from(!has_id);
    }
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut out = Vec::new();
        match self.poll_events(cx, &mut out) {
            Poll::Pending if out.is_empty() => Poll::Pending,
            Poll::Ready(false) if out.is_empty() => Poll::Ready(None),
            // It is asked again in any case.
            _ => Poll::Ready(Some(Ok(Frame::data(out.into())))),
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let end = match self.end {
            Some(ended) => ended,
            None if self.stalled.is_set() => StreamEnd::SlowConsumer,
            None => StreamEnd::Disconnected,
        };
        let lived = self.opened.elapsed();
        self.set_lagging(false);
        let user = self.subscription.user();
        self.context.metrics.stream_ended(end, lived);
        self.context.ends.record(user, end);
        tracing::debug!(
            user.id = %user,
            stream.id = self.id,
            reason = end.reason(),
            duration_ms = u64::try_from(lived.as_millis()).unwrap_or(u64::MAX),
            "stream ended"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stream_is_silent_for_longer_than_proxies_bear() {
        for (heartbeat, expected) in [
            (Duration::from_millis(10), (1, Duration::from_millis(10))),
            (Duration::from_secs(15), (1, Duration::from_secs(15))),
            (Duration::from_secs(16), (2, Duration::from_secs(8))),
            (Duration::from_secs(30), (2, Duration::from_secs(15))),
            (Duration::from_secs(60), (4, Duration::from_secs(15))),
        ] {
            assert_eq!(signs(heartbeat), expected);
        }
    }
}
