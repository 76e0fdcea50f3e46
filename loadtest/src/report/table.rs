//! The report for a terminal.

use std::fmt::Write as _;

use super::{ModeResult, Report};
use crate::{bottleneck::Who, histogram::Summary, limits::Check};

/// The whole of it.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    line(&mut out, &format!("{}: {} on {}", report.name, report.target, report.machine));
    line(&mut out, "");
    let mut rows = vec![header()];
    rows.extend(report.results.iter().map(row));
    table(&mut out, &rows);
    line(&mut out, "");
    latencies(&mut out, report);
    server(&mut out, report);
    bottlenecks(&mut out, report);
    faults(&mut out, report);
    checks(&mut out, report);
    out
}

fn header() -> Vec<String> {
    let titles = [
        "mode",
        "streams",
        "rows",
        "received",
        "rows/s",
        "recv/s",
        "lost",
        "doubled",
        "misrouted",
        "reordered",
        "ended",
        "other events",
    ];
    titles.map(str::to_owned).to_vec()
}

fn row(result: &ModeResult) -> Vec<String> {
    let findings = &result.findings;
    vec![
        result.mode.name().to_owned(),
        result.streams.to_string(),
        result.rows.to_string(),
        result.deliveries.to_string(),
        format!("{:.0}", result.rows_per_s),
        format!("{:.0}", result.deliveries_per_s),
        (findings.lost + findings.announced).to_string(),
        findings.doubled.to_string(),
        findings.misrouted.to_string(),
        findings.reordered.to_string(),
        result.ends.values().sum::<u64>().to_string(),
        result.other_events.to_string(),
    ]
}

fn latencies(out: &mut String, report: &Report) {
    let mut rows =
        vec![["latency, ms", "", "p50", "p95", "p99", "p99.9", "max"].map(str::to_owned).to_vec()];
    for result in &report.results {
        let latencies = &result.latencies;
        let kinds = [
            ("connect", &latencies.connect),
            ("reconnect", &latencies.reconnect),
            ("cut → caught up", &latencies.catch_up),
            ("intended → received", &latencies.intended),
            ("sent → received", &latencies.sent),
            ("committed → received", &latencies.acknowledged),
        ];
        for (kind, summary) in kinds {
            if let Some(summary) = summary {
                rows.push(latency(result.mode.name(), kind, summary));
            }
        }
        for (round, &took) in (1..).zip(&result.broadcasts_ms) {
            let kind = format!("commit → all, round {round}");
            let cells = [result.mode.name(), &kind, "", "", "", "", &millis(took)];
            rows.push(cells.map(str::to_owned).to_vec());
        }
    }
    table(out, &rows);
    line(out, "");
}

fn latency(mode: &str, kind: &str, summary: &Summary) -> Vec<String> {
    let values = [summary.p50_ms, summary.p95_ms, summary.p99_ms, summary.p999_ms, summary.max_ms];
    let names = [mode.to_owned(), kind.to_owned()];
    names.into_iter().chain(values.into_iter().map(millis)).collect()
}

fn server(out: &mut String, report: &Report) {
    let titles = [
        "server",
        "CPU s",
        "cores",
        "s/100k recv",
        "µs/event",
        "µs/connect",
        "%/100 streams",
        "PSS MiB",
        "after",
        "KiB/stream",
        "TCP KiB/stream",
        "files",
    ];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    for result in &report.results {
        let Some(server) = &result.server else { continue };
        let optional = |value: Option<f64>, digits: usize| {
            value.map_or(String::new(), |value| format!("{value:.digits$}"))
        };
        let mib = |bytes: u64| format!("{:.1}", crate::meter::as_f64(bytes) / 1_048_576.0);
        rows.push(vec![
            result.mode.name().to_owned(),
            format!("{:.2}", server.cpu_s),
            format!("{:.3}", server.cores),
            optional(server.cpu_s_per_100k, 2),
            optional(server.cpu_us_per_event, 1),
            optional(server.cpu_us_per_connect, 0),
            optional(server.cpu_percent_per_100_streams, 3),
            mib(server.pss_open),
            mib(server.pss_after),
            optional(server.kib_per_stream.filter(|_| result.weights.len() > 2), 1),
            optional(server.tcp_kib_per_stream, 1),
            server.open_files_max.to_string(),
        ]);
    }
    if rows.len() > 1 {
        table(out, &rows);
        line(out, "");
    }
}

