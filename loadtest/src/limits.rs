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
        checks.push(Check {
            mode,
            what: what.to_owned(),
            measured,
            limit,
            unit: unit.to_owned(),
            passed: measured <= limit,
        });
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
            let what = "streams open at once (at least)".to_owned();
            let passed = measured >= limit;
            checks.push(Check { mode, what, measured, limit, unit: String::new(), passed });
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
