//! The report as one page: nothing beside it is needed, not even a network.

use super::{
    ModeResult, Report, Sample, Weight,
    svg::{Plot, Scale, Series, escape, short},
    table::{millis, number},
};
use crate::{bottleneck::Who, histogram::Summary, meter::as_f64, scenario::Mode};

const STYLE: &str = include_str!("page.css");

/// Colours in the palette.
pub(super) const COLORS: usize = 10;

const MIB: f64 = 1_048_576.0;

/// The page of one run.
pub(crate) fn render(report: &Report) -> String {
    let verdict = if report.passed() {
        r#"<span class="pill good">passed</span>"#.to_owned()
    } else {
        let missed = report.checks.iter().filter(|check| !check.passed).count();
        format!(r#"<span class="pill bad">{missed} missed</span>"#)
    };
    let body = [
        format!("<h1>{}</h1>{verdict}", escape(&report.name)),
        about(report),
        warnings(report),
        tiles(report),
        section("Latency", &curves(report)),
        section("Streams and rows", &counts(report)),
        section("Limits", &checks(report)),
        section("Memory", &memory(report)),
        section("CPU: who used it, and who was the bottleneck", &cpu(report)),
        section("Mode by mode", &report.results.iter().map(mode).collect::<String>()),
    ];
    page(&report.name, &body.concat())
}

/// A page around a body.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{} · notify-loadtest</title>\n<style>\n{STYLE}</style></head>\n\
         <body><main>\n{body}\n</main></body></html>\n",
        escape(title)
    )
}

pub(super) fn section(title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("<h2>{title}</h2>\n{body}\n") }
}

pub(super) fn card(title: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    let title = if title.is_empty() { String::new() } else { format!("<h3>{title}</h3>") };
    format!("<div class=\"card\">{title}{body}</div>\n")
}

/// A table; cells are HTML, with their `<td>`.
pub(super) fn table(head: &[&str], rows: &[String]) -> String {
    let head: String = head.iter().map(|cell| format!("<th>{cell}</th>")).collect();
    let rows: String = rows.iter().map(|row| format!("<tr>{row}</tr>\n")).collect();
    format!("<div class=\"scroll\"><table><tr>{head}</tr>\n{rows}</table></div>")
}

pub(super) fn td(cell: &str) -> String {
    format!("<td>{cell}</td>")
}

fn optional(value: Option<f64>, format: impl Fn(f64) -> String) -> String {
    value.map_or("–".to_owned(), format)
}

fn about(report: &Report) -> String {
    let Report { target, machine, command, took_s, version, .. } = report;
    format!(
        "<p class=\"soft\">{} · {} · {:.0} s · notify-loadtest {version}</p><p class=\"small\"><code>{}</code></p>",
        escape(target),
        escape(machine),
        took_s,
        escape(command)
    )
}

fn warnings(report: &Report) -> String {
    let of = |who: Who| {
        let modes: Vec<&str> = report
            .results
            .iter()
            .filter(|result| result.bottleneck.who == who)
            .map(|result| result.mode.name())
            .collect();
        modes.join(", ")
    };
    let note = |modes: String, what: &str| {
        if modes.is_empty() {
            return String::new();
        }
        format!("<p class=\"note warn\"><b>{modes}:</b> {what}</p>")
    };
    note(
        of(Who::LoadGenerator),
        "the load generator was the bottleneck: these latencies are upper bounds, the server's own are lower.",
    ) + &note(
        of(Who::Machine),
        "all cores of the machine were busy: server, database, load generator and whatever else ran waited for each other, and latencies are those of the queue.",
    )
}

