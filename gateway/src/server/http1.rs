//! HTTP/1.1 (RFC 9112), for requests with no body or a short one: all that
//! browsers, proxies and curl open a stream with.
//!
//! It is our own because of what a stream costs while nothing happens: hyper
//! holds 16 KiB of buffers for each, here it is the socket and what the body
//! holds itself.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version, header, response};
use http_body_util::Full;
use hyper::body::Body as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::{Instant, timeout},
};

use super::{
    Answer, Application, Connection, HEAD_TIMEOUT, MAX_BODY_BYTES, Malformed, RequestBody,
    ServerRequest,
    head::{self, BodyLength, Head, HeadError, MAX_HEAD_BYTES, Persistence},
    log_failure,
    reactor::{Held, Outcome},
};
use crate::problem::Problem;

/// Bytes that a peer may send while it is answered. No client has a reason to
/// send any, and more than this end the connection.
const MAX_DISCARDED: usize = 64 * 1024;

/// How long bytes are read and thrown away after the last answer. While bytes
/// are unread, closing a socket resets the connection, and the peer never sees
/// the answer.
const LINGER: Duration = Duration::from_secs(1);

/// How a connection goes on.
pub(super) enum Next<B> {
    /// It does not.
    Close,
    /// As HTTP/2; these bytes have been read.
    Http2(BytesMut),
    /// With an answer that ends when it ends.
    Stream(OpenAnswer<B>),
}

/// Answers requests until the connection ends, turns out to be HTTP/2, or has an
/// answer without an end.
pub(super) async fn serve<I, S>(
    stream: &mut I,
    connection: &Connection<S>,
    mut is_first: bool,
) -> io::Result<Next<S::Body>>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Application,
{
    let Connection { peer, port, .. } = connection;
    let mut buffer = BytesMut::new();
    loop {
        let head = next_request(stream, &mut buffer, is_first, connection).await;
        is_first = false;
        let head = match head {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(Next::Close),
            Err(ReadError::Io(error)) => return Err(error),
            Err(ReadError::Head(error)) => {
                return Box::pin(refuse(stream, connection, &buffer, problem(&error))).await;
            }
            // Nothing was asked: there is nothing to answer.
            Err(ReadError::TooSlow) if buffer.is_empty() => return Ok(Next::Close),
            Err(ReadError::TooSlow) => {
                return Box::pin(refuse(stream, connection, &buffer, too_slow())).await;
            }
        };
        let Asked::Request(mut request, persistence) = head else {
            return Ok(Next::Http2(buffer));
        };
        let is_head = request.method() == Method::HEAD;
        // HTTP/1.0 has no chunks: there a body ends with its connection.
        let framing = match request.version() {
            Version::HTTP_10 => Framing::None,
            _ => Framing::Chunked,
        };
        request.extensions_mut().insert(peer.clone());
        let Ok(answer) = port.service.call(*request).await;
        let (parts, body) = answer.into_parts();
        if body.size_hint().exact().is_none() {
            let head = write_head(&parts, persistence, framing);
            let discarded = buffer.len();
            let outgoing = Outgoing { framing, unsent: Bytes::new() };
            let answer = OpenAnswer {
                head: Some(head.freeze()),
                body,
                is_over: false,
                outgoing,
                persistence,
                discarded,
            };
            return Ok(Next::Stream(answer));
        }
        let persistence = persistence.unless(port.shutdown.is_cancelled());
        write_whole(stream, &parts, body, is_head, persistence).await?;
        if persistence == Persistence::Close || port.shutdown.is_cancelled() {
            hang_up(stream).await?;
            return Ok(Next::Close);
        }
    }
}

enum ReadError {
    Io(io::Error),
    TooSlow,
    Head(HeadError),
}

/// What a connection goes on with.
enum Asked {
    Request(Box<ServerRequest>, Persistence),
    Http2,
}

/// The next request; none if the peer has gone, if the gateway stops, or if the
/// connection has to make room for another one.
async fn next_request<I, S>(
    stream: &mut I,
    buffer: &mut BytesMut,
    is_first: bool,
    connection: &Connection<S>,
) -> Result<Option<Asked>, ReadError>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Application,
{
    let idle = connection.place.idle();
    tokio::select! {
        biased;
        request = timeout(HEAD_TIMEOUT, read_request(stream, buffer, is_first)) => {
            request.unwrap_or(Err(ReadError::TooSlow))
        }
        () = connection.port.shutdown.cancelled() => Ok(None),
        () = idle.cut() => Ok(None),
    }
}

