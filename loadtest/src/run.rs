//! One scenario, from the first SYN to the verdict.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::bail;
use tokio::time::sleep;

use crate::{
    bottleneck::{self, Observed},
    clock::{self, now_ns},
    files,
    fleet::{Fleet, Harvest, Totals},
    histogram::{Latencies, ms},
    ledger::Ledger,
    marker::Tag,
    meter::{Meter, Timeline, Usage, as_f64},
    options::Common,
    progress::Bar,
    protocol::{Order, StreamOrder},
    report::{GeneratorUse, ModeLatencies, ModeResult, ServerUse, Weight},
    scenario::{Mode, Scenario, Traffic, Trouble},
    schedule::{self, Planned},
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

/// What has been seen on the way.
#[derive(Default)]
struct Seen {
    before: Usage,
    opened: Usage,
    begun: Usage,
    settled: Usage,
    totals_opened: Totals,
    totals_begun: Totals,
    totals_settled: Totals,
    weights: Vec<Weight>,
    weight_after: Option<Weight>,
    open_files: Option<u64>,
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
        let workers = common.workers.unwrap_or_else(|| files::workers_for(sockets, limit)).max(1);
        let fleet = Fleet::start(workers, || target.setup(&run)).await?;
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
            generator_use(self.scenario, &seen, &harvest, &written, workers);
        let rows = ledger.rows();
        let writing_s = ledger.span_ns().map_or(0.0, |(first, last)| {
            Duration::from_nanos(last.saturating_sub(first)).as_secs_f64()
        });
        let measured_s = seconds(&seen.begun, &seen.settled);
        let receiving_s = receiving_s(&ledger, &harvest);
        let deliveries = seen.totals_settled.deliveries - seen.totals_begun.deliveries;
        let rate = |count: u64, over: f64| if over > 0.0 { as_f64(count) / over } else { 0.0 };
        Ok(ModeResult {
            mode: self.scenario.mode,
            description: self.scenario.description(),
            users: self.scenario.all_users() as u64,
            streams: peak,
            wanted: (self.scenario.streams() + self.scenario.slow) as u64,
            opening_s: seconds(&seen.before, &seen.opened),
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
            broadcasts_ms: broadcasts_ms(self.scenario, &ledger, &harvest),
            connects: seen.totals_settled.opened_total,
            server: server_use(&seen, deliveries, &samples),
            generator,
            bottleneck: bottleneck::find(&observed),
            latencies: latencies(&harvest),
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
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
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

fn seconds(from: &Usage, to: &Usage) -> f64 {
    Duration::from_nanos(to.at_ns.saturating_sub(from.at_ns)).as_secs_f64()
}

fn told(ends: &BTreeMap<String, u64>) -> String {
    if ends.is_empty() {
        return "no answer".to_owned();
    }
    let ends: Vec<String> =
        ends.iter().map(|(why, count)| format!("{why} ({count} times)")).collect();
    ends.join("; ")
}

/// From the first row sent to the last one received.
fn receiving_s(ledger: &Ledger, harvest: &Harvest) -> f64 {
    let first = ledger.span_ns().map_or(0, |(first, _)| first);
    let last = harvest.last_receipts_ns.iter().copied().max().unwrap_or(0);
    Duration::from_nanos(last.saturating_sub(first)).as_secs_f64()
}

fn latencies(harvest: &Harvest) -> ModeLatencies {
    ModeLatencies {
        connect: harvest.connect.summary(),
        first_byte: harvest.first_byte.summary(),
        reconnect: harvest.reconnect.summary(),
        catch_up: harvest.catch_up.summary(),
        intended: harvest.intended.summary(),
        sent: harvest.sent.summary(),
        acknowledged: harvest.acknowledged.summary(),
    }
}

fn broadcasts_ms(scenario: &Scenario, ledger: &Ledger, harvest: &Harvest) -> Vec<f64> {
    if scenario.mode != Mode::Broadcast {
        return Vec::new();
    }
    // A round is one transaction, or, where each row is published by itself,
    // those of one moment.
    let mut rounds: Vec<(u64, u64, u64)> = Vec::new();
    for (tx, &last) in ledger.transactions.iter().zip(&harvest.last_receipts_ns) {
        match rounds.last_mut().filter(|round| round.0 == tx.intended_ns) {
            Some((_, sent, received)) => {
                *sent = tx.sent_ns.min(*sent);
                *received = last.max(*received);
            }
            None => rounds.push((tx.intended_ns, tx.sent_ns, last)),
        }
    }
    let took =
        |&(_, sent, last): &(u64, u64, u64)| ms(Duration::from_nanos(last.saturating_sub(sent)));
    rounds.iter().map(took).collect()
}

/// Cores' worth of CPU time between two readings.
fn cores(from: &Usage, to: &Usage, of: impl Fn(&Usage) -> Option<u64>) -> Option<f64> {
    let used = of(to)?.saturating_sub(of(from)?);
    Some(as_f64(used) / 1e9 / seconds(from, to).max(1e-9))
}

fn server_use(
    seen: &Seen,
    deliveries: u64,
    samples: &[crate::report::Sample],
) -> Option<ServerUse> {
    let cpu =
        |from: &Usage, to: &Usage| Some(as_f64(to.server?.saturating_sub(from.server?)) / 1e9);
    let cpu_s = cpu(&seen.begun, &seen.settled)?;
    let server_cores = cores(&seen.begun, &seen.settled, |usage| usage.server)?;
    let (before, open) = (*seen.weights.first()?, *seen.weights.last()?);
    let streams = as_f64(open.streams);
    let grown = |now: u64, then: u64| as_f64(now.saturating_sub(then)) / 1024.0;
    let per_stream = |kib: f64| (streams > 0.0).then(|| kib / streams);
    let open_files = samples.iter().filter_map(|sample| sample.open_files).chain(seen.open_files);
    let tcp_memory_max = samples.iter().filter_map(|sample| sample.tcp_memory).max().unwrap_or(0);
    let others = seen.totals_settled.other_events - seen.totals_begun.other_events;
    let events = as_f64(deliveries + others);
    let opened = as_f64(seen.totals_opened.opened_total);
    Some(ServerUse {
        cpu_s,
        cores: server_cores,
        cpu_s_per_100k: (deliveries > 0).then(|| cpu_s / as_f64(deliveries) * 1e5),
        cpu_us_per_event: (events > 0.0).then(|| cpu_s / events * 1e6),
        cpu_us_per_connect: cpu(&seen.before, &seen.opened)
            .filter(|_| opened > 0.0)
            .map(|seconds| seconds * 1e6 / opened),
        cpu_percent_per_100_streams: per_stream(server_cores * 100.0 * 100.0),
        pss_before: before.pss,
        pss_open: open.pss,
        pss_after: seen.weight_after.map_or(0, |weight| weight.pss),
        rss_open: open.rss,
        rss_max: samples.iter().filter_map(|sample| sample.rss).max().unwrap_or(0),
        open_files_max: open_files.max().unwrap_or(0),
        tcp_memory_max,
        kib_per_stream: per_stream(grown(open.pss, before.pss)),
        tcp_kib_per_stream: per_stream(grown(tcp_memory_max, before.tcp_memory)),
    })
}

fn generator_use(
    scenario: &Scenario,
    seen: &Seen,
    harvest: &Harvest,
    written: &Written,
    workers: usize,
) -> (GeneratorUse, Observed) {
    let (from, to) = (&seen.begun, &seen.settled);
    let of = |of: fn(&Usage) -> Option<u64>| cores(from, to, of);
    let each =
        from.workers.iter().zip(&to.workers).map(|(from, to)| as_f64(to.saturating_sub(*from)));
    let waited = to.workers_waiting.saturating_sub(from.workers_waiting);
    let waiting =
        as_f64(waited) / 1e9 / seconds(from, to).max(1e-9) / as_f64(workers.max(1) as u64);
    let busiest = each.fold(0.0, f64::max) / 1e9 / seconds(from, to).max(1e-9);
    let own = of(|usage| Some(usage.generator())).unwrap_or(0.0);
    let machine = of(|usage| usage.machine);
    let (server, postgres) = (of(|usage| usage.server), of(|usage| usage.postgres));
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let machine_share = machine.map(|machine| machine / as_f64(all as u64));
    let took = written.took.as_secs_f64();
    let writer_cores = if took > 0.0 { as_f64(written.cpu_ns) / 1e9 / took } else { 0.0 };
    let at = |latencies: &Latencies, quantile| ms(latencies.at(quantile));
    let has_schedule = !written.lateness.is_empty()
        && !matches!(scenario.traffic, Traffic::Saturation { .. })
        && scenario.mode != Mode::Broadcast;
    let lateness_p99_ms = has_schedule.then(|| at(&written.lateness, 0.99));
    let lag_p99_ms = at(&harvest.lag, 0.99);
    let use_ = GeneratorUse {
        workers: workers as u64,
        cpu_s: own * seconds(from, to),
        cores: own,
        share: machine.filter(|&machine| machine > 0.0).map(|machine| own / machine),
        busiest_worker_cores: busiest,
        waiting_share: waiting,
        writer_cores,
        lag_p99_ms,
        lag_max_ms: ms(harvest.lag.max()),
        lateness_p99_ms,
        postgres_cores: postgres,
        others_cores: machine
            .map(|all| (all - own - server.unwrap_or(0.0) - postgres.unwrap_or(0.0)).max(0.0)),
        machine_share,
    };
    let observed = Observed {
        worker_cores: busiest,
        waiting,
        writer_cores,
        lag_p99_ms,
        lateness_p99_ms,
        server_cores: server,
        postgres_cores: postgres,
        machine: machine_share,
        saturating: matches!(scenario.traffic, Traffic::Saturation { .. }),
    };
    (use_, observed)
}
