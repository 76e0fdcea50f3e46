//! Streams of HTTP/2 that end although their peer takes nothing.
//!
//! hyper polls a body again only once the peer has room for what it gave before,
//! so a body cannot end its stream meanwhile; and the socket takes the bytes of
//! other streams, so nothing else would. But hyper has each stream run as a task
//! of ours: a task that is dropped resets its stream and leaves the others of the
//! connection alone. So the task asks the body, which it shares with hyper,
//! whether its time is over, and keeps the time in which the peer takes nothing.

use std::{
    cell::RefCell,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    body::{Body, Frame, SizeHint},
    rt::Executor,
};
use parking_lot::Mutex;
use tokio::time::Sleep;

use crate::server::{Answer, Stalled};

/// Runs hyper's streams.
#[derive(Clone, Copy)]
pub(super) struct Streams {
    /// How long the peer may take nothing of a stream.
    pub(super) stall: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let stall = self.stall;
        tokio::spawn(Stream { stream: Box::pin(stream), stall, body: None, blocked: None });
    }
}

/// A stream's task, and its body once there is one.
struct Stream<F> {
    stream: Pin<Box<F>>,
    stall: Duration,
    body: Option<Arc<dyn Timed>>,
    /// Since the peer takes nothing: what it was given last, and the end of our
    /// patience.
    blocked: Option<(u64, Pin<Box<Sleep>>)>,
}

thread_local! {
    /// The body that was polled first while a stream was polled: it is that
    /// stream's.
    static POLLED: RefCell<Option<Arc<dyn Timed>>> = const { RefCell::new(None) };
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(cx).is_ready() {
            POLLED.take();
            return Poll::Ready(());
        }
        let polled = POLLED.take();
        if self.body.is_none() {
            self.body = polled;
        }
        let Self { stall, body: Some(body), blocked, .. } = &mut *self else {
            return Poll::Pending;
        };
        let (given, over) = body.poll_blocked(cx);
        let Some(given) = given else {
            *blocked = None;
            return Poll::Pending;
        };
        if over.is_ready() {
            return Poll::Ready(());
        }
        let (_, patience) = match blocked {
            Some(blocked) if blocked.0 == given => blocked,
            _ => blocked.insert((given, Box::pin(tokio::time::sleep(*stall)))),
        };
        ready!(patience.as_mut().poll(cx));
        body.give_up();
        Poll::Ready(())
    }
}

/// A body whose peer may take nothing, and whose time may be over.
trait Timed: Send + Sync {
    /// The number of its last bytes that the peer has not taken, if there are
    /// any, and then whether its time is over.
    fn poll_blocked(&self, cx: &mut Context<'_>) -> (Option<u64>, Poll<()>);

    /// The peer has taken nothing for too long.
    fn give_up(&self);
}

/// A body that its stream's task can ask as well.
pub(super) struct Shared<B>(Arc<Inner<B>>);

struct Inner<B> {
    state: Mutex<State<B>>,
    stalled: Stalled,
}

struct State<B> {
    body: B,
    /// How often it has given bytes.
    given: u64,
    /// Whether hyper holds the last of them, for which the peer may have no room.
    is_held: bool,
    /// Whether the stream's task has it.
    is_known: bool,
}

impl<B> Shared<B> {
    pub(super) fn new(body: B, stalled: Stalled) -> Self {
        let state = State { body, given: 0, is_held: false, is_known: false };
        Self(Arc::new(Inner { state: Mutex::new(state), stalled }))
    }
}

impl<B: Answer + Send> Timed for Inner<B> {
    fn poll_blocked(&self, cx: &mut Context<'_>) -> (Option<u64>, Poll<()>) {
        let mut state = self.state.lock();
        if state.is_held {
            (Some(state.given), state.body.poll_over(cx))
        } else {
            (None, Poll::Pending)
        }
    }

    fn give_up(&self) {
        self.stalled.set();
    }
}

impl<B: Answer + Send + 'static> Body for Shared<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.0.state.lock();
        if !state.is_known {
            state.is_known = true;
            let body: Arc<dyn Timed> = Arc::<Inner<B>>::clone(&self.0);
            POLLED.set(Some(body));
        }
        let polled = Pin::new(&mut state.body).poll_frame(cx);
        state.is_held = polled.is_ready();
        state.given += u64::from(state.is_held);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.state.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.state.lock().body.size_hint()
    }
}
