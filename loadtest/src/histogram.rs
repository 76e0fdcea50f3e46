//! Latencies: an HDR histogram with three significant digits, in nanoseconds.
//!
//! It travels between processes, and into the JSON report, as its recorded
//! buckets: merging those gives what one histogram of all values would hold.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// An hour; what takes longer counts as an hour.
const MAX_NS: u64 = 3_600_000_000_000;

/// A thousandth of a value is as fine as anyone can make use of.
const SIGNIFICANT_DIGITS: u8 = 3;

/// The quantiles a curve is drawn through, as nines: 10 steps a decade.
const CURVE_POINTS_PER_NINE: u32 = 10;

/// Recorded buckets: a value in nanoseconds, and how often it came.
pub(crate) type Buckets = Vec<(u64, u64)>;

/// A histogram being filled.
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    #[expect(clippy::expect_used, reason = "the bounds are constants the library accepts")]
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX_NS, SIGNIFICANT_DIGITS);
        Self(histogram.expect("constant bounds"))
    }
}

impl Latencies {
    /// The histogram that was taken apart by [`Latencies::buckets`].
    pub(crate) fn of(buckets: &Buckets) -> Self {
        let mut latencies = Self::default();
        latencies.merge(buckets);
        latencies
    }

    /// Records what took `ns`.
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds those of another process.
    pub(crate) fn merge(&mut self, buckets: &Buckets) {
        for &(value, count) in buckets {
            self.0.saturating_record_n(value, count);
        }
    }

    /// What is recorded, to be sent or stored.
    pub(crate) fn buckets(&self) -> Buckets {
        let recorded = self.0.iter_recorded();
        recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that the share `quantile` of all values does not exceed.
    pub(crate) fn at(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// The figures people ask for; none where nothing was recorded.
    pub(crate) fn summary(&self) -> Option<Summary> {
        if self.is_empty() {
            return None;
        }
        let at = |quantile| ms(self.at(quantile));
        Some(Summary {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1e6,
            min_ms: ms(Duration::from_nanos(self.0.min())),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(self.max()),
            buckets: self.buckets(),
        })
    }
}

/// A histogram as the report holds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) mean_ms: f64,
    pub(crate) min_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
    /// All of it: nanoseconds, and how often.
    pub(crate) buckets: Buckets,
}

impl Summary {
    /// The value that the share `quantile` of all values does not exceed.
    pub(crate) fn at_ms(&self, quantile: f64) -> f64 {
        ms(Latencies::of(&self.buckets).at(quantile))
    }

    /// The latency by percentile: a number of nines (1 is 90 %, 2 is 99 %) and
    /// milliseconds, up to the last value there is.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let latencies = Latencies::of(&self.buckets);
        let count = u32::try_from(self.count.max(1)).unwrap_or(u32::MAX);
        let last_nine = f64::from(count).log10();
        (0..)
            .map(|step| f64::from(step) / f64::from(CURVE_POINTS_PER_NINE))
            .take_while(|nines| *nines < last_nine)
            .chain([last_nine])
            .map(|nines| (nines, ms(latencies.at(1.0 - 10f64.powf(-nines)))))
            .collect()
    }
}

/// Milliseconds, for people.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_parts_are_what_one_histogram_would_hold() {
        let (mut whole, mut parts) = (Latencies::default(), Latencies::default());
        for part in 0..3u64 {
            let mut own = Latencies::default();
            for value in (1..1000u64).map(|n| n * n * 1000 * (part + 1)) {
                own.record(value);
                whole.record(value);
            }
            parts.merge(&own.buckets());
        }
        assert_eq!(parts.buckets(), whole.buckets());
        assert_eq!(parts.at(0.99), whole.at(0.99));
    }

    #[test]
    fn a_curve_ends_at_the_slowest_value() {
        let mut latencies = Latencies::default();
        (1..=1000u64).for_each(|n| latencies.record(n * 1_000_000));
        let curve = latencies.summary().unwrap().curve();
        assert!(curve.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        let (nines, slowest) = *curve.last().unwrap();
        assert!((nines - 3.0).abs() < 1e-9);
        assert!((999.0..1001.0).contains(&slowest), "{slowest}");
    }

    #[test]
    fn nothing_recorded_has_no_summary() {
        assert_eq!(Latencies::default().summary(), None);
    }
}
