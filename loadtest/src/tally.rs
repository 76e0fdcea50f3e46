//! What was seen, as the figures of a report: pure.

use std::time::Duration;

use crate::{
    bottleneck::Observed,
    fleet::{Harvest, Totals},
    histogram::{Latencies, ms},
    ledger::Ledger,
    meter::{Usage, as_f64},
    report::{GeneratorUse, ModeLatencies, Sample, ServerUse, Weight},
    scenario::{Mode, Scenario, Traffic},
    writer::Written,
};

/// What has been seen on the way.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) before: Usage,
    pub(crate) opened: Usage,
    pub(crate) begun: Usage,
    pub(crate) settled: Usage,
    pub(crate) totals_opened: Totals,
    pub(crate) totals_begun: Totals,
    pub(crate) totals_settled: Totals,
    pub(crate) weights: Vec<Weight>,
    pub(crate) weight_after: Option<Weight>,
    pub(crate) open_files: Option<u64>,
}

pub(crate) fn seconds(from: &Usage, to: &Usage) -> f64 {
    Duration::from_nanos(to.at_ns.saturating_sub(from.at_ns)).as_secs_f64()
}

/// From the first row sent to the last one received.
pub(crate) fn receiving_s(ledger: &Ledger, harvest: &Harvest) -> f64 {
    let first = ledger.span_ns().map_or(0, |(first, _)| first);
    let last = harvest.last_receipts_ns.iter().copied().max().unwrap_or(0);
    Duration::from_nanos(last.saturating_sub(first)).as_secs_f64()
}

pub(crate) fn latencies(harvest: &Harvest) -> ModeLatencies {
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

pub(crate) fn broadcasts_ms(scenario: &Scenario, ledger: &Ledger, harvest: &Harvest) -> Vec<f64> {
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

pub(crate) fn server_use(seen: &Seen, deliveries: u64, samples: &[Sample]) -> Option<ServerUse> {
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

pub(crate) fn generator_use(
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
