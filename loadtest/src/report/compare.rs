//! Several runs side by side.

use std::io::Write as _;

use anyhow::Context as _;

use super::{
    ModeResult, Report,
    html::{COLORS, card, curve_plot, page, section, table, td},
    svg::{Plot, Scale, Series, escape},
    table::number,
};
use crate::{histogram::Summary, meter::as_f64, options::CompareOptions, scenario::Mode};

const MIB: f64 = 1_048_576.0;

/// One line of the comparison.
struct Figure {
    what: &'static str,
    of: fn(&ModeResult) -> Option<f64>,
    /// Whether less is better; none where it is neither.
    less_is_better: Option<bool>,
}

const FIGURES: &[Figure] = &[
    figure("streams", |it| Some(as_f64(it.streams)), None),
    figure("received", |it| some(it.deliveries), None),
    figure("lost, doubled, misrouted, out of order", faults, Some(true)),
    figure("received a second", |it| Some(it.deliveries_per_s).filter(|it| *it > 0.0), Some(false)),
    figure("connect p50, ms", |it| Some(it.latencies.connect.as_ref()?.p50_ms), Some(true)),
    figure("connect p99, ms", |it| Some(it.latencies.connect.as_ref()?.p99_ms), Some(true)),
    figure("sent → received p50, ms", |it| Some(it.latencies.sent.as_ref()?.p50_ms), Some(true)),
    figure("sent → received p99, ms", |it| Some(it.latencies.sent.as_ref()?.p99_ms), Some(true)),
    figure("sent → received max, ms", |it| Some(it.latencies.sent.as_ref()?.max_ms), Some(true)),
    figure(
        "intended → received p99, ms",
        |it| Some(it.latencies.intended.as_ref()?.p99_ms),
        Some(true),
    ),
    figure(
        "broadcast to all, slowest, ms",
        |it| it.broadcasts_ms.iter().copied().reduce(f64::max),
        Some(true),
    ),
    figure(
        "cut → caught up, slowest, ms",
        |it| Some(it.latencies.catch_up.as_ref()?.max_ms),
        Some(true),
    ),
    figure("server CPU, s", |it| Some(it.server.as_ref()?.cpu_s), Some(true)),
    figure("server CPU, s / 100k received", |it| it.server.as_ref()?.cpu_s_per_100k, Some(true)),
    figure("server CPU, µs / event", |it| it.server.as_ref()?.cpu_us_per_event, Some(true)),
    figure("server CPU, µs / connect", |it| it.server.as_ref()?.cpu_us_per_connect, Some(true)),
    figure("server memory, KiB / stream (PSS)", memory, Some(true)),
    figure("load generator, cores", |it| Some(it.generator.cores), None),
    figure("others on the machine, cores", |it| it.generator.others_cores, None),
];

const fn figure(
    what: &'static str,
    of: fn(&ModeResult) -> Option<f64>,
    less_is_better: Option<bool>,
) -> Figure {
    Figure { what, of, less_is_better }
}

fn some(count: u64) -> Option<f64> {
    (count > 0).then(|| as_f64(count))
}

fn faults(result: &ModeResult) -> Option<f64> {
    let faults = result.findings.faults().iter().map(|fault| fault.1).sum();
    (result.findings.expected > 0).then(|| as_f64(faults))
}

/// Growth divided by streams means something where the streams were weighed.
fn memory(result: &ModeResult) -> Option<f64> {
    result.server.as_ref()?.kib_per_stream.filter(|_| result.weights.len() > 2)
}

