//! Trainings of cells: which units are missing, which failed, and what the models may learn from.

use std::collections::{HashMap, HashSet};

use super::board::Look;
use super::{Existing, Planner};
use crate::ids::Id;
use crate::imports;
use crate::study::Bundle;
use crate::tasks::{Task, Unit};
use crate::training_set::{ChosenDataset, ChosenSet, Group};
use crate::verdict::Verdict;

/// A ranking needs two cells.
const LEAST_UNITS: usize = 2;

/// The units of a bundle by what became of them.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    done: u16,
    /// Missing, and to be trained in one task.
    together: Vec<Unit>,
    /// Missing, and given up in company: one bad cell must not lose its companions.
    alone: Vec<Task>,
    /// What a person cancelled or dropped, alone or with its whole bundle.
    set_aside: Look,
    /// One line for each unit that was given up alone.
    problems: Vec<String>,
}

/// Sorts the units of a bundle; `ids` receives theirs.
pub(super) fn sort(existing: &Existing, bundle: &Bundle<'_>, ids: &mut Vec<Id>) -> Sorted {
    let mut sorted = Sorted::default();
    for unit in bundle.units {
        let id = bundle.unit_id(unit);
        ids.push(id);
        let single = || Task::Evaluate(bundle.evaluate(vec![*unit]));
        if existing.has_row(id) {
            sorted.done += 1;
            continue;
        }
        match existing.verdict_on(id, single) {
            Some(verdict @ (Verdict::Cancelled | Verdict::Dropped)) => {
                sorted.set_aside.count_stopped(verdict);
            }
            Some(Verdict::Failed) => sorted.settle_alone(existing, single()),
            Some(Verdict::Retry) | None => sorted.together.push(*unit),
        }
    }
    sorted
}

impl Sorted {
    fn settle_alone(&mut self, existing: &Existing, single: Task) {
        let id = single.id();
        if existing.is_done(&id) {
            self.done += 1;
        } else if let Some(failure) = existing.failure(&id) {
            self.problems.push(super::open::problem(&single, &id, failure));
        } else {
            self.alone.push(single);
        }
    }

    pub(super) fn look(&self) -> Look {
        Look {
            done: self.done,
            failed: self.problems.len() as u16,
            cancelled: self.set_aside.cancelled,
            dropped: self.set_aside.dropped,
            open: !(self.together.is_empty() && self.alone.is_empty()),
        }
    }

    pub(super) fn problems(self) -> Vec<String> {
        self.problems
    }

    pub(super) fn tasks(self, bundle: &Bundle<'_>) -> Vec<Task> {
        let together = (!self.together.is_empty()).then(|| Task::Evaluate(bundle.evaluate(self.together)));
        together.into_iter().chain(self.alone).collect()
    }
}

impl Planner<'_> {
    /// The rows and features that exist, or why no model can learn from them.
    pub(super) fn choose_training_set(&self) -> Result<ChosenSet, String> {
        let (study, known) = (self.study, self.existing.imports());
        let imported = imports::rows_for(&study.specification, known, &study.extractor)
            .map_err(|problems| problems.join("; "))?;
        let mut set = ChosenSet { imported, ..ChosenSet::default() };
        let mut bundles: HashMap<&str, Vec<u32>> = HashMap::new();
        let second_wave = self.second_wave.iter().flat_map(|wave| wave.bundles(study));
        for (place, bundle) in (0..).zip(study.bundles().chain(second_wave)) {
            bundles.entry(&bundle.dataset.id).or_default().push(place);
        }
        for dataset in &self.study.datasets {
            if !matches!(dataset.group, Group::MetaTrain | Group::MetaValid) {
                continue;
            }
            let (mut seen, mut units) = (HashSet::new(), Vec::new());
            let held = set.evaluations.len();
            for place in bundles.get(dataset.id.as_str()).into_iter().flatten() {
                let Some(bundle) = self.evaluation(*place) else { continue };
                for unit in bundle.units.iter().map(|unit| bundle.unit_id(unit)) {
                    if let Some(holder) = self.existing.holder_of(unit).filter(|_| seen.insert(unit)) {
                        units.push(unit);
                        // Most bundles are held by one task.
                        if set.evaluations[held..].last() != Some(&holder) {
                            set.evaluations.push(holder);
                        }
                    }
                }
            }
            let has_features = dataset.features.iter().all(|id| self.existing.is_done(id));
            if units.len() < LEAST_UNITS || !has_features {
                set.evaluations.truncate(held);
                continue;
            }
            units.shrink_to_fit();
            set.datasets.push(ChosenDataset {
                id: dataset.id.clone(),
                group: dataset.group,
                dataset: dataset.dataset.clone(),
                features: dataset.features.clone(),
                units,
            });
        }
        set.evaluations.sort_unstable();
        set.evaluations.dedup();
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
}