fn tiles(report: &Report) -> String {
    let of = |mode: Mode| report.results.iter().find(|result| result.mode == mode);
    let mut tiles = Vec::new();
    let mut tile = |value: Option<String>, what: &str| {
        if let Some(value) = value {
            tiles.push(format!("<div class=\"tile\"><b>{value}</b><span>{what}</span></div>"));
        }
    };
    let all = || report.results.iter();
    let streams = all().map(|result| result.streams).max().map(|count| short(as_f64(count)));
    tile(streams, "streams at once");
    let faults: u64 = all().flat_map(|result| result.findings.faults()).map(|fault| fault.1).sum();
    let delivered: u64 = all().map(|result| result.findings.delivered).sum();
    tile(
        Some(format!("{faults} <small class=\"soft\">of {}</small>", short(as_f64(delivered)))),
        "events lost, doubled, misrouted or out of order",
    );
    let latency = of(Mode::Steady).or_else(|| report.results.first());
    let latency = latency.and_then(|result| result.latencies.intended.as_ref());
    tile(
        latency.map(|it| {
            format!(
                "{} <small class=\"soft\">/ {} ms</small>",
                millis(it.p50_ms),
                millis(it.p99_ms)
            )
        }),
        "delivery, p50 / p99, from the intended moment",
    );
    let broadcast =
        of(Mode::Broadcast).and_then(|it| it.broadcasts_ms.iter().copied().reduce(f64::max));
    tile(
        broadcast.map(|ms| format!("{} ms", millis(ms))),
        "a broadcast's commit to its last delivery",
    );
    let saturation = of(Mode::Saturation);
    tile(
        saturation.map(|it| format!("{} /s", short(it.deliveries_per_s))),
        "deliveries at saturation",
    );
    let catch_up = of(Mode::Storm).and_then(|it| it.latencies.catch_up.as_ref());
    tile(
        catch_up.map(|it| format!("{} ms", millis(it.max_ms))),
        "until the last of all cut streams had caught up",
    );
    let memory = of(Mode::Idle).and_then(|it| it.server.as_ref()?.kib_per_stream);
    tile(
        memory.map(|kib| format!("{kib:.1} KiB")),
        "of the server's memory for an idle stream (PSS)",
    );
    format!("<div class=\"tiles\">{}</div>", tiles.concat())
}

fn curves(report: &Report) -> String {
    let plot = |pick: fn(&ModeResult) -> &Option<Summary>| {
        let series = report.results.iter().enumerate().filter_map(|(index, result)| {
            let points = pick(result).as_ref()?.curve();
            Some(Series {
                name: result.mode.name().into(),
                color: index % COLORS,
                points,
                dots: false,
            })
        });
        curve_plot(series.collect())
    };
    let received = plot(|result| &result.latencies.intended);
    let connect = plot(|result| &result.latencies.connect);
    let plots = card("From the intended moment of sending to receipt", &received)
        + &card("From SYN to open", &connect);
    format!(
        "<div class=\"pair\">{plots}</div>\n<div class=\"card\">{}</div>",
        latency_table(&report.results)
    )
}

/// Latency by percentile.
pub(super) fn curve_plot(series: Vec<Series>) -> String {
    let plot = Plot {
        x: ("percentile", Scale::Nines),
        y: ("milliseconds", Scale::Log),
        series,
        height: 260.0,
    };
    plot.render()
}

fn latency_table(results: &[ModeResult]) -> String {
    let mut rows = Vec::new();
    for result in results {
        let latencies = &result.latencies;
        let kinds = [
            ("SYN → open", &latencies.connect),
            ("SYN → open again", &latencies.reconnect),
            ("cut → caught up", &latencies.catch_up),
            ("intended → received", &latencies.intended),
            ("sent → received", &latencies.sent),
            ("acknowledged → received", &latencies.acknowledged),
        ];
        let mut name = result.mode.name();
        for (kind, summary) in kinds {
            let Some(it) = summary else { continue };
            let values = [it.p50_ms, it.p90_ms, it.p95_ms, it.p99_ms, it.p999_ms, it.max_ms];
            let values: String = values.into_iter().map(|ms| td(&millis(ms))).collect();
            let head = format!(
                "{}<td class=\"left\">{kind}</td>{}",
                td(name),
                td(&short(as_f64(it.count)))
            );
            rows.push(head + &values);
            name = "";
        }
    }
    table(&["ms", "", "count", "p50", "p90", "p95", "p99", "p99.9", "max"], &rows)
}

fn counts(report: &Report) -> String {
    let fault = |count: u64| {
        if count == 0 { td("0") } else { format!("<td class=\"fault\">{count}</td>") }
    };
    let row = |result: &ModeResult| {
        let it = &result.findings;
        let cells = [
            td(result.mode.name()),
            td(&result.streams.to_string()),
            td(&result.rows.to_string()),
            td(&result.deliveries.to_string()),
            td(&short(result.rows_per_s.round())),
            td(&short(result.deliveries_per_s.round())),
            fault(it.lost),
            fault(it.announced),
            fault(it.doubled),
            fault(it.misrouted),
            fault(it.reordered),
            td(&result.ends.values().sum::<u64>().to_string()),
            td(&result.other_events.to_string()),
        ];
        cells.concat()
    };
    let rows: Vec<String> = report.results.iter().map(row).collect();
    let head = [
        "",
        "streams",
        "rows",
        "received",
        "rows/s",
        "received/s",
        "lost",
        "resync",
        "doubled",
        "misrouted",
        "reordered",
        "ended",
        "other events",
    ];
    card("", &table(&head, &rows))
}

