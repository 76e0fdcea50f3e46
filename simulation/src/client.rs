//! A browser's `EventSource`: it reads, it is cut off, it comes back with the
//! last id it has read.

use notify_gateway::notification::UserId;

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
    /// What it will send as `Last-Event-ID`.
    pub last_id: Option<String>,
    /// The gateway's place and the stream's id.
    pub connected: Option<(usize, u64)>,
    lineage: Option<Lineage>,
}

impl Client {
    /// One that has not connected yet.
    pub fn new(number: usize, user: UserId) -> Self {
        Self { number, user, last_id: None, connected: None, lineage: None }
    }

    /// Reads an event.
    pub fn read(&mut self, event: Event, postgres: &Postgres, book: &mut Book) {
        let (number, user, at) = (self.number, self.user.clone(), event.at);
        let begin = || Lineage::new(format!("client {number}"), user, at);
        self.lineage.get_or_insert_with(begin).read(&event, postgres, book);
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
