//! What a planner has open, and what failed: views of its boards, place by place.

use std::collections::BTreeMap;

use super::state::extraction;
use super::{Failure, Place, Planner, Stage, evaluations};
use crate::study::Bundle;
use crate::tasks::{Kind, Task};

impl Planner<'_> {
    /// Places of the first wave of evaluations; those of the second follow.
    fn first_wave(&self) -> u32 {
        self.study.bundles().len() as u32
    }

    /// The bundle at a place of the evaluations; none where the second wave does not reach.
    pub(super) fn evaluation(&self, place: u32) -> Option<Bundle<'_>> {
        match place.checked_sub(self.first_wave()) {
            None => Some(self.study.bundle(place as usize)),
            Some(place) => {
                let wave = self.second_wave.as_ref().filter(|wave| wave.board.has(place))?;
                Some(wave.bundle(self.study, place))
            }
        }
    }

    /// Places with open tasks, the most urgent first.
    pub fn open_places(&self) -> impl Iterator<Item = Place> {
        let at = |stage| move |number| Place { stage, number };
        let first_wave = self.first_wave();
        let second_wave = self.second_wave.iter().flat_map(|wave| wave.board.open());
        let second_wave = second_wave.map(move |place| first_wave + place);
        let searches = self.searches.iter().flat_map(|searches| searches.board.open());
        let measurements = self.measurements.iter().flat_map(|measurements| measurements.board.open());
        (self.features.open().map(at(Stage::Features)))
            .chain(self.evaluations.open().map(at(Stage::Evaluations)))
            .chain(second_wave.map(at(Stage::Evaluations)))
            .chain(self.generator.open().map(at(Stage::Generator)))
            .chain(self.predictor.open().map(at(Stage::Predictor)))
            .chain(searches.map(at(Stage::Search)))
            .chain(measurements.map(at(Stage::Measurements)))
    }

    /// Places whose open tasks may be others since the last call; at first all that have some.
    pub fn take_changes(&mut self) -> Vec<Place> {
        let retired = std::mem::take(&mut self.retired);
        let at = |stage| move |number| Place { stage, number };
        let first_wave = self.first_wave();
        let second_wave = self.second_wave.iter_mut().flat_map(|wave| wave.board.take_changes());
        let second_wave = second_wave.map(move |place| first_wave + place);
        let searches = self.searches.iter_mut().flat_map(|searches| searches.board.take_changes());
        let measurements =
            self.measurements.iter_mut().flat_map(|measurements| measurements.board.take_changes());
        (retired.into_iter())
            .chain(self.features.take_changes().into_iter().map(at(Stage::Features)))
            .chain(self.evaluations.take_changes().into_iter().map(at(Stage::Evaluations)))
            .chain(second_wave.map(at(Stage::Evaluations)))
            .chain(self.generator.take_changes().into_iter().map(at(Stage::Generator)))
            .chain(self.predictor.take_changes().into_iter().map(at(Stage::Predictor)))
            .chain(searches.map(at(Stage::Search)))
            .chain(measurements.map(at(Stage::Measurements)))
            .collect()
    }

    /// The open tasks at a place, with their ids.
    pub fn tasks(&self, place: Place) -> Vec<(String, Task)> {
        let named = |task: Task| (task.id(), task);
        let bundle = |bundle: &Bundle<'_>| -> Vec<(String, Task)> {
            let sorted = evaluations::sort(&self.existing, bundle, &mut Vec::new());
            sorted.tasks(bundle).into_iter().map(named).collect()
        };
        match place.stage {
            Stage::Features if self.features.is_open(place.number) => {
                vec![named(extraction(self.study, place.number))]
            }
            Stage::Evaluations => self.evaluation(place.number).iter().flat_map(bundle).collect(),
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
        if let Some(wave) = &self.second_wave {
            problems.extend(wave.board.failed().flat_map(|place| sort(wave.bundle(self.study, place))));
        }
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