fn checks(report: &Report) -> String {
    let told = report.checks.iter().filter(|check| !check.passed || check.limit > 0.0);
    let rows: Vec<String> = told
        .map(|check| {
            // Of what is missed, all; of what has taken nothing, nothing.
            let used = check.to_spare.map_or(if check.passed { 0.0 } else { 1.0 }, f64::recip);
            let width = (used * 100.0).clamp(0.5, 100.0);
            let color = if check.passed { 2 } else { 7 };
            let spare = match check.spare() {
                spare if spare.is_empty() => spare,
                spare => format!("{spare} to spare"),
            };
            let verdict = if check.passed { "<span class=\"pill good\">ok</span>" } else { "<span class=\"pill bad\">missed</span>" };
            [
                td(check.mode.name()),
                format!("<td class=\"left\">{}</td>", escape(&check.what)),
                td(&format!("{} {}", number(check.measured), check.unit)),
                td(&format!("{} {}", number(check.limit), check.unit)),
                td(&format!("<div class=\"bar\"><i class=\"c{color}\" style=\"width:{width:.1}%\"></i></div>")),
                td(&spare),
                td(verdict),
            ]
            .concat()
        })
        .collect();
    card("", &table(&["", "", "measured", "limit", "used", "", ""], &rows))
}

fn memory(report: &Report) -> String {
    let Some(idle) = report.results.iter().find(|result| result.weights.len() > 2) else {
        return String::new();
    };
    let series = |name: &str, color, pick: fn(&Weight) -> u64| Series {
        name: name.into(),
        color,
        points: idle
            .weights
            .iter()
            .map(|it| (as_f64(it.streams), as_f64(pick(it)) / MIB))
            .collect(),
        dots: true,
    };
    let plot = Plot {
        x: ("open streams", Scale::Linear),
        y: ("MiB", Scale::Linear),
        series: vec![
            series("server, its own (PSS)", 0, |weight| weight.pss),
            series("server, resident (RSS)", 4, |weight| weight.rss),
            series("kernel, TCP, both ends", 1, |weight| weight.tcp_memory),
        ],
        height: 260.0,
    };
    let rows: Vec<String> = report
        .results
        .iter()
        .filter_map(|result| {
            let it = result.server.as_ref()?;
            let mib = |bytes: u64| td(&format!("{:.1}", as_f64(bytes) / MIB));
            let cells = [
                td(result.mode.name()),
                mib(it.pss_before),
                mib(it.pss_open),
                mib(it.pss_after),
                mib(it.rss_max),
                mib(it.tcp_memory_max),
                td(&it.open_files_max.to_string()),
            ];
            Some(cells.concat())
        })
        .collect();
    let head = ["MiB", "before", "all open", "after", "RSS max", "TCP max", "files"];
    let title = "Against streams, none of them receiving";
    format!(
        "<div class=\"pair\">{}{}</div>",
        card(title, &plot.render()),
        card("Mode by mode: PSS before, with and after the streams", &table(&head, &rows))
    )
}

fn cpu(report: &Report) -> String {
    let cores = as_f64(std::thread::available_parallelism().map_or(1, usize::from) as u64);
    let rows: Vec<String> = report
        .results
        .iter()
        .map(|result| {
            let (generator, server) = (&result.generator, result.server.as_ref());
            let parts = [
                (server.map(|it| it.cores), 0),
                (generator.postgres_cores, 4),
                (Some(generator.cores), 1),
                (generator.others_cores, 9),
            ];
            let bar: String = parts
                .iter()
                .filter_map(|&(part, color)| Some((part?, color)))
                .map(|(part, color)| {
                    format!(
                        "<i class=\"c{color}\" style=\"width:{:.1}%\"></i>",
                        part / cores * 100.0
                    )
                })
                .collect();
            let numbers: String = parts
                .iter()
                .map(|(part, _)| td(&optional(*part, |it| format!("{it:.2}"))))
                .collect();
            [
                td(result.mode.name()),
                td(&format!("<div class=\"bar\">{bar}</div>")),
                numbers,
                td(&optional(server.and_then(|it| it.cpu_s_per_100k), |it| format!("{it:.2}"))),
                td(&optional(server.and_then(|it| it.cpu_us_per_event), |it| format!("{it:.1}"))),
                td(&optional(server.and_then(|it| it.cpu_us_per_connect), |it| format!("{it:.0}"))),
                td(&optional(server.and_then(|it| it.cpu_percent_per_100_streams), |it| {
                    format!("{it:.3}")
                })),
            ]
            .concat()
        })
        .collect();
    let legend = r#"<p class="legend"><span><i class="c0"></i>server</span><span><i class="c4"></i>Postgres</span><span><i class="c1"></i>load generator</span><span><i class="c9"></i>others on the machine</span></p>"#;
    let head = [
        "",
        "of the machine",
        "server",
        "Postgres",
        "generator",
        "others",
        "server s /<br>100k received",
        "µs /<br>event",
        "µs /<br>connect",
        "% / 100<br>streams",
    ];
    card("Cores", &(table(&head, &rows) + legend)) + &bottlenecks(report)
}

