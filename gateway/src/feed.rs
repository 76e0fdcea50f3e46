//! What one stream has been given, and what comes next: the whole of the
//! delivery's logic for one client. Pure; `stream.rs` does what it says.
//!
//! A feed is *behind* (its cursor and the table tell what is missing), then
//! *reading* (a page is on its way), then, after the last page, *live*. It is
//! the same road for a client that has just connected, for one whose queue has
//! overflowed, and for all of them after the gateway was blind. A row goes out
//! if, and only if, the cursor does not cover it; the cursor moves only when a
//! row goes out, or when nothing that it would pass over is left to give.

use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use crate::{
    cursor::{Cursor, RowKey},
    horizon::Horizon,
};

/// A row on its way to the streams of its user, encoded once for all of them.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its place in history.
    pub key: RowKey,
    /// The event without its id and its end.
    pub event: Vec<u8>,
    /// When it was made, where a notification said so.
    pub made_at: Option<SystemTime>,
}

/// A row that a notification brought.
#[derive(Debug)]
pub struct LiveRow {
    /// The row.
    pub row: Row,
    /// The horizon when it was published: what its watermark sees was offered
    /// before.
    pub horizon: Arc<Horizon>,
    shared_id: OnceLock<SharedId>,
}

impl LiveRow {
    /// A row that was published under `horizon`.
    pub fn new(row: Row, horizon: Arc<Horizon>) -> Self {
        Self { row, horizon, shared_id: OnceLock::new() }
    }
}

/// The id that a row got in the first of several streams. The others mostly
/// have the same cursor, and then need not encode it again.
#[derive(Debug)]
struct SharedId {
    cursor: Cursor,
    /// None if it is too long.
    text: Option<Box<[u8]>>,
}

impl SharedId {
    fn new(cursor: &Cursor) -> Self {
        let mut text = Vec::new();
        let text = cursor.encode(&mut text).then(|| text.into());
        Self { cursor: cursor.clone(), text }
    }
}

/// The id of a row's event: the cursor of a client that has it.
#[derive(Clone, Copy, Debug)]
pub struct EventId<'a> {
    cursor: &'a Cursor,
    shared: Option<&'a OnceLock<SharedId>>,
}

impl<'a> EventId<'a> {
    /// What it says.
    pub fn cursor(&self) -> &'a Cursor {
        self.cursor
    }

    /// As [`Cursor::encode`].
    #[must_use = "without an id the event must go out differently"]
    pub fn encode(&self, out: &mut Vec<u8>) -> bool {
        let shared = self.shared.map(|shared| shared.get_or_init(|| SharedId::new(self.cursor)));
        match shared {
            Some(SharedId { cursor, text }) if cursor == self.cursor => {
                out.extend_from_slice(text.as_deref().unwrap_or_default());
                text.is_some()
            }
            _ => self.cursor.encode(out),
        }
    }
}

/// A part of a replay: this user's rows that a cursor does not cover, in the
/// order of the table's `(xact_id, seq)`.
#[derive(Clone, Debug)]
pub struct Page {
    /// The horizon before the page was read, into whose epoch the cursor was
    /// brought to read it.
    pub horizon: Arc<Horizon>,
    /// The rows.
    pub rows: Vec<Row>,
    /// Whether these are all there are.
    pub complete: bool,
}

/// Rows a cursor may hold singly. A watermark makes it forget them; while none
/// comes, because the database does not answer, the stream waits for the table
/// as well. (A cursor stops fitting into an id at about 700 of them.)
const MAX_RECENTS: usize = 1024;

/// Of a cursor with so many recents the id is not shared: a row that waits in a
/// stalled stream's queue keeps it.
const MAX_SHARED_RECENTS: usize = 256;

/// One stream's place in history.
#[derive(Clone, Debug)]
pub struct Feed {
    cursor: Cursor,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Behind,
    Reading,
    Live,
}

impl Feed {
    /// A stream that continues at `cursor`: behind until the table says that it
    /// is not.
    pub fn new(cursor: Cursor) -> Self {
        Self { cursor, phase: Phase::Behind }
    }

    /// What has been given.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Whether a page has to be read before anything else.
    pub fn is_behind(&self) -> bool {
        self.phase == Phase::Behind
    }

    /// Whether rows may be taken from the queue.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// The queue has lost rows, or a page could not be read: back to the table.
    pub fn fall_behind(&mut self) {
        self.phase = Phase::Behind;
    }

    /// Begins to read: the cursor to read from. The stream's queue must have
    /// been started anew before, so that what it drops is in the page.
    pub fn read(&mut self) -> &Cursor {
        self.phase = Phase::Reading;
        &self.cursor
    }

    /// Gives up what the client has missed and goes on from `horizon`.
    pub fn resync(&mut self, horizon: &Horizon) {
        self.cursor = horizon.cursor();
        self.phase = Phase::Behind;
    }

    /// Takes a page; `emit` gets each row that is to go out and the id that goes
    /// with it.
    pub fn take_page(&mut self, page: &Page, mut emit: impl FnMut(&Row, EventId<'_>)) {
        if page.horizon.adopt(&mut self.cursor).is_err() {
            // It was adopted to read the page, so this is another page's.
            self.phase = Phase::Behind;
            return;
        }
        // By the watermark and not by the page's own snapshot, which is newer: a
        // crash could take that one's transaction numbers back.
        let watermark = &page.horizon.watermark;
        for row in &page.rows {
            if self.cursor.replay(watermark, row.key) {
                emit(row, EventId { cursor: &self.cursor, shared: None });
            }
        }
        if page.complete {
            self.cursor.rebase(watermark);
            self.phase = Phase::Live;
        } else {
            self.phase = Phase::Behind;
        }
    }

    /// Takes a row from the queue, likewise. Only while live, which it may cease
    /// to be.
    pub fn take_live(&mut self, live: &Arc<LiveRow>, emit: impl FnOnce(&Row, EventId<'_>)) {
        self.rebase(&live.horizon);
        if self.cursor.record(live.row.key) {
            // The last to take it, mostly the only one, has nobody to share with.
            let is_shared =
                Arc::strong_count(live) > 1 && self.cursor.recents().len() <= MAX_SHARED_RECENTS;
            let shared = is_shared.then_some(&live.shared_id);
            emit(&live.row, EventId { cursor: &self.cursor, shared });
        }
        if self.cursor.recents().len() >= MAX_RECENTS {
            self.phase = Phase::Behind;
        }
    }

    /// Nothing is waiting, and nothing was when `horizon` was looked at: the
    /// cursor may move up to it, so that an idle client's does not age.
    pub fn rest(&mut self, horizon: &Horizon) {
        if self.phase == Phase::Live {
            self.rebase(horizon);
        }
    }

    fn rebase(&mut self, horizon: &Horizon) {
        // Of another epoch: the queue is about to say that it is lost.
        if horizon.is_of_epoch(&self.cursor) {
            self.cursor.rebase(&horizon.watermark);
        }
    }
}
