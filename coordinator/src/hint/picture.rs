//! What the leader has heard, put together. Pure: the caller brings the time.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use metad2a_pipeline::envelope::Event;
use metad2a_pipeline::planner::{Progress, Stage};
use metad2a_pipeline::tasks::Kind;

use super::{Busy, Hint, Outcome, RunName, StageHint, TaskHint, WorkerHint};
use crate::pace::{Pace, seconds_left};

/// A hint stays small enough to be written every two seconds.
const MOST_IN_FLIGHT: usize = 1_000;
/// A worker that was not heard of for so long is gone.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::hours(1);

#[derive(Debug)]
pub(crate) struct Picture {
    run: RunName,
    pace: Pace,
    stages: BTreeMap<Stage, Progress>,
    workers: BTreeMap<String, WorkerHint>,
    /// By id.
    in_flight: HashMap<String, Kind>,
    retries: u64,
    outcome: Option<Outcome>,
}

impl Picture {
    pub(crate) fn new(run: RunName) -> Self {
        Self {
            run,
            pace: Pace::default(),
            stages: BTreeMap::new(),
            workers: BTreeMap::new(),
            in_flight: HashMap::new(),
            retries: 0,
            outcome: None,
        }
    }

    /// How far each stage is; whether that is news.
    pub(crate) fn set_stages(&mut self, now: Instant, stages: &BTreeMap<Stage, Progress>) -> bool {
        self.stages.clone_from(stages);
        !self.pace.observe(now, stages).is_empty()
    }

    /// What is published and not settled; whether that is news.
    pub(crate) fn set_in_flight(&mut self, tasks: Vec<(String, Kind)>) -> bool {
        let before = std::mem::replace(&mut self.in_flight, tasks.into_iter().collect());
        before != self.in_flight
    }

    pub(crate) fn hear(&mut self, now: DateTime<Utc>, event: &Event) {
        match event {
            Event::Started { task, kind, worker } => {
                // A task that was given to another worker is lost to the first.
                for other in self.workers.values_mut() {
                    other.busy.take_if(|busy| busy.task.id == *task);
                }
                let task = TaskHint { id: task.clone(), kind: kind.clone() };
                self.worker(now, worker).busy = Some(Busy { task, since: now, progress: None });
            }
            Event::Progress { task, worker, done, total }
            | Event::Sliced { task, worker, done, total, .. } => {
                let kind = self.in_flight.get(task).map_or("task", |kind| kind.name()).to_owned();
                let slot = self.worker(now, worker);
                let busy = slot.busy.take().filter(|busy| busy.task.id == *task);
                let fresh = || Busy { task: TaskHint { id: task.clone(), kind }, since: now, progress: None };
                slot.busy = Some(Busy { progress: Some((*done, *total)), ..busy.unwrap_or_else(fresh) });
            }
            Event::Finished { worker, .. } => self.worker(now, worker).busy = None,
            Event::Failed { worker, gave_up, .. } => {
                self.worker(now, worker).busy = None;
                self.retries += u64::from(!gave_up);
            }
            Event::Decided => {}
        }
        self.workers.retain(|_, worker| now - worker.heard_at < FORGOTTEN_AFTER);
    }

    pub(crate) fn end(&mut self, outcome: Outcome) {
        for worker in self.workers.values_mut() {
            worker.busy = None;
        }
        self.in_flight.clear();
        self.outcome = Some(outcome);
    }

    pub(crate) fn hint(&self, now: DateTime<Utc>) -> Hint {
        let mut in_flight: Vec<TaskHint> = self
            .in_flight
            .iter()
            .map(|(id, kind)| TaskHint { id: id.clone(), kind: kind.name().to_owned() })
            .collect();
        in_flight.sort_unstable();
        in_flight.truncate(MOST_IN_FLIGHT);
        let stages = self.stages.iter().map(|(stage, progress)| {
            let per_second = self.pace.rate(*stage);
            let seconds_left = seconds_left(*progress, per_second);
            (*stage, StageHint { progress: *progress, per_second, seconds_left })
        });
        Hint {
            pipeline: self.run.pipeline.clone(),
            run_id: self.run.run_id.clone(),
            holder: self.run.holder.clone(),
            started_at: self.run.started_at,
            written_at: now,
            outcome: self.outcome.clone(),
            stages: stages.collect(),
            workers: self.workers.values().cloned().collect(),
            in_flight,
            in_flight_total: self.in_flight.len() as u64,
            retries: self.retries,
        }
    }

