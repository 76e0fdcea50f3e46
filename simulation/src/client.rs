//! A browser's `EventSource`: it reads, it is cut off, it comes back with the
//! last id it has read.

use notify_gateway::{cursor::Cursor, notification::UserId};

use crate::{
    oracle::{Book, Lineage},
    postgres::Postgres,
    stream::{Event, EventKind},
};

/// One client.
pub struct Client {
    /// Names it.
    pub number: usize,
    /// Whose token it has.
    pub user: UserId,
    /// The gateway's place and the stream's id.
    pub connected: Option<(usize, u64)>,
    last_id: Option<String>,
    /// Of what epoch its last id is.
    epoch: u32,
    lineage: Option<Lineage>,
}

impl Client {
    /// One that has not connected yet.
    pub fn new(number: usize, user: UserId) -> Self {
        Self { number, user, connected: None, last_id: None, epoch: 0, lineage: None }
    }

    /// What it will send as `Last-Event-ID`.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Loads its list, unless it has begun; `is_unflushed` has its cursor claim the
    /// snapshot as it is.
    pub fn load(&mut self, postgres: &Postgres, is_unflushed: bool) -> bool {
        if self.lineage.is_some() || self.connected.is_some() {
            return false;
        }
        self.epoch = postgres.epoch();
        self.last_id = Some(postgres.cursor(is_unflushed));
        let name = format!("client {}", self.number);
        self.lineage = Some(Lineage::of_list(name, self.user.clone(), postgres, is_unflushed));
        true
    }

    /// Reads an event.
    pub fn read(&mut self, event: Event, postgres: &Postgres, book: &mut Book) {
        let (number, user, at) = (self.number, self.user.clone(), event.at);
        let begin = || Lineage::new(format!("client {number}"), user, at);
        let given_up = self.epoch;
        let cursor = event.id.as_deref().and_then(|id| Cursor::parse(id).ok());
        self.epoch = cursor.map_or(self.epoch, |cursor| cursor.epoch());
        let lineage = self.lineage.get_or_insert_with(begin);
        match event.kind {
            EventKind::Row(change, row) => {
                lineage.row((change, row), self.epoch, postgres, book);
            }
            EventKind::Resync(reason) => lineage.resync(reason, given_up, at, postgres, book),
            EventKind::Connected | EventKind::Heartbeat | EventKind::Closing => {}
        }
        if let Some(id) = event.id {
            self.last_id = Some(id);
        }
        if event.kind == EventKind::Closing {
            self.connected = None;
        }
    }

    /// The history is over.
    pub fn end(&self, postgres: &Postgres, book: &mut Book) {
        if let Some(lineage) = &self.lineage {
            lineage.end(postgres, book);
        }
    }
}
