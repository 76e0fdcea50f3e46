//! Reads what the processes of a run have used, now and over time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::{
    clock::{self, now_ns},
    fleet::{Shared, Totals},
    histogram::ms,
    proc,
    report::{Sample, Weight},
    target::Target,
    worker::TICK_EVERY_NS,
    writer::Progress,
};

/// A sample in so many asks for PSS and open files: the kernel walks the
/// server's memory for the one.
const SAMPLES_A_WEIGHING: u32 = 4;

/// Who is watched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    pub(crate) server: Vec<u32>,
    pub(crate) postgres: Option<u32>,
    pub(crate) workers: Vec<u32>,
}

/// CPU time that everybody has had, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) at_ns: u64,
    pub(crate) server: Option<u64>,
    pub(crate) postgres: Option<u64>,
    pub(crate) workers: Vec<u64>,
    /// Time in which the workers wanted a core and had none.
    pub(crate) workers_waiting: u64,
    pub(crate) parent: u64,
    pub(crate) machine: Option<u64>,
}

impl Meter {
    pub(crate) fn new(target: &Target, workers: Vec<u32>) -> Self {
        Self { server: target.server_pids.clone(), postgres: target.postgres_pid, workers }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            at_ns: now_ns(),
            server: self.of_server(proc::cpu_ns),
            postgres: self.postgres.and_then(proc::family_cpu_ns),
            workers: self.workers.iter().map(|&pid| proc::cpu_ns(pid).unwrap_or(0)).collect(),
            workers_waiting: self.workers.iter().filter_map(|&pid| proc::waiting_ns(pid)).sum(),
            parent: clock::process_cpu_ns(),
            machine: proc::machine_cpu_ns(),
        }
    }

    /// The server's memory with so many streams.
    pub(crate) fn weigh(&self, streams: u64) -> Option<Weight> {
        Some(Weight {
            streams,
            pss: self.of_server(proc::pss_bytes)?,
            rss: self.of_server(proc::rss_bytes)?,
            tcp_memory: proc::tcp_memory_bytes().unwrap_or(0),
        })
    }

    /// The server's open files.
    pub(crate) fn open_files(&self) -> Option<u64> {
        self.of_server(proc::open_files)
    }

    /// The sum over the server's processes; none where one does not tell.
    fn of_server(&self, ask: fn(u32) -> Option<u64>) -> Option<u64> {
        if self.server.is_empty() {
            return None;
        }
        self.server.iter().map(|&pid| ask(pid)).sum()
    }
}

impl Usage {
    pub(crate) fn generator(&self) -> u64 {
        self.parent + self.workers.iter().sum::<u64>()
    }
}

/// Samples a run four times a second. Dropping it ends that.
pub(crate) struct Timeline {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

impl Timeline {
    /// `watch` hears of each sample.
    pub(crate) fn start(
        meter: Meter,
        shared: Arc<Shared>,
        progress: Arc<Mutex<Option<Arc<Progress>>>>,
        mut watch: impl FnMut(&Sample, &Totals) + Send + 'static,
    ) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let all = samples.clone();
        let task = tokio::spawn(async move {
            let (began, mut number) = (now_ns(), 0u32);
            let mut before = (meter.usage(), shared.totals(), rows(&progress));
            loop {
                // Half way between the workers' ticks: theirs have arrived.
                let next = (now_ns() / TICK_EVERY_NS + 1) * TICK_EVERY_NS + TICK_EVERY_NS / 2;
                tokio::time::sleep(clock::until(next)).await;
                let now = (meter.usage(), shared.totals(), rows(&progress));
                let seconds = Duration::from_nanos(now.0.at_ns - before.0.at_ns).as_secs_f64();
                let per_second =
                    |now: u64, before: u64| as_f64(now.saturating_sub(before)) / seconds;
                let cores = |now, before| per_second(now, before) / 1e9;
                let (p99, lag) = shared.take_window();
                let weighs = number.is_multiple_of(SAMPLES_A_WEIGHING);
                let sample = Sample {
                    at_s: Duration::from_nanos(now.0.at_ns - began).as_secs_f64(),
                    open: now.1.open,
                    deliveries_per_s: per_second(now.1.deliveries, before.1.deliveries),
                    rows_per_s: per_second(now.2, before.2),
                    p99_ms: p99.map(ms),
                    server_cores: now
                        .0
                        .server
                        .zip(before.0.server)
                        .map(|(now, then)| cores(now, then)),
                    generator_cores: cores(now.0.generator(), before.0.generator()),
                    rss: meter.of_server(proc::rss_bytes),
                    pss: if weighs { meter.of_server(proc::pss_bytes) } else { None },
                    tcp_memory: proc::tcp_memory_bytes(),
                    open_files: if weighs { meter.open_files() } else { None },
                    lag_ms: ms(lag),
                };
                watch(&sample, &now.1);
                all.lock().push(sample);
                before = now;
                number += 1;
            }
        });
        Self { samples, task }
    }

    /// What has been sampled.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().clone()
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn rows(progress: &Mutex<Option<Arc<Progress>>>) -> u64 {
    let progress = progress.lock();
    progress.as_ref().map_or(0, |progress| progress.rows_acknowledged.load(Ordering::Relaxed))
}

/// Counts of a run are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "no count of a run reaches 2^52")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
