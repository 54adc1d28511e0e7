//! `validate`: a checkpoint on the meta-valid datasets, whose classes no model learns from.

use std::collections::{BTreeMap, HashSet};

use anyhow::Context;
use metad2a_model::{DatasetMetrics, GeneratorValidation, validate_generator, validate_predictor};
use metad2a_pipeline::ids::content_id;
use metad2a_pipeline::tasks::{Model, Summary, Validate};
use metad2a_randomness::Key;
use metad2a_search_space::Cell;

use super::Engine;
use super::models::{load_generator, load_predictor};
use super::settings::episode_config;
use crate::protocol::Finished;

impl Engine {
    pub(super) fn validate(&mut self, task: &Validate) -> anyhow::Result<Finished> {
        let data = self.training_data(&task.training_set, task.settings.label)?;
        let checkpoint = self.blob(&task.checkpoint)?;
        // Not keyed by the checkpoint: all checkpoints of a training are compared on the same draws.
        let basis = (task.model, &task.settings, &task.training_set, task.seed);
        let key = Key::new(&content_id("validation", 1, &basis), "validation");
        let (score, metrics) = match task.model {
            Model::Predictor => {
                let predictor = load_predictor(&task.settings, &checkpoint, self.device)?;
                let datasets =
                    validate_predictor(&predictor, &data.valid, &episode_config(&task.settings), &key)
                        .context("cannot validate the predictor")?;
                predictor_metrics(&datasets)
            }
            Model::Generator => {
                let generator = load_generator(&task.settings, &checkpoint, self.device)?;
                let known: HashSet<Cell> = data.train.rows.iter().map(|row| row.cell).collect();
                let settings = GeneratorValidation {
                    top_fraction: task.settings.top_fraction,
                    images_per_class: task.settings.images_per_class as usize,
                    classes_per_dataset: task.settings.classes_per_dataset as usize,
                    ..GeneratorValidation::default()
                };
                let found = validate_generator(&generator, &data.valid, &known, &settings, &key)
                    .context("cannot validate the generator")?;
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
        };
        // JSON has no infinities; a model whose figures are none must lose against every other.
        let metrics = metrics.into_iter().filter(|(_, value)| value.is_finite()).collect();
        let score = if score.is_finite() { score } else { f64::MIN };
        Ok(Finished { files: Vec::new(), units: Vec::new(), summary: Summary::Validation { score, metrics } })
    }
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
