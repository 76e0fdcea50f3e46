//! Whether the gateway can do its work, and why not: what `/readyz` says.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What the parts of the gateway report about themselves.
pub struct Health {
    state: watch::Sender<State>,
}

struct State {
    listen: Result<(), String>,
    database: Result<(), String>,
    replays: Result<(), String>,
    keys: Result<(), String>,
    probe: Probe,
    has_been_ready: bool,
    draining: bool,
}

/// The probes of this LISTEN connection.
#[derive(Default)]
struct Probe {
    /// The last one sent, and when.
    sent: Option<(u64, Instant)>,
    /// When the first was sent that has not come back.
    unanswered: Option<Instant>,
    /// Whether it has been waited for in vain.
    lost: bool,
    /// When one came back last.
    returned: Option<Instant>,
}

impl Health {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        let starting = || Err("starting: not connected to the database yet".to_owned());
        let state = State {
            listen: starting(),
            database: starting(),
            replays: Ok(()),
            keys: Ok(()),
            probe: Probe::default(),
            has_been_ready: false,
            draining: false,
        };
        Self { state: watch::Sender::new(state) }
    }

    /// LISTEN holds.
    pub fn listening(&self) {
        self.modify(|state| {
            state.listen = Ok(());
            state.probe = Probe::default();
        });
    }

    /// LISTEN does not hold; `reason` is for the operator.
    pub fn not_listening(&self, reason: String) {
        self.modify(|state| {
            state.listen = Err(reason);
            state.probe = Probe::default();
        });
    }

    /// The table was swept.
    pub fn database_answers(&self) {
        self.modify(|state| state.database = Ok(()));
    }

    /// The table cannot be swept; `reason` is for the operator.
    pub fn database_fails(&self, reason: String) {
        self.modify(|state| state.database = Err(reason));
    }

    /// What streams have missed can be read.
    pub fn replays_work(&self) {
        self.modify(|state| state.replays = Ok(()));
    }

    /// It cannot; `reason` is for the operator.
    pub fn replays_fail(&self, reason: String) {
        self.modify(|state| state.replays = Err(reason));
    }

    /// There are keys to verify tokens with.
    pub fn keys_are_known(&self) {
        self.modify(|state| state.keys = Ok(()));
    }

    /// There are none yet; `reason` is for the operator.
    pub fn keys_are_missing(&self, reason: String) {
        self.modify(|state| state.keys = Err(reason));
    }

    /// A probe is about to be notified.
    pub fn probe_sent(&self, number: u64) {
        self.modify(|state| {
            let now = Instant::now();
            state.probe.sent = Some((number, now));
            state.probe.unanswered.get_or_insert(now);
        });
    }

    /// A probe came back on the LISTEN connection; how long it took, if it is
    /// the last that was sent.
    pub fn probe_returned(&self, number: u64) -> Option<Duration> {
        let now = Instant::now();
        let mut took = None;
        self.modify(|state| {
            let sent = state.probe.sent.filter(|(sent, _)| *sent == number);
            took = sent.map(|(_, at)| now - at);
            state.probe.unanswered = None;
            state.probe.lost = false;
            state.probe.returned = Some(now);
        });
        took
    }

    /// Whether the LISTEN connection has to be replaced: it has left a probe
    /// unanswered for `patience`.
    pub fn probe_is_lost(&self, patience: Duration) -> bool {
        let mut lost = false;
        self.modify(|state| {
            let waiting = state.probe.unanswered.map(|since| since.elapsed());
            lost = state.listen.is_ok() && waiting.is_some_and(|waiting| waiting >= patience);
            state.probe.lost = lost;
        });
        lost
    }

    /// How long ago a probe came back; `None` before the first one of this
    /// LISTEN connection.
    pub fn probe_age(&self) -> Option<Duration> {
        self.state.borrow().probe.returned.map(|returned| returned.elapsed())
    }

    /// The gateway is stopping.
    pub fn draining(&self) {
        self.modify(|state| state.draining = true);
    }

    /// Whether streams may be opened. An outage of the database later on does
    /// not change it: streams opened meanwhile wait for its end.
    pub fn has_been_ready(&self) -> bool {
        self.state.borrow().has_been_ready
    }

    /// Whether everything holds now.
    pub fn is_well(&self) -> bool {
        self.state.borrow().is_well()
    }

    /// Why the gateway is not ready; empty when it is.
    pub fn complaints(&self) -> Vec<String> {
        let state = self.state.borrow();
        let mut complaints = Vec::new();
        complaints.extend(state.draining.then(|| "draining: the gateway is stopping".to_owned()));
        complaints.extend(state.listen.as_ref().err().cloned());
        complaints.extend(state.database.as_ref().err().cloned());
        complaints.extend(state.replays.as_ref().err().cloned());
        complaints.extend(state.keys.as_ref().err().cloned());
        if complaints.is_empty() && !state.is_well() {
            complaints.push("no probe has come back on the LISTEN connection".to_owned());
        }
        complaints
    }

    /// Waits until streams may be opened.
    pub async fn ready(&self) {
        // The sender is ours: the channel cannot be closed while we wait on it.
        let mut state = self.state.subscribe();
        let _ready = state.wait_for(|state| state.has_been_ready).await;
    }

    fn modify(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(|state| {
            change(state);
            state.has_been_ready |= state.is_well();
        });
    }
}

impl State {
    fn is_well(&self) -> bool {
        self.listen.is_ok()
            && self.database.is_ok()
            && self.keys.is_ok()
            && self.probe.returned.is_some()
            && !self.probe.lost
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_brings_no_probe_back_is_not_healthy_however_alive_it_looks() {
        let health = Health::new();
        health.listening();
        health.database_answers();
        assert!(!health.has_been_ready());
        health.probe_sent(1);
        assert!(health.probe_returned(1).is_some());
        assert!(health.has_been_ready() && health.complaints().is_empty());
        // Many in a short time are not three beats.
        for number in 2..100 {
            health.probe_sent(number);
        }
        assert!(!health.probe_is_lost(Duration::from_secs(60)));
        assert!(health.complaints().is_empty());
        assert!(health.probe_is_lost(Duration::ZERO));
        assert!(!health.complaints().is_empty());
        // A new connection is given its chance.
        health.listening();
        assert!(!health.probe_is_lost(Duration::ZERO));
        assert!(health.has_been_ready());
    }
}
