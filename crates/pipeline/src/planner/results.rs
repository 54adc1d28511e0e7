//! What a finished pipeline has to show, as references into the store.

use metad2a_search_space::Cell;

use super::Chosen;
use crate::study::StudyDataset;
use crate::tasks::{Model, RankedCell, Unit};

/// The models and searches of a finished pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// Id of the frozen training set.
    pub training_set: String,
    pub generator: Chosen,
    pub predictor: Chosen,
    /// Trainings of the second wave of evaluations: cells around the best ones.
    pub around_best: Vec<(StudyDataset, Vec<Unit>)>,
    pub searches: Vec<SearchResult>,
}

impl Results {
    pub fn model(&self, model: Model) -> &Chosen {
        match model {
            Model::Generator => &self.generator,
            Model::Predictor => &self.predictor,
        }
    }
}

/// One search with its measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    pub dataset: StudyDataset,
    /// Id of the `search` task.
    pub task: String,
    /// Best first.
    pub chosen: Vec<RankedCell>,
    /// Trained beside them, with the same recipe and seeds.
    pub random: Vec<Cell>,
    /// Ids of the `evaluate` tasks that hold the measured rows.
    pub evaluations: Vec<String>,
}

impl SearchResult {
    pub fn is_chosen(&self, cell: Cell) -> bool {
        self.chosen.iter().any(|ranked| ranked.cell == cell)
    }
}
