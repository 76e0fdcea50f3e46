//! HTTP/2, which hyper speaks.

mod cuttable;

use std::{
    convert::Infallible,
    error::Error,
    io::Cursor,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    sync::Notify,
};

use self::cuttable::{Shared, Streams};
use super::{
    Answer, Application, Connection, DEAD_PEER_TIMEOUT, HEAD_TIMEOUT, Peer, RequestBody,
    ServerRequest, head::MAX_HEAD_BYTES, places::Place, timer::Timer,
};

/// Streams one HTTP/2 connection may have open: a browser has one a tab.
const MAX_STREAMS: u32 = 128;

/// Streams that a client has opened and reset before we looked at them, and
/// streams that we have reset because the client broke the rules: with more the
/// connection ends (CVE-2023-44487, CVE-2025-8671). An honest client has few.
const MAX_RESETS: usize = 32;

/// Bytes of an HTTP/2 stream that may wait for the peer's window. hyper's own
/// limit is 400 KiB, which one connection could ask for 128 times.
const SEND_BUFFER: usize = 64 * 1024;

/// Bytes that a peer may send of bodies that nobody reads: the least that the
/// protocol knows (RFC 9113, section 6.9.2).
const RECEIVE_WINDOW: u32 = 65_535;

/// Serves HTTP/2, of which `read` has been read.
///
/// hyper answers one PING and one SETTINGS at a time and reads no more until
/// the answer is written: a flood of them costs its sender.
pub(super) async fn serve<I, S>(
    read: BytesMut,
    stream: I,
    connection: Connection<S>,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Application,
{
    let Connection { peer, place, port } = connection;
    let activity = Arc::new(Activity::new(place));
    let requests = Arc::clone(&activity);
    let shared = Arc::clone(&port);
    let service = service_fn(move |request: Request<Incoming>| {
        let guard = Open::new(&requests);
        let peer = Peer { stalled: peer.stalled.of_stream(), ..peer };
        let stalled = peer.stalled.clone();
        let answer = shared.service.call(with_peer(request, peer));
        async move {
            let guarded = |body| {
                Shared::new(Guarded { body, timer: Timer::default(), _open: guard }, stalled)
            };
            Ok::<_, Infallible>(answer.await?.map(guarded))
        }
    });
    let connection = conn::http2::Builder::new(Streams { stall: port.stall })
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .keep_alive_interval(DEAD_PEER_TIMEOUT)
        .keep_alive_timeout(DEAD_PEER_TIMEOUT)
        .serve_connection(TokioIo::new(unread(read, stream)), service);
    let mut connection = std::pin::pin!(connection);
    // hyper waits without a limit for the first request, and for the next.
    let mut idle = tokio::time::interval(HEAD_TIMEOUT);
    idle.reset();
    let mut draining = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => return Ok(result?),
            () = activity.cut.notified() => return Ok(()),
            _ = idle.tick(), if !draining => match activity.since_last_asked() {
                Since::Start => return Ok(()),
                Since::Idle => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                Since::Busy => {}
            },
            () = port.shutdown.cancelled(), if !draining => {
                if activity.counts.lock().requests == 0 {
                    return Ok(());
                }
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What an HTTP/2 connection is used for.
struct Activity {
    place: Place,
    /// Notified when the connection has to make room, which it may have to
    /// while nothing is asked.
    cut: Arc<Notify>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: usize,
    seen: usize,
    open: usize,
    /// While none is open: where this connection stands among the idle ones.
    idle: Option<u64>,
}

enum Since {
    /// Nothing has been asked at all.
    Start,
    /// Nothing is asked and nothing was.
    Idle,
    Busy,
}

impl Activity {
    fn new(place: Place) -> Self {
        let cut = Arc::new(Notify::new());
        let counts = Counts { idle: Some(place.rest(&cut)), ..Counts::default() };
        Self { place, cut, counts: Mutex::new(counts) }
    }

    fn since_last_asked(&self) -> Since {
        let mut counts = self.counts.lock();
        let is_quiet = counts.seen == counts.requests;
        counts.seen = counts.requests;
        match (counts.requests, is_quiet && counts.open == 0) {
            (0, _) => Since::Start,
            (_, true) => Since::Idle,
            (_, false) => Since::Busy,
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        if let Some(id) = self.counts.get_mut().idle.take() {
            self.place.busy(id);
        }
    }
}

/// A request that is being answered.
struct Open(Arc<Activity>);

impl Open {
    fn new(activity: &Arc<Activity>) -> Self {
        let mut counts = activity.counts.lock();
        counts.requests += 1;
        counts.open += 1;
        if let Some(id) = counts.idle.take() {
            activity.place.busy(id);
        }
        drop(counts);
        Self(Arc::clone(activity))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut counts = self.0.counts.lock();
        counts.open -= 1;
        if counts.open == 0 {
            counts.idle = Some(self.0.place.rest(&self.0.cut));
        }
    }
}

/// An answer's body, for as long as it is on its way.
struct Guarded<B> {
    body: B,
    /// Of the body's own deadlines.
    timer: Timer,
    _open: Open,
}

impl<B: Answer> Guarded<B> {
    /// Asks the body, and again when it is due.
    fn poll_timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        ask: impl Fn(&mut B, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        loop {
            if let Poll::Ready(answer) = ask(&mut self.body, cx) {
                return Poll::Ready(answer);
            }
            let Some(due) = self.body.due() else { return Poll::Pending };
            ready!(self.timer.poll_until(due, cx));
        }
    }
}

impl<B: Answer> Body for Guarded<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_timed(cx, |body, cx| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Answer> Answer for Guarded<B> {
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_timed(cx, B::poll_over)
    }
}

fn with_peer(request: Request<Incoming>, peer: Peer) -> ServerRequest {
    let mut request = request.map(RequestBody::Incoming);
    request.extensions_mut().insert(peer);
    request
}

/// The stream as it was before `read` was read.
fn unread<I: AsyncRead + AsyncWrite>(
    read: BytesMut,
    stream: I,
) -> impl AsyncRead + AsyncWrite + Unpin {
    let (reader, writer) = tokio::io::split(stream);
    tokio::io::join(Cursor::new(read).chain(reader), writer)
}
