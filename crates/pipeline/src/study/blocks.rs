//! What the second wave of evaluations asks for: cells for each block of datasets that share theirs.

use std::collections::{BTreeMap, BTreeSet};

use metad2a_search_space::Cell;
use serde::Serialize;

use super::{Bundle, Study, StudyDataset, units_of};
use crate::ids::content_id;
use crate::tasks::Unit;
use crate::training_set::Group;

/// Cells that are wanted for the datasets of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedBlock {
    pub(crate) key: String,
    /// Id of the record that freezes the choice.
    pub(crate) id: String,
    pub(crate) count: usize,
    /// Trained there anyway.
    pub(crate) taken: BTreeSet<Cell>,
}

impl StudyDataset {
    /// Keys the draw of its further cells.
    pub(crate) fn block(&self) -> &str {
        &self.block
    }
}

impl Study {
    /// Datasets on which cells are trained for models to learn from, or to be chosen by.
    pub(crate) fn learnt(&self) -> impl Iterator<Item = &StudyDataset> {
        self.datasets.iter().filter(|dataset| matches!(dataset.group, Group::MetaTrain | Group::MetaValid))
    }

    /// Units that train `cells` with the seeds of the evaluations.
    pub(crate) fn evaluated_units(&self, cells: &[Cell]) -> Vec<Unit> {
        units_of(cells, &self.specification.evaluations.seeds)
    }

    /// Units on `dataset` with the evaluations' recipe, as one bundle.
    pub fn evaluation<'a>(&'a self, dataset: &'a StudyDataset, units: &'a [Unit]) -> Bundle<'a> {
        let recipe = self.specification.recipe(&self.specification.evaluations.recipe);
        Bundle { dataset, units, recipe, recipe_id: &self.evaluation_recipe }
    }

    /// Trainings of the second wave, if every block finds all its cells.
    pub(crate) fn second_wave_units(&self) -> u64 {
        let choice = &self.specification.evaluations;
        self.learnt().count() as u64 * u64::from(choice.cells_around_best()) * choice.seeds.len() as u64
    }

    /// What is asked for around the best cells, block by block in the order of the datasets.
    pub(crate) fn wanted_blocks(&self) -> Vec<WantedBlock> {
        /// Everything that makes another choice of the same block.
        #[derive(Serialize)]
        struct Basis<'a> {
            seed: u64,
            block: &'a str,
            recipe: &'a str,
            seeds: &'a [u64],
            count: u32,
            top: f64,
            taken: &'a BTreeSet<Cell>,
        }
        let choice = &self.specification.evaluations;
        let Some(around) = choice.around_best else { return Vec::new() };
        let mut taken: BTreeMap<&str, BTreeSet<Cell>> = BTreeMap::new();
        for bundle in self.bundles() {
            let cells = taken.entry(&bundle.dataset.block).or_default();
            cells.extend(bundle.units.iter().map(|unit| unit.cell));
        }
        let mut seen = BTreeSet::new();
        let mut blocks = Vec::new();
        for key in self.learnt().map(|dataset| dataset.block.as_str()).filter(|key| seen.insert(*key)) {
            let taken = taken.remove(key).unwrap_or_default();
            let basis = Basis {
                seed: self.specification.seed,
                block: key,
                recipe: &self.evaluation_recipe,
                seeds: &choice.seeds,
                count: choice.cells_around_best(),
                top: around.top,
                taken: &taken,
            };
            let id = content_id("cells-around-best", 1, &basis);
            blocks.push(WantedBlock {
                key: key.to_owned(),
                id,
                count: choice.cells_around_best() as usize,
                taken,
            });
        }
        blocks
    }
}
