//! What an operator reads at `/metrics`.
//!
//! Each gateway has a recorder of its own rather than the process-wide one: two
//! gateways in one process (the tests) do not read each other's numbers. Label
//! values come from the enums of this crate, never from rows or requests.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{notification::PayloadError, sse::Closing};

/// Why a stream ended: `stream_ends_total`'s label, and the reason its user's
/// next reconnect is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamEnd {
    /// The gateway said goodbye.
    Closed(Closing),
    /// The other side read nothing for too long.
    SlowConsumer,
    /// The other side was gone.
    Disconnected,
}

impl StreamEnd {
    const ALL: [Self; 5] = [
        Self::Closed(Closing::Shutdown),
        Self::Closed(Closing::TokenExpired),
        Self::Closed(Closing::Revoked),
        Self::SlowConsumer,
        Self::Disconnected,
    ];

    /// The value of the metric label `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Closed(closing) => closing.reason(),
            Self::SlowConsumer => "slow_consumer",
            Self::Disconnected => "disconnected",
        }
    }
}

/// The events of a stream, as the label `event_type` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named after the event")]
pub enum EventType {
    Connected,
    Notification,
    Heartbeat,
    Resync,
    Closing,
}

impl EventType {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Connected, "connected"),
        (Self::Notification, "notification"),
        (Self::Heartbeat, "heartbeat"),
        (Self::Resync, "resync"),
        (Self::Closing, "closing"),
    ];
}

/// The gateway's numbers, each a handle that is cheap to touch.
pub struct Metrics {
    handle: PrometheusHandle,
    open_streams: Gauge,
    messages_sent: [Counter; EventType::ALL.len()],
    connection_duration: Histogram,
    reconnections: [Counter; StreamEnd::ALL.len()],
    reconnections_unknown: Counter,
    stream_ends: [Counter; StreamEnd::ALL.len()],
    refused: Refusals,
    listen_up: Gauge,
    listen_reconnects: Counter,
    payload_not_json: Counter,
    payload_not_a_row: Counter,
    lagging_streams: Gauge,
    probe_seconds: Histogram,
    probe_age: Gauge,
    sweep_seconds: Histogram,
    sweep_rows: Counter,
    replay_seconds: Histogram,
    replay_rows: Counter,
    replay_queries: Counter,
    replay_unreadable: Counter,
    notify_queue_usage: Gauge,
    keys_fetched: Counter,
    keys_not_fetched: Counter,
}

/// Requests that opened no stream, by reason.
pub struct Refusals {
    /// No token, or not a valid one.
    pub unauthorized: Counter,
    /// No valid request.
    pub bad_request: Counter,
    /// A cookie from a foreign origin.
    pub forbidden: Counter,
    /// The feature flag is off.
    pub disabled: Counter,
    /// Connections that were refused, or had to make room for others.
    pub too_many_connections: Counter,
    /// Those that may come again later.
    soft: [(Closing, Counter); 5],
}

impl Refusals {
    /// The counter of a refusal that may come again later.
    pub fn soft(&self, closing: Closing) {
        for (reason, counter) in &self.soft {
            if *reason == closing {
                counter.increment(1);
            }
        }
    }
}