/// Reads the files, tells the differences, writes the page.
pub(crate) fn run(options: &CompareOptions) -> anyhow::Result<()> {
    let reports: Vec<Report> =
        options.runs.iter().map(|path| Report::read(path)).collect::<anyhow::Result<_>>()?;
    if let Some(path) = &options.html {
        let page = render(&reports);
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    std::io::stdout().write_all(text(&reports).as_bytes())?;
    Ok(())
}

/// What is drawn of a mode.
type Pick<'a> = dyn Fn(&ModeResult) -> Option<Vec<(f64, f64)>> + 'a;

/// The page.
pub(crate) fn render(reports: &[Report]) -> String {
    let names: Vec<String> = reports.iter().map(|report| escape(&report.name)).collect();
    let legend: String = names
        .iter()
        .enumerate()
        .map(|(index, name)| format!("<span><i class=\"c{}\"></i>{name}</span>", index % COLORS))
        .collect();
    let runs: Vec<String> = reports
        .iter()
        .map(|report| {
            [
                td(&escape(&report.name)),
                format!("<td class=\"left\">{}</td>", escape(&report.target)),
                format!("<td class=\"left\">{}</td>", escape(&report.machine)),
            ]
            .concat()
        })
        .collect();
    let mut body = format!("<h1>{}</h1><p class=\"legend\">{legend}</p>", names.join(" · "));
    body += &section("Runs", &card("", &table(&["", "", ""], &runs)));
    for mode in modes(reports) {
        body += &section(mode.name(), &of_mode(reports, mode));
    }
    page(&names.join(" · "), &body)
}

fn modes(reports: &[Report]) -> Vec<Mode> {
    let mut modes = Vec::new();
    for result in reports.iter().flat_map(|report| &report.results) {
        if !modes.contains(&result.mode) {
            modes.push(result.mode);
        }
    }
    modes
}

fn result_of(report: &Report, mode: Mode) -> Option<&ModeResult> {
    report.results.iter().find(|result| result.mode == mode)
}

fn of_mode(reports: &[Report], mode: Mode) -> String {
    let results: Vec<_> = reports.iter().map(|report| result_of(report, mode)).collect();
    let rows: Vec<String> = FIGURES.iter().filter_map(|figure| row(figure, &results)).collect();
    let names: Vec<String> = reports.iter().map(|report| escape(&report.name)).collect();
    let head: Vec<&str> = std::iter::once("").chain(names.iter().map(String::as_str)).collect();
    let series = |pick: &Pick<'_>, dots| -> Vec<Series> {
        reports
            .iter()
            .enumerate()
            .filter_map(|(index, report)| {
                let points = pick(result_of(report, mode)?)?;
                Some(Series { name: report.name.clone(), color: index % COLORS, points, dots })
            })
            .collect()
    };
    let curve = |summary: &Option<Summary>| summary.as_ref().map(Summary::curve);
    let weights = series(
        &|it| {
            let weigh = it.weights.iter().map(|it| (as_f64(it.streams), as_f64(it.pss) / MIB));
            (it.weights.len() > 2).then(|| weigh.collect())
        },
        true,
    );
    let cpu = series(
        &|it| {
            it.server.as_ref()?;
            Some(it.timeline.iter().filter_map(|it| Some((it.at_s, it.server_cores?))).collect())
        },
        false,
    );
    let memory = Plot {
        x: ("open streams", Scale::Linear),
        y: ("MiB (PSS)", Scale::Linear),
        series: weights,
        height: 260.0,
    };
    let cpu = Plot {
        x: ("seconds", Scale::Linear),
        y: ("server, cores", Scale::Linear),
        series: cpu,
        height: 260.0,
    };
    let plots = [
        card(
            "From sending to receipt",
            &curve_plot(series(&|it| curve(&it.latencies.sent), false)),
        ),
        card("From SYN to open", &curve_plot(series(&|it| curve(&it.latencies.connect), false))),
        card("The server's memory against streams", &memory.render()),
        card("The server's CPU over time", &cpu.render()),
    ];
    card("", &table(&head, &rows)) + &format!("<div class=\"pair\">{}</div>", plots.concat())
}

/// The figure of each run, and its ratio to the first one's.
fn row(figure: &Figure, results: &[Option<&ModeResult>]) -> Option<String> {
    let values: Vec<Option<f64>> =
        results.iter().map(|result| result.and_then(|result| (figure.of)(result))).collect();
    let known = || values.iter().flatten().copied();
    known().next()?;
    let best = match figure.less_is_better {
        Some(true) => known().reduce(f64::min),
        Some(false) => known().reduce(f64::max),
        None => None,
    };
    // Where all are about the same, none is the best.
    let best =
        best.filter(|best| known().any(|value| (value - best).abs() > 0.05 * value.max(*best)));
    let first = values.first().copied().flatten().filter(|first| *first > 0.0);
    let cell = |(index, value): (usize, &Option<f64>)| {
        let Some(value) = *value else { return td("–") };
        let ratio = first.filter(|_| index > 0 && figure.less_is_better.is_some());
        let ratio = ratio.map_or(String::new(), |first| {
            format!(" <span class=\"soft small\">{:.2} ×</span>", value / first)
        });
        let class = if best == Some(value) { " class=\"best\"" } else { "" };
        format!("<td{class}>{}{ratio}</td>", number(value))
    };
    let cells: String = values.iter().enumerate().map(cell).collect();
    Some(td(figure.what) + &cells)
}

fn text(reports: &[Report]) -> String {
    let names: Vec<&str> = reports.iter().map(|report| report.name.as_str()).collect();
    let mut out = String::new();
    for mode in modes(reports) {
        out += &format!(
            "{:<40}{}\n",
            mode.name(),
            names.iter().map(|name| format!("{name:>16}")).collect::<String>()
        );
        for figure in FIGURES {
            let of = |report: &Report| result_of(report, mode).and_then(figure.of);
            let values: Vec<Option<f64>> = reports.iter().map(of).collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            let cells: String = values
                .iter()
                .map(|value| format!("{:>16}", value.map_or("–".to_owned(), number)))
                .collect();
            out += &format!("{:<40}{cells}\n", figure.what);
        }
        out.push('\n');
    }
    out
}
