//! A socket that notices when the other side has stopped reading.
//!
//! hyper asks a body for more only when the socket has taken what it was given:
//! a reader that has stopped freezes every deadline inside the body, and a peer
//! that still acknowledges keeps the kernel content. So the socket itself keeps
//! the time.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Whether a connection has been given up because its peer read nothing, or a
/// stream of HTTP/2 because the peer read nothing of it.
#[derive(Clone, Debug, Default)]
pub struct Stalled {
    connection: Arc<AtomicBool>,
    stream: Option<Arc<AtomicBool>>,
}

impl Stalled {
    /// Whether it has.
    pub fn is_set(&self) -> bool {
        let is_set = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        is_set(&self.connection) || self.stream.as_deref().is_some_and(is_set)
    }

    /// One stream of this connection.
    pub(super) fn of_stream(&self) -> Self {
        Self { connection: Arc::clone(&self.connection), stream: Some(Arc::default()) }
    }

    pub(super) fn set(&self) {
        self.stream.as_ref().unwrap_or(&self.connection).store(true, Ordering::Relaxed);
    }
}

/// A stream whose writes fail once the peer has taken nothing for a while.
pub(super) struct StallGuard<S> {
    stream: S,
    patience: Duration,
    /// Runs only while there is something the peer does not take.
    waiting: Option<Pin<Box<Sleep>>>,
    stalled: Stalled,
}

impl<S> StallGuard<S> {
    pub(super) fn new(stream: S, patience: Duration, stalled: Stalled) -> Self {
        Self { stream, patience, waiting: None, stalled }
    }

    /// Keeps the time of a write that the peer does not take.
    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(outcome) = &written {
            // The kernel has lost its patience first.
            let is_timeout = matches!(outcome, Err(e) if e.kind() == io::ErrorKind::TimedOut);
            if self.waiting.take().is_some() && is_timeout {
                self.stalled.set();
            }
            return written;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        self.stalled.set();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up_and_one_that_takes_a_little_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let stalled = Stalled::default();
        let mut guard = StallGuard::new(ours, Duration::from_secs(30), stalled.clone());
        let writing = tokio::spawn(async move { guard.write_all(&[0; 64]).await });
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(29)).await;
            theirs.read_exact(&mut [0; 16]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert!(!writing.is_finished());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let error = writing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(stalled.is_set());
    }
}
