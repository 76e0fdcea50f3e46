//! What hyper does: HTTP/2, and HTTP/1.1 with a body.

use std::{
    convert::Infallible,
    error::Error,
    io::Cursor,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{
    DEAD_PEER_TIMEOUT, HEAD_TIMEOUT, Peer, RequestBody, ServerRequest, head::MAX_HEAD_BYTES,
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

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Serves HTTP/2, of which `read` has been read.
///
/// hyper answers one PING and one SETTINGS at a time and reads no more until
/// the answer is written: a flood of them costs its sender.
pub(super) async fn http2<I, S, B>(
    read: BytesMut,
    stream: I,
    peer: Peer,
    service: S,
    shutdown: CancellationToken,
) -> Outcome
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<ServerRequest, Response = Response<B>, Error = Infallible>,
    S: Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let first_request = Arc::clone(&asked);
    let service = service_fn(move |request: Request<Incoming>| {
        first_request.store(true, Ordering::Relaxed);
        service.call(with_peer(request, &peer))
    });
    let connection = conn::http2::Builder::new(TokioExecutor::new())
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
    // hyper waits without a limit for the first request.
    let first_request = tokio::time::sleep(HEAD_TIMEOUT);
    let mut first_request = std::pin::pin!(first_request);
    let (mut waiting, mut draining) = (true, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => return Ok(result?),
            () = first_request.as_mut(), if waiting => {
                waiting = false;
                if !asked.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Serves HTTP/1.1, of which `read` has been read.
pub(super) async fn http1<I, S, B>(
    read: BytesMut,
    stream: I,
    peer: Peer,
    service: S,
    shutdown: CancellationToken,
) -> Outcome
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<ServerRequest, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let service = service_fn(move |request| service.call(with_peer(request, &peer)));
    let connection = conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        // A client that has closed its half is gone: nobody sends a request
        // and then reads for hours from a socket it has shut down.
        .half_close(false)
        .serve_connection(TokioIo::new(unread(read, stream)), service);
    let mut connection = std::pin::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => return Ok(result?),
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn with_peer(request: Request<Incoming>, peer: &Peer) -> ServerRequest {
    let mut request = request.map(RequestBody::Incoming);
    request.extensions_mut().insert(peer.clone());
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
