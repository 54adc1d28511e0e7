//! A small made-up world: features of a few classes, and accuracies that follow from a cell and its dataset.

use std::sync::Arc;

use metad2a_model::{DatasetFeatures, EpisodeConfig, ModelConfig, Row, TrainingSet};
use metad2a_randomness::Key;
use metad2a_search_space::{Cell, Operation};

pub(crate) const WIDTH: i64 = 12;

/// Datasets of 2, 3, … classes; classes have 4 pictures around their own centre.
pub(crate) fn datasets(count: usize) -> Vec<DatasetFeatures> {
    let mut random = Key::new("fixture", "pictures").stream(0);
    let mut class = || {
        let centre: Vec<f64> = (0..WIDTH).map(|_| random.normal()).collect();
        let picture = |random: &mut metad2a_randomness::Stream| {
            centre.iter().map(|number| (number + 0.3 * random.normal()) as f32).collect()
        };
        Arc::new((0..4).map(|_| picture(&mut random)).collect::<Vec<Vec<f32>>>())
    };
    (0..count)
        .map(|place| DatasetFeatures {
            id: format!("d{place}"),
            classes: (0..2 + place % 3).map(|_| class()).collect(),
        })
        .collect()
}

/// Large convolutions help, missing edges hurt, more classes are harder.
pub(crate) fn accuracy(cell: Cell, classes: usize) -> f64 {
    let live = cell.live_edges();
    let worth = |(operation, live): (Operation, bool)| match operation {
        _ if !live => 0.0,
        Operation::NorConv3x3 => 0.08,
        Operation::NorConv1x1 => 0.05,
        _ => 0.01,
    };
    let cell: f64 = cell.operations().into_iter().zip(live).map(worth).sum();
    0.9 - 0.1 * classes as f64 + cell
}

/// `rows` random cells on each of `count` datasets.
pub(crate) fn world(count: usize, rows: usize) -> TrainingSet {
    let datasets = datasets(count);
    let cells: Vec<Cell> = Cell::all().collect();
    let mut random = Key::new("fixture", "rows").stream(0);
    let mut found = Vec::new();
    for (dataset, features) in datasets.iter().enumerate() {
        for _ in 0..rows {
            let cell = cells[random.below(cells.len())];
            found.push(Row { dataset, cell, target: accuracy(cell, features.classes.len()) });
        }
    }
    TrainingSet { datasets, rows: found }
}

pub(crate) fn small(mut config: ModelConfig) -> ModelConfig {
    config.hidden = 24;
    config.latent = 16;
    config
}

/// Small batches of few pictures.
pub(crate) fn episodes(mut config: EpisodeConfig) -> EpisodeConfig {
    config.batch_size = 16;
    config.images_per_class = 3;
    config.classes_per_dataset = 4;
    config.rows_per_dataset = config.rows_per_dataset.min(4);
    config.learning_rate = 5e-3;
    config
}
