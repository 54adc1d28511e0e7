//! How a training step draws its batch.

use metad2a_randomness::Stream;
use serde::{Deserialize, Serialize};

use crate::adam::AdamConfig;
use crate::data::TrainingSet;
use crate::error::{Error, Result, require};

/// Which protocol a training follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The published one: rows drawn alone, fresh pictures for each, losses summed over the batch.
    Paper,
    /// Several rows of each drawn dataset, which is encoded once; losses averaged; targets standardised.
    Default,
}

/// The steps of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EpisodeConfig {
    /// The protocol.
    pub mode: Mode,
    /// Rows per step.
    pub batch_size: usize,
    /// Pictures drawn of each class. A class with fewer repeats them.
    pub images_per_class: usize,
    /// The most classes drawn of a dataset.
    pub classes_per_dataset: usize,
    /// Default mode: rows drawn of each dataset in a batch. Pairs to rank exist from two on. A batch has at most
    /// `batch_size / rows_per_dataset` datasets (rounded up), as encoding them is most of a step's work; so it has
    /// fewer rows where datasets have few.
    pub rows_per_dataset: usize,
    /// Adam's.
    pub learning_rate: f64,
    /// Generator: weight of the divergence from the prior.
    pub beta: f64,
    /// Generator: how much of the posterior's spread is drawn in training.
    pub noise: f64,
    /// Generator, default mode: the share of each dataset's best cells that it learns; at least one cell.
    pub top_fraction: f64,
    /// Predictor, default mode: weight of the squared error after each dataset's own mean is taken off.
    pub within_weight: f64,
    /// Predictor, default mode: weight of the pairwise ranking loss within a dataset.
    pub ranking_weight: f64,
    /// Predictor, default mode: how far apart a pair's predictions must be, in standard deviations of the targets, but
    /// never farther than the targets are.
    pub ranking_margin: f64,
}

impl Default for EpisodeConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Default,
            rows_per_dataset: 8,
            learning_rate: 1e-3,
            top_fraction: 0.2,
            within_weight: 0.5,
            ranking_weight: 0.5,
            ranking_margin: 0.5,
            ..Self::paper()
        }
    }
}

impl EpisodeConfig {
    /// The published protocol.
    pub fn paper() -> Self {
        Self {
            mode: Mode::Paper,
            batch_size: 32,
            images_per_class: 20,
            classes_per_dataset: 20,
            rows_per_dataset: 1,
            learning_rate: 1e-4,
            beta: 0.005,
            noise: 0.01,
            top_fraction: 1.0,
            within_weight: 0.0,
            ranking_weight: 0.0,
            ranking_margin: 0.0,
        }
    }

    /// The optimiser of this training.
    pub fn adam(&self) -> AdamConfig {
        AdamConfig { learning_rate: self.learning_rate, ..AdamConfig::default() }
    }

    /// Checks the counts and weights.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("batch_size", self.batch_size),
            ("images_per_class", self.images_per_class),
            ("classes_per_dataset", self.classes_per_dataset),
            ("rows_per_dataset", self.rows_per_dataset),
        ];
        for (what, count) in counts {
            require((1..=100_000).contains(&count), what, &count, "it must be 1 to 100000")?;
        }
        let weights = [
            ("beta", self.beta),
            ("noise", self.noise),
            ("within_weight", self.within_weight),
            ("ranking_weight", self.ranking_weight),
            ("ranking_margin", self.ranking_margin),
        ];
        for (what, weight) in weights {
            require(weight.is_finite() && weight >= 0.0, what, &weight, "it must be a number of at least 0")?;
        }
        let share = self.top_fraction;
        require(share > 0.0 && share <= 1.0, "top_fraction", &share, "it must be above 0 and at most 1")
    }
}

/// Some rows of one dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// The dataset's place.
    pub(crate) dataset: usize,
    /// The rows' places.
    pub(crate) rows: Vec<usize>,
}

/// From which rows batches are drawn.
pub(crate) struct Pool {
    /// One group per dataset with rows.
    datasets: Vec<Group>,
    /// All of their rows with their dataset.
    rows: Vec<(usize, usize)>,
}

