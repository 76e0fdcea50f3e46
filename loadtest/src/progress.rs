//! What a person sees while it runs; nothing where nobody looks.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{fleet::Totals, report::Sample, scenario::Scenario};

pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar over so many modes. One that is not on a terminal is not drawn.
    pub(crate) fn new(modes: usize, quiet: bool) -> Self {
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(modes as u64), target);
        let template = "{spinner} {prefix:.bold} {bar:20} {pos}/{len}  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    pub(crate) fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// A mode begins.
    pub(crate) fn begin(&self, scenario: &Scenario) {
        self.0.set_prefix(scenario.mode.name());
        self.0.set_message(scenario.description());
    }

    /// Shows what each sample says.
    pub(crate) fn watcher(&self) -> impl FnMut(&Sample, &Totals) + Send + 'static {
        let bar = self.0.clone();
        move |sample, totals| {
            let p99 = sample.p99_ms.map_or(String::new(), |ms| format!(", p99 {ms:.1} ms"));
            let cpu = sample
                .server_cores
                .map_or(String::new(), |c| format!(", server {:.0} %", c * 100.0));
            bar.set_message(format!(
                "{} open, {} received, {:.0}/s{p99}{cpu}",
                totals.open, totals.deliveries, sample.deliveries_per_s
            ));
        }
    }

    /// A mode is through.
    pub(crate) fn done(&self) {
        self.0.inc(1);
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
