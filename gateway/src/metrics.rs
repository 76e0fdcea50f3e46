//! What an operator reads at `/metrics`.
//!
//! Each gateway has numbers of its own: two gateways in one process (the tests)
//! do not read each other's. Label values come from the enums of this crate,
//! never from rows or requests. Each metric is declared once, in
//! [`Metrics::new`].

mod process;
mod register;

use std::time::{Duration, SystemTime};

pub use register::Counter;
use register::{Gauge, Histogram, Register};

use crate::{
    notification::PayloadError,
    outcome::{Refusal, StreamEnd},
};

/// The events of a stream, as the label `event_type` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named after the event")]
pub enum EventType {
    Connected,
    /// A row that is new to its user, whatever `watch()` calls the event.
    Notification,
    Updated,
    Deleted,
    Heartbeat,
    Resync,
    Closing,
}

impl EventType {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Connected, "connected"),
        (Self::Notification, "notification"),
        (Self::Updated, "updated"),
        (Self::Deleted, "deleted"),
        (Self::Heartbeat, "heartbeat"),
        (Self::Resync, "resync"),
        (Self::Closing, "closing"),
    ];
}

/// All metrics of a gateway. Counting is an atomic addition, so it is cheap
/// enough for every event.
pub struct Metrics {
    register: Register,
    open_streams: Gauge,
    messages_sent: [Counter; EventType::ALL.len()],
    connection_duration: Histogram,
    reconnections: [Counter; StreamEnd::ALL.len()],
    reconnections_unknown: Counter,
    stream_ends: [Counter; StreamEnd::ALL.len()],
    refused: Refusals,
    listen_up: Gauge,
    listen_reconnects: Counter,
    relay_up: Gauge,
    relay_lead: Gauge,
    relay_edge: Gauge,
    relay_source: Gauge,
    relay_gaps: Counter,
    relay_lag: Histogram,
    payload_errors: [Counter; PayloadError::ALL.len()],
    delivery_seconds: Histogram,
    lagging_streams: Gauge,
    probe_seconds: Histogram,
    probe_age: Gauge,
    sweep_seconds: Histogram,
    sweep_rows: Counter,
    log_rows: Gauge,
    log_bytes: Gauge,
    log_oldest: Gauge,
    record_problems: Counter,
    replay_seconds: Histogram,
    replay_rows: Counter,
    replay_queries: Counter,
    notify_queue_usage: Gauge,
    quiet: Gauge,
    key_fetches: [Counter; 2],
}

/// Requests that opened no stream, by reason.
pub struct Refusals {
    /// No token, or not a valid one.
    pub unauthorized: Counter,
    /// A request that is not valid.
    pub bad_request: Counter,
    /// A cookie from a foreign origin.
    pub forbidden: Counter,
    /// The feature flag is off.
    pub disabled: Counter,
    /// Connections that were refused, or had to make room for others.
    pub too_many_connections: Counter,
    /// Those that may come again later.
    soft: [Counter; Refusal::REASONS.len()],
}

impl Refusals {
    fn new(register: &mut Register) -> Self {
        let [starting, shutdown, full, too_many_streams, rate_limited] =
            Refusal::REASONS.map(Refusal::reason);
        let [unauthorized, bad_request, forbidden, disabled, too_many_connections, soft @ ..] =
            register.counters(
                "notify_gateway_refused_total",
                "Requests that opened no stream, and connections that were cut for others, by \
                 reason.",
                "reason",
                [
                    "unauthorized",
                    "bad_request",
                    "forbidden",
                    "disabled",
                    "too_many_connections",
                    starting,
                    shutdown,
                    full,
                    too_many_streams,
                    rate_limited,
                ],
            );
        Self { unauthorized, bad_request, forbidden, disabled, too_many_connections, soft }
    }

    /// The counter of a refusal that may come again later.
    pub fn soft(&self, refusal: Refusal) {
        if let Some(i) = Refusal::REASONS.iter().position(|soft| soft.reason() == refusal.reason())
        {
            self.soft[i].increment(1);
        }
    }
}

/// Seconds that a stream lives: from a flaky tunnel's to a day's open tab.
const LIFE_SECONDS: &[f64] =
    &[1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];

/// Seconds that a query or a round trip takes: from a fraction of a millisecond
/// to its time-out.
const QUERY_SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];

/// Seconds from the making of a row to its write, the transaction included that
/// made it.
const DELIVERY_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

