//! The workers, seen from the parent.

use std::{collections::BTreeMap, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    histogram::Latencies,
    ledger::Ledger,
    protocol::{Judged, Order, Setup, StreamOrder, Tick, Word},
    verdict::Findings,
};

/// Judging takes a worker seconds at the most.
const JUDGE_TIMEOUT: Duration = Duration::from_secs(120);

/// All workers of a scenario. Dropping it ends them.
pub(crate) struct Fleet {
    workers: Vec<Worker>,
    shared: Arc<Shared>,
}

struct Worker {
    child: Child,
    orders: ChildStdin,
    reader: JoinHandle<anyhow::Result<Judged>>,
}

/// What the workers have said last.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ticks: Vec<Tick>,
    window: Latencies,
    lag_max_ns: u64,
    peak_open: u64,
    lost_a_worker: bool,
}

/// The sum over all workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) open: u64,
    pub(crate) pending: u64,
    pub(crate) opened_total: u64,
    pub(crate) deliveries: u64,
    pub(crate) other_events: u64,
    pub(crate) bytes: u64,
    pub(crate) ends: BTreeMap<String, u64>,
}

/// What the fleet found and measured.
#[derive(Default)]
pub(crate) struct Harvest {
    pub(crate) findings: Findings,
    pub(crate) connect: Latencies,
    pub(crate) first_byte: Latencies,
    pub(crate) reconnect: Latencies,
    pub(crate) catch_up: Latencies,
    pub(crate) intended: Latencies,
    pub(crate) sent: Latencies,
    pub(crate) acknowledged: Latencies,
    pub(crate) lag: Latencies,
    /// By transaction; 0: nobody received anything of it.
    pub(crate) last_receipts_ns: Vec<u64>,
}

impl Fleet {
    /// Starts `count` workers, each with the set-up of its number.
    pub(crate) async fn start(
        count: usize,
        setup: impl Fn(usize) -> Setup,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.state().ticks = vec![Tick::default(); count];
        let mut workers = Vec::new();
        for index in 0..count {
            workers.push(Worker::start(index, shared.clone())?);
        }
        let mut fleet = Self { workers, shared };
        for index in 0..count {
            fleet.order(index, &Order::Setup(Box::new(setup(index)))).await?;
        }
        Ok(fleet)
    }

    /// Opens the streams, `interval` between one and the next, from `from_ns` on.
    pub(crate) async fn open(
        &mut self,
        streams: Vec<StreamOrder>,
        from_ns: u64,
        interval: Duration,
    ) -> anyhow::Result<()> {
        let count = self.workers.len();
        for (index, (first, streams)) in self.split(streams).into_iter().enumerate() {
            let from_ns = from_ns + crate::clock::ns(interval) * first;
            let interval_ns = crate::clock::ns(interval) * count as u64;
            self.expect(index, streams.len() as u64);
            self.order(index, &Order::Open { streams, from_ns, interval_ns }).await?;
        }
        Ok(())
    }

    /// `cycles` connects and disconnects, in the names of `streams`.
    pub(crate) async fn churn(
        &mut self,
        streams: Vec<StreamOrder>,
        cycles: usize,
        from_ns: u64,
        interval: Duration,
    ) -> anyhow::Result<()> {
        let count = self.workers.len();
        for (index, (first, streams)) in self.split(streams).into_iter().enumerate() {
            let cycles = cycles / count + usize::from(index < cycles % count);
            let from_ns = from_ns + crate::clock::ns(interval) * first;
            let interval_ns = crate::clock::ns(interval) * count as u64;
            self.expect(index, cycles as u64);
            self.order(index, &Order::Churn { streams, cycles, from_ns, interval_ns }).await?;
        }
        Ok(())
    }

    /// Tells all workers the same.
    pub(crate) async fn order_all(&mut self, order: &Order) -> anyhow::Result<()> {
        for index in 0..self.workers.len() {
            self.order(index, order).await?;
        }
        Ok(())
    }

    /// How the workers stand.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// The sum of what they have said last.
    pub(crate) fn totals(&self) -> Totals {
        self.shared.totals()
    }

