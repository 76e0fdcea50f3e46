//! What the documentation, the alerts and the dashboard say of metrics is what a
//! running gateway has: an alert on a name that is gone never fires, and nobody
//! notices.

// Elsewhere there is no `/proc`, and so there are no metrics of the process.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{Database, TestGateway, request};

const PAGE: &str = include_str!("../../docs/metrics.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const RULES: &str = include_str!("../../deploy/prometheus/rules.yml");
const RULES_TEST: &str = include_str!("../../deploy/prometheus/rules_test.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/dashboard.json");

/// Every metric's name begins with one of these.
const PREFIXES: [&str; 3] = ["notify_gateway_", "process_", "sse_"];

/// The labels that the gateway gives its series; Prometheus adds others.
const LABELS: [&str; 4] = ["event_type", "outcome", "reason", "version"];

#[tokio::test]
async fn every_metric_is_documented_with_its_label_and_no_other_is() {
    let documented = documented();
    let metrics = Metrics::of_a_gateway().await;
    for (name, label) in &metrics.labels {
        assert_eq!(documented.get(name), Some(label), "what docs/metrics.md says of {name}");
    }
    for name in documented.keys() {
        assert!(metrics.labels.contains_key(name), "docs/metrics.md has {name}, no gateway does");
    }
}

#[tokio::test]
async fn every_series_of_the_alerts_and_of_the_dashboard_exists() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut expressions = Vec::new();
    collect_expressions(&dashboard, &mut expressions);
    assert!(expressions.len() > 30, "{}", expressions.len());

    let metrics = Metrics::of_a_gateway().await;
    for (file, text) in [
        ("rules.yml", RULES),
        ("rules_test.yml", RULES_TEST),
        ("dashboard.json", &expressions.join("\n")),
    ] {
        let used = used(text);
        assert!(used.len() > 15, "{file}: {used:?}");
        for Use { name, matchers } in used {
            let exists = metrics.series.contains_key(name);
            assert!(exists, "{file} asks for {name}, which no gateway has");
            for (label, value) in matchers {
                let exists = metrics.series[name].contains(&(label.to_owned(), value.to_owned()));
                assert!(exists, "{file} asks for {name} with {label}=\"{value}\", which never is");
            }
        }
    }
}

#[test]
fn the_pages_name_every_alert_and_no_other() {
    let names = |text: &'static str| {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.filter(|word| word.starts_with("NotifyGateway")).collect::<BTreeSet<_>>()
    };
    let alerts = names(RULES);
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(names(PAGE), alerts, "docs/metrics.md");
    assert_eq!(names(OPERATIONS), alerts, "docs/operations.md");
}

/// What a running gateway has.
struct Metrics {
    /// The label of each metric, by the name under `# TYPE`.
    labels: BTreeMap<String, Option<String>>,
    /// Each label with its value, by the name of the series.
    series: BTreeMap<String, BTreeSet<(String, String)>>,
}

impl Metrics {
    async fn of_a_gateway() -> Self {
        let database = Database::new().await;
        let gateway = TestGateway::start(&database.url, &[]).await;
        let text = request(gateway.admin, "GET", "/metrics", &[]).await.text().await;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let mut series = BTreeMap::<_, BTreeSet<_>>::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, rest) = name_at(line).unwrap_or_else(|| panic!("an odd name: {line}"));
            series.entry(name.to_owned()).or_default().extend(
                matchers(rest)
                    .into_iter()
                    .map(|(label, value)| (label.to_owned(), value.to_owned())),
            );
        }
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let labels = names.map(|name| {
            let label = series.get(name).and_then(|pairs| pairs.first());
            (name.to_owned(), label.map(|(label, _)| label.clone()))
        });
        Self { labels: labels.collect(), series }
    }
}

/// The metrics of docs/metrics.md with their labels. In its tables they stand in
/// the first column, after the first table without their prefix; those of the
/// process stand in a sentence.
fn documented() -> BTreeMap<String, Option<String>> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut names: Vec<_> =
        rows.filter_map(|row| row.split(" | ").next()).flat_map(|cell| cell.split('`')).collect();
    names.extend(PAGE.split('`').filter(|span| span.starts_with("process_")));
    names
        .into_iter()
        .filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase()))
        .map(|name| {
            let (name, label) = match name.split_once('{') {
                Some((name, label)) => (name, Some(label.trim_end_matches('}').to_owned())),
                None => (name, None),
            };
            let is_whole = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            let prefix = if is_whole { "" } else { PREFIXES[0] };
            (format!("{prefix}{name}"), label)
        })
        .collect()
}

/// A metric's name in an expression, with what is asked of our labels.
#[derive(Debug)]
struct Use<'a> {
    name: &'a str,
    matchers: Vec<(&'a str, &'a str)>,
}

fn used(text: &str) -> Vec<Use<'_>> {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let starts = text
        .char_indices()
        .filter(|(at, c)| is_inside(*c) && !text[..*at].chars().next_back().is_some_and(is_inside));
    starts
        .filter_map(|(at, _)| name_at(&text[at..]))
        .map(|(name, rest)| Use { name, matchers: matchers(rest) })
        .collect()
}

/// The name of a metric with which `text` begins, and what follows it.
fn name_at(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let is_ours = PREFIXES.iter().any(|prefix| text.starts_with(prefix));
    is_ours.then(|| text.split_at(end))
}

/// The labels of ours in the braces with which `text` may begin, each with every
/// value that an alternation such as `=~"full|starting"` names.
fn matchers(text: &str) -> Vec<(&str, &str)> {
    let braces = text.strip_prefix('{').and_then(|text| text.split_once('}'));
    let inside = braces.map_or("", |(inside, _)| inside);
    inside
        .split(',')
        .filter_map(|matcher| matcher.trim().split_once('='))
        .filter(|(label, _)| LABELS.contains(label))
        .flat_map(|(label, value)| {
            let values = value.trim_start_matches('~').trim_matches('"');
            values.split('|').map(move |value| (label, value))
        })
        .collect()
}

/// Everything that stands under `expr`, at any depth.
fn collect_expressions<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str));
            fields.values().for_each(|field| collect_expressions(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_expressions(item, found)),
        _ => {}
    }
}

#[test]
fn a_use_is_found_with_what_it_asks_for() {
    let text = r#"sum(rate(sse_x{job=~"$job", reason=~"a|b"}[5m])) / notify_gateway_y > not_sse_z"#;
    let used: Vec<_> = used(text).into_iter().map(|used| (used.name, used.matchers)).collect();
    assert_eq!(
        used,
        [("sse_x", vec![("reason", "a"), ("reason", "b")]), ("notify_gateway_y", vec![])]
    );
}