/// The next request, its bytes taken out of `buffer`; none if the peer has gone.
async fn read_request<I: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut I,
    buffer: &mut BytesMut,
    is_first: bool,
) -> Result<Option<Asked>, ReadError> {
    let Some(head) = read_head(stream, buffer, is_first).await? else { return Ok(None) };
    let Head::Request(request, persistence, length) = head else { return Ok(Some(Asked::Http2)) };
    let body = match length {
        BodyLength::Zero => RequestBody::Empty,
        BodyLength::Unread => RequestBody::Unread,
        BodyLength::Known(length) if length > MAX_BODY_BYTES => RequestBody::Unread,
        BodyLength::Known(length) => {
            let body = read_body(stream, buffer, &request, length).await.map_err(ReadError::Io)?;
            RequestBody::Full(Full::new(body))
        }
    };
    // A body that is not read would be taken for the next request.
    let persistence = persistence.unless(matches!(body, RequestBody::Unread));
    Ok(Some(Asked::Request(Box::new(request.map(|()| body)), persistence)))
}

/// The next head, its bytes taken out of `buffer`; none if the peer has gone.
async fn read_head<I: AsyncRead + Unpin>(
    stream: &mut I,
    buffer: &mut BytesMut,
    is_first: bool,
) -> Result<Option<Head>, ReadError> {
    let mut fresh = 0;
    loop {
        if let Some(head) = head::parse(buffer, fresh, is_first).map_err(ReadError::Head)? {
            return Ok(Some(head));
        }
        fresh = buffer.len();
        if buffer.len() >= MAX_HEAD_BYTES {
            return Err(ReadError::Head(HeadError::TooLarge));
        }
        // Most heads fit into the first of these.
        buffer.reserve(buffer.len().clamp(1024, MAX_HEAD_BYTES));
        if stream.read_buf(buffer).await.map_err(ReadError::Io)? == 0 {
            return Ok(None);
        }
    }
}

async fn read_body<I: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut I,
    buffer: &mut BytesMut,
    request: &Request<()>,
    length: usize,
) -> io::Result<Bytes> {
    if buffer.len() < length && request.headers().contains_key(header::EXPECT) {
        // The client waits for a word first (RFC 9110, section 10.1.1).
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        stream.flush().await?;
    }
    while buffer.len() < length {
        buffer.reserve(length - buffer.len());
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.split_to(length).freeze())
}

fn problem(error: &HeadError) -> Problem {
    match error {
        HeadError::TooLarge => Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("a request head may have {MAX_HEAD_BYTES} bytes and 100 header lines"),
        ),
        HeadError::Invalid(reason) => Problem::new(StatusCode::BAD_REQUEST, reason.clone()),
    }
}

fn too_slow() -> Problem {
    let detail = format!("the request did not arrive within {} seconds", HEAD_TIMEOUT.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
}

/// The answer to bytes that are not a request, and the end.
async fn refuse<I, S>(
    stream: &mut I,
    connection: &Connection<S>,
    bytes: &[u8],
    problem: Problem,
) -> io::Result<Next<S::Body>>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Application,
{
    let mut request = Request::new(RequestBody::Empty);
    *request.uri_mut() = Uri::from_static("*");
    request.headers_mut().extend(head::origin(bytes).map(|origin| (header::ORIGIN, origin)));
    request.extensions_mut().insert(connection.peer.clone());
    request.extensions_mut().insert(Malformed(problem));
    let Ok(answer) = connection.port.service.call(request).await;
    let (parts, body) = answer.into_parts();
    write_whole(stream, &parts, body, false, Persistence::Close).await?;
    hang_up(stream).await?;
    Ok(Next::Close)
}

/// The end, such that the peer sees the answer to the last.
pub(super) async fn hang_up<I: AsyncRead + AsyncWrite + Unpin>(stream: &mut I) -> io::Result<()> {
    stream.shutdown().await?;
    let draining = async {
        let mut discarded = 0;
        let mut scratch = [0; 1024];
        while discarded < MAX_DISCARDED {
            match stream.read(&mut scratch).await {
                Ok(n) if n > 0 => discarded += n,
                _ => break,
            }
        }
    };
    let _in_time = timeout(LINGER, draining).await;
    Ok(())
}

/// An answer whose length is known.
async fn write_whole<I, B>(
    stream: &mut I,
    parts: &response::Parts,
    mut body: B,
    is_head: bool,
    persistence: Persistence,
) -> io::Result<()>
where
    I: AsyncWrite + Unpin,
    B: Answer,
{
    // RFC 9110, section 15.3.5: it has no content, and no length either.
    let has_content = parts.status != StatusCode::NO_CONTENT;
    let length = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let framing = if has_content { Framing::Length(length) } else { Framing::None };
    let mut out = write_head(parts, persistence, framing);
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let (Ok(data), false) = (frame.into_data(), is_head) {
            out.put(data);
        }
    }
    stream.write_all_buf(&mut out).await?;
    stream.flush().await
}

