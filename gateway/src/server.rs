//! Sockets: accept, speak HTTP, drain. Takes a service and knows no routes.

pub(crate) mod head;
mod http1;
mod http2;
mod places;
mod reactor;
mod stall;
mod timer;

use std::{
    convert::Infallible,
    error::Error as StdError,
    io,
    net::SocketAddr,
    panic::resume_unwind,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    service::Service,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use head::Persistence;
use http1::{Next, Streaming};
pub use places::Bounds;
use places::{Place, Places};
use reactor::{Arrivals, Reactor};
use stall::StallGuard;
pub use stall::Stalled;

use crate::{error::LogGate, problem::Problem, tls::Acceptor};

/// TCP handshakes that the kernel finishes before the gateway accepts them. With
/// the usual 128 a rush of reconnects overflows the queue, and each dropped SYN
/// costs its client a second. The kernel caps this at `net.core.somaxconn`.
const LISTEN_BACKLOG: u32 = 4096;

/// A client gets this long to make its first request, and an HTTP/1 client to
/// send each head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer may leave bytes unacknowledged before the kernel closes its
/// connection. The heartbeat sends such bytes, so a dead peer is gone after one
/// heartbeat and this time.
const DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes that the kernel takes although the peer has no room for them. Without
/// this limit it would take some megabytes for a reader that has stopped, all of
/// them read from the table in vain. A page of a replay is about as large.
#[cfg(target_os = "linux")]
const MAX_UNSENT_BYTES: u32 = 64 * 1024;

/// A request's body is read up to this length; what is sent to the gateway itself
/// has none.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// How long the accept loop waits when the process is out of file descriptors:
/// one becomes free only when a connection ends.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// The other end of a connection; each request has it in its extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address it connects from, perhaps a proxy's.
    pub address: SocketAddr,
    /// Whether it has been given up because it read nothing, or over HTTP/2 the
    /// stream of this request.
    pub stalled: Stalled,
}

/// In the extensions of a request that stands for bytes which are none: what is
/// wrong with them, which is the answer. Of its headers the request has only
/// `Origin`, so that a page may read that answer.
#[derive(Clone, Debug)]
pub struct Malformed(pub Problem);

/// A request as a service gets it.
pub type ServerRequest = Request<RequestBody>;

/// What a request brings along: mostly nothing.
pub enum RequestBody {
    /// It has no body.
    Empty,
    /// It has one, and here it is.
    Full(Full<Bytes>),
    /// It has one that is not read: it is long, or nobody knows how long.
    Unread,
    /// It has one, which may still be on its way (HTTP/2).
    Incoming(Incoming),
}

/// Why a request's body cannot be read.
pub type BodyError = Box<dyn StdError + Send + Sync>;

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Unread => Poll::Ready(Some(Err(format!(
                "a body needs a Content-Length of at most {MAX_BODY_BYTES} bytes"
            )
            .into()))),
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(body) => body.is_end_stream(),
            Self::Unread => false,
            Self::Incoming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(body) => body.size_hint(),
            Self::Unread => SizeHint::default(),
            Self::Incoming(body) => body.size_hint(),
        }
    }
}

/// What answers requests.
pub trait Application:
    Service<
        ServerRequest,
        Response = Response<<Self as Application>::Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
    + Sync
    + 'static
{
    /// The bodies of its answers.
    type Body: Answer + Send + 'static;
}

impl<S, B> Application for S
where
    S: Service<ServerRequest, Response = Response<B>, Error = Infallible>,
    S: Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Answer + Send + 'static,
{
    type Body = B;
}

