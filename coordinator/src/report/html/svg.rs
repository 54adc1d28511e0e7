//! Scatter and line plots as SVG that a screen reader can tell.

use std::fmt::Write;

use maud::{Markup, html};

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 300.0;
/// Room for labels: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (58.0, 14.0, 12.0, 44.0);

/// An axis from `low` to `high`.
pub(super) struct Axis {
    pub(super) label: &'static str,
    low: f64,
    high: f64,
    logarithmic: bool,
    form: fn(f64) -> String,
}

impl Axis {
    /// An axis with a little room around all values.
    pub(super) fn linear(
        label: &'static str,
        values: impl Iterator<Item = f64>,
        form: fn(f64) -> String,
    ) -> Self {
        let (low, high) = range(values);
        let room = if high > low { (high - low) * 0.06 } else { low.abs().max(1.0) * 0.05 };
        Self { label, low: low - room, high: high + room, logarithmic: false, form }
    }

    /// The same on a logarithmic scale, for positive values; others lie on its edge.
    pub(super) fn logarithmic(
        label: &'static str,
        values: impl Iterator<Item = f64>,
        form: fn(f64) -> String,
    ) -> Self {
        let (low, high) = range(values.filter(|value| *value > 0.0));
        let low = if low > 0.0 { low } else { 1.0 };
        Self { label, low: low / 1.15, high: high.max(low) * 1.15, logarithmic: true, form }
    }

    /// Where a value lies: 0 at the low end, 1 at the high one.
    fn place(&self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.clamp(0.0, 1.0)
    }

    /// Round numbers on the axis, from low to high.
    fn ticks(&self) -> Vec<f64> {
        let inside = |value: &f64| (self.low..=self.high).contains(value);
        if self.logarithmic {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let of = |decade: i32| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(decade));
            let ticks: Vec<f64> = decades.flat_map(of).filter(inside).collect();
            if (2..=7).contains(&ticks.len()) {
                return ticks;
            }
        }
        let rough = (self.high - self.low) / 5.0;
        let unit = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * unit).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * unit);
        let first = (self.low / step).ceil() as i64;
        (first..first + 12).map(|count| count as f64 * step).filter(inside).collect()
    }
}

/// Of no values 0 to 1.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let none = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values.fold(none, |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// How a point is drawn; shapes tell series apart where colours do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Speck,
    Dot,
    Square,
    Triangle,
    Diamond,
}

impl Mark {
    /// An SVG path around a point.
    fn path(self, x: f64, y: f64) -> String {
        match self {
            Self::Speck => format!("M{x:.1} {y:.1}h0"),
            Self::Dot => format!("M{:.1} {y:.1}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z", x - 5.0),
            Self::Square => format!("M{:.1} {:.1}h9v9h-9z", x - 4.5, y - 4.5),
            Self::Triangle => format!("M{x:.1} {:.1}l5.5 10h-11z", y - 6.0),
            Self::Diamond => format!("M{x:.1} {:.1}l6 6l-6 6l-6 -6z", y - 6.0),
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Speck => "speck",
            Self::Dot | Self::Square | Self::Triangle | Self::Diamond => "mark",
        }
    }
}

/// Points of one kind.
pub(super) struct Series {
    pub(super) name: String,
    /// A colour of the style sheet, 1 to 6.
    pub(super) colour: usize,
    pub(super) mark: Option<Mark>,
    /// Dashes of the line that joins the points: lengths of strokes and gaps, empty for an unbroken one.
    pub(super) line: Option<&'static str>,
    pub(super) points: Vec<(f64, f64)>,
}

pub(super) struct Plot {
    /// Unique in the page.
    pub(super) id: String,
    pub(super) title: String,
    /// What there is to see, in words.
    pub(super) finding: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Drawn in this order, the last on top.
    pub(super) series: Vec<Series>,
}

impl Plot {
    pub(super) fn render(&self) -> Markup {
        let (left, right, top, bottom) = MARGIN;
        let (title, desc) = (format!("{}-title", self.id), format!("{}-desc", self.id));
        html! {
            figure class="plot" {
                figcaption { b { (self.title) } " " (self.finding) }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby=(format!("{title} {desc}")) {
                    title id=(title) { (self.title) }
                    desc id=(desc) { (self.finding) }
                    @for value in self.x.ticks() {
                        @let x = self.at(value, 0.0).0;
                        line class="grid" x1=(number(x)) x2=(number(x)) y1=(top) y2=(HEIGHT - bottom) {}
                        text x=(number(x)) y=(HEIGHT - bottom + 16.0) text-anchor="middle" { ((self.x.form)(value)) }
                    }
                    @for value in self.y.ticks() {
                        @let y = self.at(0.0, value).1;
                        line class="grid" x1=(left) x2=(WIDTH - right) y1=(number(y)) y2=(number(y)) {}
                        text x=(left - 6.0) y=(number(y + 4.0)) text-anchor="end" { ((self.y.form)(value)) }
                    }
                    text class="axis" x=((left + WIDTH - right) / 2.0) y=(HEIGHT - 8.0) text-anchor="middle" { (self.x.label) }
                    text class="axis" transform=(format!("translate(13 {}) rotate(-90)", (top + HEIGHT - bottom) / 2.0)) text-anchor="middle" { (self.y.label) }
                    @for series in self.series.iter().filter(|series| !series.points.is_empty()) { (self.drawn(series)) }
                }
                ul class="legend" {
                    @for series in self.series.iter().filter(|series| !series.points.is_empty()) { li { (sample(series)) " " (series.name) } }
                }
            }
        }
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (left, right, top, bottom) = MARGIN;
        let x = left + self.x.place(x) * (WIDTH - left - right);
        (x, HEIGHT - bottom - self.y.place(y) * (HEIGHT - top - bottom))
    }

