//! What the parent and its workers say to each other: one JSON object a line,
//! over the worker's standard input and output.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::{histogram::Buckets, ledger::Ledger, request::RequestTemplate, verdict::Findings};

/// To a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// First, once.
    Setup(Box<Setup>),
    /// Opens streams: the first at `from_ns`, each next one `interval_ns` later.
    Open { streams: Vec<StreamOrder>, from_ns: u64, interval_ns: u64 },
    /// Opens connections that close as soon as they are open, in the same way:
    /// `cycles` of them, in the names of `streams` in turn.
    Churn { streams: Vec<StreamOrder>, cycles: usize, from_ns: u64, interval_ns: u64 },
    /// Cuts all streams at a moment; each reconnects with its cursor within
    /// `spread_ns`.
    Storm { at_ns: u64, spread_ns: u64 },
    /// Connections that mean no good, until a moment.
    Hostile { random: usize, slow_heads: usize, until_ns: u64 },
    /// The streams that have not read begin to.
    Read,
    /// Closes everything and judges every stream.
    Judge(Ledger),
}

/// What holds for all streams of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) run: String,
    pub(crate) address: SocketAddr,
    pub(crate) request: RequestTemplate,
    pub(crate) events: EventNames,
    pub(crate) seed: u64,
}

/// Which events mean what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EventNames {
    /// Rows come in these.
    pub(crate) notification: Vec<String>,
    /// A stream is open with this one; without a name, with the answer's head.
    pub(crate) opened: Option<String>,
    /// The server says: rows may have been missed.
    pub(crate) resync: String,
    /// The server says: this stream ends.
    pub(crate) closing: String,
}

/// One stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StreamOrder {
    /// The user's number, and as the server knows them.
    pub(crate) user: u32,
    pub(crate) user_id: String,
    pub(crate) token: String,
    /// The address it comes from; the system's choice where there is none.
    pub(crate) source: Option<IpAddr>,
    /// Whether it reads, or leaves what comes in the socket.
    pub(crate) reads: bool,
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// Four times a second, and when the last stream due has opened.
    Tick(Box<Tick>),
    /// The answer to [`Order::Judge`], and the last word.
    Judged(Box<Judged>),
}

/// How a worker stands. Counts are since its start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tick {
    pub(crate) open: u64,
    /// Streams (and churned connections) that were asked for and are not open.
    pub(crate) pending: u64,
    pub(crate) opened_total: u64,
    pub(crate) deliveries: u64,
    pub(crate) other_events: u64,
    pub(crate) bytes: u64,
    pub(crate) cpu_ns: u64,
    /// Why connections ended that we did not end.
    pub(crate) ends: BTreeMap<String, u64>,
    /// From the intended moment to receipt, since the last tick.
    pub(crate) window: Buckets,
    /// How late the event loop was at the worst, since the last tick.
    pub(crate) lag_max_ns: u64,
}

/// What a worker found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Judged {
    pub(crate) findings: Findings,
    pub(crate) latencies: WorkerLatencies,
    /// When the last stream received something of a transaction, by number; 0:
    /// none did.
    pub(crate) last_receipts_ns: Vec<u64>,
}

/// All a worker has measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct WorkerLatencies {
    /// SYN to open.
    pub(crate) connect: Buckets,
    /// SYN to the answer's first byte.
    pub(crate) first_byte: Buckets,
    /// The same as `connect`, of streams that come back.
    pub(crate) reconnect: Buckets,
    /// Cut to caught up.
    pub(crate) catch_up: Buckets,
    /// Receipt after the intended moment, the sending, the acknowledgement.
    pub(crate) intended: Buckets,
    pub(crate) sent: Buckets,
    pub(crate) acknowledged: Buckets,
    /// The event loop's lateness, every ten milliseconds.
    pub(crate) lag: Buckets,
}
