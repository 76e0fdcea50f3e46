//! Counters, gauges and histograms, and their text for Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Our own, because a histogram here has its buckets from the start: it keeps
//! nothing that a scrape would have to fetch, so it does not grow while nobody
//! scrapes. And a gauge may be called `…_total`, which the dashboards of this
//! feature expect of one.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `n`.
    pub fn increment(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Arc<AtomicU64>);

impl Gauge {
    pub(super) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn add(&self, change: f64) {
        let add = |bits| Some((f64::from_bits(bits) + change).to_bits());
        let _before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// How often something took how long.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// The upper bounds, in seconds, ascending; the last bucket has none.
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// Enough for five centuries.
    sum_nanos: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { bounds, counts, sum_nanos: AtomicU64::new(0) }))
    }

    pub(super) fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.0.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// All metrics that were declared, in that order.
#[derive(Debug, Default)]
pub(super) struct Register {
    families: Vec<Family>,
}

/// One metric with all its series.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    series: Series,
}

#[derive(Debug)]
enum Series {
    /// With a value of the label each.
    Counters(&'static str, Vec<(&'static str, Counter)>),
    Counter(Counter),
    Gauge(Gauge),
    /// Always 1: what there is to say is in the label.
    Info(&'static str, &'static str),
    Histogram(Histogram),
}

impl Register {
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let counter = Counter::default();
        self.declare(name, help, Series::Counter(counter.clone()));
        counter
    }

    /// One for each value of a label. All are shown as 0 from the start: an
    /// alert on a rate needs the series.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N] {
        let counters = values.map(|_| Counter::default());
        let series = values.into_iter().zip(counters.iter().cloned()).collect();
        self.declare(name, help, Series::Counters(label, series));
        counters
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let gauge = Gauge::default();
        self.declare(name, help, Series::Gauge(gauge.clone()));
        gauge
    }

    pub(super) fn info(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        value: &'static str,
    ) {
        self.declare(name, help, Series::Info(label, value));
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
    ) -> Histogram {
        let histogram = Histogram::new(bounds);
        self.declare(name, help, Series::Histogram(histogram.clone()));
        histogram
    }

    fn declare(&mut self, name: &'static str, help: &'static str, series: Series) {
        debug_assert!(self.families.iter().all(|family| family.name != name), "{name} twice");
        self.families.push(Family { name, help, series });
    }

    /// Appends the text of all of them.
    pub(super) fn render(&self, out: &mut String) {
        for family in &self.families {
            family.render(out);
        }
    }
}

impl Family {
    fn render(&self, out: &mut String) {
        let Self { name, help, series } = self;
        let kind = match series {
            Series::Counter(_) | Series::Counters(..) => "counter",
            Series::Gauge(_) | Series::Info(..) => "gauge",
            Series::Histogram(_) => "histogram",
        };
        head(out, name, help, kind);
        match series {
            Series::Counter(counter) => {
                line(out, format_args!("{name} {}", counter.0.load(Ordering::Relaxed)));
            }
            Series::Counters(label, counters) => {
                for (value, counter) in counters {
                    let count = counter.0.load(Ordering::Relaxed);
                    line(out, format_args!("{name}{{{label}=\"{value}\"}} {count}"));
                }
            }
            Series::Gauge(gauge) => line(out, format_args!("{name} {}", number(gauge.value()))),
            Series::Info(label, value) => {
                line(out, format_args!("{name}{{{label}=\"{value}\"}} 1"));
            }
            Series::Histogram(histogram) => histogram.render(out, name),
        }
    }
}

impl Histogram {
    fn render(&self, out: &mut String, name: &str) {
        let Buckets { bounds, counts, sum_nanos } = &*self.0;
        let mut below = 0;
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, count) in bounds.zip(counts) {
            below += count.load(Ordering::Relaxed);
            line(out, format_args!("{name}_bucket{{le=\"{}\"}} {below}", number(bound)));
        }
        let sum = Duration::from_nanos(sum_nanos.load(Ordering::Relaxed)).as_secs_f64();
        line(out, format_args!("{name}_sum {}", number(sum)));
        line(out, format_args!("{name}_count {below}"));
    }
}

/// The two lines that stand before a metric's own.
pub(super) fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

pub(super) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _written = writeln!(out, "{text}");
}

/// As the format writes numbers.
fn number(value: f64) -> String {
    if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_bound_and_all_below_it() {
        let mut register = Register::default();
        let histogram = register.histogram("x_seconds", "Help.", &[0.001, 0.5, 2.0]);
        for millis in [1, 2, 500, 501, 3000] {
            histogram.record(Duration::from_millis(millis));
        }
        let mut text = String::new();
        register.render(&mut text);
        assert_eq!(
            text,
            "# HELP x_seconds Help.\n# TYPE x_seconds histogram\n\
             x_seconds_bucket{le=\"0.001\"} 1\nx_seconds_bucket{le=\"0.5\"} 3\n\
             x_seconds_bucket{le=\"2\"} 4\nx_seconds_bucket{le=\"+Inf\"} 5\n\
             x_seconds_sum 4.004\nx_seconds_count 5\n"
        );
    }

    #[test]
    fn a_histogram_that_nobody_scrapes_does_not_grow() {
        let histogram = Histogram::new(&[0.001, 0.5, 2.0]);
        let before = histogram.0.counts.len();
        for _ in 0..100_000 {
            histogram.record(Duration::from_millis(1));
        }
        // All that it holds are these numbers.
        assert_eq!(histogram.0.counts.len(), before);
        assert_eq!(histogram.0.counts[0].load(Ordering::Relaxed), 100_000);
    }

    #[test]
    fn a_gauge_goes_up_and_down_and_may_be_infinite() {
        let mut register = Register::default();
        let gauge = register.gauge("x", "Help.");
        gauge.add(2.0);
        gauge.add(-0.5);
        let mut text = String::new();
        register.render(&mut text);
        assert!(text.ends_with("\nx 1.5\n"), "{text}");
        gauge.set(f64::INFINITY);
        text.clear();
        register.render(&mut text);
        assert!(text.ends_with("\nx +Inf\n"), "{text}");
    }
}