    fn worker(&mut self, now: DateTime<Utc>, name: &str) -> &mut WorkerHint {
        let fresh = || WorkerHint { name: name.to_owned(), heard_at: now, busy: None };
        let worker = self.workers.entry(name.to_owned()).or_insert_with(fresh);
        worker.heard_at = now;
        worker
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    pub(crate) fn picture() -> Picture {
        Picture::new(RunName {
            pipeline: "small".to_owned(),
            run_id: "0a1b".to_owned(),
            holder: "process 7 on ada".to_owned(),
            started_at: at(0),
        })
    }

    pub(crate) fn started(task: &str, worker: &str) -> Event {
        Event::Started { task: task.to_owned(), kind: "evaluate".to_owned(), worker: worker.to_owned() }
    }

    fn progress(task: &str, worker: &str, done: u64) -> Event {
        Event::Progress { task: task.to_owned(), worker: worker.to_owned(), done, total: 9 }
    }

    fn failed(task: &str, worker: &str, gave_up: bool) -> Event {
        Event::Failed {
            task: task.to_owned(),
            kind: "evaluate".to_owned(),
            worker: worker.to_owned(),
            attempt: 1,
            reason: "it crashed".to_owned(),
            gave_up,
        }
    }

    #[test]
    fn a_worker_does_what_it_said_last() {
        let mut picture = picture();
        picture.hear(at(1), &started("a", "w/0"));
        picture.hear(at(2), &progress("a", "w/0", 3));
        let busy = picture.hint(at(3)).workers[0].busy.clone().unwrap();
        assert_eq!((busy.task.id.as_str(), busy.since, busy.progress), ("a", at(1), Some((3, 9))));
        picture.hear(at(4), &failed("a", "w/0", false));
        picture.hear(at(5), &failed("a", "w/0", true));
        let hint = picture.hint(at(6));
        assert_eq!(
            (hint.workers[0].busy.is_none(), hint.workers[0].heard_at, hint.retries),
            (true, at(5), 1)
        );
    }

    #[test]
    fn a_task_has_one_worker_however_often_it_is_given() {
        let mut picture = picture();
        picture.hear(at(1), &started("a", "w/0"));
        picture.hear(at(2), &started("a", "w/1"));
        let busy: Vec<bool> =
            picture.hint(at(3)).workers.iter().map(|worker| worker.busy.is_some()).collect();
        assert_eq!(busy, [false, true]);
    }

    #[test]
    fn a_start_that_was_not_heard_is_made_up_for_by_progress() {
        let mut picture = picture();
        assert!(picture.set_in_flight(vec![("a".to_owned(), Kind::Search)]));
        assert!(!picture.set_in_flight(vec![("a".to_owned(), Kind::Search)]));
        picture.hear(at(2), &progress("a", "w/0", 1));
        let busy = picture.hint(at(3)).workers[0].busy.clone().unwrap();
        assert_eq!((busy.task.kind.as_str(), busy.since), ("search", at(2)));
    }

    #[test]
    fn workers_that_are_silent_for_long_are_forgotten_and_an_end_leaves_nothing_in_flight() {
        let mut picture = picture();
        picture.hear(at(1), &started("a", "w/0"));
        picture.hear(at(3_700), &started("b", "w/1"));
        assert_eq!(picture.hint(at(3_700)).workers.len(), 1);
        picture.set_in_flight(vec![("b".to_owned(), Kind::Evaluate)]);
        picture.end(Outcome { exit_code: 0, message: "done".to_owned() });
        let hint = picture.hint(at(3_701));
        assert_eq!((hint.in_flight_total, hint.workers[0].busy.is_none()), (0, true));
    }
}
