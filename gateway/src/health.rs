//! Whether the gateway can do its work, and why not: what `/readyz` says.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// A database that has not answered a sweep for this long is said to be away,
/// although the sweep may still be answered: an operator on call wants to know
/// within five seconds.
const SWEEP_PATIENCE: Duration = Duration::from_secs(3);

/// A sweep that a slow database answers last, or refuses, is over by then: each of its
/// statements ends within ten seconds, and so does its connection.
const SWEEP_STUCK: Duration = Duration::from_secs(120);

/// A LISTEN connection whose probe is lost is replaced at once.
const LOST_PROBE_STUCK: Duration = Duration::from_secs(60);

/// What the parts of the gateway report about themselves.
pub struct Health {
    state: watch::Sender<State>,
}

struct State {
    /// `None`: another gateway listens, or this one only while it is the source.
    listen: Option<Result<(), String>>,
    /// Whether a source is heard over the relay.
    relay: Result<(), String>,
    /// Whether this gateway is the source, or would be if no other were.
    source: Result<(), String>,
    database: Result<(), String>,
    /// Whether it is known where streams begin.
    has_horizon: bool,
    revocations: Result<(), String>,
    replays: Result<(), String>,
    /// Which tables make no events.
    records: Vec<String>,
    keys: Result<(), String>,
    /// The last fetch of the key set. The keys that are known stay, so that it holds nobody up.
    key_set: Result<(), String>,
    /// When the sweep began that has not ended yet.
    sweeping: Option<Instant>,
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
    /// Since when it has been given up.
    lost: Option<Instant>,
    /// When one came back last.
    returned: Option<Instant>,
}

/// How the gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether streams may be opened here: from the first time that the database
    /// was reached until the gateway stops. An outage later on does not change
    /// it: streams that are opened meanwhile wait for its end.
    pub is_ready: bool,
    /// What is not as it should be, for the operator; empty if nothing is.
    pub reasons: Vec<String>,
}

impl Readiness {
    /// Whether something is not as it should be.
    pub fn is_degraded(&self) -> bool {
        !self.reasons.is_empty()
    }
}