impl Metrics {
    /// A fresh set, all zero.
    pub fn new() -> Self {
        let mut new = Register::default();
        new.info(
            "notify_gateway_build_info",
            "Always 1; the version is in the label.",
            "version",
            env!("CARGO_PKG_VERSION"),
        );
        let ends = StreamEnd::ALL.map(StreamEnd::reason);
        let [disconnects @ .., unknown] = new.counters::<{ StreamEnd::ALL.len() + 1 }>(
            "sse_reconnection_attempts_total",
            "Connects with a cursor, by how the user's last stream here ended.",
            "reason",
            std::array::from_fn(|i| ends.get(i).copied().unwrap_or("unknown")),
        );
        Self {
            open_streams: new.gauge(
                "sse_connections_total",
                "Open streams (a gauge; dashboards expect the name).",
            ),
            messages_sent: new.counters(
                "sse_messages_sent_total",
                "Events written to streams, by event.",
                "event_type",
                EventType::ALL.map(|(_, name)| name),
            ),
            connection_duration: new.histogram(
                "sse_connection_duration_seconds",
                "How long streams lived.",
                LIFE_SECONDS,
            ),
            reconnections: disconnects,
            reconnections_unknown: unknown,
            stream_ends: new.counters(
                "notify_gateway_stream_ends_total",
                "Streams that are over, by reason.",
                "reason",
                ends,
            ),
            refused: Refusals::new(&mut new),
            lagging_streams: new.gauge(
                "notify_gateway_lagging_streams",
                "Streams whose rows wait in the table, or for a reader that has stopped.",
            ),
            delivery_seconds: new.histogram(
                "notify_gateway_delivery_seconds",
                "From the making of a row, which is before its commit, to its write to a \
                 stream; rows that were replayed are not counted.",
                DELIVERY_SECONDS,
            ),
            listen_up: new
                .gauge("notify_gateway_listen_up", "1 while the LISTEN connection holds."),
            listen_reconnects: new.counter(
                "notify_gateway_listen_reconnects_total",
                "Times the LISTEN connection was replaced.",
            ),
            relay_up: new.gauge(
                "notify_gateway_relay_up",
                "1 while a source is heard over the relay; 0 without a relay.",
            ),
            relay_lead: new.gauge(
                "notify_gateway_relay_lead",
                "1 while this gateway is the source of a relay.",
            ),
            relay_edge: new
                .gauge("notify_gateway_relay_edge", "1 on a gateway that is an edge of a relay."),
            relay_source: new.gauge(
                "notify_gateway_relay_source",
                "1 on a gateway that may be the source of a relay.",
            ),
            relay_gaps: new.counter(
                "notify_gateway_relay_gaps_total",
                "Times something of the relay was missed, so that all streams read the log.",
            ),
            relay_lag: new.histogram(
                "notify_gateway_relay_lag_seconds",
                "From the relay's having a batch to its being in the streams' queues here; \
                 by two clocks, where NATS is on another machine.",
                DELIVERY_SECONDS,
            ),
            payload_errors: new.counters(
                "notify_gateway_payload_errors_total",
                "NOTIFY payloads that were not a row, by reason.",
                "reason",
                PayloadError::ALL.map(PayloadError::reason),
            ),
            probe_seconds: new.histogram(
                "notify_gateway_probe_seconds",
                "A probe's way from its commit to LISTEN.",
                QUERY_SECONDS,
            ),
            probe_age: new
                .gauge("notify_gateway_probe_age_seconds", "Time since LISTEN last proved itself."),
            sweep_seconds: new.histogram(
                "notify_gateway_sweep_seconds",
                "One sweep: snapshot, rows, probe, flush.",
                QUERY_SECONDS,
            ),
            sweep_rows: new.counter(
                "notify_gateway_sweep_rows_total",
                "Rows a sweep found that no notification brought.",
            ),
            log_rows: new.gauge(
                "notify_gateway_log_rows",
                "Events in the log, as the database's statistics estimate them.",
            ),
            log_bytes: new.gauge("notify_gateway_log_bytes", "Size of the log, with its indexes."),
            log_oldest: new.gauge(
                "notify_gateway_log_oldest_seconds",
                "How long ago the oldest event of the log was written.",
            ),
            record_problems: new.counter(
                "notify_gateway_record_problems_total",
                "Transactions with writes to watched tables that made no event.",
            ),
            replay_seconds: new.histogram(
                "notify_gateway_replay_seconds",
                "A batch of replays, from its start to its answers.",
                QUERY_SECONDS,
            ),
            replay_rows: new.counter(
                "notify_gateway_replay_rows_total",
                "Rows read from the table for streams behind.",
            ),
            replay_queries: new
                .counter("notify_gateway_replay_queries_total", "Queries made for streams behind."),
            quiet: new.gauge(
                "notify_gateway_quiet",
                "1 while the triggers do not notify and the log is swept often instead.",
            ),
            notify_queue_usage: new.gauge(
                "notify_gateway_notify_queue_usage_ratio",
                "How full Postgres' notification queue is; at 1 commits fail.",
            ),
            key_fetches: new.counters(
                "notify_gateway_jwks_fetches_total",
                "Fetches of the key set, by outcome.",
                "outcome",
                ["failure", "success"],
            ),
            register: new,
        }
    }

