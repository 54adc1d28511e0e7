//! What a planner has open, and what failed: views of its boards, place by place.

use std::collections::BTreeMap;

use super::state::extraction;
use super::{Failure, Place, Planner, Stage, evaluations};
use crate::study::Bundle;
use crate::tasks::{Kind, Task};

impl Planner<'_> {
    /// Places with open tasks, the most urgent first.
    pub fn open_places(&self) -> impl Iterator<Item = Place> {
        let at = |stage| move |number| Place { stage, number };
        let searches = self.searches.iter().flat_map(|searches| searches.board.open());
        let measurements = self.measurements.iter().flat_map(|measurements| measurements.board.open());
        (self.features.open().map(at(Stage::Features)))
            .chain(self.evaluations.open().map(at(Stage::Evaluations)))
            .chain(self.generator.open().map(at(Stage::Generator)))
            .chain(self.predictor.open().map(at(Stage::Predictor)))
            .chain(searches.map(at(Stage::Search)))
            .chain(measurements.map(at(Stage::Measurements)))
    }

    /// Places whose open tasks may be others since the last call; at first all that have some.
    pub fn take_changes(&mut self) -> Vec<Place> {
        let retired = std::mem::take(&mut self.retired);
        let at = |stage| move |number| Place { stage, number };
        let searches = self.searches.iter_mut().flat_map(|searches| searches.board.take_changes());
        let measurements =
            self.measurements.iter_mut().flat_map(|measurements| measurements.board.take_changes());
        (retired.into_iter())
            .chain(self.features.take_changes().into_iter().map(at(Stage::Features)))
            .chain(self.evaluations.take_changes().into_iter().map(at(Stage::Evaluations)))
            .chain(self.generator.take_changes().into_iter().map(at(Stage::Generator)))
            .chain(self.predictor.take_changes().into_iter().map(at(Stage::Predictor)))
            .chain(searches.map(at(Stage::Search)))
            .chain(measurements.map(at(Stage::Measurements)))
            .collect()
    }

    /// The open tasks at a place, with their ids.
    pub fn tasks(&self, place: Place) -> Vec<(String, Task)> {
        let named = |task: Task| (task.id(), task);
        let bundle = |bundle: &Bundle<'_>| {
            let sorted = evaluations::sort(&self.existing, bundle, &mut Vec::new());
            sorted.tasks(bundle).into_iter().map(named).collect()
        };
        match place.stage {
            Stage::Features if self.features.is_open(place.number) => {
                vec![named(extraction(self.study, place.number))]
            }
            Stage::Evaluations => bundle(&self.study.bundle(place.number as usize)),
            Stage::Generator => self.generator.task(place.number).cloned().into_iter().collect(),
            Stage::Predictor => self.predictor.task(place.number).cloned().into_iter().collect(),
            Stage::Search => {
                let searches = self.searches.iter().filter(|searches| searches.board.is_open(place.number));
                searches.map(|searches| searches.task(place.number)).collect()
            }
            Stage::Measurements => {
                let measurements = self.measurements.iter();
                measurements
                    .filter(|measurements| measurements.board.has(place.number))
                    .flat_map(|measurements| bundle(&measurements.bundle(self.study, place.number)))
                    .collect()
            }
            Stage::Features => Vec::new(),
        }
    }

    /// How many tasks may run now, by kind.
    pub fn count_open(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for place in self.open_places() {
            for (_, task) in self.tasks(place) {
                *counts.entry(task.kind()).or_default() += 1;
            }
        }
        counts
    }

    /// What failed for good, one line each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for place in self.features.failed() {
            let task = extraction(self.study, place);
            let id = task.id();
            problems.extend(self.existing.failure(&id).map(|failure| problem(&task, &id, failure)));
        }
        let sort = |bundle| evaluations::sort(&self.existing, &bundle, &mut Vec::new()).problems();
        problems.extend(self.evaluations.failed().flat_map(|place| sort(self.study.bundle(place as usize))));
        problems.extend(self.generator.problems().iter().chain(self.predictor.problems()).cloned());
        if let Some(searches) = &self.searches {
            let failed = searches.board.failed();
            problems.extend(failed.filter_map(|place| searches.problem(&self.existing, place)));
        }
        if let Some(measurements) = &self.measurements {
            let failed = measurements.board.failed();
            problems.extend(failed.flat_map(|place| sort(measurements.bundle(self.study, place))));
        }
        problems
    }
}

pub(super) fn problem(task: &Task, id: &str, failure: &Failure) -> String {
    format!("{} task `{id}` failed: {}", task.kind().name(), failure.last_reason())
}
