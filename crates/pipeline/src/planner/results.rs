//! What a finished pipeline has to show, as references into the store.

use metad2a_search_space::Cell;

use super::ModelSelected;
use crate::study::StudyDataset;
use crate::tasks::RankedCell;

/// The models and searches of a finished pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// Id of the frozen training set.
    pub training_set: String,
    pub generator: ModelSelected,
    pub predictor: ModelSelected,
    pub searches: Vec<SearchResult>,
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
