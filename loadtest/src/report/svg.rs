//! Line plots as SVG, drawn by hand: a page with them needs nothing else, and
//! their colours follow the reader's light or dark.

use std::fmt::Write as _;

/// Of the drawing, not of the screen: it scales.
const WIDTH: f64 = 520.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// About so many labels on an axis.
const LABELS: f64 = 5.0;

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero.
    Linear,
    Log,
    /// A number of nines: 1 is 90 %, 2 is 99 %.
    Nines,
}

pub(crate) struct Series {
    pub(crate) name: String,
    /// The place in the page's palette.
    pub(crate) color: usize,
    pub(crate) points: Vec<(f64, f64)>,
    /// A dot at each point: for points that were measured one by one.
    pub(crate) dots: bool,
}

pub(crate) struct Plot<'a> {
    pub(crate) x: (&'a str, Scale),
    pub(crate) y: (&'a str, Scale),
    pub(crate) series: Vec<Series>,
    pub(crate) height: f64,
}

impl Plot<'_> {
    /// The drawing with its legend; nothing where there is nothing to draw.
    pub(crate) fn render(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        if points().all(|point| point.1 == 0.0) {
            return String::new();
        }
        let mut x = Axis::over(self.x.1, points().map(|point| point.0));
        if x.scale == Scale::Linear {
            // Values end below a round number; time ends when it ends.
            x.to = points().map(|point| point.0).fold(f64::MIN_POSITIVE, f64::max);
        }
        let y = Axis::over(self.y.1, points().map(|point| point.1));
        let (bottom, right) = (self.height - BOTTOM, WIDTH - RIGHT);
        let place_x = |value| LEFT + x.place(value) * (right - LEFT);
        let place_y = |value| bottom - y.place(value) * (bottom - TOP);
        let mut out = String::new();
        put(&mut out, &format!(r#"<svg viewBox="0 0 {WIDTH} {}" role="img">"#, self.height));
        for (value, label) in y.labels() {
            let at = place_y(value);
            put(
                &mut out,
                &format!(
                    r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/>"#
                ),
            );
            put(&mut out, &text(LEFT - 8.0, at + 4.0, "end", &label));
        }
        for (value, label) in x.labels() {
            let at = place_x(value);
            put(
                &mut out,
                &format!(
                    r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{bottom}"/>"#
                ),
            );
            put(&mut out, &text(at, bottom + 16.0, "middle", &label));
        }
        put(&mut out, &text(f64::midpoint(LEFT, right), self.height - 6.0, "middle", self.x.0));
        let middle = f64::midpoint(TOP, bottom);
        put(
            &mut out,
            &format!(
                r#"<text class="label" text-anchor="middle" transform="translate(12 {middle:.1}) rotate(-90)">{}</text>"#,
                escape(self.y.0)
            ),
        );
        for series in &self.series {
            let Series { name, color, points, dots } = series;
            let path: Vec<String> = points
                .iter()
                .map(|&(x, y)| format!("{:.1},{:.1}", place_x(x), place_y(y)))
                .collect();
            put(
                &mut out,
                &format!(
                    r#"<polyline class="line c{color}" points="{}"><title>{}</title></polyline>"#,
                    path.join(" "),
                    escape(name)
                ),
            );
            if *dots {
                for &(x, y) in points {
                    let title = format!("{}: {} at {}", escape(name), short(y), short(x));
                    put(
                        &mut out,
                        &format!(
                            r#"<circle class="dot c{color}" cx="{:.1}" cy="{:.1}" r="4"><title>{title}</title></circle>"#,
                            place_x(x),
                            place_y(y)
                        ),
                    );
                }
            }
        }
        out += "</svg>";
        if self.series.len() > 1 {
            out += &self.legend();
        }
        out
    }

    fn legend(&self) -> String {
        let entries: Vec<String> = self
            .series
            .iter()
            .map(|series| {
                format!(r#"<span><i class="c{}"></i>{}</span>"#, series.color, escape(&series.name))
            })
            .collect();
        format!(r#"<p class="legend">{}</p>"#, entries.join(""))
    }
}

struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        // A logarithm knows no zero: a microsecond is as near as it matters.
        let floor = if scale == Scale::Log { 1e-3 } else { 0.0 };
        let (low, high) = values
            .map(|value| value.max(floor))
            .fold((f64::INFINITY, floor), |(low, high), value| (low.min(value), high.max(value)));
        let (from, to) = match scale {
            Scale::Linear => {
                let step = nice(high / LABELS);
                (0.0, if high > 0.0 { (high / step).ceil() * step } else { 1.0 })
            }
            Scale::Log => {
                (10f64.powf(low.log10().floor()), 10f64.powf((high * 1.0001).log10().ceil()))
            }
            Scale::Nines => (0.0, high.max(1.0)),
        };
        Self { scale, from, to }
    }

    /// 0 is the beginning of the axis, 1 its end.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear | Scale::Nines => (value - self.from) / (self.to - self.from),
            Scale::Log => {
                (value.max(self.from) / self.from).log10() / (self.to / self.from).log10()
            }
        }
    }

    fn labels(&self) -> Vec<(f64, String)> {
        let up_to = |step: f64| (0..).map(move |n| f64::from(n) * step);
        match self.scale {
            Scale::Linear => {
                let step = nice(self.to / LABELS);
                let values = up_to(step).take_while(|value| *value <= self.to * 1.0001);
                values.map(|value| (value, short(value))).collect()
            }
            Scale::Log => {
                let decades = (self.to / self.from).log10().round();
                let values = up_to(1.0).take_while(|n| *n <= decades + 0.1);
                values
                    .map(|n| self.from * 10f64.powf(n))
                    .map(|value| (value, short(value)))
                    .collect()
            }
            Scale::Nines => {
                const NAMES: [&str; 6] =
                    ["90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
                let half = (2f64.log10(), "50 %".to_owned());
                let nines =
                    up_to(1.0).skip(1).zip(NAMES).map(|(nines, name)| (nines, name.to_owned()));
                nines.chain([half]).filter(|(nines, _)| *nines <= self.to).collect()
            }
        }
    }
}

/// The next of 1, 2, 5, 10, … that is not below.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|n| n * power)
        .into_iter()
        .find(|nice| *nice >= step * 0.9999)
        .unwrap_or(step)
}