    fn drawn(&self, series: &Series) -> Markup {
        let mut line = String::new();
        let mut marks = String::new();
        for (x, y) in &series.points {
            let (x, y) = self.at(*x, *y);
            let _ = write!(line, "{}{x:.1} {y:.1}", if line.is_empty() { 'M' } else { 'L' });
            if let Some(mark) = series.mark {
                marks.push_str(&mark.path(x, y));
            }
        }
        drawn(series, &line, &marks)
    }
}

fn drawn(series: &Series, line: &str, marks: &str) -> Markup {
    html! {
        g class=(format!("c{}", series.colour)) {
            @if let Some(dashes) = series.line { path class="line" d=(line) stroke-dasharray=[(!dashes.is_empty()).then_some(dashes)] {} }
            @if let Some(mark) = series.mark { path class=(mark.class()) d=(marks) {} }
        }
    }
}

/// The series as the legend shows it.
fn sample(series: &Series) -> Markup {
    let mark = series.mark.map(|mark| mark.path(17.0, 8.0)).unwrap_or_default();
    html! {
        svg class="sample" viewBox="0 0 34 16" aria-hidden="true" { (drawn(series, "M1 8L33 8", &mark)) }
    }
}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: f64) -> String {
        format!("{value}")
    }

    #[test]
    fn every_value_lies_on_its_axis_in_order() {
        for axis in [
            Axis::linear("x", [0.5, 0.7, 0.9].into_iter(), plain),
            Axis::logarithmic("x", [5e5, 1e6, 3e6].into_iter(), plain),
        ] {
            let (low, middle, high) = (axis.low * 1.001, f64::midpoint(axis.low, axis.high), axis.high);
            assert!(axis.place(low) < 0.01, "{}", axis.place(low));
            assert!(axis.place(low) < axis.place(middle) && axis.place(middle) < axis.place(high));
            assert!((axis.place(high) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_logarithmic_axis_gives_every_doubling_the_same_room() {
        let axis = Axis::logarithmic("x", [1.0, 64.0].into_iter(), plain);
        let room = |from: f64| axis.place(2.0 * from) - axis.place(from);
        assert!((room(2.0) - room(16.0)).abs() < 1e-9);
    }

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        let axis = Axis::linear("x", [0.771, 0.804].into_iter(), plain);
        let ticks: Vec<String> = axis.ticks().iter().map(|tick| format!("{tick:.3}")).collect();
        assert_eq!(ticks, ["0.770", "0.780", "0.790", "0.800"]);
        let axis = Axis::logarithmic("x", [5.1e5, 3.1e6].into_iter(), plain);
        assert_eq!(axis.ticks(), [5e5, 1e6, 2e6]);
    }

    #[test]
    fn one_value_and_no_value_have_an_axis_too() {
        for values in [&[][..], &[0.0], &[0.8]] {
            for axis in [
                Axis::linear("x", values.iter().copied(), plain),
                Axis::logarithmic("x", values.iter().copied(), plain),
            ] {
                let places = values.iter().map(|value| axis.place(*value));
                assert!(places.into_iter().all(f64::is_finite));
                assert!(axis.ticks().iter().all(|tick| tick.is_finite()));
            }
        }
    }

    #[test]
    fn a_plot_says_its_finding_and_draws_every_point() {
        let plot = Plot {
            id: "p".to_owned(),
            title: "Cost".to_owned(),
            finding: "a < b".to_owned(),
            x: Axis::linear("x", [1.0, 2.0].into_iter(), plain),
            y: Axis::linear("y", [1.0, 2.0].into_iter(), plain),
            series: vec![Series {
                name: "cells".to_owned(),
                colour: 1,
                mark: Some(Mark::Square),
                line: None,
                points: vec![(1.0, 1.0), (2.0, 2.0)],
            }],
        };
        let text = plot.render().into_string();
        assert!(text.contains("role=\"img\" aria-labelledby=\"p-title p-desc\""), "{text}");
        assert!(text.contains("<desc id=\"p-desc\">a &lt; b</desc>"), "{text}");
        assert_eq!(text.matches("h9v9h-9z").count(), 3, "two points and the legend");
    }
}