impl Health {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::starting(Some(Err("starting: not listening yet".to_owned())), Ok(()), Ok(()), true)
    }

    /// Of a gateway with a relay: whether it is an edge, and whether it may be the source.
    pub fn with_relay(is_edge: bool, is_source: bool) -> Self {
        let starting = |what: &str| Err(format!("starting: {what}"));
        let relay = if is_edge { starting("no source has been heard yet") } else { Ok(()) };
        let source = if is_source { starting("not asked yet who is the source") } else { Ok(()) };
        // What the source part meets says nothing of where this gateway's own streams begin.
        Self::starting(None, relay, source, !is_edge)
    }

    fn starting(
        listen: Option<Result<(), String>>,
        relay: Result<(), String>,
        source: Result<(), String>,
        has_horizon: bool,
    ) -> Self {
        let starting = || Err("starting: not connected to the database yet".to_owned());
        let state = State {
            listen,
            relay,
            source,
            database: starting(),
            has_horizon,
            revocations: Err("starting: the revocations have not been read yet".to_owned()),
            replays: Ok(()),
            records: Vec::new(),
            keys: Ok(()),
            key_set: Ok(()),
            sweeping: None,
            probe: Probe::default(),
            has_been_ready: false,
            draining: false,
        };
        Self { state: watch::Sender::new(state) }
    }

    /// LISTEN holds.
    pub fn listening(&self) {
        self.modify(|state| {
            state.listen = Some(Ok(()));
            state.probe = Probe::default();
        });
    }

    /// LISTEN does not hold; `reason` is for the operator.
    pub fn not_listening(&self, reason: String) {
        self.modify(|state| {
            state.listen = Some(Err(reason));
            state.probe = Probe::default();
        });
    }

    /// LISTEN is another gateway's, and so is what the triggers complain of.
    pub fn listens_no_more(&self) {
        self.modify(|state| {
            state.listen = None;
            state.records = Vec::new();
            state.probe = Probe::default();
        });
    }

    /// An edge has a horizon, from the database or from a source: its streams know where to
    /// begin.
    pub fn has_horizon(&self) {
        self.modify(|state| state.has_horizon = true);
    }

    /// A source is heard over the relay.
    pub fn relay_is_heard(&self) {
        self.modify(|state| state.relay = Ok(()));
    }

    /// None is; `reason` is for the operator.
    pub fn relay_fails(&self, reason: String) {
        self.modify(|state| state.relay = Err(reason));
    }

    /// This gateway is the source, or would be if another were not: the database has said so.
    pub fn source_is_well(&self) {
        self.modify(|state| {
            state.source = Ok(());
            state.database = Ok(());
        });
    }

    /// It cannot be; `reason` is for the operator.
    pub fn source_fails(&self, reason: String) {
        self.modify(|state| state.source = Err(reason));
    }

    /// A sweep is under way.
    pub fn sweep_begins(&self, now: Instant) {
        self.modify(|state| state.sweeping = Some(now));
    }

    /// It is over, whatever became of it.
    pub fn sweep_ends(&self) {
        self.modify(|state| state.sweeping = None);
    }

    /// The table was swept.
    pub fn database_answers(&self) {
        self.modify(|state| state.database = Ok(()));
    }

    /// The table cannot be swept; `reason` is for the operator.
    pub fn database_fails(&self, reason: String) {
        self.modify(|state| state.database = Err(reason));
    }

    /// The revocations were read.
    pub fn revocations_are_known(&self) {
        self.modify(|state| state.revocations = Ok(()));
    }

    /// They cannot be read; `reason` is for the operator.
    pub fn revocations_fail(&self, reason: String) {
        self.modify(|state| state.revocations = Err(reason));
    }

    /// What streams have missed can be read.
    pub fn replays_work(&self) {
        self.modify(|state| state.replays = Ok(()));
    }

    /// It cannot; `reason` is for the operator.
    pub fn replays_fail(&self, reason: String) {
        self.modify(|state| state.replays = Err(reason));
    }

    /// The key set was fetched: there are keys to verify tokens with.
    pub fn keys_are_known(&self) {
        self.modify(|state| {
            state.keys = Ok(());
            state.key_set = Ok(());
        });
    }

    /// The key set cannot be fetched; `reason` is for the operator.
    pub fn key_set_fails(&self, reason: String) {
        self.modify(|state| state.key_set = Err(reason));
    }

    /// There are none yet; `reason` is for the operator.
    pub fn keys_are_missing(&self, reason: String) {
        self.modify(|state| state.keys = Err(reason));
    }

    /// What the triggers have complained of; empty if nothing.
    pub fn records(&self, reasons: Vec<String>) {
        self.modify(|state| state.records = reasons);
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
            state.probe.lost = None;
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
            let listens = state.listen.as_ref().is_some_and(Result::is_ok);
            lost = listens && waiting.is_some_and(|waiting| waiting >= patience);
            let since = state.probe.lost.unwrap_or_else(Instant::now);
            state.probe.lost = lost.then_some(since);
        });
        lost
    }

    /// How long ago a probe came back; `None` before the first one of this
    /// LISTEN connection.
    pub fn probe_age(&self) -> Option<Duration> {
        self.state.borrow().probe.returned.map(|returned| returned.elapsed())
    }

    /// Whether LISTEN is this gateway's to hold.
    pub fn is_to_listen(&self) -> bool {
        self.state.borrow().listen.is_some()
    }

    /// The gateway is stopping.
    pub fn draining(&self) {
        self.modify(|state| state.draining = true);
    }

    /// Whether streams may be opened, or might be if the gateway were not
    /// stopping.
    pub fn has_been_ready(&self) -> bool {
        self.state.borrow().has_been_ready
    }

    /// Whether everything holds now.
    pub fn is_well(&self) -> bool {
        !self.readiness().is_degraded()
    }

    /// How the gateway is now.
    pub fn readiness(&self) -> Readiness {
        let state = self.state.borrow();
        let reasons = state.reasons();
        Readiness { is_ready: state.has_been_ready && !state.draining, reasons }
    }

    /// Why the gateway's own tasks do not move, which a restart would mend. A database that is
    /// away, slow or refuses is no such reason: the tasks try again by themselves.
    pub fn stuck(&self) -> Option<&'static str> {
        let state = self.state.borrow();
        let lasts =
            |since: Option<Instant>, longest| since.is_some_and(|since| since.elapsed() >= longest);
        if lasts(state.sweeping, SWEEP_STUCK) {
            return Some("a sweep of the event log does not end");
        }
        if lasts(state.probe.lost, LOST_PROBE_STUCK) {
            return Some("a LISTEN connection that brings no probe back is not replaced");
        }
        None
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
            // LISTEN is for speed: without it the sweep finds the rows.
            let parts = [&state.database, &state.revocations, &state.keys];
            state.has_been_ready |= state.has_horizon && parts.iter().all(|part| part.is_ok());
        });
    }
}