/// A number as short as an axis has room for.
pub(crate) fn short(value: f64) -> String {
    let plain = |value: f64| {
        let digits = if value == 0.0 || value >= 100.0 {
            0
        } else if value >= 1.0 {
            2
        } else {
            3
        };
        let text = format!("{value:.digits$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    };
    match value {
        value if value >= 1e6 => plain(value / 1e6) + " M",
        value if value >= 1e4 => plain(value / 1e3) + " k",
        value => plain(value),
    }
}

/// Text into HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn text(x: f64, y: f64, anchor: &str, label: &str) -> String {
    let label = escape(label);
    format!(r#"<text class="label" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{label}</text>"#)
}

fn put(out: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _written = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        let axis = Axis::over(scale, values.iter().copied());
        axis.labels().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn axes_have_round_labels() {
        assert_eq!(labels(Scale::Linear, &[0.0, 930.0]), ["0", "200", "400", "600", "800", "1000"]);
        assert_eq!(labels(Scale::Log, &[0.3, 45.0]), ["0.1", "1", "10", "100"]);
        assert_eq!(labels(Scale::Nines, &[0.0, 2.5]), ["90 %", "99 %", "50 %"]);
        assert_eq!(labels(Scale::Linear, &[0.0]), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
    }

    #[test]
    fn everything_is_drawn_inside_the_frame() {
        for scale in [Scale::Linear, Scale::Log, Scale::Nines] {
            let values = [0.0, 0.01, 7.0, 123.0];
            let axis = Axis::over(scale, values.into_iter());
            for value in values {
                let place = axis.place(value);
                assert!((0.0..=1.0).contains(&place), "{scale:?} {value} {place}");
            }
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_page() {
        assert_eq!(escape("<a b=\"c\">&"), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
