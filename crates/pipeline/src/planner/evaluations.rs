//! Trainings of cells: which units are missing, which failed, and what the models may learn from.

use std::collections::{BTreeSet, HashSet};

use super::{Planner, SearchResult, Stage};
use crate::study::StudyDataset;
use crate::tasks::{Evaluate, Task};
use crate::training_set::{Group, TrainingDataset, TrainingSet};

/// A ranking needs two cells.
const LEAST_UNITS: usize = 2;

impl Planner<'_> {
    pub(super) fn evaluate(&mut self) {
        let study = self.study;
        self.count(Stage::Evaluations).total =
            study.bundles.iter().map(|bundle| bundle.units.len() as u64).sum();
        for bundle in &study.bundles {
            self.settle_bundle(Stage::Evaluations, bundle);
        }
    }

    /// Trains the chosen and the random cells of a search.
    pub(super) fn measure(&mut self, search: &mut SearchResult) {
        let mut cells: Vec<_> = search.chosen.iter().map(|ranked| ranked.cell).collect();
        cells.extend(search.random.iter().copied().filter(|cell| !search.is_chosen(*cell)));
        for bundle in self.study.measurement(&search.dataset, &cells) {
            self.count(Stage::Measurements).total += bundle.units.len() as u64;
            self.settle_bundle(Stage::Measurements, &bundle);
            let holders =
                bundle.units.iter().filter_map(|unit| self.existing.holder_of(&bundle.unit_id(unit)));
            search.evaluations.extend(holders.map(str::to_owned));
        }
        search.evaluations.sort_unstable();
        search.evaluations.dedup();
    }

    /// Enqueues the units of a bundle that are still missing. Units of a bundle that was given up run alone, so that
    /// one bad cell does not lose its companions; a unit that was given up alone has failed.
    fn settle_bundle(&mut self, stage: Stage, bundle: &Evaluate) {
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for unit in &bundle.units {
            let id = bundle.unit_id(unit);
            let single = Evaluate { units: vec![*unit], ..bundle.clone() };
            if self.existing.holder_of(&id).is_some() {
                self.count(stage).done += 1;
            } else if self.given_up_in_company(&id) || self.given_up_alone(&single) {
                alone.push(single);
            } else {
                together.push(*unit);
            }
        }
        if !together.is_empty() {
            self.plan.enqueue.push(Task::Evaluate(Evaluate { units: together, ..bundle.clone() }));
        }
        for single in alone {
            self.settle(stage, Task::Evaluate(single));
        }
    }

    fn given_up_alone(&self, single: &Evaluate) -> bool {
        self.existing.failure(&Task::Evaluate(single.clone()).id()).is_some()
    }

    fn given_up_in_company(&self, unit: &str) -> bool {
        self.existing.failures().any(|failure| match &failure.task {
            Some(Task::Evaluate(task)) => {
                task.units.len() > 1 && task.units.iter().any(|member| task.unit_id(member) == unit)
            }
            _ => false,
        })
    }

    /// The rows and features that exist, or why no model can learn from them.
    pub(super) fn choose_training_set(&self) -> Result<TrainingSet, String> {
        let mut set = TrainingSet { datasets: Vec::new(), evaluations: Vec::new() };
        let mut holders = BTreeSet::new();
        for dataset in &self.study.datasets {
            if !matches!(dataset.group, Group::MetaTrain | Group::MetaValid) {
                continue;
            }
            let units = self.finished_units(dataset);
            let has_features = dataset.features.iter().all(|id| self.existing.is_done(id));
            if units.len() < LEAST_UNITS || !has_features {
                continue;
            }
            holders.extend(units.iter().filter_map(|unit| self.existing.holder_of(unit)).map(str::to_owned));
            set.datasets.push(TrainingDataset {
                id: dataset.id.clone(),
                group: dataset.group,
                dataset: dataset.dataset.clone(),
                features: dataset.features.clone(),
                units,
            });
        }
        set.evaluations = holders.into_iter().collect();
        for group in [Group::MetaTrain, Group::MetaValid] {
            if !set.datasets.iter().any(|dataset| dataset.group == group) {
                return Err(format!(
                    "no {} dataset has its features and at least {LEAST_UNITS} trained cells; \
                     mend the failed tasks and run again",
                    group.name()
                ));
            }
        }
        Ok(set)
    }

    /// Units of the study's bundles for `dataset` that have a row, in the study's order.
    fn finished_units(&self, dataset: &StudyDataset) -> Vec<String> {
        let mut seen = HashSet::new();
        self.study
            .bundles
            .iter()
            .filter(|bundle| bundle.dataset == dataset.dataset)
            .flat_map(|bundle| bundle.units.iter().map(|unit| bundle.unit_id(unit)))
            .filter(|unit| self.existing.holder_of(unit).is_some() && seen.insert(unit.clone()))
            .collect()
    }
}
