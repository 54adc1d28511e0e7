//! `search`: a dataset's features, generator and predictor → ranked cells within the limits on their costs. Paused
//! between two rounds of drawing; strict limits may need many.

use std::ops::ControlFlow;

use anyhow::Context;
use metad2a_model::{Candidate, Draws, Proposing, SearchConfig};
use metad2a_pipeline::ids::content_id;
use metad2a_pipeline::tasks::{RankedCell, Search, Summary};
use metad2a_randomness::Key;
use metad2a_search_space::{Cell, MacroShape, flops, parameters};
use serde::{Deserialize, Serialize};

use super::Engine;
use super::checkpoints::belongs;
use super::error::BadInput;
use super::models::{load_generator, load_predictor};
use super::slice::Slice;
use super::training_data::dataset_features;
use crate::protocol::{Finished, Job, Outcome, Paused};

/// Raised when the form changes; another version's checkpoints are passed over.
const VERSION: u32 = 1;

/// A checkpoint: what was drawn so far.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    task: String,
    draws: Draws,
}

impl Engine {
    pub(super) fn search(
        &mut self,
        job: &Job,
        task: &Search,
        slice: &mut Slice<'_>,
    ) -> anyhow::Result<Outcome> {
        let features = self.features_of(task.features.iter())?;
        let features = dataset_features(&task.dataset, (&task.source, task.look), &task.classes, &features)?;
        let generator = load_generator(&task.generator_settings, &self.blob(&task.generator)?, self.device)?;
        let predictor = load_predictor(&task.predictor_settings, &self.blob(&task.predictor)?, self.device)?;
        let total = u64::from(task.candidates);
        slice.progress(0, total);
        let config = SearchConfig {
            candidates: task.candidates as usize,
            sets: task.sets as usize,
            images_per_class: task.predictor_settings.images_per_class as usize,
            classes_per_dataset: task.predictor_settings.classes_per_dataset as usize,
            ..SearchConfig::default()
        };
        let proposing = Proposing {
            generator: &generator,
            predictor: &predictor,
            dataset: &features,
            config: &config,
            // Not keyed by the models: two checkpoints are compared on the same draws.
            key: &Key::new(&content_id("search", 1, &(&task.dataset, task.seed)), "search"),
            accept: &|cell| fits(task, cell),
        };
        let resumed = self.resumed(job, |checkpoint| {
            let (State { version, task, draws }, _) = self.load(checkpoint)?;
            belongs(version == VERSION, || format!("it has form {version}, this program knows {VERSION}"))?;
            belongs(task == checkpoint.id, || format!("it is of task `{task}`"))?;
            Ok(draws)
        })?;
        let mut draws = resumed.unwrap_or_default();
        let done = |draws: &Draws| (draws.candidates() as u64).min(total);
        let mut each_round = |draws: &Draws| {
            slice.progress(done(draws), total);
            if slice.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        if !proposing.draw(&mut draws, &mut each_round).context("cannot draw cells")? {
            let done = done(&draws);
            let state = State { version: VERSION, task: job.id.clone(), draws };
            let files = self.save(job, &state, Vec::new())?;
            return Ok(Outcome::Paused(Paused { files, done, total }));
        }
        let proposal = proposing.rank(draws).context("cannot propose cells")?;
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
        Ok(Outcome::Finished(Finished { files: Vec::new(), units: Vec::new(), summary }))
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