/// An answer that ends when it ends.
pub(super) struct OpenAnswer<B> {
    /// It leaves with the first event, or alone.
    head: Option<Bytes>,
    body: B,
    /// Whether the body has given its last.
    is_over: bool,
    outgoing: Outgoing,
    persistence: Persistence,
    /// Bytes that the peer has sent meanwhile.
    discarded: usize,
}

impl<B: Answer> OpenAnswer<B> {
    /// As it is written to `stream`.
    pub(super) fn on<I, S: Application<Body = B>>(
        self,
        stream: I,
        connection: Connection<S>,
    ) -> Streaming<I, S> {
        Streaming { answer: self, stream, connection }
    }

    /// Writes what is there; ready at the end.
    fn poll_write<I: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { head, body, is_over, outgoing, discarded, .. } = self;
        if let Poll::Ready(gone) = poll_gone(stream, cx, discarded) {
            return Poll::Ready(gone);
        }
        let mut is_waiting = false;
        loop {
            if outgoing.poll_unsent(stream, cx)?.is_pending() {
                // While the peer takes nothing the body is asked for nothing:
                // it can still say that its time is over.
                return body.poll_over(cx).map(|()| Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if *is_over {
                return Poll::Ready(Ok(()));
            }
            if is_waiting {
                return Poll::Pending;
            }
            let before = head.take().unwrap_or_default();
            let filled = outgoing.write(stream, cx, &before, body)?;
            *is_over = filled == Poll::Ready(false);
            is_waiting = filled.is_pending();
        }
    }
}

/// A connection with an answer that ends when it ends.
pub(super) struct Streaming<I, S: Application> {
    // Dropped first: a stream has left the hub before its place is free.
    answer: OpenAnswer<S::Body>,
    stream: I,
    connection: Connection<S>,
}

impl<I, S> Held for Streaming<I, S>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Application,
{
    type Rest = (Connection<S>, I, Persistence);

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = match ready!(self.answer.poll_write(&mut self.stream, cx)) {
            Ok(()) => Outcome::Done,
            Err(error) => {
                log_failure(Err(error.into()));
                Outcome::Gone
            }
        };
        Poll::Ready(outcome)
    }

    fn due(&self) -> Option<Instant> {
        self.answer.body.due()
    }

    fn into_rest(self) -> Self::Rest {
        // A peer that has not kept quiet meanwhile is not understood any more.
        let persistence = self.answer.persistence.unless(self.answer.discarded > 0);
        (self.connection, self.stream, persistence)
    }
}

