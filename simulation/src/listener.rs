//! The LISTEN connection: `postgres/listener.rs`, one step at a time.

use std::collections::VecDeque;

use notify_gateway::{dispatch::Signal, health::Health};

use crate::{
    postgres::{Notice, NoticeText, Postgres, Session},
    scene::Scene,
};

/// A stretch of time in which commits were notified to nobody here: from, and
/// until before.
pub type Gap = (u64, u64);

/// One gateway's listener.
pub struct Listener {
    nonce: u32,
    listening: Option<Listening>,
    /// What it did not hear.
    gaps: Vec<Gap>,
    deaf_since: Option<u64>,
}

struct Listening {
    session: Session,
    /// How much of the server's queue has been sent.
    place: usize,
    /// Sent and not read yet. Outlives the server, as bytes in a socket do.
    socket: VecDeque<Notice>,
    /// Whether the reply to LISTEN has been read: notifications may be read
    /// before.
    is_announced: bool,
    /// The gateway itself gave it up.
    is_kicked: bool,
}

impl Listener {
    /// One that has not connected yet.
    pub fn new(nonce: u32, clock: u64) -> Self {
        Self { nonce, listening: None, gaps: Vec::new(), deaf_since: Some(clock) }
    }

    /// Whether a commit at `clock` was notified to nobody here.
    pub fn has_missed(&self, clock: u64) -> bool {
        self.gaps.iter().any(|(from, until)| (*from..*until).contains(&clock))
            || self.deaf_since.is_some_and(|since| since <= clock)
    }

    /// The server sends up to `count` notifications.
    pub fn arrive(&mut self, postgres: &Postgres, count: usize) -> bool {
        let Some(listening) = &mut self.listening else { return false };
        if !postgres.answers(listening.session) {
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

    /// The next thing the listener's task does.
    pub fn step(
        &mut self,
        postgres: &Postgres,
        signals: &mut VecDeque<Signal<'static>>,
        health: &Health,
        scene: &mut Scene,
    ) -> bool {
        let Some(listening) = &mut self.listening else { return self.connect(postgres, scene) };
        let is_alive = postgres.answers(listening.session) && !listening.is_kicked;
        // The replies of a dead server may have been sent before it died.
        let reads_first = scene.dice.bool() && !listening.socket.is_empty();
        if !listening.is_announced && !reads_first && (is_alive || scene.dice.bool()) {
            listening.is_announced = true;
            health.listening();
            signals.push_back(Signal::Listening(true));
            scene.tell(|| format!("gateway {}: listening", self.nonce));
            return true;
        }
        if let Some(notice) = listening.socket.pop_front() {
            let signal = match notice.text {
                NoticeText::Payload(payload) => Signal::Payload(payload.into()),
                NoticeText::Probe { number, .. } => {
                    let _took = health.probe_returned(number);
                    Signal::Probe(number)
                }
            };
            scene.tell(|| format!("gateway {}: hears {signal:?}", self.nonce));
            signals.push_back(signal);
            return true;
        }
        if is_alive {
            return false;
        }
        self.lose(postgres, scene.clock);
        self.listening = None;
        signals.push_back(Signal::Listening(false));
        health.not_listening("not listening".to_owned());
        scene.tell(|| format!("gateway {}: no longer listening", self.nonce));
        true
    }

    fn connect(&mut self, postgres: &Postgres, scene: &Scene) -> bool {
        let Some(session) = postgres.connect() else { return false };
        self.listening = Some(Listening {
            session,
            place: postgres.queue_end(),
            socket: VecDeque::new(),
            is_announced: false,
            is_kicked: false,
        });
        if let Some(since) = self.deaf_since.take() {
            self.gaps.push((since, scene.clock));
        }
        scene.tell(|| format!("gateway {}: LISTEN", self.nonce));
        true
    }

    /// The connection breaks, or its server is about to: what was not sent will
    /// not be.
    pub fn lose(&mut self, postgres: &Postgres, clock: u64) {
        let Some(listening) = &mut self.listening else { return };
        if postgres.answers(listening.session) {
            let missed = postgres.notice(listening.place).map_or(clock, |notice| notice.at);
            self.deaf_since.get_or_insert(missed);
        }
        listening.session.cut();
    }

    /// As [`Listener::lose`], and what was sent is lost as well.
    pub fn reset(&mut self, postgres: &Postgres, clock: u64) {
        self.lose(postgres, clock);
        let Some(listening) = &mut self.listening else { return };
        if let Some(notice) = listening.socket.front() {
            self.deaf_since = self.deaf_since.map(|since| since.min(notice.at));
        }
        listening.socket.clear();
    }

    /// No probe comes back: the session is given up.
    pub fn kick(&mut self, postgres: &Postgres, clock: u64) {
        self.reset(postgres, clock);
        if let Some(listening) = &mut self.listening {
            listening.is_kicked = true;
        }
    }

    /// Whether everything that was sent is read and there is a connection.
    pub fn is_idle(&self) -> bool {
        self.listening.as_ref().is_some_and(|l| l.is_announced && l.socket.is_empty())
    }
}
