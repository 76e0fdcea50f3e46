//! Whether the gateway can do its work, and why not: what `/readyz` says.

use tokio::sync::watch;

/// What the parts of the gateway report about themselves.
pub struct Health {
    state: watch::Sender<State>,
}

struct State {
    listen: Result<(), String>,
    has_been_ready: bool,
    draining: bool,
}

impl Health {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        let listen = Err("starting: not connected to the database yet".to_owned());
        let state = State { listen, has_been_ready: false, draining: false };
        Self { state: watch::Sender::new(state) }
    }

    /// LISTEN holds.
    pub fn listening(&self) {
        self.state.send_modify(|state| {
            state.listen = Ok(());
            state.has_been_ready = true;
        });
    }

    /// LISTEN does not hold; `reason` is for the operator.
    pub fn not_listening(&self, reason: String) {
        self.state.send_modify(|state| state.listen = Err(reason));
    }

    /// The gateway is stopping.
    pub fn draining(&self) {
        self.state.send_modify(|state| state.draining = true);
    }

    /// Whether streams may be opened. An outage of the database later on does
    /// not change it: streams opened meanwhile wait for its end.
    pub fn has_been_ready(&self) -> bool {
        self.state.borrow().has_been_ready
    }

    /// Why the gateway is not ready; empty when it is.
    pub fn complaints(&self) -> Vec<String> {
        let state = self.state.borrow();
        let draining = state.draining.then(|| "draining: the gateway is stopping".to_owned());
        draining.into_iter().chain(state.listen.as_ref().err().cloned()).collect()
    }

    /// Waits until streams may be opened.
    pub async fn ready(&self) {
        // The sender is ours: the channel cannot be closed while we wait on it.
        let mut state = self.state.subscribe();
        let _ready = state.wait_for(|state| state.has_been_ready).await;
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}
