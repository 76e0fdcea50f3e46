//! One scenario, from the first SYN to the verdict.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::bail;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::{
    bottleneck,
    clock::{self, now_ns},
    files,
    fleet::{Fleet, Totals},
    ledger::Ledger,
    marker::Tag,
    meter::{Meter, Timeline, as_f64},
    options::Common,
    progress::Bar,
    protocol::{Order, StreamOrder},
    report::ModeResult,
    scenario::{Mode, Scenario, Traffic, Trouble},
    schedule::{self, Planned},
    tally::{self, Seen},
    target::{self, Target},
    writer::{Job, Pace, Progress, Sink, Writer, Written},
};

/// A server's memory and heartbeats are looked at when it has come to rest.
const REST: Duration = Duration::from_millis(750);

/// What comes twice comes late: so long is waited for it when all is there.
const ECHO: Duration = Duration::from_millis(400);

/// Between giving an order and its time: everyone must have heard it, and what
/// it says of each stream takes its time to be told.
const HEADS_UP: Duration = Duration::from_millis(300);
const HEADS_UP_PER_STREAM: Duration = Duration::from_micros(30);

/// Runs a scenario against a server.
pub(crate) async fn run(
    scenario: &Scenario,
    target: &Target,
    common: &Common,
    bar: &Bar,
) -> anyhow::Result<ModeResult> {
    Run::new(scenario, target, common, bar).await?.run().await
}

struct Run<'a> {
    scenario: &'a Scenario,
    target: &'a Target,
    common: &'a Common,
    bar: &'a Bar,
    number: u32,
    tag: Tag,
    users: Vec<(String, String)>,
    fleet: Fleet,
    meter: Meter,
    progress: Arc<Mutex<Option<Arc<Progress>>>>,
}

impl<'a> Run<'a> {
    async fn new(
        scenario: &'a Scenario,
        target: &'a Target,
        common: &'a Common,
        bar: &'a Bar,
    ) -> anyhow::Result<Self> {
        // Marks the run's rows, and chooses its addresses.
        let number = fastrand::u32(..);
        let run = format!("{number:08x}");
        let limit = files::raise_limit()?;
        let churned = match scenario.trouble {
            Trouble::Churn { .. } => 1000,
            _ => 0,
        };
        let sockets = scenario.streams() + scenario.slow + churned;
        let workers = common.workers.unwrap_or_else(|| files::workers_for(sockets, limit));
        let workers = workers.max(target.urls.len());
        let fleet = Fleet::start(workers, |index| target.setup(&run, index)).await?;
        Ok(Self {
            scenario,
            target,
            common,
            bar,
            number,
            tag: Tag::new(&run),
            users: target.users(scenario.all_users())?,
            meter: Meter::new(target, fleet.pids()),
            fleet,
            progress: Arc::default(),
        })
    }

