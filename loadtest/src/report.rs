//! What a run has found, as its JSON file holds it. All other forms are made
//! from this one.

pub(crate) mod compare;
pub(crate) mod html;
pub(crate) mod svg;
pub(crate) mod table;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    bottleneck::Bottleneck, histogram::Summary, limits::Check, scenario::Mode, verdict::Findings,
};

/// The form of the file; another number may mean other fields.
pub(crate) const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) format: u32,
    pub(crate) name: String,
    pub(crate) version: String,
    /// Seconds since 1970.
    pub(crate) started_at: u64,
    pub(crate) took_s: f64,
    pub(crate) target: String,
    pub(crate) machine: String,
    pub(crate) command: String,
    pub(crate) results: Vec<ModeResult>,
    pub(crate) checks: Vec<Check>,
}

/// One mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModeResult {
    pub(crate) mode: Mode,
    pub(crate) description: String,
    pub(crate) users: u64,
    /// The most that were open at once.
    pub(crate) streams: u64,
    /// Streams asked for.
    pub(crate) wanted: u64,
    /// From the first SYN to the last stream open.
    pub(crate) opening_s: f64,
    /// What the figures below are about: from the first row (or the beginning of
    /// the wait) to the last delivery.
    pub(crate) measured_s: f64,
    pub(crate) findings: Findings,
    pub(crate) rows: u64,
    pub(crate) rows_failed: BTreeMap<String, u64>,
    /// How long writing took, and how many a second that is.
    pub(crate) writing_s: f64,
    pub(crate) rows_per_s: f64,
    pub(crate) deliveries: u64,
    pub(crate) deliveries_per_s: f64,
    /// Heartbeats and the like.
    pub(crate) other_events: u64,
    pub(crate) bytes: u64,
    /// Connections that ended and should not have, by why.
    pub(crate) ends: BTreeMap<String, u64>,
    pub(crate) latencies: ModeLatencies,
    /// From a commit to its last delivery, each round of a broadcast.
    pub(crate) broadcasts_ms: Vec<f64>,
    pub(crate) connects: u64,
    pub(crate) server: Option<ServerUse>,
    pub(crate) generator: GeneratorUse,
    pub(crate) bottleneck: Bottleneck,
    pub(crate) timeline: Vec<Sample>,
    pub(crate) weights: Vec<Weight>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModeLatencies {
    /// SYN to open.
    pub(crate) connect: Option<Summary>,
    pub(crate) first_byte: Option<Summary>,
    pub(crate) reconnect: Option<Summary>,
    pub(crate) catch_up: Option<Summary>,
    /// To receipt, from the intended moment, the sending, the acknowledgement.
    pub(crate) intended: Option<Summary>,
    pub(crate) sent: Option<Summary>,
    pub(crate) acknowledged: Option<Summary>,
}

/// What the server took, where its processes are known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerUse {
    pub(crate) cpu_s: f64,
    /// Cores, on average while measured.
    pub(crate) cores: f64,
    pub(crate) cpu_s_per_100k: Option<f64>,
    /// For each event of any kind, heartbeats included.
    pub(crate) cpu_us_per_event: Option<f64>,
    /// CPU of opening all streams, for each.
    pub(crate) cpu_us_per_connect: Option<f64>,
    /// Percent of a core for a hundred streams.
    pub(crate) cpu_percent_per_100_streams: Option<f64>,
    pub(crate) pss_before: u64,
    pub(crate) pss_open: u64,
    pub(crate) pss_after: u64,
    pub(crate) rss_open: u64,
    pub(crate) rss_max: u64,
    pub(crate) open_files_max: u64,
    /// The kernel's, for both ends.
    pub(crate) tcp_memory_max: u64,
    /// Growth of PSS from no stream to all, for each.
    pub(crate) kib_per_stream: Option<f64>,
    /// The same of the kernel's TCP memory, at its highest.
    pub(crate) tcp_kib_per_stream: Option<f64>,
}

/// What the load generator and what is beside it took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GeneratorUse {
    pub(crate) workers: u64,
    pub(crate) cpu_s: f64,
    pub(crate) cores: f64,
    /// Of all CPU time the machine spent.
    pub(crate) share: Option<f64>,
    pub(crate) busiest_worker_cores: f64,
    /// The share of the time in which a client process wanted a core and had
    /// none.
    pub(crate) waiting_share: f64,
    pub(crate) writer_cores: f64,
    pub(crate) lag_p99_ms: f64,
    pub(crate) lag_max_ms: f64,
    /// How late rows were sent, where there was a schedule.
    pub(crate) lateness_p99_ms: Option<f64>,
    pub(crate) postgres_cores: Option<f64>,
    /// Everybody else on the machine.
    pub(crate) others_cores: Option<f64>,
    pub(crate) machine_share: Option<f64>,
}

/// A quarter of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) at_s: f64,
    pub(crate) open: u64,
    pub(crate) deliveries_per_s: f64,
    pub(crate) rows_per_s: f64,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) server_cores: Option<f64>,
    pub(crate) generator_cores: f64,
    pub(crate) rss: Option<u64>,
    pub(crate) pss: Option<u64>,
    pub(crate) tcp_memory: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) lag_ms: f64,
}

/// The server's memory with so many streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weight {
    pub(crate) streams: u64,
    pub(crate) pss: u64,
    pub(crate) rss: u64,
    pub(crate) tcp_memory: u64,
}

