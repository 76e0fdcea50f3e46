//! Sockets: accept, speak HTTP, drain. Takes a service and knows no routes.

mod stall;

use std::{
    convert::Infallible,
    error::Error as StdError,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::{Body, Bytes, Incoming},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use stall::StallGuard;
pub use stall::Stalled;

use crate::tls::Acceptor;

/// Handshakes the kernel finishes for us while we accept. With the usual 128 a
/// rush of reconnects overflows it, and a dropped SYN costs its client a second.
/// The kernel caps it at `net.core.somaxconn`.
const LISTEN_BACKLOG: u32 = 4096;

/// A client gets this long to make its first request, and an HTTP/1 client to
/// send each head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A request head is at most this long; a longer one is 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Streams one HTTP/2 connection may have open: a browser has one a tab.
const MAX_HTTP2_STREAMS: u32 = 128;

/// Bytes a peer may leave unacknowledged for this long before the kernel gives
/// it up: with a heartbeat to carry them, a dead peer is gone by then.
const DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the accept loop rests when the process is out of file descriptors:
/// they come back only when a connection ends.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection: in the extensions of each request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it has been given up because it read nothing.
    pub stalled: Stalled,
}

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

/// Serves HTTP/1.1 and HTTP/2 (prior knowledge; with `tls` by ALPN) until `shutdown`, then lets the
/// open connections end for as long as `patience` says, then cuts them.
///
/// Bodies that would go on for ever must be ended by who made them, or the
/// drain takes all of its time.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: Option<Acceptor>,
    service: S,
    shutdown: CancellationToken,
    patience: Patience,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let mut exhausted_since: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                exhausted_since = None;
                let peer = Peer { address, stalled: Stalled::default() };
                let stall = patience.stall;
                let (tls, service) = (tls.clone(), service.clone());
                let served = connection(stream, tls, peer, stall, service, shutdown.clone());
                let cut = cut.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = served => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if exhausted_since.is_none() {
                    tracing::error!(%error, "cannot accept connections");
                    exhausted_since = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    // New connections are refused from here on, rather than left waiting.
    drop(listener);
    connections.close();
    if tokio::time::timeout(patience.drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "the drain time is over; cutting the rest");
        cut.cancel();
        connections.wait().await;
    }
}

/// The peer went away between its handshake and our accept: its loss, not ours.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

async fn connection<S, B>(
    stream: TcpStream,
    tls: Option<Acceptor>,
    peer: Peer,
    stall: Duration,
    service: S,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    if let Err(error) = tune(&stream) {
        tracing::debug!(%error, "cannot set socket options");
    }
    // Below TLS: what counts is that the socket takes bytes.
    let stream = StallGuard::new(stream, stall, peer.stalled.clone());
    let Some(tls) = tls else { return http(stream, peer, service, shutdown).await };
    match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => http(stream, peer, service, shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

async fn http<I, S, B>(stream: I, peer: Peer, service: S, shutdown: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let first_request = Arc::clone(&asked);
    let service = service_fn(move |mut request: Request<Incoming>| {
        first_request.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer.clone());
        service.call(request)
    });
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // hyper waits without a limit for the bytes that tell HTTP/1 from HTTP/2,
    // and for the first request of an HTTP/2 connection.
    let head_timeout = tokio::time::sleep(HEAD_TIMEOUT);
    let mut head_timeout = std::pin::pin!(head_timeout);
    let (mut timed, mut draining) = (true, false);
    let result = loop {
        tokio::select! {
            result = connection.as_mut() => break result,
            () = head_timeout.as_mut(), if timed => {
                timed = false;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = result {
        // Peers vanish and send garbage all day; nobody has to act on it.
        tracing::debug!(error = innermost(&*error), "connection failed");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        // A client that has closed its half is gone: nobody sends a request
        // and then reads for hours from a socket it has shut down.
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .keep_alive_interval(DEAD_PEER_TIMEOUT)
        .keep_alive_timeout(DEAD_PEER_TIMEOUT);
    builder
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    // An event is one small write; Nagle's algorithm would hold it back until
    // the last one is acknowledged.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(DEAD_PEER_TIMEOUT).with_interval(DEAD_PEER_TIMEOUT / 3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(DEAD_PEER_TIMEOUT))?;
    Ok(())
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
