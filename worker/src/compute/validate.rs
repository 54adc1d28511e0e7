//! `validate`: a checkpoint on the meta-valid datasets, whose classes no model learns from. Paused between two datasets,
//! of which a pipeline may have many thousands.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use anyhow::Context;
use bytes::Bytes;
use metad2a_database::Checkpoint;
use metad2a_model::{
    DatasetMetrics, GeneratorMetrics, GeneratorTally, GeneratorValidation, go_on_validating_generator,
    go_on_validating_predictor,
};
use metad2a_pipeline::ids::content_id;
use metad2a_pipeline::tasks::{Model, Summary, Validate};
use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::checkpoints::belongs;
use super::models::{load_generator, load_predictor};
use super::settings::episode_config;
use super::slice::Slice;
use super::training_data::TrainingData;
use crate::protocol::{Finished, Job, Outcome, Paused};

/// Raised when the form changes; another version's checkpoints are passed over.
const VERSION: u32 = 1;

/// A checkpoint: what the datasets so far have given.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State<T> {
    version: u32,
    task: String,
    measured: T,
}

/// Counts datasets and says when the slice is over.
struct Watch<'a, 'b> {
    slice: &'a mut Slice<'b>,
    done: usize,
    total: usize,
}

impl Watch<'_, '_> {
    fn dataset(&mut self, done: usize, total: usize) -> ControlFlow<()> {
        (self.done, self.total) = (done, total);
        self.slice.progress(done as u64, total as u64);
        if self.slice.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Engine {
    pub(super) fn validate(
        &mut self,
        job: &Job,
        task: &Validate,
        slice: &mut Slice<'_>,
    ) -> anyhow::Result<Outcome> {
        let data = self.training_data(&task.training_set, task.settings.label)?;
        let checkpoint = self.blob(&task.checkpoint)?;
        slice.progress(0, 0);
        let mut watch = Watch { slice, done: 0, total: 0 };
        let measured = match task.model {
            Model::Predictor => self.predictor_figures(job, task, &data, &checkpoint, &mut watch)?,
            Model::Generator => self.generator_figures(job, task, &data, &checkpoint, &mut watch)?,
        };
        let (score, metrics) = match measured {
            Measured::All(score, metrics) => (score, metrics),
            Measured::Part(paused) => return Ok(Outcome::Paused(paused)),
        };
        // JSON has no infinities; a model whose figures are none must lose against every other.
        let metrics = metrics.into_iter().filter(|(_, value)| value.is_finite()).collect();
        let score = if score.is_finite() { score } else { f64::MIN };
        let summary = Summary::Validation { score, metrics };
        Ok(Outcome::Finished(Finished { files: Vec::new(), units: Vec::new(), summary }))
    }

    fn predictor_figures(
        &self,
        job: &Job,
        task: &Validate,
        data: &TrainingData,
        checkpoint: &[u8],
        watch: &mut Watch<'_, '_>,
    ) -> anyhow::Result<Measured> {
        let predictor = load_predictor(&task.settings, checkpoint, self.device)?;
        let mut found: Vec<DatasetMetrics> = self.go_on(job)?;
        let config = episode_config(&task.settings);
        let is_complete = go_on_validating_predictor(
            &predictor,
            &data.valid,
            &config,
            &draws(task),
            &mut found,
            &mut |done, total| watch.dataset(done, total),
        )
        .context("cannot validate the predictor")?;
        if !is_complete {
            return self.pause(job, found, watch);
        }
        let (score, metrics) = predictor_metrics(&found);
        Ok(Measured::All(score, metrics))
    }

    fn generator_figures(
        &self,
        job: &Job,
        task: &Validate,
        data: &TrainingData,
        checkpoint: &[u8],
        watch: &mut Watch<'_, '_>,
    ) -> anyhow::Result<Measured> {
        let generator = load_generator(&task.settings, checkpoint, self.device)?;
        let known: HashSet<Cell> = data.train.rows.iter().map(|row| row.cell).collect();
        let settings = GeneratorValidation {
            top_fraction: task.settings.top_fraction,
            images_per_class: task.settings.images_per_class as usize,
            classes_per_dataset: task.settings.classes_per_dataset as usize,
            ..GeneratorValidation::default()
        };
        let mut tally: GeneratorTally = self.go_on(job)?;
        let mut each = |done, total| watch.dataset(done, total);
        let key = draws(task);
        let is_complete = go_on_validating_generator(
            &generator,
            &data.valid,
            &known,
            &settings,
            &key,
            &mut tally,
            &mut each,
        )
        .context("cannot validate the generator")?;
        if !is_complete {
            return self.pause(job, tally, watch);
        }
        let (score, metrics) = generator_metrics(tally.metrics());
        Ok(Measured::All(score, metrics))
    }

    /// What an earlier slice has measured, or nothing yet.
    fn go_on<T: Default + DeserializeOwned>(&self, job: &Job) -> anyhow::Result<T> {
        let load = |checkpoint: &Checkpoint| {
            let (state, _): (State<T>, Vec<Bytes>) = self.load(checkpoint)?;
            let State { version, task, measured } = state;
            belongs(version == VERSION, || format!("it has form {version}, this program knows {VERSION}"))?;
            belongs(task == checkpoint.id, || format!("it is of task `{task}`"))?;
            Ok(measured)
        };
        Ok(self.resumed(job, load)?.unwrap_or_default())
    }

    fn pause<T: Serialize>(&self, job: &Job, measured: T, watch: &Watch<'_, '_>) -> anyhow::Result<Measured> {
        let state = State { version: VERSION, task: job.id.clone(), measured };
        let files = self.save(job, &state, Vec::new())?;
        Ok(Measured::Part(Paused { files, done: watch.done as u64, total: watch.total as u64 }))
    }
}

/// Not keyed by the checkpoint: all checkpoints of a training are compared on the same draws.
fn draws(task: &Validate) -> Key {
    let basis = (task.model, &task.settings, &task.training_set, task.seed);
    Key::new(&content_id("validation", 1, &basis), "validation")
}

enum Measured {
    /// The score and all metrics.
    All(f64, BTreeMap<String, f64>),
    Part(Paused),
}

fn generator_metrics(found: GeneratorMetrics) -> (f64, BTreeMap<String, f64>) {
    let metrics = [
        ("nll_per_graph", found.nll_per_graph),
        ("validity", found.validity),
        ("uniqueness", found.uniqueness),
        ("novelty", found.novelty),
    ];
    let means = metrics.map(|(name, value)| (name.to_owned(), value));
    let by_dataset = found.nll_by_dataset.into_iter();
    let by_dataset = by_dataset.map(|(id, nll)| (format!("nll_per_graph.{id}"), nll));
    (-found.nll_per_graph, means.into_iter().chain(by_dataset).collect())
}

type Figure = fn(&DatasetMetrics) -> f64;

/// The score (mean rank correlation within a dataset, else minus the error) and all metrics, means first.
fn predictor_metrics(datasets: &[DatasetMetrics]) -> (f64, BTreeMap<String, f64>) {
    let figures: [(&str, Figure); 4] = [
        ("spearman", |dataset| dataset.spearman),
        ("kendall", |dataset| dataset.kendall),
        ("pearson", |dataset| dataset.pearson),
        ("rmse", |dataset| dataset.rmse),
    ];
    let mut metrics = BTreeMap::new();
    for (name, figure) in figures {
        if let Some(mean) = mean(datasets.iter().map(figure)) {
            metrics.insert(name.to_owned(), mean);
        }
        for dataset in datasets {
            metrics.insert(format!("{name}.{}", dataset.dataset), figure(dataset));
        }
    }
    // Undefined where all targets or all predictions are equal.
    let score = metrics.get("spearman").copied();
    let score = score.or_else(|| metrics.get("rmse").map(|rmse| -rmse)).unwrap_or(f64::NAN);
    (score, metrics)
}

/// Of the numbers among them.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let numbers: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(name: &str, spearman: f64, rmse: f64) -> DatasetMetrics {
        DatasetMetrics { dataset: name.into(), rows: 3, spearman, kendall: 0.1, pearson: 0.2, rmse }
    }

    #[test]
    fn the_score_is_the_mean_rank_correlation_where_there_is_one() {
        let (score, metrics) = predictor_metrics(&[dataset("a", 0.5, 0.1), dataset("b", f64::NAN, 0.3)]);
        assert!((score - 0.5).abs() < 1e-12);
        assert!((metrics["rmse"] - 0.2).abs() < 1e-12);
        assert!((metrics["rmse.b"] - 0.3).abs() < 1e-12);
    }

    #[test]
    fn without_any_rank_correlation_the_smaller_error_wins() {
        let (good, _) = predictor_metrics(&[dataset("a", f64::NAN, 0.1)]);
        let (bad, _) = predictor_metrics(&[dataset("a", f64::NAN, 0.3)]);
        assert!(good > bad);
    }
}
