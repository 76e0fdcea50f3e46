//! What the streams and the dispatcher want of the sweeper.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Requests for sweeps, each with its reason.
#[derive(Default)]
pub struct SweepRequests {
    wanted: Notify,
    /// Rung when an idle gateway has something to do: its first stream, or
    /// something that the watermark does not see.
    stirred: Notify,
    /// Whether cursors claim rows singly that the watermark does not see.
    is_dirty: AtomicBool,
    watermark_wanted: AtomicBool,
}

impl SweepRequests {
    /// Asks for a sweep before its time: somebody wrote something that no
    /// notification brought.
    pub fn ask(&self) {
        self.wanted.notify_one();
    }

    /// Waits until somebody has.
    pub async fn asked(&self) {
        self.wanted.notified().await;
    }

    /// The first stream opens.
    pub(super) fn first_stream(&self) {
        self.wanted.notify_one();
        self.stirred.notify_waiters();
    }

    /// There is something that the watermark does not see.
    pub fn set_dirty(&self) {
        if !self.is_dirty.swap(true, Ordering::Relaxed) {
            self.stirred.notify_waiters();
        }
    }

    /// Whether there is, since it was asked last.
    pub fn take_dirty(&self) -> bool {
        self.is_dirty.swap(false, Ordering::Relaxed)
    }

    /// Whether there is.
    pub fn is_dirty(&self) -> bool {
        self.is_dirty.load(Ordering::Relaxed)
    }

    /// Asks for a new watermark before its time.
    pub fn want_watermark(&self) {
        self.watermark_wanted.store(true, Ordering::Relaxed);
        self.wanted.notify_one();
    }

    /// Whether somebody did since this was asked last: a cursor has grown too
    /// long, and only a new watermark makes it short.
    pub fn take_watermark_wanted(&self) -> bool {
        self.watermark_wanted.swap(false, Ordering::Relaxed)
    }

    /// Rests for as long as `longest` says. It is asked again whenever there is a
    /// first stream, or something that the watermark does not see; `None` rests
    /// until then.
    pub async fn rest(&self, longest: impl Fn() -> Option<Duration>) {
        let began = Instant::now();
        loop {
            // Before the question: what happens in between is not missed.
            let stirred = self.stirred.notified();
            let Some(longest) = longest() else {
                stirred.await;
                continue;
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep(longest.saturating_sub(began.elapsed())) => return,
                () = stirred => {}
            }
        }
    }
}
