//! The server's end of a LISTEN connection, and what lies in its socket.

use std::collections::VecDeque;

use notify_gateway::listen::ListenError;

use crate::postgres::{Notice, NoticeText, Postgres, Session};

/// A stretch of time in which commits were notified to nobody here: from, and
/// until before.
type Gap = (u64, u64);

/// What one gateway hears.
pub struct Ears {
    nonce: u32,
    listening: Option<Listening>,
    gaps: Vec<Gap>,
    deaf_since: Option<u64>,
}

struct Listening {
    session: Session,
    /// How much of the server's queue has been sent.
    place: usize,
    /// Sent and not read yet. Outlives the server, as bytes in a socket do.
    socket: VecDeque<Notice>,
}

impl Ears {
    /// Nothing is heard yet.
    pub fn new(nonce: u32, clock: u64) -> Self {
        Self { nonce, listening: None, gaps: Vec::new(), deaf_since: Some(clock) }
    }

    /// LISTEN holds on this connection.
    pub fn listen(&mut self, session: Session, postgres: &Postgres, clock: u64) {
        let place = postgres.queue_end();
        self.listening = Some(Listening { session, place, socket: VecDeque::new() });
        if let Some(since) = self.deaf_since.take() {
            self.gaps.push((since, clock));
        }
    }

    /// Whether a commit at `clock` was notified to nobody here.
    pub fn has_missed(&self, clock: u64) -> bool {
        self.gaps.iter().any(|(from, until)| (*from..*until).contains(&clock))
            || self.deaf_since.is_some_and(|since| since <= clock)
    }

    /// The server sends up to `count` notifications.
    pub fn arrive(&mut self, postgres: &Postgres, count: usize) -> bool {
        let Some(listening) = &mut self.listening else { return false };
        if !postgres.answers(&listening.session) {
            return false;
        }
        let mut arrived = false;
        for _ in 0..count {
            let Some(notice) = postgres.notice(listening.place) else { break };
            listening.place += 1;
            arrived = true;
            match &notice.text {
                NoticeText::Probe { nonce, .. } if *nonce != self.nonce => {}
                _ => listening.socket.push_back(notice.clone()),
            }
        }
        arrived
    }

    /// Whether there is something to read, or nothing will ever be.
    pub fn has_news(&self, postgres: &Postgres) -> bool {
        self.listening.as_ref().is_none_or(|listening| {
            !listening.socket.is_empty() || !postgres.answers(&listening.session)
        })
    }

    /// The next one in the socket.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub fn read(&mut self, postgres: &Postgres) -> Result<Option<Notice>, ListenError> {
        let listening = self.listening.as_mut().ok_or(ListenError::Closed)?;
        match listening.socket.pop_front() {
            Some(notice) => Ok(Some(notice)),
            None if postgres.answers(&listening.session) => Ok(None),
            None => Err(ListenError::Closed),
        }
    }

    /// The connection breaks, or its server is about to: what was not sent will
    /// not be.
    pub fn lose(&mut self, postgres: &Postgres, clock: u64) {
        let Some(listening) = &mut self.listening else { return };
        if postgres.answers(&listening.session) {
            let missed = postgres.notice(listening.place).map_or(clock, |notice| notice.at);
            self.deaf_since.get_or_insert(missed);
        }
        listening.session.cut();
    }

    /// As [`Ears::lose`], and what was sent is lost as well.
    pub fn reset(&mut self, postgres: &Postgres, clock: u64) {
        self.lose(postgres, clock);
        let Some(listening) = &mut self.listening else { return };
        if let Some(notice) = listening.socket.front() {
            self.deaf_since = self.deaf_since.map(|since| since.min(notice.at));
        }
        listening.socket.clear();
    }

    /// The gateway has closed the connection.
    pub fn close(&mut self, postgres: &Postgres, clock: u64) {
        self.reset(postgres, clock);
        self.listening = None;
    }
}