    async fn run(mut self) -> anyhow::Result<ModeResult> {
        self.bar.begin(self.scenario);
        let progress = self.progress.clone();
        let timeline =
            Timeline::start(self.meter.clone(), self.fleet.shared(), progress, self.bar.watcher());
        let mut seen = Seen::default();
        self.open(&mut seen).await?;
        let mut written = self.measure(&mut seen).await?;
        let samples = timeline.samples();
        drop(timeline);
        let ledger = std::mem::take(&mut written.ledger);
        let workers = self.meter.workers.len();
        let peak = self.fleet.shared().peak_open();
        let harvest = self.fleet.judge(ledger.clone()).await?;
        if self.scenario.mode == Mode::Idle {
            sleep(REST).await;
        }
        seen.weight_after = self.meter.weigh(0);
        let (generator, observed) =
            tally::generator_use(self.scenario, &seen, &harvest, &written, workers);
        let rows = ledger.rows();
        let writing_s = ledger.span_ns().map_or(0.0, |(first, last)| {
            Duration::from_nanos(last.saturating_sub(first)).as_secs_f64()
        });
        let measured_s = tally::seconds(&seen.begun, &seen.settled);
        let receiving_s = tally::receiving_s(&ledger, &harvest);
        let deliveries = seen.totals_settled.deliveries - seen.totals_begun.deliveries;
        let rate = |count: u64, over: f64| if over > 0.0 { as_f64(count) / over } else { 0.0 };
        Ok(ModeResult {
            mode: self.scenario.mode,
            description: self.scenario.description(),
            users: self.scenario.all_users() as u64,
            streams: peak,
            wanted: (self.scenario.streams() + self.scenario.slow) as u64,
            opening_s: tally::seconds(&seen.before, &seen.opened),
            measured_s,
            rows,
            rows_failed: written.failures,
            writing_s,
            rows_per_s: rate(rows, writing_s),
            deliveries,
            deliveries_per_s: rate(deliveries, receiving_s),
            other_events: seen.totals_settled.other_events - seen.totals_begun.other_events,
            bytes: seen.totals_settled.bytes - seen.totals_begun.bytes,
            ends: seen.totals_settled.ends.clone(),
            broadcasts_ms: tally::broadcasts_ms(self.scenario, &ledger, &harvest),
            connects: seen.totals_settled.opened_total,
            server: tally::server_use(&seen, deliveries, &samples),
            generator,
            bottleneck: bottleneck::find(&observed),
            latencies: tally::latencies(&harvest),
            findings: harvest.findings,
            timeline: samples,
            weights: seen.weights,
        })
    }

    /// Opens all streams, in steps where the scenario wants them weighed.
    async fn open(&mut self, seen: &mut Seen) -> anyhow::Result<()> {
        let streams = self.streams();
        let interval =
            self.scenario.ramp.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        seen.weights.extend(self.meter.weigh(0));
        let step = streams.len().div_ceil(self.scenario.steps).max(1);
        let mut opened = 0;
        let steps: Vec<Vec<StreamOrder>> = streams.chunks(step).map(<[_]>::to_vec).collect();
        for streams in steps {
            let count = u32::try_from(streams.len()).unwrap_or(u32::MAX);
            opened += u64::from(count);
            let from_ns = now_ns() + clock::ns(HEADS_UP + HEADS_UP_PER_STREAM * count);
            self.fleet.open(streams, from_ns, interval).await?;
            sleep(clock::until(from_ns)).await;
            if seen.before.at_ns == 0 {
                seen.before = self.meter.usage();
            }
            let patience = interval * count + self.common.open_within;
            let all_open = self.fleet.wait(patience, |totals| totals.pending == 0).await?;
            if !all_open && self.fleet.totals().open == 0 {
                bail!("no stream has opened: {}", told(&self.fleet.totals().ends));
            }
            if self.scenario.steps > 1 {
                sleep(REST).await;
                seen.weights.extend(self.meter.weigh(opened));
            }
        }
        seen.opened = self.meter.usage();
        seen.open_files = self.meter.open_files();
        seen.totals_opened = self.fleet.totals();
        if self.scenario.steps == 1 {
            seen.weights.extend(self.meter.weigh(opened));
        }
        Ok(())
    }

    /// Writes the rows, makes the trouble, waits until all has arrived.
    async fn measure(&mut self, seen: &mut Seen) -> anyhow::Result<Written> {
        let plan = self.scenario.plan(fastrand::u64(..));
        let from_ns = now_ns() + clock::ns(HEADS_UP);
        let mut writer = self.write(plan, from_ns)?;
        sleep(clock::until(from_ns)).await;
        seen.begun = self.meter.usage();
        seen.totals_begun = self.fleet.totals();
        self.make_trouble(from_ns).await?;
        let written = match &mut writer {
            Some(writer) => writer.written().await?,
            None => {
                sleep(self.scenario.duration()).await;
                Written::default()
            }
        };
        if self.scenario.mode == Mode::Rush {
            // What is measured is the opening itself.
            seen.begun = seen.before.clone();
            seen.totals_begun = Totals::default();
            seen.settled = seen.opened.clone();
            seen.totals_settled = seen.totals_opened.clone();
            return Ok(written);
        }
        if self.scenario.slow > 0 {
            self.fleet.order_all(&Order::Read).await?;
        }
        self.settle(&written.ledger).await?;
        seen.settled = self.meter.usage();
        seen.totals_settled = self.fleet.totals();
        // The CPU of an empty wait would dilute what came before it.
        if writer.is_some() {
            sleep(ECHO).await;
        }
        Ok(written)
    }

