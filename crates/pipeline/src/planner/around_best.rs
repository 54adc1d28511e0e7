//! The second wave of evaluations: cells around what the first one found good.
//!
//! ```text
//!   all other evaluations settled ─► WantedCells ─► (the shell reads rows) ─► choices, frozen ─► SecondWave
//! ```
//!
//! Each block of datasets that share cells has a choice of its own, keyed by what the block is and what was asked for. So
//! a dataset that comes later finds the choices of all others as they were, and only its own is made from what is known
//! by then.

use std::collections::{BTreeMap, BTreeSet};

use metad2a_randomness::Key;
use metad2a_search_space::Cell;

use super::board::Board;
use super::{Error, Existing, Freeze, Outcome, Planner, Step, evaluations};
use crate::around_best::{Trained, children, parents};
use crate::ids::Id;
use crate::study::{Bundle, Study, StudyDataset, WantedBlock};
use crate::tasks::Unit;
use crate::training_set::Group;

/// Cells to be chosen by results: read the rows of `units`, and freeze what [`WantedCells::choose`] says of them.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedCells {
    /// The `evaluate` tasks that hold the rows.
    pub evaluations: BTreeSet<Id>,
    /// Units of the meta-training datasets, all others of which are not looked at.
    pub units: BTreeSet<Id>,
    top: f64,
    blocks: Vec<WantedBlock>,
}

impl WantedCells {
    /// The choices from the rows of all wanted units, each to be frozen.
    ///
    /// # Panics
    /// Never: cells have a JSON form.
    pub fn choose(&self, rows: &[Trained]) -> Vec<Freeze> {
        let parents = parents(rows, self.top);
        let choice = |block: &WantedBlock| {
            let key = Key::new(&block.id, "cells around the best");
            let cells = children(&parents, &block.taken, &key, block.count);
            let detail = serde_json::to_value(cells).expect("cells are texts");
            Freeze { id: block.id.clone(), decision: "cells-around-best", detail }
        };
        self.blocks.iter().map(choice).collect()
    }
}

/// Trainings of the chosen cells, in bundles like all others.
#[derive(Debug, Clone)]
pub(super) struct SecondWave<'a> {
    pub(super) board: Board,
    bundles: Vec<(&'a StudyDataset, Vec<Unit>)>,
}

impl<'a> SecondWave<'a> {
    /// `cells` by the key of the block.
    fn new(study: &'a Study, existing: &Existing, cells: &BTreeMap<String, Vec<Cell>>) -> Self {
        let mut bundles = Vec::new();
        for dataset in study.learnt() {
            let units = study.evaluated_units(&cells[dataset.block()]);
            for units in units.chunks(study.specification.evaluations.bundle as usize) {
                bundles.push((dataset, units.to_vec()));
            }
        }
        let total = bundles.iter().map(|(_, units)| units.len() as u64).sum();
        let mut wave = Self { board: Board::default(), bundles };
        wave.board = Board::new(wave.bundles.len(), total, |place, ids| {
            evaluations::sort(existing, &wave.bundle(study, place), ids).look()
        });
        wave
    }

    pub(super) fn look_again(&mut self, study: &Study, existing: &Existing, place: u32) {
        let sorted = evaluations::sort(existing, &self.bundle(study, place), &mut Vec::new());
        self.board.put(place, sorted.look());
    }

    pub(super) fn bundle<'b>(&'b self, study: &'b Study, place: u32) -> Bundle<'b> {
        let (dataset, units) = &self.bundles[place as usize];
        study.evaluation(dataset, units)
    }

    pub(super) fn bundles<'b>(&'b self, study: &'b Study) -> impl Iterator<Item = Bundle<'b>> {
        self.bundles.iter().map(|(dataset, units)| study.evaluation(dataset, units))
    }

    pub(super) fn units(&self) -> Vec<(StudyDataset, Vec<Unit>)> {
        self.bundles.iter().map(|(dataset, units)| ((*dataset).clone(), units.clone())).collect()
    }
}

impl Planner<'_> {
    /// Opens the second wave once all other evaluations are settled and its cells are frozen; asks for the choices that
    /// are missing. Whether it is there, and settled, or not wanted at all.
    pub(super) fn second_wave(&mut self, step: &mut Step) -> Result<bool, Error> {
        let study = self.study;
        let Some(wanted) = &study.specification.evaluations.around_best else { return Ok(true) };
        if !self.evaluations.progress().is_settled() {
            return Ok(false);
        }
        if self.second_wave.is_none() {
            let (mut cells, mut missing) = (BTreeMap::new(), Vec::new());
            for block in study.wanted_blocks() {
                match self.existing.frozen::<Vec<Cell>>(&block.id, "list of cells")? {
                    Some(frozen) => drop(cells.insert(block.key, frozen)),
                    None => missing.push(block),
                }
            }
            if !missing.is_empty() {
                self.ask_for(missing, wanted.top, step);
                return Ok(false);
            }
            self.second_wave = Some(SecondWave::new(study, &self.existing, &cells));
        }
        Ok(self.second_wave.as_ref().is_some_and(|wave| wave.board.progress().is_settled()))
    }

    fn ask_for(&self, blocks: Vec<WantedBlock>, top: f64, step: &mut Step) {
        let mut wanted = WantedCells { evaluations: BTreeSet::new(), units: BTreeSet::new(), top, blocks };
        for bundle in self.study.bundles().filter(|bundle| bundle.dataset.group == Group::MetaTrain) {
            for unit in bundle.units.iter().map(|unit| bundle.unit_id(unit)) {
                if let Some(holder) = self.existing.holder_of(unit) {
                    wanted.units.insert(unit);
                    wanted.evaluations.insert(holder);
                }
            }
        }
        if !wanted.units.is_empty() {
            step.around_best = Some(wanted);
        } else if self.features.progress().is_settled() {
            let reason = "no cell was trained on a meta-train dataset, so none can be chosen around the best; \
                          mend the failed tasks and run again";
            step.outcome = Outcome::Blocked(reason.to_owned());
        }
    }
}
