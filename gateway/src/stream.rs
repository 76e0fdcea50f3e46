//! One open response: `connected`, then live events and heartbeats, then
//! `closing` or a reader that has gone.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::time::Sleep;

use crate::{
    auth::Identity,
    ends::RecentEnds,
    hub::{Received, Subscription},
    metrics::{EventType, Metrics, StreamEnd},
    sse::{self, Closing},
};

/// What all streams of a gateway share.
pub struct StreamContext {
    /// The gateway's numbers.
    pub metrics: Arc<Metrics>,
    /// How each user's last stream ended.
    pub ends: RecentEnds,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// The client's wait before a reconnect, before jitter.
    pub retry: Duration,
    /// The time over which a stop spreads the reconnects it causes.
    pub drain: Duration,
}

impl StreamContext {
    /// The `retry:` of a stream: between one and two times the setting. One
    /// number for all would bring everybody back in the same instant.
    pub fn retry(&self) -> Duration {
        jitter(self.retry, self.retry)
    }

    fn retry_after(&self, closing: Closing) -> Duration {
        match closing {
            Closing::Shutdown => jitter(self.retry, self.drain),
            _ => self.retry(),
        }
    }
}

fn jitter(least: Duration, spread: Duration) -> Duration {
    least + spread.mul_f64(fastrand::f64())
}

/// The body of a stream's response. Dropped by the server when the client is
/// gone; then it has left the hub and is counted as ended.
pub struct EventStream {
    context: Arc<StreamContext>,
    subscription: Subscription,
    id: u64,
    opened: Instant,
    ends: Instant,
    /// One timer for what comes first, the next heartbeat or the token's end.
    timer: Pin<Box<Sleep>>,
    next_heartbeat: Instant,
    /// Bytes that are due now.
    greeting: Option<Bytes>,
    end: Option<Closing>,
}

impl EventStream {
    /// A stream for `identity`, which `subscription` already feeds; `id` tells
    /// it from others in the log.
    pub fn open(
        context: Arc<StreamContext>,
        subscription: Subscription,
        identity: &Identity,
        id: u64,
    ) -> Self {
        let opened = Instant::now();
        let until_end = identity.ends_at.duration_since(SystemTime::now()).unwrap_or_default();
        // A token may outlive any clock; a month is as good as for ever.
        const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
        let ends = opened + until_end.min(LONGEST);
        // Streams that came together do not have to beat together.
        let next_heartbeat = opened + context.heartbeat.mul_f64(0.5 + fastrand::f64() / 2.0);
        let timer = Box::pin(tokio::time::sleep_until(next_heartbeat.min(ends).into()));

        let mut greeting = BytesMut::with_capacity(256);
        let user = subscription.user();
        let connections = subscription.connections();
        sse::connected(&mut greeting, user, connections, identity.expires_at, context.retry());
        context.metrics.stream_opened();
        tracing::debug!(user.id = %user, stream.id = id, "stream opened");
        Self {
            context,
            subscription,
            id,
            opened,
            ends,
            timer,
            next_heartbeat,
            greeting: Some(greeting.freeze()),
            end: None,
        }
    }

    fn close(&mut self, closing: Closing) -> Bytes {
        self.end = Some(closing);
        let mut out = BytesMut::with_capacity(96);
        sse::closing(&mut out, closing, self.context.retry_after(closing));
        self.context.metrics.sent(EventType::Closing, 1);
        out.freeze()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        if let Some(greeting) = self.greeting.take() {
            self.context.metrics.sent(EventType::Connected, 1);
            return Poll::Ready(Some(greeting));
        }
        // The token's end comes first: a stream that is never without events
        // must end as well.
        if Instant::now() >= self.ends {
            return Poll::Ready(Some(self.close(Closing::TokenExpired)));
        }
        match self.subscription.poll_receive(cx) {
            Poll::Ready(Received::Events(events)) => {
                self.context.metrics.sent(EventType::Notification, events.len() as u64);
                return Poll::Ready(Some(gather(events)));
            }
            Poll::Ready(Received::Closed(closing)) => {
                return Poll::Ready(Some(self.close(closing)));
            }
            Poll::Pending => {}
        }
        ready!(self.timer.as_mut().poll(cx));
        let now = Instant::now();
        if now >= self.ends {
            return Poll::Ready(Some(self.close(Closing::TokenExpired)));
        }
        // The beat keeps its phase, but a stream that was held up does not make
        // up for what it missed.
        self.next_heartbeat = (self.next_heartbeat + self.context.heartbeat).max(now);
        self.timer.as_mut().reset(self.next_heartbeat.min(self.ends).into());
        let mut out = BytesMut::with_capacity(128);
        sse::heartbeat(&mut out, self.subscription.connections());
        self.context.metrics.sent(EventType::Heartbeat, 1);
        Poll::Ready(Some(out.freeze()))
    }
}

/// What is ready goes out in one write.
fn gather(mut events: std::collections::VecDeque<Bytes>) -> Bytes {
    if events.len() == 1 {
        return events.pop_front().unwrap_or_default();
    }
    let mut out = BytesMut::with_capacity(events.iter().map(Bytes::len).sum());
    for event in events {
        out.extend_from_slice(&event);
    }
    out.freeze()
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let end = self.end.map_or(StreamEnd::Disconnected, StreamEnd::Closed);
        let user = self.subscription.user();
        let lived = self.opened.elapsed();
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