fn bottlenecks(out: &mut String, report: &Report) {
    let titles =
        ["who was the bottleneck", "cores: generator", "server", "Postgres", "others", "", ""];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    for result in &report.results {
        let generator = &result.generator;
        let optional =
            |value: Option<f64>| value.map_or("?".to_owned(), |value| format!("{value:.2}"));
        rows.push(vec![
            result.mode.name().to_owned(),
            format!("{:.2}", generator.cores),
            optional(result.server.as_ref().map(|server| server.cores)),
            optional(generator.postgres_cores),
            optional(generator.others_cores),
            result.bottleneck.who.name().to_owned(),
            result.bottleneck.why.clone(),
        ]);
    }
    table(out, &rows);
    let is_ours = |result: &&ModeResult| result.bottleneck.who == Who::LoadGenerator;
    for result in report.results.iter().filter(is_ours) {
        let mode = result.mode.name();
        line(
            out,
            &format!(
                "! {mode}: the load generator was the bottleneck; its latencies are upper bounds"
            ),
        );
    }
    line(out, "");
}

fn faults(out: &mut String, report: &Report) {
    for result in &report.results {
        let mode = result.mode.name();
        for example in &result.findings.examples {
            line(out, &format!("! {mode}: {example}"));
        }
        for (why, count) in &result.ends {
            line(out, &format!("! {mode}: {count} × {why}"));
        }
        for (why, count) in &result.rows_failed {
            line(out, &format!("! {mode}: {count} transactions failed: {why}"));
        }
    }
}

fn checks(out: &mut String, report: &Report) {
    let verdict = |check: &Check| if check.passed { "ok" } else { "MISSED" };
    // What may not happen at all, where it has.
    for check in report.checks.iter().filter(|check| !check.passed && check.limit <= 0.0) {
        let (mode, what, unit) = (check.mode.name(), &check.what, &check.unit);
        let (measured, limit) = (number(check.measured), number(check.limit));
        let verdict = verdict(check);
        line(out, &format!("{verdict} {mode}: {what}: {measured} {unit} (limit {limit} {unit})"));
    }
    let titles = ["limits", "", "", "measured", "limit", "", "to spare"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    for check in report.checks.iter().filter(|check| check.limit > 0.0) {
        let cells = [verdict(check), check.mode.name(), &check.what];
        let numbers = [number(check.measured), number(check.limit)];
        let cells = cells.into_iter().map(str::to_owned).chain(numbers);
        rows.push(cells.chain([check.unit.clone(), check.spare()]).collect());
    }
    if rows.len() > 1 {
        table(out, &rows);
    }
    let missed = report.checks.iter().filter(|check| !check.passed).count();
    let total = report.checks.len();
    line(out, "");
    line(
        out,
        &match missed {
            0 => format!("PASSED: all {total} checks, in {:.0} s", report.took_s),
            missed => format!("FAILED: {missed} of {total} checks, in {:.0} s", report.took_s),
        },
    );
}

/// As many digits as mean something.
pub(crate) fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// The same for a number of any unit.
pub(crate) fn number(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

fn table(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut text = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            // Names to the left, numbers to the right.
            let is_number = cell.parse::<f64>().is_ok();
            let pad = " ".repeat(width - cell.chars().count());
            text += &if is_number { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") };
        }
        line(out, text.trim_end());
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _written = writeln!(out, "{text}");
}