impl Pool {
    /// The rows of `data`; with a `top_fraction` below 1 only the best of each dataset.
    pub(crate) fn new(data: &TrainingSet, top_fraction: f64) -> Result<Self> {
        let mut datasets = Vec::new();
        for (dataset, mut rows) in data.rows_by_dataset().into_iter().enumerate() {
            if rows.is_empty() {
                continue;
            }
            if top_fraction < 1.0 {
                let kept = (rows.len() as f64 * top_fraction).ceil().max(1.0) as usize;
                // Stable: equal targets stay in the order of the rows.
                rows.sort_by(|a, b| data.rows[*b].target.total_cmp(&data.rows[*a].target));
                rows.truncate(kept);
                rows.sort_unstable();
            }
            datasets.push(Group { dataset, rows });
        }
        if datasets.is_empty() {
            let rule = "no dataset has a row; evaluate cells before training".to_owned();
            return Err(Error::Data { dataset: "(all)".to_owned(), rule });
        }
        let rows = datasets.iter().flat_map(|group| group.rows.iter().map(|row| (group.dataset, *row)));
        let rows = rows.collect();
        Ok(Self { datasets, rows })
    }

    /// All rows, dataset by dataset.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.datasets
    }

    /// One step's rows. Paper: rows without replacement, each alone. Default: datasets in random order, some rows of
    /// each, until the batch is full or has its number of datasets.
    pub(crate) fn draw(&self, config: &EpisodeConfig, random: &mut Stream) -> Vec<Group> {
        match config.mode {
            Mode::Paper => {
                let drawn = random.sample(&self.rows, config.batch_size);
                drawn.into_iter().map(|(dataset, row)| Group { dataset, rows: vec![row] }).collect()
            }
            Mode::Default => {
                let mut groups = Vec::new();
                let mut left = config.batch_size;
                let most = config.batch_size.div_ceil(config.rows_per_dataset);
                for place in random.permutation(self.datasets.len()).into_iter().take(most) {
                    let Group { dataset, rows } = &self.datasets[place];
                    let rows = random.sample(rows, config.rows_per_dataset.min(left));
                    left -= rows.len();
                    groups.push(Group { dataset: *dataset, rows });
                }
                groups
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use metad2a_randomness::Key;
    use metad2a_search_space::Cell;
    use proptest::prelude::*;

    use super::*;
    use crate::data::{DatasetFeatures, Row};

    fn data(counts: &[usize]) -> TrainingSet {
        let datasets = counts
            .iter()
            .enumerate()
            .map(|(place, _)| DatasetFeatures { id: place.to_string(), classes: Vec::new() })
            .collect();
        let cell = Cell::all().next().expect("there are cells");
        let rows = counts.iter().enumerate().flat_map(|(dataset, count)| {
            (0..*count).map(move |row| Row { dataset, cell, target: (row * 7 % 11) as f64 })
        });
        TrainingSet { datasets, rows: rows.collect() }
    }

    proptest! {
        #[test]
        fn a_batch_holds_distinct_rows_of_the_named_datasets(
            counts in prop::collection::vec(0_usize..9, 1..6),
            paper: bool, batch_size in 1_usize..20, rows_per_dataset in 1_usize..5, step: u64,
        ) {
            prop_assume!(counts.iter().any(|count| *count > 0));
            let data = data(&counts);
            let mode = if paper { Mode::Paper } else { Mode::Default };
            let config = EpisodeConfig { mode, batch_size, rows_per_dataset, ..EpisodeConfig::default() };
            let pool = Pool::new(&data, 1.0).expect("there are rows");
            let groups = pool.draw(&config, &mut Key::new("k", "p").stream(step));
            let mut seen = std::collections::HashSet::new();
            for group in &groups {
                prop_assert!(!group.rows.is_empty());
                let most = if paper { 1 } else { rows_per_dataset };
                prop_assert!(group.rows.len() <= most);
                for row in &group.rows {
                    prop_assert_eq!(data.rows[*row].dataset, group.dataset);
                    prop_assert!(seen.insert(*row));
                }
            }
            prop_assert!(seen.len() <= batch_size);
            prop_assert!(paper || groups.len() <= batch_size.div_ceil(rows_per_dataset));
            if paper {
                prop_assert_eq!(seen.len(), batch_size.min(data.rows.len()));
            }
        }

        #[test]
        fn only_the_best_share_of_each_dataset_is_learnt(
            counts in prop::collection::vec(1_usize..30, 1..4), share in 0.01_f64..1.0,
        ) {
            let data = data(&counts);
            let pool = Pool::new(&data, share).expect("there are rows");
            for (group, count) in pool.groups().iter().zip(&counts) {
                prop_assert_eq!(group.rows.len(), (*count as f64 * share).ceil() as usize);
                let worst = group.rows.iter().map(|row| data.rows[*row].target).fold(f64::MAX, f64::min);
                for (place, row) in data.rows.iter().enumerate() {
                    if row.dataset == group.dataset && !group.rows.contains(&place) {
                        prop_assert!(row.target <= worst);
                    }
                }
            }
        }
    }
}
