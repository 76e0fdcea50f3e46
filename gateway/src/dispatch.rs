//! Where the two halves meet: a signal from Postgres becomes an event in the
//! queues of its user's streams. One task, which never waits for a stream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    hub::Hub,
    metrics::Metrics,
    notification::{Notification, PayloadError},
    postgres::listener::Signal,
    sse,
};

/// How long a burst of bad payloads is answered by one log line.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Takes signals and publishes what they carry.
pub struct Dispatcher {
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    bad_payload_logged: Option<Instant>,
}

impl Dispatcher {
    /// A dispatcher that publishes to `hub`.
    pub fn new(hub: Arc<Hub>, metrics: Arc<Metrics>) -> Self {
        Self { hub, metrics, bad_payload_logged: None }
    }

    /// Runs until the signals end.
    pub async fn run(mut self, mut signals: mpsc::Receiver<Signal>) {
        while let Some(Signal::Payload(payload)) = signals.recv().await {
            self.dispatch(&payload);
        }
    }

    fn dispatch(&mut self, payload: &str) {
        // The trigger's bare ring: a row too large for NOTIFY, or a channel
        // that is to carry no rows.
        if payload.is_empty() {
            return;
        }
        match Notification::decode(payload) {
            Ok(row) => {
                self.hub.publish(row.user, &sse::notification(&row.data));
            }
            Err(error) => self.refuse(error, payload.len()),
        }
    }

    /// Anyone who may connect to the database may type into the channel. It is
    /// counted each time and logged once a burst, without what was typed.
    fn refuse(&mut self, error: PayloadError, bytes: usize) {
        self.metrics.payload_error(error);
        let now = Instant::now();
        if self.bad_payload_logged.is_none_or(|logged| now - logged >= LOG_INTERVAL) {
            self.bad_payload_logged = Some(now);
            tracing::warn!(
                payload.bytes = bytes,
                %error,
                "ignored a NOTIFY that no trigger of ours sent; more in the next minute are only counted"
            );
        }
    }
}
