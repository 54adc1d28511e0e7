//! Measuring models on datasets that they did not learn from, one dataset after another: a measurement may be broken off
//! between two of them, and goes on elsewhere to the same figures.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::ops::ControlFlow;

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

/// Told after every dataset how many are measured, of how many; says whether to go on with the next.
pub type DatasetObserver<'a> = dyn FnMut(usize, usize) -> ControlFlow<()> + 'a;

/// Figures in a checkpoint, as their bits: JSON has no NaN and no infinities.
mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(figure: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        figure.to_bits().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// How well accuracies on one dataset are predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetMetrics {
    /// The dataset's id.
    pub dataset: String,
    /// Its rows.
    pub rows: usize,
    /// Rank correlation; NaN where undefined, as are the next two.
    #[serde(with = "exact")]
    pub spearman: f64,
    /// Rank correlation τ-b.
    #[serde(with = "exact")]
    pub kendall: f64,
    /// Linear correlation.
    #[serde(with = "exact")]
    pub pearson: f64,
    /// Error, in units of accuracy (0 to 1).
    #[serde(with = "exact")]
    pub rmse: f64,
}

/// The agreement of predictions with targets on each dataset that has rows, in the order of the datasets.
pub fn validate_predictor(
    predictor: &Predictor,
    data: &TrainingSet,
    config: &EpisodeConfig,
    key: &Key,
) -> Result<Vec<DatasetMetrics>> {
    let mut found = Vec::new();
    go_on_validating_predictor(predictor, data, config, key, &mut found, &mut |_, _| {
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// The same from where an earlier part broke off, which `found` so much. Returns whether all datasets are measured.
pub fn go_on_validating_predictor(
    predictor: &Predictor,
    data: &TrainingSet,
    config: &EpisodeConfig,
    key: &Key,
    found: &mut Vec<DatasetMetrics>,
    observer: &mut DatasetObserver<'_>,
) -> Result<bool> {
    config.validate()?;
    let width = predictor.config().feature_width;
    data.validate(width)?;
    let size = SetSize { classes: config.classes_per_dataset, images_per_class: config.images_per_class };
    let device = predictor.parameters().device();
    let pool = Pool::new(data, 1.0)?;
    let total = pool.groups().len();
    for group in &pool.groups()[found.len().min(total)..] {
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
        if observer(found.len(), total).is_break() && found.len() < total {
            return Ok(false);
        }
    }
    Ok(true)
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

/// What was measured of a generator on the first datasets.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorTally {
    datasets: Vec<DatasetNll>,
    #[serde(with = "exact")]
    nll: f64,
    graphs: usize,
    drawn: usize,
    valid: usize,
    distinct: usize,
    novel: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DatasetNll {
    dataset: String,
    #[serde(with = "exact")]
    nll_per_graph: f64,
}

impl GeneratorTally {
    /// Datasets that are measured.
    pub fn datasets(&self) -> usize {
        self.datasets.len()
    }

    /// The figures of these datasets.
    pub fn metrics(self) -> GeneratorMetrics {
        let by_dataset = self.datasets.into_iter();
        GeneratorMetrics {
            nll_per_graph: self.nll / self.graphs as f64,
            nll_by_dataset: by_dataset.map(|of| (of.dataset, of.nll_per_graph)).collect(),
            validity: self.valid as f64 / self.drawn as f64,
            uniqueness: self.distinct as f64 / self.valid as f64,
            novelty: self.novel as f64 / self.distinct as f64,
        }
    }
}

/// Measures a generator on each dataset that has rows. `known` are the cells of its training rows.
pub fn validate_generator<S: BuildHasher>(
    generator: &Generator,
    data: &TrainingSet,
    known: &HashSet<Cell, S>,
    config: &GeneratorValidation,
    key: &Key,
) -> Result<GeneratorMetrics> {
    let mut tally = GeneratorTally::default();
    let mut to_the_end = |_, _| ControlFlow::Continue(());
    go_on_validating_generator(generator, data, known, config, key, &mut tally, &mut to_the_end)?;
    Ok(tally.metrics())
}

/// The same from where an earlier part broke off, which left this tally. Returns whether all datasets are measured.
pub fn go_on_validating_generator<S: BuildHasher>(
    generator: &Generator,
    data: &TrainingSet,
    known: &HashSet<Cell, S>,
    config: &GeneratorValidation,
    key: &Key,
    tally: &mut GeneratorTally,
    observer: &mut DatasetObserver<'_>,
) -> Result<bool> {
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
    let pool = Pool::new(data, share)?;
    let total = pool.groups().len();
    for group in &pool.groups()[tally.datasets().min(total)..] {
        let dataset: &DatasetFeatures = &data.datasets[group.dataset];
        let mut random = key.stream(group.dataset as u64);
        let sets = draw_sets(&[dataset; SETS], size, width, &mut random, device)?;
        let (codes, _) = generator.posterior(&sets)?;
        let cells: Vec<Cell> = group.rows.iter().map(|row| data.rows[*row].cell).collect();
        let batch = GraphBatch::of_cells(&cells, generator.config(), device)?;
        let code = codes.f_mean_dim([0_i64].as_slice(), true, None)?;
        let code = code.f_expand([batch.count(), code.size()[1]], false)?;
        let of_dataset = generator.reconstruction(&code, &batch)?.f_double_value(&[])?;
        tally
            .datasets
            .push(DatasetNll { dataset: dataset.id.clone(), nll_per_graph: of_dataset / cells.len() as f64 });
        tally.nll += of_dataset;
        tally.graphs += cells.len();
        let decoded =
            generator.decode(&repeated(&codes, config.graphs_per_dataset)?, Drawing::Random(&mut random))?;
        let cells: Vec<Cell> = decoded.cells()?.into_iter().filter_map(std::result::Result::ok).collect();
        tally.drawn += config.graphs_per_dataset;
        tally.valid += cells.len();
        let cells: HashSet<Cell> = cells.into_iter().collect();
        tally.distinct += cells.len();
        tally.novel += cells.iter().filter(|cell| !known.contains(cell)).count();
        if observer(tally.datasets(), total).is_break() && tally.datasets() < total {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `count` codes, in turn from these.
pub(crate) fn repeated(codes: &Tensor, count: usize) -> Result<Tensor> {
    let places: Vec<i64> = (0..codes.size()[0]).cycle().take(count).collect();
    Ok(codes.f_index_select(0, &Tensor::f_from_slice(&places)?.f_to_device(codes.device())?)?)
}
