//! Streams of HTTP/2 that end although their peer takes nothing.
//!
//! hyper polls a body again only once the peer has room for what it gave before,
//! so a body cannot end its stream meanwhile. But hyper has each stream run as a
//! task of ours: a task that is dropped resets its stream and leaves the others
//! of the connection alone. So the task asks the body, which it shares with
//! hyper, whether its time is over.

use std::{
    cell::RefCell,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    body::{Body, Frame, SizeHint},
    rt::Executor,
};
use parking_lot::Mutex;

use crate::server::Answer;

/// Runs hyper's streams.
#[derive(Clone, Copy)]
pub(super) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(Stream { stream: Box::pin(stream), body: None });
    }
}

/// A stream's task, and its body once there is one.
struct Stream<F> {
    stream: Pin<Box<F>>,
    body: Option<Arc<dyn Timed>>,
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
        match &self.body {
            Some(body) => body.poll_over(cx),
            None => Poll::Pending,
        }
    }
}

/// A body whose time may be over.
trait Timed: Send + Sync {
    fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A body that its stream's task can ask as well.
pub(super) struct Shared<B>(Arc<Inner<B>>);

struct Inner<B>(Mutex<State<B>>);

struct State<B> {
    body: B,
    /// Whether hyper holds bytes of it, for which the peer may have no room.
    has_given: bool,
    /// Whether the stream's task has it.
    is_known: bool,
}

impl<B> Shared<B> {
    pub(super) fn new(body: B) -> Self {
        Self(Arc::new(Inner(Mutex::new(State { body, has_given: false, is_known: false }))))
    }
}

impl<B: Answer + Send> Timed for Inner<B> {
    fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.has_given { state.body.poll_over(cx) } else { Poll::Pending }
    }
}

impl<B: Answer + Send + 'static> Body for Shared<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.0.0.lock();
        if !state.is_known {
            state.is_known = true;
            let body: Arc<dyn Timed> = Arc::<Inner<B>>::clone(&self.0);
            POLLED.set(Some(body));
        }
        let polled = Pin::new(&mut state.body).poll_frame(cx);
        state.has_given = polled.is_ready();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.0.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.0.lock().body.size_hint()
    }
}
