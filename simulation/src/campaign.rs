//! Many histories on several threads.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use notify_gateway::metrics::Metrics;
use parking_lot::Mutex;

use crate::{
    history::{self, Options, Outcome, Telling},
    oracle::Violation,
    plan::{Act, Relayed},
    sabotage::Sabotage,
};

/// Which histories.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The seed of the first; each further one has the next number.
    pub seed: u64,
    /// How many at most.
    pub histories: u64,
    /// For how long at most.
    pub time: Option<Duration>,
    /// On how many threads.
    pub threads: usize,
    /// The safeguard that is missing.
    pub without: Option<Sabotage>,
    /// Whether the gateways have a relay.
    pub relayed: Relayed,
    /// Whether to go on after a history that failed.
    pub keep_going: bool,
}

/// What has come of all of them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many there were.
    pub histories: u64,
    /// How many steps they had.
    pub steps: u64,
    /// How many rows were delivered.
    pub rows: u64,
    /// Doubled as the design allows, after an epoch.
    pub doubled_by_clamp: u64,
    /// Rows taken for another of the same key.
    pub taken_for_another: u64,
    /// Resyncs that were due.
    pub resyncs: u64,
    /// What must not happen, and how often it did.
    pub violations: BTreeMap<Violation, u64>,
    /// How often each of [`Act::FAULTS`] happened.
    pub faults: [u64; Act::FAULTS.len()],
    /// The least seed that failed.
    pub failed: Option<u64>,
}

impl Tally {
    /// How often `violation` happened.
    pub fn count(&self, violation: Violation) -> u64 {
        self.violations.get(&violation).copied().unwrap_or(0)
    }

    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.histories += 1;
        self.steps += outcome.steps as u64;
        self.rows += outcome.book.rows;
        self.doubled_by_clamp += outcome.book.doubled_by_clamp;
        self.taken_for_another += outcome.book.taken_for_another;
        self.resyncs += outcome.book.resyncs;
        for (violation, _) in &outcome.book.violations {
            *self.violations.entry(*violation).or_default() += 1;
            self.failed = Some(self.failed.map_or(seed, |least| least.min(seed)));
        }
        for (sum, count) in self.faults.iter_mut().zip(outcome.faults) {
            *sum += count;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.rows += other.rows;
        self.doubled_by_clamp += other.doubled_by_clamp;
        self.taken_for_another += other.taken_for_another;
        self.resyncs += other.resyncs;
        for (violation, count) in &other.violations {
            *self.violations.entry(*violation).or_default() += count;
        }
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
        self.failed = self.failed.into_iter().chain(other.failed).min();
    }
}

/// Histories a thread takes at a time.
const BATCH: u64 = 64;

/// Runs them; `progress` is called about once a second with what there is.
pub fn run(campaign: Campaign, progress: impl Fn(&Tally) + Sync) -> Tally {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new((Tally::default(), Instant::now()));
    let work = || {
        let metrics = Arc::new(Metrics::new());
        while !stop.load(Ordering::Relaxed) {
            let first = next.fetch_add(BATCH, Ordering::Relaxed);
            let mut tally = Tally::default();
            for place in first..(first + BATCH).min(campaign.histories) {
                let seed = campaign.seed.wrapping_add(place);
                let Campaign { without, relayed, .. } = campaign;
                let trace = Telling::Off;
                let options = Options { seed, without, relayed, steps: None, trace };
                tally.add(seed, &history::run(options, &metrics));
                if tally.failed.is_some() && !campaign.keep_going {
                    stop.store(true, Ordering::Relaxed);
                    break;
                }
            }
            let is_over = first + BATCH >= campaign.histories;
            let is_late = campaign.time.is_some_and(|time| began.elapsed() >= time);
            if is_over || is_late {
                stop.store(true, Ordering::Relaxed);
            }
            let mut total = total.lock();
            total.0.merge(&tally);
            if total.1.elapsed() >= Duration::from_secs(1) {
                total.1 = Instant::now();
                progress(&total.0);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..campaign.threads {
            scope.spawn(work);
        }
    });
    total.into_inner().0
}

/// The least number of steps after which the history of `seed` fails, and what
/// goes wrong then.
pub fn shorten(seed: u64, without: Option<Sabotage>, relayed: Relayed) -> Option<(usize, Outcome)> {
    let metrics = Arc::new(Metrics::new());
    let run = |steps| {
        let trace = Telling::Off;
        history::run(Options { seed, without, relayed, steps, trace }, &metrics)
    };
    let longest = run(None).steps;
    (0..=longest).find_map(|steps| {
        let outcome = run(Some(steps));
        (!outcome.book.violations.is_empty()).then_some((steps, outcome))
    })
}
