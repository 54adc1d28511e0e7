//! `search`: a dataset's features, generator and predictor → ranked cells within the limits on their costs.

use anyhow::Context;
use metad2a_model::{Candidate, SearchConfig, propose_where};
use metad2a_pipeline::ids::content_id;
use metad2a_pipeline::tasks::{RankedCell, Search, Summary};
use metad2a_randomness::Key;
use metad2a_search_space::{Cell, MacroShape, flops, parameters};

use super::Engine;
use super::error::BadInput;
use super::models::{load_generator, load_predictor};
use super::slice::Slice;
use super::training_data::dataset_features;
use crate::protocol::Finished;

impl Engine {
    pub(super) fn search(&mut self, task: &Search, slice: &mut Slice<'_>) -> anyhow::Result<Finished> {
        let features = self.features_of(task.features.iter())?;
        let features = dataset_features(&task.dataset, &task.source, &task.classes, &features)?;
        let generator = load_generator(&task.generator_settings, &self.blob(&task.generator)?, self.device)?;
        let predictor = load_predictor(&task.predictor_settings, &self.blob(&task.predictor)?, self.device)?;
        slice.progress(0, task.candidates.into());
        let config = SearchConfig {
            candidates: task.candidates as usize,
            sets: task.sets as usize,
            images_per_class: task.predictor_settings.images_per_class as usize,
            classes_per_dataset: task.predictor_settings.classes_per_dataset as usize,
            ..SearchConfig::default()
        };
        // Not keyed by the models: two checkpoints are compared on the same draws.
        let key = Key::new(&content_id("search", 1, &(&task.dataset, task.seed)), "search");
        let accept = |cell: Cell| fits(task, cell);
        let proposal = propose_where(&generator, &predictor, &features, &config, &key, &accept)
            .context("cannot propose cells")?;
        let is_number =
            |candidate: &Candidate| candidate.predicted.is_finite() && candidate.predicted_sd.is_finite();
        if !proposal.candidates.iter().all(is_number) {
            return Err(BadInput::Diverged { what: "a predicted accuracy" }.into());
        }
        let ranked = proposal
            .candidates
            .iter()
            .map(|candidate| RankedCell {
                cell: candidate.cell,
                predicted_accuracy: candidate.predicted,
                predicted_sd: candidate.predicted_sd,
            })
            .collect();
        let summary = Summary::Search {
            drawn: proposal.drawn as u64,
            valid: proposal.valid as u64,
            distinct: proposal.distinct as u64,
            ranked,
        };
        Ok(Finished { files: Vec::new(), units: Vec::new(), summary })
    }
}

/// Whether the cell's own costs, at the shape in which it will be trained, keep to the limits.
fn fits(task: &Search, cell: Cell) -> bool {
    let shape = MacroShape {
        channels: task.channels.into(),
        cells_per_stage: task.cells_per_stage.into(),
        image_size: task.image_size.into(),
        classes: task.classes.len() as u64,
    };
    let within = |limit: Option<u64>, cost: fn(Cell, MacroShape) -> u64| {
        limit.is_none_or(|limit| cost(cell, shape) <= limit)
    };
    within(task.constraints.max_parameters, parameters) && within(task.constraints.max_flops, flops)
}