    fn write(&self, plan: Vec<Planned>, from_ns: u64) -> anyhow::Result<Option<Writer>> {
        if plan.is_empty() {
            return Ok(None);
        }
        let sink = self.target.sink()?;
        let plan = match sink {
            Sink::Postgres(_) => plan,
            Sink::Publish(_) => schedule::one_by_one(plan),
        };
        let writer = Writer::start(Job {
            sink,
            plan,
            pace: match self.scenario.traffic {
                Traffic::Saturation { .. } => Pace::AsFastAsTaken { from_ns },
                _ => Pace::OnTime { from_ns },
            },
            tag: self.tag.clone(),
            user_ids: target::ids(&self.users),
            padding: self.scenario.padding,
            timed_commit: self.scenario.mode == Mode::Broadcast,
        });
        let mut progress = self.progress.lock();
        *progress = Some(writer.progress.clone());
        drop(progress);
        Ok(Some(writer))
    }

    async fn make_trouble(&mut self, from_ns: u64) -> anyhow::Result<()> {
        let duration = self.scenario.duration();
        match self.scenario.trouble {
            Trouble::None => {}
            Trouble::Storms { count, spread } => {
                for storm in 1..=count {
                    let at_ns = from_ns + clock::ns(duration * storm / (count + 1));
                    let order = Order::Storm { at_ns, spread_ns: clock::ns(spread) };
                    self.fleet.order_all(&order).await?;
                }
            }
            Trouble::Churn { cycles, interval } => {
                let streams = self.streams();
                self.fleet.churn(streams, cycles, from_ns, interval).await?;
            }
            Trouble::Hostile { random, slow_heads } => {
                let until_ns = from_ns + clock::ns(duration);
                let workers = self.meter.workers.len();
                let share = |count: usize| count.div_ceil(workers);
                let (random, slow_heads) = (share(random), share(slow_heads));
                self.fleet.order_all(&Order::Hostile { random, slow_heads, until_ns }).await?;
            }
        }
        Ok(())
    }

    /// Waits until everything that is owed can have arrived, and everyone who
    /// was cut is back.
    async fn settle(&self, ledger: &Ledger) -> anyhow::Result<()> {
        let mut streams = vec![0u64; self.scenario.all_users()];
        streams[..self.scenario.users].fill(self.scenario.streams_per_user as u64);
        if let Some(slow) = streams.get_mut(self.scenario.users) {
            *slow = self.scenario.slow as u64;
        }
        let acknowledged = ledger.transactions.iter().filter(|tx| tx.acknowledged_ns.is_some());
        let users = acknowledged.flat_map(|tx| &tx.users);
        let owed: u64 = users.filter_map(|&user| streams.get(user as usize)).sum();
        // Whatever is missing then is the verdict's to name.
        let _all_there = self
            .fleet
            .wait(self.common.settle, |totals| totals.deliveries >= owed && totals.pending == 0)
            .await?;
        Ok(())
    }

    fn streams(&self) -> Vec<StreamOrder> {
        let Scenario { users, streams_per_user, slow, .. } = *self.scenario;
        // One stream of each user after the other, and not one user after the
        // other: any first part of them is of as many users as can be.
        let reading = (0..streams_per_user).flat_map(|_| 0..users).map(|user| (user, true));
        let all = reading.chain(std::iter::repeat_n((users, false), slow));
        all.enumerate()
            .map(|(index, (user, reads))| {
                self.target.stream(self.number, index, user, &self.users, reads)
            })
            .collect()
    }
}

fn told(ends: &BTreeMap<String, u64>) -> String {
    if ends.is_empty() {
        return "no answer".to_owned();
    }
    let ends: Vec<String> =
        ends.iter().map(|(why, count)| format!("{why} ({count} times)")).collect();
    ends.join("; ")
}