impl Metrics {
    /// A fresh set, all zero.
    pub fn new() -> Self {
        let recorder = builder().build_recorder();
        let new = Register { recorder: &recorder };
        describe(&recorder);
        let build = [Label::new("version", env!("CARGO_PKG_VERSION"))];
        new.gauge("notify_gateway_build_info", &build).set(1.0);
        let refused =
            |reason| new.counter("notify_gateway_refused_total", &[Label::new("reason", reason)]);
        let payload_error = |error: PayloadError| {
            let label = [Label::new("reason", error.reason())];
            new.counter("notify_gateway_payload_errors_total", &label)
        };
        let key_fetch = |outcome| {
            let label = [Label::new("outcome", outcome)];
            new.counter("notify_gateway_jwks_fetches_total", &label)
        };
        let by_end = |name| {
            StreamEnd::ALL.map(|end| new.counter(name, &[Label::new("reason", end.reason())]))
        };
        Self {
            open_streams: new.gauge("sse_connections_total", &[]),
            messages_sent: EventType::ALL.map(|(_, name)| {
                new.counter("sse_messages_sent_total", &[Label::new("event_type", name)])
            }),
            connection_duration: new.histogram("sse_connection_duration_seconds"),
            reconnections: by_end("sse_reconnection_attempts_total"),
            reconnections_unknown: new
                .counter("sse_reconnection_attempts_total", &[Label::new("reason", "unknown")]),
            stream_ends: by_end("notify_gateway_stream_ends_total"),
            refused: Refusals {
                unauthorized: refused("unauthorized"),
                bad_request: refused("bad_request"),
                forbidden: refused("forbidden"),
                disabled: refused("disabled"),
                too_many_connections: refused("too_many_connections"),
                soft: [
                    Closing::Starting,
                    Closing::Shutdown,
                    Closing::Full,
                    Closing::TooManyStreams,
                    Closing::RateLimited,
                ]
                .map(|closing| (closing, refused(closing.reason()))),
            },
            listen_up: new.gauge("notify_gateway_listen_up", &[]),
            listen_reconnects: new.counter("notify_gateway_listen_reconnects_total", &[]),
            payload_not_json: payload_error(PayloadError::Json),
            payload_not_a_row: payload_error(PayloadError::Envelope),
            lagging_streams: new.gauge("notify_gateway_lagging_streams", &[]),
            probe_seconds: new.histogram("notify_gateway_probe_seconds"),
            probe_age: new.gauge("notify_gateway_probe_age_seconds", &[]),
            sweep_seconds: new.histogram("notify_gateway_sweep_seconds"),
            sweep_rows: new.counter("notify_gateway_sweep_rows_total", &[]),
            replay_seconds: new.histogram("notify_gateway_replay_seconds"),
            replay_rows: new.counter("notify_gateway_replay_rows_total", &[]),
            replay_queries: new.counter("notify_gateway_replay_queries_total", &[]),
            replay_unreadable: new.counter("notify_gateway_replay_unreadable_total", &[]),
            notify_queue_usage: new.gauge("notify_gateway_notify_queue_usage_ratio", &[]),
            keys_fetched: key_fetch("success"),
            keys_not_fetched: key_fetch("failure"),
            handle: recorder.handle(),
        }
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        // Histograms are gathered in buckets of their own until then.
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// A stream was opened.
    pub fn stream_opened(&self) {
        self.open_streams.increment(1.0);
    }

    /// A stream that lived for `duration` is over.
    pub fn stream_ended(&self, end: StreamEnd, duration: Duration) {
        self.open_streams.decrement(1.0);
        self.connection_duration.record(duration);
        if let Some(i) = StreamEnd::ALL.iter().position(|e| *e == end) {
            self.stream_ends[i].increment(1);
        }
    }

    /// The key set was fetched, or could not be.
    pub fn keys_fetched(&self, is_fetched: bool) {
        let counter = if is_fetched { &self.keys_fetched } else { &self.keys_not_fetched };
        counter.increment(1);
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

    /// One stream more, or less, reads from the table and not live.
    pub fn lagging(&self, change: f64) {
        self.lagging_streams.increment(change);
    }

    /// A probe came back.
    pub fn probe(&self, took: Duration) {
        self.probe_seconds.record(took);
    }

    /// How long ago one did; infinite before the first.
    pub fn probe_age(&self, age: Option<Duration>) {
        self.probe_age.set(age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
    }

    /// The table was swept.
    pub fn swept(&self, took: Duration) {
        self.sweep_seconds.record(took);
    }

    /// The sweep found a row that no notification brought.
    pub fn swept_row(&self) {
        self.sweep_rows.increment(1);
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

    /// A stream was told to fetch its list, since a row of its user could not be
    /// read.
    pub fn replay_unreadable(&self) {
        self.replay_unreadable.increment(1);
    }

    /// How full Postgres' notification queue is.
    pub fn notify_queue_usage(&self, ratio: f64) {
        self.notify_queue_usage.set(ratio);
    }

    /// Somebody typed something into the channel.
    pub fn payload_error(&self, error: PayloadError) {
        match error {
            PayloadError::Json => self.payload_not_json.increment(1),
            PayloadError::Envelope => self.payload_not_a_row.increment(1),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn builder() -> PrometheusBuilder {
    // A stream lives from a flaky tunnel's second to a day's open tab.
    const LIFE_SECONDS: [f64; 10] =
        [1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];
    // A query or a round trip takes from a fraction of a millisecond to its
    // time-out of ten seconds.
    const QUERY_SECONDS: [f64; 10] =
        [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];
    let histograms = [
        ("sse_connection_duration_seconds", LIFE_SECONDS),
        ("notify_gateway_probe_seconds", QUERY_SECONDS),
        ("notify_gateway_sweep_seconds", QUERY_SECONDS),
        ("notify_gateway_replay_seconds", QUERY_SECONDS),
    ];
    histograms.into_iter().fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
        // The only error is an empty list of buckets; without buckets the
        // histogram would still be there, as a summary.
        builder.set_buckets_for_metric(Matcher::Full(name.into()), &buckets).unwrap_or_default()
    })
}

fn describe(recorder: &impl Recorder) {
    let counters = [
        ("sse_messages_sent_total", "Events written to streams, by event."),
        (
            "sse_reconnection_attempts_total",
            "Connects with a cursor, by how the user's last stream here ended.",
        ),
        ("notify_gateway_stream_ends_total", "Streams that are over, by reason."),
        ("notify_gateway_refused_total", "Requests that opened no stream, by reason."),
        ("notify_gateway_listen_reconnects_total", "Times the LISTEN connection was replaced."),
        ("notify_gateway_payload_errors_total", "NOTIFY payloads that were no row, by reason."),
        ("notify_gateway_sweep_rows_total", "Rows a sweep found that no notification brought."),
        ("notify_gateway_replay_rows_total", "Rows read from the table for streams behind."),
        ("notify_gateway_replay_queries_total", "Queries made for streams behind."),
        (
            "notify_gateway_replay_unreadable_total",
            "Streams told to fetch their list because a row of theirs could not be read.",
        ),
        ("notify_gateway_jwks_fetches_total", "Fetches of the key set, by outcome."),
    ];
    for (name, help) in counters {
        recorder.describe_counter(name.into(), None, help.into());
    }
    let gauges = [
        ("sse_connections_total", "Open streams (a gauge; dashboards expect the name)."),
        ("notify_gateway_listen_up", "1 while the LISTEN connection holds."),
        ("notify_gateway_lagging_streams", "Streams that read from the table, not live."),
        ("notify_gateway_probe_age_seconds", "Time since LISTEN last proved itself."),
        ("notify_gateway_notify_queue_usage_ratio", "Postgres' NOTIFY queue; at 1 commits fail."),
        ("notify_gateway_build_info", "Always 1; the version is in the label."),
    ];
    for (name, help) in gauges {
        recorder.describe_gauge(name.into(), None, help.into());
    }
    let histograms = [
        ("sse_connection_duration_seconds", "How long streams lived."),
        ("notify_gateway_probe_seconds", "A probe's way from its commit to LISTEN."),
        ("notify_gateway_sweep_seconds", "One beat: snapshot, sweep, probe, flush."),
        ("notify_gateway_replay_seconds", "A batch of replays, from its start to its answers."),
    ];
    for (name, help) in histograms {
        recorder.describe_histogram(name.into(), None, help.into());
    }
}

struct Register<'a, R> {
    recorder: &'a R,
}

impl<R: Recorder> Register<'_, R> {
    const METADATA: Metadata<'static> = Metadata::new("notify_gateway", Level::INFO, None);

    fn counter(&self, name: &'static str, labels: &[Label]) -> Counter {
        let counter = self.recorder.register_counter(&key(name, labels), &Self::METADATA);
        // Shown as 0 from the start: an alert on a rate needs the series.
        counter.increment(0);
        counter
    }

    fn gauge(&self, name: &'static str, labels: &[Label]) -> Gauge {
        let gauge = self.recorder.register_gauge(&key(name, labels), &Self::METADATA);
        gauge.set(0.0);
        gauge
    }

    fn histogram(&self, name: &'static str) -> Histogram {
        self.recorder.register_histogram(&key(name, &[]), &Self::METADATA)
    }
}

fn key(name: &'static str, labels: &[Label]) -> Key {
    Key::from_parts(name, labels.to_vec())
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
