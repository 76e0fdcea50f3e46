//! Who writes the rows: on a thread of its own, so that nothing the parent does
//! beside it makes it late.

mod postgres;
mod publish;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::{self, now_ns},
    histogram::Latencies,
    ledger::{Ledger, Transaction},
    marker::{Marker, Tag},
    schedule::Planned,
};
pub(crate) use postgres::{PostgresWriter, insert};
pub(crate) use publish::Publisher;

/// Kinds of failures told apart.
const MAX_FAILURES: usize = 10;

/// Where rows go.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    Postgres(PostgresWriter),
    Publish(Publisher),
}

/// When they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Each at its time after this moment, whatever became of the others.
    OnTime { from_ns: u64 },
    /// From this moment on, each connection's next when its last is through.
    AsFastAsTaken { from_ns: u64 },
}

/// What is to be written.
pub(crate) struct Job {
    pub(crate) sink: Sink,
    pub(crate) plan: Vec<Planned>,
    pub(crate) pace: Pace,
    pub(crate) tag: Tag,
    /// As the server knows them, by number.
    pub(crate) user_ids: Arc<Vec<String>>,
    /// Bytes added to a row's message.
    pub(crate) padding: usize,
    /// Whether the rows are inserted first, and the commit alone is timed.
    pub(crate) timed_commit: bool,
}

/// How far it is, for who watches.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) rows_sent: AtomicU64,
    pub(crate) rows_acknowledged: AtomicU64,
}

/// What was written.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) ledger: Ledger,
    /// CPU time of the thread.
    pub(crate) cpu_ns: u64,
    pub(crate) took: Duration,
    /// How long after its intended moment each transaction was sent.
    pub(crate) lateness: Latencies,
    /// Why transactions failed.
    pub(crate) failures: BTreeMap<String, u64>,
}

/// A writer that has been started.
pub(crate) struct Writer {
    pub(crate) progress: Arc<Progress>,
    outcome: oneshot::Receiver<anyhow::Result<Written>>,
}

impl Writer {
    /// Connects; then writes when told to.
    pub(crate) fn start(job: Job) -> Self {
        let progress = Arc::new(Progress::default());
        let (sender, outcome) = oneshot::channel();
        let shared = progress.clone();
        std::thread::spawn(move || {
            // Nobody waits any more when the run has been given up.
            let _told = sender.send(run(job, shared));
        });
        Self { progress, outcome }
    }

    /// Waits for the last acknowledgement.
    pub(crate) async fn written(&mut self) -> anyhow::Result<Written> {
        (&mut self.outcome).await.context("the writer's thread has panicked")?
    }
}

fn run(job: Job, progress: Arc<Progress>) -> anyhow::Result<Written> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let book = Arc::new(Book::new(&job, progress));
        let began = now_ns();
        match &job.sink {
            Sink::Postgres(postgres) => postgres.write(&job, &book).await?,
            Sink::Publish(publisher) => publisher.write(&job, &book).await?,
        }
        let mut written = book.close();
        written.took = Duration::from_nanos(now_ns() - began);
        written.cpu_ns = clock::thread_cpu_ns();
        Ok(written)
    })
}

/// The numbers of the planned transactions, each at its time.
///
/// On a thread of its own again: the runtime's timer knows only milliseconds,
/// and being late by one would be most of what is measured.
fn on_time(plan: &[Planned], from_ns: u64) -> mpsc::Receiver<usize> {
    let times: Vec<u64> = plan.iter().map(|planned| from_ns + clock::ns(planned.at)).collect();
    let (sender, receiver) = mpsc::channel(times.len().max(1));
    std::thread::spawn(move || {
        for (number, at) in times.into_iter().enumerate() {
            std::thread::sleep(clock::until(at));
            if sender.blocking_send(number).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Keeps the ledger while it is being written.
struct Book {
    tag: Tag,
    user_ids: Arc<Vec<String>>,
    padding: String,
    plan: Vec<Planned>,
    pace: Pace,
    progress: Arc<Progress>,
    pages: Mutex<Written>,
}

/// A transaction on its way out.
struct Outgoing<'a> {
    number: usize,
    users: Vec<&'a str>,
    messages: Vec<String>,
}

impl Book {
    fn new(job: &Job, progress: Arc<Progress>) -> Self {
        let blank = |planned: &Planned| Transaction {
            users: planned.users.clone(),
            ..Transaction::default()
        };
        let ledger = Ledger { transactions: job.plan.iter().map(blank).collect() };
        let padding =
            if job.padding > 0 { format!(" {}", "x".repeat(job.padding)) } else { String::new() };
        Self {
            tag: job.tag.clone(),
            user_ids: job.user_ids.clone(),
            padding,
            plan: job.plan.clone(),
            pace: job.pace,
            progress,
            pages: Mutex::new(Written { ledger, ..Written::default() }),
        }
    }

    /// The rows of a transaction, their markers with the moment they were meant
    /// for.
    fn outgoing(&self, number: usize) -> Outgoing<'_> {
        let planned = &self.plan[number];
        let intended_ns = match self.pace {
            Pace::OnTime { from_ns } => from_ns + clock::ns(planned.at),
            Pace::AsFastAsTaken { .. } => now_ns(),
        };
        let transaction = u32::try_from(number).unwrap_or(u32::MAX);
        let message = |(position, &user)| {
            let marker = Marker { user, transaction, position, intended_ns };
            self.tag.write(marker) + &self.padding
        };
        let user_id = |&user: &u32| self.user_ids.get(user as usize).map_or("", String::as_str);
        self.pages().ledger.transactions[number].intended_ns = intended_ns;
        Outgoing {
            number,
            users: planned.users.iter().map(user_id).collect(),
            messages: (0..).zip(&planned.users).map(message).collect(),
        }
    }

    /// It goes out now.
    fn sent(&self, number: usize) {
        let now = now_ns();
        let mut pages = self.pages();
        let transaction = &mut pages.ledger.transactions[number];
        transaction.sent_ns = now;
        let (late, rows) = (now.saturating_sub(transaction.intended_ns), transaction.users.len());
        pages.lateness.record(late);
        self.progress.rows_sent.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// It is through, or has failed.
    fn answered(&self, number: usize, outcome: Result<(), String>) {
        let mut pages = self.pages();
        match outcome {
            Ok(()) => {
                let transaction = &mut pages.ledger.transactions[number];
                transaction.acknowledged_ns = Some(now_ns());
                let rows = transaction.users.len() as u64;
                self.progress.rows_acknowledged.fetch_add(rows, Ordering::Relaxed);
            }
            Err(why) => {
                let is_known = pages.failures.contains_key(&why);
                if is_known || pages.failures.len() < MAX_FAILURES {
                    *pages.failures.entry(why).or_default() += 1;
                }
            }
        }
    }

    fn close(&self) -> Written {
        std::mem::take(&mut *self.pages())
    }

    fn pages(&self) -> MutexGuard<'_, Written> {
        self.pages.lock()
    }
}