    /// The text of `/metrics`. Reads files in `/proc`, which may take a while.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        self.register.render(&mut out);
        process::render(&mut out);
        out
    }

    /// A stream was opened.
    pub fn stream_opened(&self) {
        self.open_streams.add(1.0);
    }

    /// A stream that lived for `duration` is over.
    pub fn stream_ended(&self, end: StreamEnd, duration: Duration) {
        self.open_streams.add(-1.0);
        self.connection_duration.record(duration);
        if let Some(i) = StreamEnd::ALL.iter().position(|e| *e == end) {
            self.stream_ends[i].increment(1);
        }
    }

    /// The key set was fetched, or could not be.
    pub fn keys_fetched(&self, is_fetched: bool) {
        self.key_fetches[usize::from(is_fetched)].increment(1);
    }

    /// `count` events were handed to a stream's socket.
    pub fn sent(&self, event: EventType, count: u64) {
        self.messages_sent[event as usize].increment(count);
    }

    /// A client came back with a cursor; `last` is how its user's last stream
    /// here ended, where that is known.
    pub fn reconnected(&self, last: Option<StreamEnd>) {
        match last.and_then(|last| StreamEnd::ALL.iter().position(|e| *e == last)) {
            Some(i) => self.reconnections[i].increment(1),
            None => self.reconnections_unknown.increment(1),
        }
    }

    /// The counters of requests that opened no stream.
    pub fn refused(&self) -> &Refusals {
        &self.refused
    }

    /// The LISTEN connection came up or went down.
    pub fn listen_up(&self, up: bool) {
        self.listen_up.set(if up { 1.0 } else { 0.0 });
    }

    /// The LISTEN connection was lost and is being replaced.
    pub fn listen_reconnect(&self) {
        self.listen_reconnects.increment(1);
    }

    /// Whether a source is heard over the relay.
    pub fn relay_up(&self, up: bool) {
        self.relay_up.set(if up { 1.0 } else { 0.0 });
    }

    /// Whether this gateway is the source.
    pub fn relay_lead(&self, leads: bool) {
        self.relay_lead.set(if leads { 1.0 } else { 0.0 });
    }

    /// A batch was heard, of this age, and perhaps something before it was not.
    pub fn relay_heard(&self, age: Option<Duration>, is_gap: bool) {
        self.relay_gaps.increment(is_gap.into());
        if let Some(age) = age {
            self.relay_lag.record(age);
        }
    }

    /// One stream more, or less, reads from the table and not live.
    pub fn lagging(&self, change: f64) {
        self.lagging_streams.add(change);
    }

    /// A probe came back.
    pub fn probe(&self, took: Duration) {
        self.probe_seconds.record(took);
    }

    /// How long ago one did; infinite before the first, and no number where none is sent.
    pub fn probe_age(&self, age: Option<Option<Duration>>) {
        let seconds = |age: Option<Duration>| age.map_or(f64::INFINITY, |age| age.as_secs_f64());
        self.probe_age.set(age.map_or(f64::NAN, seconds));
    }

    /// What this gateway does with a relay.
    pub fn relay_role(&self, is_edge: bool, is_source: bool) {
        self.relay_edge.set(if is_edge { 1.0 } else { 0.0 });
        self.relay_source.set(if is_source { 1.0 } else { 0.0 });
    }

    /// The table was swept.
    pub fn swept(&self, took: Duration) {
        self.sweep_seconds.record(took);
    }

    /// The sweep found a row that no notification brought.
    pub fn swept_row(&self) {
        self.sweep_rows.increment(1);
    }

    /// The log is so large.
    pub fn log_size(&self, rows: f64, bytes: f64, oldest_seconds: f64) {
        self.log_rows.set(rows);
        self.log_bytes.set(bytes);
        self.log_oldest.set(oldest_seconds);
    }

    /// So many transactions wrote rows that made no event.
    pub fn record_problems(&self, count: u64) {
        self.record_problems.increment(count);
    }

    /// A batch of replays was answered.
    pub fn replayed(&self, took: Duration) {
        self.replay_seconds.record(took);
    }

    /// Rows were read for a replay.
    pub fn replay_rows(&self, rows: usize) {
        self.replay_rows.increment(rows as u64);
    }

    /// A query was made for a batch of replays.
    pub fn replay_query(&self) {
        self.replay_queries.increment(1);
    }

    /// Whether the triggers do not notify.
    pub fn quiet(&self, is_quiet: bool) {
        self.quiet.set(f64::from(u8::from(is_quiet)));
    }

    /// How full the notification queue is.
    pub fn notify_queue_usage(&self, ratio: f64) {
        self.notify_queue_usage.set(ratio);
    }

    /// A notification came that is not a row.
    pub fn payload_error(&self, error: PayloadError) {
        if let Some(i) = PayloadError::ALL.iter().position(|e| *e == error) {
            self.payload_errors[i].increment(1);
        }
    }

    /// A row that was made at `made_at` goes out at `now`. The clocks of the
    /// database and of this machine may differ: what is before its making took
    /// no time.
    pub fn delivered(&self, made_at: SystemTime, now: SystemTime) {
        self.delivery_seconds.record(now.duration_since(made_at).unwrap_or_default());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_metrics_of_the_dashboards_are_there_from_the_start() {
        let text = Metrics::new().render();
        for line in [
            "# TYPE sse_connections_total gauge",
            "sse_connections_total 0",
            "sse_messages_sent_total{event_type=\"notification\"} 0",
            "sse_reconnection_attempts_total{reason=\"unknown\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_metric_is_described_typed_and_valid_and_those_of_the_contract_are_there() {
        let text = Metrics::new().render();
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let (mut family, mut names) = ((String::new(), String::new()), Vec::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && help.ends_with('.') || help.contains("; "), "{line}");
                let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} "));
                let kind = kind.expect("a type behind the help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                assert!(!names.contains(&name.to_owned()), "{name} twice");
                names.push(name.to_owned());
                family = (name.to_owned(), kind.to_owned());
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let suffixes: &[&str] =
                if family.1 == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            let belongs = suffixes.iter().any(|suffix| name == format!("{}{suffix}", family.0));
            assert!(belongs, "{line} under {family:?}");
            let label = labels.strip_suffix('}').unwrap();
            if !label.is_empty() {
                let (key, value) = label.split_once('=').unwrap();
                let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
                assert!(is_name(key) && quoted.is_some_and(|v| !v.contains('"')), "{line}");
            }
        }
        for name in [
            "refused_total",
            "stream_ends_total",
            "delivery_seconds",
            "listen_up",
            "listen_reconnects_total",
            "relay_up",
            "relay_lead",
            "relay_edge",
            "relay_source",
            "relay_gaps_total",
            "relay_lag_seconds",
            "probe_seconds",
            "probe_age_seconds",
            "sweep_seconds",
            "sweep_rows_total",
            "log_rows",
            "log_bytes",
            "log_oldest_seconds",
            "record_problems_total",
            "replay_seconds",
            "replay_rows_total",
            "replay_queries_total",
            "payload_errors_total",
            "lagging_streams",
            "notify_queue_usage_ratio",
            "quiet",
            "build_info",
        ] {
            let name = format!("notify_gateway_{name}");
            assert!(names.contains(&name), "{name} is not in\n{text}");
        }
        if cfg!(target_os = "linux") {
            for name in ["cpu_seconds_total", "open_fds", "max_fds", "start_time_seconds"] {
                assert!(names.contains(&format!("process_{name}")), "{name} is not in\n{text}");
            }
        }
    }

    #[test]
    fn a_stream_counts_while_it_is_open_and_its_time_after() {
        let metrics = Metrics::new();
        metrics.stream_opened();
        metrics.stream_opened();
        metrics.stream_ended(StreamEnd::Disconnected, Duration::from_secs(2));
        let text = metrics.render();
        for line in [
            "sse_connections_total 1",
            "sse_connection_duration_seconds_bucket{le=\"5\"} 1",
            "notify_gateway_stream_ends_total{reason=\"disconnected\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn an_event_type_indexes_its_own_counter() {
        for (i, (event, _)) in EventType::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, i);
        }
    }
}
