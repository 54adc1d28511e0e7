//! How fast each stage goes. Pure: the caller brings the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use metad2a_pipeline::planner::{Progress, Stage};

/// Rates are not told before so much time has been measured.
const LEAST_TIME: Duration = Duration::from_millis(500);

/// The starts of the stages, as one process has seen them.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    starts: BTreeMap<Stage, (Instant, u64)>,
    seen: BTreeMap<Stage, Progress>,
    rates: BTreeMap<Stage, f64>,
}

impl Pace {
    /// Takes in how far each stage is, and returns those that have changed.
    pub(crate) fn observe(&mut self, now: Instant, stages: &BTreeMap<Stage, Progress>) -> Vec<Stage> {
        let mut changed = Vec::new();
        for (stage, progress) in stages {
            let before = self.seen.insert(*stage, *progress);
            if before == Some(*progress) {
                continue;
            }
            changed.push(*stage);
            // Rates count from the first sight of a stage, so that what was there before is not credited to this run.
            let first = before.map_or(progress.done, |before| before.done);
            let (start, done_before) = *self.starts.entry(*stage).or_insert((now, first));
            let (elapsed, done) = (now - start, progress.done.saturating_sub(done_before));
            if done > 0 && elapsed > LEAST_TIME {
                self.rates.insert(*stage, done as f64 / elapsed.as_secs_f64());
            } else {
                self.rates.remove(stage);
            }
        }
        // The clock of a stage starts when the one before it is over.
        let settled = |stage: &Stage| stages.get(stage).is_none_or(|progress| progress.is_settled());
        for (stage, progress) in stages {
            if stages.range(..*stage).any(|(before, _)| !settled(before)) {
                self.starts.remove(stage);
            } else {
                self.starts.entry(*stage).or_insert((now, progress.done));
            }
        }
        changed
    }

    /// Units of the stage a second, once there is something to measure.
    pub(crate) fn rate(&self, stage: Stage) -> Option<f64> {
        self.rates.get(&stage).copied()
    }
}

/// Seconds until nothing is left at this rate.
pub(crate) fn seconds_left(progress: Progress, rate: Option<f64>) -> Option<f64> {
    let rate = rate.filter(|rate| *rate > 0.0)?;
    (!progress.is_settled()).then(|| progress.left() as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluations(done: u64) -> BTreeMap<Stage, Progress> {
        BTreeMap::from([(Stage::Evaluations, Progress { done, total: 100, ..Progress::default() })])
    }

    #[test]
    fn a_rate_counts_from_the_first_sight_of_a_stage() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        assert_eq!(pace.observe(start, &evaluations(40)), [Stage::Evaluations]);
        assert_eq!(pace.rate(Stage::Evaluations), None);
        assert_eq!(pace.observe(start + Duration::from_secs(5), &evaluations(40)), []);
        pace.observe(start + Duration::from_secs(10), &evaluations(60));
        assert_eq!(pace.rate(Stage::Evaluations), Some(2.0));
        let left = seconds_left(evaluations(60)[&Stage::Evaluations], Some(2.0));
        assert_eq!(left, Some(20.0));
    }

    #[test]
    fn the_clock_of_a_stage_does_not_run_while_an_earlier_one_does() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let stages = |features, evaluations| {
            BTreeMap::from([
                (Stage::Features, Progress { done: features, total: 1, ..Progress::default() }),
                (Stage::Evaluations, Progress { done: evaluations, total: 9, ..Progress::default() }),
            ])
        };
        pace.observe(start, &stages(0, 0));
        pace.observe(start + Duration::from_secs(100), &stages(1, 0));
        pace.observe(start + Duration::from_secs(110), &stages(1, 1));
        pace.observe(start + Duration::from_secs(112), &stages(1, 6));
        assert_eq!(pace.rate(Stage::Evaluations), Some(0.5));
    }
}