/// The body of an answer. As a [`Body`] it gives its bytes away; here it writes
/// them into a buffer of the server's, which is one for many streams.
pub trait Answer: Body<Data = Bytes, Error = Infallible> + Unpin {
    /// Appends what is there to `out`. Pending if there is no more for now, ready
    /// with true if there is, and with false at the end; `out` may have got
    /// something in each case.
    fn poll_fill(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<bool> {
        let frame = ready!(Pin::new(self).poll_frame(cx));
        let Some(Ok(frame)) = frame else { return Poll::Ready(false) };
        out.extend_from_slice(&frame.into_data().unwrap_or_default());
        Poll::Ready(true)
    }

    /// When it has to be asked again although nothing wakes it, after it was
    /// pending.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Asked while the peer does not take what it was given, when nothing else
    /// is asked of the body: ready when the connection must end at once,
    /// although the peer has not seen everything.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _never = cx;
        Poll::Pending
    }
}

impl Answer for Full<Bytes> {}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Open connections may take this long to end at a stop.
    pub drain: Duration,
    /// A peer may read nothing for this long.
    pub stall: Duration,
}

/// Binds a listening socket.
///
/// # Errors
///
/// What the system says: the port is taken, the address is not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart binds while connections of the old process are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

/// Takes over a socket that listens already. It stays open elsewhere: clients that connect while
/// nobody accepts wait instead of being refused.
///
/// # Errors
///
/// What the system says.
pub fn take(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves HTTP/1.1 and HTTP/2 (prior knowledge; with `tls` by ALPN) until `shutdown`, then lets the
/// open connections end for as long as `patience` says, then cuts them.
///
/// Bodies without an end must be ended by their makers, or the drain takes all
/// of its time.
pub async fn serve<S: Application>(
    listener: TcpListener,
    tls: Option<Acceptor>,
    service: S,
    shutdown: CancellationToken,
    patience: Patience,
    bounds: Bounds,
) {
    let (departures, mut departed) = mpsc::unbounded_channel();
    let mut reactors = JoinSet::new();
    let handles = (0..tokio::runtime::Handle::current().metrics().num_workers()).map(|_| {
        let (handle, reactor) = Reactor::new(departures.clone());
        reactors.spawn(reactor.run());
        handle
    });
    let handles = handles.collect();
    drop(departures);
    let Patience { drain, stall } = patience;
    let port = Port { service, shutdown: shutdown.clone(), stall, reactors: handles };
    let port = Arc::new(port);
    let mut connections = JoinSet::new();
    let places = Places::new(bounds);
    let log = LogGate::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            // A reactor ends before its port only if it has failed.
            Some(ended) = reactors.join_next() => {
                if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
                    resume_unwind(panic);
                }
                return;
            }
            // The memory of connections that have ended is given back.
            Some(_) = connections.join_next() => continue,
            Some((connection, stream, persistence)) = departed.recv() => {
                connections.spawn(connection.resume(stream, persistence));
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(place) = places.enter(address.ip()) else { continue };
                let peer = Peer { address, stalled: Stalled::default() };
                let connection = Connection { peer, place, port: Arc::clone(&port) };
                connections.spawn(connection.serve(stream, tls.clone()));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Some are accepted in between, as others end.
                if log.opens() {
                    tracing::error!(
                        %error,
                        "cannot accept connections; more in the next minute are not told"
                    );
                }
                places.make_room();
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    // New connections are refused from here on, rather than left waiting.
    drop(listener);
    // The reactors end when nobody can give them anything.
    drop(port);
    let ending = async {
        loop {
            tokio::select! {
                Some((connection, stream, persistence)) = departed.recv() => {
                    connections.spawn(connection.resume(stream, persistence));
                }
                Some(_) = connections.join_next() => {}
                else => break,
            }
        }
    };
    if tokio::time::timeout(drain, ending).await.is_err() {
        tracing::warn!(connections = places.open(), "the drain time is over; cutting the rest");
        reactors.shutdown().await;
        connections.shutdown().await;
    }
}

/// Whether the peer went away between its handshake and our accept. Then there
/// is nothing to log, and the next accept may succeed.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// What all connections of a port share.
struct Port<S: Application> {
    service: S,
    shutdown: CancellationToken,
    /// How long a peer may read nothing.
    stall: Duration,
    /// One for each thread.
    reactors: Vec<Arrivals<Streaming<Io, S>>>,
}

impl<S: Application> Port<S> {
    /// Leaves a stream to one of the reactors.
    fn hold(&self, streaming: Streaming<Io, S>) {
        let reactor = fastrand::usize(..self.reactors.len());
        // One that has failed takes the port with it.
        let _sent = self.reactors[reactor].send(streaming);
    }
}

/// What a connection is served with, whatever protocol it speaks.
struct Connection<S: Application> {
    peer: Peer,
    place: Place,
    port: Arc<Port<S>>,
}

impl<S: Application> Connection<S> {
    async fn serve(self, stream: TcpStream, tls: Option<Acceptor>) {
        let stall = self.port.stall;
        if let Err(error) = tune(&stream, stall) {
            tracing::debug!(%error, "cannot set socket options");
        }
        // Below TLS: what counts is that the socket takes bytes.
        let stream = StallGuard::new(stream, stall, self.peer.stalled.clone());
        match tls {
            None => self.http(Io::Plain(stream), true).await,
            // Boxed: this future is large and unused when a proxy terminates TLS.
            Some(tls) => Box::pin(self.https(tls, stream)).await,
        }
    }

    async fn https(self, tls: Acceptor, stream: StallGuard<TcpStream>) {
        let handshake = {
            let idle = self.place.idle();
            tokio::select! {
                handshake = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)) => handshake,
                () = idle.cut() => return,
                () = self.port.shutdown.cancelled() => return,
            }
        };
        match handshake {
            Ok(Ok(stream)) => self.http(Io::Tls(Box::new(stream)), true).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn http(self, mut stream: Io, is_first: bool) {
        let result = match http1::serve(&mut stream, &self, is_first).await {
            Ok(Next::Close) => Ok(()),
            Ok(Next::Stream(answer)) => {
                let port = Arc::clone(&self.port);
                port.hold(answer.on(stream, self));
                Ok(())
            }
            // Boxed: hyper's connection is large, and most are HTTP/1.1.
            Ok(Next::Http2(read)) => Box::pin(http2::serve(read, stream, self)).await,
            Err(error) => Err(error.into()),
        };
        log_failure(result);
    }

    /// Goes on after a stream.
    async fn resume(self, mut stream: Io, persistence: Persistence) {
        if persistence == Persistence::KeepAlive && !self.port.shutdown.is_cancelled() {
            return self.http(stream, false).await;
        }
        log_failure(http1::hang_up(&mut stream).await.map_err(Into::into));
    }
}

fn log_failure(result: Result<(), Box<dyn StdError + Send + Sync>>) {
    if let Err(error) = result {
        // Peers vanish and send garbage all day; nobody has to act on it.
        tracing::debug!(error = innermost(&*error), "connection failed");
    }
}

/// A connection's socket, with TLS or without.
enum Io {
    Plain(StallGuard<TcpStream>),
    /// Boxed: it is large, and without TLS nobody pays for it.
    Tls(Box<TlsStream<StallGuard<TcpStream>>>),
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

fn tune(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    // An event is one small write; Nagle's algorithm would hold it back until
    // the last one is acknowledged.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(DEAD_PEER_TIMEOUT).with_interval(DEAD_PEER_TIMEOUT / 3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        // The kernel also counts the time in which the peer keeps its window
        // closed, so more patience with a reader is more with a dead peer.
        let is_longer = stall > DEAD_PEER_TIMEOUT;
        let timeout = if is_longer { stall + DEAD_PEER_TIMEOUT } else { DEAD_PEER_TIMEOUT };
        socket.set_tcp_user_timeout(Some(timeout))?;
        socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
    }
    Ok(())
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::Routes, stream::EventStream};

    /// docs/performance.md says where the bytes of an idle stream are.
    #[test]
    fn what_a_stream_holds_while_nothing_happens_does_not_grow_unnoticed() {
        let sizes = (size_of::<Streaming<Io, Routes>>(), size_of::<EventStream>());
        assert!(sizes.0 <= 304 && sizes.1 <= 328, "{sizes:?} bytes");
    }
}