impl Report {
    /// Whether all holds.
    pub(crate) fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec(self)?;
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let json = fs::read(path).with_context(|| format!("cannot read {name}"))?;
        let report: Self =
            serde_json::from_slice(&json).with_context(|| format!("{name} is no run's JSON"))?;
        anyhow::ensure!(report.format == FORMAT, "{name}: format {}, not {FORMAT}", report.format);
        Ok(report)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{bottleneck::Who, histogram::Latencies};

    /// A report in which everything has a value.
    pub(crate) fn report(name: &str) -> Report {
        let mut latencies = Latencies::default();
        (1..500u64).for_each(|n| latencies.record(n * 10_007));
        let summary = latencies.summary();
        let weight = |streams| Weight { streams, pss: 1 << 22, rss: 1 << 23, tcp_memory: 4096 };
        let result = ModeResult {
            mode: Mode::Idle,
            description: "<streams> & rows".into(),
            users: 3,
            streams: 3,
            wanted: 3,
            opening_s: 0.1,
            measured_s: 1.5,
            findings: Findings {
                lost: 1,
                examples: vec!["one never came".into()],
                ..Findings::default()
            },
            rows: 4,
            rows_failed: BTreeMap::from([("refused".into(), 1)]),
            writing_s: 1.0,
            rows_per_s: 4.0,
            deliveries: 4,
            deliveries_per_s: 4.0,
            other_events: 1,
            bytes: 1 << 40,
            ends: BTreeMap::from([("status 503".into(), 2)]),
            latencies: ModeLatencies {
                connect: summary.clone(),
                sent: summary,
                ..ModeLatencies::default()
            },
            broadcasts_ms: vec![12.25],
            connects: 3,
            server: Some(ServerUse { cpu_s_per_100k: Some(0.1), ..ServerUse::default() }),
            generator: GeneratorUse::default(),
            bottleneck: Bottleneck { who: Who::Machine, why: "it was busy".into() },
            timeline: vec![Sample { p99_ms: Some(1.0 / 3.0), ..Sample::default() }],
            weights: [0, 10, 20].map(weight).to_vec(),
        };
        Report {
            format: FORMAT,
            name: name.into(),
            version: "1".into(),
            started_at: 1_800_000_000,
            took_s: Duration::from_millis(1234).as_secs_f64(),
            target: "http://x".into(),
            machine: "two cores".into(),
            command: "notify-loadtest idle".into(),
            results: vec![result],
            checks: vec![Check {
                mode: Mode::Idle,
                what: "rows lost".into(),
                measured: 1.0,
                limit: 0.0,
                unit: String::new(),
                passed: false,
                to_spare: None,
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let written = report("a");
        written.write(file.path()).unwrap();
        assert_eq!(Report::read(file.path()).unwrap(), written);
    }

    #[test]
    fn a_file_of_another_format_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        Report { format: FORMAT + 1, ..report("a") }.write(file.path()).unwrap();
        let said = Report::read(file.path()).unwrap_err().to_string();
        assert!(said.contains(&*file.path().to_string_lossy()), "{said}");
    }

    #[test]
    fn the_page_loads_nothing_and_lets_no_text_break_out() {
        let page = html::render(&report("<script>"));
        assert!(!page.contains("<script") && !page.contains("http-equiv"));
        assert!(!page.contains("src=") && !page.contains("url("));
        assert!(page.contains("&lt;streams&gt; &amp; rows"));
        assert!(page.contains("1 missed"));
    }

    #[test]
    fn the_table_says_what_failed_and_who_was_the_bottleneck() {
        let text = table::render(&report("a"));
        for needle in
            ["MISSED idle: rows lost: 1", "one never came", "2 × status 503", "it was busy"]
        {
            assert!(text.contains(needle), "{needle} in\n{text}");
        }
    }

    #[test]
    fn each_limit_stands_beside_what_is_to_spare() {
        let mut report = report("a");
        let lost = report.checks[0].clone();
        let check = |what: &str, passed, to_spare| Check {
            what: what.into(),
            measured: 3.9,
            limit: 10_240.0,
            unit: "KiB".into(),
            passed,
            to_spare: Some(to_spare),
            ..lost.clone()
        };
        report.checks.push(check("memory", true, 2625.6));
        report.checks.push(check("too much", false, 0.5));
        let text = table::render(&report);
        let row = |what: &str| text.lines().find(|line| line.contains(what)).unwrap();
        let cells = |row: &str| row.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(cells(row("memory")), "ok idle memory 3.900 10240 KiB 2625 ×");
        assert_eq!(cells(row("too much")), "MISSED idle too much 3.900 10240 KiB");
        assert!(row("limits").ends_with("to spare"));
        assert!(html::render(&report).contains("<td>2625 × to spare</td>"));
    }

    #[test]
    fn a_run_of_before_there_was_anything_to_spare_can_be_read() {
        let mut json = serde_json::to_value(report("a")).unwrap();
        let check = json["checks"][0].as_object_mut().unwrap();
        assert!(check.remove("to_spare").is_some());
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report("a"));
    }

    #[test]
    fn runs_stand_side_by_side() {
        let mut other = report("b");
        if let Some(sent) = &mut other.results[0].latencies.sent {
            sent.p50_ms *= 2.0;
        }
        let page = compare::render(&[report("a"), other]);
        assert!(page.contains("<h1>a · b</h1>"));
        assert!(page.contains("2.00 ×"), "the ratio to the first run");
    }
}
