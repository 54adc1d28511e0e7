//! What a person sees while a run goes on: bars on a terminal, plain lines elsewhere. Both on standard error.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use metad2a_pipeline::planner::{Progress, Stage};

use crate::pace::{Pace, seconds_left};

/// Between two plain lines, unless a stage ends.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

pub(crate) struct Reporter {
    bars: Option<Bars>,
    last_line: Option<Instant>,
    pace: Pace,
    shown: BTreeSet<Stage>,
}

struct Bars {
    all: MultiProgress,
    by_stage: BTreeMap<Stage, ProgressBar>,
}

impl Reporter {
    pub(crate) fn new() -> Self {
        let bars = std::io::stderr()
            .is_terminal()
            .then(|| Bars { all: MultiProgress::new(), by_stage: BTreeMap::new() });
        Self { bars, last_line: None, pace: Pace::default(), shown: BTreeSet::new() }
    }

    /// A sentence above the bars.
    pub(crate) fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.all.println(line).unwrap_or_else(|_| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Shows how far each stage is.
    pub(crate) fn show(&mut self, stages: &BTreeMap<Stage, Progress>) {
        let now = Instant::now();
        for stage in self.pace.observe(now, stages) {
            let (progress, rate) = (stages[&stage], self.pace.rate(stage));
            let first = self.shown.insert(stage);
            match &mut self.bars {
                Some(bars) => bars.update(stage, progress, rate),
                None if first => {}
                None => {
                    let due = self.last_line.is_none_or(|last| now - last >= BETWEEN_LINES);
                    if due || progress.is_settled() {
                        self.last_line = Some(now);
                        eprintln!("{}", line(stage, progress, rate));
                    }
                }
            }
        }
    }

    /// Leaves the bars as they are and ends.
    pub(crate) fn finish(&mut self) {
        if let Some(bars) = self.bars.take() {
            for bar in bars.by_stage.values() {
                bar.abandon();
            }
        }
    }
}

impl Bars {
    fn update(&mut self, stage: Stage, progress: Progress, rate: Option<f64>) {
        let all = &self.all;
        let bar = self.by_stage.entry(stage).or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix:>13} {wide_bar:.cyan/dim} {pos}/{len} {msg}");
            let bar = ProgressBar::new(progress.total).with_prefix(stage.name());
            if let Ok(style) = style {
                bar.set_style(style);
            }
            all.add(bar)
        });
        bar.set_length(progress.total);
        bar.set_position(progress.total - progress.left());
        bar.set_message(remark(progress, rate));
    }
}

pub(crate) fn line(stage: Stage, progress: Progress, rate: Option<f64>) -> String {
    let head = format!("{}: {} of {} {}", stage.name(), progress.done, progress.total, stage.unit());
    let remark = remark(progress, rate);
    if remark.is_empty() { head } else { format!("{head}, {remark}") }
}

fn remark(progress: Progress, rate: Option<f64>) -> String {
    let mut parts = Vec::new();
    for (count, what) in
        [(progress.failed, "failed"), (progress.cancelled, "cancelled"), (progress.dropped, "dropped")]
    {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    if let (Some(rate), Some(left)) = (rate, seconds_left(progress, rate)) {
        parts.push(format!("{rate:.1}/s, {} left", duration(left)));
    }
    parts.join(", ")
}

/// As a person says it: `45 s`, `3 min`, `2.5 h`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if seconds < 5_400.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3_600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_stage_count_failures_rate_and_time_left() {
        let progress = Progress { done: 30, failed: 2, total: 120, ..Progress::default() };
        let told = line(Stage::Evaluations, progress, Some(2.0));
        assert_eq!(told, "evaluations: 30 of 120 trainings, 2 failed, 2.0/s, 44 s left");
        let done = Progress { done: 4, total: 4, ..Progress::default() };
        assert_eq!(line(Stage::Features, done, Some(1.0)), "features: 4 of 4 class shards");
        let cancelled = Progress { done: 1, cancelled: 3, total: 4, ..Progress::default() };
        assert_eq!(line(Stage::Features, cancelled, None), "features: 1 of 4 class shards, 3 cancelled");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!([duration(4.4), duration(200.0), duration(9_000.0)], ["4 s", "3 min", "2.5 h"]);
    }
}