    /// The processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.workers.iter().filter_map(|worker| worker.child.id()).collect()
    }

    /// Waits until the totals are as wanted; false when they are not in time.
    pub(crate) async fn wait(
        &self,
        patience: Duration,
        is_so: impl Fn(&Totals) -> bool,
    ) -> anyhow::Result<bool> {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                if self.shared.state().lost_a_worker {
                    bail!("a worker process ended before its time");
                }
                if is_so(&self.totals()) {
                    return Ok(());
                }
                changed.await;
            }
        };
        timeout(patience, waiting).await.map_or(Ok(false), |outcome| outcome.map(|()| true))
    }

    /// Closes all streams and has them judged.
    pub(crate) async fn judge(mut self, ledger: Ledger) -> anyhow::Result<Harvest> {
        self.order_all(&Order::Judge(ledger)).await?;
        let mut harvest = Harvest::default();
        for mut worker in self.workers {
            let judged = timeout(JUDGE_TIMEOUT, worker.reader)
                .await
                .context("a worker does not answer")???;
            harvest.merge(judged);
            drop(worker.orders);
            worker.child.wait().await?;
        }
        Ok(harvest)
    }

    /// Every worker's share, and the number of its first among all.
    fn split(&self, streams: Vec<StreamOrder>) -> Vec<(u64, Vec<StreamOrder>)> {
        let count = self.workers.len();
        let mut shares: Vec<_> = (0..count).map(|first| (first as u64, Vec::new())).collect();
        for (index, stream) in streams.into_iter().enumerate() {
            shares[index % count].1.push(stream);
        }
        shares
    }

    /// Counts as pending at once what the worker will only tell of later: who
    /// waits for "none pending" must not find it before it has begun.
    fn expect(&self, index: usize, pending: u64) {
        self.shared.state().ticks[index].pending += pending;
    }

    async fn order(&mut self, index: usize, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.workers[index].orders.write_all(&line).await.context("a worker is gone")
    }
}

impl Worker {
    fn start(index: usize, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut child = Command::new(program)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the parent.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a worker process")?;
        let orders = child.stdin.take().context("a worker without an input")?;
        let words = child.stdout.take().context("a worker without an output")?;
        Ok(Self { child, orders, reader: tokio::spawn(read(index, words, shared)) })
    }
}

async fn read(index: usize, words: ChildStdout, shared: Arc<Shared>) -> anyhow::Result<Judged> {
    let mut lines = BufReader::new(words).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line).context("a worker's word is not understood")? {
            Word::Tick(tick) => shared.tick(index, *tick),
            Word::Judged(judged) => return Ok(*judged),
        }
    }
    shared.state().lost_a_worker = true;
    shared.changed.notify_waiters();
    bail!("a worker process ended before its time")
}

impl Shared {
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for tick in &self.state().ticks {
            totals.open += tick.open;
            totals.pending += tick.pending;
            totals.opened_total += tick.opened_total;
            totals.deliveries += tick.deliveries;
            totals.other_events += tick.other_events;
            totals.bytes += tick.bytes;
            for (why, count) in &tick.ends {
                *totals.ends.entry(why.clone()).or_default() += count;
            }
        }
        totals
    }

    /// The p99 since the last call (none where nothing came), and how late the
    /// worst event loop was.
    pub(crate) fn take_window(&self) -> (Option<Duration>, Duration) {
        let mut state = self.state();
        let lag = Duration::from_nanos(std::mem::take(&mut state.lag_max_ns));
        if state.window.is_empty() {
            return (None, lag);
        }
        let p99 = state.window.at(0.99);
        state.window.clear();
        (Some(p99), lag)
    }

    /// The most streams that were open at once.
    pub(crate) fn peak_open(&self) -> u64 {
        self.state().peak_open
    }

    fn tick(&self, index: usize, mut tick: Tick) {
        let mut state = self.state();
        state.window.merge(&std::mem::take(&mut tick.window));
        state.lag_max_ns = state.lag_max_ns.max(tick.lag_max_ns);
        state.ticks[index] = tick;
        let open = state.ticks.iter().map(|tick| tick.open).sum();
        state.peak_open = state.peak_open.max(open);
        drop(state);
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Harvest {
    fn merge(&mut self, judged: Judged) {
        self.findings.merge(judged.findings);
        let last = &mut self.last_receipts_ns;
        last.resize(judged.last_receipts_ns.len().max(last.len()), 0);
        last.iter_mut().zip(judged.last_receipts_ns).for_each(|(last, own)| *last = own.max(*last));
        let of = judged.latencies;
        self.connect.merge(&of.connect);
        self.first_byte.merge(&of.first_byte);
        self.reconnect.merge(&of.reconnect);
        self.catch_up.merge(&of.catch_up);
        self.intended.merge(&of.intended);
        self.sent.merge(&of.sent);
        self.acknowledged.merge(&of.acknowledged);
        self.lag.merge(&of.lag);
    }
}
