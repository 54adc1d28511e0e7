//! Measuring models on datasets that they did not learn from.

use std::collections::HashSet;
use std::hash::BuildHasher;

use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::batches::{SetSize, draw_sets};
use crate::data::{DatasetFeatures, TrainingSet};
use crate::episode::{EpisodeConfig, Pool};
use crate::error::{Result, require};
use crate::generator::{Drawing, Generator};
use crate::graphs::GraphBatch;
use crate::metrics::{kendall, mean, pearson, rmse, spearman};
use crate::predictor::Predictor;

/// Picture sets over which a prediction is averaged, so that the measure is the model's and not the draw's.
const SETS: usize = 4;

/// How well accuracies on one dataset are predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetMetrics {
    /// The dataset's id.
    pub dataset: String,
    /// Its rows.
    pub rows: usize,
    /// Rank correlation; NaN where undefined, as are the next two.
    pub spearman: f64,
    /// Rank correlation τ-b.
    pub kendall: f64,
    /// Linear correlation.
    pub pearson: f64,
    /// Error, in units of accuracy (0 to 1).
    pub rmse: f64,
}

/// The agreement of predictions with targets on each dataset that has rows, in the order of the datasets.
pub fn validate_predictor(
    predictor: &Predictor,
    data: &TrainingSet,
    config: &EpisodeConfig,
    key: &Key,
) -> Result<Vec<DatasetMetrics>> {
    config.validate()?;
    let width = predictor.config().feature_width;
    data.validate(width)?;
    let size = SetSize { classes: config.classes_per_dataset, images_per_class: config.images_per_class };
    let device = predictor.parameters().device();
    let mut found = Vec::new();
    for group in Pool::new(data, 1.0)?.groups() {
        let dataset = &data.datasets[group.dataset];
        let mut random = key.stream(group.dataset as u64);
        let sets = draw_sets(&[dataset; SETS], size, width, &mut random, device)?;
        let cells: Vec<Cell> = group.rows.iter().map(|row| data.rows[*row].cell).collect();
        let measured: Vec<f64> = group.rows.iter().map(|row| data.rows[*row].target).collect();
        let by_set = predictor.predict(&sets, &cells)?;
        let predicted: Vec<f64> = (0..cells.len())
            .map(|cell| mean(&by_set.iter().map(|set| set[cell]).collect::<Vec<_>>()))
            .collect();
        found.push(DatasetMetrics {
            dataset: dataset.id.clone(),
            rows: cells.len(),
            spearman: spearman(&predicted, &measured),
            kendall: kendall(&predicted, &measured),
            pearson: pearson(&predicted, &measured),
            rmse: rmse(&predicted, &measured),
        });
    }
    Ok(found)
}

/// How a generator is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorValidation {
    /// Graphs drawn for each dataset.
    pub graphs_per_dataset: usize,
    /// Pictures drawn of each class.
    pub images_per_class: usize,
    /// The most classes drawn of a dataset.
    pub classes_per_dataset: usize,
    /// The share of each dataset's best cells whose probability is measured.
    pub top_fraction: f64,
}

impl Default for GeneratorValidation {
    fn default() -> Self {
        let training = EpisodeConfig::default();
        Self {
            graphs_per_dataset: 100,
            images_per_class: training.images_per_class,
            classes_per_dataset: training.classes_per_dataset,
            top_fraction: training.top_fraction,
        }
    }
}

/// What a generator is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GeneratorMetrics {
    /// Mean of minus the log-probability (nats) of the best cells' graphs. With fixed edges, uniform drawing has
    /// 6 · ln 5 ≈ 9.66; a generator that also draws edges pays for them too, so never compare the two kinds.
    pub nll_per_graph: f64,
    /// The same for each dataset, by its id, in the order of the datasets.
    pub nll_by_dataset: Vec<(String, f64)>,
    /// Valid graphs / drawn graphs.
    pub validity: f64,
    /// Distinct cells / valid graphs, counted within each dataset; NaN without valid graphs, as is the next.
    pub uniqueness: f64,
    /// Distinct cells that are not known / distinct cells, counted within each dataset.
    pub novelty: f64,
}

/// Measures a generator on each dataset that has rows. `known` are the cells of its training rows.
pub fn validate_generator<S: BuildHasher>(
    generator: &Generator,
    data: &TrainingSet,
    known: &HashSet<Cell, S>,
    config: &GeneratorValidation,
    key: &Key,
) -> Result<GeneratorMetrics> {
    let counts = [
        ("graphs_per_dataset", config.graphs_per_dataset),
        ("images_per_class", config.images_per_class),
        ("classes_per_dataset", config.classes_per_dataset),
    ];
    for (what, count) in counts {
        require((1..=100_000).contains(&count), what, &count, "it must be 1 to 100000")?;
    }
    let share = config.top_fraction;
    require(share > 0.0 && share <= 1.0, "top_fraction", &share, "it must be above 0 and at most 1")?;
    let width = generator.config().feature_width;
    data.validate(width)?;
    let _guard = tch::no_grad_guard();
    let size = SetSize { classes: config.classes_per_dataset, images_per_class: config.images_per_class };
    let device = generator.parameters().device();
    let (mut nll, mut graphs, mut drawn) = (0.0, 0, 0);
    let mut nll_by_dataset = Vec::new();
    let (mut valid, mut distinct, mut novel) = (0, 0, 0);
    for group in Pool::new(data, share)?.groups() {
        let dataset: &DatasetFeatures = &data.datasets[group.dataset];
        let mut random = key.stream(group.dataset as u64);
        let sets = draw_sets(&[dataset; SETS], size, width, &mut random, device)?;
        let (codes, _) = generator.posterior(&sets)?;
        let cells: Vec<Cell> = group.rows.iter().map(|row| data.rows[*row].cell).collect();
        let batch = GraphBatch::of_cells(&cells, generator.config(), device)?;
        let code = codes.f_mean_dim([0_i64].as_slice(), true, None)?;
        let code = code.f_expand([batch.count(), code.size()[1]], false)?;
        let of_dataset = generator.reconstruction(&code, &batch)?.f_double_value(&[])?;
        nll_by_dataset.push((dataset.id.clone(), of_dataset / cells.len() as f64));
        nll += of_dataset;
        graphs += cells.len();
        let decoded =
            generator.decode(&repeated(&codes, config.graphs_per_dataset)?, Drawing::Random(&mut random))?;
        let cells: Vec<Cell> = decoded.cells()?.into_iter().filter_map(std::result::Result::ok).collect();
        drawn += config.graphs_per_dataset;
        valid += cells.len();
        let cells: HashSet<Cell> = cells.into_iter().collect();
        distinct += cells.len();
        novel += cells.iter().filter(|cell| !known.contains(cell)).count();
    }
    Ok(GeneratorMetrics {
        nll_per_graph: nll / graphs as f64,
        nll_by_dataset,
        validity: valid as f64 / drawn as f64,
        uniqueness: distinct as f64 / valid as f64,
        novelty: novel as f64 / distinct as f64,
    })
}

/// `count` codes, in turn from these.
pub(crate) fn repeated(codes: &Tensor, count: usize) -> Result<Tensor> {
    let places: Vec<i64> = (0..codes.size()[0]).cycle().take(count).collect();
    Ok(codes.f_index_select(0, &Tensor::f_from_slice(&places)?.f_to_device(codes.device())?)?)
}