/// Ready when the peer has closed its side, which no client does that still
/// reads. Bytes that come otherwise are thrown away, up to a limit.
fn poll_gone<I: AsyncRead + Unpin>(
    stream: &mut I,
    cx: &mut Context<'_>,
    discarded: &mut usize,
) -> Poll<io::Result<()>> {
    let mut scratch = [0; 64];
    loop {
        let mut read = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
        *discarded += read.filled().len();
        if read.filled().is_empty() || *discarded > MAX_DISCARDED {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
    }
}

/// How the end of a body is told (RFC 9112, section 6.3).
#[derive(Clone, Copy)]
enum Framing {
    /// There is no body, or the end of the connection is its end.
    None,
    Length(usize),
    Chunked,
}

fn write_head(parts: &response::Parts, persistence: Persistence, framing: Framing) -> BytesMut {
    let mut out = BytesMut::with_capacity(512);
    let status = parts.status;
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    put_fields(&mut out, &parts.headers);
    out.put_slice(match persistence {
        Persistence::KeepAlive => b"connection: keep-alive\r\n",
        Persistence::Close => b"connection: close\r\n",
    });
    match framing {
        Framing::None => {}
        Framing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) => {
            out.put_slice(b"content-length: ");
            out.put_slice(length.to_string().as_bytes());
            out.put_slice(b"\r\n");
        }
    }
    out.put_slice(b"date: ");
    out.put_slice(httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    out.put_slice(b"\r\n\r\n");
    out
}

fn put_fields(out: &mut BytesMut, fields: &HeaderMap) {
    for (name, value) in fields {
        // Only the server knows whether the connection goes on.
        if name != header::CONNECTION {
            out.put_slice(name.as_str().as_bytes());
            out.put_slice(b": ");
            out.put_slice(value.as_bytes());
            out.put_slice(b"\r\n");
        }
    }
}

thread_local! {
    /// Where events are put together: one buffer for all the streams of a
    /// thread, since one is written after the other.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The buffer keeps at most this much memory after a large page of a replay.
const MAX_SCRATCH: usize = 256 * 1024;

/// Room for a 64-bit number in hexadecimal and a line end.
const SIZE_BYTES: usize = 18;

/// Events on their way to the socket.
struct Outgoing {
    framing: Framing,
    /// What the socket did not take; mostly nothing. A socket may take it in
    /// many small pieces: the rest is not moved for any of them.
    unsent: Bytes,
}

impl Outgoing {
    /// Writes what the body has, behind `before`; says what the body says.
    fn write<I, B>(
        &mut self,
        stream: &mut I,
        cx: &mut Context<'_>,
        before: &[u8],
        body: &mut B,
    ) -> io::Result<Poll<bool>>
    where
        I: AsyncWrite + Unpin,
        B: Answer,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.extend_from_slice(&[0; SIZE_BYTES]);
            let filled = body.poll_fill(cx, scratch);
            let framed = self.frame(scratch, filled != Poll::Ready(false));
            if !before.is_empty() {
                self.unsent = [before, framed].concat().into();
                return Ok(filled);
            }
            if framed.is_empty() {
                return Ok(filled);
            }
            // Not waited for: what is left is sent before the next.
            let written = match Pin::new(&mut *stream).poll_write(cx, framed) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            if written < framed.len() {
                self.unsent = Bytes::copy_from_slice(&framed[written..]);
            }
            scratch.shrink_to(MAX_SCRATCH);
            Ok(filled)
        })
    }

    /// Makes a chunk (RFC 9112, section 7.1) of the events behind the room for
    /// its size.
    fn frame<'a>(&self, scratch: &'a mut Vec<u8>, is_more: bool) -> &'a [u8] {
        let events = scratch.len() - SIZE_BYTES;
        let mut start = SIZE_BYTES;
        if matches!(self.framing, Framing::Chunked) {
            // A chunk of no size is the end.
            if events > 0 {
                let mut size = [0; SIZE_BYTES];
                let mut rest = &mut size[..];
                let _fits = write!(rest, "{events:x}\r\n");
                let length = SIZE_BYTES - rest.len();
                start -= length;
                scratch[start..SIZE_BYTES].copy_from_slice(&size[..length]);
                scratch.extend_from_slice(b"\r\n");
            }
            if !is_more {
                scratch.extend_from_slice(b"0\r\n\r\n");
            }
        }
        &scratch[start..]
    }

    fn poll_unsent<I: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        // What was sent is not kept until the next event.
        self.unsent = Bytes::new();
        Pin::new(stream).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, task::Waker};

    use http::Response;
    use http_body::{Body, Frame};
    use proptest::prelude::*;

    use super::*;

    /// Takes a few bytes at a time, and holds them back until it is flushed, as
    /// TLS does.
    struct Narrow {
        takes: VecDeque<usize>,
        held: Vec<u8>,
        refusals: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let n = self.takes.pop_front().unwrap_or(usize::MAX).min(bytes.len());
            self.held.extend_from_slice(&bytes[..n]);
            Poll::Ready(Ok(n))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.refusals > 0 && !self.held.is_empty() {
                self.refusals -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let held = std::mem::take(&mut self.held);
            self.taken.extend_from_slice(&held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Narrow {
        fn poll_read(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            _buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// Pending for good after the last, if it is to be.
    struct Frames(VecDeque<Bytes>, bool);

    impl Answer for Frames {}

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                None if self.1 => Poll::Pending,
                next => Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes)))),
            }
        }
    }

    fn answer<B: Answer>(head: &[u8], body: B) -> OpenAnswer<B> {
        OpenAnswer {
            head: Some(Bytes::copy_from_slice(head)),
            body,
            is_over: false,
            outgoing: Outgoing { framing: Framing::Chunked, unsent: Bytes::new() },
            persistence: Persistence::KeepAlive,
            discarded: 0,
        }
    }

    #[tokio::test]
    async fn a_client_that_waits_to_send_its_body_is_told_to_go_on_and_a_long_body_is_not_read() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        let head = |length: usize| {
            format!(
                "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\
                 content-length: {length}\r\n\r\n"
            )
        };
        let client = async {
            theirs.write_all(head(5).as_bytes()).await.unwrap();
            let mut word = [0; 25];
            theirs.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
            theirs.write_all(b"hello").await.unwrap();
            theirs.write_all(head(MAX_BODY_BYTES + 1).as_bytes()).await.unwrap();
        };
        let mut buffer = BytesMut::new();
        let server = async {
            let mut found = Vec::new();
            for _ in 0..2 {
                let asked = read_request(&mut ours, &mut buffer, false).await;
                let Ok(Some(Asked::Request(request, persistence))) = asked else {
                    panic!("not a request");
                };
                found.push((request.into_body(), persistence));
            }
            found
        };
        let ((), mut found) = tokio::join!(client, server);
        let (long, persistence) = found.pop().unwrap();
        assert!(matches!(long, RequestBody::Unread) && persistence == Persistence::Close);
        let (short, persistence) = found.pop().unwrap();
        let RequestBody::Full(short) = short else { panic!("not a body") };
        assert_eq!(persistence, Persistence::KeepAlive);
        let bytes = http_body_util::BodyExt::collect(short).await.unwrap().to_bytes();
        assert_eq!(&bytes[..], b"hello");
    }

    /// Takes a byte a time and notes where each was.
    struct Drip(Vec<usize>);

    impl AsyncWrite for Drip {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.as_ptr().addr());
            Poll::Ready(Ok(1))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_waits_for_a_narrow_socket_is_never_moved() {
        const BYTES: usize = 100_000;
        let mut outgoing = Outgoing { framing: Framing::None, unsent: vec![b'x'; BYTES].into() };
        let mut stream = Drip(Vec::new());
        let sent = outgoing.poll_unsent(&mut stream, &mut Context::from_waker(Waker::noop()));
        assert!(matches!(sent, Poll::Ready(Ok(()))));
        // Each byte is sent from where it has been from the start.
        let first = stream.0[0];
        assert_eq!(stream.0, (first..first + BYTES).collect::<Vec<_>>());
    }

    /// Never takes anything.
    struct Shut;

    impl AsyncWrite for Shut {
        fn poll_write(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            _bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncRead for Shut {
        fn poll_read(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            _buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// A body with something to say, whose time may be over.
    struct Timed(bool);

    impl Body for Timed {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    impl Answer for Timed {
        fn poll_over(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
            if self.0 { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    #[test]
    fn a_body_whose_time_is_over_ends_its_connection_though_the_socket_takes_nothing() {
        for is_over in [false, true] {
            let mut answer = answer(b"", Timed(is_over));
            let outcome = answer.poll_write(&mut Shut, &mut Context::from_waker(Waker::noop()));
            assert_eq!(outcome.is_ready(), is_over);
        }
    }

    /// RFC 9112, section 7.1.
    fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let end = bytes.windows(2).position(|w| w == b"\r\n").unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16);
            let (size, rest) = (size.unwrap(), &bytes[end + 2..]);
            assert_eq!(&rest[size..size + 2], b"\r\n");
            if size == 0 {
                assert_eq!(rest.len(), 2);
                return out;
            }
            out.extend_from_slice(&rest[..size]);
            bytes = &rest[size + 2..];
        }
    }

    proptest! {
        #[test]
        fn a_body_arrives_whole_however_narrow_the_way(
            takes in proptest::collection::vec(1_usize..40, 0..60),
            refusals in 0_usize..20,
            is_open: bool,
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10),
        ) {
            let (held, taken) = (Vec::new(), Vec::new());
            let mut stream = Narrow { takes: takes.into(), held, refusals, taken };
            let frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
            let (parts, ()) = Response::new(()).into_parts();
            let body = Frames(frames.clone().into(), is_open);
            let head = write_head(&parts, Persistence::KeepAlive, Framing::Chunked);
            let mut answer = answer(&head, body);
            let mut cx = Context::from_waker(Waker::noop());
            // It is woken once for each refusal, and once more.
            let is_over = (0..=refusals).any(|_| answer.poll_write(&mut stream, &mut cx).is_ready());
            prop_assert_eq!(is_over, !is_open);
            let end = stream.taken.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
            prop_assert!(stream.taken.starts_with(b"HTTP/1.1 200 OK\r\n"));
            let mut chunks = stream.taken[end..].to_vec();
            if is_open {
                chunks.extend_from_slice(b"0\r\n\r\n");
            }
            prop_assert_eq!(dechunk(&chunks), frames.concat());
        }
    }
}