fn bottlenecks(report: &Report) -> String {
    let row = |result: &ModeResult| {
        let (it, generator) = (&result.bottleneck, &result.generator);
        let class = match it.who {
            Who::LoadGenerator | Who::Machine => "pill warn",
            _ => "pill",
        };
        let cells = [
            td(result.mode.name()),
            format!(
                "<td class=\"left\"><span class=\"{class}\">{}</span></td>",
                it.who.name().to_lowercase()
            ),
            format!("<td class=\"left wrap soft\">{}</td>", escape(&it.why)),
            td(&format!("{} / {}", millis(generator.lag_p99_ms), millis(generator.lag_max_ms))),
            td(&optional(generator.lateness_p99_ms, millis)),
            td(&optional(generator.share, |share| format!("{:.0} %", share * 100.0))),
        ];
        cells.concat()
    };
    let rows: Vec<String> = report.results.iter().map(row).collect();
    let head = [
        "",
        "",
        "",
        "clients late,<br>p99 / max ms",
        "rows sent late,<br>p99 ms",
        "generator's share<br>of all CPU used",
    ];
    card("Who was the bottleneck", &table(&head, &rows))
}

fn mode(result: &ModeResult) -> String {
    let samples = &result.timeline;
    let over_time = |unit: &str, series: Vec<Series>| {
        let plot =
            Plot { x: ("seconds", Scale::Linear), y: (unit, Scale::Linear), series, height: 180.0 };
        plot.render()
    };
    let line = |name: &str, color, pick: &dyn Fn(&Sample) -> Option<f64>| Series {
        name: name.into(),
        color,
        points: samples.iter().filter_map(|it| Some((it.at_s, pick(it)?))).collect(),
        dots: false,
    };
    let mib = |bytes: Option<u64>| bytes.map(|bytes| as_f64(bytes) / MIB);
    let plots = [
        card(
            "A second",
            &over_time(
                "per second",
                vec![
                    line("received", 0, &|it| Some(it.deliveries_per_s)),
                    line("rows committed", 2, &|it| Some(it.rows_per_s)),
                ],
            ),
        ),
        card(
            "Delivery, p99 of each quarter second",
            &over_time("milliseconds", vec![line("p99", 3, &|it| it.p99_ms)]),
        ),
        card(
            "CPU",
            &over_time(
                "cores",
                vec![
                    line("server", 0, &|it| it.server_cores),
                    line("load generator", 1, &|it| Some(it.generator_cores)),
                ],
            ),
        ),
        card(
            "Memory",
            &over_time(
                "MiB",
                vec![
                    line("server (RSS)", 4, &|it| mib(it.rss)),
                    line("server (PSS)", 0, &|it| mib(it.pss)),
                    line("kernel, TCP", 1, &|it| mib(it.tcp_memory)),
                ],
            ),
        ),
        card(
            "Streams open",
            &over_time("streams", vec![line("open", 2, &|it| Some(as_f64(it.open)))]),
        ),
        card(
            "Lateness of the load generator",
            &over_time("milliseconds", vec![line("event loop, worst", 1, &|it| Some(it.lag_ms))]),
        ),
    ];
    let told = |text: &str| format!("<p class=\"small\">{}</p>", escape(text));
    let mut notes: String = result.findings.examples.iter().map(|it| told(it)).collect();
    notes.extend(result.ends.iter().map(|(why, count)| told(&format!("{count} × {why}"))));
    notes.extend(
        result
            .rows_failed
            .iter()
            .map(|(why, count)| told(&format!("{count} transactions failed: {why}"))),
    );
    format!(
        "<details><summary>{}<span>{}</span></summary>{notes}<div class=\"pair\">{}</div></details>\n",
        result.mode.name(),
        escape(&result.description),
        plots.concat()
    )
}