impl State {
    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        reasons.extend(self.draining.then(|| "draining: the gateway is stopping".to_owned()));
        let parts = [&self.database, &self.relay, &self.source, &self.revocations, &self.replays];
        let parts = self.listen.iter().chain(parts).chain([&self.keys, &self.key_set]);
        for part in parts {
            reasons.extend(part.as_ref().err().cloned());
        }
        reasons.extend(self.records.iter().cloned());
        if self.database.is_ok()
            && self.sweeping.is_some_and(|since| since.elapsed() >= SWEEP_PATIENCE)
        {
            reasons.push(format!("no sweep: no answer for {} s", SWEEP_PATIENCE.as_secs()));
        }
        let listens = self.listen.as_ref().is_some_and(Result::is_ok);
        if listens && (self.probe.lost.is_some() || self.probe.returned.is_none()) {
            reasons.push("no probe has come back on the LISTEN connection".to_owned());
        }
        reasons
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

    fn ready() -> Health {
        let health = Health::new();
        health.database_answers();
        assert!(!health.has_been_ready());
        health.revocations_are_known();
        assert!(health.has_been_ready());
        health
    }

    #[test]
    fn a_connection_that_brings_no_probe_back_is_not_well_however_alive_it_looks() {
        let health = ready();
        health.listening();
        assert!(!health.is_well());
        health.probe_sent(1);
        assert!(health.probe_returned(1).is_some());
        assert!(health.is_well());
        // Many in a short time are not three intervals.
        for number in 2..100 {
            health.probe_sent(number);
        }
        assert!(!health.probe_is_lost(Duration::from_secs(60)));
        assert!(health.is_well());
        assert!(health.probe_is_lost(Duration::ZERO));
        assert!(health.readiness().is_ready && health.readiness().is_degraded());
        // A new connection is given its chance.
        health.listening();
        assert!(!health.probe_is_lost(Duration::ZERO));
    }

    #[test]
    fn without_listen_streams_are_taken_and_it_is_said() {
        let health = ready();
        health.not_listening("LISTEN is refused".into());
        let readiness = health.readiness();
        assert!(readiness.is_ready);
        assert_eq!(readiness.reasons, ["LISTEN is refused"]);
    }

    #[test]
    fn a_sweep_that_is_not_answered_is_told_while_it_waits() {
        let health = ready();
        health.listening();
        health.probe_sent(1);
        health.probe_returned(1);
        let long_ago = Instant::now().checked_sub(SWEEP_PATIENCE).unwrap();
        health.sweep_begins(long_ago);
        assert!(health.readiness().reasons[0].contains("no answer"));
        health.sweep_ends();
        assert!(health.is_well());
    }

    #[test]
    fn what_a_restart_would_mend_is_told_from_what_the_database_does() {
        let long_ago = |longest| Instant::now().checked_sub(longest).unwrap();
        let health = ready();
        health.listening();
        health.database_fails("no answer".into());
        health.sweep_begins(long_ago(SWEEP_PATIENCE));
        assert_eq!(health.stuck(), None);
        health.sweep_begins(long_ago(SWEEP_STUCK));
        assert!(health.stuck().unwrap().contains("sweep"));
        health.sweep_ends();
        assert_eq!(health.stuck(), None);

        health.probe_sent(1);
        assert!(health.probe_is_lost(Duration::ZERO));
        assert_eq!(health.stuck(), None);
        health.modify(|state| state.probe.lost = Some(long_ago(LOST_PROBE_STUCK)));
        // Found once more, it is as old as it was.
        assert!(health.probe_is_lost(Duration::ZERO));
        assert!(health.stuck().unwrap().contains("LISTEN"));
        // It has been replaced.
        health.not_listening("the probe is lost".into());
        assert_eq!(health.stuck(), None);
    }

    #[test]
    fn a_gateway_that_stops_takes_no_streams() {
        let health = ready();
        health.draining();
        assert!(!health.readiness().is_ready);
        assert!(health.has_been_ready());
    }
}
