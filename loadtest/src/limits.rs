//! What must hold: pure.

use serde::{Deserialize, Serialize};

use crate::{
    histogram::{Summary, ms},
    options::LimitOptions,
    report::ModeResult,
    scenario::Mode,
};

/// One thing that must hold, and whether it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) mode: Mode,
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) limit: f64,
    pub(crate) unit: String,
    pub(crate) passed: bool,
    /// How many times better than the limit it is; below 1 it is missed. None where one of
    /// the two is nothing.
    #[serde(default)]
    pub(crate) to_spare: Option<f64>,
}

impl Check {
    /// `is_least`: the limit is what has to be reached, not what may not be passed.
    fn new(mode: Mode, what: &str, measured: f64, limit: f64, unit: &str, is_least: bool) -> Self {
        let (better, worse) = if is_least { (measured, limit) } else { (limit, measured) };
        Self {
            mode,
            what: what.to_owned(),
            measured,
            limit,
            unit: unit.to_owned(),
            passed: better >= worse,
            to_spare: (better > 0.0 && worse > 0.0).then(|| better / worse),
        }
    }

    /// As people read it, rounded to the side of caution; nothing where nothing is to spare.
    pub(crate) fn spare(&self) -> String {
        match self.to_spare {
            Some(times) if times >= 10.0 => format!("{:.0} ×", times.floor()),
            Some(times) if times >= 1.0 => format!("{:.1} ×", (times * 10.0).floor() / 10.0),
            _ => String::new(),
        }
    }
}

/// All checks of a run. `is_suite`: the number of streams is asserted, too.
pub(crate) fn checks(results: &[ModeResult], limits: &LimitOptions, is_suite: bool) -> Vec<Check> {
    results.iter().flat_map(|result| of_mode(result, limits, is_suite)).collect()
}

fn of_mode(result: &ModeResult, limits: &LimitOptions, is_suite: bool) -> Vec<Check> {
    let mode = result.mode;
    let mut checks = Vec::new();
    let mut below = |what: &str, measured: Option<f64>, limit: f64, unit: &str| {
        let Some(measured) = measured else { return };
        checks.push(Check::new(mode, what, measured, limit, unit, false));
    };
    let number = |count: u64| Some(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    for (fault, count) in result.findings.faults() {
        below(&format!("rows {fault}"), number(count), 0.0, "");
    }
    below(
        "streams that never opened",
        number(result.wanted.saturating_sub(result.streams)),
        0.0,
        "",
    );
    below("transactions that failed", number(result.rows_failed.values().sum()), 0.0, "");
    if mode != Mode::Storm {
        below("connections ended or refused", number(result.ends.values().sum()), 0.0, "");
    }
    if limits.no_limits {
        return checks;
    }
    let percentile = limits.percentile;
    let at = |summary: &Option<Summary>| Some(summary.as_ref()?.at_ms(percentile / 100.0));
    let what = |what: &str| format!("{what}, p{percentile}");
    below(&what("connect"), at(&result.latencies.connect), ms(limits.max_connect), "ms");
    if matches!(mode, Mode::Steady | Mode::Tabs | Mode::Churn | Mode::SlowReaders | Mode::Hostile) {
        let latency = at(&result.latencies.intended);
        below(&what("delivery"), latency, ms(limits.max_delivery), "ms");
    }
    let slowest = result.broadcasts_ms.iter().copied().reduce(f64::max);
    below("broadcast to the last, slowest", slowest, ms(limits.max_broadcast), "ms");
    let server = result.server.as_ref();
    if mode == Mode::Idle {
        let memory = server.and_then(|server| server.kib_per_stream);
        below("memory a stream", memory, limits.max_stream_kib, "KiB");
    }
    // What rows cost is no matter of how many streams are open: it is asserted
    // with no rows, and at the suite's rate.
    if mode == Mode::Idle || mode == Mode::Steady && is_suite {
        let cpu = server.and_then(|server| server.cpu_percent_per_100_streams);
        below("CPU for 100 streams", cpu, limits.max_cpu_percent, "%");
    }
    if is_suite && mode == Mode::Idle {
        let (streams, wanted) = (number(result.streams), number(limits.min_streams));
        if let (Some(measured), Some(limit)) = (streams, wanted) {
            let what = "streams open at once (at least)";
            checks.push(Check::new(mode, what, measured, limit, "", true));
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        options::{Command, Options},
        report::{ServerUse, tests::report},
        verdict::Findings,
    };

    fn missed(change: impl Fn(&mut ModeResult), arguments: &[&str]) -> Vec<String> {
        let mut results = report("a").results;
        results[0].findings = Findings::default();
        results[0].ends.clear();
        results[0].rows_failed.clear();
        change(&mut results[0]);
        let arguments = ["notify-loadtest", "suite", "--min-streams", "3"].iter().chain(arguments);
        let Command::Suite(suite) = Options::try_parse_from(arguments).unwrap().command else {
            panic!("a suite was asked for")
        };
        let checks = checks(&results, &suite.common.limits, true);
        checks.into_iter().filter(|check| !check.passed).map(|check| check.what).collect()
    }

    #[test]
    fn each_limit_says_how_much_is_to_spare() {
        let of = |measured, limit, is_least| {
            Check::new(Mode::Idle, "x", measured, limit, "ms", is_least)
        };
        let spare = |measured, limit, is_least| of(measured, limit, is_least).spare();
        assert_eq!(spare(12.1, 500.0, false), "41 ×");
        assert_eq!(spare(334.0, 500.0, false), "1.4 ×", "never more than there is");
        assert_eq!(spare(3_000.0, 1_000.0, true), "3.0 ×");
        assert_eq!(spare(1_000.0, 1_000.0, true), "1.0 ×");
        // Missed, nothing measured, nothing allowed.
        for (measured, limit) in [(501.0, 500.0), (0.0, 500.0), (0.0, 0.0), (1.0, 0.0)] {
            assert_eq!(spare(measured, limit, false), "", "{measured} of {limit}");
        }
        assert_eq!(of(250.0, 500.0, false).to_spare, Some(2.0));
        assert_eq!(of(1_000.0, 500.0, false).to_spare, Some(0.5));
        assert_eq!(of(0.0, 500.0, false).to_spare, None);
    }

    #[test]
    fn what_holds_is_not_missed() {
        assert_eq!(missed(|_| {}, &[]), [""; 0]);
    }

    #[test]
    fn each_limit_can_be_missed() {
        assert_eq!(missed(|it| it.findings.doubled = 1, &[]), ["rows doubled"]);
        assert_eq!(missed(|it| it.wanted = 4, &[]), ["streams that never opened"]);
        assert_eq!(missed(|it| it.broadcasts_ms = vec![1.0, 2001.0], &[]).len(), 1);
        assert_eq!(missed(|_| {}, &["--max-connect", "1ms"]), ["connect, p99"]);
        assert_eq!(missed(|_| {}, &["--max-connect", "4980us"]), [""; 0]);
        let every = ["--max-connect", "4980us", "--percentile", "100"];
        assert_eq!(missed(|_| {}, &every), ["connect, p100"]);
        let heavy = ServerUse {
            kib_per_stream: Some(10_241.0),
            cpu_percent_per_100_streams: Some(1.1),
            ..ServerUse::default()
        };
        let heavy = |it: &mut ModeResult| it.server = Some(heavy.clone());
        assert_eq!(missed(heavy, &[]), ["memory a stream", "CPU for 100 streams"]);
        assert_eq!(missed(heavy, &["--no-limits"]), [""; 0]);
        assert_eq!(missed(|_| {}, &["--min-streams", "4"]).len(), 1);
    }
}
